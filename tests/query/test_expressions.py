"""Calculated pens in range queries: what pandas gives of the same samples, in bounded memory, in every mode that they have."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import aclosing
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from historian.query.downsample import MinMax
from historian.query.expressions import reading
from historian.query.expressions.pens import CalculatedPen, calculated
from historian.query.interval import Interval
from historian.query.lttb import Lttb
from historian.query.m4 import M4
from historian.query.range import Mode, read_range
from historian.query.range_query import RangeQuery
from historian.schema.catalogue import Catalogue, Tag
from historian.schema.connection import Pool
from historian.schema.errors import BadInput, UnknownTag
from historian.schema.samples import Samples, concat

SECOND = 1_000_000
#: two days before the end of a month: what follows lies in several partitions, or chunks
T = 1_769_731_200_000_000  # 2026-01-30
DAY = 86_400 * SECOND
SPAN = (T + DAY, T + 4 * DAY)

Written = dict[str, pd.DataFrame]


@pytest.fixture
async def plant(store: Any, make_tags: Any) -> tuple[list[Tag], Written]:
    """Four tags over five days, a tenth of the samples bad, and a fifth uncertain; the last begins on the second day, and seldom changes."""
    tags = await make_tags({"e/a": "float", "e/b": "float", "e/state": "digital", "e/late": "float", "e/text": "text"})
    rng = np.random.default_rng(7)
    written: Written = {}
    parts = []
    for tag, n in zip(tags[:4], (900, 400, 60, 25), strict=True):
        start = T + 2 * DAY if tag.path == "e/late" else T
        # many timestamps are those of other tags too
        ts = np.unique(rng.integers(start // (300 * SECOND), (T + 5 * DAY) // (300 * SECOND), n)) * 300 * SECOND
        value = np.round(rng.normal(0, 3, len(ts)), 2) if tag.kind == "float" else rng.integers(-2, 3, len(ts)).astype(float)
        quality = rng.choice([192, 192, 192, 192, 192, 192, 192, 100, 64, 8], len(ts)).astype(np.int16)
        value[rng.random(len(ts)) < 0.03] = np.nan
        quality[np.isnan(value)] = 0
        parts.append(Samples(np.full(len(ts), tag.tag_id, np.int32), ts, value, quality))
        written[tag.path] = pd.DataFrame({"value": np.where(quality < 64, np.nan, value), "quality": quality}, index=ts)
    await store(concat(parts))
    return tags, written


async def pens_of(pool: Pool, *texts: str) -> tuple[CalculatedPen, ...]:
    return await calculated(Catalogue(pool), texts)


async def read(pool: Pool, pens: tuple[Tag, ...], start: int, end: int, mode: Mode = "raw", **more: Any) -> Samples:
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        async with aclosing(read_range(conn, RangeQuery(pens, start, end, mode, **more))) as reader:
            parts = [chunk async for chunk in reader]
        assert await conn.fetchval("SELECT 1") == 1
    assert all(len(part) for part in parts)
    return concat(parts)


# -- the reference: row by row from what pandas finds before and behind


def held(tag: pd.DataFrame, at: Any) -> pd.DataFrame:
    found = tag.reindex(at, method="ffill")
    found["quality"] = found["quality"].fillna(0)
    return found


def linear(tag: pd.DataFrame, at: Any) -> pd.DataFrame:
    found = held(tag, at)
    stamps = pd.DataFrame({"ts": tag.index}, index=tag.index)
    before, after = stamps.reindex(at, method="ffill")["ts"], stamps.reindex(at, method="bfill")["ts"]
    following = tag.reindex(at, method="bfill")
    between = (after > before) & following["value"].notna() & found["value"].notna()
    # behind the newest sample nobody knows where the line goes
    beyond = after.isna() & (before < at)
    found["quality"] = found["quality"].where(~beyond, np.minimum(found["quality"], 64))
    part = (pd.Series(at, index=at) - before) / (after - before)
    found["value"] = found["value"].where(~between, found["value"] + (following["value"] - found["value"]) * part)
    found["quality"] = found["quality"].where(~between, np.minimum(found["quality"], following["quality"].fillna(0)))
    return found


def lowest(*columns: pd.DataFrame) -> Any:
    return np.minimum.reduce([np.where(c["value"].isna(), 0, c["quality"]) for c in columns])


def divided(left: Any, right: Any) -> Any:
    return (left / right.where(right != 0)).replace([np.inf, -np.inf], np.nan)


Reference = Callable[[Written, Any], tuple[Any, Any]]


def _sum(w: Written, at: Any) -> tuple[Any, Any]:
    a, b = linear(w["e/a"], at), linear(w["e/b"], at)
    return a["value"] * 2 + b["value"], lowest(a, b)


def _last(w: Written, at: Any) -> tuple[Any, Any]:
    a, b = linear(w["e/a"], at), held(w["e/b"], at)
    return a["value"] - b["value"], lowest(a, b)


def _states(w: Written, at: Any) -> tuple[Any, Any]:
    state, a, late = held(w["e/state"], at), linear(w["e/a"], at), linear(w["e/late"], at)
    taken = state["value"] > 0
    value = a["value"].where(taken, late["value"]).where(state["value"].notna())
    return value, np.minimum(state["quality"], np.where(taken, a["quality"], late["quality"]))


def _quotient(w: Written, at: Any) -> tuple[Any, Any]:
    a, state = linear(w["e/a"], at), held(w["e/state"], at)
    return divided(a["value"], state["value"]), lowest(a, state)


def _coalesced(w: Written, at: Any) -> tuple[Any, Any]:
    late, b = linear(w["e/late"], at), linear(w["e/b"], at)
    known = late["value"].notna()
    value = late["value"].where(known, b["value"]).fillna(-1.0)
    quality = np.where(known, late["quality"], np.where(b["value"].notna(), b["quality"], 192))
    return value, quality


def _good(w: Written, at: Any) -> tuple[Any, Any]:
    a = held(w["e/a"], at)
    return ((a["quality"] >= 192) & a["value"].notna()) * 1.0 + a["quality"].fillna(0), np.full(len(at), 192)


CASES: dict[str, tuple[list[str], Reference]] = {
    "e/a * 2 + e/b": (["e/a", "e/b"], _sum),
    "e/a - last(e/b)": (["e/a"], _last),
    "if(e/state > 0, e/a, e/late)": (["e/state", "e/a", "e/late"], _states),
    "e/a / e/state": (["e/a", "e/state"], _quotient),
    "coalesce(e/late, e/b, -1)": (["e/late", "e/b"], _coalesced),
    "good(e/a) + quality(e/a)": (["e/a"], _good),
}


def expected(written: Written, text: str, at: Any, tag_id: int) -> Samples:
    value, quality = CASES[text][1](written, at)
    value = np.asarray(value, np.float64)
    quality = np.where(np.isnan(value), 0, np.minimum(quality, 192)).astype(np.int16)
    return Samples(np.full(len(at), tag_id, np.int32), np.asarray(at, np.int64), value, quality)


def stamps(written: Written, text: str, start: int, end: int) -> Any:
    at = np.unique(np.concatenate([written[path].index.to_numpy() for path in CASES[text][0]]))
    return at[(at >= start) & (at < end)]


def assert_same(found: Samples, wanted: Samples) -> None:
    assert found.tag_id.tolist() == wanted.tag_id.tolist()
    assert found.ts.tolist() == wanted.ts.tolist()
    assert found.quality.tolist() == wanted.quality.tolist()
    np.testing.assert_allclose(found.value, wanted.value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("held_rows", [None, 7], ids=["at once", "in pieces"])
async def test_it_is_what_pandas_gives_of_the_same_samples(
    pool: Pool, plant: tuple[list[Tag], Written], held_rows: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if held_rows is not None:
        monkeypatch.setattr(reading, "_MOST", held_rows)
        monkeypatch.setattr(reading, "_FEWEST", held_rows)
    _, written = plant
    pens = await pens_of(pool, *CASES)
    found = await read(pool, pens, *SPAN)
    # ordered by (tag_id, ts), and -1 is the first that was asked for
    wanted = [expected(written, pen.path, stamps(written, pen.path, *SPAN), pen.tag_id) for pen in pens]
    assert_same(found, concat(wanted[::-1]))
    assert (found.quality == 0).any()
    assert (found.quality == 64).any()
    # cut into pieces it is the same
    middle = SPAN[0] + 12_345 * SECOND
    pieces = [await read(pool, pens[:1], SPAN[0], middle), await read(pool, pens[:1], middle, SPAN[1])]
    assert_same(concat(pieces), wanted[0])


async def test_charts_and_instants(pool: Pool, plant: tuple[list[Tag], Written]) -> None:
    tags, written = plant
    pens = await pens_of(pool, *CASES)
    for pen in pens:
        raw = expected(written, pen.path, stamps(written, pen.path, *SPAN), pen.tag_id)
        charts = {
            "minmax": MinMax([pen], *SPAN, 40),
            "auto": M4([pen], *SPAN, 40, auto=True),
            "m4": M4([pen], *SPAN, 40),
            "lttb": Lttb([pen], *SPAN, 40),
        }
        # of the very values: where two triangles are as large, a last digit decides
        rows = await read(pool, (pen,), *SPAN)
        assert_same(rows, raw)
        for mode, reducer in charts.items():
            assert_same(await read(pool, (pen,), *SPAN, mode, points=40), concat([reducer.feed(rows), reducer.finish()]))  # type: ignore[arg-type]
        hourly = Interval(3600 * SECOND, "us", ZoneInfo("UTC"))
        grid = np.arange(SPAN[0], SPAN[1], 3600 * SECOND)
        assert_same(await read(pool, (pen,), *SPAN, "interpolated", interval=hourly), expected(written, pen.path, grid, pen.tag_id))
        at = (T - DAY, T + DAY + 17, T + 3 * DAY, T + 9 * DAY)
        for mode in ("at", "interpolated"):
            found = await read(pool, (pen,), at[0], at[-1] + 1, mode, at=at)  # type: ignore[arg-type]
            assert_same(found, expected(written, pen.path, np.array(at), pen.tag_id))
        assert_same(await read(pool, (pen,), *SPAN, "last"), raw.slice(len(raw) - 1, len(raw)))
    # tags beside them come behind them
    mixed = await read(pool, (tags[1], *pens[:2]), *SPAN, "minmax", points=40)
    assert list(dict.fromkeys(mixed.tag_id.tolist())) == [-2, -1, tags[1].tag_id]


async def test_a_limit_leaves_the_rest_unread(pool: Pool, plant: tuple[list[Tag], Written]) -> None:
    _, written = plant
    (pen,) = await pens_of(pool, "e/a * 2 + e/b")
    assert (await read(pool, (pen,), *SPAN, limit=5)).ts.tolist() == stamps(written, pen.path, *SPAN)[:5].tolist()


async def test_how_a_pen_is_described(pool: Pool, plant: tuple[list[Tag], Written]) -> None:
    named, plain, steps = await pens_of(pool, "power: e/a * 2", "e/a * 2", "e/a > 3", "power: e/a * 2")
    assert named.row() == {
        "tag_id": -1,
        "path": "power",
        "kind": "float",
        "unit": None,
        "description": "e/a * 2",
        "low": None,
        "high": None,
        "low_low_limit": None,
        "low_limit": None,
        "high_limit": None,
        "high_high_limit": None,
        "step": False,
        "states": None,
        "writable": False,
        "write_to": "historian",
        "expression": "e/a * 2",
    }
    assert (plain.tag_id, plain.path, plain.step) == (-2, "e/a * 2", False)
    assert (steps.tag_id, steps.step) == (-3, True)


async def test_what_is_refused(pool: Pool, plant: tuple[list[Tag], Written]) -> None:
    with pytest.raises(UnknownTag, match="e/nothing"):
        await pens_of(pool, "e/nothing + e/a")
    with pytest.raises(BadInput, match=r"column 7: e/text is a text tag(.|\n)*\^"):
        await pens_of(pool, "e/a + e/text")
    with pytest.raises(BadInput, match="two expressions are called 'x'"):
        await pens_of(pool, "x: e/a", "x: e/b")
    with pytest.raises(BadInput, match="64"):
        await pens_of(pool, *(f"e/a + {n}" for n in range(65)))
    pens = await pens_of(pool, "e/a * 2")
    with pytest.raises(BadInput, match="modes for them are raw"):
        await read(pool, pens, *SPAN, "transitions")
    with pytest.raises(BadInput, match="bounds"):
        await read(pool, pens, *SPAN, bounds="outside")
    with pytest.raises(BadInput, match="instants"):
        await read(pool, pens, *SPAN, "interpolated", interval=Interval(1))


async def test_memory_does_not_grow_with_the_span(pool: Pool, make_tags: Any, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_HELD", 8_000)
    tags = await make_tags({"m/a": "float", "m/b": "float"})
    n = 60_000
    ts = T + np.arange(n) * SECOND
    await store(
        concat([Samples(np.full(n, tag.tag_id, np.int32), ts, np.round(np.sin(ts / 1e9), 3), np.full(n, 192, np.int16)) for tag in tags])
    )
    pens = await pens_of(pool, "m/a + m/b")

    async def peak(seconds: int) -> int:
        tracemalloc.start()
        assert len(await read(pool, pens, T, T + seconds * SECOND, "minmax", points=100)) == 100
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    # what is made once and kept
    await peak(n // 5)
    few = await peak(n // 5)
    assert await peak(n) < 1.25 * few
