"""POST /v1/write through all troubles: Arrow batches with (producer, seq), posted by a process that is itself killed."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import Serve

from proofs.databases import Database, assert_exactly_once
from proofs.harness import SAMPLES, SAMPLES_PER_S, Trouble, behind, producer
from proofs.production import Production

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_each_sample_posted_is_there_once_whatever_is_killed_restarted_and_cut(
    plant_database: Database, serve: Serve, tmp_path: Path
) -> None:
    server = serve(dsn=plant_database.proxied_dsn)
    with (
        behind(server) as (network, url),
        producer("http_producer", tmp_path / "producer.log", url, "press", "http", SAMPLES, 2000, 8, 20, SAMPLES_PER_S) as posting,
    ):
        trouble = Trouble(plant_database, SAMPLES)
        trouble.with_database_restarts()
        trouble.with_network_cuts(network, plant_database.network)
        trouble.with_server_kills(server)
        trouble.happens("producer killed", lambda _: posting.kill_and_start())

        def check() -> None:
            assert posting.code in (None, 0), posting.log
            assert server.alive

        trouble.run(check, deadline_s=600)
        assert posting.wait() == 0
    print(trouble.story())
    assert_exactly_once(plant_database, Production("http", SAMPLES))
    ((samples, batches),) = plant_database.query("SELECT sum(samples), count(*) FROM historian.ledger")
    assert (samples, batches) == (SAMPLES, -(-SAMPLES // 2000))
