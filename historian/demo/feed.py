"""The demo's feed: writes the plant's past and then its present to a server over HTTP, as any other producer would.

Promise. Each batch has a number, and is sent until the server has it: a server that restarts loses nothing and gets nothing twice. What is stored already, by an earlier
run on the same data, is not written again: history goes on from the newest sample there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from historian.client import AsyncClient
from historian.demo import dashboard
from historian.demo.plant import SECOND, Plant
from historian.demo.points import SITE
from historian.schema.errors import Busy, PreconditionFailed, Unavailable

_PAUSE_S = 1.0


class Progress(Protocol):
    """Is told in words what is done; `live` once the past is written."""

    def __call__(self, text: str, *, live: bool = False) -> None: ...


class _Silent:
    def __call__(self, text: str, *, live: bool = False) -> None:
        pass


async def run(
    url: str,
    *,
    stop: asyncio.Event,
    history: timedelta = timedelta(hours=1),
    rate_hz: float = 5.0,
    token: str | None = None,
    on_progress: Progress | None = None,
    seed: int = 1,
) -> None:
    """Define the plant's tags and its dashboard, write its past, and then live samples until `stop` is set.

    A server that is away is waited for. Raises what it refuses for good: Conflict, if tags of these names have another kind; BadInput; HistorianError for a wrong token.
    """
    tell = on_progress or _Silent()
    plant = Plant(seed, rate_hz=rate_hz)
    async with AsyncClient(url, token=token, retry_s=5.0) as client:
        feed = _Feed(client, stop, tell)
        await feed.define(plant)
        await feed.bring_dashboard()
        await feed.write_past(plant, history)
        if not stop.is_set():
            tell("the plant is live", live=True)
        await feed.write_live(plant, 1 / rate_hz)


class _Feed:
    """Writes numbered batches of one run."""

    def __init__(self, client: AsyncClient, stop: asyncio.Event, tell: Progress) -> None:
        self._client = client
        self._stop = stop
        self._tell = tell
        self._producer = f"demo:{uuid.uuid4().hex}"
        self._seq = 0

    async def define(self, plant: Plant) -> None:
        while not self._stop.is_set():
            try:
                await self._client.define(plant.definitions())
            except (Busy, Unavailable) as error:
                await self._wait(error)
            else:
                return

    async def bring_dashboard(self) -> None:
        """The ready one, only if there is none of its name: it may have been changed."""
        while not self._stop.is_set():
            try:
                await self._client.put_dashboard(dashboard.NAME, dashboard.dashboard())
            except (Busy, Unavailable) as error:
                await self._wait(error)
            except PreconditionFailed:
                return
            else:
                return

    async def write_past(self, plant: Plant, history: timedelta) -> None:
        """Up to now, from `history` ago or from the newest sample that there is."""
        started = time.monotonic()
        newest = await self._newest()
        now = time.time_ns() // 1000
        # what lies ahead of the clock is of no use to go on from
        start = max(now - history // timedelta(microseconds=1), min(newest, now) + 1)
        written = 0
        for batch in _until(self._stop, plant.history(start, now)):
            await self._write(batch)
            written += batch.num_rows
        if written:
            minutes = max(1, round((now - start) / (60 * SECOND)))
            self._tell(f"{written:,} samples of the past {minutes} min written in {time.monotonic() - started:.1f} s".replace(",", " "))

    async def write_live(self, plant: Plant, interval_s: float) -> None:
        # on a fixed beat: a slow write must not make the next one later still
        beat = time.monotonic()
        while not self._stop.is_set():
            batch = plant.advance(time.time_ns() // 1000)
            if batch.num_rows:
                await self._write(batch)
            beat = max(beat + interval_s, time.monotonic())
            await self._sleep(beat - time.monotonic())

    async def _newest(self) -> int:
        while not self._stop.is_set():
            try:
                newest = pc.max((await self._client.snapshot(f"{SITE}/#")).column("ts").cast(pa.int64())).as_py()
            except (Busy, Unavailable) as error:
                await self._wait(error)
            else:
                return -1 if newest is None else int(newest)
        return -1

    async def _write(self, batch: pa.RecordBatch) -> None:
        """Send until it is there. The same rows under the same number count once."""
        while not self._stop.is_set():
            try:
                receipt = await self._client.write(batch, producer=self._producer, seq=self._seq)
            except (Busy, Unavailable) as error:
                await self._wait(error)
            else:
                self._seq = receipt.next_seq
                return

    async def _wait(self, error: Busy | Unavailable) -> None:
        self._tell(f"waiting for the server: {error}")
        await self._sleep(_PAUSE_S)

    async def _sleep(self, seconds: float) -> None:
        """Until `stop` is set, at the longest."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._stop.wait()


def _until(stop: asyncio.Event, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        if stop.is_set():
            return
        yield batch
