"""Rollups: whatever is written, corrected and deleted, and whenever they are refreshed, a bucket holds what its samples give, at every level, on both engines."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import asyncpg
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rollup_reference import COLUMNS, LEVELS, Row, assert_equal, expected
from rollups_by_hand import RollupsByHand

from historian.ingest.writer import Writer
from historian.schema.catalogue import Catalogue
from historian.schema.connection import Pool
from historian.schema.ledger import Batch
from historian.schema.samples import Samples
from historian.storage.rollups import RollupRefresh

MINUTE = 60_000_000
DAY = 86_400_000_000
START = 1_738_281_600_000_000  # 2025-01-31: two days around the end of a month


class Rollups(RollupsByHand):
    """The rollups of a database, and what they hold."""

    def buckets(self, level: str, tags: list[int]) -> dict[tuple[int, int], dict[str, Any]]:
        cursor = self.conn.execute(f"SELECT {COLUMNS} FROM historian.rollup_{level} WHERE tag_id = ANY(%s)".encode(), (tags,))
        assert cursor.description is not None
        names = [column.name for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        found = {(row["tag_id"], row["bucket"]): row for row in rows}
        assert len(found) == len(rows), f"{level}: a bucket is there twice"
        return found

    def check(self, samples: dict[tuple[int, int], Row], tags: list[int]) -> None:
        for level, seconds in LEVELS.items():
            assert_equal(self.buckets(level, tags), expected(samples.values(), seconds), level)


@pytest.fixture
def rollups(database: str) -> Iterator[Rollups]:
    made = Rollups(database)
    with made.conn:
        yield made


_paths = itertools.count()
_shifts = itertools.count()


async def new_tags(pool: Pool, count: int) -> list[int]:
    catalogue = Catalogue(pool)
    paths = [f"r/{next(_paths)}" for _ in range(count)]
    await catalogue.ensure(dict.fromkeys(paths, "float"))
    return [catalogue.get(path).tag_id for path in paths]


def samples_of(rows: list[Row]) -> Samples:
    return Samples(
        np.array([row.tag_id for row in rows], np.int32),
        np.array([row.ts for row in rows], np.int64),
        np.array([row.value for row in rows], np.float64),
        np.array([row.quality for row in rows], np.int16),
    )


#: decimals of several lengths, integers, noise, and what is hard on sums
values = st.one_of(
    st.integers(-10_000, 10_000).map(lambda n: n / 100),
    st.integers(-5, 5).map(float),
    st.sampled_from([0.1, 1e-7, 123456.789, -0.001, 9007199254740993.0, 1e15, 3.3333333333333335]),
    st.floats(-1e6, 1e6),
    # products and quotients of values next to nothing are errors to PostgreSQL
    st.sampled_from([5e-324, -1e-310, 1e-300, 2e-290, 1e289]),
)
#: clustered, so that many fall into a minute, some on the same microsecond, and some on the edges of buckets
times = st.one_of(
    st.integers(0, 2 * 24 * 60 - 1).map(lambda n: START + n * MINUTE),
    st.integers(0, 300).map(lambda n: START + DAY - 150_000_000 + n * 1_000_000),
    st.integers(0, 40).map(lambda n: START + 10 * MINUTE + n * 2_999_999),
    st.integers(0, 2 * DAY - 1).map(lambda us: START + us),
)
qualities = st.sampled_from([192, 192, 192, 200, 64, 130, 0, 24])
sample = st.tuples(st.integers(0, 1), times, values, qualities, st.booleans())
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.lists(sample, min_size=1, max_size=30)),
        st.tuples(st.just("correct"), st.integers(0, 1000)),
        st.tuples(st.just("delete"), st.integers(0, 1000)),
        st.tuples(st.just("refresh"), st.integers(0, 3 * DAY)),
    ),
    min_size=2,
    max_size=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
async def test_buckets_equal_what_the_samples_give_whatever_is_written_and_deleted_and_whenever_they_are_refreshed(
    pool: Pool, rollups: Rollups, steps: list[tuple[str, Any]]
) -> None:
    tags = await new_tags(pool, 2)
    # each time behind what was refreshed before
    shift = next(_shifts) * 4 * DAY
    writer = Writer(pool)
    stands: dict[tuple[int, int], Row] = {}

    async def write(rows: list[Row]) -> None:
        await writer.write([Batch(f"p{tags[0]}", write.count, samples_of(rows))])  # type: ignore[attr-defined]
        write.count += 1  # type: ignore[attr-defined]
        stands.update({(row.tag_id, row.ts): row for row in rows})

    write.count = 0  # type: ignore[attr-defined]
    furthest = 0
    for what, detail in steps:
        if what == "write":
            rows = [
                Row(tags[tag], ts + shift, float("nan") if is_nan and quality < 64 else value, quality)
                for tag, ts, value, quality, is_nan in detail
            ]
            await write(rows)
        elif what == "correct" and stands:
            old = list(stands.values())[detail % len(stands)]
            await write([Row(old.tag_id, old.ts, old.value + 1 if old.quality >= 64 else 5.25, 192)])
        elif what == "delete" and stands:
            key = list(stands)[detail % len(stands)]
            await pool.execute("DELETE FROM historian.sample WHERE tag_id = $1 AND ts = $2", *key)
            del stands[key]
        elif what == "refresh":
            # No less far than before: where buckets stand, TimescaleDB shows them, stale or not, until they are refreshed. Late samples before it are made, what is
            # behind it is aggregated when it is read.
            furthest = max(furthest, START + shift + detail)
            rollups.refresh(furthest)
            rollups.check(stands, tags)
    rollups.refresh(START + shift + 3 * DAY)
    rollups.check(stands, tags)
    await writer.close()


async def test_averages_of_values_next_to_nothing_and_of_nearly_infinite_ones_are_read_like_any(pool: Pool, rollups: Rollups) -> None:
    tiny, huge = await new_tags(pool, 2)
    writer = Writer(pool)
    rows = [Row(tag, START + n, value, 192) for tag, value in ((tiny, 5e-324), (huge, 1.7e308)) for n in range(3)]
    await writer.write([Batch("p", 0, samples_of(rows))])
    for _ in "before", "after":
        for level in LEVELS:
            query = (
                "SELECT tag_id, avg, min, max FROM historian.rollups_"
                + level
                + " JOIN historian.tag ON path = tag WHERE tag_id = ANY(%s) ORDER BY 1"
            )
            assert rollups.conn.execute(query.encode(), ([tiny, huge],)).fetchall() == [
                (tiny, 0.0, 5e-324, 5e-324),
                (huge, None, 1.7e308, 1.7e308),
            ]
        rollups.refresh(START + 2 * DAY)
    await writer.close()


async def test_what_was_never_refreshed_is_aggregated_when_it_is_read(pool: Pool, rollups: Rollups) -> None:
    (tag,) = await new_tags(pool, 1)
    writer = Writer(pool)
    rows = [Row(tag, START + n * 7_000_000, n / 10, 0 if n % 17 == 0 else 192) for n in range(2000)]
    await writer.write([Batch("p", 0, samples_of(rows[:1000]))])
    rollups.refresh(START + 3600_000_000)
    await writer.write([Batch("p", 1, samples_of(rows[1000:]))])
    rollups.check({(row.tag_id, row.ts): row for row in rows}, [tag])
    await writer.close()


async def test_values_at_the_end_of_all_numbers_stop_no_refresh(pool: Pool, rollups: Rollups) -> None:
    huge, tag = await new_tags(pool, 2)
    writer = Writer(pool)
    rows = [Row(tag, START + n * 1_000_000, float(n), 192) for n in range(10)]
    beyond = [Row(huge, START + n * 1_000_000, (-1) ** (n // 5) * 1.7e308, 192) for n in range(10)]
    await writer.write([Batch("p", 0, samples_of(rows + beyond))])
    rollups.refresh(START + DAY)
    rollups.check({(row.tag_id, row.ts): row for row in rows}, [tag])
    for level in LEVELS:
        (bucket,) = rollups.buckets(level, [huge]).values()
        assert (bucket["count"], bucket["min"], bucket["max"], bucket["first"]) == (10, -1.7e308, 1.7e308, 1.7e308)
        assert (bucket["sum"], bucket["step_area"], bucket["linear_area"]) == (None, None, None)
    await writer.close()


async def test_text_is_counted(pool: Pool, rollups: Rollups) -> None:
    import pyarrow as pa

    catalogue = Catalogue(pool)
    await catalogue.ensure({"r/text": "text"})
    tag = catalogue.get("r/text").tag_id
    writer = Writer(pool)
    nothing = np.full(3, np.nan)
    ts = START + np.arange(3, dtype=np.int64) * 1_000_000
    await writer.write(
        [Batch("p", 0, Samples(np.full(3, tag, np.int32), ts, nothing, np.array([192, 0, 192], np.int16), pa.array(["a", None, "b"])))]
    )
    for refreshed in (False, True):
        if refreshed:
            rollups.refresh(START + DAY)
        for level in LEVELS:
            (bucket,) = rollups.buckets(level, [tag]).values()
            assert (bucket["count"], bucket["good_count"], bucket["bad_count"]) == (3, 2, 1)
            assert (bucket["sum"], bucket["min"], bucket["min_ts"], bucket["first"]) == (None, None, None, None)
    await writer.close()


async def test_people_who_come_with_sql_see_buckets_by_path(pool: Pool, rollups: Rollups) -> None:
    (tag,) = await new_tags(pool, 1)
    writer = Writer(pool)
    await writer.write([Batch("p", 0, samples_of([Row(tag, START, 1.5, 192), Row(tag, START + 1, 2.5, 192), Row(tag, START + 2, 9.0, 0)]))])
    path = await pool.fetchval("SELECT path FROM historian.tag WHERE tag_id = $1", tag)
    for level in LEVELS:
        (row,) = await pool.fetch(f"SELECT * FROM historian.rollups_{level} WHERE tag = $1", path)
        assert (row["bucket"], row["count"], row["good_count"], row["bad_count"]) == (START, 3, 2, 1)
        assert (row["min"], row["max"], row["first"], row["last"], row["sum"], row["avg"]) == (1.5, 2.5, 1.5, 2.5, 4.0, 2.0)
    await writer.close()


async def test_time_weighted_averages_come_from_rollups(pool: Pool, rollups: Rollups) -> None:
    """Of a line that is broken by a bad sample, over two minutes: by their areas, and by what lies between the two."""
    (tag,) = await new_tags(pool, 1)
    writer = Writer(pool)
    rows = [
        *(Row(tag, START + 10_000_000, 10.0, 192), Row(tag, START + 20_000_000, 20.0, 192), Row(tag, START + 40_000_000, 0.0, 0)),
        *(Row(tag, START + 50_000_000, 30.0, 192), Row(tag, START + 70_000_000, 50.0, 192), Row(tag, START + 100_000_000, 50.0, 192)),
    ]
    await writer.write([Batch("p", 0, samples_of(rows))])
    query = """
    SELECT (sum({area}_area) + historian.area(array_agg(s ORDER BY s), array_agg(e ORDER BY s), array_agg(f ORDER BY s), array_agg(l ORDER BY s), {linear}))
         / (sum(known) + historian.known_seconds(array_agg(s ORDER BY s), array_agg(e ORDER BY s), array_agg(l ORDER BY s)))
    FROM historian.rollup_1m CROSS JOIN LATERAL (
        SELECT extract(epoch FROM COALESCE(start_ts, first_ts))::float8 AS s, extract(epoch FROM COALESCE(end_ts, last_ts))::float8 AS e,
            CASE WHEN start_ts IS NULL THEN COALESCE(historian.decimal_value(first_mantissa, scale), first_value) END AS f,
            CASE WHEN end_ts IS NULL THEN COALESCE(historian.decimal_value(last_mantissa, scale), last_value) END AS l
    ) AS b CROSS JOIN LATERAL (SELECT COALESCE(known_s, e - s) AS known) AS k
    WHERE tag_id = $1
    """
    # 10 to 20 in 10 s, 20 held for 20 s, nothing known for 10 s, 30 to 50 in 20 s, 50 for 30 s
    linear = await pool.fetchval(query.format(area="linear", linear="true"), tag)
    assert linear == pytest.approx((150 + 400 + 800 + 1500) / 80)
    step = await pool.fetchval(query.format(area="step", linear="false"), tag)
    assert step == pytest.approx((100 + 400 + 600 + 1500) / 80)
    await writer.close()


async def test_the_servers_refresh_leaves_nothing_to_do(pool: Pool, rollups: Rollups) -> None:
    if not rollups.plain:
        pytest.skip("TimescaleDB refreshes by a job of its own")
    tags = await new_tags(pool, 50)
    writer = Writer(pool)
    rows = [Row(tag, START + n * 30_000_000, n / 4, 192) for tag in tags for n in range(500)]
    await writer.write([Batch("p", 0, samples_of(rows))])
    refresh = RollupRefresh(pool)
    assert await refresh.refresh() > 0
    assert await refresh.refresh() == 0
    assert await pool.fetchval("SELECT count(*) FROM historian.rollup_change") == 0
    assert await pool.fetchval("SELECT count(*) FROM historian.rollup_1m_stored") == 50 * 250
    rollups.check({(row.tag_id, row.ts): row for row in rows}, tags)
    await writer.close()


async def test_retention_may_delete_samples_and_keep_their_rollups(pool: Pool, rollups: Rollups) -> None:
    if not rollups.plain:
        pytest.skip("the setting is the plain engine's")
    (tag,) = await new_tags(pool, 1)
    writer = Writer(pool)
    row = Row(tag, START, 1.5, 192)
    await writer.write([Batch("p", 0, samples_of([row]))])
    rollups.refresh(START + 2 * DAY)
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("SET LOCAL historian.keep_rollups = on")
        await conn.execute("DELETE FROM historian.sample")
    rollups.refresh(START + 2 * DAY)
    rollups.check({(tag, START): row}, [tag])
    # by hand, without it, they go too
    await writer.write([Batch("p", 1, samples_of([row]))])
    await pool.execute("UPDATE historian.sample SET mantissa = 7, scale = 0")
    rollups.refresh(START + 2 * DAY)
    rollups.check({(tag, START): Row(tag, START, 7.0, 192)}, [tag])
    await pool.execute("DELETE FROM historian.sample")
    rollups.refresh(START + 2 * DAY)
    rollups.check({}, [tag])
    await writer.close()


async def test_of_two_refreshes_at_once_one_works_and_the_other_leaves_it_to_it(pool: Pool, rollups: Rollups) -> None:
    if not rollups.plain:
        pytest.skip("TimescaleDB refreshes by a job of its own")
    (tag,) = await new_tags(pool, 1)
    writer = Writer(pool)
    await writer.write([Batch("p", 0, samples_of([Row(tag, START, 1.5, 192)]))])
    async with pool.acquire() as conn:
        working = conn.transaction()
        await working.start()
        assert await conn.fetchval("SELECT historian.refresh_rollups($1)", START + DAY) > 0
        assert await pool.fetchval("SELECT historian.refresh_rollups($1)", START + DAY) == 0
        await working.rollback()
    assert await pool.fetchval("SELECT historian.refresh_rollups($1)", START + DAY) > 0
    with pytest.raises(asyncpg.UniqueViolationError):
        # what a bucket rests on
        await pool.execute("INSERT INTO historian.rollup_1m_stored SELECT * FROM historian.rollup_1m_stored")
    await writer.close()
