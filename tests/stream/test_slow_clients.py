"""A client that stops reading: it is told what it missed, nobody else waits for it, and the server does not grow."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

import aiohttp
import numpy as np
import psutil
import pyarrow as pa
import pytest
from processes import Serve
from viewer import Viewer

from historian.query.times import parse_time
from historian.schema.samples import Samples, arrow_schema
from historian.stream.frames import ARROW, FrameReader

#: how long it does not read
SECONDS = 60.0 if os.environ.get("PROOFS") == "full" else 4.0
TAGS = 10
#: samples of each tag in a write; half of them have been written before
ROWS = 800
START = (time.time_ns() // 1_000_000_000 - 3600) * 1_000_000
_MB = 1 << 20

Keys = dict[tuple[int, int], float]


def body(n: int) -> bytes:
    """The write `n`: its own rows, and the same again as the one before, with other values."""
    ts = START + ((n * ROWS // 2) + np.arange(ROWS, dtype=np.int64)) * 1000
    value = np.full(TAGS * ROWS, float(n))
    names = pa.DictionaryArray.from_arrays(pa.array(np.repeat(np.arange(TAGS, dtype=np.int32), ROWS)), [f"slow/t{k}" for k in range(TAGS)])
    table = pa.table({"tag": names, "ts": pa.array(np.tile(ts, TAGS), pa.timestamp("us", "UTC")), "value": value})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    found: bytes = sink.getvalue().to_pybytes()
    return found


def last_of(n: int) -> int:
    return START + (n * ROWS // 2 + ROWS - 1) * 1000


def keep(held: Keys, samples: Samples) -> None:
    held.update(zip(zip(samples.tag_id.tolist(), samples.ts.tolist(), strict=True), samples.value.tolist(), strict=True))


async def read_range(http: aiohttp.ClientSession, url: str, **parameters: str) -> Samples:
    async with http.get(url, params=parameters, headers={"Accept": "application/vnd.apache.arrow.stream"}) as answer:
        assert answer.status == 200, await answer.text()
        table = pa.ipc.open_stream(await answer.read()).read_all().combine_chunks()
    batches = table.to_batches()
    return Samples.from_record_batch(batches[0]) if batches else Samples.empty()


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_a_client_that_stops_reading_has_in_the_end_what_the_database_holds(serve: Serve) -> None:
    server = serve(env={"HISTORIAN_STREAM_QUEUE": str(_MB), "HISTORIAN_RETAIN": str(_MB)})
    process = psutil.Process(server.pid)
    headers = {"Content-Type": "application/vnd.apache.arrow.stream"}
    async with aiohttp.ClientSession() as http:

        async def write(n: int) -> None:
            async with http.post(f"{server.url}/v1/write", data=body(n), headers=headers) as answer:
                assert answer.status == 200, await answer.text()

        await write(0)
        fast = Viewer(server.url, ["slow/#"], START)
        watching = asyncio.create_task(fast.run(http))
        async with http.ws_connect(f"{server.url}/v1/stream", protocols=[ARROW], max_msg_size=0) as ws:
            await ws.send_json({"type": "subscribe", "id": 1, "tags": ["slow/#"], "from": START})
            held: Keys = {}
            gaps: list[dict[str, Any]] = []
            frames = FrameReader()
            live = asyncio.Event()
            answered = asyncio.Event()
            #: rows of each frame
            sizes: list[int] = []

            async def take() -> None:
                """The next message."""
                message = await ws.receive()
                if message.type == aiohttp.WSMsgType.BINARY:
                    for batch in frames.read(message.data)[1]:
                        samples = Samples.from_record_batch(batch)
                        keep(held, samples)
                        sizes.append(len(samples))
                    return
                found = json.loads(message.data)
                if found["type"] == "gap":
                    gaps.append(found)
                if found["type"] == "live":
                    live.set()
                if found["type"] == "heartbeat":
                    answered.set()

            while not live.is_set():
                await take()
            await fast.until(fast.live.is_set)
            # while it is paused some ticks wait, and come as one, each sample once
            await ws.send_json({"type": "pause", "id": 1})
            await ws.send_json({"type": "heartbeat"})
            while not answered.is_set():
                await take()
            for n in range(1, 4):
                await write(n)
            await ws.send_json({"type": "resume", "id": 1})
            async with asyncio.timeout(30):
                while sizes[-1] != TAGS * 2 * ROWS:
                    await take()
            assert ws._conn is not None
            assert ws._conn.transport is not None
            ws._conn.transport.pause_reading()

            n, memory, lags = 3, [], []
            begun = time.monotonic()
            while (now := time.monotonic()) < begun + SECONDS or n < 70:
                n += 1
                await write(n)
                acknowledged = time.monotonic()
                tag_id, newest = fast.tags[0]["tag_id"], last_of(n)
                await fast.until(lambda tag_id=tag_id, newest=newest: fast.holds(tag_id, newest))  # type: ignore[misc]
                lags.append(time.monotonic() - acknowledged)
                # only the newest are looked at
                del fast.parts[:-2]
                memory.append(process.memory_info().rss)
                assert now < begun + SECONDS + 60, f"only {n} writes"

            ws._conn.transport.resume_reading()
            last = n + 1
            await write(last)
            async with asyncio.timeout(60):
                # it comes, or is among what a gap tells of
                while (fast.tags[-1]["tag_id"], last_of(last)) not in held and not any(
                    parse_time(gap["to"], 0) > last_of(last) for gap in gaps
                ):
                    await take()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

        assert gaps
        assert {gap["reason"] for gap in gaps} == {"slow-client"}
        for gap in gaps:
            assert gap["range"].startswith("/v1/range?tag=slow/t0&")
            keep(held, await read_range(http, server.url + gap["range"]))
        stored: Keys = {}
        keep(stored, await read_range(http, f"{server.url}/v1/range", tag="slow/#", start=str(START), end="now"))
        assert held == stored
        # 0.2 s is usual beside the other work of a test machine; one that waits for the slow one would wait for as long as it does not read
        assert np.median(lags) < 1.0, lags
        settled = memory[len(memory) // 3 :]
        assert max(settled) - settled[0] < 48 * _MB, [size // _MB for size in memory[:: len(memory) // 20]]


def test_the_columns_are_those_that_are_written() -> None:
    names = pa.ipc.open_stream(body(1)).read_all().column_names
    assert names == ["tag", *arrow_schema(()).names[1:3]]
