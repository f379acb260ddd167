"""The producer of benchmarks/live.py: a process that writes a tick of all tags at a steady rate, and tells when each was acknowledged."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

import aiohttp
import numpy as np
import pyarrow as pa

from historian.schema.samples import Samples, arrow_schema

#: µs between two samples of a tag, as timestamps; a tick is told by the timestamp of its last sample
STEP = 1000
_ON_THEIR_WAY = 32


@dataclass(frozen=True, slots=True)
class Order:
    """Write `ticks` ticks, `tick_s` apart, each with `samples` samples of each tag, from timestamp `first` (µs) on."""

    url: str
    ticks: int
    tick_s: float
    samples: int
    first: int


def tick_of(order: Order, ts: int) -> int:
    """Which tick a sample with this timestamp belongs to."""
    return (ts - order.first) // (STEP * order.samples)


def _bodies(tags: np.ndarray, order: Order) -> list[bytes]:
    rng = np.random.default_rng(1)
    walk = np.round(50 + np.cumsum(rng.normal(0, 0.05, (order.ticks * order.samples, len(tags))), axis=0), 2)
    schema = arrow_schema(())
    bodies = []
    for n in range(order.ticks):
        rows = slice(n * order.samples, (n + 1) * order.samples)
        ts = order.first + np.arange(rows.start, rows.stop, dtype=np.int64) * STEP
        samples = Samples(
            np.repeat(tags, order.samples),
            np.tile(ts, len(tags)),
            np.ascontiguousarray(walk[rows].T).ravel(),
            np.full(len(tags) * order.samples, 192, np.int16),
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_batch(samples.to_record_batch(schema))
        bodies.append(sink.getvalue().to_pybytes())
    return bodies


async def _write(tags: np.ndarray, order: Order) -> tuple[list[float], float]:
    bodies = _bodies(tags, order)
    acknowledged = [0.0] * order.ticks
    window = asyncio.Semaphore(_ON_THEIR_WAY)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def post(n: int) -> None:
            headers = {
                "Content-Type": "application/vnd.apache.arrow.stream",
                "Historian-Producer": f"bench-{order.first}",
                "Historian-Seq": str(n),
            }
            async with session.post(f"{order.url}/v1/write", data=bodies[n], headers=headers) as answer:
                assert answer.status == 200, await answer.text()
                acknowledged[n] = time.monotonic()
            window.release()

        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for n in range(order.ticks):
                await asyncio.sleep(max(0.0, begun + n * order.tick_s - time.monotonic()))
                await window.acquire()
                group.create_task(post(n))
        return acknowledged, time.monotonic() - begun


def run(tags: np.ndarray, pipe: Connection) -> None:
    """A process: for each `Order` it gets, the time of each acknowledgement (`time.monotonic`, one clock for all processes) and the seconds that all took.

    None ends it.
    """
    while (order := pipe.recv()) is not None:
        pipe.send(asyncio.run(_write(tags, order)))
