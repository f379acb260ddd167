"""Ranges over HTTP as their clients see them: streamed, in pages, within limits, and ended with their client."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from typing import Any, get_args
from urllib.parse import urlsplit

import aiohttp
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from historian.ingest.writer import Writer
from historian.query.range_query import Mode
from historian.schema.catalogue import Kind, TagDefinition
from historian.schema.connection import Pool
from historian.schema.ledger import Batch
from historian.schema.samples import Samples, concat
from historian.server.run import Server, serving
from historian.settings import Settings

T = 1_769_731_200_000_000  # 2026-01-30: what follows lies in several partitions, or chunks
MINUTE = 60_000_000
RANGES = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY%' AND state = 'active'"
BLOCKED = "SELECT count(*) FROM pg_sleep(0.01), pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    # nobody keeps a connection that a test wants closed
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as session:
        yield session


async def fill(pool: Pool, server: Server, kinds: dict[str, Kind], rows: int, step: int = MINUTE) -> None:
    """So many samples of each tag, `step` µs apart: walks with two decimals, every 50th bad, and texts."""
    tags = await server.services.catalogue.define([TagDefinition(path=path, kind=kind) for path, kind in kinds.items()])
    rng = np.random.default_rng(3)
    ts = T + np.arange(rows, dtype=np.int64) * step
    parts = []
    for tag in tags:
        value = np.round(50 + rng.normal(0, 0.05, rows).cumsum(), 2) if tag.kind == "float" else rng.integers(0, 3, rows).astype(np.float64)
        quality = np.where(np.arange(rows) % 50 == 49, 0, 192).astype(np.int16)
        text = None
        if tag.kind == "text":
            value = np.full(rows, np.nan)
            text = pa.array([None if bad else f"phase {n % 7}" for n, bad in enumerate(quality == 0)])
        parts.append(Samples(np.full(rows, tag.tag_id, np.int32), ts, value, quality, text))
    writer = Writer(pool)
    samples = concat(parts)
    for seq, start in enumerate(range(0, len(samples), 500_000)):
        await writer.write([Batch("test", seq, samples.slice(start, min(start + 500_000, len(samples))))])
    await writer.close()


async def until_none(pool: Pool, question: str, seconds: float) -> float:
    """How long it takes until this counts nothing."""
    begun = time.monotonic()
    async with asyncio.timeout(seconds):
        while await pool.fetchval(question):
            await asyncio.sleep(0.02)
    return time.monotonic() - begun


# -- pages


KINDS: dict[str, Kind] = {"p/a": "float", "p/b": "digital", "p/c": "text", "p/d": "float", "p/e": "text", "p/f": "int"}
#: asked with and without; a mode is asked as it makes sense
QUESTIONS: list[dict[str, str]] = [
    {"mode": "raw"},
    {"mode": "raw", "bounds": "outside"},
    {"mode": "raw", "bounds": "interpolated"},
    {"mode": "at"},
    *({"mode": mode, "points": "20"} for mode in ("auto", "minmax", "m4", "lttb")),
    *(
        question
        for mode in get_args(Mode)
        if mode not in ("raw", "at", "auto", "minmax", "m4", "lttb")
        for question in ({"mode": mode}, {"mode": mode, "interval": "7m"})
    ),
]


async def test_pages_are_the_whole_whatever_their_size(server: Server, http: aiohttp.ClientSession, pool: Pool) -> None:
    await fill(pool, server, KINDS, 130)
    span = {"tag": "p/#", "start": str(T + 5 * MINUTE + 1), "end": str(T + 125 * MINUTE + 1)}
    instants = [("tag", "p/#"), ("mode", "at"), *(("at", str(T + n * 1_700_000 * 37)) for n in range(60))]

    async def lines(params: Any) -> tuple[list[bytes], str | None]:
        async with http.get(f"{server.url}/v1/range", params=params) as answer:
            assert answer.status == 200, await answer.text()
            cursor = answer.headers.get("Historian-Next")
            assert ("Link" in answer.headers) == (cursor is not None)
            return (await answer.read()).splitlines(), cursor

    async def pages(params: list[tuple[str, str]], sizes: list[int]) -> list[bytes]:
        found, cursor = await lines([*params, ("limit", str(sizes[0]))])
        n = 0
        while cursor is not None:
            assert len(found) == sum(sizes[k % len(sizes)] for k in range(n + 1)), "a page that is not the last is full"
            n += 1
            page, cursor = await lines([*params, ("limit", str(sizes[n % len(sizes)])), ("cursor", cursor)])
            assert page, "a page that was announced has rows"
            found += page
        return found

    for question in QUESTIONS:
        params = [*(instants if question["mode"] == "at" else [*span.items(), *question.items()]), ("format", "ndjson")]
        async with http.get(f"{server.url}/v1/range", params=params) as answer:
            if answer.status == 400 and "not there yet" in await answer.text():
                continue
        whole, cursor = await lines(params)
        assert cursor is None
        assert len(whole) > 2, question
        for sizes in ([max(len(whole) // 3, 1)], [len(whole)], [max(len(whole) - 1, 1)], [1, 5, 130]):
            assert await pages(params, sizes) == whole, (question, sizes)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_pages_of_any_sizes_and_spans_are_the_whole(server: Server, pool: Pool, data: st.DataObject) -> None:
    if not len(server.services.catalogue):
        await fill(pool, server, KINDS, 130)
    start, end = sorted(data.draw(st.tuples(*[st.integers(T - MINUTE, T + 131 * MINUTE)] * 2), label="span"))
    params = {"tag": "p/#", "start": str(start), "end": str(end), "format": "json"}
    params |= data.draw(st.sampled_from([{}, {"mode": "minmax", "points": "30"}]), label="mode")
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{server.url}/v1/range", params=params) as answer:
            whole = (await answer.json())["samples"]
        found: list[Any] = []
        more: dict[str, str] = {}
        while True:
            limit = str(data.draw(st.integers(1, 400), label="limit"))
            async with http.get(f"{server.url}/v1/range", params=params | more | {"limit": limit}) as answer:
                page = await answer.json()
                assert answer.headers.get("Historian-Next") == page.get("next")
            found += page["samples"]
            if "next" not in page:
                break
            assert len(page["samples"]) == int(limit)
            more = {"cursor": page["next"]}
    assert found == whole


async def test_a_page_links_to_the_next_and_holds_relative_times_fast(server: Server, http: aiohttp.ClientSession, pool: Pool) -> None:
    await fill(pool, server, {"p/a": "float"}, 10)
    age = (time.time_ns() // 1000 - T) // 1_000_000
    url = f"{server.url}/v1/range?tag=p/%2B&start=-{age + 60}s&end=now&limit=4&format=csv"
    found = []
    while url:
        async with http.get(url) as answer:
            found += (await answer.text()).splitlines()[1:]
            url = answer.links["next"]["url"] if answer.links else ""  # type: ignore[assignment]
        # newer than the first page: end=now was then
        ahead = {"tag": "p/a", "ts": time.time_ns() // 1000, "value": 1}
        async with http.post(f"{server.url}/v1/write", json={"samples": [ahead]}) as answer:
            assert answer.status == 200
    assert len(found) == 10


async def test_a_form_asks_for_thousands_of_tags(server: Server, http: aiohttp.ClientSession, pool: Pool) -> None:
    """In an address they would be too long; pages go on by their cursor."""
    kinds: dict[str, Kind] = dict.fromkeys((f"site/area {n}/with a long name/temperature" for n in range(3000)), "float")
    await fill(pool, server, kinds, 2)
    url = f"{server.url}/v1/range"
    form = [*(("tag", path) for path in kinds), ("start", str(T)), ("end", str(T + 10 * MINUTE)), ("format", "json")]
    async with http.post(url, data=form) as answer:
        assert answer.status == 200, await answer.text()
        whole = (await answer.json())["samples"]
    assert len({sample["tag"] for sample in whole}) == 3000
    assert len(whole) == 6000
    pages: list[Any] = []
    cursor = ""
    while cursor is not None:
        more = [("limit", "2500"), *([("cursor", cursor)] if cursor else [])]
        async with http.post(url, data=form + more) as answer:
            assert answer.status == 200, await answer.text()
            assert "Link" not in answer.headers
            pages += (await answer.json())["samples"]
            cursor = answer.headers.get("Historian-Next")
    assert pages == whole


async def test_forms_that_are_none_are_refused(server: Server, http: aiohttp.ClientSession) -> None:
    url = f"{server.url}/v1/range"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    for ask, status, said in (
        ({"json": {"tag": "a"}}, 415, "application/x-www-form-urlencoded"),
        ({"data": {"tag": "a"}, "params": {"start": "-1h"}}, 400, "belong into its form"),
        ({"data": {"tagg": "a"}}, 400, "no such parameter"),
        ({"data": {}}, 400, "no tag"),
        ({"data": b"tag=%ff", "headers": headers}, 400, "the form cannot be read"),
        ({"data": b"tag=\xff", "headers": headers}, 400, "the form cannot be read"),
        ({"data": io.BytesIO(b"tag=a&" * 200_001), "headers": headers}, 400, "the form cannot be read"),
        ({"data": io.BytesIO(b"tag=" + b"a" * (4 << 20)), "headers": headers}, 413, "a body of"),
    ):
        async with http.post(url, **ask) as answer:  # type: ignore[arg-type]
            document = await answer.json()
            assert answer.status == status, document
            assert said in document["detail"]


async def test_what_is_written_between_pages_comes_if_it_lies_behind_the_cursor(
    server: Server, http: aiohttp.ClientSession, pool: Pool
) -> None:
    await fill(pool, server, {"p/a": "float", "p/b": "float"}, 10)
    params = {"tag": "p/#", "start": str(T), "limit": "7", "format": "json"}
    async with http.get(f"{server.url}/v1/range", params=params) as answer:
        first = await answer.json()
    late = [{"tag": tag, "ts": T + n * MINUTE + 1, "value": 0} for tag in ("p/a", "p/b") for n in (2, 8)]
    async with http.post(f"{server.url}/v1/write", json={"samples": late}) as answer:
        assert answer.status == 200
    async with http.get(f"{server.url}/v1/range", params=params | {"limit": "1000", "cursor": first["next"]}) as answer:
        second = await answer.json()
    keys = [(row["tag"], row["ts"]) for row in [*first["samples"], *second["samples"]]]
    assert len(keys) == len(set(keys)) == 23
    assert "next" not in second


async def test_cursors_that_do_not_fit_are_refused(server: Server, http: aiohttp.ClientSession, pool: Pool) -> None:
    await fill(pool, server, {"p/a": "float", "p/b": "float"}, 10)
    params = {"tag": "p/#", "start": str(T), "limit": "7", "format": "json"}
    async with http.get(f"{server.url}/v1/range", params=params) as answer:
        cursor = (await answer.json())["next"]
    for change, word in (
        ({"start": str(T + 1)}, "another question"),
        ({"tag": "p/a"}, "another question"),
        ({"mode": "minmax"}, "another question"),
        ({"cursor": cursor[:-1]}, "no cursor"),
        ({"cursor": "é" * 44}, "no cursor"),
        ({"cursor": "A" * len(cursor)}, "version"),
        ({"limit": "100001"}, "limit"),
    ):
        async with http.get(f"{server.url}/v1/range", params={**params, "cursor": cursor, **change}) as answer:
            assert answer.status == 400
            assert word in (await answer.json(content_type=None))["detail"]
    async with http.get(
        f"{server.url}/v1/range", params={**params, "cursor": cursor, "limit": "100", "format": "csv", "timeout": "5"}
    ) as answer:
        assert answer.status == 200
        assert len((await answer.text()).splitlines()) == 14


async def test_a_page_of_large_texts_is_cut_where_it_is_large_enough(server: Server, http: aiohttp.ClientSession) -> None:
    rows = [{"tag": "p/text", "ts": T + n, "value": f"{n} " + "x" * 60_000} for n in range(350)]
    for start in range(0, len(rows), 15):
        async with http.post(f"{server.url}/v1/write", json={"samples": rows[start : start + 15]}) as answer:
            assert answer.status == 200, await answer.text()
    params = {"tag": "p/text", "start": str(T), "limit": "1000", "format": "json"}
    found, sizes = [], []
    while True:
        async with http.get(f"{server.url}/v1/range", params=params) as answer:
            page = await answer.json()
        sizes.append(len(page["samples"]))
        found += [row["value"].partition(" ")[0] for row in page["samples"]]
        if "next" not in page:
            break
        params["cursor"] = page["next"]
    assert found == [str(n) for n in range(350)]
    assert len(sizes) == 2


# -- limits


async def test_limits_of_time_and_rows_are_told(database: str, http: aiohttp.ClientSession, pool: Pool) -> None:
    async with serving(database, Settings(port=0, max_rows=100, query_s=20)) as server:
        await fill(pool, server, {"p/a": "float"}, 101)
        ask = {"tag": "p/a", "start": str(T)}
        for more, status, word in (
            ({"limit": "101"}, 413, "limit is 101"),
            ({"timeout": "21"}, 400, "from 0.001 to 20"),
            ({"timeout": "0"}, 400, "timeout"),
            ({"timeout": "nan"}, 400, "timeout"),
        ):
            async with http.get(f"{server.url}/v1/range", params=ask | more) as answer:
                assert (answer.status, answer.content_type) == (status, "application/problem+json")
                assert word in (await answer.json(content_type=None))["detail"]
        async with http.get(f"{server.url}/v1/range", params=ask | {"limit": "100"}) as answer:
            assert (await answer.json())["next"]
        async with http.get(f"{server.url}/v1/range", params=ask | {"end": str(T + 100 * MINUTE)}) as answer:
            assert len((await answer.json())["samples"]) == 100
        # rows have been sent by then: the answer is cut, and lines say why
        async with http.get(f"{server.url}/v1/range", params=ask | {"format": "ndjson"}) as answer:
            lines = []
            try:
                async for line in answer.content:
                    lines.append(json.loads(line))
                pytest.fail("the answer was not cut")
            except aiohttp.ClientPayloadError:
                pass
        assert len(lines) == 101
        assert lines[-1]["error"]["status"] == 413
        assert "page with limit and cursor" in lines[-1]["error"]["detail"]


async def test_a_query_is_cancelled_at_its_time_limit_and_when_its_client_goes(
    server: Server, http: aiohttp.ClientSession, pool: Pool
) -> None:
    await fill(pool, server, {"p/a": "float"}, 10)
    url = f"{server.url}/v1/range?tag=p/a&start={T}"
    async with pool.acquire() as blocker, blocker.transaction():
        # before its first row: nothing is being sent
        await blocker.execute("LOCK TABLE historian.sample IN ACCESS EXCLUSIVE MODE")
        async with http.get(f"{url}&timeout=0.3") as answer:
            assert answer.status == 504
            problem = await answer.json(content_type=None)
        assert problem["type"] == "urn:historian:problem:time-limit"
        assert "0.3 s" in problem["detail"]
        assert await until_none(pool, BLOCKED, 5) < 1

        for close in ("client", "half", "abort"):
            address = urlsplit(url)
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.write(f"GET {address.path}?{address.query} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
            async with asyncio.timeout(10):
                while not await pool.fetchval(BLOCKED):
                    pass
            if close == "half":
                # still there, and answered: after however many interim answers
                writer.write_eof()
                assert (await reader.readline()).startswith(b"HTTP/1.1 102 ")
                assert await pool.fetchval(BLOCKED)
            elif close == "abort":
                writer.transport.abort()
            writer.close()
            assert await until_none(pool, BLOCKED, 10) < 2, close
    assert server.services.turns.held == 0


async def test_a_half_closed_client_is_answered_after_interim_answers(server: Server, pool: Pool) -> None:
    await fill(pool, server, {"p/a": "float"}, 10)
    address = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    async with pool.acquire() as blocker, blocker.transaction():
        await blocker.execute("LOCK TABLE historian.sample IN ACCESS EXCLUSIVE MODE")
        writer.write(f"GET /v1/range?tag=p/a&start={T}&format=csv HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        writer.write_eof()
        for _ in range(3):
            assert await reader.readline() == b"HTTP/1.1 102 Processing\r\n"
            assert await reader.readline() == b"\r\n"
    async with asyncio.timeout(10):
        rest = await reader.read()
    assert b"HTTP/1.1 200 OK" in rest
    assert rest.count(b"p/a,") == 10
    writer.close()


async def test_a_client_that_leaves_in_the_middle_ends_its_query(server: Server, http: aiohttp.ClientSession, pool: Pool) -> None:
    await fill(pool, server, {"p/a": "float"}, 1_000_000, 1_000_000)
    for form in ("arrow", "json"):
        answer = await http.get(f"{server.url}/v1/range", params={"tag": "p/a", "start": str(T), "format": form})
        assert await answer.content.readany()
        assert await pool.fetchval(RANGES) == 1, "it is not read faster than its client takes it"
        answer.close()
        assert await until_none(pool, RANGES, 10) < 2
    async with asyncio.timeout(5):
        while server.services.turns.held:
            await asyncio.sleep(0.01)


# -- the first byte


async def test_the_first_byte_comes_at_once_however_much_follows(server: Server, http: aiohttp.ClientSession, pool: Pool) -> None:
    await fill(pool, server, {f"p/t{n}": "float" for n in range(1_000)}, 500, 1_000_000)

    async def first_byte(form: str, start: int) -> float:
        begun = time.perf_counter()
        answer = await http.get(f"{server.url}/v1/range", params={"tag": "p/#", "start": str(start), "format": form})
        assert answer.status == 200
        assert await answer.content.readany()
        took = time.perf_counter() - begun
        answer.close()
        return took

    for form in ("arrow", "json", "csv"):
        # 50 ms; on a machine that others use too, not much more than it takes to find out that there is nothing
        for _ in range(20):
            nothing = min([await first_byte(form, T + 1_000_000_000_000) for _ in range(3)])
            if await first_byte(form, T) < max(0.05, 4 * nothing):
                break
        else:
            pytest.fail(f"{form}: never within 50 ms, nor within four times as long as nothing takes")
