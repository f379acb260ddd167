"""What a live sample costs on its way to many viewers, side by side in one run: JSON text to every viewer, and our stream in Arrow and in JSON.

    python benchmarks/live.py
    python benchmarks/live.py --viewers 50 --tags 200

One process serves, one has all the viewers, who decode what they get. The same batches go out each way; the obvious server does what most do: `json.dumps` of
the rows that a viewer wants, and `send_str`. Ours is the real server with its hub, subscriptions and sessions; only the database transaction is left out, on both sides.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any

import aiohttp
import numpy as np
from aiohttp import web
from common import START, Figures, arguments, database, make_tags, server

from historian.schema.ledger import Notice
from historian.schema.samples import Samples
from historian.server.run import Server, serving
from historian.settings import Settings
from historian.stream.frames import ARROW, JSON, FrameReader

BATCH = "obvious: json.dumps for each viewer"
OURS_ARROW = "ours: Arrow"
OURS_ZSTD = "ours: Arrow, zstd"
OURS_JSON = "ours: JSON"
WAYS = (BATCH, OURS_ARROW, OURS_ZSTD, OURS_JSON)


def samples_of(tags: np.ndarray, at: int) -> Samples:
    """A second of all tags, as one commit brings it."""
    rng = np.random.default_rng(at)
    return Samples(
        tags,
        np.full(len(tags), START + at * 1_000_000, np.int64),
        np.round(rng.normal(50, 5, len(tags)), 2),
        np.full(len(tags), 192, np.int16),
    )


class Obvious:
    """The server that one writes in an afternoon: who wants what, and JSON for each."""

    def __init__(self, names: dict[int, str]) -> None:
        self._names = names
        self._viewers: dict[web.WebSocketResponse, set[int]] = {}

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        ids = {path: tag_id for tag_id, path in self._names.items()}
        wanted = await ws.receive_json()
        self._viewers[ws] = {ids[path] for path in wanted["tags"]}
        await ws.send_json({"type": "live"})
        async for _ in ws:
            pass
        self._viewers.pop(ws, None)
        return ws

    async def publish(self, samples: Samples) -> None:
        rows = [
            (tag, {"tag": self._names[tag], "ts": datetime.fromtimestamp(us / 1e6, UTC).isoformat(), "value": value, "quality": quality})
            for tag, us, value, quality in zip(
                samples.tag_id.tolist(), samples.ts.tolist(), samples.value.tolist(), samples.quality.tolist(), strict=True
            )
        ]
        sends = []
        for ws, wanted in self._viewers.items():
            sends.append(ws.send_str(json.dumps({"samples": [row for tag, row in rows if tag in wanted]})))
        await asyncio.gather(*sends)


async def serve(dsn: str, tags: np.ndarray, names: dict[int, str], pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    obvious = Obvious(names)
    app = web.Application()
    app.router.add_get("/", obvious.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with serving(dsn, Settings(port=0, max_streams_address=1000)) as ours:
        pipe.send((f"http://127.0.0.1:{runner.addresses[0][1]}/", f"{ours.url}/v1/stream"))
        while (order := await loop.run_in_executor(None, pipe.recv)) is not None:
            way, first, count = order
            cpu = time.process_time()
            for at in range(first, first + count):
                if way == BATCH:
                    await obvious.publish(samples_of(tags, at))
                else:
                    await publish(ours, samples_of(tags, at), at)
            if way != BATCH:
                await drained(ours, 0)
            pipe.send(time.process_time() - cpu)
    await runner.cleanup()


async def publish(ours: Server, samples: Samples, at: int) -> None:
    # no transaction of the database has so high an xid: no seam has seen it
    ours.services.hub.publish(Notice(2**60 + at, 2**60 + at, samples))
    await drained(ours, 1 << 20)


async def drained(ours: Server, allowed: int) -> None:
    # a viewer that falls behind would be sent a gap instead
    while any(  # noqa: ASYNC110 - nothing tells when a queue of the hub's subscribers is empty
        subscription.queued_bytes > allowed
        for subscription in ours.services.hub._subscribers.values()  # type: ignore[attr-defined]
    ):
        await asyncio.sleep(0)


class Watcher:
    """A viewer: counts and decodes what it gets."""

    def __init__(self, way: str, tags: list[str]) -> None:
        self._way = way
        self._tags = tags
        self.samples = 0
        self.bytes = 0
        self.live = asyncio.Event()
        self.moved = asyncio.Condition()

    async def run(self, session: aiohttp.ClientSession, url: str) -> None:
        protocols = {OURS_ARROW: [ARROW], OURS_ZSTD: [ARROW], OURS_JSON: [JSON]}.get(self._way, [])
        reader = FrameReader()
        async with session.ws_connect(
            url + ("?compression=zstd" if self._way == OURS_ZSTD else ""), protocols=protocols, max_msg_size=0
        ) as ws:
            await ws.send_json({"type": "subscribe", "id": 1, "tags": self._tags} if protocols else {"tags": self._tags})
            async for message in ws:
                if message.type == aiohttp.WSMsgType.BINARY:
                    self.bytes += len(message.data)
                    self.samples += sum(batch.num_rows for batch in reader.read(message.data)[1])
                else:
                    found: dict[str, Any] = json.loads(message.data)
                    if "samples" in found:
                        self.bytes += len(message.data)
                        self.samples += len(found["samples"])
                    assert found.get("type") not in ("gap", "error"), found
                    if found.get("type") == "live":
                        self.live.set()
                async with self.moved:
                    self.moved.notify_all()

    async def has(self, count: int) -> None:
        async with self.moved:
            await self.moved.wait_for(lambda: self.samples >= count)


async def one_round(
    pipe: Connection, urls: tuple[str, str], way: str, names: list[str], viewers: int, wanted: int, first: int, count: int
) -> tuple[float, float, float]:
    """Delivered samples/s, µs of the server's CPU a delivered sample, bytes a delivered sample."""
    rng = np.random.default_rng(5)
    watchers = [Watcher(way, [names[n] for n in sorted(rng.choice(len(names), wanted, replace=False))]) for _ in range(viewers)]
    url = urls[0] if way == BATCH else urls[1]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        tasks = [asyncio.create_task(watcher.run(session, url)) for watcher in watchers]
        await asyncio.gather(*(watcher.live.wait() for watcher in watchers))
        begun = time.perf_counter()
        pipe.send((way, first, count))
        async with asyncio.timeout(300):
            await asyncio.gather(*(watcher.has(wanted * count) for watcher in watchers))
        took = time.perf_counter() - begun
        cpu = await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    delivered = sum(watcher.samples for watcher in watchers)
    assert delivered == viewers * wanted * count
    return delivered / took, cpu / delivered * 1e6, sum(watcher.bytes for watcher in watchers) / delivered


def child(dsn: str, tags: np.ndarray, names: dict[int, str], pipe: Connection) -> None:
    asyncio.run(serve(dsn, tags, names, pipe))


async def measure(dsn: str, all_tags: int, viewers: int, wanted: int, seconds: int, rounds: int) -> None:
    async with database(dsn) as made:
        tags = make_tags(made, all_tags)
        names = {tag_id: f"bench/t{n + 1}" for n, tag_id in enumerate(tags.tolist())}
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=child, args=(made, tags, names, theirs))
        process.start()
        urls = await asyncio.get_running_loop().run_in_executor(None, ours.recv)
        rates, costs, sizes = Figures("samples/s"), Figures("ns CPU"), Figures("bytes/1000")
        first = 0
        for _ in range(rounds):
            for way in WAYS:
                rate, cpu, size = await one_round(ours, urls, way, list(names.values()), viewers, wanted, first, seconds)
                first += seconds
                rates.add(way, rate)
                costs.add(way, cpu * 1000)
                sizes.add(way, size * 1000)
        ours.send(None)
        process.join(20)
    title = f"{viewers} viewers, each with {wanted} of {all_tags:,} tags, {seconds} commits of a sample of every tag"
    rates.show(f"delivered and decoded; {title}", BATCH)
    costs.show("the server's CPU time for a delivered sample", BATCH)
    sizes.show("bytes on the wire for 1 000 delivered samples", BATCH)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--tags", type=int, default=100, help="of each viewer")
    parser.add_argument("--all-tags", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=200, help="commits in each round")
    given = parser.parse_args()
    with server(given.dsn) as dsn:
        asyncio.run(measure(dsn, given.all_tags, given.viewers, given.tags, given.seconds, given.rounds))


if __name__ == "__main__":
    main()
