"""A directory of Parquet files that takes a durable stream, each version of a sample once.

Promise. Files appear whole: written under another name, on disk, then renamed; each ends at a position of the stream, which stands in it. The newest file tells where to
go on, and only what is in a file is to be acknowledged. So whatever is killed when, between renaming and acknowledging too, no sample is missing in the files and none is
there twice.

Columns: `row` int64, which grows over all files, in the order of the commits: of several rows with the same tag and ts the one with the highest `row` is what the
database has; `tag` utf8, `ts` timestamp[us, UTC], `value` float64, `quality` int16, `text` utf8.

The caller adds batches, says what position they reach, publishes from time to time, and acknowledges `published`. Memory is bounded: two row groups, and what comes
between two positions up to that; more goes into a file of its own at once.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from historian.schema.errors import BadInput, Conflict
from historian.schema.samples import TIMESTAMP

SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("tag", pa.string(), nullable=False),
        pa.field("ts", TIMESTAMP, nullable=False),
        pa.field("value", pa.float64()),
        pa.field("quality", pa.int16(), nullable=False),
        pa.field("text", pa.string()),
    ]
)
#: rows of a row group
GROUP_ROWS = 131_072


class ParquetSink:
    """The files `NAME-000000000000.parquet`, …1, of one durable cursor. One process at a time has them.

    `position`: where the newest file ends, None where there is none. Raises Conflict if another process has them, BadInput for a newest file that is none of this cursor.
    """

    def __init__(self, directory: Path, name: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._name = name
        self._lock = _locked(directory / f".{name}.lock")
        self._partial = directory / f".{name}.partial"
        # of a process that was killed
        self._partial.unlink(missing_ok=True)
        try:
            self._number, known = self._newest()
        except BaseException:
            os.close(self._lock)
            raise
        self.position: str | None = known.get("historian.position")
        self.published: str | None = self.position
        self._next_row = int(known.get("historian.next_row", 0))
        self._first_row = self._next_row
        self._file: IO[bytes] | None = None
        self._writer: Any = None
        #: what a position has made whole and is not in a file, and what none has yet
        self._whole: list[pa.RecordBatch] = []
        self._coming: list[pa.RecordBatch] = []
        #: whether the file under way has rows that no position has made whole
        self._spilled = False
        self._notes: dict[str, str] = {}

    @property
    def rows(self) -> int:
        """That wait for a file."""
        return self._next_row - self._first_row + _count(self._whole)

    def add(self, batch: pa.RecordBatch) -> None:
        """Take samples, in the client's columns."""
        self._coming.append(batch)
        if _count(self._coming) >= GROUP_ROWS:
            if not self._spilled:
                # what is whole must not be lost with what may come again
                self.publish()
                self._spilled = True
            self._write(self._coming)

    def note(self, key: str, value: str) -> None:
        """Have this in the metadata of the next file, as `historian.KEY`."""
        self._notes[f"historian.{key}"] = value

    def reached(self, position: str) -> None:
        """All that was added is whole up to here."""
        self.position = position
        self._whole += self._coming
        self._coming = []
        if self._spilled:
            self._spilled = False
            self.publish()
        elif _count(self._whole) >= GROUP_ROWS:
            self._write(self._whole)

    def drop(self) -> None:
        """Forget what came behind the last position: it comes again."""
        self._coming = []
        if self._spilled:
            self._spilled = False
            self._abandon()

    def publish(self) -> None:
        """Make a file of what is whole, if there is anything; of a position that was reached without a row, one without rows: where to go on must stand in a file."""
        if self._spilled or self.position is None or self.position == self.published:
            return
        self._write(self._whole)
        self._open()
        assert self._file is not None
        told = {
            "historian.cursor": self._name,
            "historian.position": self.position,
            "historian.first_row": str(self._first_row),
            "historian.next_row": str(self._next_row),
        }
        if self.published is not None:
            told["historian.after"] = self.published
        self._writer.add_key_value_metadata(told | self._notes)
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.rename(self._directory / f"{self._name}-{self._number:012d}.parquet")
        _sync_directory(self._directory)
        self._file = self._writer = None
        self._number += 1
        self._first_row = self._next_row
        self._notes = {}
        self.published = self.position

    def close(self) -> None:
        """Let go of the directory; what is in no file comes again."""
        self._coming, self._whole = [], []
        self._abandon()
        os.close(self._lock)

    def _newest(self) -> tuple[int, Mapping[str, str]]:
        """The number of the next file, and what the newest one says."""
        pattern = re.compile(rf"{re.escape(self._name)}-(\d{{12}})\.parquet", re.ASCII)
        numbers = [int(match[1]) for entry in self._directory.iterdir() if (match := pattern.fullmatch(entry.name))]
        if not numbers:
            return 0, {}
        path = self._directory / f"{self._name}-{max(numbers):012d}.parquet"
        try:
            metadata = pq.read_metadata(path).metadata or {}
        except (pa.ArrowException, OSError) as error:
            raise BadInput(f"{path} cannot be read ({error}): where to go on stands in it. Restore it, or take another directory") from None
        known = {key.decode(): value.decode() for key, value in metadata.items() if key.startswith(b"historian.")}
        if known.get("historian.cursor") != self._name or "historian.position" not in known:
            raise BadInput(f"{path} is no file of the cursor {self._name!r}; take another directory")
        return max(numbers) + 1, known

    def _write(self, batches: list[pa.RecordBatch]) -> None:
        """Into the file under way, as a row group."""
        rows = _count(batches)
        if rows:
            self._open()
            self._writer.write_table(_table(batches, self._next_row), row_group_size=rows)
            self._next_row += rows
        batches.clear()

    def _open(self) -> None:
        if self._writer is None:
            self._file = self._partial.open("wb")
            self._writer = pq.ParquetWriter(self._file, SCHEMA, compression="zstd")

    def _abandon(self) -> None:
        if self._file is not None:
            # its end, for nothing: else it is written when the writer is collected
            self._writer.close()
            self._file.close()
            self._file = self._writer = None
            self._partial.unlink(missing_ok=True)
        self._next_row = self._first_row


def _table(batches: list[pa.RecordBatch], first_row: int) -> pa.Table:
    parts = []
    for batch in batches:
        text = batch.column("text") if "text" in batch.schema.names else pa.nulls(batch.num_rows, pa.string())
        rows = pa.array(np.arange(first_row, first_row + batch.num_rows, dtype=np.int64))
        first_row += batch.num_rows
        columns = [rows, batch.column("tag").cast(pa.string()), *(batch.column(name) for name in ("ts", "value", "quality")), text]
        parts.append(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
    return pa.Table.from_batches(parts)


def _count(batches: list[pa.RecordBatch]) -> int:
    return sum(batch.num_rows for batch in batches)


def _locked(path: Path) -> int:
    held = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        raise Conflict(f"another process writes the files of this cursor in {path.parent}") from None
    return held


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
