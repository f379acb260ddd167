"""MQTT through all troubles: a real mosquitto, a worker that is killed, and the whole way from it to the database."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import Serve

from proofs.databases import Database, assert_exactly_once
from proofs.harness import FINE, SAMPLES, SECONDS, Trouble, behind, producer, worker
from proofs.mqtt_worker import config, listening, mosquitto
from proofs.production import Production
from proofs.proxy import Proxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_each_sample_published_is_there_once_whatever_is_killed_restarted_and_cut(
    plant_database: Database, serve: Serve, tmp_path: Path
) -> None:
    server = serve(dsn=plant_database.proxied_dsn)
    with (
        mosquitto(tmp_path / "broker") as broker,
        behind(server) as (network, url),
        Proxy(("127.0.0.1", broker.port)) as field,
        worker("mqtt", config(f'url = "{url}"', field.port, more=FINE), tmp_path / "worker") as taking,
        listening(taking),
        producer("mqtt_producer", tmp_path / "producer.log", broker.port, "mqtt", SAMPLES, SECONDS) as publishing,
    ):
        trouble = Trouble(plant_database, SAMPLES)
        trouble.with_database_restarts()
        trouble.with_network_cuts(network, field, plant_database.network)
        trouble.with_server_kills(server)
        trouble.happens("worker killed", lambda _: taking.kill_and_start())

        def check() -> None:
            assert publishing.code in (None, 0), publishing.log
            assert taking.code is None, taking.log
            assert server.alive

        trouble.run(check, deadline_s=600)
        assert publishing.wait() == 0
        assert taking.stop() == 0
    print(trouble.story())
    assert_exactly_once(plant_database, Production("mqtt", SAMPLES))
