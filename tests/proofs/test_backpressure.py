"""A database that stands still for minutes under full load: producers are held, and memory does not grow.

PROOF_PAUSE_S seconds; by default 30, and with HISTORIAN_PROOFS=full 300.
"""

from __future__ import annotations

import json
import os
import time
import urllib.request
from pathlib import Path

import pytest
from processes import Serve

from proofs.databases import Database, assert_exactly_once
from proofs.harness import FULL, behind, producer
from proofs.memory import assert_bounded, resident_while
from proofs.production import Production

PAUSE_S = float(os.environ.get("PROOF_PAUSE_S", "300" if FULL else "30"))
#: in which what may be pending fills up, and the first producers lose their patience
SETTLE_S = 15.0
GROWTH = 32 << 20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(PAUSE_S + 600)]


@pytest.fixture
def pausable(plant_database: Database) -> Database:
    if not plant_database.restartable:
        pytest.skip("the database is somebody else's (HISTORIAN_TEST_DSN): it is not paused")
    return plant_database


def metric(url: str, name: str) -> float:
    """One figure of /metrics."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=20) as response:
        lines = response.read().decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith((f"{name} ", f"{name}_total ")))


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

        deadline = time.monotonic() + 60
        while pausable.query("SELECT count(DISTINCT producer) FROM historian.ledger") != [(2,)]:
            check()
            assert time.monotonic() < deadline
            time.sleep(0.05)
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
    assert_bounded({"server": settled["server"] + resident["server"]}, settle_s=SETTLE_S, growth=GROWTH)
    assert_exactly_once(pausable, Production("http", posted))
    assert_exactly_once(pausable, Production("stream", streamed))
