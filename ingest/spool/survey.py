"""A look at a spool from outside: reads, takes no lock, changes nothing, also while a worker works with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from historian.ingest.spool import files
from historian.ingest.spool.disk import reason_of
from historian.ingest.spool.files import Done, Holder, Owner
from historian.ingest.spool.opening import describe
from historian.ingest.spool.refused import list_refused
from historian.ingest.spool.segment import Damage, Entry, Unreadable, decode, identity_of, list_segments, read_file, scan
from historian.schema.errors import BadInput, NotFound


@dataclass(slots=True)
class Survey:
    """What was found. Times are µs since 1970; None where there is no batch.

    holder             the process that works with it, if `is_held`, or that did so last
    bytes, segments    of the files
    batches, samples   not done; the times are about these
    done_batches       done, in segments that hold others which are not
    spooled_us         when the oldest and the newest of the batches were appended
    sample_us          oldest and newest time of their samples
    torn_bytes         at the end of the last segment, of no whole batch: a worker that opens it cuts them off
    damage             bytes that are no whole batch where one was, in words
    kept               files in damaged/: what was found before
    refused            (seq, samples, reason) of batches that upstream refused
    """

    directory: Path
    owner: Owner
    holder: Holder
    is_held: bool
    segments: int = 0
    bytes: int = 0
    batches: int = 0
    samples: int = 0
    done_batches: int = 0
    spooled_us: tuple[int, int] | None = None
    sample_us: tuple[int, int] | None = None
    torn_bytes: int = 0
    damage: list[str] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    refused: list[tuple[int, int, str]] = field(default_factory=list)


def find_spool(directory: Path) -> Path:
    """The spool in this directory, which may be that of a worker. Raises NotFound."""
    for candidate in (directory, directory / "spool"):
        if (candidate / files.OWNER).exists():
            return candidate
    raise NotFound(f"{directory} is no spool, and no directory of a worker")


def survey(directory: Path, *, decoding: bool = False, on_bytes: Callable[[int, int], None] | None = None) -> Survey:
    """Look through all segments of a spool. Every checksum is computed; `decoding`: every batch is decoded too. `on_bytes` is told after each file how many
    bytes have been read, and of how many. Raises NotFound, Conflict if it cannot be told whose it is, SchemaError if a newer version wrote it, BadInput if it
    cannot be read."""
    try:
        owner = files.read_owner(directory)
        if owner is None:
            raise NotFound(f"{directory} is no spool")
        found = Survey(directory, owner, files.read_holder(directory), files.is_held(directory))
        progress = files.read_progress(directory)
        segments = list_segments(directory)
        sizes = {path: size for _, path in segments if (size := _size(path)) is not None}
        read, total = 0, sum(sizes.values())
        for _, path in segments:
            try:
                data = read_file(path)
            except FileNotFoundError:
                # the worker is done with it
                continue
            _look_at(found, path, data, progress, decoding=decoding, is_last=path == segments[-1][1])
            read += sizes.get(path, 0)
            if on_bytes is not None:
                on_bytes(read, total)
        found.kept = files.damaged_files(directory)
        found.refused = [(batch.entry.seq, batch.entry.rows, batch.reason) for batch in list_refused(directory)]
    except OSError as error:
        raise BadInput(f"{directory} cannot be read: {reason_of(error)}") from error
    return found


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _look_at(found: Survey, path: Path, data: bytes, progress: dict[str, Done], *, decoding: bool, is_last: bool) -> None:
    found.segments += 1
    found.bytes += len(data)
    identity = identity_of(data)
    done = progress.get(identity.hex(), Done(0)) if identity is not None else Done(0)
    for thing in scan(data):
        if isinstance(thing, Damage):
            if thing.tail and is_last and (found.is_held or not thing.complete):
                # of a worker that works with it: what it writes just now
                found.torn_bytes += 0 if found.is_held else thing.size
            else:
                found.damage.append(f"{path.name}: {thing.size} bytes at {thing.offset} are no whole batch ({describe(thing)})")
            continue
        if decoding:
            try:
                decode(memoryview(data)[thing.offset : thing.offset + thing.size])
            except Unreadable as error:
                found.damage.append(f"{path.name}: batch {thing.seq} of {thing.rows} samples at {thing.offset}: {error}")
                continue
        if thing.offset < done.before or thing.offset in done.also:
            found.done_batches += 1
        else:
            _count(found, thing)


def _count(found: Survey, entry: Entry) -> None:
    found.batches += 1
    found.samples += entry.rows
    spooled = found.spooled_us or (entry.at_us, entry.at_us)
    found.spooled_us = (min(spooled[0], entry.at_us), max(spooled[1], entry.at_us))
    if entry.rows:
        times = found.sample_us or (entry.first_us, entry.last_us)
        found.sample_us = (min(times[0], entry.first_us), max(times[1], entry.last_us))
