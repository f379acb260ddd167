"""How the samples lie on disk, and the job that looks after chunks."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import timedelta

import asyncpg
import numpy as np
import psycopg
import pytest

from historian.ingest.batching import Batcher
from historian.ingest.writer import Writer
from historian.schema import chunks
from historian.schema.connection import Pool
from historian.schema.engine import Engine
from historian.schema.errors import BadInput, SchemaError
from historian.schema.ledger import Batch
from historian.schema.partitions import Partitions
from historian.schema.samples import Samples

DAY_US = 86_400_000_000
OLD = int(np.datetime64("2025-03-04", "us").astype(np.int64))


@pytest.fixture
def timescale(engine: Engine) -> None:
    if engine != "timescale":
        pytest.skip("plain PostgreSQL has no chunks and no columnstore")


async def make_tags(pool: Pool, count: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    await pool.execute(
        "INSERT INTO historian.tag (path, kind, step) SELECT 'a/t' || n, 'float', false FROM generate_series(1, $1::int) AS n", count
    )
    await pool.execute("INSERT INTO historian.snapshot (tag_id) SELECT tag_id FROM historian.tag ON CONFLICT DO NOTHING")
    return np.array([row["tag_id"] for row in await pool.fetch("SELECT tag_id FROM historian.tag ORDER BY tag_id")], np.int32)


def walks(tags: np.ndarray[tuple[int], np.dtype[np.int32]], start: int, seconds: int, *, seed: int = 0) -> Samples:
    """A sample a second of every tag, in the order of time."""
    rng = np.random.default_rng(seed)
    walk = np.round(50 + np.cumsum(rng.normal(0, 0.05, (seconds, len(tags))), axis=0), 2)
    ts = start + np.arange(seconds, dtype=np.int64) * 1_000_000
    return Samples(np.tile(tags, seconds), np.repeat(ts, len(tags)), walk.ravel(), np.full(walk.size, 192, np.int16))


async def content(pool: Pool) -> tuple[int, str]:
    """Count and digest of all samples, whatever their order."""
    row = await pool.fetchrow(
        "SELECT count(*) AS n, sum(hashtextextended(concat_ws(',', tag_id, scale, quality, ts, mantissa, value, text), 0)::numeric)::text AS digest FROM historian.sample"
    )
    return row["n"], row["digest"]


async def size(pool: Pool) -> int:
    return int(await pool.fetchval("SELECT sum(bytes)::int8 FROM historian.storage_part"))


async def forms(pool: Pool) -> list[tuple[str, bool, bool, bool]]:
    rows = await pool.fetch("SELECT form, unordered, fragmented, due FROM historian.storage_part ORDER BY range_start")
    return [tuple(row) for row in rows]


async def write(writer: Writer, samples: Samples, seq: int) -> None:
    await writer.write([Batch("bulk", seq, samples)])


@pytest.mark.parametrize(("text", "hours"), [("6h", 6), ("1d", 24), (" 30D ", 720), ("1h", 1), ("auto", None)])
def test_an_interval_is_read_and_shown_in_the_same_words(text: str, hours: int | None) -> None:
    found = chunks.parse_interval(text)
    assert found == (None if hours is None else timedelta(hours=hours))
    if found is not None:
        assert chunks.parse_interval(chunks.show_interval(found)) == found


@pytest.mark.parametrize("text", ["", "0h", "31d", "6", "h", "-6h", "6 hours; drop", "1.5h", "30m"])
def test_what_is_no_interval_is_refused_with_what_to_give(text: str) -> None:
    with pytest.raises(BadInput, match="1h to 30d"):
        chunks.parse_interval(text)


async def test_the_layout_shows_every_part_with_its_size(pool: Pool, database: str, engine: Engine) -> None:
    tags = await make_tags(pool, 3)
    writer = Writer(pool)
    await write(writer, walks(tags, OLD, 100), 1)
    await write(writer, walks(tags, OLD + 60 * DAY_US, 100), 2)
    found = await asyncio.to_thread(chunks.layout, database)
    assert [part.form for part in found.parts] == ["rowstore", "rowstore"]
    assert all(
        part.start.timestamp() * 1e6 <= ts < part.end.timestamp() * 1e6
        for part, ts in zip(found.parts, (OLD, OLD + 60 * DAY_US), strict=True)
    )
    assert all(part.size_bytes > 8192 for part in found.parts)
    assert (found.chunking is None) == (engine == "plain")


async def test_plain_postgresql_says_that_its_partitions_are_months(pool: Pool, database: str, engine: Engine) -> None:
    if engine != "plain":
        pytest.skip("TimescaleDB has chunks")
    with pytest.raises(SchemaError, match="calendar month"):
        await asyncio.to_thread(chunks.set_interval, database, timedelta(hours=6))


@pytest.mark.usefixtures("timescale")
async def test_old_chunks_are_converted_and_recent_ones_are_left(pool: Pool, database: str) -> None:
    tags = await make_tags(pool, 20)
    now = int(time.time()) * 1_000_000
    writer = Writer(pool)
    for seq, start in enumerate((OLD, now - 3600_000_000)):
        await write(writer, walks(tags, start, 500, seed=seq), seq)
    before = await content(pool)
    # what has just been written to is left in peace
    await pool.execute("CALL historian.tend_chunks(NULL, '{}')")
    assert [form for form, *_ in await forms(pool)] == ["rowstore", "rowstore"]
    await asyncio.to_thread(chunks.tend, database)
    assert await forms(pool) == [("columnstore", False, False, False), ("rowstore", False, False, False)]
    assert await content(pool) == before
    shown = await asyncio.to_thread(chunks.layout, database)
    assert shown.parts[0].rows == 10_000
    # of the other one there is an estimate
    assert shown.parts[1].rows is not None
    assert 5_000 < shown.parts[1].rows < 20_000


@pytest.mark.usefixtures("timescale")
async def test_the_job_converts_what_has_become_quiet(pool: Pool, database: str) -> None:
    tags = await make_tags(pool, 20)
    await write(Writer(pool), walks(tags, OLD, 500), 0)
    job = await pool.fetchval(
        "SELECT job_id FROM timescaledb_information.jobs WHERE proc_schema = 'historian' AND proc_name = 'tend_chunks'"
    )
    await pool.execute("CALL run_job($1::int)", job)
    assert [form for form, *_ in await forms(pool)] == ["rowstore"]
    await pool.execute("UPDATE historian.chunk_state SET changed_at = changed_at - interval '11 minutes'")
    await pool.execute("CALL run_job($1::int)", job)
    assert [form for form, *_ in await forms(pool)] == ["columnstore"]


@pytest.mark.usefixtures("timescale")
@pytest.mark.parametrize("order", ["ascending", "shuffled"])
async def test_what_a_bulk_load_leaves_is_brought_to_the_size_of_a_clean_conversion(pool: Pool, database: str, order: str) -> None:
    # a hundred rows of a tag at a time go straight into the columnstore, as batches of a hundred rows
    tags = await make_tags(pool, 500)
    whole = walks(tags, OLD, 2000)
    per = 100 * len(tags)
    parts = [whole.slice(n, n + per) for n in range(0, len(whole), per)]
    if order == "shuffled":
        parts = [parts[n] for n in np.random.default_rng(1).permutation(len(parts))]
    writer = Writer(pool)
    for seq, part in enumerate(parts):
        await write(writer, part, seq)
    before, loaded = await content(pool), await size(pool)
    await asyncio.to_thread(chunks.tend, database)
    assert await forms(pool) == [("columnstore", False, False, False)]
    assert await content(pool) == before
    tended = await size(pool)

    # the same samples, converted from the rowstore
    await pool.execute("SELECT decompress_chunk(c) FROM show_chunks('historian.sample') AS c")
    await asyncio.to_thread(chunks.tend, database)
    assert await content(pool) == before
    clean = await size(pool)
    assert tended < 1.1 * clean
    assert loaded > 2 * clean
    # the samples are 2-decimal walks: two bytes each, with everything
    assert tended < 2 * len(whole)
    # there is nothing to be done any more
    assert (await pool.fetchval("SELECT count(*) FROM historian.chunk_work WHERE due")) == 0


@pytest.mark.usefixtures("timescale")
async def test_late_samples_and_corrections_in_a_converted_chunk_are_stored_and_brought_into_the_columnstore(
    pool: Pool, database: str
) -> None:
    tags = await make_tags(pool, 50)
    writer = Writer(pool)
    whole = walks(tags, OLD, 1000)
    await write(writer, whole, 0)
    await asyncio.to_thread(chunks.tend, database)
    # between what stands, and over it
    rows = np.flatnonzero(whole.tag_id < tags[10])
    late = whole.take(rows)
    late = Samples(late.tag_id, late.ts + np.where(np.arange(len(late)) % 2, 0, 500_000), late.value + 1, late.quality)
    await write(writer, late, 1)
    expected = dict(zip(zip(whole.tag_id.tolist(), whole.ts.tolist(), strict=True), whole.value.tolist(), strict=True))
    expected |= dict(zip(zip(late.tag_id.tolist(), late.ts.tolist(), strict=True), late.value.tolist(), strict=True))

    async def stored() -> dict[tuple[int, int], float]:
        found = await pool.fetch("SELECT tag_id, ts, historian.number(mantissa, scale, value) AS value FROM historian.sample")
        assert len(found) == len(expected)
        return {(row["tag_id"], row["ts"]): row["value"] for row in found}

    assert await stored() == expected
    assert (await forms(pool))[0][0] == "both"
    await asyncio.to_thread(chunks.tend, database)
    assert await forms(pool) == [("columnstore", False, False, False)]
    assert await stored() == expected


@pytest.mark.usefixtures("timescale")
async def test_a_correction_of_more_samples_than_timescaledb_decompresses_by_itself(pool: Pool, database: str) -> None:
    # 100 000 a transaction unless told otherwise; the writer's pool tells it
    tags = await make_tags(pool, 100)
    writer = Writer(pool)
    whole = walks(tags, OLD, 1500)
    await write(writer, whole, 0)
    await asyncio.to_thread(chunks.tend, database)
    await write(writer, Samples(whole.tag_id, whole.ts, whole.value + 1, whole.quality), 1)
    assert writer.counts.replaced == len(whole) == 150_000
    assert (await content(pool))[0] == len(whole)


@pytest.mark.usefixtures("timescale")
async def test_corrections_that_lie_far_apart_leave_what_lies_between_in_the_columnstore(pool: Pool, database: str) -> None:
    tags = await make_tags(pool, 2)
    writer = Writer(pool)
    whole = walks(tags, OLD, 20_000)
    await write(writer, whole, 0)
    await asyncio.to_thread(chunks.tend, database)
    ends = whole.take(np.array([0, len(whole) - 1]))
    await write(writer, Samples(ends.tag_id, ends.ts, ends.value + 1, ends.quality), 1)
    assert writer.counts.replaced == 2
    # of each tag the batch with the correction has been taken out, and none of the other nine
    store = await pool.fetchval("SELECT columnstore::text FROM historian.chunk")
    assert await pool.fetchval(f"SELECT sum(_ts_meta_count) FROM {store}") == len(whole) - 2 * 2000
    assert (await content(pool))[0] == len(whole)


@pytest.mark.usefixtures("timescale")
async def test_writers_go_on_while_a_chunk_is_converted(pool: Pool, database: str) -> None:
    tags = await make_tags(pool, 500)
    writer = Writer(pool)
    await write(writer, walks(tags, OLD, 2000), 0)
    live = int(time.time()) * 1_000_000
    await write(writer, walks(tags, live, 1), 1)
    tending = asyncio.create_task(asyncio.to_thread(chunks.tend, database))
    longest, seq = 0.0, 2
    loop = asyncio.get_running_loop()
    while not tending.done():
        begun = loop.time()
        await write(writer, walks(tags, live + seq * 1_000_000, 1), seq)
        longest, seq = max(longest, loop.time() - begun), seq + 1
    await tending
    assert seq > 5
    # not one of them waited for the conversion
    assert longest < 1
    first = (await asyncio.to_thread(chunks.layout, database)).parts[0]
    assert (first.form, first.problem) == ("columnstore", None)


@pytest.mark.usefixtures("timescale")
async def test_nothing_is_lost_or_doubled_where_corrections_and_the_conversion_of_their_chunk_get_in_each_others_way(
    pool: Pool, database: str
) -> None:
    """They do, in deadlocks and in conflicts that TimescaleDB breaks off: whichever side gives way does its part again."""
    tags = await make_tags(pool, 50)
    writer = Writer(pool)
    # as a server has it
    batcher = Batcher(writer, patience_s=60)
    batcher.start()
    first = walks(tags, OLD, 1500)
    stands = dict(zip(zip(first.tag_id.tolist(), first.ts.tolist(), strict=True), first.value.tolist(), strict=True))
    await batcher.submit(Batch("bulk", 0, first))
    rng = np.random.default_rng(7)
    tending, in_the_way = None, 0
    for seq in range(1, 121):
        if tending is None or tending.done():
            if tending is not None:
                await tending
                in_the_way += await pool.fetchval("SELECT count(*) FROM historian.storage_part WHERE problem IS NOT NULL")
            # from the beginning at times; whoever writes to it may be in the way of that too
            if seq % 3 == 0:
                with suppress(asyncpg.DeadlockDetectedError):
                    await pool.execute("SELECT decompress_chunk(chunk) FROM historian.chunk WHERE status & 1 = 1")
            tending = asyncio.create_task(asyncio.to_thread(chunks.tend, database))
        # corrections of what stands, and late samples between
        ts = np.full(len(tags), OLD + int(rng.integers(0, 1500)) * 1_000_000 + int(rng.integers(0, 2)) * 500_000)
        batch = Samples(tags, ts, np.full(len(tags), seq / 4), np.full(len(tags), 192, np.int16))
        answers = await asyncio.gather(batcher.submit(Batch("late", seq, batch)), batcher.submit(Batch("late", seq, batch)))
        assert sorted(answer.replayed for answer in answers) == [False, True]
        stands.update(dict.fromkeys(zip(tags.tolist(), ts.tolist(), strict=True), seq / 4))
    assert tending is not None
    await tending
    await batcher.close()

    async def found() -> dict[tuple[int, int], float]:
        rows = await pool.fetch("SELECT tag_id, ts, historian.number(mantissa, scale, value) AS value FROM historian.sample")
        values = {(row["tag_id"], row["ts"]): row["value"] for row in rows}
        assert len(values) == len(rows), "a sample is there twice"
        return values

    assert await found() == stands
    # and left in peace it is converted, whatever was in the way before
    for _ in range(2):
        await asyncio.to_thread(chunks.tend, database)
    assert await forms(pool) == [("columnstore", False, False, False)], in_the_way
    assert await found() == stands
    await writer.close()


@pytest.mark.usefixtures("timescale")
async def test_a_chunk_that_somebody_holds_is_passed_over_told_of_and_taken_the_next_time(pool: Pool, database: str) -> None:
    tags = await make_tags(pool, 5)
    writer = Writer(pool)
    for seq in range(2):
        await write(writer, walks(tags, OLD + seq * 5 * DAY_US, 100), seq)
    with psycopg.connect(database) as holder:
        first = holder.execute("SELECT chunk FROM historian.chunk ORDER BY range_start LIMIT 1").fetchone()
        assert first is not None
        holder.execute(f"LOCK TABLE {first[0]} IN ROW EXCLUSIVE MODE")
        await asyncio.to_thread(chunks.tend, database)
        found = (await asyncio.to_thread(chunks.layout, database)).parts
        assert [(part.form, part.problem is None) for part in found] == [("rowstore", False), ("columnstore", True)], found
        assert found[0].problem is not None
        assert "lock timeout" in found[0].problem
    await asyncio.to_thread(chunks.tend, database)
    found = (await asyncio.to_thread(chunks.layout, database)).parts
    assert [(part.form, part.problem) for part in found] == [("columnstore", None)] * 2


@pytest.mark.usefixtures("timescale")
async def test_the_interval_follows_the_rate_by_factors_of_two_and_more(pool: Pool, database: str) -> None:
    async def interval_for(rows_a_day: float) -> timedelta:
        await pool.execute("UPDATE historian.chunk_plan SET rows_a_day = $1, tags = 100, measured_at = now()", rows_a_day)
        await pool.execute("SELECT historian.follow_rate()")
        chunking = (await asyncio.to_thread(chunks.layout, database)).chunking
        assert chunking is not None
        return chunking.interval

    found = [await interval_for(rate) for rate in (1e3, 1e6, 1e8, 1e10, 1e12)]
    assert found[0] == chunks.LONGEST
    assert found[-1] == chunks.SHORTEST
    assert found == sorted(found, reverse=True)
    middle = await interval_for(4e7)
    assert [await interval_for(4e7 * factor) for factor in (0.8, 1.2, 0.8)] == [middle] * 3
    assert await interval_for(4e8) <= middle / 2


@pytest.mark.usefixtures("timescale")
async def test_the_rate_is_measured_from_what_comes_live_and_else_from_history(pool: Pool, database: str) -> None:
    tags = await make_tags(pool, 100)
    writer = Writer(pool)
    for day in range(2):
        await write(writer, walks(tags, OLD + day * DAY_US, 600), day)
    await asyncio.to_thread(chunks.tend, database)
    rate = await pool.fetchval("SELECT rows_a_day FROM historian.chunk_plan")
    assert rate == pytest.approx(60_000, rel=0.01)
    # an hour later 360 000 rows more have come into the chunk of today
    await pool.execute("UPDATE historian.chunk_plan SET measured_at = now() - interval '1 hour', rows_a_day = NULL")
    now = int(time.time()) * 1_000_000
    today = now // DAY_US * DAY_US
    await write(writer, walks(tags, today, 3600), 9)
    await asyncio.to_thread(chunks.tend, database)
    rate = await pool.fetchval("SELECT rows_a_day FROM historian.chunk_plan")
    assert rate > 60_000 * 5


@pytest.mark.usefixtures("timescale")
async def test_an_interval_chosen_by_hand_stays_until_it_is_given_back(pool: Pool, database: str) -> None:
    await pool.execute("UPDATE historian.chunk_plan SET rows_a_day = 1e12, tags = 1, measured_at = now()")
    await asyncio.to_thread(chunks.set_interval, database, timedelta(hours=12))
    await asyncio.to_thread(chunks.tend, database)
    chunking = (await asyncio.to_thread(chunks.layout, database)).chunking
    assert chunking is not None
    assert (chunking.interval, chunking.by_hand, chunking.recommended) == (timedelta(hours=12), True, timedelta(hours=1))
    await asyncio.to_thread(chunks.set_interval, database, None)
    chunking = (await asyncio.to_thread(chunks.layout, database)).chunking
    assert chunking is not None
    assert (chunking.interval, chunking.by_hand) == (timedelta(hours=1), False)


@pytest.mark.usefixtures("timescale")
async def test_room_is_made_ahead_by_the_interval_that_stands(pool: Pool, database: str) -> None:
    await asyncio.to_thread(chunks.set_interval, database, timedelta(days=7))
    now = OLD
    await Partitions(pool).make_ahead(now)
    parts = (await asyncio.to_thread(chunks.layout, database)).parts
    assert [(part.end - part.start) for part in parts] == [timedelta(days=7)] * 2
    assert parts[0].end == parts[1].start
