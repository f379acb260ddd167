"""Aggregates on a real database: every mode gives what its samples do by a plain reckoning, whole and in pieces, from rollups and from raw samples."""

from __future__ import annotations

import itertools
import time
import tracemalloc
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
from historian.query import bucket_reader, states
from historian.query.aggregates import AGGREGATES
from historian.query.interval import Interval, parse_origin, parse_zone
from historian.query.range import MAX_ROWS, RangeQuery, read_range
from historian.query.range_query import Mode
from historian.query.rollups import read_rollups
from historian.schema.catalogue import Catalogue, Tag, TagDefinition
from historian.schema.connection import Pool
from historian.schema.errors import BadInput, TooLarge
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
    """In the order of their tag_id."""
    catalogue = Catalogue(pool)
    return [tag for definition in definitions for tag in await catalogue.define([TagDefinition(path=f"a/{next(_numbers)}", **definition)])]


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
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    batches=st.lists(st.lists(sample, min_size=1, max_size=60), min_size=1, max_size=3),
    refreshed=st.tuples(st.integers(0, 2), st.integers(0, 8 * DAY)),
    asked=queries(),
    modes=st.sets(st.sampled_from(sorted(AGGREGATES)), min_size=5, max_size=5),
)
async def test_every_mode_gives_what_the_samples_do(
    pool: Pool,
    by_hand: RollupsByHand,
    batches: list[list[tuple[int, int, int, int]]],
    refreshed: tuple[int, int],
    asked: Any,
    modes: set[Mode],
) -> None:
    """Whatever is written, corrected and bad, and whenever rollups are refreshed; whole and in pieces."""
    shift = _before_sunday(next(_changes)) - T
    (text, zone, origin, _), start, end, picked = asked
    start, end = start + shift, end + shift
    interval = None if text is None else Interval.parse(text, parse_zone(zone), parse_origin(origin))
    tags = await define(pool, DEFINITIONS)
    written: dict[int, dict[int, Row]] = defaultdict(dict)
    for n, batch in enumerate(batches):
        rows = {}
        for which, ts, number, quality in batch:
            missing = quality < 64 and number % 2
            row = Row(ts + shift, None if missing else value_of(tags[which], number), quality)
            rows[which, row.ts] = written[which][row.ts] = row
        await write(pool, tags, rows)
        if n == refreshed[0]:
            by_hand.refresh(T + shift + refreshed[1])
    edges = [start, end] if interval is None else interval.edges(start, end).tolist()
    clipped = [start, *edges[1:-1], end]
    starts = [start] if interval is None else edges[:-1]
    cuts = sorted({edges[1:-1][n % (len(edges) - 2)] for n in picked}) if len(edges) > 2 else []
    # without an interval the last one is the newest sample of any quality, with its own time: tests/query/test_instants.py
    for mode in sorted(modes if interval is not None else modes - {"last"}):
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


BY_SAMPLES: list[Mode] = ["avg", "sum", "min", "max", "first", "last", "range", "delta", "count"]
BY_LINE: list[Mode] = ["twa", "integral", "percent_good"]


async def test_rollups_and_raw_samples_give_the_same(pool: Pool, by_hand: RollupsByHand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three days of a sample every half minute, with gaps, spells of bad ones and of uncertain ones: each tag has another quality of life."""
    tags = await define(pool, [{"kind": "float"}, {"kind": "float", "step": True}, {"kind": "int"}, {"kind": "bool"}, {"kind": "float"}])
    rng = np.random.default_rng(3)
    written = []
    for tag in tags:
        ts = T + np.flatnonzero(rng.random(8_640) < 0.9) * 30 * SECOND
        ts = ts[(ts < T + 20 * HOUR) | (ts > T + 23 * HOUR)]
        n = len(ts)
        value = {"bool": rng.integers(0, 2, n), "int": rng.integers(0, 1000, n)}.get(tag.kind, np.round(rng.normal(size=n).cumsum(), 2))
        spell = np.repeat(rng.random(n // 100 + 1), 100)[:n]
        # all good, all uncertain, and all sorts
        uncertain = {tags[0].tag_id: 0.0, tags[1].tag_id: 2.0}.get(tag.tag_id, 0.1)
        quality = np.where(spell < 0.05, 0, np.where(spell < 0.05 + uncertain, 64, 192)).astype(np.int16)
        written.append(Samples(np.full(n, tag.tag_id, np.int32), ts, value.astype(np.float64), quality))
    writer = Writer(pool)
    await writer.write([Batch("test", next(_seqs), concat(written))])
    await writer.close()
    by_hand.refresh(T + 2 * DAY + 10 * HOUR)
    asked = [
        (interval and Interval.parse(interval, parse_zone(zone), parse_origin(origin)), start, end)
        for interval, zone, origin in [
            ("1m", "UTC", "00:00"),
            ("1h", "Europe/Amsterdam", "00:00"),
            ("8h", "Europe/Amsterdam", "06:00"),
            ("1d", "Australia/Lord_Howe", "00:00"),
            ("1d", "UTC", "00:00"),
            (None, "UTC", "00:00"),
        ]
        for start, end in [(T + 3 * HOUR + 7, T + 2 * DAY + 11 * HOUR + 3 * MINUTE + 1)]
    ]
    taken = []

    async def counted(*arguments: Any) -> Any:
        taken.append(arguments[2])
        async for buckets in read_rollups(*arguments):
            yield buckets

    found = {}
    for way in "rollups", "raw":
        if way == "raw":
            monkeypatch.setattr(bucket_reader, "stretches", lambda edges: [bucket_reader.Stretch(None, int(edges[0]), int(edges[-1]))])
        else:
            monkeypatch.setattr(bucket_reader, "read_rollups", counted)
        for n, (interval, start, end) in enumerate(asked):
            for mode in BY_SAMPLES + BY_LINE:
                found[way, n, mode] = await read(pool, RangeQuery(tags, start, end, mode, interval=interval))
    assert set(taken) - {"1d"} == {"1m", "10m", "1h", "6h"}
    for n in range(len(asked)):
        for mode in BY_SAMPLES + BY_LINE:
            one, other = found["rollups", n, mode], found["raw", n, mode]
            assert one.ts.tolist() == other.ts.tolist()
            assert one.quality.tolist() == other.quality.tolist(), (mode, asked[n])
            exact = mode in ("min", "max", "first", "last", "range", "delta", "count")
            np.testing.assert_allclose(
                one.value, other.value, rtol=0 if exact else 1e-9, atol=0 if exact else 1e-7, err_msg=f"{mode} {asked[n]}"
            )


async def test_nothing_is_held_into_the_future(pool: Pool) -> None:
    """An hour of today is asked for to its end; the samples have come up to some minutes ago."""
    tags = await define(pool, [{"kind": "float", "unit": "m"}, {"kind": "digital", "states": {"1": "on"}}, {"kind": "text"}])
    now = time.time_ns() // 1000
    newest = now - 5 * MINUTE
    rows = {(which, newest): Row(newest, value, 192) for which, value in ((0, 2.0), (1, 1.0), (2, "on"))}
    await write(pool, tags, rows)
    start, end = newest - 5 * MINUTE, now + 2 * HOUR
    integral = await read(pool, RangeQuery(tags[:1], start, end, "integral"))
    assert 600 <= integral.value[0] < 900
    duration = await read(pool, RangeQuery(tags[1:], start, end, "duration"))
    assert all(300 <= seconds < 450 for seconds in duration.value)
    assert duration.text_or_nulls().to_pylist() == ["on", "on"]
    good = await read(pool, RangeQuery(tags, newest, end, "percent_good"))
    assert good.value.tolist() == [100.0] * 3
    # what has not begun yet has nothing, but what is past is certain
    hours = Interval.parse("1h", parse_zone("UTC"))
    for mode in ("twa", "integral", "percent_good", "duration", "transitions"):
        of_hours = await read(pool, RangeQuery(tags[1:2], newest, end, mode, interval=hours))  # type: ignore[arg-type]
        future = of_hours.ts > time.time_ns() // 1000
        assert future.any()
        assert np.isnan(of_hours.value[future]).all()
        assert (of_hours.quality[future] == 0).all()
        assert (of_hours.quality[~future] > 0).all()
    # with a sample after it a bucket is known to its end, whenever that is
    later = now + 3 * HOUR
    await write(pool, tags, {(1, later): Row(later, 1.0, 192)})
    duration = await read(pool, RangeQuery(tags[1:2], newest, end, "duration"))
    assert (duration.value.tolist(), duration.quality.tolist()) == ([(end - newest) / 1e6], [192])


async def test_a_counter_goes_on_after_resets_roll_overs_and_bad_samples(pool: Pool) -> None:
    tags = await define(pool, [{"kind": "int", "low": 0, "high": 65_535}, {"kind": "float"}, {"kind": "float", "low": 10, "high": 110}])
    values: list[list[float | None]] = [[65_000, 65_530, 4, 10, 5], [100, None, 130, 20, 25], [20, 105, 15, 60, 12]]
    await write(
        pool,
        tags,
        {
            (which, T + n * MINUTE): Row(T + n * MINUTE, value if value is None else float(value), 0 if value is None else 192)
            for which, row in enumerate(values)
            for n, value in enumerate(row)
        },
    )
    minutes = Interval.parse("1m", parse_zone("UTC"))
    by_minute = await read(pool, RangeQuery(tags, T, T + 5 * MINUTE, "total", interval=minutes))
    assert np.nan_to_num(by_minute.value, nan=-1).reshape(3, 5).tolist() == [
        # over the top in 6 + 4 steps; from the middle it is a reset
        [0, 530, 10, 6, 5],
        # what was missed counts at the next sample that is not bad; a reset from zero
        [0, -1, 30, 20, 5],
        # over the top of a range that begins at 10, and a reset to it
        [0, 85, 10, 45, 2],
    ]
    assert by_minute.quality.reshape(3, 5)[1].tolist() == [192, 0, 192, 192, 192]
    whole = await read(pool, RangeQuery(tags, T + MINUTE, T + 5 * MINUTE, "total"))
    assert whole.value.tolist() == [551, 55, 142]


async def test_states_have_names_and_an_unknown_time_is_no_state(pool: Pool) -> None:
    tags = await define(
        pool, [{"kind": "digital", "states": {"0": "off", "1": "on"}}, {"kind": "bool"}, {"kind": "text"}, {"kind": "float"}]
    )
    samples = [(1.0, 192), (0.0, 192), (None, 0), (7.0, 192), (7.0, 64)]
    rows = {(0, T + n * MINUTE): Row(T + n * MINUTE, value, quality) for n, (value, quality) in enumerate(samples)}
    rows |= {(1, T): Row(T, 0.0, 192), (2, T): Row(T, "über, “all”", 192)}
    await write(pool, tags, rows)
    durations = await read(pool, RangeQuery(tags, T, T + 5 * MINUTE, "duration"))
    found = list(
        zip(durations.tag_id - tags[0].tag_id, durations.text_or_nulls().to_pylist(), durations.value, durations.quality, strict=True)
    )
    assert found[:4] == [(0, "off", 60, 64), (0, "on", 60, 64), (0, "7", 120, 64), (1, "false", 300, 192)]
    # numeric tags come first; a float has no states
    assert np.isnan(found[4][2])
    assert found[4][:2] == (3, None)
    assert found[5] == (2, "über, “all”", 300, 192)
    transitions = await read(pool, RangeQuery(tags[:1], T, T + 5 * MINUTE, "transitions"))
    assert list(zip(transitions.text_or_nulls().to_pylist(), transitions.value, strict=True)) == [("off", 1), ("7", 1)]
    none = await read(pool, RangeQuery(tags[1:3], T, T + 5 * MINUTE, "transitions"))
    assert none.value.tolist() == [0, 0]
    assert none.text is None or none.text.null_count == 2


async def test_thousands_of_tags_and_buckets_come_in_order_and_all(pool: Pool) -> None:
    defined = await Catalogue(pool).define([TagDefinition(path=f"many/{n}", kind="float") for n in range(300)])
    tags = sorted(defined, key=lambda tag: tag.tag_id)
    ids = np.array([tag.tag_id for tag in tags], np.int32)
    writer = Writer(pool)
    await writer.write([Batch("test", next(_seqs), Samples(ids, np.full(300, T + HOUR), np.arange(300.0), np.full(300, 192, np.int16)))])
    await writer.close()
    seconds = Interval.parse("10s", parse_zone("UTC"))
    # 1 080 buckets: several groups of tags
    found = await read(pool, RangeQuery(tags, T, T + 3 * HOUR, "twa", interval=seconds))
    assert found.tag_id.tolist() == np.repeat(ids, 1080).tolist()
    assert found.ts.reshape(300, 1080).tolist() == [(T + np.arange(1080) * 10 * SECOND).tolist()] * 300
    value = found.value.reshape(300, 1080)
    assert np.isnan(value[:, :360]).all()
    assert (value[:, 360:] == np.arange(300.0)[:, None]).all()
    # 259 200 buckets: several pieces of a tag
    of_one = await read(pool, RangeQuery(tags[7:8], T, T + 3 * DAY, "twa", interval=Interval.parse("1s", parse_zone("UTC"))))
    assert of_one.ts.tolist() == (T + np.arange(259_200) * SECOND).tolist()
    assert np.isnan(of_one.value[:3600]).all()
    assert (of_one.value[3600:] == 7.0).all()


async def test_a_mode_that_is_for_none_of_the_tags_says_so(pool: Pool) -> None:
    tags = await define(pool, [{"kind": "text"}, {"kind": "float"}])
    with pytest.raises(BadInput, match=r"mode avg is for tags of kind bool, digital, float, int; a/\d+ is of kind text"):
        await read(pool, RangeQuery(tags[:1], T, T + DAY, "avg"))
    with pytest.raises(BadInput, match="mode duration is for tags of kind bool, digital, int, text"):
        await read(pool, RangeQuery(tags[1:], T, T + DAY, "duration"))
    with pytest.raises(TooLarge, match="make the interval longer"):
        await read(pool, RangeQuery(tags, T, T + DAY, "avg", interval=Interval.parse("1us", parse_zone("UTC"))))
    # of several, those that it is for; the others have nothing
    both = await read(pool, RangeQuery(tags, T, T + DAY, "avg"))
    assert (np.isnan(both.value).all(), both.quality.tolist()) == (True, [0, 0])


async def test_an_empty_question_has_no_rows(pool: Pool) -> None:
    tags = await define(pool, [{"kind": "float"}, {"kind": "text"}])
    for mode in AGGREGATES:
        for query in (RangeQuery(tags, T, T, mode), RangeQuery([], T, T + DAY, mode)):
            assert len(await read(pool, query)) == 0
    # a tag without samples has buckets all the same
    counts = await read(pool, RangeQuery(tags, T, T + DAY, "count", interval=Interval.parse("8h", parse_zone("UTC"))))
    assert (counts.value.tolist(), counts.quality.tolist()) == ([0.0] * 6, [192] * 6)


async def test_memory_is_bounded_however_long_the_range(pool: Pool) -> None:
    (tag,) = await define(pool, [{"kind": "int"}])
    n = 1_000_000
    writer = Writer(pool)
    value = np.arange(n, dtype=np.float64) % 7
    for part in np.split(np.arange(n), 4):
        ids, quality = np.full(len(part), tag.tag_id, np.int32), np.full(len(part), 192, np.int16)
        await writer.write([Batch("test", next(_seqs), Samples(ids, T + part * 100_000, value[part], quality))])
    await writer.close()
    modes: list[Mode] = ["stddev", "duration"]
    for mode in modes:
        query = RangeQuery([tag], T, T + n * 100_000, mode, interval=Interval.parse("45s", parse_zone("UTC")))
        async with pool.acquire() as conn, conn.transaction(), aclosing(read_range(conn, query)) as reader:
            tracemalloc.start()
            try:
                rows = [len(chunk) async for chunk in reader]
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert sum(rows) == -(-n // 450) * (7 if mode == "duration" else 1)
        # 1 M rows are 22 MB as columns, 50 MB as they come
        assert peak < 25_000_000, mode


async def test_a_tag_that_counts_has_too_many_states(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    (tag,) = await define(pool, [{"kind": "int"}])
    await write(pool, [tag], {(0, T + n * SECOND): Row(T + n * SECOND, float(n), 192) for n in range(100)})
    monkeypatch.setattr(states, "MAX_STATE_ROWS", 50)
    monkeypatch.setattr(states, "_ADD_UP_ROWS", 10)
    for mode in ("duration", "transitions"):
        with pytest.raises(TooLarge, match="make the span shorter"):
            await read(pool, RangeQuery([tag], T, T + DAY, mode))  # type: ignore[arg-type]
        assert len(await read(pool, RangeQuery([tag], T, T + 40 * SECOND, mode))) <= 40  # type: ignore[arg-type]
