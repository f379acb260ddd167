"""What a spool remembers of a segment: where each batch stands and whether it is done, some 40 bytes a batch and none of its samples."""

from __future__ import annotations

from array import array
from pathlib import Path

from historian.ingest.spool.files import Done
from historian.ingest.spool.segment import Entry


class Segment:
    """One file and its batches, in the order of the file. `size` is that of the file; `spoiled` if it has damage that is kept nowhere else."""

    def __init__(self, ordinal: int, path: Path, identity: bytes | None, size: int) -> None:
        self.ordinal = ordinal
        self.path = path
        #: a file whose header is damaged has no id, and so no progress
        self.identity = identity
        self.size = size
        self.spoiled = False
        self.open_batches = 0
        self.open_samples = 0
        self._seqs = array("q")
        self._offsets = array("Q")
        self._sizes = array("L")
        self._rows = array("L")
        self._at = array("q")
        self._done = bytearray()
        self._first_open = 0
        self._highest = -1

    def __len__(self) -> int:
        return len(self._seqs)

    def add(self, entry: Entry, *, done: bool = False) -> None:
        self._seqs.append(entry.seq)
        self._offsets.append(entry.offset)
        self._sizes.append(entry.size)
        self._rows.append(entry.rows)
        self._at.append(entry.at_us)
        self._done.append(done)
        self._highest = max(self._highest, entry.seq)
        if not done:
            self.open_batches += 1
            self.open_samples += entry.rows

    def find(self, seq: int, *, done: bool = False) -> int | None:
        """The position of a batch that is not done; with `done` also of one that is. (A batch that was refused can have been appended a second time.)"""
        if seq > self._highest:
            return None
        position = -1
        while True:
            try:
                position = self._seqs.index(seq, position + 1)
            except ValueError:
                return None
            if done or not self._done[position]:
                return position

    def next_open(self, start: int = 0) -> int | None:
        """The position of the first batch from there on that is not done."""
        found = self._done.find(0, max(start, self._first_open))
        return None if found < 0 else found

    def set_done(self, position: int) -> None:
        if not self._done[position]:
            self._done[position] = 1
            self.open_batches -= 1
            self.open_samples -= self._rows[position]
            first = self._done.find(0, self._first_open)
            self._first_open = len(self._done) if first < 0 else first

    def seq(self, position: int) -> int:
        return self._seqs[position]

    def rows(self, position: int) -> int:
        return self._rows[position]

    def place(self, position: int) -> tuple[int, int]:
        """(offset, size) of a record."""
        return self._offsets[position], self._sizes[position]

    def oldest_us(self) -> int | None:
        """When the first batch that is not done was appended."""
        position = self.next_open()
        return None if position is None else self._at[position]

    def progress(self) -> Done | None:
        """What is done of it; None if nothing is."""
        before = self._offsets[self._first_open] if self._first_open < len(self) else self.size
        also = []
        position = self._done.find(1, self._first_open)
        while position >= 0:
            also.append(self._offsets[position])
            position = self._done.find(1, position + 1)
        return Done(before, tuple(also)) if self._first_open or also else None
