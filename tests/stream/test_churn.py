"""Clients that come and go: nothing of them stays."""

from __future__ import annotations

import asyncio
import os
import time

import aiohttp
import psutil
import pytest
from processes import Serve

from historian.server.run import Server
from historian.stream.frames import ARROW

TIMES = 10_000 if os.environ.get("PROOFS") == "full" else 500
#: at a time
TOGETHER = 25
START = time.time_ns() // 1000
_MB = 1 << 20


async def write(session: aiohttp.ClientSession, url: str, value: int) -> None:
    """The same samples each time, corrected: what is sent to a client does not grow."""
    rows = [{"tag": f"churn/t{k}", "ts": START, "value": value} for k in range(40)]
    async with session.post(f"{url}/v1/write", json={"samples": rows}) as answer:
        assert answer.status == 200


async def come_and_go(session: aiohttp.ClientSession, url: str, n: int) -> None:
    """With subscriptions of its own tags and of everybody's; every third leaves without a word, every fifth before it is live."""
    form = ("", "?compression=zstd", "?compression=zstd-dict")[n % 3]
    async with session.ws_connect(f"{url}/v1/stream{form}", protocols=[ARROW]) as ws:
        await ws.send_json({"type": "subscribe", "id": 1, "tags": ["churn/#"], "from": "-1h"})
        await ws.send_json({"type": "subscribe", "id": 2, "tags": [f"churn/t{n % 40}", f"churn/t{n % 7}"]})
        live = 0
        while live < 2 and n % 5:
            message = await ws.receive()
            assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
            live += message.type == aiohttp.WSMsgType.TEXT and '"live"' in message.data
        if n % 3 == 0:
            assert ws._conn is not None
            assert ws._conn.transport is not None
            ws._conn.transport.abort()


async def crowd(session: aiohttp.ClientSession, url: str, first: int, count: int) -> None:
    turns = asyncio.Semaphore(TOGETHER)

    async def one(n: int) -> None:
        async with turns:
            await come_and_go(session, url, n)
            if n % 50 == 0:
                await write(session, url, n)

    await asyncio.gather(*(one(n) for n in range(first, first + count)))


def connector() -> aiohttp.TCPConnector:
    return aiohttp.TCPConnector(limit=0, force_close=True)


@pytest.mark.alone
@pytest.mark.timeout(900)
async def test_of_clients_that_come_and_go_no_memory_and_no_descriptor_stays(serve: Serve) -> None:
    # a process of its own, with the allocators that servers have
    server = serve()
    process = psutil.Process(server.pid)
    async with aiohttp.ClientSession(connector=connector()) as session:
        await write(session, server.url, 0)
        # pools, caches and allocators have their size
        await crowd(session, server.url, 1, max(300, TIMES // 3))
        descriptors, memory = process.num_fds(), process.memory_info().rss
        await crowd(session, server.url, TIMES, TIMES)
        # the server notices those that left without a word a moment later
        async with asyncio.timeout(30):
            while process.num_fds() > descriptors + 2:
                await asyncio.sleep(0.05)
        grown = process.memory_info().rss - memory
        assert grown < 16 * _MB, f"{grown / _MB:.1f} MB for {TIMES} clients"


@pytest.mark.timeout(300)
async def test_of_clients_that_come_and_go_no_task_and_no_subscription_stays(server: Server) -> None:
    async with aiohttp.ClientSession(connector=connector()) as session:
        await write(session, server.url, 0)
        await crowd(session, server.url, 1, 100)
        await gone(server)
        tasks = len(asyncio.all_tasks())
        await crowd(session, server.url, 101, 300)
        await gone(server)
        assert len(asyncio.all_tasks()) <= tasks
        fan_out = server.services.hub._fan_out
        assert not any((fan_out._groups, fan_out._by_tag, fan_out._broad, fan_out._group_of, fan_out._remembered))


async def gone(server: Server) -> None:
    """The server has noticed that its clients have gone."""
    async with asyncio.timeout(30):
        while len(server.services.hub) or server.services.streams:
            await asyncio.sleep(0.01)
    # connections that closed are let go of in the next turns of the loop
    for _ in range(10):
        await asyncio.sleep(0.01)
