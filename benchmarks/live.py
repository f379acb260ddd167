"""What a live sample costs on its way to many viewers, beside a server that sends JSON text to each: ratios within one run.

    python benchmarks/live.py
    python benchmarks/live.py --only viewers --seconds 10
    python benchmarks/live.py --only connect --dsn postgresql://postgres@127.0.0.1/postgres

Servers, producer and viewers are processes of their own. Ours is `historian serve` with all that it does, on disk before it acknowledges; the other keeps nothing
(live_json.py). Latency is from the acknowledged write to the decoded frame.

viewers    5 000 samples/s of 100 tags, 200 viewers of 8 tags each; then as many viewers as the JSON server serves at a p99 of 150 ms, and five times as many of ours
all-tags   20 viewers of all 100 tags: what they cost of a core beyond the ingest
ingest     50 000 samples/s of 1 000 tags, without viewers and with 50 of 100 tags each
idle       2 000 subscriptions whose tags are silent
connect    from the connection to the first frame of a backfill, 8 pens of an hour
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import aiohttp
import live_json
import live_viewers
import live_writer
import numpy as np
import psutil
import psycopg
from common import START, arguments, database, make_tags, server, server_process
from live_viewers import Crowd, Seen
from live_writer import Order, tick_of

from historian.stream.frames import ARROW, JSON

TICK_S = 0.1
PARTS = ("viewers", "all-tags", "ingest", "idle", "connect")
#: where the JSON server is held to be full
BAR_S = 0.150
#: of a crowd, those that decode; the others take as much
DECODING = 16
#: viewer processes
PROCESSES = 2


@dataclass(frozen=True, slots=True)
class Way:
    """How a viewer is served: a path below the server's URL, and a subprotocol."""

    name: str
    ours: bool
    path: str
    subprotocol: str | None


THEIRS = Way("JSON for each viewer", False, "/v1/stream", None)
PLAIN = Way("ours: Arrow", True, "/v1/stream", ARROW)
ZSTD = Way("ours: Arrow, zstd", True, "/v1/stream?compression=zstd", ARROW)
DICT = Way("ours: Arrow, zstd-dict", True, "/v1/stream?compression=zstd-dict", ARROW)
TEXT = Way("ours: JSON", True, "/v1/stream", JSON)


@dataclass(slots=True)
class Load:
    """What a run found. `core`: of the server process, 1.0 is one core; `latency` in s."""

    way: Way
    viewers: int
    rate: float
    core: float
    latency: np.ndarray
    bytes_a_sample: float
    gaps: int
    lost: int

    def p(self, percent: float) -> float:
        return float(np.percentile(self.latency, percent)) * 1000 if len(self.latency) else float("nan")

    def show(self) -> None:
        told = f"  {self.way.name:<24} {self.viewers:>5} viewers  {self.rate:>8,.0f} samples/s  {self.core * 100:>6.1f} % of a core"
        if len(self.latency):
            told += f"  p50 {self.p(50):>6.1f}  p99 {self.p(99):>6.1f} ms  {self.bytes_a_sample:>6.2f} bytes a sample"
        print(told + (f"  {self.gaps} gaps" if self.gaps else "") + (f"  {self.lost} lost" if self.lost else ""), flush=True)


class Child:
    """A process that is given orders through a pipe."""

    def __init__(self, target: Callable[..., None], *args: Any) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=target, args=(*args, theirs), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def tell(self, order: object) -> None:
        self._pipe.send(order)

    async def answer(self) -> Any:
        pipe: Connection = self._pipe
        return await asyncio.get_running_loop().run_in_executor(None, pipe.recv)

    def stop(self) -> None:
        self.tell(None)
        self._process.join(10)


@dataclass(slots=True)
class Bench:
    """The processes of a run."""

    dsn: str
    ours: tuple[str, int]
    tags: np.ndarray
    names: list[str]
    theirs: Child
    theirs_url: str
    writer: Child
    viewers: list[Child]
    seconds: float
    order: int = 0

    async def run(self, way: Way, tags: list[list[str]], *, samples: int, written: int | None = None, tick_s: float = TICK_S) -> Load:
        """A crowd that has these tags, while `samples` of each tag are written in each tick. `written`: of the tags, so many."""
        url, pid = self.ours if way.ours else (self.theirs_url, self.theirs.pid)
        parts = [tags[n::PROCESSES] for n in range(PROCESSES)]
        crowds = [(child, part) for child, part in zip(self.viewers, parts, strict=True) if part]
        for child, part in crowds:
            child.tell(Crowd(url + way.path, way.subprotocol, part, min(len(part), DECODING // PROCESSES)))
        for child, _ in crowds:
            await child.answer()
        self.order += 1
        ticks = int(self.seconds / TICK_S)
        order = Order(url, ticks, tick_s, samples, START + self.order * 100_000_000_000)
        server_process = psutil.Process(pid)
        before = server_process.cpu_times()
        self.writer.tell(order)
        acknowledged, took = await self.writer.answer()
        # what is on its way
        await asyncio.sleep(0.5)
        after = server_process.cpu_times()
        seen = []
        for child, _ in crowds:
            child.tell("enough")
            seen.append(await child.answer())
        core = (after.user + after.system - before.user - before.system) / took
        return Load(
            way,
            len(tags),
            ticks * samples * len(self.tags) / took,
            core,
            _latency(order, acknowledged, seen),
            sum(one.decoded_bytes for one in seen) / max(1, sum(one.samples for one in seen)),
            sum(one.gaps for one in seen),
            sum(one.lost for one in seen),
        )

    def choose(self, viewers: int, wanted: int) -> list[list[str]]:
        rng = np.random.default_rng(5)
        return [[self.names[n] for n in sorted(rng.choice(len(self.names), wanted, replace=False))] for _ in range(viewers)]


def _latency(order: Order, acknowledged: list[float], seen: list[Seen]) -> np.ndarray:
    """Of each frame that was decoded; the first second is for warming up."""
    warm = int(1 / TICK_S)
    found = [
        decoded - acknowledged[tick]
        for one in seen
        for newest, decoded in one.times
        if warm <= (tick := tick_of(order, newest)) < order.ticks
    ]
    return np.array(found)


async def viewers(bench: Bench, most: int) -> None:
    print("5 000 samples/s of 100 tags; each viewer has 8 of them, his own\n")
    crowd = bench.choose(200, 8)
    found = {}
    for way in (THEIRS, PLAIN, ZSTD, DICT, TEXT):
        found[way.name] = await bench.run(way, crowd, samples=5)
        found[way.name].show()
    theirs, ours = found[THEIRS.name], found[DICT.name]
    plain = found[PLAIN.name]
    sizes = [f"{theirs.bytes_a_sample / one.bytes_a_sample:.1f}" for one in (plain, ours)]
    cores = [f"{theirs.core / one.core:.1f}" for one in (plain, ours)]
    print(f"\n  bytes a sample: JSON has {sizes[0]} × Arrow, {sizes[1]} × Arrow with zstd-dict")
    print(f"  the server's CPU: JSON takes {cores[0]} × Arrow, {cores[1]} × Arrow with zstd-dict\n", flush=True)
    count, served = 200, 0
    while count <= most // 5:
        load = await bench.run(THEIRS, bench.choose(count, 8), samples=5)
        load.show()
        if load.lost or load.p(99) > BAR_S * 1000:
            break
        served, count = count, int(count * 1.4)
    if not served:
        print("  the JSON server did not serve 200 at that\n")
        return
    for way in (PLAIN, DICT):
        load = await bench.run(way, bench.choose(5 * served, 8), samples=5)
        load.show()
        verdict = "within" if load.p(99) <= BAR_S * 1000 and not load.lost else "beyond"
        print(f"  {way.name}: 5 × the {served} viewers that JSON serves, {verdict} a p99 of {BAR_S * 1000:.0f} ms\n", flush=True)


async def all_tags(bench: Bench) -> None:
    print("5 000 samples/s of 100 tags; 20 viewers of all of them\n")
    crowd = [bench.names] * 20
    for way in (THEIRS, PLAIN, DICT, TEXT):
        alone = await bench.run(way, [], samples=5)
        load = await bench.run(way, crowd, samples=5)
        load.show()
        print(f"  {'':<24} {(load.core - alone.core) * 100:.1f} % of a core beyond the {alone.core * 100:.1f} % of the ingest", flush=True)
    print()


async def ingest(bench: Bench) -> None:
    print("ingest of 1 000 tags, without viewers and with 50 of 100 tags each\n")
    crowd = bench.choose(50, 100)
    for tick_s, told in ((TICK_S, "50 000 samples/s"), (0.0, "as fast as it goes")):
        rates = []
        for _ in range(3):
            for tags in ([], crowd):
                load = await bench.run(PLAIN, tags, samples=5, tick_s=tick_s)
                rates.append(load.rate)
                load.show()
        alone, watched = statistics.median(rates[::2]), statistics.median(rates[1::2])
        print(f"  {told}: {watched / alone:.2f} of the rate without viewers\n", flush=True)


async def idle(bench: Bench, count: int) -> None:
    print(f"{count:,} subscriptions whose tags are silent, beside 5 000 samples/s of 100 tags\n")
    seconds, bench.seconds = bench.seconds, max(bench.seconds, 12.0)
    silent = [[f"bench/silent{n % 50}"] for n in range(count)]
    alone = await bench.run(PLAIN, [], samples=5)
    alone.show()
    load = await bench.run(PLAIN, silent, samples=5)
    load.show()
    bench.seconds = seconds
    print(f"\n  {(load.core - alone.core) * 100:.1f} % of a core for all of them\n", flush=True)


async def connect(bench: Bench, times: int) -> None:
    print("from the connection to the first frame of the backfill, and to the seam: 8 pens, the last hour at a sample a second\n")
    async with aiohttp.ClientSession() as session:
        for mode in ("raw", "auto"):
            firsts, seams = [], []
            for _ in range(times):
                begun = time.perf_counter()
                async with session.ws_connect(f"{bench.ours[0]}/v1/stream?compression=zstd", protocols=[ARROW], max_msg_size=0) as ws:
                    await ws.send_json({"type": "subscribe", "id": 1, "tags": bench.names[:8], "from": "-1h", "mode": mode})
                    while (await ws.receive()).type != aiohttp.WSMsgType.BINARY:
                        pass
                    firsts.append((time.perf_counter() - begun) * 1000)
                    while not ((message := await ws.receive()).type == aiohttp.WSMsgType.TEXT and '"live"' in message.data):
                        pass
                    seams.append((time.perf_counter() - begun) * 1000)
            for what, found in (("first frame", firsts), ("seam", seams)):
                print(f"  {mode:<5} {what:<11} p50 {np.percentile(found, 50):>6.1f}  p95 {np.percentile(found, 95):>6.1f} ms", flush=True)
    print()


async def _history(bench: Bench) -> None:
    """The last hour, a sample a second, of the first tags."""
    import pyarrow as pa

    from historian.schema.samples import Samples, arrow_schema

    rng = np.random.default_rng(2)
    rows = 3600 * 8
    start = time.time_ns() // 1_000_000_000 * 1_000_000 - 3_599_000_000
    samples = Samples(
        np.repeat(bench.tags[:8], 3600),
        np.tile(start + np.arange(3600, dtype=np.int64) * 1_000_000, 8),
        np.round(rng.normal(50, 5, rows), 2),
        np.full(rows, 192, np.int16),
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, arrow_schema(())) as writer:
        writer.write_batch(samples.to_record_batch(arrow_schema(())))
    async with aiohttp.ClientSession() as session:
        headers = {"Content-Type": "application/vnd.apache.arrow.stream"}
        async with session.post(f"{bench.ours[0]}/v1/write", data=sink.getvalue().to_pybytes(), headers=headers) as answer:
            assert answer.status == 200, await answer.text()


@contextmanager
def _children(count: int) -> Iterator[list[Child]]:
    children = [Child(live_viewers.run) for _ in range(count)]
    try:
        yield children
    finally:
        for child in children:
            child.stop()


async def measure(dsn: str, part: str, seconds: float, most: int, idle_count: int, times: int) -> None:
    async with database(dsn, quiet=part != PARTS[0]) as made:
        tags = make_tags(made, 1000 if part == "ingest" else 100)
        with psycopg.connect(made) as conn:
            conn.execute(
                "INSERT INTO historian.tag (path, kind, step) SELECT 'bench/silent' || n, 'float', false FROM generate_series(0, 49) AS n"
            )
            conn.execute("INSERT INTO historian.snapshot (tag_id) SELECT tag_id FROM historian.tag ON CONFLICT DO NOTHING")
        names = [f"bench/t{n + 1}" for n in range(len(tags))]
        async with server_process(made, HISTORIAN_MAX_STREAMS="100000", HISTORIAN_MAX_STREAMS_ADDRESS="100000") as ours:
            theirs = Child(live_json.run, dict(zip(tags.tolist(), names, strict=True)))
            writer = Child(live_writer.run, tags)
            with _children(PROCESSES) as crowd:
                bench = Bench(made, ours, tags, names, theirs, await theirs.answer(), writer, crowd, seconds)
                if part == "viewers":
                    await viewers(bench, most)
                elif part == "all-tags":
                    await all_tags(bench)
                elif part == "ingest":
                    await ingest(bench)
                elif part == "idle":
                    await idle(bench, idle_count)
                else:
                    await _history(bench)
                    await connect(bench, times)
            writer.stop()
            theirs.stop()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may come several times")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--most", type=int, default=6000, help="viewers at the most")
    parser.add_argument("--idle", type=int, default=2000, help="idle subscriptions")
    parser.add_argument("--times", type=int, default=100, help="connections that are timed")
    given = parser.parse_args()
    for part in given.only or PARTS:
        with server(given.dsn) as dsn:
            asyncio.run(measure(dsn, part, given.seconds, given.most, given.idle, given.times))


if __name__ == "__main__":
    main()
