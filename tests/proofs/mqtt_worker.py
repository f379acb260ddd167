"""What the proofs that have an MQTT worker in them share: its configuration, its broker, and what its status port says."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sources.brokers import Broker

from proofs.harness import Process, until


def config(upstream: str, port: int, *, producer: str = "edge", topic: str = "mqtt/#", more: str = "") -> str:
    """`upstream` is a line of TOML, `url = "…"` or `dsn = "…"`; `more` are further lines of `[worker]`."""
    return f"""
[worker]
producer = "{producer}"
{upstream}
{more}

[mqtt]
host = "127.0.0.1"
port = {port}
client_id = "{producer}"
reconnect_longest_s = 2

[[mqtt.rule]]
topic = "{topic}"
timestamp_unit = "us"
"""


@contextmanager
def mosquitto(directory: Path) -> Iterator[Broker]:
    """A broker that keeps its sessions, and as many messages as come."""
    made = Broker(directory)
    try:
        yield made
    finally:
        made.stop()
        print(f"--- log of mosquitto\n{made.log[-5000:]}")


@contextmanager
def listening(worker: Process) -> Iterator[None]:
    """Once the worker has subscribed: what was published before is not for it."""
    until(lambda: readiness(worker)[0] == 200, 30, lambda: (readiness(worker), worker.log))
    yield


def unconfirmed(worker: Process) -> float:
    """Messages that the worker has from its broker and has not acknowledged."""
    return metric(worker.ready["url"], "unacknowledged")


def readiness(worker: Process) -> tuple[int, dict[str, Any]]:
    """What /readyz of a worker answers."""
    try:
        with urllib.request.urlopen(f"{worker.ready['url']}/readyz", timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def metrics(url: str) -> dict[str, float]:
    """All figures of /metrics, by their names with their labels."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=20) as response:
        lines = response.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}


def metric(url: str, contains: str) -> float:
    """The sum of the figures whose names or labels have this in them."""
    found = [value for name, value in metrics(url).items() if contains in name and not name.endswith("_created")]
    assert found, f"/metrics has no {contains}"
    return sum(found)
