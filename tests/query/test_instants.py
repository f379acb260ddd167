"""Values at instants, and raw samples with what bounds them: against a reference that goes through the samples one by one, on a real database."""

from __future__ import annotations

import itertools
import math
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from historian.ingest.writer import Writer
from historian.query import instants as module
from historian.query.instants import MAX_INSTANTS, values_at
from historian.query.interval import Interval
from historian.query.range import MAX_ROWS, RangeQuery, read_range
from historian.schema.catalogue import Catalogue, Kind, Tag, TagDefinition
from historian.schema.connection import Pool
from historian.schema.errors import BadInput, TooLarge
from historian.schema.ledger import Batch
from historian.schema.samples import Samples, concat
from historian.server.run import Server

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
T = 1_769_731_200_000_000  # 2026-01-30
NAN = math.nan


@dataclass(frozen=True)
class Row:
    ts: int
    value: float | str | None
    quality: int

    @property
    def bad(self) -> bool:
        return self.quality < 64 or self.value is None


HELD: dict[Kind, bool] = {"float": False, "int": False, "bool": True, "digital": True, "text": True}


def value_then(rows: list[Row], held: bool, instant: int) -> Row:
    """The reference: rows of one tag in the order of time."""
    before = [row for row in rows if row.ts <= instant]
    after = [row for row in rows if row.ts > instant]
    if not before:
        return Row(instant, None, 0)
    p = before[-1]
    if p.ts == instant:
        return p
    if p.bad:
        return Row(instant, None, 0)
    if held:
        return Row(instant, p.value, p.quality)
    if not after:
        return Row(instant, p.value, min(p.quality, 64))
    n = after[0]
    if n.bad:
        return Row(instant, p.value, p.quality)
    assert isinstance(p.value, float)
    assert isinstance(n.value, float)
    share = (instant - p.ts) / (n.ts - p.ts)
    return Row(instant, p.value * (1 - share) + n.value * share, min(p.quality, n.quality))


def samples_of(rows: dict[int, list[Row]], texts: set[int]) -> Samples:
    flat = [(tag_id, row) for tag_id in sorted(rows) for row in rows[tag_id]]
    text = pa.array([row.value if tag_id in texts else None for tag_id, row in flat], pa.string())
    return Samples(
        np.array([tag_id for tag_id, _ in flat], np.int32),
        np.array([row.ts for _, row in flat], np.int64),
        np.array([NAN if tag_id in texts or row.value is None else row.value for tag_id, row in flat], np.float64),
        np.array([row.quality for _, row in flat], np.int16),
        text if text.null_count < len(text) else None,
    )


def assert_same(found: Samples, expected: Samples) -> None:
    assert found.tag_id.tolist() == expected.tag_id.tolist()
    assert found.ts.tolist() == expected.ts.tolist()
    assert found.quality.tolist() == expected.quality.tolist()
    assert found.value == pytest.approx(expected.value, rel=1e-9, abs=1e-12, nan_ok=True)
    assert found.text_or_nulls().to_pylist() == expected.text_or_nulls().to_pylist()


async def read(pool: Pool, query: RangeQuery) -> Samples:
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        async with aclosing(read_range(conn, query)) as reader:
            chunks = [chunk async for chunk in reader]
        # it ended by itself: the transaction goes on
        assert await conn.fetchval("SELECT 1") == 1
    assert all(0 < len(chunk) <= MAX_ROWS for chunk in chunks)
    return concat(chunks)


KINDS: tuple[Kind, ...] = ("float", "int", "digital", "float", "text")
_numbers = itertools.count()


async def new_tags(pool: Pool) -> list[Tag]:
    """One of each of KINDS; the second float tag is a step tag."""
    n = next(_numbers)
    definitions = [TagDefinition(path=f"t{n}/{i}{kind}", kind=kind, step=True if i == 3 else None) for i, kind in enumerate(KINDS)]
    return await Catalogue(pool).define(definitions)


QUALITIES = st.sampled_from([192, 192, 192, 100, 64, 20, 0])
# seconds, minutes and days apart, now and then at the same instant as what is asked for
OFFSETS = st.one_of(
    st.integers(0, 20).map(lambda n: n * SECOND), st.integers(0, 20).map(lambda n: n * HOUR), st.integers(-3, 40).map(lambda n: n * DAY)
)
SAMPLES = st.lists(st.tuples(st.integers(0, len(KINDS) - 1), OFFSETS, st.integers(-1000, 1000), QUALITIES, st.booleans()), max_size=60)


def rows_of(tags: list[Tag], drawn: list[tuple[int, int, int, int, bool]], shift: int = 0) -> dict[int, list[Row]]:
    found: dict[int, dict[int, Row]] = {tag.tag_id: {} for tag in tags}
    for which, offset, number, quality, without in drawn:
        tag = tags[which]
        missing = without and quality < 64
        value = f"batch {number}" if tag.kind == "text" else number / 8 if tag.kind == "float" else float(abs(number) % 1000)
        found[tag.tag_id][T + shift + offset] = Row(T + shift + offset, None if missing else value, quality)
    return {tag_id: [rows[ts] for ts in sorted(rows)] for tag_id, rows in found.items()}


def values(tags: list[Tag], rows: dict[int, list[Row]], at: list[int]) -> Samples:
    """Of all tags, numeric ones first."""
    texts = {tag.tag_id for tag in tags if tag.kind == "text"}
    parts = []
    for group in ([tag for tag in tags if tag.kind != "text"], [tag for tag in tags if tag.kind == "text"]):
        held = {tag.tag_id: HELD[tag.kind] or tag.step for tag in group}
        parts.append(
            samples_of({tag.tag_id: [replace(value_then(rows[tag.tag_id], held[tag.tag_id], t), ts=t) for t in at] for tag in group}, texts)
        )
    return concat(parts)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=SAMPLES, at=st.lists(OFFSETS, min_size=1, max_size=12), cut=st.integers(0, 12), look_up=st.booleans())
@example(drawn=[], at=[0, HOUR], cut=1, look_up=True)
async def test_values_are_those_of_the_reference_in_one_query_or_in_pieces(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, drawn: list[tuple[int, int, int, int, bool]], at: list[int], cut: int, look_up: bool
) -> None:
    # whichever way they are found: looked up, or picked out of the stream
    monkeypatch.setattr(module, "_READ_US", 1e9 if look_up else 0.0)
    tags = await new_tags(pool)
    rows = rows_of(tags, drawn)
    writer = Writer(pool)
    written = samples_of(rows, {tags[4].tag_id})
    if len(written):
        await writer.write([Batch(f"p{tags[0].tag_id}", 0, written)])
    await writer.close()
    instants = sorted({T + offset for offset in at})
    for mode in ("at", "interpolated"):
        found = await read(pool, RangeQuery(tags, instants[0], instants[-1] + 1, mode, at=tuple(instants)))
        assert_same(found, values(tags, rows, instants))
    # in pieces: of time, and of tags
    parts = []
    for some in (tags[:2], tags[2:]):
        pieces = [piece for piece in (instants[:cut], instants[cut:]) if piece]
        of_some = concat([await read(pool, RangeQuery(some, piece[0], piece[-1] + 1, "at", at=tuple(piece))) for piece in pieces])
        parts += [of_some.take(of_some.tag_id == tag.tag_id) for tag in some]
    assert_identical(concat(parts), found)
    # raw samples, and what bounds them
    start, end = instants[0], instants[-1]
    for bounds in ("inside", "outside", "interpolated"):
        expected = []
        for tag in tags:
            mine = rows[tag.tag_id]
            inside = [row for row in mine if start <= row.ts < end]
            if bounds == "outside":
                inside = [row for row in mine if row.ts < start][-1:] + inside + [row for row in mine if row.ts >= end][:1]
            elif bounds == "interpolated":
                first, last = (value_then(mine, HELD[tag.kind] or tag.step, t) for t in (start, end))
                if (not inside or inside[0].ts > start) and (first.value is not None or first in mine):
                    inside = [first, *inside]
                if end > start and (last.value is not None or last in mine):
                    inside = [*inside, last]
            expected.append(samples_of({tag.tag_id: inside}, {tags[4].tag_id}))
        assert_same(await read(pool, RangeQuery(tags, start, end, bounds=bounds)), concat([part for part in expected if len(part)]))  # type: ignore[arg-type]
    # the newest of each
    last_of = {tag.tag_id: [row for row in rows[tag.tag_id] if start <= row.ts < end][-1:] for tag in tags}
    assert_same(await read(pool, RangeQuery(tags, start, end, "last")), samples_of(last_of, {tags[4].tag_id}))


def assert_identical(found: Samples, expected: Samples) -> None:
    assert_same(found, expected)
    assert found.value.tobytes() == expected.value.tobytes()


def numbers(tag: Tag, ts: np.ndarray[Any, Any], value: np.ndarray[Any, Any]) -> Samples:
    return Samples(np.full(len(ts), tag.tag_id, np.int32), ts.astype(np.int64), value.astype(np.float64), np.full(len(ts), 192, np.int16))


async def test_a_dense_grid_and_a_few_instants_far_apart_agree_with_pandas(pool: Pool, store: Any, make_tags: Any) -> None:
    tags = await make_tags({"p/a": "float", "p/b": "float"})
    rng = np.random.default_rng(4)
    ts = [T + np.unique(rng.integers(0, 40 * HOUR, n)) for n in (100_000, 40)]
    written = concat([numbers(tag, t, np.round(rng.normal(size=len(t)).cumsum(), 2)) for tag, t in zip(tags, ts, strict=True)])
    await store(written)
    frames = [
        pd.Series(mine.value, index=pd.to_datetime(mine.ts, unit="us"))
        for mine in (written.take(written.tag_id == tag.tag_id) for tag in tags)
    ]

    def expected(instants: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        at = pd.to_datetime(instants, unit="us")
        return np.concatenate(
            [
                frame.reindex(frame.index.union(at)).interpolate(method="time", limit_area="inside").ffill().reindex(at).to_numpy()
                for frame in frames
            ]
        )

    for query, count in (
        (RangeQuery(tags, T, T + 41 * HOUR, "interpolated", interval=Interval(10 * SECOND)), 41 * 360),
        (RangeQuery(tags, T + 1, T + 41 * HOUR, "interpolated", interval=Interval(6 * HOUR)), 6),
        (RangeQuery(tags, T + 7, T + 41 * HOUR, "interpolated", points=12), 12),
    ):
        found = await read(pool, query)
        assert found.tag_id.tolist() == [tag.tag_id for tag in tags for _ in range(count)]
        instants = found.ts[:count]
        assert found.ts[count:].tolist() == instants.tolist()
        assert found.value == pytest.approx(expected(instants), nan_ok=True)
        known = ~np.isnan(found.value)
        newest = np.repeat([mine[-1] for mine in ts], count)
        assert found.quality.tolist() == np.where(~known, 0, np.where(found.ts > newest, 64, 192)).tolist()
    assert found.ts[:3].tolist() == [T + 7 + n * (41 * HOUR - 7) // 12 for n in range(3)]


async def test_many_tags_and_instants_come_in_chunks_and_in_order(pool: Pool, store: Any, make_tags: Any) -> None:
    tags = await make_tags({f"p/{n:02}": "text" if n % 10 == 0 else "float" for n in range(30)})
    await store(
        concat(
            [numbers(tag, np.array([T + n, T + 10 * HOUR + n]), np.array([n, n + 1])) for n, tag in enumerate(tags) if tag.kind != "text"]
        )
    )
    query = RangeQuery(list(reversed(tags)), T, T + 10 * HOUR, "interpolated", interval=Interval(2 * SECOND))
    found = await read(pool, query)
    assert len(found) == 30 * 18_000
    texts = np.isin(found.tag_id, [tag.tag_id for tag in tags if tag.kind == "text"])
    order = np.lexsort((found.ts, found.tag_id, texts))
    assert order.tolist() == list(range(len(found)))
    mine = found.take(found.tag_id == tags[1].tag_id)
    assert mine.value[0] != mine.value[0]  # a microsecond before its first sample
    assert mine.value[1:] == pytest.approx(1 + np.arange(1, 18_000) / 18_000, abs=1e-9)


@pytest.mark.parametrize(("low", "high"), [(-1.7e308, 1.7e308), (5e-324, 5e-324), (0.1, 0.1), (-1.0, 1.0), (2.0**53, 2.0**53 + 2)])
def test_a_value_on_the_line_lies_between_its_ends(low: float, high: float) -> None:
    tag = Tag(1, "a", "float")
    instants = np.arange(0, 1001, dtype=np.int64)
    for a, b in ((low, high), (high, low)):
        found = values_at([tag], instants, numbers(tag, np.array([0, 1000]), np.array([a, b]))).value
        assert ((found >= low) & (found <= high)).all()
        assert (np.diff(found) * (1 if a < b else -1) >= 0).all()
        assert (found[0], found[-1]) == (a, b)


async def test_too_much_is_refused_before_it_is_made(pool: Pool) -> None:
    tag = Tag(1, "a", "float")
    many = [Tag(n, f"a{n}", "float") for n in range(1, 10_001)]
    for query in (
        RangeQuery([tag], 0, T, "interpolated", interval=Interval(1)),
        RangeQuery([tag], 0, T, "interpolated", points=MAX_INSTANTS + 1),
        RangeQuery(many, T, T + DAY, "interpolated", interval=Interval(SECOND)),
        RangeQuery(many, T, T + DAY, "interpolated", points=100_000),
    ):
        with pytest.raises(TooLarge, match="longer interval"):
            await read(pool, query)
    with pytest.raises(BadInput, match="at=TIME"):
        await read(pool, RangeQuery([tag], T, T + DAY, "at"))
    with pytest.raises(BadInput, match="mode raw"):
        await read(pool, RangeQuery([tag], T, T + DAY, "minmax", bounds="outside"))


async def test_an_empty_question_has_an_empty_answer(pool: Pool) -> None:
    tag = Tag(1_000_000, "p/absent", "float")
    for query in (
        RangeQuery([], T, T + DAY, "interpolated"),
        RangeQuery([], T, T + DAY, "at", at=(T,)),
        RangeQuery([tag], T, T, "interpolated"),
        RangeQuery([tag], T, T + DAY, "last"),
        RangeQuery([tag], T, T, "raw", bounds="outside"),
        RangeQuery([tag], T, T + DAY, "raw", bounds="interpolated"),
        RangeQuery([tag], T + 1, T, "raw", bounds="outside"),
    ):
        assert len(await read(pool, query)) == 0
    found = await read(pool, RangeQuery([tag], T, T + 1, "at", at=(T,)))
    assert (found.ts.tolist(), found.quality.tolist(), np.isnan(found.value).tolist()) == ([T], [0], [True])


async def test_a_limit_cuts_what_is_bounded_too(pool: Pool, store: Any, make_tags: Any) -> None:
    tags = await make_tags({"p/a": "float", "p/b": "float"})
    await store(concat([numbers(tag, T + np.arange(10) * SECOND, np.arange(10.0)) for tag in tags]))
    query = RangeQuery(tags, T + 2 * SECOND, T + 7 * SECOND, bounds="outside")
    whole = await read(pool, query)
    assert len(whole) == 14
    for limit in (1, 6, 7, 8, 13, 14):
        async with pool.acquire() as conn, conn.transaction(readonly=True):
            async with aclosing(read_range(conn, replace(query, limit=limit))) as reader:
                found = concat([chunk async for chunk in reader])
            assert reader.cut == (limit < 14)
        assert_identical(found, whole.slice(0, limit))


async def test_over_http_every_tag_has_a_row_for_every_instant(server: Server) -> None:
    samples = [
        {"tag": "h/line", "ts": T, "value": 1},
        {"tag": "h/line", "ts": T + 10 * SECOND, "value": 2, "quality": 100},
        {"tag": "h/broken", "ts": T, "value": None},
    ]
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{server.url}/v1/write", json={"samples": samples}) as answer:
            assert answer.status == 200

        async def ask(**params: Any) -> list[str]:
            async with http.get(f"{server.url}/v1/range", params={"tag": "h/#", "format": "csv", **params}) as answer:
                assert answer.status == 200, await answer.text()
                rows = [line.split(",") for line in (await answer.text()).split()[1:]]
                return sorted(" ".join([tag, ts[17:27].rstrip("Z"), *rest]) for tag, ts, *rest in rows)

        both = ["h/broken 05  0", "h/broken 20  0", "h/line 05 1.5 100", "h/line 20 2.0 64"]
        assert await ask(mode="at", at=[T + 5 * SECOND, T + 20 * SECOND]) == both
        assert await ask(mode="interpolated", start=T + 1, end=T + 25 * SECOND, interval="5s") == [
            *(f"h/broken {n:02}  0" for n in (5, 10, 15, 20)),
            *("h/line 05 1.5 100", "h/line 10 2.0 100", "h/line 15 2.0 64", "h/line 20 2.0 64"),
        ]
        assert await ask(mode="last", start=T, end=T + 10 * SECOND) == ["h/broken 00  0", "h/line 00 1.0 192"]
        bounded = ["h/line 04 1.4 100", "h/line 10 2.0 100", "h/line 12 2.0 64"]
        assert await ask(start=T + 4 * SECOND, end=T + 12 * SECOND, bounds="interpolated") == bounded
