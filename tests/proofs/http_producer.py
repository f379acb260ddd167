"""A producer over HTTP: `python -m proofs.http_producer URL PRODUCER PREFIX SAMPLES [ROWS [AT_ONCE [TIMEOUT_S [SAMPLES_PER_S]]]]`.

It can be killed at any time and started again: GET /v1/producers tells it which of its batches are on disk, and it posts the others, some at a time, each until it is
answered 200. It ends with 0 when all are. Any answer but 200, 429 and 503 ends it with 1, as does one of these two without Retry-After.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter

import aiohttp
import pyarrow as pa

from historian.ingest.backoff import Backoff
from proofs.pace import Pace
from proofs.production import Production

ARROW = "application/vnd.apache.arrow.stream"


def body(production: Production, seq: int, rows: int) -> bytes:
    """Batch `seq`, as Arrow."""
    tag, ts, value = production.numbers(seq * rows, (seq + 1) * rows)
    dictionary = pa.DictionaryArray.from_arrays(pa.array(tag.astype("int32")), pa.array(production.paths))
    batch = pa.record_batch([dictionary, pa.array(ts, pa.timestamp("us", "UTC")), pa.array(value)], ["tag", "ts", "value"])
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd" if seq % 2 else None)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return data


async def answered(response: aiohttp.ClientResponse, answers: Counter[str]) -> bool:
    """Whether it is good. Raises SystemExit for an answer that a producer cannot live with."""
    replayed = " again" if response.headers.get("Historian-Replayed") else ""
    answers[f"{response.status}{replayed}"] += 1
    if response.status in (200, 404):
        return response.status == 200
    text = await response.text()
    if response.status not in (429, 503) or "Retry-After" not in response.headers:
        print(f"answered {response.status} {dict(response.headers)}: {text}", flush=True)
        raise SystemExit(1)
    await asyncio.sleep(min(float(response.headers["Retry-After"]), 1.0) * random.uniform(0.1, 1.0))
    return False


async def produce(url: str, producer: str, production: Production, rows: int, at_once: int, timeout_s: int, per_s: int) -> None:
    answers: Counter[str] = Counter()
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    batches = -(-production.samples // rows)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        todo: list[int] | None = None
        backoff = Backoff(0.05, 0.5)
        while todo is None:
            try:
                async with session.get(f"{url}/v1/producers/{producer}") as response:
                    if await answered(response, answers):
                        done = {seq for first, last in (await response.json())["ranges"] for seq in range(first, last + 1)}
                        todo = [seq for seq in range(batches) if seq not in done]
                    elif response.status == 404:
                        todo = list(range(batches))
            except (aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.sleep(backoff.next())
        print(f"{batches - len(todo)} of {batches} batches are on disk", flush=True)
        waiting = iter(todo)
        pace = Pace(per_s)

        async def post() -> None:
            backoff = Backoff(0.05, 0.5)
            for seq in waiting:
                await pace.take(rows)
                data = body(production, seq, rows)
                headers = {"Historian-Producer": producer, "Historian-Seq": str(seq), "Content-Type": ARROW}
                while True:
                    try:
                        async with session.post(f"{url}/v1/write", data=data, headers=headers) as response:
                            if await answered(response, answers):
                                backoff.reset()
                                break
                            assert response.status != 404
                    except (aiohttp.ClientError, OSError, TimeoutError) as error:
                        answers[type(error).__name__] += 1
                        await asyncio.sleep(backoff.next())

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(post())
    print(f"all is on disk; answered {json.dumps(answers)}", flush=True)


if __name__ == "__main__":
    rows, at_once, timeout_s, per_s = [*map(int, sys.argv[5:]), *(2000, 8, 20, 0)[len(sys.argv[5:]) :]]
    asyncio.run(produce(sys.argv[1], sys.argv[2], Production(sys.argv[3], int(sys.argv[4])), rows, at_once, timeout_s, per_s))
