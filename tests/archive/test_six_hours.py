"""An upgrade to the version that has buckets of six hours, of a database from which retention has removed samples and hours."""

from __future__ import annotations

import time
from contextlib import aclosing

import numpy as np
import psycopg
import pytest
from archive_plant import DAY, TODAY, Plant, steady

from historian.query.auto import Columns
from historian.query.range import read_range
from historian.query.range_query import RangeQuery
from historian.schema.connection import Pool, open_pool
from historian.schema.engine import Engine
from historian.schema.limits import LIMITS
from historian.schema.migrate import upgrade
from historian.schema.samples import Samples, concat

BEFORE = 13
DAYS = 40
#: columns of later versions, lent to the program that fills the database of an earlier one
LATER = {"writable": "boolean NOT NULL DEFAULT false", "write_to": "text NOT NULL DEFAULT 'historian'"} | dict.fromkeys(LIMITS, "float8")


def refresh(conn: psycopg.Connection, engine: Engine) -> None:
    if engine == "timescale":
        conn.execute("""CALL historian.tend_rollups(NULL, '{"all": true}')""")
    else:
        while conn.execute("SELECT historian.refresh_rollups(now())").fetchone() != (0,):
            pass


def expire(conn: psycopg.Connection, engine: Engine) -> None:
    """Raw samples after three days, for good, and hours after ten."""
    conn.execute("UPDATE historian.retention_group SET raw_days = 3, days_1m = 3, days_10m = 3, days_1h = 10")
    conn.execute("SELECT historian.want_horizon()")
    until = time.monotonic() + 60
    while True:
        refresh(conn, engine)
        # it waits for all older transactions of the server
        if conn.execute("SELECT historian.advance_horizon()").fetchone() == (True,):
            break
        assert time.monotonic() < until
    conn.execute("SELECT historian.expire_raw('default')")
    conn.execute("SELECT historian.expire_rollups('default')")


async def drawn(pool: Pool, plant: Plant) -> Samples:
    """All of it, from buckets of six hours, in columns of twelve."""
    query = RangeQuery(plant.tags, TODAY - DAYS * DAY, TODAY, "auto", 4 * 2 * DAYS)
    assert Columns.of(query.start, query.end, query.points) == Columns("6h", query.start, DAY // 2)
    async with (
        pool.acquire() as conn,
        conn.transaction(isolation="repeatable_read", readonly=True),
        aclosing(read_range(conn, query)) as chunks,
    ):
        return concat([chunk async for chunk in chunks])


@pytest.mark.parametrize("retained", [True, False])
async def test_charts_are_as_before_until_the_buckets_are_made_and_after(empty_database: str, engine: Engine, retained: bool) -> None:
    upgrade(empty_database, to=BEFORE)
    with psycopg.connect(empty_database) as conn:
        for name, kind in LATER.items():
            conn.execute(f"ALTER TABLE historian.tag ADD COLUMN {name} {kind}".encode())
    steady(empty_database)
    rng = np.random.default_rng(3)
    ts = np.arange(TODAY - DAYS * DAY, TODAY, 600_000_000) + rng.integers(0, 500_000_000)
    value = np.round(rng.normal(20, 3, len(ts)), 2)
    pool = await open_pool(empty_database, size=4)
    plant = await Plant.make(pool, {"a/f": "float"})
    await plant.store(Samples(np.full(len(ts), plant.tags[0].tag_id, np.int32), ts, value, np.full(len(ts), 192, np.int16)))
    # the greatest and the smallest sample of each day come through, whatever else does
    days = (ts - ts[0] // DAY * DAY) // DAY
    extremes = {
        int(ts[rows[pick(value[rows])]]) for day in range(DAYS) for rows in [np.flatnonzero(days == day)] for pick in (np.argmin, np.argmax)
    }

    async def check(when: str) -> None:
        found = await drawn(pool, plant)
        missing = extremes - set(found.ts.tolist())
        assert not missing, (when, sorted((at - TODAY) // DAY for at in missing))
        # nothing that was not written
        assert np.isin(found.ts, ts).all()
        assert (found.value == value[np.searchsorted(ts, found.ts)]).all()

    try:
        with psycopg.connect(empty_database, autocommit=True) as conn:
            if retained:
                expire(conn, engine)
            else:
                refresh(conn, engine)
            for name in LATER:
                conn.execute(f"ALTER TABLE historian.tag DROP COLUMN {name}".encode())
            upgrade(empty_database)
            steady(empty_database)
            await check("after the upgrade")
            refresh(conn, engine)
            await check("after the refresh")
            # and they have been made, as far as there were hours to make them of
            kept = 10 if retained else DAYS
            made = conn.execute("SELECT count(*) FROM historian.rollup_6h_stored").fetchone()
            assert made is not None
            assert made[0] >= 4 * kept
            expired = conn.execute("SELECT days_6h FROM historian.retention_group").fetchone()
            assert expired == (10 if retained else None,)
    finally:
        pool.terminate()
