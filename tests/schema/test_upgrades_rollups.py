"""Buckets of what was there before there were buckets: complete from the moment of the upgrade on, while they are made, and afterwards, on both engines."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from rollup_reference import COLUMNS, LEVELS, Row, assert_equal, expected

from historian.schema.engine import Engine
from historian.schema.migrate import upgrade

DAY = 86_400_000_000
#: the first versions with samples, with their ledger, and the last before there were rollups
BEFORE_ROLLUPS = (3, 4, 6)


def weeks_of_samples() -> list[Row]:
    """Of two tags, up to this moment: some weeks with gaps, and single hours from long ago, one of them before 1970."""
    chance = random.Random(20)
    now = int(time.time()) * 1_000_000
    rows: dict[tuple[int, int], Row] = {}
    for tag in (1, 2):
        times = [now - back * DAY + n * 37_000_000 for back in (400, 399, 200, 100) for n in range(20)]
        times += [-5 * DAY]
        ts = now - 25 * DAY
        while ts < now:
            times.append(ts)
            ts += chance.choice([1, 5, 60, 600, 1800, 7200, 40_000]) * 1_000_000
        for ts in times:
            rows[tag, ts] = Row(tag, ts, chance.randint(-10_000, 10_000) / 100, chance.choice([192, 192, 192, 64, 0]))
    return list(rows.values())


def fill(dsn: str, engine: Engine, rows: list[Row]) -> None:
    with psycopg.connect(dsn) as conn:
        for tag in (1, 2):
            conn.execute("INSERT INTO historian.tag (path, kind, step) VALUES (%s, 'float', false)", [f"u/{tag}"])
        if engine == "plain":
            conn.execute(
                "SELECT historian.make_partitions(array_agg(DISTINCT (extract(year FROM ts) * 12 + extract(month FROM ts) - 1 - 1970 * 12)::int))"
                " FROM (SELECT to_timestamp(us / 1e6) AT TIME ZONE 'UTC' AS ts FROM unnest(%s::int8[]) us) AS stamps",
                [[row.ts for row in rows]],
            )
        conn.execute(
            "INSERT INTO historian.sample (tag_id, scale, quality, ts, mantissa)"
            " SELECT tag_id, 2, quality, timestamptz 'epoch' + us * interval '1 microsecond', mantissa"
            " FROM unnest(%s::int4[], %s::int2[], %s::int8[], %s::int8[]) AS r (tag_id, quality, us, mantissa)",
            [
                [row.tag_id for row in rows],
                [row.quality for row in rows],
                [row.ts for row in rows],
                [round(row.value * 100) for row in rows],
            ],
        )


def buckets(conn: psycopg.Connection[Any], level: str) -> dict[tuple[int, int], dict[str, Any]]:
    cursor = conn.execute(f"SELECT {COLUMNS} FROM historian.rollup_{level}".encode())
    assert cursor.description is not None
    names = [column.name for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    found = {(row["tag_id"], row["bucket"]): row for row in rows}
    assert len(found) == len(rows), f"{level}: a bucket is there twice"
    return found


def refreshed(dsn: str, engine: Engine) -> Iterator[None]:
    """Has all that is over made. Yields while that goes on."""
    with psycopg.connect(dsn, autocommit=True) as conn, ThreadPoolExecutor(1) as pool:
        if engine == "plain":
            while conn.execute("SELECT historian.refresh_rollups(now(), 6000)").fetchone() != (0,):
                yield
            return
        job = pool.submit(conn.execute, """CALL historian.tend_rollups(NULL, '{"all": true}')""")
        while not job.done():
            yield
        job.result()


@pytest.mark.parametrize("version", BEFORE_ROLLUPS)
def test_buckets_are_complete_after_an_upgrade_while_they_are_made_and_when_they_are(
    empty_database: str, engine: Engine, version: int
) -> None:
    rows = weeks_of_samples()
    upgrade(empty_database, to=version)
    fill(empty_database, engine, rows)
    wanted = {level: expected(rows, seconds) for level, seconds in LEVELS.items()}
    upgrade(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute("SET timezone = 'UTC'")

        def check(when: str) -> None:
            # the highest first: it is made of all others
            for level in reversed(LEVELS):
                assert_equal(buckets(conn, level), wanted[level], f"{level}, {when}")

        check("before any refresh")
        for _ in refreshed(empty_database, engine):
            check("during the refresh")
        check("after the refresh")
        # what is read now was made, and not aggregated while it is read
        if engine == "timescale":
            made = conn.execute("SELECT count(*) FROM historian.rollup_turn WHERE refreshed_at IS NOT NULL").fetchone()
            stored = conn.execute(
                "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)"
                " FROM timescaledb_information.continuous_aggregates WHERE view_schema = 'historian' AND view_name = 'rollup_1d'"
            ).fetchone()
            assert made == (len(LEVELS),)
            assert stored is not None
            table = stored[0]
        else:
            table = "historian.rollup_1d_stored"
        days = conn.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
        # all but those that are still being filled
        assert days is not None
        assert 0 <= len(wanted["1d"]) - days[0] <= 4


def test_levels_are_refreshed_one_after_the_other_and_each_in_its_turn(database: str, engine: Engine) -> None:
    if engine != "timescale":
        pytest.skip("the plain engine refreshes all levels in one go")
    with psycopg.connect(database, autocommit=True) as conn:
        # the job itself has made its first turn, or does it now: this one waits for it
        conn.execute("CALL historian.tend_rollups(NULL, '{}')")
        turns = "SELECT level, refreshed_at FROM historian.rollup_turn ORDER BY refreshed_at"
        first = conn.execute(turns).fetchall()
        assert [level for level, _ in first] == list(LEVELS)
        # nobody's turn
        conn.execute("CALL historian.tend_rollups(NULL, '{}')")
        assert conn.execute(turns).fetchall() == first
        conn.execute("UPDATE historian.rollup_turn SET refreshed_at = refreshed_at - interval '3 minutes'")
        conn.execute("CALL historian.tend_rollups(NULL, '{}')")
        later = dict(conn.execute(turns).fetchall())
        assert [level for level, at in first if later[level] > at] == ["1m", "10m"]
        # no policy begins by itself beside it
        beside = conn.execute(
            "SELECT count(*) FROM timescaledb_information.jobs WHERE proc_name = 'policy_refresh_continuous_aggregate' AND scheduled"
        ).fetchone()
        assert beside == (0,)
