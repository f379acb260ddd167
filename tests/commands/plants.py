"""A plant for tests: `historian ingest mqtt` as a process, and a device that hears its commands and answers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as paho
from processes import command, environment

#: a device for each tag below plant/
RULES = """
[[mqtt.rule]]
topic = "plant/+"

[[mqtt.command]]
tag = "plant/+"
topic = "to/{1}/set"
"""


class Device:
    """Hears `to/#`: `heard` are topic, payload and when it came, by the clock that does not jump. With `answers` it publishes each value as what it has now."""

    def __init__(self, port: int, *, answers: bool = False) -> None:
        self.heard: list[tuple[str, dict[str, Any], float]] = []
        self._answers = answers
        self._subscribed = threading.Event()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe("to/#", 1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)

    def __enter__(self) -> Self:
        self._client.loop_start()
        assert self._subscribed.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, client: paho.Client, _: object, message: paho.MQTTMessage) -> None:
        payload = json.loads(message.payload)
        self.heard.append((message.topic, payload, time.monotonic()))
        if self._answers:
            value = payload["value"] if isinstance(payload, dict) else payload
            client.publish(f"plant/{message.topic.split('/')[1]}", json.dumps({"value": value}), 1)

    @property
    def numbers(self) -> list[int]:
        return [payload["command_id"] for _, payload, _ in self.heard]


class PlantWorker:
    """`historian ingest mqtt`, with RULES."""

    def __init__(self, directory: Path, upstream: str, port: int, name: str = "plant", rules: str = RULES) -> None:
        self.directory = directory / name
        self.directory.mkdir(exist_ok=True)
        config = self.directory / "worker.toml"
        config.write_text(
            f'[worker]\nproducer = "{name}"\n{upstream}\n[mqtt]\nhost = "127.0.0.1"\nport = {port}\nclient_id = "{name}"\n'
            f"reconnect_longest_s = 0.5\n{rules}"
        )
        self._log = self.directory / "worker.log"
        ready = self.directory / "ready.json"
        ready.unlink(missing_ok=True)
        args = command("ingest", "mqtt", config, "--spool", self.directory, "--status-port", "0", "--ready-file", ready)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(args, env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(lambda: "connected as" in self.log or self._process.poll() is not None, lambda: self.log)
        assert self._process.poll() is None, self.log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)


@contextlib.contextmanager
def plant_worker(directory: Path, upstream: str, port: int, name: str = "plant", rules: str = RULES) -> Iterator[PlantWorker]:
    made = PlantWorker(directory, upstream, port, name, rules)
    try:
        yield made
    finally:
        made.kill()
        print(f"--- log of worker {name}\n{made.log[-5000:]}")


def until(condition: Callable[[], object], shown: Callable[[], object] = lambda: "", seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, shown()
        time.sleep(0.02)
