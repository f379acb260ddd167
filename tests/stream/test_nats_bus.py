"""Several servers on one database and NATS: it makes samples arrive sooner, and nothing depends on it."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from nats_server import NatsServer, nats
from processes import run
from test_seam import post
from viewer import Viewer

from historian.schema.connection import Pool
from historian.schema.ledger import Notice, encode_content
from historian.schema.samples import Samples
from historian.server.run import Server, serving
from historian.settings import Settings
from historian.stream.hub import Hub
from historian.stream.nats_bus import NatsBus
from historian.stream.nats_connection import NatsAddress

__all__ = ["nats"]

#: no sweep comes by itself
NEVER_S = 3600.0


async def figures(session: aiohttp.ClientSession, url: str) -> dict[str, float]:
    """The metrics of a server, each summed up over its labels."""
    found: defaultdict[str, float] = defaultdict(float)
    async with session.get(f"{url}/metrics") as answer:
        for line in (await answer.text()).splitlines():
            if line.startswith("historian_"):
                name, _, value = line.rpartition(" ")
                found[name.partition("{")[0].removesuffix("_total")] += float(value)
    return found


async def on_bus(session: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(30):
        while not (await figures(session, url))["historian_bus_connected"]:
            await asyncio.sleep(0.02)


async def two_servers(stack: AsyncExitStack, *settings: Settings | str) -> tuple[Server, Server, aiohttp.ClientSession]:
    """Two servers on the database that is the last argument, each with its settings, or both with the same; on the bus."""
    *each, dsn = settings
    assert isinstance(dsn, str)
    session = await stack.enter_async_context(aiohttp.ClientSession())
    servers = [await stack.enter_async_context(serving(dsn, one)) for one in (each * 2)[:2] if isinstance(one, Settings)]
    for server in servers:
        await on_bus(session, server.url)
    return servers[0], servers[1], session


async def viewing(stack: AsyncExitStack, session: aiohttp.ClientSession, url: str, tag: str) -> Viewer:
    viewer = Viewer(url, [tag], None)
    task = asyncio.create_task(viewer.run(session))
    stack.callback(task.cancel)
    await viewer.until(viewer.live.is_set)
    return viewer


async def holds(viewer: Viewer, ts: int) -> None:
    await viewer.until(lambda: viewer.holds(viewer.tags[0]["tag_id"], ts), 30)


async def test_a_sample_reaches_the_viewers_of_another_server_without_a_sweep(database: str, nats: NatsServer) -> None:
    now = time.time_ns() // 1000
    async with AsyncExitStack() as stack:
        one, two, session = await two_servers(stack, Settings(port=0, sweep_s=NEVER_S, nats=nats.url), database)
        await post(session, one.url, ("bus/a", now, 1.0))
        async with session.get(f"{two.url}/readyz") as answer:
            assert answer.status == 200
        viewer = await viewing(stack, session, two.url, "bus/a")
        swept = two.services.sweep.found
        for n in range(1, 6):
            await post(session, one.url, ("bus/a", now + n, float(n)))
            await holds(viewer, now + n)
        assert viewer.received.value.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
        found = await figures(session, two.url)
        assert found["historian_bus_received_notices"] >= 5
        assert two.services.sweep.found == swept, "the sweep did it"
        assert (await figures(session, one.url))["historian_bus_received_notices"] == 0, "it took its own for another's"


async def test_a_commit_too_large_for_nats_is_found_by_the_doorbell(database: str, tmp_path: Path) -> None:
    config = tmp_path / "nats.conf"
    config.write_text("max_payload: 4096\n")
    small = NatsServer(tmp_path / "small", "--config", str(config))
    now = time.time_ns() // 1000
    try:
        async with AsyncExitStack() as stack:
            one, two, session = await two_servers(stack, Settings(port=0, sweep_s=NEVER_S, nats=small.url), database)
            await post(session, one.url, ("large/a", now, 0.0))
            viewer = await viewing(stack, session, two.url, "large/a")
            values = np.random.default_rng(1).random(1000)
            await post(session, one.url, *(("large/a", now + 1 + n, float(value)) for n, value in enumerate(values)))
            await holds(viewer, now + 1000)
            assert viewer.received.value.tolist() == values.tolist()
            assert (await figures(session, one.url))["historian_bus_unsent_notices"] == 1
    finally:
        small.stop()


async def test_databases_on_one_nats_do_not_mix(database: str, another_database: object, nats: NatsServer) -> None:
    from historian.schema.migrate import upgrade

    assert callable(another_database)
    other: str = another_database()
    upgrade(other)
    now = time.time_ns() // 1000
    async with AsyncExitStack() as stack:
        settings = Settings(port=0, sweep_s=0.1, nats=nats.url)
        one, _, session = await two_servers(stack, settings, database)
        foreign = await stack.enter_async_context(serving(other, settings))
        await on_bus(session, foreign.url)
        for server in (one, foreign):
            await post(session, server.url, ("mix/a", now, 0.0))
        viewer = await viewing(stack, session, foreign.url, "mix/a")
        await post(session, one.url, ("mix/a", now + 1, 1.0))
        await post(session, foreign.url, ("mix/a", now + 2, 2.0))
        await holds(viewer, now + 2)
        assert viewer.received.value.tolist() == [2.0]
        assert (await figures(session, foreign.url))["historian_bus_received_notices"] == 0


async def test_without_nats_a_server_starts_and_goes_on_and_is_on_the_bus_when_there_is_one(database: str, nats: NatsServer) -> None:
    nats.kill()
    now = time.time_ns() // 1000
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        settings = Settings(port=0, nats=f"nats://plant:s3cret@127.0.0.1:{nats.port}")
        one, two = [await stack.enter_async_context(serving(database, settings)) for _ in range(2)]
        await post(session, one.url, ("away/a", now, 0.0))
        viewer = await viewing(stack, session, two.url, "away/a")
        await post(session, one.url, ("away/a", now + 1, 1.0))
        await holds(viewer, now + 1)
        assert not (await figures(session, one.url))["historian_bus_connected"]
        nats.start()
        for server in (one, two):
            await on_bus(session, server.url)
        before = (await figures(session, two.url))["historian_bus_received_notices"]
        await post(session, one.url, ("away/a", now + 2, 2.0))
        await holds(viewer, now + 2)
        assert viewer.received.value.tolist() == [1.0, 2.0]
        async with asyncio.timeout(30):
            # it may have come behind the sweep
            while (found := await figures(session, two.url))["historian_bus_received_notices"] + found[
                "historian_bus_late_notices"
            ] == before:
                await asyncio.sleep(0.02)


async def test_what_is_no_notice_is_left_out(pool: Pool, nats: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    """Anybody who may write to the subject may write anything."""
    from nats import connect

    class Listener:
        def __init__(self) -> None:
            self.xids: list[int] = []
            self.done = asyncio.Event()

        def offer(self, entry: object) -> None:
            notice: Notice = entry.notice  # type: ignore[attr-defined]
            self.xids.append(notice.xid)
            self.done.set()

    hub, listener = Hub(), Listener()
    hub.attach(listener)  # type: ignore[arg-type]
    bus = NatsBus(pool, hub, NatsAddress((nats.url,)), instance="tested")
    task = asyncio.create_task(bus.run())
    client = await connect(nats.url)
    try:
        async with asyncio.timeout(30):
            while not bus.connected:
                await asyncio.sleep(0.02)
        (stream,) = await client.jetstream().streams_info()
        (subject,) = stream.config.subjects or []
        content = encode_content(Samples(np.array([1], np.int32), np.array([1]), np.array([1.0]), np.array([192], np.int16)))
        sound = {"Historian-Xid": "7", "Historian-Position": "7", "Historian-Sender": "another"}
        bad: list[tuple[bytes, dict[str, str] | None]] = [
            (b"", None),
            (content, None),
            (content, {"Historian-Xid": "8"}),
            (content, sound | {"Historian-Xid": "8; DROP TABLE"}),
            (b"", sound),
            (b"\xff" * 2000, sound),
            (content[:-20], sound),
        ]
        for payload, headers in bad:
            await client.publish(subject, payload, headers=headers)
        await client.publish(subject, content, headers=sound | {"Historian-Sender": "tested"})
        await client.publish(subject, content, headers=sound)
        await client.publish(subject, content, headers=sound)
        async with asyncio.timeout(30):
            await listener.done.wait()
            while not bus.counts.late:
                await asyncio.sleep(0.02)
        assert listener.xids == [7]
        assert bus.counts.faulty == len(bad)
        assert sum("no notice of ours" in record.message for record in caplog.records) == 1
    finally:
        await client.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_an_address_that_is_none_is_refused_without_telling_it(database: str) -> None:
    done = run("serve", "--dsn", database, "--port", "0", env={"HISTORIAN_NATS": "http://plant:s3cret@broker"})
    assert done.returncode == 1
    assert "HISTORIAN_NATS" in done.stderr
    assert "s3cret" not in done.stderr
    assert NatsAddress(("nats://plant:s3cret@broker:4222",), "t0ken").redact("nats://plant:s3cret@broker:4222 t0ken s3cret") == "… … …"
