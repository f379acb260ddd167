"""OPC UA through all troubles: most of the samples are in the server's history when the worker first comes, the others come while it is killed and cut off."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from proofs.databases import Database, assert_exactly_once
from proofs.harness import FINE, SAMPLES, Trouble, producer, until, worker
from proofs.production import Production
from proofs.proxy import Proxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: of each tag, while everything fails
LIVE = 300
TAGS = 50

CONFIG = f"""
[worker]
{FINE}
producer = "plc"
dsn = "{{dsn}}"

[opcua]
url = "opc.tcp://127.0.0.1:{{port}}/plant"
history = "PT12H"
history_delay_s = 1
publishing_interval_ms = 100
sampling_interval_ms = 0
timeout_s = 5

[[opcua.browse]]
include = ["opcua/#"]
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_each_sample_of_a_plant_is_there_once_whatever_is_killed_restarted_and_cut(plant_database: Database, tmp_path: Path) -> None:
    # a sample every 100 ms, up to some minutes ago
    begin = (int(time.time()) - SAMPLES // TAGS // 10 - 600) * 1_000_000
    production = Production("opcua", SAMPLES, TAGS, begin)
    port = free_port()
    with producer("opcua_server", tmp_path / "plant.log", port, "opcua", SAMPLES, LIVE, begin, TAGS) as plant:
        until(lambda: "listening" in plant.log or plant.code is not None, 60, lambda: plant.log)
        with (
            Proxy(("127.0.0.1", port)) as field,
            worker("opcua", CONFIG.format(dsn=plant_database.proxied_dsn, port=field.port), tmp_path / "worker") as taking,
        ):
            trouble = Trouble(plant_database, SAMPLES)
            trouble.with_database_restarts()
            trouble.with_network_cuts(field, plant_database.network)
            trouble.happens("worker killed", lambda _: taking.kill_and_start())

            def check() -> None:
                assert plant.code is None, plant.log
                assert taking.code is None, taking.log

            trouble.run(check, deadline_s=600)
            until(lambda: "all is there" in plant.log, 60, lambda: plant.log)
            assert taking.stop() == 0
    print(trouble.story())
    assert_exactly_once(plant_database, production)
