"""Sparkplug B through all troubles: an edge node with aliases, which is born again when it is asked to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from proofs.databases import Database, assert_exactly_once
from proofs.harness import FINE, SAMPLES, SECONDS, Trouble, producer, until, worker
from proofs.mqtt_worker import listening, mosquitto
from proofs.production import Production
from proofs.proxy import Proxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CONFIG = f"""
[worker]
{FINE}
producer = "sparkplug"
dsn = "{{dsn}}"

[sparkplug]
host = "127.0.0.1"
port = {{port}}
client_id = "sparkplug"
reconnect_longest_s = 2
groups = ["sparkplug"]
tag = "{{{{group}}}}/{{{{metric}}}}"
"""


def test_each_sample_of_an_edge_node_is_there_once_whatever_is_killed_restarted_and_cut(plant_database: Database, tmp_path: Path) -> None:
    with (
        mosquitto(tmp_path / "broker") as broker,
        Proxy(("127.0.0.1", broker.port)) as field,
        worker("sparkplug", CONFIG.format(dsn=plant_database.proxied_dsn, port=field.port), tmp_path / "worker") as taking,
        listening(taking),
        producer("sparkplug_producer", tmp_path / "producer.log", broker.port, "sparkplug", SAMPLES, SECONDS) as node,
    ):
        trouble = Trouble(plant_database, SAMPLES)
        trouble.with_database_restarts()
        trouble.with_network_cuts(field, plant_database.network)
        trouble.happens("worker killed", lambda _: taking.kill_and_start())

        def check() -> None:
            assert node.code is None, node.log
            assert taking.code is None, taking.log

        trouble.run(check, deadline_s=600)
        until(lambda: "all is there" in node.log, 60, lambda: node.log)
        # before the node dies, and its tags go stale
        assert taking.stop() == 0
    print(trouble.story())
    assert_exactly_once(plant_database, Production("sparkplug", SAMPLES))
