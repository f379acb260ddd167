"""A real mosquitto as a process of its own: kept data, users, TLS, restart and SIGKILL. Use it as a fixture, `from brokers import broker`, or make one:

broker = Broker(tmp_path / "broker", users={"worker": "secret"}, tls=True)
broker.port; broker.restart(); broker.save(); broker.kill(); broker.start(); broker.stop()
with broker.publisher() as publish:
    publish("site/a", b"1.5", qos=1)                # confirmed by the broker when the block ends
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import paho.mqtt.client as paho
import pytest

_READY_S = 20.0
MOSQUITTO = shutil.which("mosquitto") or next((p for p in ("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto") if Path(p).exists()), None)


class Publish(Protocol):
    """Publishes one message; returns before the broker has it."""

    def __call__(self, topic: str, payload: bytes | str, *, qos: int = 1, retain: bool = False) -> None: ...


class Broker:
    """One mosquitto on a port of its own, which stays over restarts, as does what it keeps. It runs once the constructor returns."""

    def __init__(
        self, directory: Path, *, users: Mapping[str, str] | None = None, tls: bool = False, options: Mapping[str, object] | None = None
    ) -> None:
        if MOSQUITTO is None:
            pytest.fail("mosquitto is not installed: apt install mosquitto")
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        # mosquitto, started by root, goes on as another user, who must be able to write here
        (directory / "data").mkdir(exist_ok=True)
        self.port = _free_port()
        self.users = dict(users or {})
        self.tls = tls
        self._log = directory / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None
        lines = [f"listener {self.port} 127.0.0.1"]
        if os.geteuid() == 0:
            lines.append("user root")
        if self.users:
            lines += ["allow_anonymous false", f"password_file {self._password_file()}"]
        else:
            lines.append("allow_anonymous true")
        if tls:
            self._make_certificates()
            lines += [f"cafile {self.ca}", f"certfile {directory / 'server.crt'}", f"keyfile {directory / 'server.key'}"]
        kept = {
            "persistence": "true",
            "persistence_location": f"{directory / 'data'}/",
            "autosave_interval": 1,
            "max_queued_messages": 0,
            "max_inflight_messages": 0,
        }
        lines += [f"{name} {value}" for name, value in (kept | dict(options or {})).items()]
        self._config = directory / "mosquitto.conf"
        self._config.write_text("\n".join(lines) + "\n")
        self.start()

    @property
    def ca(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        assert MOSQUITTO is not None
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-c", self._config], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + _READY_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self._process.poll() is not None:
                    raise AssertionError(f"mosquitto ended with code {self._process.returncode}:\n{self.log}") from None
                if time.monotonic() > deadline:
                    self.kill()
                    raise AssertionError(f"mosquitto was not ready after {_READY_S:.0f} s:\n{self.log}") from None
                time.sleep(0.02)

    def stop(self) -> None:
        """SIGTERM: it writes down what it keeps."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: it has what it wrote before."""
        self._end(signal.SIGKILL)

    def save(self) -> None:
        """Have it write down what it keeps, and wait until that is on disk: what it has not written, SIGKILL takes."""
        assert self._process is not None
        file = self.directory / "data" / "mosquitto.db"
        before = file.stat().st_mtime_ns if file.exists() else 0
        deadline = time.monotonic() + _READY_S
        self._process.send_signal(signal.SIGUSR1)
        # renamed into its place when it is whole
        while not file.exists() or file.stat().st_mtime_ns == before:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(_READY_S)
            self._process = None

    @contextmanager
    def publisher(self) -> Iterator[Publish]:
        """A client that publishes. The block ends when the broker has confirmed all of it."""
        client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        client.max_inflight_messages_set(1000)
        if self.users:
            client.username_pw_set(*next(iter(self.users.items())))
        if self.tls:
            client.tls_set(str(self.ca), str(self.directory / "client.crt"), str(self.directory / "client.key"))
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        sent: list[paho.MQTTMessageInfo] = []

        def publish(topic: str, payload: bytes | str, *, qos: int = 1, retain: bool = False) -> None:
            sent.append(client.publish(topic, payload, qos, retain))

        try:
            yield publish
            for info in sent:
                info.wait_for_publish(30)
                assert info.is_published()
        finally:
            client.disconnect()
            client.loop_stop()

    def _password_file(self) -> Path:
        path = self.directory / "passwords"
        path.write_text("".join(f"{user}:{password}\n" for user, password in self.users.items()))
        path.chmod(0o600)
        # makes hashes of the passwords in place
        subprocess.run(["mosquitto_passwd", "-U", path], check=True)
        return path

    def _make_certificates(self) -> None:
        """A certificate authority, and certificates of it for this server (localhost) and for a client."""
        here = self.directory

        def openssl(*args: str | Path) -> None:
            subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, cwd=here)

        openssl(
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
            "-days",
            "2",
            "-subj",
            "/CN=test authority",
        )
        names = here / "names.cnf"
        names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        for name in ("server", "client"):
            openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
            signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", names)
            openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *signed)


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for a condition. Raises AssertionError if it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds:.0f} s"
        await asyncio.sleep(0.01)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A mosquitto that anybody may use."""
    made = Broker(tmp_path / "broker")
    yield made
    made.stop()
    # shown with the report of a test that failed
    print(f"--- log of mosquitto\n{made.log}")
