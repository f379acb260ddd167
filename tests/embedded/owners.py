"""Processes that own embedded databases, seen from the tests: started as some user, listened to, stopped, killed."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

_SCRIPT = Path(__file__).with_name("owner.py")


class Owner:
    """A process that owns the embedded database in a directory. `started()` waits for it to run."""

    def __init__(self, directory: Path, user: str | None) -> None:
        args = [sys.executable, "-P", str(_SCRIPT), str(directory), *([user] if user not in (None, "root") else [])]
        self._directory = directory
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True)
        self.dsn = ""
        self.postgres_pid = 0
        self.seconds = 0.0

    @property
    def log(self) -> str:
        self._log.flush()
        self._log.seek(0)
        return self._log.read()

    def next(self) -> dict[str, Any]:
        """The next thing that it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the owner ended with code {self.process.wait()}:\n{self.log}"
        said: dict[str, Any] = json.loads(line)
        return said

    def outcome(self) -> dict[str, Any]:
        """What it says when it runs, or why it does not."""
        while "step" in (said := self.next()):
            pass
        return said

    def started(self) -> Owner:
        said = self.outcome()
        assert "dsn" in said, said
        self.dsn, self.postgres_pid, self.seconds = said["dsn"], said["pid"], said["seconds"]
        return self

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(60) == 0, self.log

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """Kill it, and then its PostgreSQL: the other way round, it would start it again."""
        self.kill()
        processes = postgres_processes(self._directory)
        for process in processes:
            # one may end by itself, as a backend does whose postmaster was killed just before
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=10)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        print(f"--- log of owner {self.process.pid}\n{self.log}")
        self._log.close()


def postgres_processes(below: Path) -> list[psutil.Process]:
    """The PostgreSQL processes that work in a directory or below it."""
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.name().startswith("postgres")
                and Path(process.cwd()).is_relative_to(below)
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
