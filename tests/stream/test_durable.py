"""Durable cursors on a real server: what a reader has kept and acknowledged, over connections, servers and the ledger's retention."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from historian.schema.connection import Pool
from historian.schema.ledger_retention import CURSOR_KEPT_BYTES, forget_content
from historian.server.run import Server, serving
from historian.settings import Settings
from historian.stream.frames import JSON

HOUR = 3_600_000_000
NOW = time.time_ns() // 1000


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def write(http: aiohttp.ClientSession, url: str, rows: list[tuple[str, int, Any]]) -> None:
    body = {"samples": [{"tag": tag, "ts": ts, "value": value} for tag, ts, value in rows]}
    async with http.post(f"{url}/v1/write", json=body) as answer:
        assert answer.status == 200, await answer.text()


class Reader:
    """A durable subscription over JSON. `kept` are the samples before the last position, as a pipeline keeps them."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse, position: str | None = None) -> None:
        self.ws = ws
        self.position = position
        self.kept: list[tuple[str, int, Any]] = []
        self._coming: list[tuple[str, int, Any]] = []
        self.control: list[dict[str, Any]] = []

    async def open(self, *tags: str, name: str = "p", **fields: Any) -> dict[str, Any]:
        more = fields if self.position is None else {"position": self.position, **fields}
        await self.ws.send_json({"type": "subscribe", "id": 1, "tags": list(tags), "durable": name, **more})
        return await self.next()

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(20):
            while True:
                message = await self.ws.receive()
                assert message.type == aiohttp.WSMsgType.TEXT, message
                found: dict[str, Any] = json.loads(message.data)
                if found["type"] != "heartbeat":
                    break
        match found["type"]:
            case "data":
                self._coming += [(row["tag"], row["ts"], row["value"]) for row in found["samples"]]
            case "position":
                self.position = found["position"]
                self.kept += self._coming
                self._coming.clear()
            case _:
                self.control.append(found)
        return found

    async def until(self, kind: str) -> dict[str, Any]:
        while (found := await self.next())["type"] != kind:
            assert found["type"] != "error", found
        return found

    async def until_kept(self, count: int) -> list[Any]:
        """The values, once there are so many."""
        while len(self.kept) < count:
            await self.next()
        return [value for _, _, value in self.kept]

    async def acknowledge(self) -> None:
        await self.ws.send_json({"type": "acknowledge", "id": 1, "position": self.position})
        assert (await self.until("acknowledged"))["position"] == self.position


@asynccontextmanager
async def reading(http: aiohttp.ClientSession, server: Server, position: str | None = None) -> AsyncIterator[Reader]:
    async with http.ws_connect(f"{server.url}/v1/stream", protocols=[JSON]) as ws:
        yield Reader(ws, position)


async def test_it_goes_on_behind_what_was_acknowledged_on_another_server(database: str, http: aiohttp.ClientSession) -> None:
    async with serving(database, Settings(port=0)) as server:
        await write(http, server.url, [("a/x", NOW, 1), ("b/x", NOW, 100)])
        async with reading(http, server) as reader:
            assert "resumed" not in await reader.open("a/#", **{"from": "-1h"})
            assert await reader.until_kept(1) == [1]
            await reader.until("live")
            await write(http, server.url, [("a/x", NOW + 1, 2)])
            assert await reader.until_kept(2) == [1, 2]
            await reader.acknowledge()
            await write(http, server.url, [("a/x", NOW + 2, 3)])
            assert await reader.until_kept(3) == [1, 2, 3]
        unacknowledged = reader.position
        # nobody reads, and not all of it is of these tags
        await write(http, server.url, [("a/x", NOW + 3, 4), ("a/x", NOW - HOUR * 24, 5)])
        await write(http, server.url, [("b/x", NOW + 3, 101)])
    async with serving(database, Settings(port=0)) as server:
        # a tag that was not there before, and a correction
        await write(http, server.url, [("a/new", NOW, 6), ("a/x", NOW + 1, 7)])
        async with reading(http, server) as reader:
            assert (await reader.open("a/#", **{"from": "-1h"}))["resumed"] is True
            assert sorted(await reader.until_kept(5)) == [3, 4, 5, 6, 7]
        # what it has kept counts, and not what it has acknowledged
        async with reading(http, server, unacknowledged) as reader:
            assert (await reader.open("a/#"))["resumed"] is True
            assert sorted(await reader.until_kept(4)) == [4, 5, 6, 7]
            await reader.acknowledge()
        async with reading(http, server, reader.position) as reader:
            assert (await reader.open("a/#"))["resumed"] is True
            await reader.until("live")
            assert reader.kept == []
