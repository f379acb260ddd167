"""The on-disk queue of a worker whose upstream is away.

Promise. A batch is on disk, and will be there after a power cut, when `append` returns; it is given by `read` in the order of the appends until `done` is told, and
by no other process meanwhile. Nothing is ever dropped to make room: at a limit, and when the disk is full or broken, `append` refuses with SpoolFull and what
stands stays as it is. A batch that is done may come back after a crash (the ledger upstream makes that harmless), one that is not is never missing.
Bytes that were damaged on disk are stepped over, kept aside in damaged/, counted and told in the log.

Memory does not grow with what is held but for some 40 bytes a batch, and the newest time of each tag.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
import uuid
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from historian.ingest.path_samples import PathSamples
from historian.ingest.spool import files
from historian.ingest.spool.disk import Tail, has_room, reason_of, remove
from historian.ingest.spool.full import SpoolFull
from historian.ingest.spool.index import Segment
from historian.ingest.spool.limits import Limits, disk_words
from historian.ingest.spool.newest import Newest
from historian.ingest.spool.opening import load
from historian.ingest.spool.reading import Reader
from historian.ingest.spool.refused import forget_refused, keep_refused, list_refused
from historian.ingest.spool.segment import RECORD_SIZE, Entry, decode, encode, path_of
from historian.schema.errors import BadInput, Conflict
from historian.schema.ledger import check_seq

log = logging.getLogger(__name__)

MAX_BYTES = 1_000_000_000
SEGMENT_BYTES = 16 << 20
_LEAST_SEGMENT_BYTES = 64 << 10
#: with these, what the segment holds can be relied upon, and it can be written again once there is room
_ROOM = (errno.ENOSPC, errno.EDQUOT)

State = Literal["empty", "holding", "full"]


class Spool:
    """See the module; made by `open`. Every method may be called from any thread; `append` and `reserve_seqs` wait for the disk.

    producer, instance  whose it is: they outlive restarts
    last_seq            the highest seq among the batches that were found or appended; None if there were none
    seqs_known          whether it was found on opening which seqs are given away; if not (a new spool), ask upstream before the first `reserve_seqs`
    cut_bytes           cut off the end of the last segment on opening: of a batch that no one was told is safe
    damaged             places at which damaged bytes were found, by this opening or earlier ones, and are kept in damaged/
    """

    def __init__(
        self, directory: Path, *, producer: str | None, max_bytes: int | None, max_age_s: float | None, segment_bytes: int
    ) -> None:
        self.directory = directory
        self.limits = Limits(max_bytes, max_age_s)
        self._segment_bytes = segment_bytes
        # held while the disk is waited for: one append after the other; taken before the mutex
        self._writing = threading.Lock()
        # held for moments only: who asks how it stands, or tells what is done, does not wait for the disk
        self._mutex = threading.RLock()
        #: the tail is written: it must not be removed now, also if all else in it is done
        self._busy = False
        self._tail: Tail | None = None
        self._tail_newest = Newest()
        self._reader = Reader(directory)
        #: the batch that was read last: seq, ordinal, position
        self._cursor: tuple[int, int, int] | None = None
        #: what the disk said to the last append, and the bytes that it was about
        self._refusal: tuple[OSError, int] | None = None
        #: bytes of the batch that was refused last for the size limit
        self._wanted = 0
        self._lock: int | None = files.take_lock(directory, max_bytes, max_age_s)
        try:
            owner = files.have_owner(directory, producer)
            self.producer, self.instance = owner.producer, owner.instance
            loaded = load(directory)
            known = files.read_next_seq(directory)
        except BaseException:
            os.close(self._lock)
            raise
        self._segments = loaded.segments
        self._newest = loaded.newest
        self._next_ordinal = loaded.next_ordinal
        self.last_seq = loaded.last_seq
        self.cut_bytes = loaded.cut_bytes
        self.seqs_known = known is not None
        self._next_seq = max(known or 0, 0 if self.last_seq is None else self.last_seq + 1)
        self.damaged = len(files.damaged_files(directory))

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        producer: str | None = None,
        max_bytes: int | None = MAX_BYTES,
        max_age_s: float | None = None,
        segment_bytes: int | None = None,
    ) -> Spool:
        """Take the spool in this directory, or make one.

        producer       whose it is to be; None for whoever's it is
        max_bytes      of all its segments; None for no limit
        max_age_s      when the oldest batch has waited longer, no new one is taken; None for no limit
        segment_bytes  a segment that has reached this size is closed; by default 16 MB, and less where max_bytes is small

        Raises Conflict while another process has it (its pid is named) or if it is another producer's, NotFound if there is none and no producer is given,
        SchemaError if a newer version wrote it, BadInput if the directory cannot be used.
        """
        if segment_bytes is None:
            segment_bytes = SEGMENT_BYTES if max_bytes is None else min(SEGMENT_BYTES, max(max_bytes // 16, _LEAST_SEGMENT_BYTES))
        try:
            if producer is not None:
                directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            else:
                # before a lock file is made in a directory that is something else
                files.have_owner(directory, None)
            return cls(directory, producer=producer, max_bytes=max_bytes, max_age_s=max_age_s, segment_bytes=segment_bytes)
        except OSError as error:
            raise BadInput(f"{directory} cannot be used as a spool: {reason_of(error)}") from error

    def close(self) -> None:
        """Let another process have it. All that was appended stays."""
        with self._writing, self._mutex:
            if self._lock is None:
                return
            self._close_tail()
            self._reader.close()
            # the file stays: who waits for a lock on a removed file and who makes a new one would both get theirs
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._lock is None:
            raise Conflict(f"the spool {self.directory} is closed")

    # what stands

    @property
    def batches(self) -> int:
        """Those that are not done."""
        with self._mutex:
            return sum(segment.open_batches for segment in self._segments)

    @property
    def samples(self) -> int:
        """Of the batches that are not done."""
        with self._mutex:
            return sum(segment.open_samples for segment in self._segments)

    @property
    def bytes(self) -> int:
        """Of the segments that stand: what `max_bytes` is about."""
        with self._mutex:
            return sum(segment.size for segment in self._segments)

    @property
    def oldest_us(self) -> int | None:
        """When the oldest batch that is not done was appended, µs since 1970; None if there is none."""
        with self._mutex:
            return next((oldest for segment in self._segments if (oldest := segment.oldest_us()) is not None), None)

    def newest(self, path: str) -> int | None:
        """Time of the tag's newest sample in the backlog, µs since 1970; None if it has none. A time that is done since counts until the spool is empty."""
        return self._newest.get(path)

    def behind(self, samples: PathSamples) -> npt.NDArray[np.bool_]:
        """bool[n]: the rows of a live batch that have to queue behind the backlog, which has their tag at their time or later. The others may overtake it."""
        with self._mutex:
            return self._newest.behind(samples)

    @property
    def state(self) -> State:
        """full: `append` would refuse now, as far as can be told without trying, and `trouble` says why. It gets better by itself."""
        if self.trouble:
            return "full"
        return "holding" if self.batches else "empty"

    @property
    def trouble(self) -> str:
        """In words, why no batch is taken now; empty if one is."""
        with self._mutex:
            limit = self._limit(self._wanted)
            if not limit and self._refusal is not None:
                error, size = self._refusal
                if error.errno != errno.ENOSPC or not has_room(self.directory, size):
                    return disk_words(self.directory, error)
            return limit

    def _limit(self, more: int) -> str:
        return self.limits.reached(self.directory, self.bytes, more, None if self.limits.max_age_s is None else self.oldest_us)

    # taking

    def append(self, seq: int, samples: PathSamples) -> None:
        """Have a batch on disk: it is there when this returns.

        Tries whatever `state` says. Raises SpoolFull, and then nothing of the batch is there; Conflict if the spool holds one of that seq; BadInput for a seq that
        no batch can have; TooLarge.
        """
        check_seq(seq)
        with self._writing:
            with self._mutex:
                self._check_open()
                if self.last_seq is not None and seq <= self.last_seq and self._find(seq) is not None:
                    raise Conflict(f"the spool {self.directory} holds a batch {seq} already")
                # without the work of compressing it
                if limit := self._limit(RECORD_SIZE):
                    raise SpoolFull(limit)
            at = time.time_ns() // 1000
            head, payload = encode(seq, samples, at)
            size = len(head) + payload.size
            with self._mutex:
                if limit := self._limit(size):
                    self._wanted = size
                    raise SpoolFull(limit)
                self._busy = True
            try:
                segment, offset = self._write(memoryview(head), memoryview(payload))
            except BaseException as error:
                with self._mutex:
                    self._busy = False
                    # what became done meanwhile
                    self._forget_done()
                    if not isinstance(error, OSError):
                        raise
                    self._note_refusal(error, size)
                raise SpoolFull(disk_words(self.directory, error)) from error
            with self._mutex:
                # not a moment before the batch counts
                self._busy = False
                segment.size = offset + size
                segment.add(Entry(offset, size, len(samples), seq, at, at, at))
                self._newest.note(samples)
                self._tail_newest.note(samples)
                self.last_seq = seq if self.last_seq is None else max(seq, self.last_seq)
                self._next_seq = max(self._next_seq, seq + 1)
                self._wanted = 0
                if self._refusal is not None:
                    log.info("the spool %s can be written again", self.directory)
                    self._refusal = None

    def _write(self, head: memoryview, payload: memoryview) -> tuple[Segment, int]:
        """Where the record is now on disk. Raises OSError, and then it is nowhere."""
        tail = self._tail
        if tail is not None and tail.size >= self._segment_bytes:
            with self._mutex:
                self._close_tail()
            tail = None
        if tail is None:
            identity = uuid.uuid4().bytes
            ordinal = self._next_ordinal
            # a number whose file could not be removed is not tried again
            self._next_ordinal += 1
            tail = Tail(path_of(self.directory, ordinal), identity)
            with self._mutex:
                self._tail = tail
                self._segments.append(Segment(ordinal, tail.path, identity, tail.size))
        try:
            return self._segments[-1], tail.append((head, payload))
        except OSError as error:
            with self._mutex:
                if tail.empty:
                    tail.discard()
                    self._tail = None
                    self._segments.pop()
                elif error.errno not in _ROOM:
                    # after a failed sync nobody knows what the file holds behind its last good record
                    self._close_tail()
            raise

    def _note_refusal(self, error: OSError, size: int) -> None:
        if self._refusal is None or self._refusal[0].errno != error.errno:
            log.error("%s", disk_words(self.directory, error))
        self._refusal = (error, size)

    def reserve_seqs(self, n: int, at_least: int = 0) -> int:
        """The first of n seqs that nobody was given before, or will be: also after a crash. None is below `at_least`. Raises SpoolFull if that cannot be
        written down."""
        with self._writing:
            self._check_open()
            first = max(self._next_seq, at_least)
            check_seq(first + n)
            try:
                files.write_next_seq(self.directory, first + n)
            except OSError as error:
                raise SpoolFull(disk_words(self.directory, error)) from error
            self._next_seq = first + n
            return first

    # giving

    def peek(self) -> tuple[int, PathSamples] | None:
        """Seq and samples of the oldest batch that is not done."""
        found = self.read(limit=1)
        return found[0] if found else None

    def read(self, after: int | None = None, limit: int = 1) -> list[tuple[int, PathSamples]]:
        """Seq and samples of the next batches that are not done, at most `limit`, in the order in which they were appended: the first ones, or those that come
        behind batch `after` (which may be done since if it was the last one read; if nothing is known of it, the first ones).

        A batch whose bytes are damaged is stepped over, as on opening. Raises Unavailable if a segment cannot be opened now.
        """
        found: list[tuple[int, PathSamples]] = []
        with self._mutex:
            self._check_open()
            ordinal, position = self._behind(after)
            lost = False
            for segment in [segment for segment in self._segments if segment.ordinal >= ordinal]:
                start = position if segment.ordinal == ordinal else 0
                while len(found) < limit and (at := segment.next_open(start)) is not None:
                    start = at + 1
                    samples = self._reader.samples(segment, at)
                    if samples is None:
                        segment.set_done(at)
                        lost = True
                        continue
                    seq = segment.seq(at)
                    self._cursor = (seq, segment.ordinal, at)
                    found.append((seq, samples))
            if lost:
                self._forget_done()
                self.damaged = len(files.damaged_files(self.directory))
        return found

    def _behind(self, after: int | None) -> tuple[int, int]:
        """Ordinal and position from which to read."""
        if after is None:
            return 0, 0
        if self._cursor is not None and self._cursor[0] == after:
            return self._cursor[1], self._cursor[2] + 1
        place = self._find(after, done=True)
        return (0, 0) if place is None else (place[0].ordinal, place[1] + 1)

    def _find(self, seq: int, *, done: bool = False) -> tuple[Segment, int] | None:
        for segment in self._segments:
            if (position := segment.find(seq, done=done)) is not None:
                return segment, position
        return None

    def done(self, seq: int) -> None:
        """A batch is committed upstream, and is not given again. Does nothing if that was told before."""
        with self._mutex:
            self._check_open()
            place = self._find(seq)
            if place is not None:
                place[0].set_done(place[1])
                self._forget_done()

    def refuse(self, seq: int, reason: str) -> None:
        """Upstream will never take this batch as it is: keep it in refused/ with the reason, and count it as done. Raises SpoolFull if it cannot be moved; then
        it stays where it is."""
        with self._mutex:
            self._check_open()
            place = self._find(seq)
            if place is None:
                return
            try:
                keep_refused(self.directory, seq, self._reader.record(*place), reason)
            except OSError as error:
                raise SpoolFull(disk_words(self.directory, error)) from error
            self.done(seq)

    def take_refused(self, seqs: Collection[int]) -> int:
        """Put these of the batches in refused/ at the end of the queue, for another try. Returns how many. Raises SpoolFull; then the rest stays where it is."""
        taken = 0
        try:
            for batch in list_refused(self.directory):
                if batch.entry.seq in seqs:
                    with self._mutex:
                        waits = self._find(batch.entry.seq) is not None
                    if not waits:
                        self.append(*decode(batch.record()))
                    forget_refused(batch)
                    taken += 1
        except OSError as error:
            raise SpoolFull(disk_words(self.directory, error)) from error
        return taken

    def _forget_done(self) -> None:
        """Delete the segments of which all is done, and write down what is done of the others."""
        for segment in [segment for segment in self._segments if not segment.open_batches]:
            if self._tail is not None and self._tail.path == segment.path:
                if self._busy:
                    continue
                self._close_tail()
            self._reader.close(segment.ordinal)
            try:
                remove(self.directory, segment)
            except OSError as error:
                # the next opening will remove it, or send it again
                log.warning("%s is done but cannot be removed: %s", segment.path, reason_of(error))
            self._segments.remove(segment)
        if not self._segments:
            self._newest.clear()
        progress = {s.identity.hex(): done for s in self._segments if s.identity is not None and (done := s.progress()) is not None}
        # what was written last still holds: it tells less
        with suppress(OSError):
            files.write_progress(self.directory, progress)

    def _close_tail(self) -> None:
        """Nothing more is written to the last segment."""
        if self._tail is not None:
            segment = self._segments[-1]
            if segment.open_batches and segment.identity is not None:
                self._tail_newest.save(segment.path, segment.identity)
            self._tail.close()
            self._tail = None
            self._tail_newest = Newest()
