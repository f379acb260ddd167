"""A real nats-server with JetStream as a process of its own: restart, SIGKILL, and a stop that looks like a broken network.

Use it as a fixture, `from nats_server import nats`, or make one.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_READY_S = 20.0
NATS_SERVER = shutil.which("nats-server") or next(
    (p for p in ("/usr/sbin/nats-server", "/usr/local/bin/nats-server") if Path(p).exists()), None
)


class NatsServer:
    """One NATS on a port of its own, which stays over restarts, as does what JetStream has on disk. It runs once the constructor returns."""

    def __init__(self, directory: Path, *options: str) -> None:
        if NATS_SERVER is None:
            pytest.fail("nats-server is not installed: apt install nats-server")
        directory.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._log = directory / "nats.log"
        self._command = [
            NATS_SERVER,
            "--addr",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--jetstream",
            "--store_dir",
            str(directory / "data"),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + _READY_S
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as conn:
                    conn.settimeout(1)
                    if conn.recv(64).startswith(b"INFO"):
                        return
            except OSError:
                pass
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"nats-server was not ready:\n{self.log}")
            time.sleep(0.02)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Have it stand still: connections stay, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            # one that stands still takes no signal but this one
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(_READY_S)
            self._process = None


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A NATS that anybody may use."""
    made = NatsServer(tmp_path / "nats")
    yield made
    made.stop()
    # shown with the report of a test that failed
    print(f"--- log of nats-server\n{made.log}")
