"""The sample before an instant and the one after it: of each tag its own, however far away, on a real database."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from historian.query.boundaries import first_and_last_samples, newest_samples, oldest_samples, samples_before, samples_from
from historian.query.times import LATEST
from historian.schema.catalogue import Tag
from historian.schema.connection import Pool
from historian.schema.samples import Samples, concat

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
T = 1_769_731_200_000_000  # 2026-01-30


@pytest.fixture
async def plant(store: Any, make_tags: Any) -> tuple[list[Tag], Samples]:
    """Tags whose samples lie seconds, hours, days and months apart, one that stopped long ago and one without any; all samples, ordered by (tag_id, ts)."""
    steps = {"p/seconds": 7 * SECOND, "p/hours": 5 * HOUR, "p/days": 3 * DAY, "p/months": 50 * DAY, "p/text": 2 * HOUR}
    tags = await make_tags({path: "text" if path == "p/text" else "float" for path in [*steps, "p/stopped", "p/none"]})
    rng = np.random.default_rng(3)
    parts = []
    for tag, step in zip(tags, steps.values(), strict=False):
        ts = T + step * np.arange(-25, 25, dtype=np.int64)
        # not back to before there was any time that a sample may have
        ts = ts[(ts > T - 300 * DAY) & (ts < T + 300 * DAY)]
        quality = rng.choice([192, 192, 100, 0], len(ts)).astype(np.int16)
        value = np.round(rng.normal(20, 5, len(ts)), 2) if tag.kind != "text" else np.full(len(ts), np.nan)
        text = pa.array([f"batch {n}" for n in range(len(ts))]) if tag.kind == "text" else None
        parts.append(Samples(np.full(len(ts), tag.tag_id, np.int32), ts, value, quality, text))
    parts.append(Samples(np.full(1, tags[5].tag_id, np.int32), np.array([T - 400 * DAY]), np.array([1.5]), np.array([192], np.int16)))
    written = concat(parts)
    await store(written)
    return tags, written


def picked(samples: Samples) -> list[tuple[Any, ...]]:
    rows = zip(
        samples.tag_id.tolist(),
        samples.ts.tolist(),
        [None if np.isnan(value) else value for value in samples.value.tolist()],
        samples.quality.tolist(),
        samples.text_or_nulls().to_pylist(),
        strict=True,
    )
    return list(rows)


def of_each(samples: Samples, which: int) -> list[tuple[Any, ...]]:
    rows = picked(samples)
    return [[row for row in rows if row[0] == tag_id][which] for tag_id in sorted({row[0] for row in rows})]


async def test_each_tag_has_its_own_neighbours(pool: Pool, plant: tuple[list[Tag], Samples]) -> None:
    tags, written = plant
    offsets = [0, 1, -1, 7 * SECOND, HOUR, 26 * HOUR, 31 * DAY, -40 * DAY, 299 * DAY, -350 * DAY, 1000 * DAY, -1000 * DAY]
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        for instant in [T + offset for offset in offsets]:
            before, after = written.take(written.ts < instant), written.take(written.ts >= instant)
            assert picked(await samples_before(conn, tags, instant)) == of_each(before, -1)
            assert picked(await samples_from(conn, list(reversed(tags)), instant)) == of_each(after, 0)


async def test_the_columnstore_has_the_same_neighbours(
    pool: Pool, database_as_owner: str, engine: str, plant: tuple[list[Tag], Samples]
) -> None:
    if engine != "timescale":
        pytest.skip("the columnstore is TimescaleDB's")
    tags, written = plant
    # as the owner: a server's role may not do it. What was loaded in bulk is there already; half of it is taken out
    with psycopg.connect(database_as_owner, autocommit=True) as owner:
        owner.execute(
            "SELECT compress_chunk(c, if_not_compressed => true) FROM show_chunks('historian.sample', newer_than => timestamptz '2026-01-30') AS c"
        )
        owner.execute(
            "SELECT decompress_chunk(c, if_compressed => true) FROM show_chunks('historian.sample', older_than => timestamptz '2026-01-30') AS c"
        )
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        for instant in [T - 40 * DAY, T - HOUR, T + 1, T + HOUR, T + 60 * DAY]:
            assert picked(await samples_before(conn, tags, instant)) == of_each(written.take(written.ts < instant), -1)
            assert picked(await samples_from(conn, tags, instant)) == of_each(written.take(written.ts >= instant), 0)


async def test_of_each_gap_the_first_and_the_last_are_found(pool: Pool, plant: tuple[list[Tag], Samples]) -> None:
    tags, written = plant
    edges = [T - 60 * DAY, T - 3 * DAY, T, *[T + n * 90 * SECOND for n in range(1, 20)], T + 70 * DAY]
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        found = [row async for part in first_and_last_samples(conn, tags, np.array(edges)) for row in picked(part)]
    expected = set()
    for low, high in pairwise(edges):
        inside = written.take((written.ts > low) & (written.ts <= high))
        expected.update([*of_each(inside, 0), *of_each(inside, -1)])
    assert set(found) == expected


async def test_the_search_ends_where_it_is_told(pool: Pool, plant: tuple[list[Tag], Samples]) -> None:
    tags, written = plant
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        for start, end in [(T, T + 5 * HOUR), (T - 3 * DAY, T + 1), (T + 1, T + 7 * SECOND), (T, T), (T - 60 * DAY, T + 60 * DAY)]:
            inside = written.take((written.ts >= start) & (written.ts < end))
            assert picked(await newest_samples(conn, tags, start, end)) == of_each(inside, -1)
            assert picked(await oldest_samples(conn, tags, start, end)) == of_each(inside, 0)


async def test_nothing_is_found_of_nothing(pool: Pool, plant: tuple[list[Tag], Samples]) -> None:
    tags, _ = plant
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        for find in (samples_before, samples_from):
            for some, instant in (([], T), (tags[6:], T)):
                assert len(await find(conn, some, instant)) == 0
        for instant in (0, -1, -(2**62)):
            assert len(await samples_before(conn, tags, instant)) == 0
        for instant in (LATEST + 1, 253_370_764_800_000_000, 2**62):
            assert len(await samples_from(conn, tags, instant)) == 0
        assert len(await samples_before(conn, tags, 2**62)) == 6
        assert len(await samples_from(conn, tags, -(2**62))) == 6
