"""The PostgreSQL server that runs in a data directory, as its files and the processes of this machine tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What `postmaster.pid` says of the server in a data directory."""

    pid: int
    pgdata: Path
    socket_dir: Path
    ready: bool

    @classmethod
    def read(cls, pgdata: Path) -> Postmaster | None:
        try:
            lines = (pgdata / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return None
        # pid, data directory, start time, port, socket directory, address, shared memory, status: written from the top as the server comes up
        if not lines or not lines[0].strip().isdigit():
            return None
        socket_dir = Path(lines[4]) if len(lines) > 4 else Path()
        return cls(int(lines[0]), pgdata, socket_dir, len(lines) > 7 and lines[7].strip() == "ready")

    def alive(self) -> bool:
        """Whether that process is there and is a server of this directory: after a reboot, or in a new container, another may have its number."""
        try:
            return belongs(psutil.Process(self.pid), self.pgdata)
        except psutil.NoSuchProcess:
            return False


def belongs(process: psutil.Process, pgdata: Path) -> bool:
    """Whether a process is PostgreSQL at work in this directory: all of its processes have it as their working directory."""
    try:
        if not process.name().startswith("postgres") or process.status() == psutil.STATUS_ZOMBIE:
            return False
        return Path(process.cwd()) == pgdata
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        # what we may not look at is another user's, and none of ours
        return False
