"""Auto: drawn as raw samples would be, column by column, from whatever it was read."""

from __future__ import annotations

import itertools
from contextlib import aclosing
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rollup_reference import LEVELS
from rollup_refresh import Refresh

from historian.ingest.writer import Writer
from historian.query.auto import Columns
from historian.query.range import RangeQuery, read_range
from historian.schema.catalogue import Catalogue, Tag, TagDefinition
from historian.schema.connection import Pool
from historian.schema.ledger import Batch
from historian.schema.samples import UNCERTAIN, Samples, concat

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = 1_738_281_600_000_000  # 2025-01-31

_paths = itertools.count()
_shifts = itertools.count()


async def read(pool: Pool, query: RangeQuery) -> Samples:
    async with (
        pool.acquire() as conn,
        conn.transaction(isolation="repeatable_read", readonly=True),
        aclosing(read_range(conn, query)) as chunks,
    ):
        return concat([chunk async for chunk in chunks])


def assert_drawn_alike(found: Samples, raw: Samples, origin: int, width: int) -> None:
    """Of one tag: every column has the same first, last, smallest and greatest sample, and its line is broken where the raw one is."""
    assert (np.diff(found.ts) > 0).all()
    standing = {ts: (value, quality) for ts, value, quality in zip(raw.ts.tolist(), raw.value.tolist(), raw.quality.tolist(), strict=True)}
    for ts, value, quality in zip(found.ts.tolist(), found.value.tolist(), found.quality.tolist(), strict=True):
        # real samples, at their own times; rollups know no more of a quality than its class
        assert ts in standing, ts
        was, was_quality = standing[ts]
        assert (quality >= UNCERTAIN) == (was_quality >= UNCERTAIN)
        assert quality < UNCERTAIN or value == was
        assert quality < 192 or was_quality >= 192
    for column in np.unique((raw.ts - origin) // width).tolist():
        mine, theirs = (samples.take((samples.ts - origin) // width == column) for samples in (found, raw))
        bad_mine, bad_theirs = mine.quality < UNCERTAIN, theirs.quality < UNCERTAIN
        assert bad_mine.any() == bad_theirs.any(), "a column shows a bad sample where it has one"
        assert (bad_mine[0], bad_mine[-1]) == (bad_theirs[0], bad_theirs[-1]), "the line is broken at the edge of a column where it was"
        known, wanted = mine.take(~bad_mine), theirs.take(~bad_theirs)
        assert bool(len(known)) == bool(len(wanted))
        if len(known):
            for at in 0, -1:
                assert (known.ts[at], known.value[at]) == (wanted.ts[at], wanted.value[at])
            for extreme in np.argmin, np.argmax:
                assert known.ts[extreme(known.value)] == wanted.ts[extreme(wanted.value)]
                assert known.value[extreme(known.value)] == wanted.value[extreme(wanted.value)]
    assert set(((found.ts - origin) // width).tolist()) == set(((raw.ts - origin) // width).tolist()), "gaps stay gaps"


def check(found: Samples, raw: Samples, tags: list[Tag], query: RangeQuery) -> None:
    columns = Columns.of(query.start, query.end, query.points)
    assert columns.origin <= query.start
    assert columns.width * (query.points // 4) >= query.end - query.start
    assert found.tag_id.tolist() == sorted(found.tag_id.tolist())
    for tag in tags:
        mine, theirs = (samples.take(samples.tag_id == tag.tag_id) for samples in (found, raw))
        strict = -(-(query.end - query.start) // (query.points // 4))
        if len(theirs) <= query.points:
            # whole, with their qualities
            assert (mine.ts.tolist(), mine.quality.tolist()) == (theirs.ts.tolist(), theirs.quality.tolist())
        elif columns.level is None or (query.end - query.start <= 2 * DAY and len(theirs) <= 4 * query.points):
            assert_drawn_alike(mine, theirs, query.start, strict)
        else:
            assert_drawn_alike(mine, theirs, columns.origin, columns.width)
            assert (mine.quality >= UNCERTAIN).sum() <= query.points


def history(tag: Tag, start: int, span: int, n: int, seed: int) -> Samples:
    """Bursts and silences, with bad samples alone and in series, and equal values."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, span, 6)
    spread = rng.choice([span // 500 + 1, span // 20 + 1, span], 6)
    which = rng.integers(0, 6, n)
    ts = np.unique(start + (centres[which] + rng.integers(0, spread[which])) % span)
    # some on the edges of buckets
    ts = np.unique(np.where(rng.random(len(ts)) < 0.1, ts // MINUTE * MINUTE, ts))
    ts = ts[ts >= start]
    value = np.round(rng.normal(0, 3, len(ts)).cumsum(), rng.choice([0, 1, 2])) if seed % 2 else rng.normal(0, 3, len(ts))
    quality = rng.choice(np.array([192, 192, 192, 192, 200, 64, 130], np.int16), len(ts))
    if seed % 3:
        quality[rng.random(len(ts)) < 0.03] = 0
        for at in rng.integers(0, len(ts), 3):
            quality[at : at + rng.integers(1, 60)] = 24
    return Samples(np.full(len(ts), tag.tag_id, np.int32), ts, np.where(quality < 64, np.nan, value), quality)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31),
    span=st.sampled_from([20 * MINUTE, 3 * HOUR, DAY, 5 * DAY, 30 * DAY]),
    counts=st.lists(st.sampled_from([30, 200, 900]), min_size=1, max_size=3),
    refreshes=st.lists(st.tuples(st.sampled_from(["1m", "10m", "1h", "6h", "1d", "all"]), st.floats(0, 1.1)), max_size=5),
    late=st.integers(0, 3),
    asked=st.lists(st.tuples(st.integers(10, 60), st.floats(0, 0.3), st.floats(0.5, 1.1)), min_size=3, max_size=3),
)
async def test_every_column_is_drawn_as_from_the_samples(
    pool: Pool,
    refresh: Refresh,
    seed: int,
    span: int,
    counts: list[int],
    refreshes: list[tuple[str, float]],
    late: int,
    asked: list[tuple[int, float, float]],
) -> None:
    tags = await Catalogue(pool).define([TagDefinition(path=f"auto/{next(_paths)}", kind="float") for _ in counts])
    start = START + next(_shifts) * 40 * DAY
    writer = Writer(pool)
    seq = itertools.count()
    producer = f"p{tags[0].tag_id}"
    for n, (tag, count) in enumerate(zip(tags, counts, strict=True)):
        await writer.write([Batch(producer, next(seq), history(tag, start, span, count, seed + n))])
    for level, part in refreshes:
        for one in LEVELS if level == "all" else [level]:
            refresh.some(one, start + int(part * span))
    for n in range(late):
        # late, and over what stands there
        await writer.write([Batch(producer, next(seq), history(tags[n % len(tags)], start, span, 5, seed + 10 + n))])
    for points, lo, hi in asked:
        query = RangeQuery(tags, start + int(lo * span), start + int(hi * span), "auto", points)
        raw = await read(pool, RangeQuery(tags, query.start, query.end))
        check(await read(pool, query), raw, tags, query)
    await writer.close()


def test_columns_are_whole_buckets_and_nearly_as_many_as_were_asked_for() -> None:
    for span in (HOUR, DAY, 30 * DAY, 365 * DAY, 3650 * DAY, 10**17):
        for points in (10, 400, 2000, 7999, 100_000):
            for start in (START, START + 1, START + 12_345_678_901):
                columns = Columns.of(start, start + span, points)
                asked = -(-span // (points // 4))
                assert columns.origin <= start < columns.origin + columns.width
                assert columns.origin + (points // 4) * columns.width >= start + span
                assert asked <= columns.width <= 3 * asked
                if columns.level is None:
                    assert (columns.origin, columns.width) == (start, asked)
                else:
                    bucket = LEVELS[columns.level] * SECOND
                    assert columns.width % bucket == 0 == columns.origin % bucket
    levels = [Columns.of(START, START + span, 2000).level for span in (HOUR, DAY, 30 * DAY, 365 * DAY, 3652 * DAY)]
    assert levels == [None, "1m", "10m", "6h", "1d"]


def test_a_span_whose_columns_are_whole_buckets_is_cut_just_so() -> None:
    """A viewer that asks for columns of 1 h from a full hour on gets exactly its pixels."""
    columns = Columns.of(START + 5 * HOUR, START + 5 * HOUR + 500 * HOUR, 2000)
    assert (columns.origin, columns.width) == (START + 5 * HOUR, HOUR)


@pytest.mark.parametrize("kind", ["digital", "bool", "int", "text"])
async def test_other_kinds_over_long_spans(pool: Pool, refresh: Refresh, store: Any, make_tags: Any, kind: Any) -> None:
    (tag,) = await make_tags({"k/a": kind})
    n = 3000
    ts = START + np.arange(n, dtype=np.int64) * MINUTE
    state = np.arange(n) // 7 % 2
    text = pa.array([f"s{s}" for s in state]) if kind == "text" else None
    value = np.full(n, np.nan) if kind == "text" else state.astype(float)
    written = Samples(np.full(n, tag.tag_id, np.int32), ts, value, np.full(n, 192, np.int16), text)
    await store(written)
    for level in LEVELS:
        refresh.some(level, START + 10 * DAY)
    query = RangeQuery([tag], START, START + n * MINUTE, "auto", 400)
    found = await read(pool, query)
    if kind == "text":
        assert len(found) <= 400
        assert found.text is not None
        assert set(found.text.to_pylist()) == {"s0", "s1"}
    else:
        check(found, written, [tag], query)


async def test_rollups_whose_samples_are_gone_are_drawn_still(pool: Pool, refresh: Refresh, store: Any, make_tags: Any) -> None:
    """Retention keeps rollups longer than samples."""
    if not refresh.plain:
        pytest.skip("the setting is the plain engine's")
    (tag,) = await make_tags({"k/gone": "float"})
    n = 2000
    ts = START + np.arange(n, dtype=np.int64) * 10 * MINUTE
    await store(Samples(np.full(n, tag.tag_id, np.int32), ts, np.sin(np.arange(n) / 50), np.full(n, 192, np.int16)))
    for _ in range(5):
        for level in LEVELS:
            refresh.some(level, START + 20 * DAY)
    query = RangeQuery([tag], START, START + 14 * DAY, "auto", 4000)
    before = await read(pool, query)
    assert len(before) == 2000
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("SET LOCAL historian.keep_rollups = on")
        await conn.execute("DELETE FROM historian.sample")
    found = await read(pool, query)
    assert len(found)
    assert set(zip(found.ts.tolist(), found.value.tolist(), strict=True)) <= set(
        zip(before.ts.tolist(), before.value.tolist(), strict=True)
    )


@pytest.mark.parametrize("step_us", [4 * SECOND, 4 * MINUTE], ids=["samples", "rollups"])
async def test_the_first_chunk_is_of_the_first_pens(pool: Pool, refresh: Refresh, store: Any, make_tags: Any, step_us: int) -> None:
    """Who opens a trend does not wait for its last pen. Nothing is lost or comes twice where the pens are read one after the other."""
    tags = await make_tags({f"k/pen{n}": "float" for n in range(6)})
    n = 5400
    ts = START + np.arange(n, dtype=np.int64) * step_us
    rng = np.random.default_rng(1)
    for tag in tags:
        await store(Samples(np.full(n, tag.tag_id, np.int32), ts, rng.normal(size=n).round(2), np.full(n, 192, np.int16)))
    for level in LEVELS:
        refresh.some(level, START + n * step_us)
    query = RangeQuery(tags, START, START + n * step_us, "auto", 2000)
    assert (Columns.of(query.start, query.end, query.points).level is None) == (step_us < MINUTE)
    async with (
        pool.acquire() as conn,
        conn.transaction(isolation="repeatable_read", readonly=True),
        aclosing(read_range(conn, query)) as chunks,
    ):
        parts = [chunk async for chunk in chunks]
    assert set(parts[0].tag_id.tolist()) <= {tag.tag_id for tag in tags[:2]}
    check(concat(parts), await read(pool, RangeQuery(tags, query.start, query.end)), tags, query)
