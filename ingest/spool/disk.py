"""Segments as files: written so that a record is there whole or not at all, and removed."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from historian.ingest.spool.files import DAMAGED, sync_directory
from historian.ingest.spool.index import Segment
from historian.ingest.spool.newest import forget_saved
from historian.ingest.spool.segment import HEADER_SIZE, file_header

#: beside the record itself: what a filesystem may want for its own tables
_SLACK = 64 << 10
_WORDS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file size limit of this process is reached",
    errno.EIO: "the disk fails (input/output error)",
    errno.EROFS: "the filesystem is read-only",
}


def reason_of(error: OSError) -> str:
    """What the operating system says, in words."""
    return _WORDS.get(error.errno or 0) or error.strerror or str(error) or type(error).__name__


def has_room(directory: Path, size: int) -> bool:
    """Whether the filesystem has so many bytes free, as far as it tells."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize >= size + _SLACK


class Tail:
    """The segment that is written. Raises OSError where a file cannot be made; then there is none."""

    def __init__(self, path: Path, identity: bytes) -> None:
        self.path = path
        self.size = HEADER_SIZE
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            # the header itself reaches the disk with the first record
            _write(self._fd, [file_header(identity)], 0)
            sync_directory(path.parent)
        except OSError:
            self.discard()
            raise

    @property
    def empty(self) -> bool:
        return self.size == HEADER_SIZE

    def append(self, buffers: Sequence[memoryview]) -> int:
        """Returns the offset of what is now on disk. Raises OSError, and has cut off what may have been written of it."""
        try:
            written = _write(self._fd, buffers, self.size)
            os.fdatasync(self._fd)
        except BaseException:
            # should this fail too, then the next opening finds a torn tail, or a batch that the worker will have appended once more: it counts once
            with suppress(OSError):
                os.ftruncate(self._fd, self.size)
                os.fdatasync(self._fd)
            raise
        offset = self.size
        self.size += written
        return offset

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            # everything in it has been synced
            with suppress(OSError):
                os.close(fd)

    def discard(self) -> None:
        """Close it, and remove the file: nothing is in it."""
        self.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def _write(fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
    """All of them, one behind the other. A short write is tried again, so that the operating system says why. Returns how many bytes."""
    rest = [memoryview(buffer) for buffer in buffers]
    total = sum(len(buffer) for buffer in rest)
    written = 0
    while rest:
        n = os.pwritev(fd, rest, offset + written)
        if n == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written += n
        while rest and n >= len(rest[0]):
            n -= len(rest.pop(0))
        if rest:
            rest[0] = rest[0][n:]
    return total


def remove(directory: Path, segment: Segment) -> None:
    """Delete a segment that is done; one with damage that could not be kept aside goes whole into damaged/. Raises OSError."""
    forget_saved(segment.path)
    if not segment.spoiled:
        segment.path.unlink(missing_ok=True)
        return
    kept = directory / DAMAGED
    kept.mkdir(exist_ok=True)
    name = f"{segment.path.stem}-{(segment.identity or b'').hex()[:8] or 'unknown'}-whole.bin"
    with suppress(FileNotFoundError):
        segment.path.replace(kept / name)
