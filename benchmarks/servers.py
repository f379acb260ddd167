"""How long a sample takes from its producer to a viewer of another server, or another worker: by the database's doorbell and ledger, and over NATS.

    python benchmarks/servers.py
    python benchmarks/servers.py --rate 20000 --nats /usr/sbin/nats-server

Two servers as processes on one database. A producer posts to the one; each has a viewer. The time runs from the moment in which the body is sent to that in which the
viewer has the samples: commit, acknowledgement and frames included, so that the viewer of the producer's own server says what is not the way between servers.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import numpy as np
import pyarrow as pa
from common import arguments, database, make_tags, server

from historian.schema.samples import Samples, arrow_schema
from historian.stream.frames import ARROW, FrameReader

BATCHES_A_SECOND = 20
TAGS = 100


@asynccontextmanager
async def serving(dsn: str, directory: Path, *options: str) -> AsyncIterator[str]:
    ready = directory / "ready.json"
    command = [sys.executable, "-P", "-m", "historian", "serve", "--dsn", dsn, "--port", "0", "--ready-file", str(ready), *options]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
    try:
        while not ready.exists():
            assert process.returncode is None
            await asyncio.sleep(0.05)
        yield json.loads(ready.read_text())["url"]
    finally:
        process.terminate()
        await process.wait()


async def watch(session: aiohttp.ClientSession, url: str, live: asyncio.Event, delays: list[float]) -> None:
    reader = FrameReader()
    async with session.ws_connect(f"{url}/v1/stream", protocols=[ARROW], max_msg_size=0) as ws:
        await ws.send_json({"type": "subscribe", "id": 1, "tags": ["#"], "from": None})
        async for message in ws:
            now = time.time()
            if message.type == aiohttp.WSMsgType.TEXT:
                if '"live"' in message.data:
                    live.set()
                continue
            for batch in reader.read(message.data)[1]:
                # each sample's value is the time of its sending
                delays.extend((now - np.unique(batch.column("value").to_numpy())).tolist())


async def produce(session: aiohttp.ClientSession, url: str, tags: np.ndarray, rows: int, seconds: float) -> None:
    schema = arrow_schema(())
    begun = time.time()
    for n in range(int(seconds * BATCHES_A_SECOND)):
        await asyncio.sleep(max(0.0, begun + n / BATCHES_A_SECOND - time.time()))
        now = time.time()
        ts = int(now * 1e6) + np.repeat(np.arange(-(-rows // len(tags))), len(tags))[:rows]
        samples = Samples(np.resize(tags, rows).astype(np.int32), ts, np.full(rows, now), np.full(rows, 192, np.int16))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as stream:
            stream.write_batch(samples.to_record_batch(schema))
        headers = {"Content-Type": "application/vnd.apache.arrow.stream"}
        async with session.post(f"{url}/v1/write", data=sink.getvalue().to_pybytes(), headers=headers) as answer:
            assert answer.status == 200, await answer.text()


async def round_(dsn: str, rate: int, seconds: float, options: list[str]) -> dict[str, list[float]]:
    delays: dict[str, list[float]] = {"its own server": [], "the other server": []}
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(database(dsn, quiet=True))
        tags = make_tags(made, TAGS)
        urls = []
        for _ in delays:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            urls.append(await stack.enter_async_context(serving(made, directory, *options)))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        for url, seen in zip(urls, delays.values(), strict=True):
            live = asyncio.Event()
            watching = asyncio.create_task(watch(session, url, live, seen))
            stack.callback(watching.cancel)
            await live.wait()
        await produce(session, urls[0], tags, rate // BATCHES_A_SECOND, 1.0)
        for seen in delays.values():
            seen.clear()
        await produce(session, urls[0], tags, rate // BATCHES_A_SECOND, seconds)
        await asyncio.sleep(1)
    return delays


async def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rate", type=int, default=5000, help="samples a second, in 20 batches")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--nats", default=shutil.which("nats-server") or "/usr/sbin/nats-server", help="the program nats-server")
    given = parser.parse_args()
    found: dict[str, list[float]] = {}
    with server(given.dsn) as dsn, tempfile.TemporaryDirectory() as store:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [given.nats, "--addr", "127.0.0.1", "--port", str(port), "--jetstream", "--store_dir", store]
        nats = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
        try:
            for _ in range(given.rounds):
                for way, options in {"ledger and doorbell": [], "NATS": ["--nats", f"nats://127.0.0.1:{port}"]}.items():
                    for viewer, delays in (await round_(dsn, given.rate, given.seconds, options)).items():
                        found.setdefault(f"{way}: a viewer of {viewer}", []).extend(delays)
        finally:
            nats.terminate()
            await nats.wait()
    print(f"{given.rate} samples/s in {BATCHES_A_SECOND} batches a second; milliseconds\n")
    for name, delays in found.items():
        p50, p90, p99 = np.percentile(np.array(delays) * 1000, [50, 90, 99])
        print(f"{name:50} p50 {p50:6.1f}   p90 {p90:6.1f}   p99 {p99:6.1f}   batches {len(delays)}")


if __name__ == "__main__":
    asyncio.run(main())
