"""A database that stands still for minutes under full load: producers are held, and memory does not grow.

PROOF_PAUSE_S seconds; by default 30, and with PROOFS=full 300.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from processes import Serve

from proofs.databases import Database, assert_exactly_once
from proofs.harness import FULL, behind, producer, until, worker
from proofs.memory import assert_bounded, resident_while
from proofs.mqtt_worker import config, listening, metric, metrics, mosquitto, unconfirmed
from proofs.production import Production

PAUSE_S = float(os.environ.get("PROOF_PAUSE_S", "300" if FULL else "30"))
#: in which what may be pending fills up, and the first producers lose their patience
SETTLE_S = 15.0
GROWTH = 24 << 20
SWING = 96 << 20

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(PAUSE_S + 600)]


@pytest.fixture
def pausable(plant_database: Database) -> Database:
    if not plant_database.restartable:
        pytest.skip("the database is somebody else's (HISTORIAN_TEST_DSN): it is not paused")
    return plant_database


def test_http_producers_are_told_to_wait_and_streams_are_held_by_their_credit_while_the_database_stands_still(
    pausable: Database, serve: Serve, tmp_path: Path
) -> None:
    posted, streamed = 4_000_000, 600_000
    server = serve(dsn=pausable.dsn)
    with (
        behind(server) as (network, url),
        # more at once than may be pending
        producer("http_producer", tmp_path / "http.log", server.url, "press", "http", posted, 20_000, 160, 8) as posting,
        producer("websocket_producer", tmp_path / "websocket.log", url, "mill", "stream", streamed, 1000) as streaming,
    ):

        def check() -> None:
            assert posting.code is None, posting.log
            assert streaming.code is None, streaming.log

        until(lambda: pausable.query("SELECT count(DISTINCT producer) FROM historian.ledger") == [(2,)], 60)
        with pausable.paused():
            settled = resident_while({"server": server.pid}, SETTLE_S, check)
            passed, acked = network.bytes, metric(server.url, "historian_ingest_acked_batches")
            resident = resident_while({"server": server.pid}, PAUSE_S - SETTLE_S, check)
            assert metric(server.url, "historian_ingest_acked_batches") == acked
            assert 0 < metric(server.url, "historian_ingest_batches_in_flight") <= 256
            # pings and reconnects, and not a credit's worth of data
            assert network.bytes - passed < 1 << 20, "the stream was read on"
        assert posting.wait(300) == 0
        assert streaming.wait(300) == 0
    answered = json.loads(posting.log.rpartition("answered ")[2])
    # the producer has seen to it that each had a Retry-After
    assert answered["429"] > 0
    assert_bounded({"server": settled["server"] + resident["server"]}, settle_s=SETTLE_S, growth=GROWTH, swing=SWING)
    assert_exactly_once(pausable, Production("http", posted))
    assert_exactly_once(pausable, Production("stream", streamed))


def test_an_mqtt_worker_leaves_messages_with_the_broker_while_the_database_stands_still(pausable: Database, tmp_path: Path) -> None:
    samples = 2_000_000
    # a spool that is soon full
    more = "spool_max_bytes = 2000000"
    with (
        mosquitto(tmp_path / "broker") as broker,
        worker("mqtt", config(f'dsn = "{pausable.dsn}"', broker.port, more=more), tmp_path / "worker") as taking,
        listening(taking),
        producer("mqtt_producer", tmp_path / "producer.log", broker.port, "mqtt", samples) as publishing,
    ):

        def check() -> None:
            assert taking.code is None, taking.log
            assert publishing.code in (None, 0), publishing.log

        until(lambda: pausable.count() > 0, 60, lambda: taking.log)
        with pausable.paused():
            settled = resident_while({"worker": taking.pid}, SETTLE_S, check)
            taken = metric(taking.ready["url"], "source_samples")
            resident = resident_while({"worker": taking.pid}, PAUSE_S - SETTLE_S, check)
            assert unconfirmed(taking) > 0, metrics(taking.ready["url"])
            assert metric(taking.ready["url"], "source_samples") == taken, "it went on taking"
        until(lambda: pausable.count() >= samples, 300, lambda: taking.log)
        assert publishing.wait(60) == 0
        until(lambda: unconfirmed(taking) == 0, 60, lambda: taking.log)
        assert taking.stop() == 0
    assert_bounded({"worker": settled["worker"] + resident["worker"]}, settle_s=SETTLE_S, growth=GROWTH, swing=SWING)
    assert_exactly_once(pausable, Production("mqtt", samples))
