"""What subscriptions can do beyond backfill and live tail: tags that come and go, the newest first, thinning, and their limits."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import aiohttp
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from viewer import Viewer

from historian.ingest.writer import Writer
from historian.schema.catalogue import Catalogue, Tag
from historian.schema.connection import Pool
from historian.schema.errors import Busy
from historian.schema.ledger import Batch
from historian.schema.samples import Samples
from historian.server.run import Server, serving
from historian.settings import Settings
from historian.stream.events import MAX_FRAME_ROWS, Data, live_data
from historian.stream.frames import ARROW, JSON, unpack
from historian.stream.limits import ControlRate
from historian.stream.messages import MAX_FAULTS

NOW = time.time_ns() // 1000
HOUR = 3_600_000_000
Write = Callable[..., Awaitable[None]]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class Socket:
    """A bare client of the JSON subprotocol."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def ask(self, kind: str, **message: Any) -> None:
        await self.ws.send_json({"type": kind, **{name.rstrip("_"): value for name, value in message.items()}})

    async def next(self, kind: str | None = None) -> dict[str, Any]:
        """The next message, of a kind if one is given; heartbeats are passed over unless asked for."""
        async with asyncio.timeout(20):
            while True:
                message = await self.ws.receive()
                assert message.type == aiohttp.WSMsgType.TEXT, message
                found: dict[str, Any] = json.loads(message.data)
                if kind == found["type"] or (kind is None and found["type"] != "heartbeat"):
                    return found

    async def values(self) -> list[Any]:
        """Of the next data message."""
        return [sample["value"] for sample in (await self.next("data"))["samples"]]


@pytest.fixture
async def socket(server: Server, http: aiohttp.ClientSession) -> AsyncIterator[Socket]:
    async with http.ws_connect(f"{server.url}/v1/stream", protocols=[JSON]) as ws:
        yield Socket(ws)


async def post(http: aiohttp.ClientSession, url: str, *rows: tuple[str, int, Any]) -> None:
    body = {"samples": [{"tag": tag, "ts": ts, "value": value} for tag, ts, value in rows]}
    async with http.post(f"{url}/v1/write", json=body) as answer:
        assert answer.status == 200, await answer.text()


@pytest.fixture
def write(server: Server, http: aiohttp.ClientSession) -> Write:
    async def write(*rows: tuple[str, int, Any]) -> None:
        await post(http, server.url, *rows)

    return write


def paths(tags: Sequence[dict[str, Any]]) -> list[str]:
    return [tag["path"] for tag in tags]


async def submit(server: Server, tag: str, ts: Any, seq: int, value: Any = None) -> None:
    """Many samples of a tag, as one batch."""
    tag_id = server.services.catalogue.get(tag).tag_id
    ts = np.asarray(ts, np.int64)
    samples = Samples(
        np.full(len(ts), tag_id, np.int32),
        ts,
        np.arange(len(ts), dtype=np.float64) if value is None else value,
        np.full(len(ts), 192, np.int16),
    )
    await server.services.batcher.submit(Batch(f"many {tag}", seq, samples))


# -- the cursors of one notice


@pytest.mark.parametrize("rows", [0, 1, MAX_FRAME_ROWS, MAX_FRAME_ROWS + 1, 3 * MAX_FRAME_ROWS])
def test_only_behind_the_last_part_of_a_notice_is_its_cursor_given_out(rows: int) -> None:
    ts = np.arange(rows, dtype=np.int64)
    samples = Samples(np.ones(rows, np.int32), ts, ts.astype(np.float64), np.full(rows, 192, np.int16))
    found: list[Data] = list(live_data(samples, 7, 9))
    parts = -(-rows // MAX_FRAME_ROWS)
    # who loses the connection amid the parts goes on behind what came before the notices 7 to 9, and has them all again
    assert [data.cursor for data in found] == [*[6] * (parts - 1), 9][:parts]
    assert all(0 < len(data.samples) <= MAX_FRAME_ROWS and not data.backfill and not data.last for data in found)
    assert [int(stamp) for data in found for stamp in data.samples.ts[[0, -1]]] == [
        edge for n in range(parts) for edge in (n * MAX_FRAME_ROWS, min((n + 1) * MAX_FRAME_ROWS, rows) - 1)
    ]


# -- tags that are made later


async def test_a_wildcard_follows_tags_that_are_made_later(write: Write, socket: Socket, pool: Pool) -> None:
    await write(("w/a", NOW - HOUR, 1))
    await socket.ask("subscribe", id=1, tags=["w/+"], from_=NOW - 2 * HOUR)
    assert paths((await socket.next("subscribed"))["tags"]) == ["w/a"]
    live = await socket.next("live")
    await write(("w/b", NOW, 2), ("w/deeper/c", NOW, 3), ("other/w", NOW, 4))
    assert paths((await socket.next())["tags"]) == ["w/b"]
    data = await socket.next()
    assert [(sample["tag"], sample["value"]) for sample in data["samples"]] == [("w/b", 2)]
    assert data["cursor"] > live["cursor"]
    # before its start a subscription has nothing, and nothing to tell
    await write(("w/old", NOW - 3 * HOUR, 5))
    await write(("w/text", NOW, "on"))
    told = await socket.next()
    assert (told["type"], paths(told["tags"])) == ("tags", ["w/text"])
    assert await socket.values() == ["on"]
    # a worker of another process makes a tag that this server has not heard of
    elsewhere = Catalogue(pool)
    await elsewhere.ensure({"w/elsewhere": "float"})
    tag_id = elsewhere.get("w/elsewhere").tag_id
    one = Samples(np.array([tag_id], np.int32), np.array([NOW], np.int64), np.array([7.5]), np.array([192], np.int16))
    writer = Writer(pool, None, instance="elsewhere")
    await writer.write([Batch("elsewhere", 0, one)])
    told = await socket.next()
    assert (told["type"], paths(told["tags"])) == ("tags", ["w/elsewhere"])
    assert await socket.values() == [7.5]
    await writer.close()


@pytest.mark.parametrize("start", [None, NOW - HOUR], ids=["live only", "with history"])
async def test_a_tag_that_is_made_while_a_wildcard_is_looked_up_is_not_lost(
    server: Server, write: Write, socket: Socket, monkeypatch: pytest.MonkeyPatch, start: int | None
) -> None:
    """Made, and written, behind the look-up and before the subscription is on the bus: the snapshot of its backfill sees the sample, but does not read the tag."""
    await write(("n/a", NOW - HOUR, 1))
    whole = Catalogue.resolve

    async def resolve(self: Catalogue, names: Any) -> list[Tag]:
        found = await whole(self, names)
        monkeypatch.setattr(Catalogue, "resolve", whole)
        await write(("n/b", NOW, 2))
        return found

    monkeypatch.setattr(Catalogue, "resolve", resolve)
    await socket.ask("subscribe", id=1, tags=["n/#"], from_=start)
    assert paths((await socket.next("subscribed"))["tags"]) == ["n/a"]
    assert paths((await socket.next("tags"))["tags"]) == ["n/b"]
    assert await socket.values() == [2]
    # and the same where a change asks for a wildcard
    await socket.ask("subscribe", id=2, tags=["n/+/none"], from_=start)
    await socket.next("live")

    async def resolve_again(self: Catalogue, names: Any) -> list[Tag]:
        found = await whole(self, names)
        monkeypatch.setattr(Catalogue, "resolve", whole)
        await write(("m/b", NOW, 3))
        return found

    monkeypatch.setattr(Catalogue, "resolve", resolve_again)
    await socket.ask("change", id=2, add=["m/#"])
    assert paths((await socket.next("changed"))["tags"]) == []
    assert paths((await socket.next("tags"))["tags"]) == ["m/b"]
    assert await socket.values() == [3]


async def test_a_resumed_wildcard_has_the_tags_made_meanwhile(server: Server, write: Write, http: aiohttp.ClientSession) -> None:
    await write(("rw/a", NOW - HOUR, 1))
    viewer = Viewer(server.url, ["rw/#"], NOW - 2 * HOUR)
    first = asyncio.create_task(viewer.run(http))
    await viewer.until(viewer.live.is_set)
    viewer.cut()
    await write(("rw/a", NOW, 2))
    await first
    await write(("rw/b", NOW, 3), ("rw/a", NOW + 1, 4))
    second = asyncio.create_task(viewer.run(http))
    await viewer.until(lambda: len(viewer.received) == 4)
    assert viewer.resumed == [True]
    assert sorted(viewer.received.value.tolist()) == [1, 2, 3, 4]
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)


async def test_without_a_websocket_tags_made_later_are_told_too(server: Server, write: Write, http: aiohttp.ClientSession) -> None:
    address = f"{server.url}/v1/stream"
    await write(("h/a", NOW - HOUR, 1))
    async with (
        http.get(address, params={"tag": "h/#", "from": "-2h"}, headers={"Accept": "text/event-stream"}) as events,
        http.get(address, params={"tag": "h/#", "from": "-2h", "to": time.time_ns() // 1000 + 2_500_000}) as arrow,
        asyncio.timeout(20),
    ):
        while await events.content.readline() != b"event: live\n":
            pass
        await write(("h/b", NOW, 2))
        while await events.content.readline() != b"event: tags\n":
            pass
        assert paths(json.loads((await events.content.readline()).removeprefix(b"data: "))["tags"]) == ["h/b"]
        reader = pa.ipc.open_stream(await arrow.read())
    told, values = [], []
    for _ in range(100):
        try:
            batch, metadata = reader.read_next_batch_with_custom_metadata()
        except StopIteration:
            break
        told += paths(json.loads((metadata or {}).get(b"historian.tags", b"[]")))
        values += [(value, list(told)) for value in batch.column("value").to_pylist()]
    assert values == [(1, []), (2, ["h/b"])]


async def test_more_tags_than_a_connection_may_have_end_the_subscription(database: str, http: aiohttp.ClientSession) -> None:
    async with serving(database, Settings(port=0, max_stream_tags=2)) as server:
        await post(http, server.url, ("t/a", NOW, 1))
        async with http.ws_connect(f"{server.url}/v1/stream", protocols=[JSON]) as ws:
            socket = Socket(ws)
            await socket.ask("subscribe", id=1, tags=["t/#"])
            await socket.next("live")
            await post(http, server.url, ("t/b", NOW, 1), ("t/c", NOW, 1))
            error = await socket.next("error")
            assert (error["id"], "request" in error) == (1, False)
            assert "3 tags over all subscriptions" in error["detail"]
            # and what it had is free again
            await socket.ask("subscribe", id=2, tags=["t/a", "t/b"])
            await socket.next("live")


# -- changes


async def test_tags_are_added_and_removed_without_a_new_backfill_of_the_others(write: Write, socket: Socket) -> None:
    await write(("c/a", NOW - HOUR, 1), ("c/b", NOW - HOUR, 2), ("c/c", NOW - HOUR, 3))
    await socket.ask("subscribe", id=1, tags=["c/a", "c/b"], from_=NOW - 2 * HOUR)
    assert await socket.values() == [1, 2]
    await socket.next("live")
    await socket.ask("change", id=1, add=["c/c"], remove=["c/a"])
    changed = await socket.next()
    assert (changed["type"], paths(changed["tags"]), len(changed["removed"])) == ("changed", ["c/c"], 1)
    data = await socket.next()
    assert ([sample["value"] for sample in data["samples"]], data["backfill"], data["cursor"]) == ([3], True, 0)
    live = await socket.next()
    assert live["type"] == "live"
    await write(("c/a", NOW, 10), ("c/b", NOW, 20), ("c/c", NOW, 30))
    data = await socket.next()
    assert sorted(sample["value"] for sample in data["samples"]) == [20, 30]
    assert data["cursor"] > live["cursor"]
    await socket.ask("change", id=1)
    assert (await socket.next())["type"] == "changed"
    assert (await socket.next())["type"] == "live"


async def test_a_tag_that_another_name_asks_for_now_is_not_sent_anew(write: Write, socket: Socket) -> None:
    await write(("s/a", NOW - HOUR, 1), ("s/b", NOW - HOUR, 2), ("t/c", NOW - HOUR, 3))
    await socket.ask("subscribe", id=1, tags=["s/#"], from_=NOW - 2 * HOUR)
    await socket.next("live")
    await socket.ask("change", id=1, remove=["s/#"], add=["+/a", "t/#"])
    changed = await socket.next()
    assert (paths(changed["tags"]), len(changed["removed"])) == (["t/c"], 1)
    assert await socket.values() == [3]
    await socket.next("live")
    await write(("s/a", NOW, 4), ("s/b", NOW, 5))
    await write(("u/a", NOW, 6))
    assert await socket.values() == [4]
    assert await socket.values() == [6]


@pytest.mark.parametrize(
    ("change", "problem", "words"),
    [
        ({"add": ["no/such"]}, "unknown-tag", "no/such"),
        ({"remove": ["c/b"]}, "bad-input", "not asked for"),
        ({"add": ["c/text"]}, "bad-input", "no text column"),
        ({"add": ["c/#"]}, "bad-input", "no text column"),
        ({"add": ["c/b"], "remove": ["c/b"]}, "bad-message", "both"),
        ({"add": "c/b"}, "bad-message", "add"),
        ({"expressions": ["p: 1"]}, "bad-message", "expressions"),
    ],
)
async def test_a_change_that_cannot_be_made_leaves_all_as_it_was(
    write: Write, socket: Socket, change: dict[str, Any], problem: str, words: str
) -> None:
    await write(("c/a", NOW - HOUR, 1), ("c/b", NOW - HOUR, 2))
    await write(("c/text", NOW - HOUR, "x"))
    await socket.ask("subscribe", id=1, tags=["c/a"])
    await socket.next("live")
    await socket.ask("change", id=1, **change)
    error = await socket.next()
    assert (error["id"], error["request"], error["problem"]) == (1, "change", f"urn:historian:problem:{problem}")
    assert words in error["detail"]
    await write(("c/a", NOW, 3), ("c/b", NOW, 4))
    assert await socket.values() == [3]


async def test_the_live_tail_goes_on_while_the_history_of_an_added_tag_comes(
    server: Server, write: Write, http: aiohttp.ClientSession
) -> None:
    await write(("big/a", NOW - HOUR, 0), ("small/a", NOW - HOUR, 0))
    for n in range(4):
        await submit(server, "big/a", NOW - HOUR + n * 200_000 + np.arange(200_000), n)
    async with http.ws_connect(f"{server.url}/v1/stream", protocols=[ARROW], max_msg_size=0) as ws, asyncio.timeout(30):
        await ws.send_json({"type": "subscribe", "id": 1, "tags": ["small/a"], "from": NOW - 2 * HOUR})
        while (message := await ws.receive()).type != aiohttp.WSMsgType.TEXT or message.json()["type"] != "live":
            pass
        # one frame of history a credit, each asked for once a live one has come
        await ws.send_json({"type": "change", "id": 1, "add": ["big/a"]})
        await ws.send_json({"type": "credit", "id": 1, "n": 1})
        kinds = ""
        n = 0
        while True:
            message = await ws.receive()
            if message.type == aiohttp.WSMsgType.TEXT:
                if message.json()["type"] == "live":
                    break
                continue
            kinds += "h" if unpack(message.data).backfill else "l"
            n += 1
            await write(("small/a", NOW + n, n))
            await ws.send_json({"type": "credit", "id": 1, "n": 1})
    # the tail is first whenever it has something
    assert kinds.count("h") >= 13
    assert "hlhlhlhlhl" in kinds


async def test_more_changes_than_may_wait(write: Write, socket: Socket) -> None:
    await write(("c/a", NOW - HOUR, 1))
    await socket.ask("subscribe", id=1, tags=["c/a"], from_=NOW - 2 * HOUR)
    await socket.ask("pause", id=1)
    for _ in range(20):
        await socket.ask("change", id=1)
    error = await socket.next("error")
    assert (error["problem"], error["request"]) == ("urn:historian:problem:busy", "change")
    await socket.ask("resume", id=1)
    for _ in range(16):
        await socket.next("changed")


# -- order and rate


async def test_the_newest_come_first(server: Server, write: Write, socket: Socket) -> None:
    now = time.time_ns() // 1000
    await write(("o/a", now, 0), ("o/b", now, 0))
    ages = [0, 30, 90, 200, 400, 1000, 5000, 20_000, 80_000, -3600]
    for tag in ("o/a", "o/b"):
        await submit(server, tag, sorted(now - age * 1_000_000 for age in ages), 0)
    await socket.ask("subscribe", id=1, tags=["o/#"], from_=now - 100_000 * 1_000_000, order="newest")
    parts: list[list[tuple[str, int]]] = []
    while (message := await socket.next())["type"] != "live":
        if message["type"] == "data":
            parts.append([(sample["tag"], round((now - stamp(sample["ts"])) / 1e6)) for sample in message["samples"]])
    found = [row for part in parts for row in part]
    assert sorted(found) == sorted((tag, age) for tag in ("o/a", "o/b") for age in ages)
    assert len(parts) >= 5
    # each chunk of time lies before the one that came before it
    for newer, older in itertools.pairwise(parts):
        assert max(age for _, age in newer) < min(age for _, age in older)
    assert {age for _, age in parts[0]} == {-3600, 0, 30}


def stamp(text: str) -> int:
    from historian.query.times import parse_time

    return parse_time(text, 0)


async def test_a_live_tail_at_a_rate_keeps_its_peaks(server: Server, write: Write, socket: Socket) -> None:
    await write(("q/a", NOW - HOUR, 0.5))
    await socket.ask("subscribe", id=1, tags=["q/a"], from_=NOW - 2 * HOUR, max_rate=2)
    await socket.next("live")
    begun = time.monotonic()
    value = np.sin(np.arange(2000))
    for n in range(10):
        await submit(server, "q/a", NOW + n * 200 + np.arange(200), n, value[n * 200 : n * 200 + 200])
    got: list[tuple[int, float]] = []
    frames = 0
    while not got or got[-1][0] < NOW + 1999:
        message = await socket.next("data")
        frames += 1
        got += [(stamp(sample["ts"]), sample["value"]) for sample in message["samples"]]
    took = time.monotonic() - begun
    assert frames <= 1 + 2 * took
    assert len(got) <= 6 * frames
    values = [found for _, found in got]
    assert (min(values), max(values), got[0], got[-1]) == (value.min(), value.max(), (NOW, value[0]), (NOW + 1999, value[1999]))
    assert all(value[ts - NOW] == found for ts, found in got)
    # what corrects something is sent whatever it is
    await submit(server, "q/a", NOW + np.arange(50), 99, np.full(50, 0.25))
    assert await socket.values() == [0.25] * 50


async def test_an_end_that_comes_before_the_next_time_to_send_takes_all_along(write: Write, socket: Socket) -> None:
    await write(("z/a", NOW - HOUR, 1))
    await socket.ask("subscribe", id=1, tags=["z/a"], to=time.time_ns() // 1000 + 1_500_000, max_rate=0.01)
    await socket.next("live")
    await write(("z/a", NOW, 2))
    assert await socket.values() == [2]
    await write(("z/a", NOW + 1, 3))
    data = await socket.next("data")
    assert ([sample["value"] for sample in data["samples"]], data["last"]) == ([3], False)
    assert (await socket.next("data"))["last"]


# -- fairness and limits


async def test_backfills_of_one_connection_leave_places_for_others(database: str, http: aiohttp.ClientSession) -> None:
    async with serving(database, Settings(port=0, backfill_connections=4)) as server:
        await post(http, server.url, ("big/a", NOW - HOUR, 0), ("small/a", NOW, 1))
        for n in range(4):
            await submit(server, "big/a", NOW - HOUR + n * 200_000 + np.arange(200_000), n)
        async with http.ws_connect(f"{server.url}/v1/stream", protocols=[ARROW], max_msg_size=0) as greedy:
            for n in range(16):
                await greedy.send_json({"type": "subscribe", "id": n, "tags": ["big/a"], "from": NOW - 2 * HOUR})
                # held in the middle of it, with its place at the database
                await greedy.send_json({"type": "credit", "id": n, "n": 1})
            for _ in range(19):
                # 16 are open, and three have got so far
                await greedy.receive()
            async with http.ws_connect(f"{server.url}/v1/stream", protocols=[JSON]) as ws:
                socket = Socket(ws)
                await socket.ask("subscribe", id=1, tags=["small/a"], from_=NOW - 1)
                assert await socket.values() == [1]
                await socket.next("live")


async def test_a_live_frame_waits_for_one_frame_of_a_backfill(
    server: Server, write: Write, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(("big/a", NOW - HOUR, 0), ("small/a", NOW, 1))
    for n in range(4):
        await submit(server, "big/a", NOW - HOUR + n * 200_000 + np.arange(200_000), n)
    send = aiohttp.web.WebSocketResponse.send_bytes
    under_way: dict[bool, int] = {True: 0, False: 0}
    most = 0
    beside: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def watched(self: Any, data: bytes, *more: Any) -> None:
        nonlocal most
        backfill = unpack(data).backfill
        under_way[backfill] += 1
        most = max(most, under_way[True])
        if not backfill:
            beside.set_result(under_way[True])
        await send(self, data, *more)
        under_way[backfill] -= 1

    monkeypatch.setattr(aiohttp.web.WebSocketResponse, "send_bytes", watched)
    async with http.ws_connect(f"{server.url}/v1/stream", protocols=[ARROW], max_msg_size=0) as ws, asyncio.timeout(30):
        # none of what follows is read: the sockets fill up, and the backfills stand still
        await ws.send_json({"type": "subscribe", "id": 99, "tags": ["small/a"]})
        while (message := await ws.receive()).type != aiohttp.WSMsgType.TEXT or message.json()["type"] != "live":
            pass
        assert ws._conn is not None
        assert ws._conn.transport is not None
        ws._conn.transport.pause_reading()
        for n in range(12):
            await ws.send_json({"type": "subscribe", "id": n, "tags": ["big/a"], "from": NOW - 2 * HOUR})
        while server.services.backfill_turns.held < 12 or not under_way[True]:
            await asyncio.sleep(0)
        await write(("small/a", NOW + 1, 2))
        assert await beside <= 1
        assert most == 1
        # not read to its end
        ws._conn.transport.abort()


async def test_limits_of_a_connection_say_what_to_do(database: str, http: aiohttp.ClientSession) -> None:
    limits = Settings(port=0, max_streams_address=2, max_subscriptions=2, max_stream_tags=3)
    async with serving(database, limits) as server:
        await post(http, server.url, *((f"l/{n}", NOW, n) for n in range(4)))
        async with http.ws_connect(f"{server.url}/v1/stream", protocols=[JSON]) as ws, http.get(f"{server.url}/v1/stream?tag=l/0"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await http.ws_connect(f"{server.url}/v1/stream", protocols=[JSON])
            assert caught.value.status == 429
            async with http.get(f"{server.url}/v1/stream?tag=l/0") as answer:
                problem = await answer.json(content_type=None)
                assert "at most 2 may be from one address: close some" in problem["detail"]
            socket = Socket(ws)
            await socket.ask("subscribe", id=1, tags=["l/#"])
            error = await socket.next("error")
            assert (error["id"], error["request"], error["problem"]) == (1, "subscribe", "urn:historian:problem:bad-input")
            assert "4 tags over all subscriptions of this connection, and at most 3 may be: unsubscribe" in error["detail"]
            await socket.ask("subscribe", id=1, tags=["l/0", "l/1"])
            await socket.next("live")
            await socket.ask("subscribe", id=2, tags=["l/2"])
            await socket.next("live")
            await socket.ask("subscribe", id=3, tags=["l/3"])
            assert (
                "2 subscriptions are open on this connection, and at most 2 may be: unsubscribe one"
                in (await socket.next("error"))["detail"]
            )
            await socket.ask("change", id=1, add=["l/3"])
            assert "4 tags over all" in (await socket.next("error"))["detail"]
            await socket.ask("change", id=1, add=["l/3"], remove=["l/0"])
            await socket.next("live")
            await socket.ask("unsubscribe", id=1)
            await socket.ask("change", id=2, add=["l/0", "l/1"])
            await socket.next("live")
        # both are gone: there is room again
        async with asyncio.timeout(20), http.ws_connect(f"{server.url}/v1/stream", protocols=[JSON]):
            pass


async def test_too_many_control_messages_are_passed_over_and_then_end_the_connection(database: str, http: aiohttp.ClientSession) -> None:
    async with (
        serving(database, Settings(port=0, max_controls_s=1)) as server,
        http.ws_connect(f"{server.url}/v1/stream", protocols=[JSON]) as ws,
        asyncio.timeout(20),
    ):
        for _ in range(10 + MAX_FAULTS + 20):
            await ws.send_str('{"type":"heartbeat"}')
        kinds = []
        while (message := await ws.receive()).type == aiohttp.WSMsgType.TEXT:
            kinds.append(message.json().get("problem", "heartbeat"))
        assert kinds[:10] == ["heartbeat"] * 10
        assert kinds.count("urn:historian:problem:busy") == MAX_FAULTS + 1
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1008)


def test_a_rate_allows_a_burst_and_then_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("historian.token_bucket.time.monotonic", lambda: now)
    rate = ControlRate(2)
    for _ in range(20):
        rate.count()
    with pytest.raises(Busy, match="more than 2 control messages a second"):
        rate.count()
    now += 0.5
    rate.count()
    with pytest.raises(Busy):
        rate.count()
    now += 1000
    for _ in range(20):
        rate.count()
    with pytest.raises(Busy):
        rate.count()


# -- whatever a client sends

scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=10)
nested = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=6), scalars, max_size=3)
json_values = nested | st.lists(nested, max_size=3) | st.dictionaries(st.text(max_size=6), nested, max_size=3)
KINDS = ["subscribe", "change", "unsubscribe", "pause", "resume", "credit", "heartbeat"]
FIELDS = ["id", "tags", "expressions", "from", "to", "mode", "points", "cursor", "order", "max_rate", "add", "remove", "n"]
good_values = st.sampled_from(
    [0, 1, 7, 2**63, -1, 0.5, 1e300, "f/#", "f/a", ["f/a"], ["f/#"], ["+/+", "#"], [], "-1h", "now", "newest", "auto", ["p: f/a * 2"], None]
)
messages = st.one_of(
    st.fixed_dictionaries(
        {"type": st.sampled_from(KINDS), "id": st.sampled_from([0, 1, 1, 2, 65_536]) | json_values},
        optional=dict.fromkeys(FIELDS[1:], good_values | json_values),
    ).map(json.dumps),
    json_values.map(json.dumps),
    st.text(max_size=30),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(sent=st.lists(messages | st.binary(max_size=20), min_size=1, max_size=12))
def fuzz(run: Callable[[Awaitable[None]], None], url: str, http: aiohttp.ClientSession, neighbour: Socket, sent: list[str | bytes]) -> None:
    async def whole() -> None:
        async with http.ws_connect(f"{url}/v1/stream", protocols=[JSON]) as ws, asyncio.timeout(20):
            for message in sent:
                await (ws.send_bytes(message) if isinstance(message, bytes) else ws.send_str(message))
            await ws.send_str('{"type":"heartbeat","id":3}')
            # each is answered, or understood; and then this one, which is a fault for certain
            faults = 0
            while True:
                answer = await ws.receive()
                assert answer.type == aiohttp.WSMsgType.TEXT, answer
                found = answer.json()
                assert found["type"] in ("subscribed", "data", "live", "gap", "tags", "changed", "heartbeat", "error")
                if found["type"] == "error":
                    faults += 1
                    assert found["problem"].startswith("urn:historian:problem:")
                    assert found["problem"] != "urn:historian:problem:internal", (sent, found)
                    assert found["detail"]
                    if "Extra inputs" in found["detail"] and found.get("request") == "heartbeat" and found.get("id") == 3:
                        break
            assert faults >= sum(isinstance(message, bytes) for message in sent) + 1
        await neighbour.ask("heartbeat")
        await neighbour.next("heartbeat")

    run(whole())


def test_whatever_is_sent_is_answered_and_others_are_not_affected(database: str) -> None:
    with asyncio.Runner() as runner:

        async def begin() -> tuple[Any, Server, aiohttp.ClientSession, Any, Socket]:
            context = serving(database, Settings(port=0))
            server = await context.__aenter__()
            http = aiohttp.ClientSession()
            await post(http, server.url, ("f/a", NOW - HOUR, 1))
            ws = await http.ws_connect(f"{server.url}/v1/stream", protocols=[JSON])
            neighbour = Socket(ws)
            await neighbour.ask("subscribe", id=1, tags=["f/#"])
            await neighbour.next("live")
            return context, server, http, ws, neighbour

        context, server, http, ws, neighbour = runner.run(begin())

        async def end() -> None:
            await post(http, server.url, ("f/a", NOW, 2))
            assert await neighbour.values() == [2]
            await ws.close()
            await http.close()
            await context.__aexit__(None, None, None)

        fuzz(runner.run, server.url, http, neighbour)
        runner.run(end())
