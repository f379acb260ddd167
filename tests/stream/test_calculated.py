"""Calculated pens in streams: whoever takes every row has, in the end, what a range query of the same expression gives."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import aiohttp
import numpy as np
import pyarrow as pa
import pytest
from viewer import Viewer

import historian.stream.calculated_pens
from historian.query.expressions import live
from historian.query.expressions.pens import calculated
from historian.query.range import RangeQuery, read_range
from historian.query.times import format_time
from historian.schema.catalogue import TagDefinition
from historian.schema.samples import Samples, concat
from historian.server.run import Server, serving
from historian.settings import Settings
from historian.stream.frames import ARROW, JSON
from historian.stream.request import FOREVER

NOW = time.time_ns() // 1000
SECOND = 1_000_000
HOUR = 3600 * SECOND
EXPRESSIONS = ["sum: c/a * 2 + c/b", "c/a - last(c/b)", "if(c/state > 1, c/a, coalesce(c/b, -1))", "interp(c/state) + good(c/a)"]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


@pytest.fixture
async def tags(server: Server) -> None:
    await define(server)


async def define(server: Server) -> None:
    kinds = {"c/a": "float", "c/b": "float", "c/state": "digital"}
    await server.services.catalogue.define([TagDefinition(path=path, kind=kind) for path, kind in kinds.items()])  # type: ignore[arg-type]


async def write(http: aiohttp.ClientSession, server: Server, *rows: tuple[Any, ...]) -> None:
    """Rows of tag, ts, value and perhaps quality."""
    samples = [dict(zip(("tag", "ts", "value", "quality"), row, strict=False)) for row in rows]
    async with http.post(f"{server.url}/v1/write", json={"samples": samples}) as answer:
        assert answer.status == 200, await answer.text()


async def stored(server: Server, expressions: Sequence[str], start: int) -> Samples:
    pens = await calculated(server.services.catalogue, expressions)
    async with (
        server.services.reading() as conn,
        conn.transaction(isolation="repeatable_read", readonly=True),
        aclosing(read_range(conn, RangeQuery(pens, start, FOREVER))) as chunks,
    ):
        return concat([chunk async for chunk in chunks])


def final(viewer: Viewer) -> Samples:
    """Of each (tag, ts) of a pen the row that came last, sorted."""
    received = viewer.received.take(viewer.received.tag_id < 0)
    order = np.lexsort((np.arange(len(received)), received.ts, received.tag_id))
    tag_id, ts = received.tag_id[order], received.ts[order]
    return received.take(order[np.append((tag_id[1:] != tag_id[:-1]) | (ts[1:] != ts[:-1]), True)]) if len(order) else received


def same(found: Samples, wanted: Samples) -> bool:
    return (
        len(found) == len(wanted)
        and bool((found.tag_id == wanted.tag_id).all())
        and bool((found.ts == wanted.ts).all())
        and bool((found.quality == wanted.quality).all())
        and np.allclose(found.value, wanted.value, rtol=1e-9, atol=1e-9, equal_nan=True)
    )


@asynccontextmanager
async def viewing(
    http: aiohttp.ClientSession, server: Server, start: int | None, tags: list[str] | None = None, **fields: Any
) -> AsyncIterator[Viewer]:
    viewer = Viewer(server.url, tags or [], start, **({"expressions": EXPRESSIONS} | fields))
    task = asyncio.create_task(viewer.run(http))
    try:
        yield viewer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def assert_converges(viewer: Viewer, server: Server, expressions: Sequence[str], start: int) -> None:
    wanted = await stored(server, expressions, start)
    with suppress(TimeoutError):
        await viewer.until(lambda: same(final(viewer), wanted) or bool(viewer.errors), 20)
    assert not viewer.errors, viewer.errors
    found = final(viewer)
    for column in ("tag_id", "ts", "quality", "value"):
        np.testing.assert_allclose(getattr(found, column), getattr(wanted, column), rtol=1e-9, atol=1e-9, err_msg=column)


async def test_backfill_seam_and_live_tail(server: Server, http: aiohttp.ClientSession, tags: None) -> None:
    await write(http, server, ("c/a", NOW, 1), ("c/b", NOW, 10), ("c/a", NOW + 2 * SECOND, 3))
    async with viewing(http, server, NOW, ["c/a"], expressions=["sum: c/a + c/b", "c/b * 2"]) as viewer:
        await viewer.until(viewer.live.is_set)
        assert [(tag["tag_id"], tag["path"], tag.get("expression")) for tag in viewer.tags[-2:]] == [
            (-1, "sum", "c/a + c/b"),
            (-2, "c/b * 2", "c/b * 2"),
        ]
        # held behind its newest sample
        assert of(viewer, -1) == [(0, 11), (2, 13)]
        assert of(viewer, -2) == [(0, 20)]
        backfilled = len(viewer.received)
        # which becomes a line with the next: what was calculated with the held value is sent again
        await write(http, server, ("c/b", NOW + 4 * SECOND, 30))
        await viewer.until(lambda: len(viewer.received) == backfilled + 3)
        assert of(viewer, -1) == [(0, 11), (2, 13), (2, 23), (4, 33)] or of(viewer, -1) == [(0, 11), (2, 13), (4, 33), (2, 23)]
        assert of(viewer, -2) == [(0, 20), (4, 60)]
        # a correction, and a sample that comes late
        await write(http, server, ("c/a", NOW, 2))
        await write(http, server, ("c/a", NOW + 1 * SECOND, 0, 8))
        await assert_converges(viewer, server, ["sum: c/a + c/b", "c/b * 2"], NOW)
        assert not viewer.gaps


def of(viewer: Viewer, tag_id: int) -> list[tuple[float, float]]:
    """Seconds and values that came of a pen, as they came."""
    rows = viewer.received.take(viewer.received.tag_id == tag_id)
    return [((ts - NOW) / SECOND, value) for ts, value in zip(rows.ts.tolist(), rows.value.tolist(), strict=True)]


async def test_live_rows_are_sent_once(server: Server, http: aiohttp.ClientSession, tags: None) -> None:
    """Of tags whose samples come in order, a row is sent when it is known, and again only where the line of another tag has changed it."""
    await write(http, server, ("c/a", NOW, 0), ("c/state", NOW, 0))
    async with viewing(http, server, NOW, expressions=["c/a * 2", "c/state + 1"]) as viewer:
        await viewer.until(viewer.live.is_set)
        for n in range(1, 30):
            await write(http, server, ("c/a", NOW + n * SECOND, n), ("c/state", NOW + n * SECOND, n % 5))
        await viewer.until(lambda: len(viewer.received) == 60)
        assert of(viewer, -1) == [(n, 2 * n) for n in range(30)]
        assert of(viewer, -2) == [(n, 1 + n % 5) for n in range(30)]


@pytest.mark.parametrize(("seed", "kept"), [(1, None), (2, 40)], ids=["much is kept", "little is kept"])
async def test_whatever_comes_in_whatever_order(
    server: Server, http: aiohttp.ClientSession, tags: None, seed: int, kept: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples in order, late, corrected, bad, ahead of the clock, while viewers attach and lose their connection: each ends with what the database holds."""
    if kept is not None:
        monkeypatch.setattr(live, "_KEPT", kept)
    chance = random.Random(seed)
    clock = 0

    def row() -> tuple[str, int, float | None, int]:
        nonlocal clock
        clock += chance.choice([0, 1, 1, 2])
        at = chance.choice([clock, clock, clock, clock, clock - chance.randrange(60), chance.randrange(-50, 400)])
        quality = chance.choice([192, 192, 192, 192, 64, 8])
        return chance.choice(["c/a", "c/b", "c/state"]), NOW + at * SECOND, float(chance.randrange(5)), quality

    await write(http, server, *[row() for _ in range(20)])
    start = NOW + 5 * SECOND
    async with (
        viewing(http, server, start, ["c/#"]) as early,
        viewing(http, server, start) as resumed,
        viewing(http, server, start, json_only=True) as late,
    ):
        for n in range(30):
            await write(http, server, *[row() for _ in range(chance.choice([1, 1, 2, 10]))])
            if n == 15:
                await early.until(early.live.is_set)
                await resumed.until(resumed.live.is_set)
                resumed.cut()
        await late.until(late.live.is_set)
        # what a calculated pen was at a cursor is not known any more: a fresh backfill
        async with viewing(http, server, start, cursor=resumed.cursor) as again:
            for viewer in (early, late, again):
                await assert_converges(viewer, server, EXPRESSIONS, start)
            assert again.resumed == [False]
            await write(http, server, *[row() for _ in range(30)])
            for viewer in (early, late, again):
                await assert_converges(viewer, server, EXPRESSIONS, start)


async def test_charted_backfill_and_then_every_row(server: Server, http: aiohttp.ClientSession, tags: None) -> None:
    # of this moment, not of when the tests began: the columns reach up to now
    now = time.time_ns() // 1000
    await write(http, server, *[("c/a", now - 1000 * SECOND + n * SECOND, n % 7) for n in range(1000)])
    async with viewing(http, server, now - 1000 * SECOND, expressions=["c/a * 2"], mode="auto", points=20) as viewer:
        await viewer.until(viewer.live.is_set)
        assert 10 <= viewer.backfilled <= 22
        await write(http, server, ("c/a", now, 21))
        await viewer.until(lambda: viewer.holds(-1, now))
        assert len(viewer.received) == viewer.backfilled + 1


async def test_a_long_stretch_that_a_late_sample_changes_is_a_gap(
    server: Server, http: aiohttp.ClientSession, tags: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_KEPT", 40)
    monkeypatch.setattr(historian.stream.calculated_pens, "RECALCULATED_ROWS", 100)
    await write(http, server, *[("c/a", NOW + n * SECOND, n) for n in range(1000)], ("c/state", NOW, 1))
    async with viewing(http, server, NOW, expressions=["c/a * c/state"]) as viewer:
        await viewer.until(viewer.live.is_set)
        await write(http, server, ("c/state", NOW + 10 * SECOND, 2))
        await viewer.until(lambda: bool(viewer.gaps))
    (gap,) = viewer.gaps
    assert gap["reason"] == "late-samples"


async def test_a_client_that_does_not_read_is_told_of_what_it_missed_of_a_pen(database: str, http: aiohttp.ClientSession) -> None:
    """Held at its end while more is written than is kept for it: the gap covers what has changed, and what comes after is right again."""
    async with serving(database, Settings(port=0, stream_queue=4000)) as server:
        await define(server)
        await write(http, server, ("c/a", NOW, 0), ("c/b", NOW, 1))
        async with http.ws_connect(f"{server.url}/v1/stream", protocols=[JSON]) as ws:
            await ws.send_json({"type": "subscribe", "id": 1, "expressions": ["c/a + c/b"], "from": NOW})
            while (await ws.receive_json())["type"] != "live":
                pass
            await ws.send_json({"type": "pause", "id": 1})
            # answered behind the pause
            await ws.send_json({"type": "heartbeat"})
            while (await ws.receive_json())["type"] != "heartbeat":
                pass
            for n in range(1, 60):
                await write(http, server, *[("c/a", NOW + n * SECOND + k, n) for k in range(10)])
            await write(http, server, ("c/b", NOW + 60 * SECOND, 2))
            await ws.send_json({"type": "resume", "id": 1})
            rows: dict[str, float] = {}
            gaps: list[dict[str, str]] = []
            last = False
            async with asyncio.timeout(20):
                while format_time(NOW + HOUR) not in rows:
                    if gaps and not last:
                        # not before: it would be in the gap
                        await write(http, server, ("c/a", NOW + HOUR, 5))
                        last = True
                    message = await ws.receive_json()
                    if message["type"] == "data":
                        rows |= {row["ts"]: row["value"] for row in message["samples"]}
                    elif message["type"] == "gap":
                        gaps.append(message)
        assert gaps
        # the rows that did not come lie in the gaps, and those that came are right
        async with http.get(f"{server.url}/v1/range", params={"expr": "c/a + c/b", "start": NOW + 1, "end": NOW + 2 * HOUR}) as answer:
            wanted = {row["ts"]: row["value"] for row in (await answer.json())["samples"]}
        missed = {ts for ts in wanted if not any(gap["from"] <= ts < gap["to"] for gap in gaps)}
        assert len(wanted) > 500
        assert {ts: rows.get(ts) for ts in missed} == pytest.approx({ts: wanted[ts] for ts in missed})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "nothing to subscribe"),
        ({"expressions": ["c/a +"]}, "column 6"),
        ({"expressions": ["c/nothing + 1"]}, "c/nothing"),
        ({"expressions": ["c/a"] * 65}, "expressions"),
        ({"expressions": ["x" * 5000]}, "expressions"),
    ],
)
async def test_a_faulty_expression_opens_nothing(
    server: Server, http: aiohttp.ClientSession, tags: None, fields: dict[str, Any], words: str
) -> None:
    async with http.ws_connect(f"{server.url}/v1/stream", protocols=[ARROW]) as ws:
        await ws.send_json({"type": "subscribe", "id": 3, "from": "-1h", **fields})
        error = await ws.receive_json()
        assert (error["type"], error["id"]) == ("error", 3)
        assert words in error["detail"]


async def test_without_upgrade_too(server: Server, http: aiohttp.ClientSession, tags: None) -> None:
    await write(http, server, ("c/a", NOW - HOUR, 1), ("c/a", NOW - HOUR + SECOND, 2))
    params = {"expr": "twice: c/a * 2", "from": NOW - HOUR, "to": NOW - HOUR + 2 * SECOND}
    async with http.get(f"{server.url}/v1/stream", params=params) as answer:
        table = pa.ipc.open_stream(await answer.read()).read_all()
    assert table.column("value").to_pylist() == [2, 4]
    assert table.column("tag_id").to_pylist() == [-1, -1]
