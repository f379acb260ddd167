"""The message `write` of /v1/stream: answered after its commit, seen by every viewer, and its faults touch nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest
from commanding import LINE1, OPERATOR, PLAIN, Caller, bearer, commanded, commanders_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from historian.schema.connection import Pool
from historian.server.asyncapi import document
from historian.server.run import Server, serving
from historian.settings import Settings
from historian.stream.frames import JSON


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def commanding(database: str, tmp_path: Path) -> AsyncIterator[Server]:
    async with commanded(database, tmp_path, token=PLAIN) as running:
        yield running


async def message(ws: aiohttp.ClientWebSocketResponse, *kinds: str) -> dict[str, Any]:
    """The next one of these kinds."""
    async with asyncio.timeout(20):
        while True:
            found: dict[str, Any] = await ws.receive_json()
            described = document()["channels"]["stream"]["messages"][f"server.{found['type']}"]["payload"]
            jsonschema.validate(found, described, format_checker=jsonschema.FormatChecker())
            if found["type"] in kinds:
                return found


def connected(http: aiohttp.ClientSession, url: str, token: str = OPERATOR) -> Any:
    return http.ws_connect(f"{url}/v1/stream", protocols=[JSON], headers=bearer(token))


async def test_writes_are_answered_in_their_order_and_every_viewer_of_every_server_sees_them(
    commanding: Server, http: aiohttp.ClientSession, database: str, tmp_path: Path, pool: Pool
) -> None:
    async with (
        serving(database, Settings(port=0, commanders=commanders_file(tmp_path))) as second,
        connected(http, commanding.url) as ws,
        connected(http, commanding.url, PLAIN) as viewer,
        connected(http, second.url, PLAIN) as afar,
    ):
        for one in (ws, viewer, afar):
            await one.send_json({"type": "subscribe", "id": 3, "tags": ["site/line1/setpoint"]})
            await message(one, "live")
        for n in range(10):
            await ws.send_json({"type": "write", "id": n, "tag": "site/line1/setpoint", "value": n, "key": f"k{n}"})
        answers = [await message(ws, "written", "error") for _ in range(10)]
        assert [(answer["id"], answer["value"], answer["outcome"], answer["replayed"]) for answer in answers] == [
            (n, n, "written", False) for n in range(10)
        ]
        assert [answer["previous"] for answer in answers] == [None, *range(9)]
        # the answer came after the commit
        rows = await pool.fetch("SELECT command_id, commander, client FROM historian.command ORDER BY command_id")
        assert [tuple(row) for row in rows] == [(answer["command_id"], "operator", "127.0.0.1") for answer in answers]
        for one in (viewer, afar):
            seen: list[float] = []
            while len(seen) < 10:
                seen += [sample["value"] for sample in (await message(one, "data"))["samples"]]
            assert seen == list(range(10))
    # the connection is gone, and whether it was done is not known: asked again, over another server
    async with serving(database, Settings(port=0, commanders=commanders_file(tmp_path))) as third, connected(http, third.url) as ws:
        await ws.send_json({"type": "write", "id": 1, "tag": "site/line1/setpoint", "value": 4, "key": "k4"})
        answer = await message(ws, "written")
        assert (answer["replayed"], answer["command_id"]) == (True, answers[4]["command_id"])
    assert await pool.fetchval("SELECT count(*) FROM historian.sample") == 10


async def test_a_fault_is_the_answer_to_its_write_alone(commanding: Server, http: aiohttp.ClientSession) -> None:
    async with connected(http, commanding.url, LINE1) as ws:
        await ws.send_json({"type": "subscribe", "id": 7, "tags": ["site/line1/setpoint"]})
        await message(ws, "live")
        faulty = [
            ({"tag": "site/line1/setpoint", "value": 101}, "value-refused"),
            ({"tag": "site/line2/setpoint", "value": 1}, "forbidden"),
            ({"tag": "site/line1/measured", "value": 1}, "forbidden"),
            ({"tag": "site/line1/none", "value": 1}, "unknown-tag"),
            ({"tag": "site/line1/setpoint", "value": [1]}, "bad-message"),
            ({"tag": "site/line1/setpoint"}, "bad-message"),
            ({"tag": "site/line1/setpoint", "value": 1, "key": "a b"}, "bad-input"),
        ]
        for fields, problem in faulty:
            await ws.send_json({"type": "write", "id": 7, **fields})
            error = await message(ws, "error", "written")
            assert (error["type"], error["id"], error["request"]) == ("error", 7, "write"), error
            assert error["problem"] == f"urn:historian:problem:{problem}"
        # more of them than a connection may have of faulty messages
        for _ in range(120):
            await ws.send_json({"type": "write", "id": 7, "tag": "site/line1/setpoint", "value": -1})
            assert (await message(ws, "error", "written"))["problem"] == "urn:historian:problem:value-refused"
        await ws.send_json({"type": "write", "id": 7, "tag": "site/line1/setpoint", "value": 5})
        kinds = {(await message(ws, "written", "data"))["type"] for _ in range(2)}
        assert kinds == {"written", "data"}
    async with connected(http, commanding.url, PLAIN) as ws:
        await ws.send_json({"type": "write", "id": 1, "tag": "site/line1/setpoint", "value": 1})
        assert "no right" in (await message(ws, "error"))["detail"]


async def test_a_right_that_is_taken_away_is_gone_on_a_connection_that_stands(
    commanding: Server, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with connected(http, commanding.url) as ws:
        await ws.send_json({"type": "write", "id": 1, "tag": "site/line1/setpoint", "value": 1})
        await message(ws, "written")
        (tmp_path / "commanders.toml").write_text("")
        await ws.send_json({"type": "write", "id": 2, "tag": "site/line1/setpoint", "value": 2})
        assert (await message(ws, "error"))["id"] == 2
    # nor does its token open anything any more
    await Caller(http, commanding.url).ask("GET", "/v1/tags", 401)


async def test_more_than_may_wait_are_refused(commanding: Server, http: aiohttp.ClientSession, pool: Pool) -> None:
    async with pool.acquire() as conn, conn.transaction():
        # nobody commits anything to the tag meanwhile
        await conn.execute("SELECT FROM historian.snapshot FOR UPDATE")
        async with connected(http, commanding.url) as ws:
            for n in range(40):
                await ws.send_json({"type": "write", "id": n, "tag": "site/line1/setpoint", "value": 1, "timeout": 1})
            busy = await message(ws, "error", "written")
            assert (busy["problem"], busy["id"] >= 32) == ("urn:historian:problem:busy", True)
            late = await message(ws, "written", "error")
            while late["problem"] == "urn:historian:problem:busy":
                late = await message(ws, "written", "error")
            assert (late["id"], late["problem"]) == (0, "urn:historian:problem:unavailable")


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_TAG = st.sampled_from(["site/line1/setpoint", "site/line1/run", "site/line1/mode", "site/line1/note", "site/line1/count", "no", "a/+", ""])


async def test_whatever_a_write_is_the_connection_lives_and_no_value_but_a_sound_one_is_stored(
    commanding: Server, http: aiohttp.ClientSession, pool: Pool
) -> None:
    async with connected(http, commanding.url) as ws:
        loop = asyncio.get_running_loop()

        async def tried(fields: dict[str, Any]) -> None:
            text = json.dumps({"type": "write", "id": 5} | fields)
            await ws.send_str(text)
            answer = await message(ws, "written", "error")
            if answer["type"] == "written":
                assert fields["tag"] == answer["tag"]
                assert isinstance(answer["value"], bool | int | float | str)

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(
            st.fixed_dictionaries(
                {"tag": _TAG, "value": _JUNK},
                optional={"key": st.text(max_size=5), "timeout": st.floats(0.1, 5) | _JUNK, "id": st.integers(0, 9), "x": _JUNK},
            )
        )
        def fuzz(fields: dict[str, Any]) -> None:
            asyncio.run_coroutine_threadsafe(tried(fields), loop).result(30)

        await asyncio.to_thread(fuzz)
        await ws.send_json({"type": "write", "id": 6, "tag": "site/line1/setpoint", "value": 50})
        assert (await message(ws, "written"))["value"] == 50
    bad = "SELECT count(*) FROM historian.snapshot s JOIN historian.tag t USING (tag_id) WHERE s.ts IS NOT NULL AND (s.value < low OR s.value > high)"
    assert await pool.fetchval(bad) == 0
