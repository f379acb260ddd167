"""Two programs that write under one producer's name: one at a time does, and their batches are never mixed."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import Serve, run

from proofs.databases import Database, assert_exactly_once
from proofs.harness import behind, producer, until, worker
from proofs.mqtt_worker import config, mosquitto, readiness
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
        # neither is done before the other has started
        with a.paused(), producer("websocket_producer", tmp_path / "b.log", other.url, "press", "b", samples, ROWS) as b:
            until(lambda: "once more: " in b.log, 30, lambda: b.log)
            assert "once more: producer 'press'" in b.log, b.log
            assert "on disk" not in b.log, "it was let in"
            between = plant_database.count()
            a.resume()
            until(lambda: plant_database.count() > between, 60, lambda: a.log)
            a.kill()
            until(lambda: "of 4000 batches are on disk" in b.log, 60, lambda: b.log)
            # and the other way round
            with b.paused():
                a.start()
                until(lambda: a.log.count("once more: ") > 0, 30, lambda: a.log)
            assert b.wait() == 0, b.log
            assert a.wait() == 0, a.log
    handover = int(b.log.rpartition(" of 4000 batches are on disk")[0].rpartition("\n")[2])
    assert 0 < handover < samples // ROWS
    assert_exactly_once(plant_database, Production("a", samples), 0, handover * ROWS)
    assert_exactly_once(plant_database, Production("b", samples), handover * ROWS, samples)
    # within one stream transactions may overtake each other, where it makes no difference; the second's all come behind those of the first
    batches = plant_database.query("SELECT seq, xid::text::int8 FROM historian.ledger WHERE producer = 'press' ORDER BY seq")
    assert [seq for seq, _ in batches] == list(range(samples // ROWS))
    assert max(xid for _, xid in batches[:handover]) < min(xid for _, xid in batches[handover:]), "the two are mixed"


def test_of_two_workers_with_one_name_the_second_says_so_and_keeps_its_samples_until_the_first_is_gone(
    plant_database: Database, serve: Serve, tmp_path: Path
) -> None:
    samples = 100_000
    server = serve(dsn=plant_database.dsn)
    upstream = f'url = "{server.url}"'
    with mosquitto(tmp_path / "broker") as broker:
        first_config = config(upstream, broker.port, producer="press", topic="a/#")
        # another session at the broker, or that would be what keeps them apart
        second_config = config(upstream, broker.port, producer="press", topic="b/#").replace('client_id = "press"', 'client_id = "other"')
        with worker("mqtt", first_config, tmp_path / "first") as first:
            until(lambda: readiness(first)[0] == 200, 30, lambda: first.log)
            with worker("mqtt", second_config, tmp_path / "second") as second:
                until(lambda: readiness(second)[1]["state"] == "conflict", 30, lambda: (readiness(second), second.log))
                status, document = readiness(second)
                assert status == 503
                assert "one at a time may write under a name" in document["trouble"]
                for prefix in ("a", "b"):
                    with producer("mqtt_producer", tmp_path / f"{prefix}.log", broker.port, prefix, samples) as publishing:
                        assert publishing.wait(60) == 0, publishing.log
                until(lambda: plant_database.count() >= samples, 60, lambda: first.log)
                assert_exactly_once(plant_database, Production("a", samples))
                assert plant_database.count() == samples, "the second wrote beside the first"
                assert readiness(second)[1]["state"] == "conflict"
                first.kill()
                until(lambda: plant_database.count() >= 2 * samples, 60, lambda: (readiness(second), second.log))
                assert second.stop() == 0
                assert_exactly_once(plant_database, Production("b", samples))
                # what the one has numbered is not taken for what the other has
                first.start()
                with producer("mqtt_producer", tmp_path / "c.log", broker.port, "a/more", samples) as publishing:
                    assert publishing.wait(60) == 0, publishing.log
                until(lambda: plant_database.count() >= 3 * samples, 60, lambda: (readiness(first), first.log))
                assert first.stop() == 0
    for production in (Production("a/more", samples), Production("b", samples)):
        assert_exactly_once(plant_database, production)


def test_two_workers_never_share_a_directory(plant_database: Database, serve: Serve, tmp_path: Path) -> None:
    server = serve(dsn=plant_database.dsn)
    with (
        mosquitto(tmp_path / "broker") as broker,
        worker("mqtt", config(f'url = "{server.url}"', broker.port), tmp_path / "worker") as taking,
    ):
        until(lambda: readiness(taking)[0] == 200, 30, lambda: taking.log)
        other = run("ingest", "mqtt", tmp_path / "worker" / "worker.toml", "--spool", tmp_path / "worker" / "spool")
        assert other.returncode not in (0, -9), other.stderr
        assert "is in use" in other.stderr, other.stderr
        assert "Traceback" not in other.stderr
        assert readiness(taking)[0] == 200
