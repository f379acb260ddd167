"""A fast producer over /v1/ingest: `python -m proofs.websocket_producer URL PRODUCER PREFIX SAMPLES [ROWS [SAMPLES_PER_S]]`.

It can be killed at any time and started again: the server tells it which batch is next. It ends with 0 when all of them are on disk.
"""

from __future__ import annotations

import asyncio
import sys

import pyarrow as pa

from historian.client import AsyncClient
from historian.ingest.backoff import Backoff
from historian.schema.errors import Conflict, Unavailable
from proofs.pace import Pace
from proofs.production import Production


def table(production: Production, seq: int, rows: int) -> pa.Table:
    """Batch `seq`."""
    tag, ts, value = production.numbers(seq * rows, (seq + 1) * rows)
    dictionary = pa.DictionaryArray.from_arrays(pa.array(tag.astype("int32")), pa.array(production.paths))
    return pa.table({"tag": dictionary, "ts": pa.array(ts, pa.timestamp("us", "UTC")), "value": pa.array(value)})


async def produce(url: str, producer: str, production: Production, rows: int, per_s: int) -> None:
    batches = -(-production.samples // rows)
    backoff, pace = Backoff(0.05, 0.5), Pace(per_s)
    async with AsyncClient(url, retry_s=60.0) as client:
        while True:
            try:
                async with client.ingest(producer) as ingest:
                    # nothing that came before is still under way: these are all there are
                    ranges = await client.committed(producer)
                    assert len(ranges) < 2, f"batches are missing between {ranges}"
                    first = ranges[0][1] + 1 if ranges else 0
                    print(f"{first} of {batches} batches are on disk", flush=True)
                    for seq in range(first, batches):
                        await pace.take(rows)
                        await ingest.write(table(production, seq, rows))
                break
            except (Conflict, Unavailable) as error:
                # the server may still believe in the connection of the one that was killed
                print(f"once more: {error}", flush=True)
                await asyncio.sleep(backoff.next())
    print("all is on disk", flush=True)


if __name__ == "__main__":
    rows, per_s = [*map(int, sys.argv[5:]), *(250, 0)[len(sys.argv[5:]) :]]
    asyncio.run(produce(sys.argv[1], sys.argv[2], Production(sys.argv[3], int(sys.argv[4])), rows, per_s))
