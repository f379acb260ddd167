"""Finding out what a spool holds when it is opened: whole batches, done ones, a torn tail, damage."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from historian.ingest.spool import files
from historian.ingest.spool.disk import reason_of, remove
from historian.ingest.spool.files import Done
from historian.ingest.spool.index import Segment
from historian.ingest.spool.newest import SUFFIX as NEWEST_SUFFIX
from historian.ingest.spool.newest import Newest, forget_saved, saved_newest
from historian.ingest.spool.segment import Damage, Unreadable, decode, identity_of, list_segments, read_file, scan

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Loaded:
    """What stands. `cut_bytes` were cut off the end of the last segment."""

    segments: list[Segment] = field(default_factory=list)
    newest: Newest = field(default_factory=Newest)
    next_ordinal: int = 1
    last_seq: int | None = None
    cut_bytes: int = 0


def load(directory: Path) -> Loaded:
    """Look through all segments; for the holder of the lock only. Cuts off a torn tail, keeps damaged bytes aside, removes what is done. One segment at a time is
    in memory. Raises OSError, and SchemaError if a newer version wrote a segment."""
    loaded = Loaded()
    progress = files.read_progress(directory)
    found = list_segments(directory)
    for stray in {path.with_suffix("") for path in directory.glob(f"*{NEWEST_SUFFIX}")} - {path.with_suffix("") for _, path in found}:
        forget_saved(stray)
    for ordinal, path in found:
        loaded.next_ordinal = ordinal + 1
        segment = _load_segment(directory, loaded, ordinal, path, progress, is_last=ordinal == found[-1][0])
        if segment.open_batches:
            loaded.segments.append(segment)
            continue
        try:
            remove(directory, segment)
        except OSError as error:
            log.warning("%s is done but cannot be removed: %s", path, reason_of(error))
    return loaded


def _load_segment(directory: Path, loaded: Loaded, ordinal: int, path: Path, progress: dict[str, Done], *, is_last: bool) -> Segment:
    data = read_file(path)
    identity = identity_of(data)
    segment = Segment(ordinal, path, identity, len(data))
    done = progress.get(identity.hex(), Done(0)) if identity is not None else Done(0)
    also = set(done.also)
    saved = saved_newest(path, identity)
    newest = saved if saved is not None else Newest()
    for thing in scan(data):
        if isinstance(thing, Damage):
            if thing.tail and is_last:
                _cut(directory, loaded, segment, thing, data)
            else:
                keep(directory, segment, data[thing.offset : thing.offset + thing.size], thing.offset, describe(thing))
            continue
        is_done = thing.offset < done.before or thing.offset in also or _is_known(loaded, segment, thing.seq)
        if not is_done and saved is None:
            record = memoryview(data)[thing.offset : thing.offset + thing.size]
            try:
                newest.note(decode(record)[1])
            except Unreadable as error:
                keep(directory, segment, bytes(record), thing.offset, f"batch {thing.seq} of {thing.rows} samples: {error}")
                is_done = True
        segment.add(thing, done=is_done)
        loaded.last_seq = thing.seq if loaded.last_seq is None else max(loaded.last_seq, thing.seq)
    if segment.open_batches:
        loaded.newest.merge(newest)
        if saved is None and identity is not None:
            newest.save(path, identity)
    return segment


def _is_known(loaded: Loaded, segment: Segment, seq: int) -> bool:
    """Whether the batch came before: a broken disk can keep one whose append failed, and that was then appended again."""
    if loaded.last_seq is None or seq > loaded.last_seq:
        return False
    return any(one.find(seq) is not None for one in (*loaded.segments, segment))


def _cut(directory: Path, loaded: Loaded, segment: Segment, tail: Damage, data: bytes) -> None:
    """Cut off what stands behind the last whole batch: no one was told that it is safe."""
    if tail.complete:
        # of full length: perhaps it was whole once, and a worker relied on it
        keep(directory, segment, data[tail.offset :], tail.offset, describe(tail))
    log.warning("%s: the last %d bytes are no whole batch and are cut off, as after a power cut", segment.path, tail.size)
    loaded.cut_bytes += tail.size
    if segment.spoiled:
        return
    try:
        fd = os.open(segment.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, tail.offset)
            os.fsync(fd)
        finally:
            os.close(fd)
        segment.size = tail.offset
    except OSError as error:
        # nothing is ever appended to it again, so the next opening will see the same
        log.warning("%s cannot be cut: %s", segment.path, reason_of(error))


def keep(directory: Path, segment: Segment, content: bytes, offset: int, what: str) -> None:
    """Keep damaged bytes aside, and tell it once; if that cannot be done, the segment will be kept whole."""
    try:
        new = files.keep_damaged(directory, segment.path, segment.identity, offset, content)
    except OSError as error:
        log.error("%s is damaged at byte %d (%s); kept as it is: %s", segment.path, offset, what, reason_of(error))
        segment.spoiled = True
        return
    if new:
        log.error(
            "%s is damaged at byte %d (%s); these %d bytes are kept in %s",
            segment.path,
            offset,
            what,
            len(content),
            directory / files.DAMAGED,
        )


def describe(damage: Damage) -> str:
    """Which batches were there, as far as it can be told."""
    if not damage.batches:
        return "of which batches cannot be told"
    shown = ", ".join(f"batch {seq} of {rows} samples" for seq, rows in damage.batches[:10])
    return shown + (f" and {len(damage.batches) - 10} more" if len(damage.batches) > 10 else "")
