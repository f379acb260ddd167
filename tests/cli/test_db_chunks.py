"""`historian db chunks`, and what `historian db status` says of how the samples lie on disk."""

from __future__ import annotations

import json

import psycopg
import pytest
from processes import run

from historian.schema.engine import Engine


def fill(dsn: str) -> None:
    """Ten thousand samples a day, on two days of different months."""
    with psycopg.connect(dsn) as conn:
        if conn.execute("SELECT to_regprocedure('historian.make_partitions(int[])')").fetchone() != (None,):
            conn.execute("SELECT historian.make_partitions('{670, 671}')")
        conn.execute(
            "INSERT INTO historian.sample (tag_id, quality, ts, mantissa)"
            " SELECT 1, 192, day + n * interval '8 s', n % 50 FROM generate_series(1, 10000) AS n,"
            " unnest('{2025-11-03 00:00+00, 2025-12-05 00:00+00}'::timestamptz[]) AS day"
        )


def test_the_parts_are_listed_with_their_sizes(database: str, engine: Engine) -> None:
    fill(database)
    shown = run("db", "chunks", "--dsn", database)
    assert shown.returncode == 0, shown.stderr
    assert "2025-11-0" in shown.stdout
    assert "2025-12-0" in shown.stdout
    assert ("2 chunks" if engine == "timescale" else "2 months") in shown.stdout
    document = json.loads(run("db", "status", "--json", "--dsn", database).stdout)["storage"]
    assert document["parts"] == 2
    assert document["size_bytes"] > 1_000_000
    assert (document["chunking"] is not None) == (engine == "timescale")
    assert len(document["due"]) == (2 if engine == "timescale" else 0)


def test_what_is_due_is_done_at_once_when_asked(database: str, engine: Engine) -> None:
    if engine != "timescale":
        pytest.skip("plain PostgreSQL has no chunks to convert")
    fill(database)
    shown = run("db", "chunks", "--now", "--json", "--dsn", database)
    assert shown.returncode == 0, shown.stderr
    document = json.loads(shown.stdout)
    assert document["due"] == []
    assert document["forms"]["columnstore"]["parts"] == 2
    assert document["forms"]["columnstore"]["bytes_a_sample"] < 10
    status = run("db", "status", "--dsn", database)
    assert status.returncode == 0, status.stderr
    assert "bytes a sample" in status.stdout
    assert "samples a day" in status.stdout


def test_the_interval_is_set_by_hand_and_given_back(database: str, engine: Engine) -> None:
    if engine != "timescale":
        pytest.skip("plain PostgreSQL has a partition for each month")
    by_hand = run("db", "chunks", "--interval", "6h", "--dsn", database)
    assert by_hand.returncode == 0, by_hand.stderr
    assert "6h, chosen by hand; converted after 12h" in " ".join(by_hand.stdout.split())
    given_back = run("db", "chunks", "--interval", "auto", "--json", "--dsn", database)
    assert json.loads(given_back.stdout)["chunking"]["by_hand"] is False


def test_plain_postgresql_refuses_an_interval_and_says_why(database: str, engine: Engine) -> None:
    if engine != "plain":
        pytest.skip("TimescaleDB has chunks")
    refused = run("db", "chunks", "--interval", "6h", "--dsn", database)
    assert refused.returncode == 1
    assert "calendar month" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_what_is_no_interval_is_refused_before_anything_is_done() -> None:
    refused = run("db", "chunks", "--interval", "soon", "--dsn", "postgresql://nobody@127.0.0.1:1/none")
    assert refused.returncode == 1
    assert "1h to 30d" in refused.stderr


def test_an_database_as_owner_and_one_without_schema(database: str, database_as_owner: str) -> None:
    shown = run("db", "chunks", "--dsn", database)
    assert shown.returncode == 0, shown.stderr
    with psycopg.connect(database_as_owner, autocommit=True) as conn:
        conn.execute("DROP SCHEMA historian CASCADE")
    refused = run("db", "chunks", "--dsn", database_as_owner)
    assert refused.returncode == 1
    assert "historian db init" in refused.stderr
