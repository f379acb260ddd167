"""Reading rollups: exact in the reader's snapshot, whatever was written, corrected and deleted since their last refresh, and in the middle of one, on both engines."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rollup_reference import LEVELS, Row, assert_equal, expected
from rollup_refresh import Refresh

from historian.ingest.writer import Writer
from historian.query.buckets import NO_TIME, Buckets, concat_buckets
from historian.query.rollups import Level, read_rollups
from historian.schema.catalogue import Catalogue, Tag, TagDefinition
from historian.schema.connection import Connection, Pool
from historian.schema.ledger import Batch
from historian.schema.samples import Samples

MINUTE = 60_000_000
DAY = 86_400_000_000
START = 1_738_281_600_000_000  # 2025-01-31: two days around the end of a month

_paths = itertools.count()
_shifts = itertools.count()


async def new_tags(pool: Pool, count: int) -> list[Tag]:
    return await Catalogue(pool).define([TagDefinition(path=f"rr/{next(_paths)}", kind="float") for _ in range(count)])


def samples_of(rows: list[Row]) -> Samples:
    return Samples(
        np.array([row.tag_id for row in rows], np.int32),
        np.array([row.ts for row in rows], np.int64),
        np.array([row.value for row in rows], np.float64),
        np.array([row.quality for row in rows], np.int16),
    )


def as_rows(buckets: Buckets) -> dict[tuple[int, int], dict[str, Any]]:
    """As the reference has them."""

    def number(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    def time(us: int) -> int | None:
        return None if us == NO_TIME else int(us)

    found = {}
    for n in range(len(buckets)):
        row: dict[str, Any] = {name: int(getattr(buckets, name)[n]) for name in ("count", "good_count", "bad_count", "start_ts", "end_ts")}
        row |= {
            name: number(getattr(buckets, name)[n])
            for name in ("sum", "min", "max", "first", "last", "step_area", "linear_area", "known_s")
        }
        row |= {name: time(getattr(buckets, name)[n]) for name in ("min_ts", "max_ts", "first_ts", "last_ts")}
        found[int(buckets.tag_id[n]), int(buckets.start[n])] = row
    assert len(found) == len(buckets), "a bucket comes twice"
    return found


async def check(conn: Connection, tags: list[Tag], samples: dict[tuple[int, int], Row], start: int, end: int) -> None:
    """All levels, in the transaction that is open."""
    for level in get_args(Level):
        buckets = concat_buckets([part async for part in read_rollups(conn, tags, level, start, end)])
        order = list(zip(buckets.tag_id.tolist(), buckets.start.tolist(), strict=True))
        assert order == sorted(order)
        assert_equal(as_rows(buckets), expected(samples.values(), LEVELS[level]), level)


values = st.one_of(st.integers(-10_000, 10_000).map(lambda n: n / 100), st.integers(-5, 5).map(float), st.floats(-1e6, 1e6))
times = st.one_of(
    st.integers(0, 2 * 24 * 60 - 1).map(lambda n: START + n * MINUTE),
    st.integers(0, 300).map(lambda n: START + DAY - 150_000_000 + n * 1_000_000),
    st.integers(0, 40).map(lambda n: START + 10 * MINUTE + n * 2_999_999),
    st.integers(0, 2 * DAY - 1).map(lambda us: START + us),
)
sample = st.tuples(st.integers(0, 1), times, values, st.sampled_from([192, 192, 192, 64, 130, 0]))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.lists(sample, min_size=1, max_size=30)),
        st.tuples(st.just("correct"), st.integers(0, 1000)),
        st.tuples(st.just("delete"), st.integers(0, 1000)),
        st.tuples(st.just("refresh"), st.tuples(st.sampled_from(["1m", "1m", "10m", "1h", "6h", "1d"]), st.integers(0, 3 * DAY))),
        st.tuples(st.just("refresh"), st.tuples(st.sampled_from(["1m", "10m", "1h", "6h", "1d"]), st.just(3 * DAY))),
        st.tuples(st.just("open"), st.none()),
    ),
    min_size=3,
    max_size=12,
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
async def test_buckets_are_what_the_samples_of_the_snapshot_give(pool: Pool, refresh: Refresh, steps: list[tuple[str, Any]]) -> None:
    tags = await new_tags(pool, 2)
    # each time behind what was refreshed before
    shift = next(_shifts) * 4 * DAY
    start, end = START + shift, START + shift + 3 * DAY
    writer = Writer(pool)
    stands: dict[tuple[int, int], Row] = {}
    earlier: dict[tuple[int, int], Row] | None = None
    seq = itertools.count()
    async with pool.acquire() as before:
        opened = None
        for what, detail in steps:
            if what == "write":
                rows = [Row(tags[tag].tag_id, ts + shift, value, quality) for tag, ts, value, quality in detail]
                await writer.write([Batch(f"p{tags[0].tag_id}", next(seq), samples_of(rows))])
                stands.update({(row.tag_id, row.ts): row for row in rows})
            elif what == "correct" and stands:
                old = list(stands.values())[detail % len(stands)]
                row = Row(old.tag_id, old.ts, old.value + 1, 192)
                await writer.write([Batch(f"p{tags[0].tag_id}", next(seq), samples_of([row]))])
                stands[row.tag_id, row.ts] = row
            elif what == "delete" and stands:
                key = list(stands)[detail % len(stands)]
                await pool.execute("DELETE FROM historian.sample WHERE tag_id = $1 AND ts = $2", *key)
                del stands[key]
            elif what == "refresh":
                refresh.some(detail[0], START + shift + detail[1])
            elif what == "open" and opened is None:
                # a reader that has its snapshot, and comes to read later
                opened = before.transaction(isolation="repeatable_read", readonly=True)
                await opened.start()
                await before.fetchval("SELECT 1")
                earlier = dict(stands)
            async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
                await check(conn, tags, stands, start, end)
        if opened is not None and earlier is not None:
            await check(before, tags, earlier, start, end)
            await opened.rollback()
    await writer.close()


async def test_a_late_sample_is_seen_and_only_its_surroundings_are_read_from_samples(pool: Pool, refresh: Refresh) -> None:
    tags = await new_tags(pool, 3)
    writer = Writer(pool)
    rows = [Row(tag.tag_id, START + n * 10_000_000, float(n % 97), 192) for tag in tags for n in range(2 * 8640)]
    await writer.write([Batch("p", 0, samples_of(rows))])
    for level in LEVELS:
        for _ in range(5):
            refresh.some(level, START + 2 * DAY)
    stands = {(row.tag_id, row.ts): row for row in rows}
    late = Row(tags[1].tag_id, START + 7 * 3_600_000_000 + 1, 1e6, 192)
    await writer.write([Batch("p", 1, samples_of([late]))])
    stands[late.tag_id, late.ts] = late
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        await check(conn, tags, stands, START, START + 2 * DAY)
    await writer.close()


async def test_edges_inside_of_buckets_move_to_where_buckets_begin(pool: Pool, refresh: Refresh) -> None:
    (tag,) = await new_tags(pool, 1)
    writer = Writer(pool)
    rows = [Row(tag.tag_id, START + n * 20_000_000, n / 10, 192) for n in range(100)]
    await writer.write([Batch("p", 0, samples_of(rows))])
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        found = [part async for part in read_rollups(conn, [tag], "1m", START + 1, START + 3 * MINUTE + 1)]
        assert concat_buckets(found).start.tolist() == [START + MINUTE, START + 2 * MINUTE, START + 3 * MINUTE]
        assert [part async for part in read_rollups(conn, [tag], "1m", START, START)] == []
        assert [part async for part in read_rollups(conn, [], "1m", START, START + DAY)] == []
    await writer.close()
