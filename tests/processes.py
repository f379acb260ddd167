"""The command line as its users have it: commands and servers as processes of their own, with what they said at hand when a test fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

#: the repository
ROOT = Path(__file__).resolve().parent.parent

#: a server's first start makes its database
READY_S = 60.0
STOP_S = 60.0
_POLL_S = 0.02


def command(*args: str | os.PathLike[str]) -> list[str]:
    """`historian ARGS…` for subprocess. -P: the working directory may be the repository, whose historian/ is only a part of the package."""
    return [sys.executable, "-P", "-m", "historian", *map(os.fspath, args)]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, without any HISTORIAN_ setting of the person who runs the tests, and with these."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HISTORIAN_")}
    return env | {"NO_COLOR": "1", "COLUMNS": "160"} | dict(extra or {})


def run(
    *args: str | os.PathLike[str],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout: float = 120.0,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever that is; output as text."""
    return subprocess.run(
        command(*args), env=environment(env), cwd=cwd, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
    )


class ServerProcess:
    """A command that serves until it is stopped: `historian serve`, `historian demo`. It is ready once the constructor returns.

    `directory` takes its ready file and its log. `url` stays the same over `restart`.
    """

    def __init__(self, args: Sequence[str | os.PathLike[str]], directory: Path, *, env: Mapping[str, str] | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._args = list(args)
        self._env = environment(env)
        self._ready_file = directory / "ready.json"
        self._log_file = directory / "server.log"
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """All it has said so far, over restarts."""
        return self._log_file.read_text(errors="replace") if self._log_file.exists() else ""

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it is ready. Raises AssertionError, with what it said, if it ends or takes too long."""
        assert not self.alive
        self._ready_file.unlink(missing_ok=True)
        args = [*self._args, "--port", str(self._port), "--ready-file", self._ready_file]
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(command(*args), env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_S
        # written whole, by renaming
        while not self._ready_file.exists():
            if self._process.poll() is not None:
                raise AssertionError(f"the server ended with code {self._process.returncode} before it was ready:\n{self.log}")
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the server was not ready after {READY_S:.0f} s:\n{self.log}")
            time.sleep(_POLL_S)
        self.url = json.loads(self._ready_file.read_text())["url"]
        port = urlsplit(self.url).port
        assert port is not None
        self._port = port

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, timeout: float = STOP_S) -> int:
        """Wait until it ends by itself. Returns its exit code. Raises AssertionError, with what it said, if it does not."""
        assert self._process is not None
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server still runs after {timeout:.0f} s:\n{self.log}") from None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Its embedded PostgreSQL, if it has one, stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop, and wait. Returns its exit code."""
        if self.alive:
            self.send(number)
        return self.wait()

    def restart(self) -> None:
        """Stop it if it runs, and start it on the same port."""
        if self.alive:
            self.stop()
        self.start()


class Serve(Protocol):
    """Starts `historian serve OPTIONS…` as a process, on a database or an embedded one in a directory, by default on the test's `database`."""

    def __call__(
        self, *options: str, dsn: str | None = None, data_dir: Path | None = None, env: dict[str, str] | None = None
    ) -> ServerProcess: ...
