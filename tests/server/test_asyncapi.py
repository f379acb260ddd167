"""The AsyncAPI document against the protocols as they are spoken: every message of a real session, of either side, is as it is described."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pyarrow as pa
import pytest

from historian.server.asyncapi import document
from historian.server.run import Server
from historian.stream.frames import JSON
from historian.stream.ingest_frames import SUBPROTOCOL
from historian.stream.messages import BadMessage, parse

TS = 1_767_225_600_000_000
PROTOCOL = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
CLIENT = [
    {"type": "subscribe", "id": 7, "tags": ["a/#"], "from": "-1h", "mode": "m4", "points": 500},
    {"type": "subscribe", "id": 0, "tags": [], "expressions": ["p: a/b * 2"], "from": None, "to": TS, "cursor": 5},
    {"type": "subscribe", "id": 1, "tags": ["a/+"], "order": "newest", "max_rate": 0.5},
    {"type": "change", "id": 7, "add": ["a/b", "c/#"], "remove": ["a/#"]},
    {"type": "unsubscribe", "id": 7},
    {"type": "pause", "id": 7},
    {"type": "resume", "id": 7},
    {"type": "credit", "id": 7, "n": 3},
    {"type": "subscribe", "id": 3, "tags": ["a/#"], "durable": "lake", "position": "7-5/10:12:11"},
    {"type": "acknowledge", "id": 3, "position": "7-5/10:12:11"},
    {"type": "write", "id": 7, "tag": "a/b", "value": 21.5},
    {"type": "write", "id": 7, "tag": "a/b", "value": "on", "key": "x", "timeout": 2.5},
    {"type": "heartbeat"},
]
WRONG = [
    {"type": "subscribe", "id": 70_000, "tags": ["a"]},
    {"type": "subscribe", "id": 1, "tags": "a"},
    {"type": "subscribe", "id": 1, "tags": ["a"], "mode": "avg"},
    {"type": "subscribe", "id": 1, "tags": ["a"], "more": 1},
    {"type": "subscribe", "id": 1, "tags": ["a"], "max_rate": 0},
    {"type": "change", "id": 1, "tags": ["a"]},
    {"type": "credit", "id": 7, "n": 0},
    {"type": "acknowledge", "id": 7},
    {"type": "write", "id": 7, "tag": "a/b"},
    {"type": "write", "id": 7, "tag": "a/b", "value": None},
    {"type": "write", "id": 7, "tag": "a/b", "value": 1, "timeout": 0},
    {"type": "pause"},
]


def schema_of(channel: str, side: str, message: dict[str, Any]) -> Any:
    return document()["channels"][channel]["messages"][f"{side}.{message['type']}"]["payload"]


def is_as_described(channel: str, side: str, message: dict[str, Any]) -> None:
    jsonschema.validate(message, schema_of(channel, side, message), format_checker=jsonschema.FormatChecker())


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_it_is_served_and_whole(server: Server, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{server.url}/asyncapi.json") as answer:
        served = await answer.json()
    assert served["asyncapi"] == "3.0.0"
    assert served == json.loads(json.dumps(document()))
    for operation in served["operations"].values():
        for reference in [operation["channel"], *operation["messages"]]:
            place: Any = served
            for part in reference["$ref"].removeprefix("#/").split("/"):
                place = place[part]
    for channel in served["channels"].values():
        for message in channel["messages"].values():
            jsonschema.Draft202012Validator.check_schema(message["payload"])


def test_it_names_the_messages_that_the_page_names() -> None:
    stream, _, ingest = PROTOCOL.partition("# Ingest protocol")
    for page, channel, others in ((stream, "stream", {"frame"}), (ingest, "ingest", {"open", "opened", "batch"})):
        tables = set(re.findall(r"^\| (`[a-z`, ]+`) \|.*\|.*\|$", page, re.MULTILINE))
        told = {name for cell in tables for name in re.findall(r"`([a-z]+)`", cell)}
        described = {key.partition(".")[2] for key in document()["channels"][channel]["messages"]}
        assert described - others <= told


@pytest.mark.parametrize("message", CLIENT, ids=lambda message: message["type"])
def test_what_the_server_takes_is_described(message: dict[str, Any]) -> None:
    parse(json.dumps(message))
    is_as_described("stream", "client", message)


@pytest.mark.parametrize("message", WRONG)
def test_what_the_server_refuses_is_not(message: dict[str, Any]) -> None:
    with pytest.raises(BadMessage):
        parse(json.dumps(message))
    with pytest.raises(jsonschema.ValidationError):
        is_as_described("stream", "client", message)


async def test_what_the_server_says_on_a_stream(server: Server, http: aiohttp.ClientSession) -> None:
    async def write(value: Any, tag: str = "a/b", ts: int = TS) -> None:
        async with http.post(f"{server.url}/v1/write", json={"samples": [{"tag": tag, "ts": ts, "value": value}]}) as answer:
            assert answer.status == 200

    await write(1.5)
    await write("text", "a/text")
    await write(None, ts=TS + 1)
    seen: set[str] = set()
    async with http.ws_connect(f"{server.url}/v1/stream", protocols=[JSON]) as ws:

        async def until(kind: str) -> dict[str, Any]:
            async with asyncio.timeout(20):
                while True:
                    message: dict[str, Any] = await ws.receive_json()
                    is_as_described("stream", "server", message)
                    seen.add(message["type"])
                    if message["type"] == kind:
                        return message

        await ws.send_json({"type": "subscribe", "id": 1, "tags": ["a/#"], "from": TS})
        await until("live")
        await write(2)
        cursor = (await until("data"))["cursor"]
        await ws.send_json({"type": "subscribe", "id": 2, "tags": ["a/b"], "from": TS, "cursor": cursor})
        assert (await until("subscribed"))["resumed"]
        await ws.send_json({"type": "subscribe", "id": 3, "tags": ["a/b"], "from": TS, "cursor": 1})
        await until("gap")
        await ws.send_json({"type": "subscribe", "id": 4, "expressions": ["p: a/b * 2"], "tags": [], "from": TS})
        await until("subscribed")
        await ws.send_json({"type": "subscribe", "id": 5, "tags": ["a/b"], "durable": "d"})
        await ws.send_json({"type": "acknowledge", "id": 5, "position": (await until("position"))["position"]})
        await until("acknowledged")
        await write(3, "a/made/later")
        await until("tags")
        await ws.send_json({"type": "change", "id": 2, "remove": ["a/b"]})
        await until("changed")
        await ws.send_json({"type": "change", "id": 2, "remove": ["a/b"]})
        assert (await until("error"))["request"] == "change"
        await ws.send_json({"type": "nonsense"})
        await until("error")
        await ws.send_json({"type": "heartbeat"})
        await until("heartbeat")
    # tests/commands have those of commands
    binary = {"frame", "written", "outcome"}
    described = document()["channels"]["stream"]["messages"]
    assert seen == {key.partition(".")[2] for key in described if key.startswith("server.")} - binary


async def test_what_the_server_says_to_a_producer(server: Server, http: aiohttp.ClientSession) -> None:
    seen: set[str] = set()
    sink = pa.BufferOutputStream()
    table = pa.table({"tag": ["a/b"], "ts": pa.array([TS], pa.timestamp("us", "UTC")), "value": [1.0]})
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    head = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    async with http.ws_connect(f"{server.url}/v1/ingest", protocols=[SUBPROTOCOL]) as ws:

        async def hear() -> dict[str, Any]:
            message: dict[str, Any] = await ws.receive_json(timeout=20)
            is_as_described("ingest", "server", message)
            seen.add(message["type"])
            return message

        opening = {"type": "open", "producer": "press line 3", "instance": "x"}
        is_as_described("ingest", "client", opening)
        await ws.send_json(opening)
        assert (await hear())["next_seq"] == 0
        await ws.send_bytes(head + (0).to_bytes(8, "little") + sink.getvalue().to_pybytes())
        assert (await hear())["seqs"] == [[0, 0]]
        await ws.send_bytes(head + (1).to_bytes(8, "little") + b"no Arrow")
        assert (await hear())["seq"] == 1
        await ws.send_json({"type": "open"})
        await hear()
    assert seen == {"opened", "ack", "refused", "error"}
