"""A file that has been looked through from end to end, and is good: what is in it, and its samples in numbered chunks.

Promise. Chunk n of the same content with the same options is the same on every run, so (producer, seq) names it for good: chunks are cut by rows of the file,
never by how it happens to be read. Memory is bounded by a few blocks of the file, and by the names of its tags.

Values. The type of a tag is the same over the whole file: numbers, true and false, or text. An empty cell, `nan` and `null` are no value: in a wide file there is
then no sample, in a long file there is a bad one. A column that mixes numbers and words is refused rather than guessed at.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from historian.ingest.files.cells import BOOL, COMMA, INFINITE, INTEGER, NOTHING, POINT, TEXT, Cells, Forms
from historian.ingest.files.columnar import ArrowSource, ParquetSource
from historian.ingest.files.csv import CsvSource
from historian.ingest.files.cutting import cut, falls_back
from historian.ingest.files.faults import FaultyRow
from historian.ingest.files.layout import Columns, column_path, columns_of, rendered_prefix
from historian.ingest.files.options import FileOptions
from historian.ingest.files.tally import TYPES, Tally, Type
from historian.ingest.files.times import Times, is_time_type, times_of
from historian.schema.errors import BadInput
from historian.schema.paths import path_fault
from historian.schema.samples import MAX_QUALITY, TIMESTAMP, UNCERTAIN, Int64s

#: goes into the identity: another way to cut chunks makes other producers
_VERSION = 2
CHUNK_SAMPLES = 500_000
MAX_TEXT_BYTES = 64 << 10

_ARROW = {"number": pa.float64(), "bool": pa.bool_(), "text": pa.string()}
_QUALITY_WORDS = {"good": 192, "uncertain": 64, "bad": 0}

Progress = Callable[[float], None]


class Source(Protocol):
    """A file as rows and columns."""

    path: Path
    names: Sequence[str]
    #: how much of the file the iterator has read, 0 to 1
    fraction: float

    def batches(self, columns: Sequence[int] | None = None) -> Iterator[pa.RecordBatch]: ...

    def where(self, row: int) -> str: ...


@dataclass(frozen=True, slots=True)
class Chunk:
    """Samples of one type, as POST /v1/write takes them: `tag` (dictionary of utf8), `ts` (µs, UTC), `value`, and `quality` where the file has one."""

    seq: int
    samples: pa.RecordBatch


class Plan:
    """One file, checked. `tags` are paths; `counts[seq]` is the number of samples of a chunk, which may be 0: then there is none."""

    def __init__(self, source: Source, options: FileOptions, progress: Progress | None = None) -> None:
        """Looks through the whole file. Raises BadInput with the file, and the line where there is one."""
        self.path = source.path
        self.tags: list[str] = []
        self.counts: list[int] = []
        self.notes: list[str] = []
        #: the first and the last time, µs; None without rows
        self.span: tuple[int, int] | None = None
        #: whether a chunk may replace what an earlier one wrote: then they have to be committed in their order
        self.in_order = False
        self._source = source
        self._options = options
        self._state = _state(source.path)
        self._codes: dict[str, int] = {}
        self._types: list[Type] = []
        with self._located():
            self._digest = _digest(source.path)
            self.prefix = rendered_prefix(options.prefix, source.path)
            _check_names(source.names)
            self.columns: Columns = columns_of(source.names, next(iter(source.batches()), None), options.layout, options.time_column)
            if self.columns.ignored:
                self.notes.append(f"left out: column {', '.join(self.columns.ignored)}")
            self._is_long = self.columns.tag is not None
            self._chunk_rows = CHUNK_SAMPLES if self._is_long else max(1, CHUNK_SAMPLES // max(1, len(self.columns.values)))
            time = (part.column(0) for part in source.batches([self.columns.time]))
            self._times: Times = times_of(time, options.time_format, options.tz)
            self._cells = Cells(options.nulls)
            self._look_through(progress)
        self.samples = sum(self.counts)
        self.producer = self._identity()

    @property
    def layout(self) -> str:
        return self.columns.layout

    @property
    def types(self) -> list[Type]:
        """Of the tags, in their order."""
        return list(self._types)

    def recognised(self) -> dict[str, str]:
        """How the file was understood, in words, for those who look before they import."""
        form, zone = self._times.form.name, self._times.zone
        local = f", {zone.name if zone else 'UTC'} where there is no offset" if self._local else ""
        found = {"times": f"column {self._source.names[self.columns.time]!r}, {form}{local}"}
        if isinstance(self._source, CsvSource):
            delimiter = "tab" if self._source.delimiter == "\t" else repr(self._source.delimiter)
            encoding = self._source.encoding.removesuffix("-sig").upper()
            found["cells"] = f"{delimiter} between them, decimal mark {self._cells.decimal!r}, {encoding}"
        return found

    def chunks(self, done: Callable[[int], bool] = lambda seq: False) -> Generator[Chunk, None, None]:
        """The chunks that are not done, in their order. Raises BadInput if the file has changed since it was looked through."""
        parts = self._parts()
        with self._located():
            for number, (first_row, batch) in enumerate(self._rows()):
                seqs = {part: number * len(parts) + n for n, part in enumerate(parts)}
                wanted = [part for part in parts if self.counts[seqs[part]] and not done(seqs[part])]
                if not wanted:
                    continue
                if _state(self.path) != self._state:
                    raise BadInput("has changed while it was imported; import it again")
                for part in wanted:
                    yield Chunk(seqs[part], self._long(batch, first_row, part) if self._is_long else self._wide(batch, first_row, part))

    # ── the first pass

    def _look_through(self, progress: Progress | None) -> None:
        tally = Tally()
        counted: list[tuple[int, ...]] = []
        local = False
        newest = np.full(64, np.iinfo(np.int64).min)
        if not self._is_long:
            for position in self.columns.values:
                self._tag(self._source.names[position])
        for first_row, batch in self._rows():
            if progress is not None:
                progress(self._source.fraction)
            us, is_local = self._times.parse(batch.column(self.columns.time), first_row)
            local |= is_local
            first, last = int(us.min()), int(us.max())
            self.span = (first, last) if self.span is None else (min(first, self.span[0]), max(last, self.span[1]))
            counts = np.zeros(256, np.int64)
            if self._is_long:
                codes = self._tag_codes(batch.column(self.columns.tag), first_row)
                if len(self.tags) > len(newest):
                    newest = np.concatenate([newest, np.full(len(self.tags), np.iinfo(np.int64).min)])
                self.in_order |= falls_back(newest, codes, us)
                self._tally_long(batch, first_row, codes, tally, counts)
            else:
                self.in_order |= bool(first <= newest[0])
                newest[0] = self.span[1]
                for tag, position in enumerate(self.columns.values):
                    column = batch.column(position)
                    forms = self._forms(column, first_row, self._source.names[position] in self._options.texts)
                    tally.add(tag, forms, column, first_row)
                    counts += np.bincount(forms, minlength=256)
                    counts[NOTHING] = 0
            numbers = int(counts[INTEGER] + counts[POINT] + counts[COMMA])
            counted.append((numbers, int(counts[BOOL]), int(counts[TEXT]), int(counts[NOTHING])))
        self._cells.decimal = self._options.decimal or self._decimal(tally)
        # whichever way it is written, with blanks around it or without
        names = {code: name.strip() for name, code in self._codes.items()}
        self._types = tally.types(
            [names[code] for code in range(len(self.tags))], "tag" if self._is_long else "column", self._cells.decimal, self._options.texts
        )
        self._local = local
        parts = self._parts()
        spread = tally.any(TEXT, BOOL) or any(nothing for *_, nothing in counted)
        if len(parts) == 1:
            self.counts = [sum(chunk) for chunk in counted]
        elif not spread:
            self.counts = [chunk[TYPES.index(part)] for chunk in counted for part in parts]
        else:
            # whose they are has come out only at the end
            self.counts = [count for first_row, batch in self._rows() for count in self._recounted(batch, first_row, parts)]
        if not counted:
            self.notes.append("has no rows")

    def _tally_long(self, batch: pa.RecordBatch, first_row: int, codes: Int64s, tally: Tally, counts: Int64s) -> None:
        column = batch.column(self.columns.values[0])
        forms = self._forms(column, first_row, False)
        for name in self._options.texts:
            forms[(codes == self._codes.get(name, -1)) & (forms != NOTHING)] = TEXT
        quality = self._qualities(batch, first_row)
        if quality is not None:
            pretended = (forms == NOTHING) & (quality >= UNCERTAIN)
            if pretended.any():
                row = int(np.argmax(pretended))
                raise FaultyRow(
                    first_row + row, f"has no value, and quality {int(quality[row])}: a sample without a value is bad (below {UNCERTAIN})"
                )
        order = np.argsort(codes, kind="stable")
        starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
        for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=True):
            rows = order[start:end]
            tally.add(int(codes[rows[0]]), forms[rows], column, first_row, rows)
        counts += np.bincount(forms, minlength=256)

    def _recounted(self, batch: pa.RecordBatch, first_row: int, parts: Sequence[Type]) -> list[int]:
        if self._is_long:
            types = np.array([TYPES.index(kind) for kind in self._types], np.int8)[
                self._tag_codes(batch.column(self.columns.tag), first_row)
            ]
            return [int((types == TYPES.index(part)).sum()) for part in parts]
        found = dict.fromkeys(parts, 0)
        for tag, position in enumerate(self.columns.values):
            forms = self._forms(batch.column(position), first_row, self._types[tag] == "text")
            found[self._types[tag]] += int((forms != NOTHING).sum())
        return list(found.values())

    def _forms(self, column: pa.Array, first_row: int, is_text: bool) -> Forms:
        kind = column.type
        if is_time_type(kind):
            raise BadInput("a column other than that of the times has timestamps; leave it out, or say --time-column")
        if pa.types.is_string(kind):
            forms = self._cells.forms(column)
            _check_texts(column, forms, first_row)
        elif pa.types.is_boolean(kind):
            forms = np.full(len(column), BOOL, np.uint8)
        else:
            number = np.asarray(column.cast(pa.float64(), safe=False).fill_null(float("nan")).to_numpy(zero_copy_only=False))
            # there is no decimal mark to be wrong about
            forms = np.full(len(column), INTEGER, np.uint8)
            forms[np.isnan(number)] = NOTHING
            forms[np.isinf(number)] = INFINITE
        if column.null_count:
            forms[~np.asarray(column.is_valid().to_numpy(zero_copy_only=False))] = NOTHING
        if is_text:
            forms[forms != NOTHING] = TEXT
        return forms

    def _tag(self, name: str) -> int:
        self._codes[name] = len(self.tags)
        self.tags.append(column_path(self.prefix, name))
        return len(self.tags) - 1

    def _tag_codes(self, column: pa.Array, first_row: int) -> Int64s:
        """Positions in `tags`; new ones are added."""
        if not pa.types.is_string(column.type):
            column = column.cast(pa.string())
        if column.null_count:
            raise FaultyRow(first_row + int(np.argmin(column.is_valid().to_numpy(zero_copy_only=False))), "has no tag")
        encoded = column.dictionary_encode()
        names = encoded.dictionary.to_pylist()
        indices = np.asarray(encoded.indices.to_numpy(zero_copy_only=False))
        table = np.empty(len(names), np.int64)
        for n, name in enumerate(names):
            code = self._codes.get(name)
            if code is None:
                path = f"{self.prefix}/{name.strip()}" if self.prefix else name.strip()
                if fault := path_fault(path):
                    raise FaultyRow(first_row + int(np.argmax(indices == n)), fault)
                # with blanks around it it is the same tag
                code = self._codes.get(name.strip())
                if code is None:
                    code = self._codes[name.strip()] = len(self.tags)
                    self.tags.append(path)
                self._codes[name] = code
            table[n] = code
        return table[indices] if len(names) else np.empty(0, np.int64)

    def _decimal(self, tally: Tally) -> str:
        """The decimal mark of the file; where cells are parted by commas, one in a number could mean anything."""
        if not isinstance(self._source, CsvSource) or self._source.delimiter == ",":
            return "."
        mark = tally.decimal()
        if mark is None:
            (row, comma), (other, point) = tally.first(COMMA), tally.first(POINT)
            raise FaultyRow(
                row, f"{comma!r} has a comma, and {point!r} ({self._source.where(other)}) a point: say --decimal ',' or --decimal '.'"
            )
        return mark

    # ── the samples

    def _rows(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        return cut(self._source.batches(), self._chunk_rows)

    def _parts(self) -> list[Type]:
        return [kind for kind in TYPES if kind in self._types] or ["number"]

    def _values(self, column: pa.Array, part: Type) -> pa.Array:
        """Values of the type; null for none."""
        if not pa.types.is_string(column.type):
            if part != "number":
                return column.cast(_ARROW[part])
            number = column.cast(pa.float64(), safe=False)
            return pc.if_else(pc.is_nan(number), pa.scalar(None, pa.float64()), number)
        if part == "number":
            return self._cells.numbers(column)
        return self._cells.bools(column) if part == "bool" else self._cells.texts(column)

    def _wide(self, batch: pa.RecordBatch, first_row: int, part: Type) -> pa.RecordBatch:
        us, _ = self._times.parse(batch.column(self.columns.time), first_row)
        tags = [tag for tag, kind in enumerate(self._types) if kind == part]
        codes, stamps, values = [], [], []
        for n, tag in enumerate(tags):
            value = self._values(batch.column(self.columns.values[tag]), part)
            stamp = us
            if value.null_count:
                stamp = us[np.asarray(value.is_valid().to_numpy(zero_copy_only=False))]
                value = value.drop_null()
            codes.append(np.full(len(value), n, np.int32))
            stamps.append(stamp)
            values.append(value)
        return _record_batch(
            np.concatenate(codes), [self.tags[tag] for tag in tags], np.concatenate(stamps), pa.concat_arrays(values), None
        )

    def _long(self, batch: pa.RecordBatch, first_row: int, part: Type) -> pa.RecordBatch:
        codes = self._tag_codes(batch.column(self.columns.tag), first_row)
        us, _ = self._times.parse(batch.column(self.columns.time), first_row)
        quality = self._qualities(batch, first_row)
        value = batch.column(self.columns.values[0])
        if len(self._parts()) > 1:
            rows = np.flatnonzero(np.array([kind == part for kind in self._types])[codes])
            codes, us, value = codes[rows], us[rows], value.take(pa.array(rows))
            quality = None if quality is None else quality[rows]
        used, inverse = np.unique(codes, return_inverse=True)
        return _record_batch(inverse.astype(np.int32), [self.tags[tag] for tag in used.tolist()], us, self._values(value, part), quality)

    def _qualities(self, batch: pa.RecordBatch, first_row: int) -> Int64s | None:
        """-1 where there is none; None if the file has no such column."""
        if self.columns.quality is None:
            return None
        column = batch.column(self.columns.quality)
        if pa.types.is_string(column.type):
            texts = pc.utf8_lower(pc.utf8_trim_whitespace(column))
            for word, code in _QUALITY_WORDS.items():
                texts = pc.if_else(pc.equal(texts, word), str(code), texts)
            number = pc.if_else(pc.match_substring_regex(texts, r"^\d{1,9}(\.0*)?$"), texts, pc.if_else(pc.equal(texts, ""), None, "-2"))
            column = pc.cast(pc.replace_substring_regex(number, r"\..*$", ""), pa.int64())
        found = np.asarray(column.cast(pa.float64(), safe=False).fill_null(-1).to_numpy(zero_copy_only=False))
        given = np.asarray(column.is_valid().to_numpy(zero_copy_only=False))
        wrong = given & ~((found >= 0) & (found <= MAX_QUALITY) & (np.trunc(found) == found))
        if wrong.any():
            row = int(np.argmax(wrong))
            shown = str(batch.column(self.columns.quality)[row].as_py())[:40]
            raise FaultyRow(first_row + row, f"quality {shown!r} is none: it is 0 to {MAX_QUALITY}, or good, uncertain, bad")
        return found.astype(np.int64)

    # ── identity and faults

    def _identity(self) -> str:
        """What is imported and what it becomes: not how the file is called, nor which of the options were recognised and which given."""
        options = self._options
        csv = self._source if isinstance(self._source, CsvSource) else None
        meaning = {
            "version": _VERSION,
            "content": self._digest,
            "prefix": self.prefix,
            "layout": self.layout,
            "time": [self.columns.time, self._times.form.name],
            "tz": self._times.zone.name if self._local and self._times.zone is not None and self._times.zone.name != "UTC" else None,
            "csv": [csv.delimiter, csv.encoding, self._cells.decimal] if csv is not None else None,
            "nulls": sorted({word.strip().lower() for word in options.nulls}),
            "texts": sorted(set(options.texts)),
        }
        return "import:" + hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()

    @contextmanager
    def _located(self) -> Iterator[None]:
        """Faults get the file, and the line."""
        try:
            yield
        except FaultyRow as fault:
            raise BadInput(f"{self.path}, {self._source.where(fault.row)}: {fault.detail}") from None
        except BadInput as error:
            raise BadInput(f"{self.path}: {error}") from None
        except OSError as error:
            raise BadInput(f"{self.path}: cannot be read: {error.strerror or error}") from None


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_names(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name and name in seen:
            raise BadInput(f"column {name!r} is there twice")
        seen.add(name)


def _check_texts(column: pa.StringArray, forms: Forms, first_row: int) -> None:
    """Before anything is sent: what the server would refuse in the middle of it."""
    if not (forms == TEXT).any():
        return
    long = np.asarray(pc.greater(pc.binary_length(column), MAX_TEXT_BYTES).fill_null(False).to_numpy(zero_copy_only=False))
    if long.any():
        raise FaultyRow(first_row + int(np.argmax(long)), f"has a text of more than {MAX_TEXT_BYTES} bytes")
    nul = np.asarray(pc.match_substring(column, "\x00").fill_null(False).to_numpy(zero_copy_only=False))
    if nul.any():
        raise FaultyRow(first_row + int(np.argmax(nul)), "has a text with a NUL character")


def _record_batch(codes: np.ndarray, paths: list[str], us: Int64s, value: pa.Array, quality: Int64s | None) -> pa.RecordBatch:
    columns = {
        "tag": pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(paths, pa.string())),
        "ts": pa.array(us).cast(TIMESTAMP),
        "value": value,
    }
    if quality is not None:
        columns["quality"] = pa.array(quality.astype(np.int16), mask=quality < 0)
    return pa.RecordBatch.from_pydict(columns)


def open_source(path: Path, options: FileOptions) -> Source:
    """The file by what it is, not by its name: Parquet and Arrow files begin with a mark, all else is CSV. Raises BadInput."""
    try:
        with path.open("rb") as file:
            mark = file.read(8)
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror or error}") from None
    if mark[:4] == b"PAR1":
        return ParquetSource(path)
    if mark[:6] == b"ARROW1" or mark[:4] == b"\xff\xff\xff\xff":
        return ArrowSource(path)
    return CsvSource(path, delimiter=options.delimiter, encoding=options.encoding)


def examine(path: Path, options: FileOptions, progress: Progress | None = None) -> Plan:
    """Look through a file from end to end. Raises BadInput, which names the file, the line where there is one, and what can be done."""
    try:
        source = open_source(path, options)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    return Plan(source, options, progress)
