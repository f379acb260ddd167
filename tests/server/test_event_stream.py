"""Streams as server-sent events: what a browser's EventSource, or a script, makes of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from historian.server.run import Server, serving
from historian.settings import Settings

TS = 1_767_225_600_000_000
ACCEPT = {"Accept": "text/event-stream"}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
        yield session


async def write(http: aiohttp.ClientSession, server: Server, *rows: tuple[str, int, Any]) -> None:
    body = {"samples": [{"tag": tag, "ts": ts, "value": value} for tag, ts, value in rows]}
    async with http.post(f"{server.url}/v1/write", json=body) as answer:
        assert answer.status == 200, await answer.text()


async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, str | None, Any]]:
    """Name, id and data, as the standard has it parsed (WHATWG HTML, 9.2.6); a comment comes as `:`."""
    name, place, data = "message", None, []
    async for line in answer.content:
        text = line.decode().removesuffix("\n")
        field, _, value = text.partition(": ")
        match field:
            case "":
                if text:
                    yield ":", None, None
                elif data:
                    yield name, place, json.loads("\n".join(data))
                name, data = "message", []
            case "event":
                name = value
            case "id":
                place = value
            case "data":
                data.append(value)
            case _:
                raise AssertionError(text)


async def until(answer: aiohttp.ClientResponse, name: str) -> tuple[list[str], str | None, list[tuple[str, Any]]]:
    """Up to the first event of this name: the names, the last id, and the samples, as (ts, value)."""
    names: list[str] = []
    samples: list[tuple[str, Any]] = []
    async for event, place, data in events(answer):
        names.append(event)
        if event != ":":
            assert data["type"] == event
        samples += [(row["ts"], row["value"]) for row in data["samples"]] if event == "data" else []
        if event == name:
            return names, place, samples
    raise AssertionError(f"ended after {names}")


async def test_a_connection_that_broke_goes_on_where_it_was(server: Server, http: aiohttp.ClientSession) -> None:
    await write(http, server, ("e/a", TS, 1), ("e/a", TS + 1, 2), ("e/b", TS, "text\nof two lines"))
    url, params = f"{server.url}/v1/stream", {"tag": "e/#", "from": str(TS)}
    async with http.get(url, params=params, headers=ACCEPT) as answer:
        assert answer.content_type == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store"
        names, _, samples = await until(answer, "live")
        assert names[0] == "subscribed"
        assert [value for _, value in samples] == [1, 2, "text\nof two lines"]
        await write(http, server, ("e/a", TS + 2, 3))
        names, place, samples = await until(answer, "data")
        assert samples == [("2026-01-01T00:00:00.000002Z", 3)]
    assert place is not None
    await write(http, server, ("e/a", TS + 3, 4))
    async with http.get(url, params=params, headers={**ACCEPT, "Last-Event-ID": place}) as answer:
        names, _, samples = await until(answer, "live")
        assert samples == [("2026-01-01T00:00:00.000003Z", 4)]
    # a place of which this server knows nothing: told, and all that is asked for comes anew
    async with http.get(url, params=params, headers={**ACCEPT, "Last-Event-ID": "1"}) as answer:
        names, _, samples = await until(answer, "live")
        assert names[:2] == ["subscribed", "gap"]
        assert [value for _, value in samples] == [1, 2, 3, 4, "text\nof two lines"]


async def test_a_span_ends_and_silence_is_filled(database: str, http: aiohttp.ClientSession) -> None:
    async with serving(database, Settings(port=0, heartbeat_s=0.05)) as server:
        await write(http, server, ("e/a", TS, 1))
        async with http.get(f"{server.url}/v1/stream", params={"tag": "e/a", "from": str(TS), "to": str(TS + 1)}, headers=ACCEPT) as answer:
            found = [(name, data) async for name, _, data in events(answer)]
        assert [name for name, _ in found] == ["subscribed", "data", "data"]
        assert found[-1][1]["last"]
        async with http.get(f"{server.url}/v1/stream", params={"tag": "e/a"}, headers=ACCEPT) as answer:
            # on a slow machine one comes while it is being opened
            names, _, _ = await until(answer, "live")
            assert [name for name in names if name != ":"] == ["subscribed", "live"]
            await until(answer, ":")


async def test_what_is_wrong_is_answered_before_the_stream(server: Server, http: aiohttp.ClientSession) -> None:
    for params, headers, status in (
        ({"tag": "no/such"}, {}, 404),
        ({}, {}, 400),
        ({"tag": "#"}, {"Last-Event-ID": "here"}, 400),
    ):
        async with http.get(f"{server.url}/v1/stream", params=params, headers=ACCEPT | headers) as answer:
            assert answer.status == status
            assert answer.content_type == "application/problem+json"


async def test_a_stop_of_the_server_ends_it(database: str, http: aiohttp.ClientSession) -> None:
    async with serving(database, Settings(port=0)) as server:
        await write(http, server, ("e/a", TS, 1))
        answer = await http.get(f"{server.url}/v1/stream", params={"tag": "e/a"}, headers=ACCEPT)
        await until(answer, "live")
    with pytest.raises(aiohttp.ClientPayloadError):
        async with asyncio.timeout(10):
            await answer.read()
