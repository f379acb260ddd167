"""TimescaleDB in WebAssembly as a process: started, awaited by the line that it says when it is ready, dumped, stopped.

It serves one client at a time over PostgreSQL's protocol (see serve.mjs) and refuses another; the next one finds nothing of the session before it. What it does not do:

- COPY FROM STDIN is refused: the build cannot wait for data in the middle of a statement. Feed it by INSERT.
- There are no background workers: jobs stand as they should, and run when a test calls them.
- Cancelling a statement does nothing. One that takes too long ends the process, and with it the connection: a test fails, and the next one gets a new process.
- A function that calls itself for ever is not stopped by the limit of the stack, but by that of the time.
- Clients are not told of changed settings: they go on believing in the time zone of the session's start, which is UTC.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

_HERE = Path(__file__).resolve().parent
sys.path.append(os.fspath(_HERE.parent.parent / "scripts"))

from build_web import BuildError, find_node, is_installed  # noqa: E402

_ADVICE = "run: python scripts/timescale.py"

#: making a cluster takes 3 s of two idle cores
READY_S = 120.0
#: the slowest statements of these tests take a second
DEADLINE_S = 90.0


def _lacking(what: str) -> NoReturn:
    """In CI a test that cannot run has failed; who works without a network is told why it did not run."""
    if os.environ.get("CI", "").lower() in ("1", "true") or os.environ.get("TIMESCALE") == "required":
        pytest.fail(f"{what}; {_ADVICE}", pytrace=False)
    pytest.skip(f"{what}; {_ADVICE}")


def _node() -> str:
    """The Node that scripts/timescale.py installs with."""
    try:
        node = shutil.which("node", path=find_node().bin_dir)
    except BuildError as error:
        _lacking(str(error))
    if node is None or not is_installed(_HERE):
        _lacking("the TimescaleDB of these tests is not installed, or another version of it is")
    return node


class TimescaleProcess:
    """A database of its own, in memory; ready once the constructor returns. `dump`: what an earlier one held. `log` takes what it says on stderr."""

    def __init__(self, log: Path, dump: Path | None = None, *, deadline_s: float = DEADLINE_S) -> None:
        self._log_file = log
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        command = [_node(), "serve.mjs", f"{deadline_s:g}", *([os.fspath(dump)] if dump is not None else [])]
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(command, cwd=_HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True)
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            port = self._answer()["ready"]
        except BaseException:
            self.stop()
            raise
        self.dsn = f"postgresql://postgres@127.0.0.1:{port}/postgres"

    @property
    def log(self) -> str:
        return self._log_file.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def _listen(self) -> None:
        assert self._process.stdout is not None
        # a pipe that is closed while it is read
        with contextlib.suppress(ValueError):
            for line in self._process.stdout:
                self._said.put(line)
        # its end
        self._said.put("")

    def _answer(self) -> dict[str, Any]:
        try:
            line = self._said.get(timeout=READY_S)
        except queue.Empty:
            raise TimeoutError(f"TimescaleDB said nothing for {READY_S:.0f} s\n{self.log}") from None
        if not line:
            raise RuntimeError(f"TimescaleDB ended\n{self.log}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def dump(self, file: Path) -> None:
        """Write all that it holds to a file, for others to start with. Waits until no client is connected."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"dump {file}\n")
        self._process.stdin.flush()
        assert self._answer() == {"dumped": os.fspath(file)}

    def wait(self) -> int:
        """For its end, by itself. Returns its exit code."""
        return self._process.wait(READY_S)

    def stop(self) -> None:
        """End it; nothing that it held is kept."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


@contextmanager
def running(directory: Path, dump: Path | None = None, *, deadline_s: float = DEADLINE_S) -> Iterator[TimescaleProcess]:
    """A process, stopped at the end; what it said on stderr is shown with a test that failed."""
    process = TimescaleProcess(directory / "timescale.log", dump, deadline_s=deadline_s)
    try:
        yield process
    finally:
        process.stop()
        print(f"--- TimescaleDB\n{process.log}")
