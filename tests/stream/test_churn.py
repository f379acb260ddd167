"""Clients that come and go: nothing of them stays."""

from __future__ import annotations

import asyncio
import gc
import os
import time

import aiohttp
import psutil
import pytest

from historian.server.run import Server
from historian.stream.frames import ARROW

TIMES = 10_000 if os.environ.get("PROOFS") == "full" else 500
#: at a time
TOGETHER = 25
START = time.time_ns() // 1000
_MB = 1 << 20


async def write(session: aiohttp.ClientSession, server: Server, value: int) -> None:
    """The same samples each time, corrected: what is sent to a client does not grow."""
    rows = [{"tag": f"churn/t{k}", "ts": START, "value": value} for k in range(40)]
    async with session.post(f"{server.url}/v1/write", json={"samples": rows}) as answer:
        assert answer.status == 200


async def come_and_go(session: aiohttp.ClientSession, server: Server, n: int) -> None:
    """With subscriptions of its own tags and of everybody's; every third leaves without a word, every fifth before it is live."""
    form = ("", "?compression=zstd", "?compression=zstd-dict")[n % 3]
    async with session.ws_connect(f"{server.url}/v1/stream{form}", protocols=[ARROW]) as ws:
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


async def crowd(session: aiohttp.ClientSession, server: Server, first: int, count: int) -> None:
    turns = asyncio.Semaphore(TOGETHER)

    async def one(n: int) -> None:
        async with turns:
            await come_and_go(session, server, n)
            if n % 50 == 0:
                await write(session, server, n)

    await asyncio.gather(*(one(n) for n in range(first, first + count)))
    # the server notices those that left without a word a moment later
    async with asyncio.timeout(30):
        while len(server.services.hub) or server.services.streams:
            await asyncio.sleep(0.01)
    # connections that closed are let go of in the next turns of the loop
    for _ in range(10):
        await asyncio.sleep(0.01)
    gc.collect()


@pytest.mark.alone
@pytest.mark.timeout(900)
async def test_clients_that_come_and_go_leave_nothing(server: Server) -> None:
    process = psutil.Process()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as session:
        await write(session, server, 0)
        # pools, caches and allocators have their size
        await crowd(session, server, 1, TIMES // 3)
        tasks, descriptors, memory = len(asyncio.all_tasks()), process.num_fds(), process.memory_info().rss
        await crowd(session, server, TIMES, TIMES)
        assert len(asyncio.all_tasks()) <= tasks
        assert process.num_fds() <= descriptors + 2
        grown = process.memory_info().rss - memory
        assert grown < 16 * _MB, f"{grown / _MB:.1f} MB for {TIMES} clients"
        fan_out = server.services.hub._fan_out
        assert not any((fan_out._groups, fan_out._by_tag, fan_out._broad, fan_out._group_of, fan_out._remembered))
