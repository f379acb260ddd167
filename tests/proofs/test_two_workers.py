"""Two programs that write under one producer's name: one at a time does, and their batches are never mixed."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import Serve

from proofs.databases import Database, assert_exactly_once
from proofs.harness import behind, producer, until
from proofs.production import Production

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROWS = 100


def test_of_two_streams_with_one_name_the_second_is_refused_until_the_first_is_gone(
    plant_database: Database, serve: Serve, tmp_path: Path
) -> None:
    samples = 400_000
    server = serve(dsn=plant_database.dsn)
    # two servers on one database: the name is the database's, not a server's
    other = serve(dsn=plant_database.dsn)
    with (
        behind(server) as (_, url),
        producer("websocket_producer", tmp_path / "a.log", url, "press", "a", samples, ROWS) as a,
    ):
        until(lambda: plant_database.count() > samples // 10, 60, lambda: a.log)
        with producer("websocket_producer", tmp_path / "b.log", other.url, "press", "b", samples, ROWS) as b:
            until(lambda: "once more: " in b.log, 60, lambda: b.log)
            assert "once more: producer 'press'" in b.log, b.log
            assert "on disk" not in b.log, "it was let in"
            between = plant_database.count()
            until(lambda: plant_database.count() > between, 60, lambda: a.log)
            a.kill()
            until(lambda: "of 4000 batches are on disk" in b.log, 60, lambda: b.log)
            # and the other way round
            a.start()
            until(lambda: a.log.count("once more: ") > 0, 60, lambda: a.log)
            assert b.wait() == 0, b.log
            assert a.wait() == 0, a.log
    handover = int(b.log.rpartition(" of 4000 batches are on disk")[0].rpartition("\n")[2])
    assert 0 < handover < samples // ROWS
    assert_exactly_once(plant_database, Production("a", samples), 0, handover * ROWS)
    assert_exactly_once(plant_database, Production("b", samples), handover * ROWS, samples)
    batches = plant_database.query("SELECT seq FROM historian.ledger WHERE producer = 'press' ORDER BY xid, seq")
    assert [seq for (seq,) in batches] == list(range(samples // ROWS)), "batches were committed in another order"
