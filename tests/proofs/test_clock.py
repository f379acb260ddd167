"""A producer whose clock is years off: its samples are refused by name, counted, and kept in the dead-letter file, and the others are stored."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path

import orjson
import pytest
from processes import Serve

from proofs.databases import Database, assert_exactly_once
from proofs.harness import until, worker
from proofs.mqtt_worker import config, metric, metrics, mosquitto, readiness, unconfirmed
from proofs.production import Production

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

_YEAR_US = 31_557_600_000_000


def test_samples_outside_the_window_are_refused_by_name_counted_and_kept(plant_database: Database, serve: Serve, tmp_path: Path) -> None:
    server = serve(dsn=plant_database.dsn)
    now = int(time.time()) * 1_000_000
    # a quarter of an hour up to now
    right = Production("clock/right", 9000, 10, now - 900_000_000, 1_000_000)
    # of each tag some, three years back and three years ahead, in messages of their own and in one with good ones
    wrong = [(f"clock/wrong/t{n}", now + years * _YEAR_US + n) for years in (-3, 3) for n in range(20)]
    mixed = [("clock/mixed", now - 1_000_000), ("clock/mixed", now - 3 * _YEAR_US), ("clock/mixed", now)]
    limits = "max_past_s = 3600\nmax_future_s = 60"
    with (
        mosquitto(tmp_path / "broker") as broker,
        worker("mqtt", config(f'url = "{server.url}"', broker.port, topic="clock/#", more=limits), tmp_path / "worker") as taking,
    ):
        with broker.publisher() as publish:
            for n, path in enumerate(right.paths):
                _, ts, value = right.of_tag(n, 0, 900)
                publish(path, orjson.dumps([{"ts": t, "value": v} for t, v in zip(ts.tolist(), value.tolist(), strict=True)]))
            for path, ts in wrong:
                publish(path, orjson.dumps({"ts": ts, "value": 1.5}))
            publish("clock/mixed", orjson.dumps([{"ts": ts, "value": 2.5} for _, ts in mixed]))
        until(lambda: plant_database.count() >= right.samples + 2, 60, lambda: taking.log)
        # the broker need not keep what will never be stored
        until(lambda: unconfirmed(taking) == 0, 10, lambda: (readiness(taking), metrics(taking.ready["url"]), taking.log))
        assert metric(taking.ready["url"], "outside the window") == len(wrong) + 1
        assert taking.stop() == 0
    assert_exactly_once(plant_database, right)
    stored = plant_database.query("SELECT tag, count(*) FROM historian.samples WHERE NOT starts_with(tag, 'clock/right/') GROUP BY tag")
    assert stored == [("clock/mixed", 2)]
    files = (tmp_path / "worker" / "spool" / "dead-letters").glob("*.jsonl")
    letters = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    kept = sorted((letter["tag"], _us(letter["ts"]), letter["value"]) for letter in letters)
    assert kept == sorted([(path, ts, 1.5) for path, ts in wrong] + [("clock/mixed", mixed[1][1], 2.5)])
    for letter in letters:
        limit = "max_past_s" if _us(letter["ts"]) < now else "max_future_s"
        assert limit in letter["reason"], letter


def _us(iso: str) -> int:
    when = datetime.fromisoformat(iso)
    return round((when - datetime.fromisoformat("1970-01-01T00:00:00Z")).total_seconds() * 1_000_000)
