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
from historian.schema.cursors import Position
from historian.schema.ledger_retention import CURSOR_KEPT_BYTES, CURSOR_KEPT_S, forget_content
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

    async def live(self) -> None:
        while all(message["type"] != "live" for message in self.control):
            await self.next()

    async def next_error(self) -> dict[str, Any]:
        while (found := await self.next())["type"] != "error":
            pass
        return found

    async def until_kept(self, count: int) -> list[Any]:
        """The values, once there are so many."""
        while len(self.kept) < count:
            await self.next()
        return [value for _, _, value in self.kept]

    async def acknowledge(self) -> None:
        # another may come meanwhile
        sent = self.position
        await self.ws.send_json({"type": "acknowledge", "id": 1, "position": sent})
        assert (await self.until("acknowledged"))["position"] == sent


async def forget(
    pool: Pool, *, cursor_kept_s: float = CURSOR_KEPT_S, cursor_kept_bytes: int = CURSOR_KEPT_BYTES, before: str | None = None
) -> int:
    """As the server's upkeep does once a minute, for contents of any age. Returns how many are left, of those from before a position if one is given."""
    async with pool.acquire() as conn:
        await forget_content(conn, kept_s=0, cursor_kept_s=cursor_kept_s, cursor_kept_bytes=cursor_kept_bytes)
        xmin = 2**62 if before is None else Position.parse(before).snapshot.xmin
        left: int = await conn.fetchval("SELECT count(*) FROM historian.ledger_content WHERE xid < $1::text::xid8", str(xmin))
        return left


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
            await reader.live()
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
            await reader.live()
            assert reader.kept == []


async def test_the_ledger_is_held_for_a_cursor_and_let_go_behind_it(server: Server, pool: Pool, http: aiohttp.ClientSession) -> None:
    await write(http, server.url, [("h/a", NOW, 1)])
    async with reading(http, server) as reader:
        await reader.open("h/#", **{"from": "-1h"})
        await reader.until_kept(1)
        await reader.acknowledge()
    for n in range(3):
        await write(http, server.url, [("h/a", NOW + 1 + n, n)])
    # and one more, if something else ran when it was acknowledged
    assert await forget(pool) in (3, 4)
    async with reading(http, server, reader.position) as reader:
        assert (await reader.open("h/#"))["resumed"] is True
        assert await reader.until_kept(3) == [0, 1, 2]
        await reader.acknowledge()
        assert reader.position is not None
        assert await forget(pool, before=reader.position) == 0
    async with http.get(f"{server.url}/v1/cursors") as answer:
        (cursor,) = (await answer.json())["cursors"]
    assert (cursor["name"], cursor["tags"], cursor["waiting_since"], cursor["expired"]) == ("p", ["h/#"], None, False)


@pytest.mark.parametrize("limit", [{"cursor_kept_s": 0.0}, {"cursor_kept_bytes": 1}])
async def test_beyond_the_limit_a_gap_is_told_and_a_backfill_comes(
    server: Server, pool: Pool, http: aiohttp.ClientSession, limit: dict[str, Any]
) -> None:
    await write(http, server.url, [("g/a", NOW, 1)])
    async with reading(http, server) as reader:
        await reader.open("g/a", **{"from": NOW - HOUR})
        await reader.until_kept(1)
        await reader.acknowledge()
    await write(http, server.url, [("g/a", NOW + 1, 2)])
    assert await forget(pool, **limit) == 0
    await write(http, server.url, [("g/a", NOW + 2, 3)])
    for given in (None, reader.position):
        async with reading(http, server, given) as again:
            # whatever it asks for now: the backfill begins where it began the first time
            assert (await again.open("g/a", **{"from": "-1s"}))["resumed"] is False
            gap = await again.until("gap")
            assert (gap["reason"], gap["from"][:19]) == (
                "cursor-expired",
                time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime((NOW - HOUR) / 1e6)),
            )
            assert await again.until_kept(3) == [1, 2, 3]
            if given is None:
                # a position of before the backfill is void
                await again.ws.send_json({"type": "acknowledge", "id": 1, "position": reader.position})
    async with reading(http, server, again.position) as reader:
        assert (await reader.open("g/a"))["resumed"] is True


async def test_a_stream_that_falls_behind_the_ledger_is_told_so_while_it_is_open(
    server: Server, pool: Pool, http: aiohttp.ClientSession
) -> None:
    async with reading(http, server) as reader:
        await write(http, server.url, [("f/a", NOW, 1)])
        await reader.open("f/a", **{"from": "-1h"})
        await reader.until_kept(1)
        await reader.acknowledge()
        await reader.live()
        await reader.ws.send_json({"type": "pause", "id": 1})
        # of the first, which waits at the gate, it is already known what it is
        await write(http, server.url, [("f/a", NOW + 1, 2)])
        async with asyncio.timeout(20):
            while (
                await pool.fetchval(
                    "SELECT count(*) FROM historian.ledger_content WHERE committed_at < clock_timestamp() - interval '0.3 s'"
                )
                < 2
            ):
                await asyncio.sleep(0.05)
        await write(http, server.url, [("f/a", NOW + 2, 3)])
        assert await forget(pool, cursor_kept_s=0.0) == 0
        await reader.ws.send_json({"type": "resume", "id": 1})
        gap = await reader.until("gap")
        assert gap["reason"] == "cursor-expired"
        assert (await reader.until_kept(len(reader.kept) + 3))[-3:] == [1, 2, 3]


async def test_a_position_of_another_database_is_not_taken_for_one_of_this(server: Server, pool: Pool, http: aiohttp.ClientSession) -> None:
    await write(http, server.url, [("d/a", NOW, 1)])
    async with reading(http, server) as reader:
        await reader.open("d/a", **{"from": "-1h"})
        await reader.until_kept(1)
        await reader.acknowledge()
    assert reader.position is not None
    # as after a logical restore, and as after one to a state in which these transactions have not happened yet
    ahead = f"{reader.position.partition('/')[0]}/9000000000000000000:9000000000000000000:"
    for position in (f"other/{reader.position.partition('/')[2]}", ahead):
        async with reading(http, server, position) as again:
            assert (await again.open("d/a"))["resumed"] is False
            assert (await again.until("gap"))["reason"] == "cursor-expired"
            assert await again.until_kept(1) == [1]
            await again.acknowledge()
    await pool.execute("UPDATE historian.cursor SET origin = 'other'")
    async with reading(http, server) as again:
        assert (await again.open("d/a"))["resumed"] is False


async def test_one_stream_at_a_time_has_a_cursor(server: Server, http: aiohttp.ClientSession) -> None:
    await write(http, server.url, [("o/a", NOW, 1)])
    async with reading(http, server) as first, reading(http, server) as second:
        await first.open("o/a")
        await first.live()
        assert (await second.open("o/a")).get("type") == "subscribed"
        await second.live()
        # it finds out at the next that it would send, or store
        await write(http, server.url, [("o/a", NOW + 1, 2)])
        error = await first.next_error()
        assert (error["id"], error["problem"]) == (1, "urn:historian:problem:conflict")
        assert await second.until_kept(1) == [2]
        await second.acknowledge()
        async with http.delete(f"{server.url}/v1/cursors/p") as answer:
            assert answer.status == 204
        await write(http, server.url, [("o/a", NOW + 2, 3)])
        assert (await second.next_error())["problem"] == "urn:historian:problem:conflict"
        async with http.delete(f"{server.url}/v1/cursors/p") as answer:
            assert answer.status == 404
        # what it holds is of no use any more, and it is told so
        await second.open("o/a")
        assert (await second.until("gap"))["reason"] == "cursor-expired"


async def test_bad_requests_are_answered(server: Server, http: aiohttp.ClientSession) -> None:
    await write(http, server.url, [("e/a", NOW, 1), ("e/b", NOW, 1)])
    async with reading(http, server) as reader:
        for wrong, said in (
            ({"tags": ["e/a"], "durable": "p q"}, "a cursor's name has"),
            ({"tags": ["e/a"], "durable": "p", "mode": "auto"}, "with durable there are no"),
            ({"tags": ["e/a"], "durable": "p", "to": "now"}, "with durable there are no"),
            ({"tags": ["e/a"], "position": "x/1:1:"}, "position is of a durable cursor"),
            ({"tags": ["e/a"], "durable": "p", "position": "x/2:1:"}, "is no snapshot"),
            ({"tags": ["e/a"], "durable": "p", "position": "1:1:"}, "is no position"),
        ):
            await reader.ws.send_json({"type": "subscribe", "id": 1, **wrong})
            assert said in (await reader.next_error())["detail"]
        await reader.open("e/a")
        await reader.until("position")
        for position in ("other/5:5:", f"{str(reader.position).partition('/')[0]}/9223372036854775806:9223372036854775806:"):
            await reader.ws.send_json({"type": "acknowledge", "id": 1, "position": position})
            assert "no position that this subscription has told" in (await reader.next_error())["detail"]
        await reader.ws.send_json({"type": "subscribe", "id": 2, "tags": ["e/b"], "durable": "p"})
        assert "is of the tags e/a" in (await reader.next_error())["detail"]
        await reader.ws.send_json({"type": "subscribe", "id": 3, "tags": ["e/b"]})
        await reader.ws.send_json({"type": "acknowledge", "id": 3, "position": reader.position})
        assert "is not durable" in (await reader.next_error())["detail"]
