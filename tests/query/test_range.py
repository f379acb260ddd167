"""Range queries on a real database: everything that was written, in order, in bounded memory, and no harm where a reader leaves early."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from contextlib import aclosing
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from historian.query.range import MAX_ROWS, Mode, RangeQuery, read_range
from historian.schema.catalogue import Tag
from historian.schema.connection import Pool
from historian.schema.samples import Samples, concat

DAY = 86_400_000_000
#: two days before the end of a month: what follows lies in several partitions, or chunks
T = 1_769_731_200_000_000  # 2026-01-30
#: later than any sample, as a live subscription asks
FOREVER = 253_370_764_800_000_000

# each takes 10 ms, so that asking until it is so is no busy loop
BLOCKED = "SELECT count(*) FROM pg_sleep(0.01), pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
WAITS_FOR = "SELECT wait_event FROM pg_sleep(0.01), pg_stat_activity WHERE pid = $1"


def numbers(tag: Tag, ts: np.ndarray[Any, Any], value: np.ndarray[Any, Any]) -> Samples:
    quality = np.where(np.isnan(value), 0, 192).astype(np.int16)
    return Samples(np.full(len(ts), tag.tag_id, np.int32), ts.astype(np.int64), value.astype(np.float64), quality)


async def chunks_of(pool: Pool, query: RangeQuery) -> tuple[list[Samples], bool]:
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        async with aclosing(read_range(conn, query)) as reader:
            chunks = [chunk async for chunk in reader]
        # it ended by itself: the transaction goes on
        assert await conn.fetchval("SELECT 1") == 1
    assert all(0 < len(chunk) <= MAX_ROWS for chunk in chunks)
    return chunks, reader.cut


async def read(pool: Pool, query: RangeQuery) -> Samples:
    chunks, cut = await chunks_of(pool, query)
    assert not cut
    return concat(chunks)


@pytest.fixture
async def plant(store: Any, make_tags: Any) -> tuple[list[Tag], Samples]:
    """Eight tags over ten days, and all that was written, ordered by (tag_id, ts); the text tag last."""
    kinds = {"p/a": "float", "p/b": "float", "p/c": "int", "p/d": "bool", "p/e": "digital", "p/f": "float", "p/g": "float", "p/h": "text"}
    tags = await make_tags(kinds)
    rng = np.random.default_rng(5)
    parts = []
    for n, tag in enumerate(tags[:7]):
        ts = T + np.unique(rng.integers(0, 10 * DAY, 3_000))
        value = [
            rng.normal(size=len(ts)).cumsum(),  # floats that are no decimals
            np.round(rng.normal(20, 5, len(ts)), 2),
            rng.integers(-(2**53) + 1, 2**53, len(ts)).astype(np.float64),
            rng.integers(0, 2, len(ts)).astype(np.float64),
            rng.integers(0, 9, len(ts)).astype(np.float64),
            rng.choice([-0.0, 0.0, 5e-324, 1.797e308, 0.1, 1 / 3], len(ts)),
            np.round(rng.normal(20, 5, len(ts)), 1),
        ][n]
        value[rng.random(len(ts)) < 0.02] = np.nan
        parts.append(numbers(tag, ts, value))
    ts = T + np.unique(rng.integers(0, 10 * DAY, 3_000))
    text = [None if n % 50 == 0 else f"phase {n % 7}: “{'é' * (n % 40)}”" for n in range(len(ts))]
    quality = np.array([0 if t is None else 192 for t in text], np.int16)
    parts.append(Samples(np.full(len(ts), tags[7].tag_id, np.int32), ts, np.full(len(ts), np.nan), quality, pa.array(text)))
    written = concat(parts)
    # as it comes from a plant: by time, in several batches
    order = np.argsort(written.ts, kind="stable")
    for start in range(0, len(order), 5_000):
        await store(written.take(order[start : start + 5_000]))
    return tags, written


def assert_same(found: Samples, expected: Samples) -> None:
    assert found.tag_id.tolist() == expected.tag_id.tolist()
    assert found.ts.tolist() == expected.ts.tolist()
    assert found.value.tobytes() == expected.value.tobytes()
    assert found.quality.tolist() == expected.quality.tolist()
    assert found.text_or_nulls().to_pylist() == expected.text_or_nulls().to_pylist()


async def test_everything_comes_back_bit_by_bit_in_order(pool: Pool, plant: tuple[list[Tag], Samples]) -> None:
    tags, written = plant
    assert_same(await read(pool, RangeQuery(list(reversed(tags)), T, T + 10 * DAY)), written)
    assert_same(await read(pool, RangeQuery([*tags, *tags], 0, FOREVER)), written)


async def test_the_interval_is_half_open(pool: Pool, plant: tuple[list[Tag], Samples]) -> None:
    tags, written = plant
    mine = written.take(written.tag_id == tags[1].tag_id)
    start, end = int(mine.ts[100]), int(mine.ts[200])
    assert_same(await read(pool, RangeQuery(tags[1:2], start, end)), mine.slice(100, 200))
    inside = written.take((written.ts >= start) & (written.ts < end))
    assert_same(await read(pool, RangeQuery(tags, start, end)), inside)


@pytest.mark.parametrize("mode", ["raw", "minmax", "auto"])
async def test_an_empty_question_has_an_empty_answer(pool: Pool, plant: tuple[list[Tag], Samples], mode: Mode) -> None:
    tags, _ = plant
    absent = Tag(1_000_000, "p/absent", "float")
    for query in (
        RangeQuery(tags, T, T, mode),
        RangeQuery(tags, T + 1, T, mode),
        RangeQuery([], T, T + DAY, mode),
        RangeQuery([absent], T, T + DAY, mode),
        RangeQuery(tags, T - DAY, T, mode),
    ):
        assert await chunks_of(pool, query) == ([], False)


@pytest.mark.parametrize("limit", [1, 100, 2_999, 3_000, 23_000])
async def test_a_limit_cuts_and_says_so(pool: Pool, plant: tuple[list[Tag], Samples], limit: int) -> None:
    tags, written = plant
    chunks, cut = await chunks_of(pool, RangeQuery(tags, T, T + 10 * DAY, limit=limit))
    assert_same(concat(chunks), written.slice(0, limit))
    assert cut


async def test_a_limit_that_is_just_reached_cuts_nothing(pool: Pool, plant: tuple[list[Tag], Samples]) -> None:
    tags, written = plant
    for some in (tags, tags[:7], tags[7:]):
        expected = written.take(np.isin(written.tag_id, [tag.tag_id for tag in some]))
        chunks, cut = await chunks_of(pool, RangeQuery(some, T, T + 10 * DAY, limit=len(expected)))
        assert_same(concat(chunks), expected)
        assert not cut
        chunks, cut = await chunks_of(pool, RangeQuery(some, T, T + 10 * DAY, limit=len(expected) - 1))
        assert_same(concat(chunks), expected.slice(0, len(expected) - 1))
        assert cut


async def test_a_limit_counts_what_downsampling_leaves(pool: Pool, plant: tuple[list[Tag], Samples]) -> None:
    tags, _ = plant
    query = RangeQuery(tags, T, T + 10 * DAY, "minmax", 100)
    whole = await read(pool, query)
    async with pool.acquire() as conn, conn.transaction(readonly=True):
        async with aclosing(read_range(conn, RangeQuery(tags, T, T + 10 * DAY, "minmax", 100, limit=150))) as reader:
            found = concat([chunk async for chunk in reader])
        assert reader.cut
    assert_same(found, whole.slice(0, 150))
    assert await pool.fetchval("SELECT 1") == 1


async def test_minmax_keeps_extremes_and_bad_samples(pool: Pool, plant: tuple[list[Tag], Samples]) -> None:
    tags, written = plant
    found = await read(pool, RangeQuery(tags, T, T + 10 * DAY, "minmax", 200))
    assert found.tag_id.tolist() == sorted(found.tag_id.tolist())
    for tag in tags:
        mine, all_of_it = (samples.take(samples.tag_id == tag.tag_id) for samples in (found, written))
        assert (np.diff(mine.ts) > 0).all()
        # real samples, as they were written
        at = np.searchsorted(all_of_it.ts, mine.ts)
        assert_same(mine, all_of_it.take(at))
        good = mine.quality >= 64
        assert 0 < good.sum() <= 200
        if tag.kind != "text":
            width = 10 * DAY // (50 if tag.step else 100)
            healthy = all_of_it.take(all_of_it.quality >= 64)
            for bucket in range(10 * DAY // width):
                there = healthy.value[(healthy.ts - T) // width == bucket]
                kept = mine.value[good & ((mine.ts - T) // width == bucket)]
                assert (kept.min(), kept.max()) == (there.min(), there.max())
        broken = np.unique((all_of_it.ts[all_of_it.quality < 64] - T) // (10 * DAY // 50))
        assert np.unique((mine.ts[~good] - T) // (10 * DAY // 50)).tolist() == broken.tolist()


async def test_auto_keeps_all_samples_of_tags_that_have_few(pool: Pool, plant: tuple[list[Tag], Samples]) -> None:
    tags, written = plant
    counts = {tag.tag_id: int((written.tag_id == tag.tag_id).sum()) for tag in tags}
    points = sorted(counts.values())[3]
    found = await read(pool, RangeQuery(tags, T, T + 10 * DAY, "auto", points))
    reduced = await read(pool, RangeQuery(tags, T, T + 10 * DAY, "minmax", points))
    for tag in tags:
        expected = written if counts[tag.tag_id] <= points else reduced
        assert_same(found.take(found.tag_id == tag.tag_id), expected.take(expected.tag_id == tag.tag_id))
    assert_same(await read(pool, RangeQuery(tags, T, T + 10 * DAY, "auto", 10_000)), written)


@pytest.fixture
async def long_tag(store: Any, make_tags: Any) -> tuple[Tag, Samples]:
    """One tag with 300 000 samples: several chunks, and more than any socket buffers."""
    (tag,) = await make_tags({"p/long": "float"})
    n = 700_000
    written = numbers(tag, T + np.arange(n, dtype=np.int64) * 1_000_000, np.round(np.random.default_rng(2).normal(size=n), 2))
    await store(written)
    return tag, written


async def test_a_long_range_comes_in_chunks_and_in_order(pool: Pool, long_tag: tuple[Tag, Samples]) -> None:
    tag, written = long_tag
    chunks, _ = await chunks_of(pool, RangeQuery([tag], T, FOREVER))
    # the first is small, for who waits for it
    assert [len(chunk) for chunk in chunks[:8]] == [512, 1024, 2048, 4096, 8192, MAX_ROWS, MAX_ROWS, MAX_ROWS]
    assert len(chunks) == 5 + -(-(700_000 - 15_872) // MAX_ROWS)
    assert_same(concat(chunks), written)


async def test_a_query_that_is_left_in_the_middle_gives_its_connection_back(pool: Pool, long_tag: tuple[Tag, Samples]) -> None:
    tag, written = long_tag
    pids = set()

    class Enough(Exception):
        pass

    async def leave_after(chunks: int) -> None:
        async with (
            pool.acquire() as conn,
            conn.transaction(isolation="repeatable_read", readonly=True),
            aclosing(read_range(conn, RangeQuery([tag], T, FOREVER))) as reader,
        ):
            pids.add(conn.get_server_pid())
            for _ in range(10 * chunks):
                await anext(reader)
            raise Enough

    for n in range(20):
        with pytest.raises(Enough):
            await leave_after(n % 5)
        async with pool.acquire() as conn:
            assert not conn.is_in_transaction()
            assert await conn.fetchval("SHOW enable_seqscan") == "on"
    # the connection is used again; once in a while the pool replaces one whose cancellation came late
    assert len(pids) <= 4
    assert_same(await read(pool, RangeQuery([tag], T, FOREVER)), written)


async def test_a_reader_that_is_cancelled_gives_its_connection_back(pool: Pool, long_tag: tuple[Tag, Samples]) -> None:
    tag, written = long_tag
    rng = random.Random(7)

    async def read_on(taken: asyncio.Event) -> None:
        async with (
            pool.acquire() as conn,
            conn.transaction(readonly=True),
            aclosing(read_range(conn, RangeQuery([tag], T, FOREVER))) as reader,
        ):
            async for _ in reader:
                taken.set()
                await asyncio.sleep(0)

    for _ in range(20):
        taken = asyncio.Event()
        reading = asyncio.create_task(read_on(taken))
        if rng.random() < 0.7:
            await taken.wait()
        for _ in range(rng.randrange(200)):
            await asyncio.sleep(0)
        reading.cancel()
        assert isinstance((await asyncio.gather(reading, return_exceptions=True))[0], asyncio.CancelledError | None)
        assert await pool.fetchval("SELECT 1") == 1
    assert_same(await read(pool, RangeQuery([tag], T, FOREVER)), written)
    # nothing of all this still runs on the server
    busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY%' AND state = 'active'"
    assert await pool.fetchval(busy) == 0


async def test_a_silent_query_is_cancelled_too(pool: Pool, long_tag: tuple[Tag, Samples]) -> None:
    tag, _ = long_tag
    async with pool.acquire() as blocker:
        held = blocker.transaction()
        await held.start()
        await blocker.execute("LOCK TABLE historian.sample IN ACCESS EXCLUSIVE MODE")

        async def wait_for_rows() -> None:
            async with pool.acquire() as conn, conn.transaction(), aclosing(read_range(conn, RangeQuery([tag], T, FOREVER))) as reader:
                await anext(reader)

        waiting = asyncio.create_task(wait_for_rows())
        async with asyncio.timeout(30):
            while not await pool.fetchval(BLOCKED):
                pass
            waiting.cancel()
            assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError)
            assert await pool.fetchval("SELECT 1") == 1
        await held.rollback()
    assert await pool.fetchval(BLOCKED) == 0


async def test_a_slow_reader_holds_the_server_back(pool: Pool, long_tag: tuple[Tag, Samples]) -> None:
    tag, _ = long_tag
    async with pool.acquire() as conn, conn.transaction(), aclosing(read_range(conn, RangeQuery([tag], T, FOREVER))) as reader:
        await anext(reader)
        async with asyncio.timeout(30):
            while await pool.fetchval(WAITS_FOR, conn.get_server_pid()) != "ClientWrite":
                pass
        rest = [len(chunk) async for chunk in reader]
    assert sum(rest) == 700_000 - 512


@pytest.mark.parametrize("mode", ["raw", "minmax", "auto"])
async def test_memory_is_bounded_however_long_the_range(pool: Pool, store: Any, make_tags: Any, mode: Mode) -> None:
    (tag,) = await make_tags({"p/huge": "float"})
    n = 2_000_000
    await store(numbers(tag, T + np.arange(n, dtype=np.int64) * 100_000, np.round(np.random.default_rng(2).normal(size=n), 2)))
    rows = 0
    async with (
        pool.acquire() as conn,
        conn.transaction(),
        aclosing(read_range(conn, RangeQuery([tag], T, T + n * 100_000, mode, 5_000))) as reader,
    ):
        tracemalloc.start()
        try:
            async for chunk in reader:
                rows += len(chunk)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert rows == n if mode == "raw" else 4_000 < rows <= 5_000
    # 2 M rows are 44 MB as columns, 100 MB as they come
    assert peak < 25_000_000
