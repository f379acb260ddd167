"""CSV files as record batches of text columns, in bounded memory: delimiter, header, compression and encoding are seen to here, values are not.

A row of data is known by its number, from 0; `where` finds the line of the file where it ends, which differs where cells have line breaks or lines are empty.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

import pyarrow as pa
import zstandard
from pyarrow import csv as arrow_csv

from historian.ingest.files.faults import FaultyRow
from historian.schema.errors import BadInput

DELIMITERS = (",", ";", "\t", "|")
_BLOCK_BYTES = 1 << 20
_SAMPLE_BYTES = 256 << 10
_SAMPLE_ROWS = 50
#: of one cell; beyond it is no CSV, but a quote that is never closed
_MAX_CELL = 1 << 20


class CsvSource:
    """One CSV file. `names` are those of the header, without blanks around them."""

    def __init__(self, path: Path, *, delimiter: str | None, encoding: str | None) -> None:
        """Reads the head of the file. Raises BadInput."""
        self.path = path
        self.compression = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix.lower())
        with self._bytes() as stream:
            head = _some(stream, _SAMPLE_BYTES)
        if not head:
            raise BadInput("the file is empty")
        if encoding is None:
            encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        # by one name, however it is called: it is a part of the file's identity
        self.encoding = encoding = _canonical(encoding)
        try:
            text = io.TextIOWrapper(io.BytesIO(head), encoding, errors="strict", newline="").read()
        except UnicodeDecodeError as error:
            if error.start < len(head) - 4:
                raise _undecodable(encoding) from None
            # the sample ends within a character
            text = head.decode(encoding, errors="ignore")
        if "\x00" in text:
            raise BadInput("the file is no text: it has NUL characters")
        # as Excel writes it, and reads it
        self._preamble = 1 if text[:4].lower() == "sep=" else 0
        if self._preamble and delimiter is None:
            delimiter = text[4:5]
        lines = list(io.StringIO(text, newline=""))[self._preamble :]
        self.delimiter = delimiter if delimiter is not None else _delimiter(lines, cut_off=len(head) == _SAMPLE_BYTES)
        header = csv.reader(lines, delimiter=self.delimiter)
        names = next((row for row in header if row), None)
        if names is None:
            raise BadInput("the file has no header")
        self.names: Sequence[str] = [name.strip() for name in names]
        self._header_lines = header.line_num + self._preamble
        self.fraction = 0.0

    def batches(self, columns: Sequence[int] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows, or these columns of them, in order, as text; null where a cell is empty. Raises BadInput, FaultyRow."""
        names = [str(n) for n in range(len(self.names))]
        wanted = names if columns is None else [names[n] for n in columns]
        size = max(self.path.stat().st_size, 1)
        with pa.OSFile(str(self.path)) as raw:
            stream = raw if self.compression is None else pa.CompressedInputStream(raw, self.compression)
            try:
                reader = arrow_csv.open_csv(
                    stream,
                    read_options=arrow_csv.ReadOptions(
                        use_threads=False,
                        block_size=_BLOCK_BYTES,
                        column_names=names,
                        skip_rows=self._header_lines,
                        encoding="utf8" if self.encoding == "utf-8-sig" else self.encoding,
                    ),
                    parse_options=arrow_csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
                    convert_options=arrow_csv.ConvertOptions(
                        column_types=dict.fromkeys(names, pa.string()),
                        include_columns=wanted,
                        null_values=[""],
                        strings_can_be_null=True,
                    ),
                )
                last = None
                for batch in reader:
                    self.fraction = raw.tell() / size
                    if len(batch):
                        last = batch.column(-1)[-1].as_py()
                    yield batch
            except pa.ArrowInvalid as error:
                # the second: a header without an end of line
                if "Empty CSV" in str(error) or "Could not skip" in str(error):
                    return
                raise self._explained(error) from None
            except UnicodeDecodeError:
                raise _undecodable(self.encoding) from None
            except OSError as error:
                raise BadInput(f"cannot be read: {error}") from None
        if last is not None and "\n" in last:
            self._check_quotes()

    def _check_quotes(self) -> None:
        """A file may not end within quotes. Arrow does not mind, and makes the lines that follow a part of the cell. Raises BadInput."""
        end, closed = "the end", True
        # a cell beyond all measure is told by who looks at the cells
        with suppress(csv.Error), self._bytes() as stream, io.TextIOWrapper(stream, self.encoding, newline="") as text, _long_cells():
            reader = csv.reader(itertools.chain(text, ["\n", end]), delimiter=self.delimiter)
            begins = following = 1
            for cells in reader:
                begins, following, closed = following, reader.line_num + 1, cells == [end]
        if not closed:
            raise BadInput(f"the row that begins in line {begins} has a quote that is never closed, and takes in all that follows")

    def where(self, row: int) -> str:
        """Where a row stands, in words."""
        try:
            for n, (line, _) in enumerate(self._rows()):
                if n == row:
                    return f"line {line}"
        except (csv.Error, UnicodeDecodeError, OSError, zstandard.ZstdError):
            pass
        return f"row {row + 1}"

    def _explained(self, error: pa.ArrowInvalid) -> Exception:
        """Which row it was, where it has too many or too few cells."""
        try:
            for n, (_, cells) in enumerate(self._rows()):
                if len(cells) != len(self.names):
                    return FaultyRow(n, f"has {len(cells)} cells, the header has {len(self.names)}")
        except UnicodeDecodeError:
            return _undecodable(self.encoding)
        except (csv.Error, OSError, zstandard.ZstdError) as other:
            return BadInput(f"is no CSV: {other}")
        if "UTF8" in str(error):
            return _undecodable(self.encoding)
        return BadInput(f"is no CSV that can be read: {str(error).splitlines()[0][:200]}")

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """The rows of data, each with the line on which it ends."""
        with self._bytes() as stream, io.TextIOWrapper(stream, self.encoding, newline="") as text, _long_cells():
            for _ in range(self._header_lines):
                text.readline()
            reader = csv.reader(text, delimiter=self.delimiter)
            for cells in reader:
                if cells:
                    yield reader.line_num + self._header_lines, cells

    def _bytes(self) -> IO[bytes]:
        try:
            if self.compression == "gzip":
                return cast("IO[bytes]", gzip.open(self.path))
            if self.compression == "zstd":
                return cast("IO[bytes]", zstandard.open(self.path, "rb"))
            return self.path.open("rb")
        except OSError as error:
            raise BadInput(f"cannot be read: {error.strerror or error}") from None


@contextmanager
def _long_cells() -> Iterator[None]:
    before = csv.field_size_limit(_MAX_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _some(stream: IO[bytes], size: int) -> bytes:
    try:
        parts = []
        while size > 0 and (part := stream.read(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise BadInput(f"cannot be read: {error}") from None


def _canonical(encoding: str) -> str:
    try:
        name = codecs.lookup(encoding).name
        # such as base64, which is no encoding of text
        "".encode(name)
    except LookupError:
        raise BadInput(f"there is no encoding {encoding!r}; there are utf-8, cp1252, latin-1, utf-16 and others") from None
    return "utf-8-sig" if name == "utf-8" else name


def _undecodable(encoding: str) -> BadInput:
    return BadInput(
        f"the text is not in {encoding.removesuffix('-sig').upper()}; say --encoding, as cp1252 for what older Windows programs write"
    )


def _delimiter(lines: list[str], *, cut_off: bool) -> str:
    """That which gives the first rows as many cells as the header; among those, the one with the most columns. Raises BadInput."""
    best: tuple[float, int, str] | None = None
    for delimiter in DELIMITERS:
        try:
            rows = [row for row in itertools.islice(csv.reader(lines, delimiter=delimiter), _SAMPLE_ROWS) if row]
        except csv.Error:
            continue
        if cut_off and 2 < len(rows) < _SAMPLE_ROWS:
            rows.pop()
        if not rows or len(rows[0]) < 2:
            continue
        alike = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
        best = max(best or (0.0, 0, ""), (alike, len(rows[0]), delimiter))
    if best is None:
        raise BadInput("the first line names no columns with , ; tab or | between them; say --delimiter")
    return best[2]
