"""The stream protocol, spoken to a real server over a real WebSocket."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import numpy as np
import pyarrow as pa
import pytest
from viewer import Viewer

from historian.schema.samples import Samples
from historian.server.run import Server, serving
from historian.settings import Settings
from historian.stream.frames import ARROW, JSON, payload

NOW = time.time_ns() // 1000
HOUR = 3_600_000_000


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def write(http: aiohttp.ClientSession, url: str, rows: list[tuple[str, int, Any]], **more: Any) -> None:
    body = {"samples": [{"tag": tag, "ts": ts, "value": value, **more} for tag, ts, value in rows]}
    async with http.post(f"{url}/v1/write", json=body) as answer:
        assert answer.status == 200, await answer.text()


class Socket:
    """A bare client: sends control messages, and reads what comes."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def ask(self, **message: Any) -> None:
        await self.ws.send_json(message)

    async def next(self, kind: str | None = None) -> dict[str, Any]:
        """The next message, of a kind if one is given; heartbeats are passed over."""
        async with asyncio.timeout(20):
            while True:
                message = await self.ws.receive()
                assert message.type == aiohttp.WSMsgType.TEXT, message
                found = json.loads(message.data)
                if found["type"] != "heartbeat" and kind in (None, found["type"]):
                    return found


@pytest.fixture
async def socket(server: Server, http: aiohttp.ClientSession) -> AsyncIterator[Socket]:
    async with http.ws_connect(f"{server.url}/v1/stream", protocols=[JSON]) as ws:
        yield Socket(ws)


async def test_backfill_seam_and_live_tail_over_json(server: Server, http: aiohttp.ClientSession, socket: Socket) -> None:
    await write(http, server.url, [("s/a", NOW - HOUR, 1.5), ("s/b", NOW - HOUR, 2), ("other/c", NOW - HOUR, 3)])
    await socket.ask(type="subscribe", id=7, tags=["s/#"], **{"from": "-2h"})
    subscribed = await socket.next()
    assert (subscribed["type"], subscribed["id"]) == ("subscribed", 7)
    assert [tag["path"] for tag in subscribed["tags"]] == ["s/a", "s/b"]
    data = await socket.next("data")
    assert data["backfill"] is True
    assert [(sample["tag"], sample["value"]) for sample in data["samples"]] == [("s/a", 1.5), ("s/b", 2)]
    live = await socket.next()
    assert live["type"] == "live"
    assert live["cursor"] > 0
    await write(http, server.url, [("s/b", NOW, 4.25), ("other/c", NOW, 5)])
    data = await socket.next()
    assert (data["type"], data["backfill"], data["last"]) == ("data", False, False)
    assert [(sample["tag"], sample["value"], sample["quality"]) for sample in data["samples"]] == [("s/b", 4.25, 192)]
    assert data["cursor"] > live["cursor"]
    assert data["sequence"] == 1


async def test_payloads_concatenated_are_one_arrow_stream(server: Server, http: aiohttp.ClientSession) -> None:
    rows = [("p/a", NOW - HOUR + n, n / 4) for n in range(3000)]
    await write(http, server.url, rows)
    await write(http, server.url, [("p/text", NOW - HOUR, "füllen")])
    now = time.time_ns() // 1000
    end = now + 3_000_000
    viewer_frames = []
    async with http.ws_connect(f"{server.url}/v1/stream?compression=zstd", protocols=[ARROW, JSON]) as ws:
        assert ws.protocol == ARROW
        await ws.send_json({"type": "subscribe", "id": 1, "tags": ["p/#"], "from": NOW - 2 * HOUR, "to": end})
        await write(http, server.url, [("p/a", now, 77.0), ("p/a", end, 78.0)])
        async for message in ws:
            if message.type == aiohttp.WSMsgType.BINARY:
                viewer_frames.append(message.data)
                if message.data[1] & 4:
                    break
    table = pa.ipc.open_stream(b"".join(bytes(payload(frame)) for frame in viewer_frames)).read_all()
    assert table.column_names == ["tag_id", "ts", "value", "quality", "text"]
    tags = {tag["path"]: tag["tag_id"] for tag in json.loads(table.schema.metadata[b"historian.tags"])}
    assert set(tags) == {"p/a", "p/text"}
    found = Samples.from_record_batch(table.combine_chunks().to_batches()[0])
    a = found.take(found.tag_id == tags["p/a"])
    assert a.ts.tolist() == [row[1] for row in rows] + [now]
    assert a.value.tolist() == [row[2] for row in rows] + [77.0]
    assert [text for text in found.text.to_pylist() if text is not None] == ["füllen"]
    assert any(frame[1] & 1 for frame in viewer_frames), "none was compressed"


async def test_live_only_without_from(server: Server, http: aiohttp.ClientSession, socket: Socket) -> None:
    await write(http, server.url, [("l/a", NOW - HOUR, 1)])
    await socket.ask(type="subscribe", id=1, tags=["l/a"])
    await socket.next("live")
    # whatever its timestamp
    await write(http, server.url, [("l/a", NOW - 24 * HOUR, 2)])
    data = await socket.next()
    assert [sample["value"] for sample in data["samples"]] == [2]


async def test_a_correction_is_sent_again(server: Server, http: aiohttp.ClientSession, socket: Socket) -> None:
    await write(http, server.url, [("c/a", NOW - HOUR, 1)])
    await socket.ask(type="subscribe", id=1, tags=["c/a"], **{"from": NOW - 2 * HOUR})
    await socket.next("live")
    await write(http, server.url, [("c/a", NOW - HOUR, None)], quality=8)
    (sample,) = (await socket.next("data"))["samples"]
    assert (sample["value"], sample["quality"]) == (None, 8)


async def test_a_stream_goes_on_by_its_cursor(server: Server, http: aiohttp.ClientSession) -> None:
    await write(http, server.url, [("r/a", NOW - HOUR, 1)])
    viewer = Viewer(server.url, ["r/#"], NOW - 2 * HOUR)
    first = asyncio.create_task(viewer.run(http))
    await viewer.until(viewer.live.is_set)
    viewer.cut()
    await write(http, server.url, [("r/a", NOW - HOUR + 1, 2)])
    await first
    await write(http, server.url, [("r/a", NOW - HOUR + 2, 3)])
    second = asyncio.create_task(viewer.run(http))
    await viewer.until(lambda: len(viewer.received) == 3)
    assert viewer.resumed == [True]
    await write(http, server.url, [("r/a", NOW - HOUR + 3, 4)])
    await viewer.until(lambda: len(viewer.received) == 4)
    assert viewer.received.value.tolist() == [1, 2, 3, 4]
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)


async def test_a_cursor_that_is_not_retained_is_told_and_gives_a_fresh_backfill(
    server: Server, http: aiohttp.ClientSession, socket: Socket
) -> None:
    await write(http, server.url, [("e/a", NOW - HOUR, 1)])
    await socket.ask(type="subscribe", id=1, tags=["e/a"], cursor=12345, **{"from": NOW - 2 * HOUR})
    assert (await socket.next("subscribed"))["resumed"] is False
    gap = await socket.next()
    assert (gap["type"], gap["reason"]) == ("gap", "cursor-expired")
    assert [sample["value"] for sample in (await socket.next("data"))["samples"]] == [1]
    await socket.next("live")


async def test_pause_resume_credit_and_unsubscribe(server: Server, http: aiohttp.ClientSession, socket: Socket) -> None:
    await write(http, server.url, [("f/a", NOW - HOUR, 0)])
    await socket.ask(type="subscribe", id=1, tags=["f/a"])
    await socket.next("live")
    await socket.ask(type="pause", id=1)
    await socket.ask(type="subscribe", id=2, tags=["f/a"])
    await socket.next("live")
    await write(http, server.url, [("f/a", NOW - HOUR + 1, 1)])
    # the other subscription has it; the one that is paused has not
    assert (await socket.next("data"))["id"] == 2
    await socket.ask(type="resume", id=1)
    assert (await socket.next("data"))["id"] == 1
    await socket.ask(type="unsubscribe", id=2)
    await socket.ask(type="credit", id=1, n=1)
    await socket.ask(type="subscribe", id=2, tags=["f/a"])
    await socket.next("live")
    await write(http, server.url, [("f/a", NOW - HOUR + 2, 2)])
    assert {(await socket.next("data"))["id"], (await socket.next("data"))["id"]} == {1, 2}
    await write(http, server.url, [("f/a", NOW - HOUR + 3, 3)])
    assert (await socket.next("data"))["id"] == 2
    await socket.ask(type="credit", id=1, n=1)
    data = await socket.next("data")
    assert (data["id"], [sample["value"] for sample in data["samples"]]) == (1, [3])


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("{", "JSON"),
        ("[]", "object"),
        ('{"type":"subscrib","id":1}', "subscrib"),
        ('{"type":"subscribe","id":1,"tags":["s/a"],"fromm":0}', "fromm"),
        ('{"type":"subscribe","id":-1,"tags":["s/a"]}', "id"),
        ('{"type":"subscribe","id":1,"tags":[]}', "tags"),
        ('{"type":"subscribe","id":1,"tags":["a//b"]}', "empty level"),
        ('{"type":"subscribe","id":1,"tags":["a/#/b"]}', "#"),
        ('{"type":"subscribe","id":1,"tags":["a\\u0000b"]}', "control character"),
        ('{"type":"subscribe","id":1,"tags":["not/there"]}', "not/there"),
        ('{"type":"subscribe","id":1,"tags":["#"],"from":"yesterday"}', "yesterday"),
        ('{"type":"subscribe","id":1,"tags":["#"],"from":"-1h","to":"-2h"}', "before"),
        ('{"type":"subscribe","id":1,"tags":["#"],"mode":"best"}', "mode"),
        ('{"type":"pause","id":9}', "9"),
        ('{"type":"credit","id":1,"n":0}', "n"),
    ],
)
async def test_a_faulty_control_message_is_answered_and_the_connection_goes_on(
    server: Server, http: aiohttp.ClientSession, socket: Socket, message: str, words: str
) -> None:
    await socket.ws.send_str(message)
    error = await socket.next()
    assert error["type"] == "error"
    assert error["problem"].startswith("urn:historian:problem:")
    assert words in error["detail"]
    await write(http, server.url, [("s/a", NOW, 1)])
    await socket.ask(type="subscribe", id=1, tags=["s/a"], **{"from": NOW - 1})
    assert (await socket.next())["type"] == "subscribed"


async def test_a_hundred_faulty_messages_end_the_connection(socket: Socket) -> None:
    for _ in range(101):
        await socket.ws.send_str("no")
    while (message := await socket.ws.receive()).type == aiohttp.WSMsgType.TEXT:
        pass
    assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1008)


async def test_a_message_that_is_too_big_ends_the_connection(socket: Socket) -> None:
    await socket.ws.send_str(json.dumps({"type": "subscribe", "id": 1, "tags": ["x" * 300_000]}))
    message = await socket.ws.receive()
    assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1009)


async def test_an_id_is_used_once_at_a_time(server: Server, http: aiohttp.ClientSession, socket: Socket) -> None:
    await write(http, server.url, [("i/a", NOW, 1)])
    await socket.ask(type="subscribe", id=1, tags=["i/a"])
    await socket.next("live")
    await socket.ask(type="subscribe", id=1, tags=["i/a"])
    assert "subscription 1 is open" in (await socket.next("error"))["detail"]


async def test_a_client_without_a_subprotocol_is_told_which_there_are(server: Server, http: aiohttp.ClientSession) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await http.ws_connect(f"{server.url}/v1/stream")
    assert caught.value.status == 400


async def test_a_client_that_does_not_read_is_bounded_and_told(database: str, http: aiohttp.ClientSession) -> None:
    """Megabytes are committed while it does not read; then it reads: what was left out is named, and a range query has it."""
    async with serving(database, Settings(port=0, stream_queue=1 << 20)) as server:
        await write(http, server.url, [("g/a", NOW - HOUR, 0)])
        async with http.ws_connect(f"{server.url}/v1/stream", protocols=[ARROW], max_msg_size=0) as ws:
            await ws.send_json({"type": "subscribe", "id": 1, "tags": ["g/a"]})
            while (message := await ws.receive()).type != aiohttp.WSMsgType.TEXT or json.loads(message.data)["type"] != "live":
                pass
            # held at the client's end: nothing is read from the socket any more
            assert ws._conn is not None
            assert ws._conn.transport is not None
            ws._conn.transport.pause_reading()
            tag_id = server.services.catalogue.get("g/a").tag_id
            rng = np.random.default_rng(1)
            from historian.schema.ledger import Batch

            for n in range(40):
                ts = NOW + n * 20_000 + np.arange(20_000, dtype=np.int64)
                samples = Samples(np.full(20_000, tag_id, np.int32), ts, rng.random(20_000), np.full(20_000, 192, np.int16))
                await server.services.batcher.submit(Batch("g", n, samples))
            ws._conn.transport.resume_reading()
            received, gaps = 0, []
            await write(http, server.url, [("g/a", NOW + HOUR, 1)])
            from historian.stream.frames import FrameReader

            reader = FrameReader()
            seen_end = False
            async with asyncio.timeout(30):
                while not seen_end:
                    message = await ws.receive()
                    if message.type == aiohttp.WSMsgType.BINARY:
                        for batch in reader.read(message.data)[1]:
                            samples = Samples.from_record_batch(batch)
                            received += len(samples)
                            seen_end = bool((samples.ts == NOW + HOUR).any())
                    elif json.loads(message.data)["type"] == "gap":
                        gaps.append(json.loads(message.data))
        assert gaps
        assert {gap["reason"] for gap in gaps} == {"slow-client"}
        missing = 800_001 - received
        assert missing > 0
        in_gaps = 0
        for gap in gaps:
            async with http.get(
                f"{server.url}/v1/range", params={"tag": "g/a", "start": gap["from"], "end": gap["to"], "format": "arrow"}
            ) as answer:
                in_gaps += pa.ipc.open_stream(await answer.read()).read_all().num_rows
        assert in_gaps >= missing


async def test_pings_are_sent_and_a_client_that_does_not_answer_is_let_go(database: str, http: aiohttp.ClientSession) -> None:
    async with (
        serving(database, Settings(port=0, ping_s=0.5)) as server,
        http.ws_connect(f"{server.url}/v1/stream", protocols=[JSON], autoping=False) as ws,
        asyncio.timeout(20),
    ):
        for _ in range(3):
            message = await ws.receive()
            assert message.type == aiohttp.WSMsgType.PING
            await ws.pong(message.data)
        assert (await ws.receive()).type == aiohttp.WSMsgType.PING
        # this one is not answered
        while (message := await ws.receive()).type == aiohttp.WSMsgType.PING:
            pass
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)


async def test_without_upgrade_it_is_an_endless_arrow_stream(server: Server, http: aiohttp.ClientSession) -> None:
    await write(http, server.url, [("h/a", NOW - HOUR, 1.5)])
    now = time.time_ns() // 1000
    end = now + 4_000_000
    async with http.get(f"{server.url}/v1/stream", params={"tag": "h/#", "from": "-2h", "to": end}) as answer:
        assert answer.headers["Content-Type"] == "application/vnd.apache.arrow.stream"
        await write(http, server.url, [("h/a", now, 2.5)])
        body = await answer.read()
    reader = pa.ipc.open_stream(body)
    values, live = [], False
    while True:
        try:
            batch, metadata = reader.read_next_batch_with_custom_metadata()
        except StopIteration:
            break
        if metadata and metadata.get(b"historian.live"):
            live = True
        values += [(value, live) for value in batch.column("value").to_pylist()]
    assert [value for value, _ in values] == [1.5, 2.5]
    assert values[0] == (1.5, False)
    assert live
