"""TimescaleDB in WebAssembly as a process: started, awaited by the line that it says when it is ready, dumped, stopped.

It serves one client at a time over PostgreSQL's protocol (see serve.mjs); the next one waits until the one before it has gone, and finds nothing of its session.
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
from typing import Any

import pytest

_HERE = Path(__file__).resolve().parent
sys.path.append(os.fspath(_HERE.parent.parent / "scripts"))

from build_web import BuildError, find_node, is_installed  # noqa: E402

_ADVICE = "run: python scripts/timescale.py"

#: without a dump it makes a whole database cluster, on one core
READY_S = 120.0


def _node() -> str:
    """The Node that scripts/timescale.py installs with. Fails the test, saying what to do, where there is none or nothing was installed."""
    try:
        node = shutil.which("node", path=find_node().bin_dir)
    except BuildError as error:
        pytest.fail(f"{error}; then {_ADVICE}", pytrace=False)
    if node is None or not is_installed(_HERE):
        pytest.fail(f"the TimescaleDB of these tests is not installed, or another version of it is; {_ADVICE}", pytrace=False)
    return node


class TimescaleProcess:
    """A database of its own, in memory; ready once the constructor returns. `dump`: what an earlier one held. `log` takes what it says on stderr."""

    def __init__(self, log: Path, dump: Path | None = None) -> None:
        self._log_file = log
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [_node(), "serve.mjs", *([os.fspath(dump)] if dump is not None else [])],
                cwd=_HERE,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            port = self._answer(READY_S)["ready"]
        except BaseException:
            self.stop()
            raise
        self.dsn = f"postgresql://postgres:postgres@127.0.0.1:{port}/postgres?sslmode=disable"

    @property
    def log(self) -> str:
        return self._log_file.read_text(errors="replace")

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(line)
        # its end
        self._said.put("")

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        try:
            line = self._said.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError(f"TimescaleDB said nothing for {timeout_s:.0f} s\n{self.log}") from None
        if not line:
            raise RuntimeError(f"TimescaleDB ended\n{self.log}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def dump(self, file: Path) -> None:
        """Write all that it holds to a file, for others to start with. Waits until no client is connected."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"dump {file}\n")
        self._process.stdin.flush()
        assert self._answer(READY_S) == {"dumped": os.fspath(file)}

    def stop(self) -> None:
        """End it; nothing that it held is kept."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


@contextmanager
def running(directory: Path, dump: Path | None = None) -> Iterator[TimescaleProcess]:
    """A process, stopped at the end; what it said on stderr is shown with a test that failed."""
    process = TimescaleProcess(directory / "timescale.log", dump)
    try:
        yield process
    finally:
        process.stop()
        print(f"--- TimescaleDB\n{process.log}")
