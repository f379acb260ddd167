"""Room for samples of any time."""

from __future__ import annotations

import asyncio

import numpy as np
import psycopg
import pytest

from historian.schema.connection import Pool
from historian.schema.engine import Engine
from historian.schema.partitions import Partitions

_US = "datetime64[us]"


def us(*instants: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(instants, _US).astype(np.int64)


async def store(pool: Pool, ts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
    await pool.executemany(
        "INSERT INTO historian.sample (tag_id, quality, ts, value) VALUES (1, 192, $1, 0)", [(instant,) for instant in ts.tolist()]
    )


async def partitions(pool: Pool) -> list[str]:
    rows = await pool.fetch(
        "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'historian.sample'::regclass ORDER BY 1"
    )
    return [row["relname"] for row in rows]


@pytest.mark.parametrize(
    "instants",
    [
        ("2026-03-01T00:00:00", "2026-03-31T23:59:59.999999", "2026-04-01T00:00:00"),
        ("1970-01-01T00:00:00", "1969-12-31T23:59:59.999999", "1969-01-01T00:00:00"),
        ("1900-02-28T12:00:00", "2199-12-31T23:59:59.999999"),
        ("2000-02-29T00:00:00", "1999-12-31T23:59:59.999999"),
    ],
)
async def test_there_is_room_for_samples_of_any_time(pool: Pool, instants: tuple[str, ...]) -> None:
    ts = us(*instants)
    room = Partitions(pool)
    await room.make_room(ts)
    await store(pool, ts)
    assert {row["ts"] for row in await pool.fetch("SELECT ts FROM historian.sample")} == set(ts.tolist())


async def test_a_month_is_a_partition_on_plain_postgresql(pool: Pool, engine: Engine) -> None:
    if engine != "plain":
        pytest.skip("TimescaleDB makes its chunks itself")
    room = Partitions(pool)
    await room.make_room(us("2026-01-31T23:59:59.999999", "2026-02-01T00:00:00", "2026-05-05T00:00:00"))
    # the months touched, and not those between
    assert await partitions(pool) == ["sample_2026_01", "sample_2026_02", "sample_2026_05"]
    await room.make_room(us("2026-02-02T00:00:00"))
    await room.make_room(np.empty(0, np.int64))
    assert len(await partitions(pool)) == 3
    # each has the index that every read and every late write needs
    indexed = await pool.fetchval(
        "SELECT count(*) FROM pg_indexes WHERE schemaname = 'historian' AND indexdef LIKE '%sample_2026%(tag_id, ts) WITH (deduplicate_items=off)'"
    )
    assert indexed == 3


async def test_a_chunk_is_made_before_it_is_written_to_and_nothing_is_left_in_it(pool: Pool, engine: Engine) -> None:
    if engine != "timescale":
        pytest.skip("plain PostgreSQL has partitions")
    room = Partitions(pool)
    ts = us("2026-01-31T23:59:59.999999", "2026-02-01T00:00:00", "2026-05-05T00:00:00", "1969-12-31T00:00:00")
    await asyncio.gather(room.make_room(ts), Partitions(pool).make_room(ts))
    assert len(await pool.fetch("SELECT show_chunks('historian.sample')")) == 4
    assert await pool.fetchval("SELECT count(*) FROM historian.sample") == 0
    assert not room.is_columnar(ts)
    room.made_columnar(ts[:1])
    assert room.is_columnar(ts[:1])
    assert not room.is_columnar(ts[:2])


async def test_writers_that_lack_the_same_months_at_once(pool: Pool) -> None:
    ts = us(*(f"{year}-{month:02d}-01" for year in (2024, 2025) for month in range(1, 13)))
    await asyncio.gather(*(Partitions(pool).make_room(ts[::step]) for step in (1, -1, 2, -2)))
    await store(pool, ts)


async def test_after_forgetting_it_looks_again(pool: Pool, database_as_owner: str, engine: Engine) -> None:
    if engine != "plain":
        pytest.skip("TimescaleDB makes its chunks itself")
    ts = us("2026-01-15")
    room = Partitions(pool)
    await room.make_room(ts)
    with psycopg.connect(database_as_owner) as owner:
        owner.execute("DROP TABLE historian.sample_2026_01")
    room.forget()
    await room.make_room(ts)
    await store(pool, ts)
