"""Files of a folder: which to take next, and where they go when they are done or at fault.

A file is moved by a rename within its folder's file system, never copied, and never over another file.
"""

from __future__ import annotations

import fnmatch
import heapq
import os
import time
from collections.abc import Iterator, Sequence, Set
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

from historian.ingest.files.layout import stem
from historian.ingest.sources.folder_state import FileState

DONE = "done"
FAILED = "failed"
ERROR_SUFFIX = ".error.txt"
#: as writers name what is not finished
_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".filepart", "~")
_MAX_NAME_BYTES = 255
_MAX_SUFFIX = 40
_LEAVING = ".historian-done"


class Folder:
    """The folder that files are dropped into. Methods block, and raise OSError when it is away or may not be written."""

    def __init__(self, path: Path, patterns: Sequence[str]) -> None:
        self.path = path
        self._patterns = tuple(patterns)

    def prepare(self) -> None:
        """See that files can be moved before any is taken."""
        for name in (DONE, FAILED):
            (self.path / name).mkdir(exist_ok=True)
        for directory in (self.path, self.path / DONE, self.path / FAILED):
            if not os.access(directory, os.W_OK | os.X_OK):
                raise PermissionError(13, "may not be written, so files could not be moved when they are done", str(directory))

    def sweep(self) -> None:
        """Delete what a killed process was about to."""
        for path in self.path.glob(f"{_LEAVING}*"):
            path.unlink()

    def oldest(self, limit: int, without: Set[str]) -> list[tuple[str, FileState]]:
        """The files that are to be taken, the oldest first; memory is bounded by `limit`, however many there are."""
        found = heapq.nsmallest(limit, self._files(without))
        return [(name, FileState(size, mtime_ns, inode)) for mtime_ns, name, size, inode in found]

    def states(self, names: Sequence[str]) -> list[tuple[str, FileState]]:
        """Of these files, as far as they are there."""
        found = []
        for name in names:
            with suppress(FileNotFoundError):
                stat = (self.path / name).stat(follow_symlinks=False)
                if S_ISREG(stat.st_mode):
                    found.append((name, FileState(stat.st_size, stat.st_mtime_ns, stat.st_ino)))
        return found

    def _files(self, without: Set[str]) -> Iterator[tuple[int, str, int, int]]:
        with os.scandir(self.path) as entries:
            for entry in entries:
                name = entry.name
                if name in without or not self.is_wanted(name):
                    continue
                # it may be gone meanwhile
                with suppress(FileNotFoundError):
                    # a link may point anywhere, and not at the same when it is moved
                    if entry.is_file(follow_symlinks=False):
                        stat = entry.stat(follow_symlinks=False)
                        yield stat.st_mtime_ns, name, stat.st_size, stat.st_ino

    def is_wanted(self, name: str) -> bool:
        if name.startswith(".") or name.lower().endswith(_UNFINISHED):
            return False
        return any(fnmatch.fnmatch(name, pattern) for pattern in self._patterns)

    def move_done(self, name: str, state: FileState, *, duplicate: bool = False) -> bool:
        """Into done/. False if the file is another one by now, which stays, or gone."""
        return self._move(name, state, self._free(DONE, name, "~duplicate" if duplicate else "")) is not None

    def delete(self, name: str, state: FileState) -> bool:
        """False if the file is another one by now, which stays, or gone."""
        # as what is renamed can be looked at once more before it is gone
        moved = self._move(name, state, self._free("", _LEAVING, ""))
        if moved is not None:
            moved.unlink()
        return moved is not None

    def move_failed(self, name: str, state: FileState, error: str) -> bool:
        """Into failed/, and the error beside it. False if the file is another one by now, which stays, or gone."""
        moved = self._move(name, state, self._free(FAILED, name, ""))
        if moved is None:
            return False
        text = moved.with_name(_fitting(moved.name, ERROR_SUFFIX))
        text.write_text(error + "\n", encoding="utf-8", errors="backslashreplace")
        return True

    def _move(self, name: str, state: FileState, target: Path) -> Path | None:
        source = self.path / name
        try:
            if FileState.of(source) != state:
                return None
            source.rename(target)
        except FileNotFoundError:
            # raises if it is the folder that is gone
            self.path.stat()
            return None
        if FileState.of(target) != state:
            # put there in the instant before
            if not source.exists():
                target.rename(source)
            return None
        return target

    def _free(self, directory: str, name: str, mark: str) -> Path:
        """A name that no file has."""
        path = self.path / directory
        if not mark and not os.path.lexists(path / name):
            return path / name
        head = stem(Path(name))
        suffix = name[len(head) :]
        while True:
            target = path / _fitting(head, f"{mark}~{time.time_ns() // 1000}{suffix if len(suffix) < _MAX_SUFFIX else ''}")
            if not os.path.lexists(target):
                return target


def _fitting(name: str, after: str) -> str:
    """One name of the two, short enough for a file system: the first is cut."""
    return os.fsdecode(os.fsencode(name)[: _MAX_NAME_BYTES - len(os.fsencode(after))]) + after
