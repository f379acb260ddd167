"""The demo's feed against a real server: the past at once, then the present; nothing twice, nothing lost when the server goes away."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import numpy as np
import orjson
import pandas as pd
import pytest

from historian.client import AsyncClient
from historian.demo import dashboard, feed
from historian.demo.points import SITE
from historian.schema.errors import PreconditionFailed
from historian.server.run import Server, serving
from historian.settings import Settings

FLOW = f"{SITE}/brewing/line1/feed_pump/flow"


class Told:
    """What the feed says, and when it goes live."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.said = asyncio.Event()
        self.live = asyncio.Event()

    def __call__(self, text: str, *, live: bool = False) -> None:
        self.texts.append(text)
        self.said.set()
        if live:
            self.live.set()


async def while_fed(url: str, work: Callable[[Told], Awaitable[None]], *, minutes: float = 5, rate_hz: float = 10) -> Told:
    """Do something while the feed runs; it has to stop cleanly then."""
    stop, told = asyncio.Event(), Told()
    feeding = asyncio.create_task(feed.run(url, stop=stop, history=timedelta(minutes=minutes), rate_hz=rate_hz, on_progress=told))
    try:
        async with asyncio.timeout(60):
            await work(told)
    finally:
        stop.set()
        async with asyncio.timeout(10):
            await feeding
    return told


async def flow_of(client: AsyncClient) -> pd.Series:
    frame = (await client.range(FLOW, "-2h", "now+1h")).to_pandas()
    return frame.set_index("ts")["value"]


async def test_an_hour_of_past_and_then_live(server: Server) -> None:
    async with AsyncClient(server.url) as client:

        async def work(told: Told) -> None:
            await told.live.wait()
            past = await flow_of(client)
            assert 3590 <= len(past) <= 3660
            assert past.index.is_unique
            async with client.stream(FLOW) as stream:
                received = 0
                while received < 20:
                    received += (await anext(stream)).num_rows
            tags = {tag.path: tag for tag in await client.tags()}
            assert len(tags) == 53
            assert tags[FLOW].unit == "m³/h"
            assert (await client.snapshot()).num_rows == 53
            # the dashboard that it brings asks for nothing that there is not
            board = orjson.dumps(dashboard.dashboard()).decode()
            assert {path for path in re.findall(r'"(acme/[^"]+)"', board) if "+" not in path and "#" not in path} <= set(tags)
            with pytest.raises(PreconditionFailed):
                await client.put_dashboard(dashboard.NAME, dashboard.dashboard())

        told = await while_fed(server.url, work, minutes=60)
        assert "samples of the past 60 min" in told.texts[0]
        whole = await flow_of(client)
        steps = np.diff(whole.index.asi8)
        # a second apart in the past, a tenth of one in the present; and no hole between
        assert steps.max() <= 1_500_000
        assert steps[:3000].min() == 1_000_000
        assert np.median(steps[-15:]) == 100_000


async def test_another_run_goes_on_from_the_newest_sample(server: Server) -> None:
    async with AsyncClient(server.url) as client:

        async def live(told: Told) -> None:
            await told.live.wait()

        await while_fed(server.url, live, minutes=2)
        first = await flow_of(client)
        await while_fed(server.url, live, minutes=10)
        both = await flow_of(client)
        assert both.index[0] == first.index[0]
        assert both[first.index].equals(first)
        assert np.diff(both.index.asi8).max() <= 2_500_000


async def test_a_server_that_restarts_loses_nothing(database: str) -> None:
    async with serving(database, Settings(port=0)) as first:
        port = int(first.url.rpartition(":")[2])
        told = Told()
        stop = asyncio.Event()
        feeding = asyncio.create_task(feed.run(first.url, stop=stop, history=timedelta(seconds=30), rate_hz=10, on_progress=told))
        async with asyncio.timeout(20):
            await told.live.wait()
    await asyncio.sleep(0.5)
    async with serving(database, Settings(port=port)) as second, AsyncClient(second.url) as client:
        back = time.time()
        async with asyncio.timeout(30), client.stream(FLOW) as stream:
            while (await anext(stream)).column("ts")[-1].as_py().timestamp() < back + 0.5:
                pass
        stop.set()
        await feeding
        steps = np.diff((await flow_of(client)).index.asi8)
        assert steps.max() <= 1_000_000


async def test_a_server_that_is_not_there_yet_is_waited_for(database: str, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"

    async def work(told: Told) -> None:
        await told.said.wait()
        assert told.texts[0].startswith("waiting for the server")
        async with serving(database, Settings(port=unused_tcp_port)):
            await told.live.wait()

    await while_fed(url, work, minutes=0.1)


async def test_stopping_before_anything_is_there_is_quick(unused_tcp_port: int) -> None:
    async def work(told: Told) -> None:
        await told.said.wait()

    await while_fed(f"http://127.0.0.1:{unused_tcp_port}", work)
