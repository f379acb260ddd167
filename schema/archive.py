"""The files of the archive: Parquet (zstd) in a directory or in any file system that pyarrow has a URI for, and `manifest.json`, which says what they are.

    ARCHIVE/manifest.json
    ARCHIVE/year=2026/month=01/20260105_20260106_default_number_4f1c….parquet

Rows are sorted by (tag_id, ts), in row groups of ROW_GROUP rows, so that their statistics tell where a tag is. Every page has a checksum, and the footer's stands in the
database (and in the manifest): a damaged file is told apart from one with fewer rows. The catalogue rows of a file's tags are in its metadata.

All functions block: call them in a thread.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from historian.schema.errors import ArchiveFault, BadInput
from historian.schema.samples import TAGS_KEY, Int32s, Int64s
from historian.schema.stored import SCHEMAS, ContentHash, Form, Stored

if TYPE_CHECKING:
    # brings pandas with it, a quarter of the time in which a server starts: loaded where there is an archive
    import pyarrow.dataset as ds

MANIFEST = "manifest.json"
FORMAT = 1
#: small, so that little is read for a single tag; some 200 kB each
ROW_GROUP = 65_536

_READ = 1 << 20
#: opened files whose metadata are kept
_KEPT = 512

_ENCODINGS: dict[Form, dict[str, str]] = {
    "number": {"ts": "DELTA_BINARY_PACKED", "mantissa": "DELTA_BINARY_PACKED", "value": "BYTE_STREAM_SPLIT"},
    "text": {"ts": "DELTA_BINARY_PACKED"},
}


@dataclass(frozen=True, slots=True)
class Part:
    """A file of the archive, as the database knows it. Times in µs; `restored` are tags that are not read from it any more."""

    part_id: int
    file: str
    form: Form
    first_ts: int
    last_ts: int
    rows: int
    bytes: int
    footer: str
    restored: frozenset[int] = frozenset()

    @classmethod
    def of(cls, fields: Sequence[Any]) -> Part:
        """From a row of the database or a list of JSON, in this order."""
        part_id, file, form, first_ts, last_ts, rows, size, footer, restored = fields
        return cls(part_id, file, form, first_ts, last_ts, rows, size, footer, frozenset(restored))


@dataclass(frozen=True, slots=True)
class Written:
    """What is known of a file once it is written."""

    rows: int
    bytes: int
    sha256: str
    content: str
    footer: str


@contextmanager
def _telling(file: str) -> Iterator[None]:
    """Have whatever goes wrong with a file name it."""
    try:
        yield
    except FileNotFoundError as error:
        raise ArchiveFault(f"archive file {file} is missing; see: historian archive verify") from error
    except (OSError, pa.ArrowException, ValueError) as error:
        raise ArchiveFault(
            f"archive file {file} cannot be read: {str(error).partition(chr(10))[0]}; see: historian archive verify"
        ) from error


class Store:
    """The archive at a place: a directory, or a URI (`s3://bucket/plant`, `gs://…`, `file:///…`). Raises BadInput for what is neither."""

    def __init__(self, uri: str) -> None:
        self.uri = uri if "://" in uri else str(Path(uri).expanduser().absolute())
        try:
            if "://" in uri:
                self._fs, self._root = pafs.FileSystem.from_uri(uri)
            else:
                self._fs, self._root = pafs.LocalFileSystem(), self.uri
        except (pa.ArrowException, OSError, ValueError) as error:
            raise BadInput(
                f"{uri!r} is no place for an archive: {str(error).partition(chr(10))[0]}; give a directory, or a URI as s3://bucket/plant"
            ) from None
        self._local = isinstance(self._fs, pafs.LocalFileSystem)
        import pyarrow.dataset as ds

        options = ds.ParquetFragmentScanOptions(page_checksum_verification=True, pre_buffer=False)
        self._format = ds.ParquetFileFormat(default_fragment_scan_options=options)
        self._opened: OrderedDict[str, Opened] = OrderedDict()
        self._lock = threading.Lock()

    def path(self, file: str) -> str:
        return f"{self._root.rstrip('/')}/{file}"

    def writer(self, file: str, form: Form, tags: Sequence[Mapping[str, Any]], archive_id: str) -> Writer:
        """Begin a file. Raises ArchiveFault."""
        with _telling(file):
            self._fs.create_dir(self.path(file).rpartition("/")[0], recursive=True)
            return Writer(self, file, form, tags, archive_id)

    def digest(self, file: str) -> tuple[int, str]:
        """Size and SHA-256 of a file, read as a whole. Raises ArchiveFault."""
        digest = hashlib.sha256()
        size = 0
        with _telling(file), self._fs.open_input_stream(self.path(file), buffer_size=_READ) as stream:
            while piece := stream.read(_READ):
                size += len(piece)
                digest.update(piece)
        return size, digest.hexdigest()

    def footer(self, file: str) -> tuple[int, str]:
        """Size of a file, and SHA-256 of its footer. Raises ArchiveFault."""
        with _telling(file), self._fs.open_input_file(self.path(file)) as source:
            size = source.size()
            tail = source.read_at(8, max(0, size - 8))
            length = int.from_bytes(tail[:4], "little")
            if tail[4:] != b"PAR1" or length > size - 12:
                raise ValueError("it does not end as a Parquet file does")
            return size, hashlib.sha256(source.read_at(length, size - 8 - length)).hexdigest()

    def open(self, part: Part) -> Opened:
        """A part, its footer compared with what was written. Kept open for the next time. Raises ArchiveFault."""
        with self._lock:
            found = self._opened.get(part.file)
            if found is not None:
                self._opened.move_to_end(part.file)
                return found
        size, footer = self.footer(part.file)
        if (size, footer) != (part.bytes, part.footer):
            raise ArchiveFault(f"archive file {part.file} is damaged: it is not what was written; see: historian archive verify")
        with _telling(part.file):
            fragment = self._format.make_fragment(self.path(part.file), filesystem=self._fs)
            made = Opened(part.file, part.form, fragment)
        with self._lock:
            self._opened[part.file] = made
            while len(self._opened) > _KEPT:
                self._opened.popitem(last=False)
        return made

    def contents(self, file: str, form: Form) -> Iterator[Stored]:
        """All rows of a file, a row group at a time, whatever the database says of it. Raises ArchiveFault."""
        with _telling(file), self._fs.open_input_file(self.path(file)) as source:
            parquet = pq.ParquetFile(source, page_checksum_verification=True)
            if not parquet.schema_arrow.equals(SCHEMAS[form]):
                raise ValueError("it has other columns than the archive's")
            for n in range(parquet.num_row_groups):
                yield Stored.from_table(parquet.read_row_group(n, use_threads=False))

    def exists(self, file: str) -> bool:
        with _telling(file):
            return bool(self._fs.get_file_info(self.path(file)).type == pafs.FileType.File)

    def delete(self, file: str) -> None:
        """Delete a file; one that is not there is no fault."""
        with self._lock:
            self._opened.pop(file, None)
        with _telling(file):
            if self.exists(file):
                self._fs.delete_file(self.path(file))

    def manifest(self) -> dict[str, Any] | None:
        """What the manifest says, or None if there is none. Raises ArchiveFault."""
        if not self.exists(MANIFEST):
            return None
        with _telling(MANIFEST), self._fs.open_input_stream(self.path(MANIFEST)) as stream:
            found = json.loads(stream.read())
            if not isinstance(found, dict) or "archive_id" not in found:
                raise ValueError("it is no manifest of a historian's archive")
            return found

    def write_manifest(self, document: Mapping[str, Any]) -> None:
        """Replace the manifest, as a whole. Raises ArchiveFault."""
        data = json.dumps(document, ensure_ascii=False, indent=1).encode()
        # where there is no renaming, as in object stores, an object appears when it is complete
        name = f"{MANIFEST}.new" if self._local else MANIFEST
        with _telling(MANIFEST):
            self._fs.create_dir(self._root, recursive=True)
            with self._fs.open_output_stream(self.path(name)) as stream:
                stream.write(data)
            if self._local:
                self.sync(name)
                Path(self.path(name)).replace(self.path(MANIFEST))
                self.sync(MANIFEST)

    def sync(self, file: str) -> None:
        """Have a file, and its name, on disk. Object stores have it when they say that they do."""
        if not self._local:
            return
        for path in (self.path(file), self.path(file).rpartition("/")[0]):
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def stream(self, file: str) -> Any:
        return self._fs.open_output_stream(self.path(file), buffer_size=_READ)


class Writer:
    """Writes one file; rows come sorted by (tag_id, ts). It counts once `finish` has returned: then it is on disk, was read back and compared."""

    def __init__(self, store: Store, file: str, form: Form, tags: Sequence[Mapping[str, Any]], archive_id: str) -> None:
        self._store, self._file, self._form = store, file, form
        self._content = ContentHash()
        self._stream = store.stream(file)
        metadata = {
            TAGS_KEY: json.dumps(list(tags), ensure_ascii=False, separators=(",", ":")).encode(),
            b"historian.archive": archive_id.encode(),
        }
        schema = SCHEMAS[form].with_metadata(metadata)
        encodings = _ENCODINGS[form]
        self._parquet = pq.ParquetWriter(
            self._stream,
            schema,
            compression="zstd",
            use_dictionary=[name for name in schema.names if name not in encodings],
            column_encoding=encodings,
            write_page_checksum=True,
            sorting_columns=[pq.SortingColumn(0), pq.SortingColumn(1)],
        )
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if not self._stream.closed:
            self._stream.close()

    def write(self, stored: Stored) -> None:
        """Raises ArchiveFault."""
        self._content.add(stored)
        self._waiting.append(stored.to_batch())
        self._waiting_rows += len(stored)
        if self._waiting_rows >= ROW_GROUP:
            self._flush(whole=False)

    def _flush(self, *, whole: bool) -> None:
        table = pa.Table.from_batches(self._waiting, SCHEMAS[self._form])
        rows = len(table) if whole else len(table) // ROW_GROUP * ROW_GROUP
        with _telling(self._file):
            self._parquet.write_table(table.slice(0, rows).replace_schema_metadata(self._parquet.schema.metadata), row_group_size=ROW_GROUP)
        rest = table.slice(rows)
        self._waiting, self._waiting_rows = rest.to_batches(), len(rest)

    def finish(self) -> Written:
        """Complete the file, have it on disk, read it back and compare every row. Raises ArchiveFault."""
        if self._waiting_rows:
            self._flush(whole=True)
        with _telling(self._file):
            self._parquet.close()
            self._stream.close()
            self._store.sync(self._file)
        size, sha256 = self._store.digest(self._file)
        _, footer = self._store.footer(self._file)
        back = ContentHash()
        for stored in self._store.contents(self._file, self._form):
            back.add(stored)
        if (back.rows, back.hexdigest()) != (self._content.rows, self._content.hexdigest()):
            raise ArchiveFault(f"archive file {self._file} does not give back what was written; nothing was removed from the database")
        return Written(back.rows, size, sha256, back.hexdigest(), footer)


class Opened:
    """A file whose row groups are known: int64 arrays of their tags (first and last), times (least and greatest, µs), and the rows before each."""

    def __init__(self, file: str, form: Form, fragment: ds.ParquetFileFragment) -> None:
        self.file, self.form = file, form
        self._fragment = fragment
        fragment.ensure_complete_metadata()
        metadata = fragment.metadata
        groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
        statistics = [(group.column(0).statistics, group.column(1).statistics) for group in groups]
        self.tag_low: Int64s = np.array([tags.min for tags, _ in statistics], np.int64)
        self.tag_high: Int64s = np.array([tags.max for tags, _ in statistics], np.int64)
        self.ts_low: Int64s = np.array([_us(times.min) for _, times in statistics], np.int64)
        self.ts_high: Int64s = np.array([_us(times.max) for _, times in statistics], np.int64)
        self.before: Int64s = np.concatenate(([0], np.cumsum([group.num_rows for group in groups]))).astype(np.int64)

    def read(self, groups: Sequence[int], tag_ids: Int32s, start: int, end: int) -> Stored:
        """Rows of these tags in [start, end) (µs) in these row groups, in order. Raises ArchiveFault."""
        if not len(groups):
            return Stored.empty(self.form)
        tag, ts = pc.field("tag_id"), pc.field("ts")
        # epochs beyond what a timestamp can be, as a live query has them, are cut
        low, high = (pa.scalar(min(max(t, -(2**62)), 2**62), pa.timestamp("us", tz="UTC")) for t in (start, end))
        wanted = (ts >= low) & (ts < high)
        wanted &= tag == int(tag_ids[0]) if len(tag_ids) == 1 else tag.isin(pa.array(tag_ids))
        with _telling(self.file):
            fragment = self._fragment.subset(row_group_ids=list(groups))
            return Stored.from_table(fragment.to_table(schema=SCHEMAS[self.form], filter=wanted, use_threads=False))


def _us(moment: Any) -> int:
    return int(np.datetime64(moment.replace(tzinfo=None), "us").astype(np.int64))
