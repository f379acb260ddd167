"""The small files beside a spool's segments: who holds it, whose it is, which seqs are given away, what is done, and what was damaged.

lock            held with flock by the one process that works with the spool; tells its pid and limits
owner.json      the producer and the instance that the spool belongs to, written once
seqs.json       the first seq that nobody has been given
progress.json   what of the segments that still stand is done, by segment id; may be older than the truth, never ahead of it
damaged/        bytes of segments that were no whole record, each once
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from historian.schema.errors import Conflict, NotFound
from historian.schema.ledger import check_producer

LOCK = "lock"
OWNER = "owner.json"
SEQS = "seqs.json"
PROGRESS = "progress.json"
DAMAGED = "damaged"
#: `is_held` has the lock for a moment: that is no reason to turn a worker away
_TRIES = 5
_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a spool is. `instance` tells a worker apart from others under its name."""

    producer: str
    instance: str


@dataclass(frozen=True, slots=True)
class Holder:
    """What the lock file says of the process that holds it, or held it last."""

    pid: int | None = None
    max_bytes: int | None = None
    max_age_s: float | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What is done of a segment: all records before the offset `before`, and those at the offsets `also`."""

    before: int
    also: tuple[int, ...] = ()


def sync_directory(directory: Path) -> None:
    """Have the names in it on disk. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_whole(path: Path, content: bytes, *, durable: bool) -> None:
    """Replace a file in one step; `durable`: it is on disk when this returns. Raises OSError, and then the old one stands."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb", buffering=0) as file:
            rest = memoryview(content)
            while rest:
                # a short one is tried again, so that the operating system says why
                rest = rest[file.write(rest) or 0 :]
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object; None if there is none that can be read."""
    try:
        document = orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def take_lock(directory: Path, max_bytes: int | None, max_age_s: float | None) -> int:
    """A descriptor that holds the lock until it is closed. Raises Conflict with the pid of the process that has it, OSError."""
    held = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        for left in reversed(range(_TRIES)):
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not left:
                    pid = read_holder(directory).pid or "unknown"
                    raise Conflict(
                        f"the spool {directory} is in use by process {pid}; stop that worker, or use another directory"
                    ) from None
                time.sleep(_PAUSE_S)
        # it only informs: a full disk must not keep a worker from what it has spooled
        with suppress(OSError):
            os.ftruncate(held, 0)
            os.pwrite(held, orjson.dumps(asdict(Holder(os.getpid(), max_bytes, max_age_s))), 0)
    except BaseException:
        os.close(held)
        raise
    return held


def is_held(directory: Path) -> bool:
    """Whether a process works with the spool now. Writes nothing."""
    try:
        fd = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def read_holder(directory: Path) -> Holder:
    found = _read(directory / LOCK) or {}
    pid, max_bytes, max_age_s = found.get("pid"), found.get("max_bytes"), found.get("max_age_s")
    return Holder(
        pid if isinstance(pid, int) else None,
        max_bytes if isinstance(max_bytes, int) else None,
        float(max_age_s) if isinstance(max_age_s, int | float) else None,
    )


def read_owner(directory: Path) -> Owner | None:
    """None for a directory that is no spool yet. Raises Conflict if it is one, but does not say whose, and OSError."""
    path = directory / OWNER
    try:
        found = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        found = None
    if isinstance(found, dict) and isinstance(found.get("producer"), str) and isinstance(found.get("instance"), str):
        return Owner(found["producer"], found["instance"])
    raise Conflict(
        f'{path} is damaged, so whose spool it is cannot be told; write {{"producer":"NAME","instance":"{uuid.uuid4()}"}} into it, '
        f"with the name of the worker whose spool this is"
    )


def have_owner(directory: Path, producer: str | None) -> Owner:
    """The owner, written down if there was none. Raises Conflict if the spool belongs to another producer, NotFound if there is none and none is given."""
    owner = read_owner(directory)
    if owner is None:
        if producer is None:
            raise NotFound(f"{directory} is no spool")
        owner = Owner(check_producer(producer), str(uuid.uuid4()))
        write_whole(directory / OWNER, orjson.dumps(asdict(owner)), durable=True)
    elif producer is not None and producer != owner.producer:
        raise Conflict(
            f"the spool {directory} belongs to producer {owner.producer!r}, not to {producer!r}; give this worker another --spool, or its old name"
        )
    return owner


def read_next_seq(directory: Path) -> int | None:
    """The first seq that nobody has been given, if it is known."""
    found = (_read(directory / SEQS) or {}).get("next")
    return found if isinstance(found, int) and found >= 0 else None


def write_next_seq(directory: Path, seq: int) -> None:
    """On disk when this returns. Raises OSError."""
    write_whole(directory / SEQS, orjson.dumps({"next": seq}), durable=True)


def read_progress(directory: Path) -> dict[str, Done]:
    """By segment id, as hex digits. Nothing where it cannot be read: what is sent again counts once."""
    progress = {}
    for identity, found in (_read(directory / PROGRESS) or {}).items():
        if isinstance(found, dict) and isinstance(found.get("before"), int) and isinstance(found.get("also"), list):
            progress[identity] = Done(found["before"], tuple(n for n in found["also"] if isinstance(n, int)))
    return progress


def write_progress(directory: Path, progress: Mapping[str, Done]) -> None:
    """Replaced in one step, but not forced to disk: an older one, or none, does no harm. Raises OSError."""
    write_whole(directory / PROGRESS, orjson.dumps({identity: asdict(done) for identity, done in progress.items()}), durable=False)


def keep_damaged(directory: Path, segment: Path, identity: bytes | None, offset: int, content: bytes) -> bool:
    """Keep bytes that are no record. Returns whether they were not kept before. On disk when this returns. Raises OSError."""
    kept = directory / DAMAGED
    name = f"{segment.stem}-{(identity or b'').hex()[:8] or 'unknown'}-{offset}-{len(content)}.bin"
    if (kept / name).exists():
        return False
    if not kept.exists():
        kept.mkdir()
        sync_directory(directory)
    write_whole(kept / name, content, durable=True)
    return True


def damaged_files(directory: Path) -> list[Path]:
    """What was kept of damaged bytes, and segments that were put there whole."""
    return sorted(path for path in (directory / DAMAGED).glob("*") if not path.name.startswith("."))
