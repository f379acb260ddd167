"""What a folder source remembers over restarts: which contents are done, and how far it has come in those that are not.

Promise. A content is in the done list only when all its samples are settled, and is on disk there before its file is moved. Progress is only a saving: a chunk that is
not noted, because the process was killed, is sent again, which is harmless. Both are bounded: the newest 10 000 contents (about 2 MB), progress of 1 000 files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MAX_DONE = 10_000
MAX_PROGRESS = 1_000


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells whether a file of this name is still the same, as far as can be told without reading it."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Raises OSError."""
        found = path.stat()
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)


@dataclass(frozen=True, slots=True)
class DoneFile:
    """A file whose content is settled. `identity` is that of the content, with the options that change what becomes of it."""

    identity: str
    name: str
    state: FileState


class DoneList:
    """The newest contents that are done, in a file with a line each. Methods block."""

    def __init__(self, path: Path) -> None:
        """Raises OSError. A line that was cut off by a crash is left out."""
        self._path = path
        self._files: dict[str, DoneFile] = {}
        self._lines = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError), path.open("rb") as file:
            for line in file:
                self._lines += 1
                with suppress(ValueError, KeyError, TypeError):
                    self._put(_parsed(line))
        self._write_anew()

    def __len__(self) -> int:
        return len(self._files)

    def get(self, identity: str) -> DoneFile | None:
        return self._files.get(identity)

    def add(self, files: Sequence[DoneFile]) -> None:
        """On disk when this returns. Raises OSError; then they may be on disk or not, and adding them again is harmless."""
        if self._lines > 2 * MAX_DONE:
            self._write_anew()
        with self._path.open("ab") as out:
            out.write(b"".join(map(_line, files)))
            out.flush()
            os.fsync(out.fileno())
        self._lines += len(files)
        for file in files:
            self._put(file)

    def _put(self, file: DoneFile) -> None:
        self._files.pop(file.identity, None)
        self._files[file.identity] = file
        if len(self._files) > MAX_DONE:
            del self._files[next(iter(self._files))]

    def _write_anew(self) -> None:
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as out:
            out.writelines(map(_line, self._files.values()))
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(self._path)
        self._lines = len(self._files)


def _line(file: DoneFile) -> bytes:
    # ASCII, also for names that are no UTF-8
    row = [file.identity, file.state.size, file.state.mtime_ns, file.state.inode, file.name]
    return json.dumps(row).encode() + b"\n"


def _parsed(line: bytes) -> DoneFile:
    identity, size, mtime_ns, inode, name = json.loads(line)
    return DoneFile(str(identity), str(name), FileState(int(size), int(mtime_ns), int(inode)))


class Progress:
    """The chunks that are settled of files that are not done: a small file each, with a line a chunk."""

    def __init__(self, directory: Path) -> None:
        """Raises OSError. Progress of files that never came to an end is forgotten, the oldest first."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        found = sorted(directory.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        for path in found[:-MAX_PROGRESS]:
            path.unlink()

    def read(self, identity: str) -> set[int]:
        """Raises OSError."""
        try:
            lines = (self._directory / identity).read_bytes().split(b"\n")
        except FileNotFoundError:
            return set()
        # the last one may be cut off
        return {int(line) for line in lines[:-1] if line.isdigit()}

    def add(self, identity: str, seq: int) -> None:
        """Raises OSError. It is not flushed to the disk: what a power cut takes is sent again."""
        with (self._directory / identity).open("ab") as out:
            out.write(b"%d\n" % seq)

    def forget(self, identity: str) -> None:
        """Raises OSError."""
        (self._directory / identity).unlink(missing_ok=True)
