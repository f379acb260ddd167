"""Commands on their way to the plant: real servers, workers as processes, a real broker, and what fails between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest
from commanding import OPERATOR, PLAIN, WORKER, Caller, bearer, commanded
from plants import Device, plant_worker, until
from proofs.proxy import Proxy
from sources.brokers import Broker, broker

from historian.schema.connection import Pool
from historian.server.asyncapi import document
from historian.server.run import Server
from historian.stream.frames import JSON

__all__ = ["broker"]


@pytest.fixture
async def commanding(database: str, tmp_path: Path) -> AsyncIterator[Server]:
    async with commanded(database, tmp_path, token=PLAIN) as running:
        yield running


@pytest.fixture
async def operator(commanding: Server) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession() as http:
        yield Caller(http, commanding.url)


async def settled(operator: Caller, command: dict[str, Any], wait: str = "30") -> dict[str, Any]:
    return await operator.ask("GET", f"/v1/commands/{command['command_id']}", wait=wait)


async def elsewhere(condition: Any, *more: Any) -> None:
    """`until`, while the server of this process goes on."""
    await asyncio.to_thread(until, condition, *more)


@pytest.mark.parametrize("upstream", ["url", "dsn"])
async def test_a_command_reaches_the_plant_and_its_answer_all_viewers(
    database: str, commanding: Server, operator: Caller, broker: Broker, tmp_path: Path, upstream: str
) -> None:
    where = f'url = "{commanding.url}"\ntoken = "{WORKER}"' if upstream == "url" else f'dsn = "{database}"'
    async with aiohttp.ClientSession(headers=bearer(OPERATOR)) as http:
        with Device(broker.port, answers=True) as device, plant_worker(tmp_path, where, broker.port):
            async with http.ws_connect(f"{commanding.url}/v1/stream", protocols=[JSON]) as ws:
                await ws.send_json({"type": "subscribe", "id": 1, "tags": ["plant/#"]})
                await ws.send_json({"type": "write", "id": 7, "tag": "plant/valve", "value": 40, "key": "first"})
                seen: dict[str, dict[str, Any]] = {}
                async with asyncio.timeout(30):
                    while not {"written", "outcome", "data"} <= set(seen):
                        message = await ws.receive_json()
                        seen[message["type"]] = message
            written, outcome = seen["written"], seen["outcome"]
            described = document()["channels"]["stream"]["messages"]["server.outcome"]["payload"]
            jsonschema.validate(outcome, described, format_checker=jsonschema.FormatChecker())
            assert (written["id"], written["outcome"], written["write_to"], written["replayed"]) == (7, "accepted", "plant", False)
            assert (outcome["id"], outcome["outcome"], outcome["worker"], outcome["attempts"]) == (7, "delivered", "plant", 1)
            assert [(sample["tag"], sample["value"]) for sample in seen["data"]["samples"]] == [("plant/valve", 40)]
            (topic, payload, _), *more = device.heard
            assert (topic, more) == ("to/valve/set", [])
            assert payload == {
                "command_id": written["command_id"],
                "tag": "plant/valve",
                "value": 40.0,
                "requested_at": written["requested_at"],
                "expires_at": written["expires_at"],
            }
            done = await operator.command("plant/pump", True, params={"wait": "30"})
            assert done["outcome"] == "delivered"
            # sent again it is neither another command nor another message
            again = await operator.command("plant/valve", 40.0, key="first")
            assert (again["command_id"], again["outcome"]) == (written["command_id"], "delivered")
            assert device.numbers == [written["command_id"], done["command_id"]]


async def test_a_worker_killed_with_a_command_loses_it_to_the_next(
    commanding: Server, operator: Caller, broker: Broker, tmp_path: Path, pool: Pool
) -> None:
    where = f'url = "{commanding.url}"\ntoken = "{WORKER}"'
    with Device(broker.port) as device, Proxy(("127.0.0.1", broker.port)) as network, ExitStack() as stack:
        first = stack.enter_context(plant_worker(tmp_path, where, network.port, "first"))
        # from here on it claims, and what it publishes does not arrive
        await asyncio.to_thread(network.stall)
        kept = await operator.command("plant/valve", 1, timeout=60)
        stale = await operator.command("plant/pump", True, timeout=1)
        async with asyncio.timeout(20):
            while await pool.fetchval("SELECT count(*) FROM historian.command WHERE held_until IS NOT NULL") < 2:
                await asyncio.sleep(0.01)
        await asyncio.to_thread(first.kill)
        await asyncio.to_thread(network.cut)
        await asyncio.to_thread(network.refuse)
        lost = await settled(operator, stale)
        assert lost["outcome"] == "unconfirmed"
        assert "may have reached the plant" in lost["detail"]
        assert device.heard == []
        stack.enter_context(plant_worker(tmp_path, where, broker.port, "second"))
        done = await settled(operator, kept)
        assert (done["outcome"], done["worker"], done["attempts"]) == ("delivered", "second", 2)
        await elsewhere(lambda: device.heard)
        # the one that has expired is never published
        last = await operator.command("plant/pump", False, params={"wait": "30"})
        assert last["outcome"] == "delivered"
        assert device.numbers == [kept["command_id"], last["command_id"]]


async def test_what_waits_in_a_network_that_stands_still_does_not_arrive_late(
    commanding: Server, operator: Caller, broker: Broker, tmp_path: Path
) -> None:
    where = f'url = "{commanding.url}"\ntoken = "{WORKER}"'
    with Device(broker.port) as device, Proxy(("127.0.0.1", broker.port)) as network, plant_worker(tmp_path, where, network.port) as worker:
        await asyncio.to_thread(network.stall)
        stale = await operator.command("plant/valve", 1, timeout=1)
        assert (await settled(operator, stale))["outcome"] == "unconfirmed"
        await elsewhere(lambda: "did not confirm command" in worker.log, lambda: worker.log)
        await asyncio.to_thread(network.cut)
        await asyncio.to_thread(network.resume)
        done = await operator.command("plant/valve", 2, timeout=30, params={"wait": "30"})
        assert done["outcome"] == "delivered"
        assert device.numbers == [done["command_id"]]


async def test_two_workers_bring_each_command_once_and_those_of_a_tag_in_their_order(
    commanding: Server, operator: Caller, broker: Broker, tmp_path: Path, database: str
) -> None:
    with Device(broker.port) as device, ExitStack() as stack:
        stack.enter_context(plant_worker(tmp_path, f'url = "{commanding.url}"\ntoken = "{WORKER}"', broker.port, "one"))
        stack.enter_context(plant_worker(tmp_path, f'dsn = "{database}"', broker.port, "two"))
        tags = ("plant/valve", "plant/pump")
        made = [await operator.command(tags[n % 2], n if n % 2 == 0 else n % 4 == 1, timeout=60) for n in range(30)]
        for command in made:
            assert (await settled(operator, command))["outcome"] == "delivered"
        await elsewhere(lambda: len(device.heard) >= 30)
        assert sorted(device.numbers) == [command["command_id"] for command in made]
        for tag in tags:
            numbers = [payload["command_id"] for _, payload, _ in device.heard if payload["tag"] == tag]
            assert numbers == sorted(numbers)


async def test_nothing_is_published_after_its_time_and_nobody_who_hears_is_told(
    commanding: Server, operator: Caller, broker: Broker, tmp_path: Path
) -> None:
    where = f'url = "{commanding.url}"\ntoken = "{WORKER}"'
    with plant_worker(tmp_path, where, broker.port) as worker:
        unheard = await operator.command("plant/valve", 1, params={"wait": "30"})
        assert unheard["outcome"] == "failed"
        assert "no matching subscribers" in unheard["detail"]
        with Device(broker.port) as device:
            # it stands still while the command's time runs out
            await asyncio.to_thread(worker.freeze)
            began = time.monotonic()
            late = await operator.command("plant/valve", 2, timeout=1)
            assert (await settled(operator, late))["outcome"] in ("expired", "unconfirmed")
            assert time.monotonic() - began > 1
            await asyncio.to_thread(worker.thaw)
            done = await operator.command("plant/valve", 3, timeout=60, params={"wait": "30"})
            assert done["outcome"] == "delivered"
            assert device.numbers == [done["command_id"]]


async def test_who_may_take_commands_to_the_plant(commanding: Server) -> None:
    async with aiohttp.ClientSession() as http:
        operator, anybody, worker = (Caller(http, commanding.url, token) for token in (OPERATOR, PLAIN, WORKER))
        done = await operator.command("plant/valve", 5, timeout=30)
        claim = {"worker": "w", "tags": ["plant/#"]}
        for caller in (operator, anybody):
            assert "deliver" in (await caller.ask("POST", "/v1/commands/claim", 403, claim))["detail"]
            await caller.ask("GET", "/v1/commands/waiting", 403)
            said = {"worker": "w", "attempt": 1, "outcome": "delivered"}
            await caller.ask("POST", f"/v1/commands/{done['command_id']}/outcome", 403, said)
        assert (await worker.ask("GET", "/v1/commands/waiting", tag="site/#"))["waiting"] is False
        assert (await worker.ask("GET", "/v1/commands/waiting"))["waiting"] is True
        (mine,) = (await worker.ask("POST", "/v1/commands/claim", 200, claim))["commands"]
        assert (mine["value"], mine["attempt"]) == (5.0, 1)
        assert 0 < mine["held_s"] <= 3 < mine["expires_s"] <= 30
        # nobody else has it, and nobody else says what became of it
        assert (await worker.ask("POST", "/v1/commands/claim", 200, claim))["commands"] == []
        other = {"worker": "other", "attempt": 1, "outcome": "delivered"}
        path = f"/v1/commands/{done['command_id']}/outcome"
        assert (await worker.ask("POST", path, 200, other))["taken"] is False
        assert (await worker.ask("POST", path, 200, {"worker": "w", "attempt": 1, "outcome": "released"}))["taken"] is True
        (again,) = (await worker.ask("POST", "/v1/commands/claim", 200, claim))["commands"]
        assert again["attempt"] == 2
        assert (await worker.ask("POST", path, 200, {"worker": "w", "attempt": 1, "outcome": "delivered"}))["taken"] is False
        said = {"worker": "w", "attempt": 2, "outcome": "failed", "detail": "the valve is locked"}
        assert (await worker.ask("POST", path, 200, said))["taken"] is True
        row = await operator.ask("GET", f"/v1/commands/{done['command_id']}")
        assert (row["outcome"], row["detail"], row["worker"]) == ("failed", "the valve is locked", "w")
