"""A writer process for the seam tests: an ingest worker that commits batches to the database, or posts them to a server, at a given rate.

Every sample that it writes has a value of its own, so that a viewer which is handed one twice can be told. A tenth of the samples are late or corrected:
their timestamps lie up to ten seconds back, on a raster of a millisecond that all writers share, so that they replace samples of other writers too.

Prints `started` when it writes, and at its end a JSON object with what it did.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import time

import aiohttp
import numpy as np
import pyarrow as pa

from historian.ingest.writer import Writer
from historian.schema.connection import open_pool
from historian.schema.ledger import Batch, Notice
from historian.schema.samples import Samples, arrow_schema

LATE = 0.1
LATE_US = 10_000_000
RASTER_US = 1000
BATCHES_A_SECOND = 10


def make_batch(rng: np.random.Generator, tags: np.ndarray, rows: int, first_value: int) -> Samples:
    now = time.time_ns() // 1000
    behind = rng.integers(0, 1_000_000 // BATCHES_A_SECOND, rows)
    late = rng.random(rows) < LATE
    behind[late] = rng.integers(0, LATE_US, int(late.sum()))
    ts = (now - behind) // RASTER_US * RASTER_US
    return Samples(
        rng.choice(tags, rows).astype(np.int32),
        ts,
        np.arange(first_value, first_value + rows, dtype=np.float64),
        np.full(rows, 192, np.int16),
    )


async def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--dsn")
    options.add_argument("--url")
    options.add_argument("--number", type=int, required=True)
    options.add_argument("--tags", required=True, help="first and last tag_id")
    options.add_argument("--rate", type=int, required=True)
    options.add_argument("--seconds", type=float, required=True)
    options.add_argument("--die-after", type=int, default=0, help="SIGKILL itself between the commit of this batch and its publication")
    options.add_argument("--seq", type=int, default=0)
    given = options.parse_args()
    first, last = (int(n) for n in given.tags.split("-"))
    tags = np.arange(first, last + 1, dtype=np.int32)
    rng = np.random.default_rng(given.number * 1_000_003 + given.seq)
    rows = given.rate // BATCHES_A_SECOND
    producer = f"seam-{given.number}"
    batches = 0

    def publish(_notice: Notice) -> None:
        # called after the commit; the doorbell is rung after this
        if given.die_after and batches + 1 >= given.die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    async def run(commit) -> None:
        nonlocal batches
        print("started", flush=True)
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < given.seconds:
            # behind its time it does not pause: the rate is kept
            if batches / BATCHES_A_SECOND > passed:
                await asyncio.sleep(batches / BATCHES_A_SECOND - passed)
            value = given.number * 10**10 + (given.seq + batches) * rows
            await commit(Batch(producer, given.seq + batches, make_batch(rng, tags, rows, value)))
            batches += 1
        print(json.dumps({"samples": batches * rows, "batches": batches, "seconds": time.monotonic() - begun}), flush=True)

    if given.dsn:
        pool = await open_pool(given.dsn, size=3)
        writer = Writer(pool, publish)

        async def commit(batch: Batch) -> None:
            await writer.write([batch])

        await run(commit)
        await writer.close()
        await pool.close()
        return

    schema = arrow_schema(())
    async with aiohttp.ClientSession() as session:

        async def post(batch: Batch) -> None:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, schema) as stream:
                stream.write_batch(batch.samples.to_record_batch(schema))
            headers = {
                "Content-Type": "application/vnd.apache.arrow.stream",
                "Historian-Producer": batch.producer,
                "Historian-Seq": str(batch.seq),
            }
            async with session.post(f"{given.url}/v1/write", data=sink.getvalue().to_pybytes(), headers=headers) as answer:
                assert answer.status == 200, await answer.text()

        await run(post)


if __name__ == "__main__":
    asyncio.run(main())
