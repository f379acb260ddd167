"""POST and GET /v1/commands on a real server: what is written, what is refused, and what the audit says of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from commanding import LINE1, OPERATOR, PLAIN, WORKER, Caller, bearer, commanded, commanders_file

from historian.schema.connection import Pool
from historian.server.run import Server, serving
from historian.settings import Settings


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def commanding(database: str, tmp_path: Path) -> AsyncIterator[Server]:
    async with commanded(database, tmp_path) as running:
        yield running


@pytest.fixture
def operator(commanding: Server, http: aiohttp.ClientSession) -> Caller:
    return Caller(http, commanding.url)


async def snapshot(caller: Caller, tag: str) -> Any:
    (sample,) = (await caller.ask("GET", "/v1/snapshot", match=tag))["samples"]
    return sample


async def test_a_command_is_a_sample_and_a_row_of_the_audit(operator: Caller) -> None:
    first = await operator.command("site/line1/setpoint", 20)
    assert (first["outcome"], first["value"], first["previous"], first["commander"]) == ("written", 20.0, None, "operator")
    second = await operator.command("site/line1/setpoint", 21.5, key="k1")
    assert (second["previous"], second["previous_ts"]) == (20.0, first["ts"])
    sample = await snapshot(operator, "site/line1/setpoint")
    assert (sample["value"], sample["quality"], sample["ts"]) == (21.5, 192, second["ts"])
    audit = await operator.ask("GET", "/v1/commands", tag="site/line1/setpoint")
    assert audit == {"commands": [second, first], "next": None}
    assert await operator.ask("GET", f"/v1/commands/{first['command_id']}") == first
    assert second["client"] == "127.0.0.1"
    assert second["key"] == "k1"
    assert first["requested_at"] <= first["committed_at"] <= second["requested_at"]


TAKEN: list[tuple[str, Any, Any]] = [
    ("site/line1/setpoint", 100, 100.0),
    ("site/line1/count", 2**53, 2**53),
    ("site/line1/count", 3.0, 3),
    ("site/line1/run", True, True),
    ("site/line1/run", 0, False),
    ("site/line1/mode", "automatic", 2),
    ("site/line1/mode", 1, 1),
    ("site/line1/note", "Wärme\n'\"\\", "Wärme\n'\"\\"),
    ("site/line1/note", "", ""),
]


async def test_values_of_each_kind(operator: Caller) -> None:
    for tag, value, stored in TAKEN:
        done = await operator.command(tag, value)
        assert done["value"] == stored
        assert type(done["value"]) is type(stored)
        again = await operator.command(tag, value)
        assert again["previous"] == stored
        assert (await snapshot(operator, tag))["value"] == stored


REFUSED: list[tuple[str, Any, int, str]] = [
    ("site/line1/setpoint", 100.1, 422, "0 to 100 °C"),
    ("site/line1/setpoint", -1, 422, "range"),
    ("site/line1/setpoint", "20", 422, "number"),
    ("site/line1/setpoint", True, 422, "number"),
    ("site/line1/count", 1.5, 422, "whole"),
    ("site/line1/count", 2**53 + 2, 422, "2\u005e53"),
    ("site/line1/run", 2, 422, "true or false"),
    ("site/line1/mode", "fast", 422, "0 off, 1 manual, 2 automatic"),
    ("site/line1/mode", 7, 422, "no state"),
    ("site/line1/mode", True, 422, "no state"),
    ("site/line1/note", 5, 422, "text"),
    ("site/line1/note", "a\x00b", 422, "NUL"),
    ("site/line1/note", "ü" * 3000, 422, "4096"),
    ("site/line1/measured", 5, 403, "not writable"),
    ("site/line1/absent", 5, 404, "no such tag"),
    ("site/+/setpoint", 5, 400, "wildcards"),
]


async def test_what_is_refused_changes_nothing_and_is_audited(operator: Caller) -> None:
    for tag, value, status, words in REFUSED:
        problem = await operator.command(tag, value, status, key="refused")
        assert words in problem["detail"]
        row = (await operator.ask("GET", "/v1/commands", outcome="refused"))["commands"][0]
        assert (row["tag"], row["commander"], row["detail"], row["ts"]) == (tag, "operator", problem["detail"], None)
    assert (await operator.ask("GET", "/v1/snapshot"))["samples"] == []


MALFORMED = [
    b'{"tag":"site/line1/setpoint","value":NaN}',
    b'{"tag":"site/line1/setpoint","value":Infinity}',
    b'{"tag":"site/line1/setpoint","value":null}',
    b'{"tag":"site/line1/setpoint","value":[1]}',
    b'{"tag":"site/line1/setpoint"}',
    b'{"tag":"site/line1/setpoint","value":1,"ts":5}',
    b'{"tag":"site/line1/setpoint","value":1,"timeout":0}',
    b'{"tag":"site/line1/setpoint","value":1,"key":"with space"}',
    b"[]",
    b"{",
    b'{"tag":"site/line1/setpoint","value":1e999}',
    b'{"tag":"site/line2/setpoint","value":-1e999}',
    b'{"tag":"site/line2/setpoint","value":1%b}' % (b"0" * 400),
]


async def test_malformed_commands(operator: Caller, commanding: Server, http: aiohttp.ClientSession) -> None:
    for body in MALFORMED:
        async with http.post(f"{commanding.url}/v1/commands", data=body, headers=bearer(OPERATOR)) as answer:
            assert answer.status in (400, 422), (body, await answer.text())
    assert (await operator.ask("GET", "/v1/snapshot"))["samples"] == []


async def test_a_key_that_comes_again_is_the_same_command(operator: Caller, http: aiohttp.ClientSession, commanding: Server) -> None:
    first = await operator.command("site/line1/setpoint", 20, key="a")
    await operator.command("site/line1/setpoint", 30)
    async with http.post(
        f"{commanding.url}/v1/commands", json={"tag": "site/line1/setpoint", "value": 20.0, "key": "a"}, headers=bearer(OPERATOR)
    ) as answer:
        assert answer.headers["Historian-Replayed"] == "true"
        assert await answer.json() == first
    assert (await snapshot(operator, "site/line1/setpoint"))["value"] == 30
    problem = await operator.command("site/line1/setpoint", 40, 409, key="a")
    assert "another command" in problem["detail"]
    # of another commander it is another's
    other = await Caller(http, commanding.url, LINE1).command("site/line1/setpoint", 40, key="a")
    assert other["command_id"] != first["command_id"]
    # what was refused may be asked for again
    await operator.command("site/line1/setpoint", 101, 422, key="b")
    assert (await operator.command("site/line1/setpoint", 99, key="b"))["outcome"] == "written"


async def test_the_same_key_at_once_through_two_servers_is_one_command(
    database: str, tmp_path: Path, http: aiohttp.ClientSession, commanding: Server, pool: Pool
) -> None:
    async with serving(database, Settings(port=0, commanders=commanders_file(tmp_path), max_commands_s=1000.0)) as second:
        callers = [Caller(http, commanding.url), Caller(http, second.url)]
        for n in range(5):
            for tag in ("site/line1/setpoint", "plant/valve"):
                done = await asyncio.gather(*(caller.command(tag, n, key=f"{tag}{n}") for caller in callers * 3))
                assert len({row["command_id"] for row in done}) == 1
    assert await pool.fetchval("SELECT count(*) FROM historian.command") == 10
    assert await pool.fetchval("SELECT count(*) FROM historian.sample") == 5


async def test_who_may_write(commanding: Server, http: aiohttp.ClientSession, operator: Caller, tmp_path: Path) -> None:
    line1 = Caller(http, commanding.url, LINE1)
    await line1.command("site/line1/setpoint", 1)
    assert "no right" in (await line1.command("site/line2/setpoint", 1, 403))["detail"]
    for token in (None, WORKER, "a wrong one"):
        assert "no right" in (await Caller(http, commanding.url, token).command("site/line1/setpoint", 2, 403))["detail"]
    rows = (await operator.ask("GET", "/v1/commands", outcome="refused"))["commands"]
    assert [(row["commander"], row["tag"]) for row in rows] == [
        (None, "site/line1/setpoint"),
        ("worker", "site/line1/setpoint"),
        (None, "site/line1/setpoint"),
        ("line1", "site/line2/setpoint"),
    ]
    # taken out of the file
    path = tmp_path / "commanders.toml"
    path.write_text(path.read_text().replace("[line1]", "[gone]").replace('tags = ["site/line1/#"]', 'tags = ["nothing"]'))
    await line1.command("site/line1/setpoint", 3, 403)
    # a file that is wrong gives nobody the right
    path.write_text("operator = 5")
    await operator.command("site/line1/setpoint", 4, 403)


async def test_with_a_token_for_all_commands_need_their_own(database: str, tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with commanded(database, tmp_path, token=PLAIN) as running:
        assert "no right" in (await Caller(http, running.url, PLAIN).command("site/line1/setpoint", 2, 403))["detail"]
        await Caller(http, running.url, None).command("site/line1/setpoint", 2, 401)
        operator = Caller(http, running.url)
        await operator.command("site/line1/setpoint", 2)
        # and with their own one may do the rest
        assert len((await operator.ask("GET", "/v1/tags"))["tags"]) == 9


async def test_without_commanders_nobody_may(server: Server, http: aiohttp.ClientSession) -> None:
    problem = await Caller(http, server.url, None).command("a/b", 2, 403)
    assert "--commanders" in problem["detail"]
    tags = {"tags": [{"path": "a/b", "writable": True}]}
    assert "docs/commands.md" in (await Caller(http, server.url, None).ask("PUT", "/v1/tags", 403, tags))["detail"]


async def test_what_is_writable_is_changed_by_those_who_may_write(
    commanding: Server, http: aiohttp.ClientSession, operator: Caller
) -> None:
    line1, anybody = Caller(http, commanding.url, LINE1), Caller(http, commanding.url, None)
    for caller, path, change in (
        (anybody, "site/line1/setpoint", {"writable": False}),
        (anybody, "site/line1/setpoint", {"write_to": "plant"}),
        (anybody, "site/new", {"writable": True}),
        (line1, "site/line2/setpoint", {"writable": False}),
        (Caller(http, commanding.url, WORKER), "site/line1/setpoint", {"writable": False}),
    ):
        await caller.ask("PUT", "/v1/tags", 403, {"tags": [{"path": "site/line1/note", "unit": "x"}, {"path": path, **change}]})
    assert "site/new" not in {tag["path"] for tag in (await anybody.ask("GET", "/v1/tags"))["tags"]}
    # the rest is as ever, and what stays may be said again, as an export says it
    (tag,) = (await anybody.ask("GET", "/v1/tags", match="site/line1/setpoint"))["tags"]
    assert (tag["writable"], tag["write_to"], tag["unit"]) == (True, "historian", "°C")
    del tag["tag_id"]
    await anybody.ask("PUT", "/v1/tags", 200, {"tags": [tag | {"unit": "K"}, {"path": "site/other", "writable": False}]})
    (tag,) = (await line1.ask("PUT", "/v1/tags", 200, {"tags": [{"path": "site/line1/setpoint", "writable": False}]}))["tags"]
    assert (tag["unit"], tag["writable"]) == ("K", False)
    assert "not writable" in (await operator.command("site/line1/setpoint", 2, 403))["detail"]


async def test_pages_of_the_audit(operator: Caller) -> None:
    made = [(await operator.command(f"site/line{1 + n % 2}/setpoint", n))["command_id"] for n in range(7)]
    seen: list[int] = []
    before: dict[str, str] = {}
    while True:
        page = await operator.ask("GET", "/v1/commands", limit="3", **before)
        seen += [row["command_id"] for row in page["commands"]]
        if page["next"] is None:
            break
        before = {"before": str(page["next"])}
    assert seen == made[::-1]
    line1 = await operator.ask("GET", "/v1/commands", tag="site/line1/#")
    assert [row["command_id"] for row in line1["commands"]] == made[::-1][::2]
    middle = (await operator.ask("GET", f"/v1/commands/{made[3]}"))["requested_at"]
    assert [row["command_id"] for row in (await operator.ask("GET", "/v1/commands", start=middle))["commands"]] == made[:2:-1]
    assert [row["command_id"] for row in (await operator.ask("GET", "/v1/commands", end=middle))["commands"]] == made[2::-1]
    await operator.ask("GET", "/v1/commands", 400, limit="1001")
    await operator.ask("GET", "/v1/commands", 400, outcome="no")
    await operator.ask("GET", "/v1/commands/123456", 404)


async def test_too_many_are_told_when_to_come_back(database: str, tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with commanded(database, tmp_path, max_commands_s=0.2) as running:
        operator = Caller(http, running.url)
        await operator.command("site/line1/setpoint", 1)
        async with http.post(
            f"{running.url}/v1/commands", json={"tag": "site/line1/setpoint", "value": 2}, headers=bearer(OPERATOR)
        ) as answer:
            assert answer.status == 429
            assert 1 <= int(answer.headers["Retry-After"]) <= 5
        # another's share is their own
        await Caller(http, running.url, LINE1).command("site/line1/setpoint", 3)
        assert len((await operator.ask("GET", "/v1/commands"))["commands"]) == 2


async def test_the_newest_value_is_that_of_the_last_command_whatever_the_clocks_say(operator: Caller, pool: Pool) -> None:
    await operator.command("site/line1/setpoint", 1)
    # as another server with a clock ahead left it
    await pool.execute("UPDATE historian.snapshot SET ts = ts + interval '5 seconds' WHERE ts IS NOT NULL")
    done = await operator.command("site/line1/setpoint", 2)
    assert done["ts"] > done["committed_at"]
    assert (await snapshot(operator, "site/line1/setpoint"))["value"] == 2
    await pool.execute("UPDATE historian.snapshot SET ts = ts + interval '1 hour' WHERE ts IS NOT NULL")
    assert "time to come" in (await operator.command("site/line1/setpoint", 3, 409))["detail"]


async def test_a_command_to_the_plant_expires_where_no_worker_takes_it(operator: Caller) -> None:
    done = await operator.command("plant/valve", 40, timeout=0.5)
    assert (done["outcome"], done["write_to"], done["ts"]) == ("accepted", "plant", None)
    settled = await operator.ask("GET", f"/v1/commands/{done['command_id']}", wait="10")
    assert settled["outcome"] == "expired"
    assert "no worker" in settled["detail"]
    assert (await operator.ask("GET", "/v1/snapshot"))["samples"] == []
