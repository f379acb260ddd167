"""/v1/ingest through all troubles: a producer with many batches under way, killed and started again."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import Serve

from proofs.databases import Database, assert_exactly_once
from proofs.harness import SAMPLES, SAMPLES_PER_S, Trouble, behind, producer
from proofs.production import Production

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_each_sample_streamed_is_there_once_whatever_is_killed_restarted_and_cut(
    plant_database: Database, serve: Serve, tmp_path: Path
) -> None:
    server = serve(dsn=plant_database.proxied_dsn)
    with (
        behind(server) as (network, url),
        producer("websocket_producer", tmp_path / "producer.log", url, "mill", "stream", SAMPLES, 250, SAMPLES_PER_S) as streaming,
    ):
        trouble = Trouble(plant_database, SAMPLES)
        trouble.with_database_restarts()
        trouble.with_network_cuts(network, plant_database.network)
        trouble.with_server_kills(server)
        trouble.happens("producer killed", lambda _: streaming.kill_and_start())

        def check() -> None:
            assert streaming.code in (None, 0), streaming.log
            assert server.alive

        trouble.run(check, deadline_s=600)
        assert streaming.wait() == 0
    print(trouble.story())
    assert_exactly_once(plant_database, Production("stream", SAMPLES))
    ((samples, batches, last),) = plant_database.query("SELECT sum(samples), count(*), max(seq) FROM historian.ledger")
    assert (samples, batches) == (SAMPLES, last + 1)
