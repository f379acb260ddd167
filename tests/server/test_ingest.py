"""/v1/ingest as a client sees it that knows nothing but docs/protocol.md."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import aiohttp
import orjson
import psycopg
import pyarrow as pa
import pytest
import zstandard

from historian.schema.connection import Pool
from historian.server.run import Server, serving
from historian.settings import Settings

SUBPROTOCOL = "historian.ingest.v1"


def arrow(tag: str = "a/b", *, first: int = 0, rows: int = 10) -> bytes:
    """A sample a second, whose values are its seconds."""
    ts = pa.array([1_700_000_000_000_000 + n * 1_000_000 for n in range(first, first + rows)], pa.timestamp("us", "UTC"))
    table = pa.table(
        {"tag": pa.array([tag] * rows).dictionary_encode(), "ts": ts, "value": pa.array([float(n) for n in range(first, first + rows)])}
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def frame(seq: int, payload: bytes, *, version: int = 1, zstd: bool = False) -> bytes:
    return struct.pack("<BBHIQ", version, int(zstd), 0, 0, seq) + (zstandard.compress(payload) if zstd else payload)


class Producer:
    """One connection."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def say(self, **message: Any) -> None:
        await self.ws.send_str(orjson.dumps(message).decode())

    async def hear(self) -> dict[str, Any]:
        message = await self.ws.receive(timeout=20)
        assert message.type == aiohttp.WSMsgType.TEXT, message
        found: dict[str, Any] = orjson.loads(message.data)
        return found

    async def open(self, producer: str | None = None, instance: str | None = None) -> dict[str, Any]:
        await self.say(**{k: v for k, v in (("type", "open"), ("producer", producer), ("instance", instance)) if v is not None})
        return await self.hear()

    async def send(self, seq: int, payload: bytes, **how: Any) -> None:
        await self.ws.send_bytes(frame(seq, payload, **how))

    async def answers(self, n: int) -> tuple[dict[int, bool], dict[int | None, dict[str, Any]]]:
        """Until so many batches are answered: the acknowledged ones and whether they were replayed, and the refused ones with their problems."""
        acked: dict[int, bool] = {}
        refused: dict[int | None, dict[str, Any]] = {}
        while len(acked) + len(refused) < n:
            message = await self.hear()
            if message["type"] == "ack":
                seqs = [seq for first, last in message["seqs"] for seq in range(first, last + 1)]
                assert message["replayed"] in (0, len(seqs))
                acked |= dict.fromkeys(seqs, bool(message["replayed"]))
            else:
                assert message["type"] == "refused", message
                refused[message["seq"]] = message["problem"]
        return acked, refused

    async def ended(self) -> tuple[dict[str, Any], int | None]:
        """The problem that the server ends with, and the close code."""
        while (message := await self.hear())["type"] != "error":
            pass
        problem = message["problem"]
        closing = await self.ws.receive(timeout=20)
        assert closing.type == aiohttp.WSMsgType.CLOSE
        return problem, closing.data


class Producers:
    """Connections to one server."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = aiohttp.ClientSession()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def connect(self, **options: Any) -> Producer:
        options = {"protocols": (SUBPROTOCOL,)} | options
        return Producer(await self._session.ws_connect(f"{self._url}/v1/ingest", **options))


@pytest.fixture
async def producers(server: Server) -> AsyncIterator[Producers]:
    async with Producers(server.url) as made:
        yield made


@asynccontextmanager
async def serve_with(database: str, **settings: Any) -> AsyncIterator[tuple[Server, Producers]]:
    async with serving(database, Settings(port=0, **settings)) as running, Producers(running.url) as made:
        yield running, made


async def stored(pool: Pool, tag: str = "a/b") -> list[float]:
    rows = await pool.fetch("SELECT value FROM historian.samples WHERE tag = $1 ORDER BY ts", tag)
    return [row["value"] for row in rows]


async def test_a_batch_is_on_disk_when_it_is_acknowledged(producers: Producers, pool: Pool) -> None:
    producer = await producers.connect()
    opened = await producer.open("mill", "one")
    assert (opened["type"], opened["producer"], opened["next_seq"]) == ("opened", "mill", 0)
    assert opened["credit"]["batches"] > 1
    for seq in range(20):
        await producer.send(seq, arrow(first=10 * seq), zstd=bool(seq % 2))
        await producer.send(100 + seq, arrow("c/d", first=10 * seq))
        acked, refused = await producer.answers(2)
        assert (acked, refused) == ({seq: False, 100 + seq: False}, {})
        assert len(await stored(pool)) == len(await stored(pool, "c/d")) == 10 * (seq + 1)
    assert await stored(pool) == [float(n) for n in range(200)]
    await producer.ws.close()
    again = await producers.connect()
    assert (await again.open("mill", "two"))["next_seq"] == 120


async def test_batches_are_committed_in_the_order_in_which_they_were_sent_however_large_they_are(producers: Producers, pool: Pool) -> None:
    producer = await producers.connect()
    await producer.open("mill")
    # the last write of a sample counts; large bodies are decoded in a thread, small ones at once
    for seq in range(30):
        await producer.send(seq, arrow(rows=20_000) if seq % 3 == 0 else arrow_of(seq))
    acked, refused = await producer.answers(30)
    assert (len(acked), refused) == (30, {})
    assert (await stored(pool))[:5] == [29.0] * 5


def arrow_of(value: float) -> bytes:
    ts = pa.array([1_700_000_000_000_000 + n * 1_000_000 for n in range(5)], pa.timestamp("us", "UTC"))
    table = pa.table({"tag": ["a/b"] * 5, "ts": ts, "value": [float(value)] * 5})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


async def test_a_bad_frame_is_answered_and_the_others_go_on(producers: Producers, pool: Pool) -> None:
    producer = await producers.connect()
    await producer.open("mill")
    good = arrow()
    await producer.ws.send_bytes(b"\x01\x00\x00")
    await producer.send(0, good)
    await producer.send(1, good, version=2)
    await producer.send(2, b"no arrow at all")
    await producer.ws.send_bytes(struct.pack("<BBHIQ", 1, 1, 0, 0, 3) + b"no zstd")
    await producer.send(4, good[: len(good) // 2])
    await producer.send(5, arrow("not//a/path"))
    await producer.send(0, arrow(first=50))
    await producer.send(6, arrow(first=10))
    acked: dict[int, bool] = {}
    problems: list[tuple[int | None, str]] = []
    while len(acked) + len(problems) < 9:
        one, other = await producer.answers(1)
        acked |= one
        problems += [(seq, problem["type"].rpartition(":")[2]) for seq, problem in other.items()]
    assert acked == {0: False, 6: False}
    assert sorted(problems, key=str) == sorted(
        [
            (None, "bad-input"),
            (None, "bad-input"),
            (2, "bad-input"),
            (3, "bad-input"),
            (4, "bad-input"),
            (5, "bad-samples"),
            (0, "conflict"),
        ],
        key=str,
    )
    assert await stored(pool) == [float(n) for n in range(20)]


async def test_a_refusal_names_each_faulty_row(producers: Producers) -> None:
    producer = await producers.connect()
    await producer.open()
    sink = pa.BufferOutputStream()
    table = pa.table({"tag": ["a/b", "a/b", None], "ts": [1, 2, 3], "value": [1.0, float("inf"), 3.0]})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    await producer.send(7, sink.getvalue().to_pybytes())
    _, refused = await producer.answers(1)
    assert [(fault["row"], fault["column"]) for fault in refused[7]["errors"]] == [(1, "value"), (2, "tag")]


async def test_a_batch_that_is_sent_again_counts_once(producers: Producers, pool: Pool) -> None:
    producer = await producers.connect()
    await producer.open("mill", "one")
    for seq in range(50):
        await producer.send(seq, arrow(first=10 * seq))
    # killed with answers on their way
    assert producer.ws._response.connection is not None
    assert producer.ws._response.connection.transport is not None
    producer.ws._response.connection.transport.abort()
    again = await producers.connect()
    opened = await again.open("mill", "one")
    assert 0 <= opened["next_seq"] <= 50
    for seq in range(50):
        await again.send(seq, arrow(first=10 * seq))
    acked, refused = await again.answers(50)
    assert refused == {}
    assert [seq for seq, replayed in sorted(acked.items()) if replayed] == list(range(opened["next_seq"]))
    assert await stored(pool) == [float(n) for n in range(500)]
    assert await pool.fetchval("SELECT count(*) FROM historian.ledger") == 50


async def test_who_exceeds_its_credit_is_closed(database: str) -> None:
    async with serve_with(database, ingest_window=20_000, ingest_batches=3) as (_, producers):
        producer = await producers.connect()
        assert (await producer.open("mill"))["credit"] == {"batches": 3, "bytes": 20_000}
        await producer.send(0, bytes(20_000))
        problem, code = await producer.ended()
        assert (code, problem["type"]) == (1002, "urn:historian:problem:protocol-fault")
        assert "beyond the credit" in problem["detail"]
        many = await producers.connect()
        await many.open("mill")
        # faster than commits are
        for seq in range(200):
            await many.ws.send_bytes(frame(seq, arrow(first=seq, rows=1)))
        assert (await many.ended())[1] == 1002


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ("nonsense", "JSON"),
        ('{"type":"open","producer":7}', "producer"),
        ('{"type":"open","more":7}', "more"),
        ('{"type":"close"}', "type"),
        (b"\x01" + bytes(15), "first message"),
    ],
)
async def test_what_is_no_open_message_is_a_protocol_fault(producers: Producers, first: str | bytes, said: str) -> None:
    producer = await producers.connect()
    await (producer.ws.send_str(first) if isinstance(first, str) else producer.ws.send_bytes(first))
    problem, code = await producer.ended()
    assert code == 1002
    assert said in problem["detail"]


async def test_text_after_open_is_a_protocol_fault_and_names_of_the_servers_own_are_refused(producers: Producers) -> None:
    producer = await producers.connect()
    anonymous = (await producer.open())["producer"]
    await producer.say(type="open")
    assert (await producer.ended())[1] == 1002
    other = await producers.connect()
    await other.say(type="open", producer=anonymous)
    problem, code = await other.ended()
    assert (code, problem["status"]) == (4400, 400)


async def test_two_of_the_same_name_are_never_mixed(producers: Producers, pool: Pool) -> None:
    first = await producers.connect()
    await first.open("mill", "one")
    second = await producers.connect()
    await second.say(type="open", producer="mill", instance="two")
    problem, code = await second.ended()
    assert (code, problem["status"]) == (4409, 409)
    assert "'mill' is connected already: 127.0.0.1 since 2" in problem["detail"]
    await first.send(0, arrow())
    assert (await first.answers(1))[0] == {0: False}
    # the same instance takes over from its half-open connection
    again = await producers.connect()
    assert (await again.open("mill", "one"))["next_seq"] == 1
    problem, code = await first.ended()
    assert (code, problem["status"]) == (4409, 409)
    await again.send(1, arrow(first=10))
    assert (await again.answers(1))[0] == {1: False}
    await again.ws.close()
    for _ in range(100):
        third = await producers.connect()
        await third.say(type="open", producer="mill", instance="three")
        if (await third.hear())["type"] == "opened":
            break
    await third.send(2, arrow(first=20))
    assert (await third.answers(1))[0] == {2: False}
    assert len(await stored(pool)) == 30


async def test_a_name_is_held_across_servers_and_free_when_its_server_has_ended(database: str) -> None:
    async with serve_with(database) as (_, here):
        async with serve_with(database) as (_, there):
            first = await there.connect()
            await first.open("mill", "one")
            refused = await here.connect()
            await refused.say(type="open", producer="mill", instance="two")
            problem, code = await refused.ended()
            assert (code, problem["status"]) == (4409, 409)
            assert "historian leases at" in problem["detail"]
        assert (await (await here.connect()).open("mill", "two"))["type"] == "opened"


async def test_the_door_is_the_same_as_for_streams(database: str) -> None:
    async with serve_with(database, token="secret", max_ingests=1) as (server, producers):
        for options, status in (
            ({}, 401),
            ({"headers": {"Authorization": "Bearer wrong"}}, 401),
            ({"headers": {"Authorization": "Bearer secret", "Origin": "https://evil.example"}}, 403),
            ({"headers": {"Authorization": "Bearer secret"}, "protocols": ("historian.v1.arrow",)}, 400),
        ):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await producers.connect(**options)
            assert refused.value.status == status
        browser = await producers.connect(protocols=(SUBPROTOCOL, "historian.token.c2VjcmV0"))
        assert (await browser.open())["type"] == "opened"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await producers.connect(headers={"Authorization": "Bearer secret"})
        assert refused.value.status == 429
        async with aiohttp.ClientSession(headers={"Authorization": "Bearer secret"}) as session:
            async with session.get(f"{server.url}/metrics") as answer:
                assert "historian_ingests 1.0" in await answer.text()
            async with session.get(f"{server.url}/v1/ingest") as answer:
                assert (answer.status, (await answer.json())["status"]) == (400, 400)
            async with session.get(f"{server.url}/openapi.json") as answer:
                assert "/v1/ingest" in (await answer.json())["paths"]


async def test_while_the_database_is_locked_nothing_is_answered_and_credits_are_held(database: str, pool: Pool) -> None:
    async with serve_with(database, ingest_batches=8, write_patience_s=0.2, ping_s=1) as (server, producers):
        producer = await producers.connect()
        await producer.open("mill")
        await producer.send(0, arrow())
        await producer.answers(1)
        async with await psycopg.AsyncConnection.connect(database) as conn:
            await conn.execute("LOCK TABLE historian.ledger IN ACCESS EXCLUSIVE MODE")
            for seq in range(1, 9):
                await producer.send(seq, arrow(first=10 * seq))
            with pytest.raises(TimeoutError):
                # pings are answered meanwhile
                await asyncio.wait_for(producer.ws.receive(), 3)
            assert server.services.ingests.counts.in_flight == 8
            await conn.rollback()
        acked, refused = await producer.answers(8)
        assert (len(acked), refused) == (8, {})
        assert len(await stored(pool)) == 90
        assert server.services.ingests.counts.in_flight == server.services.bodies.held == server.services.unpacked.held == 0


async def until_closed(producer: Producer) -> tuple[list[str], int]:
    seen: list[str] = []
    while (message := await producer.ws.receive(timeout=10)).type == aiohttp.WSMsgType.TEXT:
        seen.append(orjson.loads(message.data)["type"])
    return seen, message.data


async def test_a_server_that_stops_answers_what_is_under_way_and_says_so(database: str, pool: Pool) -> None:
    async with Producers("") as producers:
        async with serving(database, Settings(port=0)) as running:
            producers._url = running.url
            producer = await producers.connect()
            await producer.open("mill")
            for seq in range(20):
                await producer.send(seq, arrow(first=10 * seq))
            await producer.answers(1)
            told = asyncio.create_task(until_closed(producer))
        seen, code = await told
        assert seen[-1] == "error"
        assert "credit" in seen
        assert code == 1001
    committed = await pool.fetchval("SELECT count(*) FROM historian.ledger")
    assert len(await stored(pool)) == 10 * committed


async def test_what_a_refused_or_cut_off_producer_held_is_given_back(producers: Producers, server: Server) -> None:
    for n in range(10):
        producer = await producers.connect()
        await producer.open(f"mill {n}")
        for seq in range(20):
            await producer.send(seq, arrow(first=10 * seq) if seq % 2 else b"nonsense")
        assert producer.ws._response.connection is not None
        assert producer.ws._response.connection.transport is not None
        producer.ws._response.connection.transport.abort()
    services = server.services
    async with asyncio.timeout(20):
        while services.ingests.counts.connections or services.bodies.held or len(services.ingests.leases):
            await asyncio.sleep(0.01)
    assert services.ingests.counts.in_flight == services.unpacked.held == 0
    assert not services.ingests._pending
