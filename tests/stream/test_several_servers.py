"""The seam through two servers on one database: whatever is killed, every viewer, who goes from one server to the other, ends with exactly what the database holds."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import aiohttp
import numpy as np
import pyarrow as pa
import pytest
from nats_server import NatsServer
from processes import Serve, ServerProcess
from proofs.proxy import Proxy
from seam_writer import make_batch
from test_nats_bus import figures, on_bus
from test_seam import assert_exactly, stored
from test_workers import workers_of
from viewer import Viewer

from historian.schema.catalogue import Catalogue, TagDefinition
from historian.schema.connection import Pool
from historian.schema.samples import arrow_schema

WRITERS = 3
VIEWERS = 9
GROUPS = 6
TAGS_A_GROUP = 5
ROWS = 100
SECONDS = float(os.environ.get("SERVERS_SECONDS", "5"))
SENTINEL = "seam/end"


async def write(session: aiohttp.ClientSession, urls: list[str], number: int, tags: np.ndarray, over: asyncio.Event) -> int:
    """Post a batch every 100 ms, to one server or the other; one that was not acknowledged is sent again, to whichever. Returns how many samples."""
    rng = np.random.default_rng(number)
    seq = 0
    while not over.is_set():
        begun = time.monotonic()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, arrow_schema(())) as stream:
            stream.write_batch(make_batch(rng, tags, ROWS, number * 10**10 + seq * ROWS).to_record_batch(arrow_schema(())))
        headers = {"Content-Type": "application/vnd.apache.arrow.stream", "Historian-Producer": f"seam-{number}", "Historian-Seq": str(seq)}
        while True:
            with suppress(aiohttp.ClientError, ConnectionError):
                url = urls[int(rng.integers(len(urls)))]
                async with session.post(f"{url}/v1/write", data=sink.getvalue().to_pybytes(), headers=headers) as answer:
                    if answer.status == 200:
                        break
                    assert answer.status in (429, 503), await answer.text()
            await asyncio.sleep(0.05)
        seq += 1
        await asyncio.sleep(max(0.0, begun + 0.1 - time.monotonic()))
    return seq * ROWS


async def watch(viewer: Viewer, session: aiohttp.ClientSession, urls: list[str], chance: random.Random) -> None:
    """For ever; goes away now and then, and comes back by its cursor, to the same server or to the other."""
    await asyncio.sleep(chance.uniform(0, SECONDS / 2))
    while True:
        viewer.url = chance.choice(urls)
        cutting = asyncio.get_running_loop().call_later(chance.uniform(1, SECONDS), viewer.cut)
        with suppress(aiohttp.ClientError, ConnectionError):
            await viewer.run(session)
        cutting.cancel()
        await asyncio.sleep(0.05)


async def seam(pool: Pool, servers: list[ServerProcess], trouble: Callable[[], Coroutine[None, None, None]], seed: str) -> None:
    """Writers and viewers on the servers while the trouble lasts: in the end all is as it should be."""
    chance = random.Random(seed)
    urls = [server.url for server in servers]
    catalogue = Catalogue(pool)
    names = [f"seam/g{group}/t{n}" for group in range(GROUPS) for n in range(TAGS_A_GROUP)]
    tags = await catalogue.define([TagDefinition(path=name, kind="float") for name in [*names, SENTINEL]])
    ids = np.array([tag.tag_id for tag in tags if tag.path != SENTINEL], np.int32)
    (sentinel,) = (tag.tag_id for tag in tags if tag.path == SENTINEL)
    begun_us = time.time_ns() // 1000
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        viewers, patterns, watching = [], [], []
        for n in range(VIEWERS):
            patterns.append([*(f"seam/g{group}/#" for group in chance.sample(range(GROUPS), 2)), SENTINEL])
            viewers.append(Viewer(urls[n % 2], patterns[-1], begun_us - 60_000_000, json_only=n % 4 == 3))
            task = asyncio.create_task(watch(viewers[-1], session, urls, random.Random(f"{seed}-{n}")))
            watching.append(task)
            stack.callback(task.cancel)
        over = asyncio.Event()
        writing = [asyncio.create_task(write(session, urls, n, ids, over)) for n in range(WRITERS)]
        stack.callback(over.set)
        await trouble()
        over.set()
        assert all(await asyncio.gather(*writing))
        for url in urls:
            # all that is committed has been handed on by this server when it answers
            async with session.get(f"{url}/readyz") as answer:
                assert answer.status == 200
        end_us = time.time_ns() // 1000
        async with session.post(f"{urls[0]}/v1/write", json={"samples": [{"tag": SENTINEL, "ts": end_us, "value": -1}]}) as answer:
            assert answer.status == 200
        async with asyncio.timeout(60):
            for viewer in viewers:
                await viewer.until(lambda viewer=viewer: viewer.holds(sentinel, end_us) or bool(viewer.errors))
        for task in watching:
            assert not task.done(), task
        for n, viewer in enumerate(viewers):
            assert_exactly(viewer, await stored(pool, catalogue, patterns[n], begun_us - 60_000_000), f"viewer {n}")
        resumed = [flag for viewer in viewers for flag in viewer.resumed]
        assert True in resumed, "nobody went on at the server that it came from"
        assert False in resumed, "nobody came to a server that did not know its cursor"
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)


async def test_by_the_ledger_alone_with_a_server_and_a_worker_killed(pool: Pool, serve: Serve) -> None:
    # three hubs
    servers = [serve("--workers", "2"), serve()]

    async def trouble() -> None:
        await asyncio.sleep(SECONDS / 4)
        workers_of(servers[0])[0].kill()
        servers[1].kill()
        await asyncio.to_thread(servers[1].start)
        await asyncio.sleep(SECONDS / 4)

    await seam(pool, servers, trouble, "ledger")
    async with aiohttp.ClientSession() as session:
        for server in servers:
            found = await figures(session, server.url)
            assert found["historian_swept_notices"] > 0, "each is told of the other's commits by the ledger"
    workers = workers_of(servers[0])
    assert servers[0].stop(signal.SIGINT) == 0
    assert len(workers) == 2
    assert not any(worker.is_running() for worker in workers)
    assert "Traceback" not in servers[0].log


@pytest.mark.slow
async def test_over_nats_with_restarts_partitions_and_a_server_killed(pool: Pool, serve: Serve, tmp_path: Path) -> None:
    nats = NatsServer(tmp_path / "nats")
    try:
        async with aiohttp.ClientSession() as session:
            with Proxy(("127.0.0.1", nats.port)) as network:
                # the second is behind a network of its own
                servers = [serve("--nats", nats.url), serve("--nats", f"nats://127.0.0.1:{network.port}")]
                for server in servers:
                    await on_bus(session, server.url)
                seen: dict[str, float] = {}

                async def trouble() -> None:
                    step = SECONDS / 8
                    await asyncio.sleep(step)
                    seen.update(await figures(session, servers[0].url))
                    # to and from the one server messages come late, by as long as this
                    network.stall()
                    await asyncio.sleep(step)
                    network.resume()
                    await asyncio.sleep(step)
                    nats.kill()
                    await asyncio.sleep(step)
                    nats.start()
                    servers[1].kill()
                    await asyncio.to_thread(servers[1].start)
                    await on_bus(session, servers[0].url)
                    nats.pause()
                    await asyncio.sleep(step)
                    nats.resume()
                    async with asyncio.timeout(60):
                        # what is written now comes over NATS again, to the one that was killed too
                        while not (await figures(session, servers[1].url))["historian_bus_received_notices"]:
                            await asyncio.sleep(0.05)

                await seam(pool, servers, trouble, "nats")
                assert seen["historian_bus_received_notices"] > 0, "NATS brought nothing"
                found = await figures(session, servers[0].url)
                assert found["historian_swept_notices"] > 0, "the sweep was not needed: this test has shown nothing of it"
                assert found["historian_bus_connections"] >= 2, "it did not come back to NATS"
    finally:
        nats.stop()
        print(f"--- log of nats-server\n{nats.log}")
