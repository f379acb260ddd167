"""Aggregates on a real database: every mode gives what its samples do by a plain reckoning, whole and in pieces, from rollups and from raw samples."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from aggregate_reference import Row, expected
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rollups_by_hand import RollupsByHand

from historian.ingest.writer import Writer
from historian.query.aggregates import AGGREGATES
from historian.query.interval import Interval, parse_origin, parse_zone
from historian.query.range import MAX_ROWS, RangeQuery, read_range
from historian.query.range_query import Mode
from historian.schema.catalogue import Catalogue, Tag, TagDefinition
from historian.schema.connection import Pool
from historian.schema.ledger import Batch
from historian.schema.samples import Samples, concat

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
#: two days before Europe's clocks are put forward
T = 1_774_569_600_000_000  # 2026-03-27
NOW = time.time_ns() // 1000

_numbers = itertools.count()
_seqs = itertools.count()

DEFINITIONS: list[dict[str, Any]] = [
    {"kind": "float", "unit": "m"},
    {"kind": "float", "step": True},
    {"kind": "int", "low": 0, "high": 999},
    {"kind": "digital", "states": {"0": "off", "1": "on", "-7": "fault"}},
    {"kind": "bool"},
    {"kind": "text"},
]
FLOATS = [0.0, 1.5, -2.25, 0.1, 1e-7, 123456.789, 1e15, 5e-324, 1e289, 3.3333333333333335]


def value_of(tag: Tag, n: int) -> float | str:
    match tag.kind:
        case "float":
            return FLOATS[n % len(FLOATS)] if n % 3 else (n % 1000) / 100
        case "int":
            return float(n % 1000)
        case "digital":
            return float((-7, 0, 1, 5)[n % 4])
        case "bool":
            return float(n % 2)
        case _:
            return ("", "idle", "CIP “2”", "run, fast")[n % 4]


def samples_of(tags: list[Tag], rows: dict[tuple[int, int], Row]) -> Samples:
    """As columns, by the places of their tags and their times."""
    ordered = sorted(rows.items())
    return Samples(
        np.array([tags[which].tag_id for (which, _), _ in ordered], np.int32),
        np.array([ts for (_, ts), _ in ordered], np.int64),
        np.array([row.value if isinstance(row.value, float) else np.nan for _, row in ordered], np.float64),
        np.array([row.quality for _, row in ordered], np.int16),
        pa.array([row.value if isinstance(row.value, str) else None for _, row in ordered], pa.string()),
    )


async def define(pool: Pool, definitions: list[dict[str, Any]]) -> list[Tag]:
    return await Catalogue(pool).define([TagDefinition(path=f"a/{next(_numbers)}", **definition) for definition in definitions])


async def write(pool: Pool, tags: list[Tag], rows: dict[tuple[int, int], Row]) -> None:
    writer = Writer(pool)
    await writer.write([Batch("test", next(_seqs), samples_of(tags, rows))])
    await writer.close()


async def read(pool: Pool, query: RangeQuery) -> Samples:
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        async with aclosing(read_range(conn, query)) as reader:
            chunks = [chunk async for chunk in reader]
        assert await conn.fetchval("SELECT 1") == 1
    assert all(0 < len(chunk) <= MAX_ROWS for chunk in chunks)
    return concat(chunks)


def rows_of(samples: Samples, tag: Tag, mode: Mode) -> list[Row]:
    mine = samples.take(samples.tag_id == tag.tag_id)
    texts: list[str | None] = mine.text_or_nulls().to_pylist()
    numbers = [None if value != value else value for value in mine.value.tolist()]
    columns = zip(mine.ts.tolist(), numbers, mine.quality.tolist(), texts, strict=True)
    if tag.kind == "text" and mode in ("first", "last"):
        return [Row(ts, text, quality) for ts, _, quality, text in columns]
    return [Row(ts, number, quality, text) for ts, number, quality, text in columns]


def assert_same(found: list[Row], wanted: list[Row], room: float, where: object) -> None:
    assert [(row.ts, row.quality, row.state) for row in found] == [(row.ts, row.quality, row.state) for row in wanted], where
    for one, other in zip(found, wanted, strict=True):
        if isinstance(one.value, float) and isinstance(other.value, float):
            assert abs(one.value - other.value) <= room, (where, one, other)
        else:
            assert one.value == other.value, (where, one, other)


def room_for(mode: Mode, values: list[float], seconds: float) -> float:
    """How far sums of floats may be off: of many large values that cancel out, little is exact."""
    scale = max([1.0, *map(abs, values)])
    match mode:
        case "min" | "max" | "first" | "last" | "count" | "transitions":
            return 0.0
        case "percent_good":
            return 1e-7
        case "duration":
            return 0.0
        case "integral":
            return 1e-9 * scale * max(seconds, 1)
        case "stddev":
            return 1e-7 * scale
        case _:
            return 1e-9 * scale * max(1, len(values))


INTERVALS = [
    ("1m", "UTC", "00:00", MINUTE),
    ("45s", "UTC", "00:00", 45 * SECOND),
    ("7m", "UTC", "00:00", 7 * MINUTE),
    ("10m", "Australia/Lord_Howe", "00:00", 10 * MINUTE),
    ("1h", "Europe/Amsterdam", "00:00", HOUR),
    ("8h", "Europe/Amsterdam", "06:00", 8 * HOUR),
    ("13h", "UTC", "00:00", 13 * HOUR),
    ("1d", "UTC", "00:00", DAY),
    ("1d", "Europe/Amsterdam", "06:00", DAY),
    ("1d", "America/St_Johns", "00:00", DAY),
    ("1mo", "Europe/Amsterdam", "00:00", 30 * DAY),
    (None, "UTC", "00:00", DAY),
]
#: clustered: on edges of minutes and hours, and on the same microsecond
times = st.one_of(
    st.integers(0, 5 * 24 * 60).map(lambda n: T + n * MINUTE),
    st.integers(0, 300).map(lambda n: T + 2 * DAY - 150 * SECOND + n * SECOND),
    st.integers(0, 40).map(lambda n: T + 10 * MINUTE + n * 2_999_999),
    st.integers(0, 5 * DAY).map(lambda us: T + us),
)
sample = st.tuples(st.integers(0, 5), times, st.integers(0, 2000), st.sampled_from([192, 192, 192, 200, 64, 130, 0, 24]))


@st.composite
def queries(draw: st.DrawFn) -> tuple[Any, int, int, set[int]]:
    """The interval, the span, and which of its edges to cut it at."""
    interval = draw(st.sampled_from(INTERVALS))
    width = interval[3]
    start = draw(times)
    if draw(st.booleans()):
        start = start // HOUR * HOUR
    length = draw(st.one_of(st.integers(1, 60).map(lambda n: n * width), st.integers(1, 3 * DAY)))
    return interval, start, min(start + length, start + 200 * width), draw(st.sets(st.integers(0, 200), max_size=2))


@pytest.fixture
def by_hand(database: str) -> Iterator[RollupsByHand]:
    made = RollupsByHand(database)
    with made.conn:
        yield made


#: two days before the clocks are changed in Europe, in spring and autumn: every example has another, behind what was refreshed before
_changes = itertools.cycle(
    int(np.datetime64(f"{year}-{month}-31T00:00:00", "us").astype(np.int64)) for year in range(1982, 2026) for month in ("03", "10")
)


def _before_sunday(last_of_month: int) -> int:
    days = last_of_month // DAY
    return (days - (days - 3) % 7 - 2) * DAY


# an example takes a quarter of a second: to shrink one would take minutes
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    batches=st.lists(st.lists(sample, min_size=1, max_size=60), min_size=1, max_size=3),
    refreshed=st.integers(0, 8 * DAY),
    asked=queries(),
    modes=st.sets(st.sampled_from(sorted(AGGREGATES)), min_size=5, max_size=5),
)
async def test_every_mode_gives_what_the_samples_do(
    pool: Pool, by_hand: RollupsByHand, batches: list[list[tuple[int, int, int, int]]], refreshed: int, asked: Any, modes: set[Mode]
) -> None:
    """Whatever is written, corrected and bad; from rollups wherever they do; whole and in pieces."""
    shift = _before_sunday(next(_changes)) - T
    (text, zone, origin, _), start, end, picked = asked
    start, end = start + shift, end + shift
    interval = None if text is None else Interval.parse(text, parse_zone(zone), parse_origin(origin))
    tags = await define(pool, DEFINITIONS)
    written: dict[int, dict[int, Row]] = defaultdict(dict)
    for batch in batches:
        rows = {}
        for which, ts, number, quality in batch:
            missing = quality < 64 and number % 2
            row = Row(ts + shift, None if missing else value_of(tags[which], number), quality)
            rows[which, row.ts] = written[which][row.ts] = row
        await write(pool, tags, rows)
    by_hand.refresh(T + shift + refreshed)
    edges = [start, end] if interval is None else interval.edges(start, end).tolist()
    clipped = [start, *edges[1:-1], end]
    starts = [start] if interval is None else edges[:-1]
    cuts = sorted({edges[1:-1][n % (len(edges) - 2)] for n in picked}) if len(edges) > 2 else []
    for mode in sorted(modes):
        fitting = [tag for tag in tags if tag.kind in AGGREGATES[mode]]
        whole = await read(pool, RangeQuery(tags, start, end, mode, interval=interval))
        pieces = [await read(pool, RangeQuery(fitting, a, b, mode, interval=interval)) for a, b in itertools.pairwise([start, *cuts, end])]
        for which, tag in enumerate(tags):
            mine = [row for _, row in sorted(written[which].items())]
            values = [row.value for row in mine if isinstance(row.value, float)]
            room = room_for(mode, values, (end - start) / 1e6)
            if tag not in fitting:
                assert [(row.value, row.quality) for row in rows_of(whole, tag, mode)] == [(None, 0)] * len(starts)
                continue
            wanted = expected(mode, tag, mine, starts, clipped, NOW)
            assert_same(rows_of(whole, tag, mode), wanted, room, (mode, tag, interval))
            cut = [row for piece in pieces for row in rows_of(piece, tag, mode)]
            assert_same(cut, wanted, room, (mode, tag, interval, "in pieces"))
