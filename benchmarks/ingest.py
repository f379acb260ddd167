"""How fast samples get in, side by side in one run: the obvious way, a bare COPY, and ours in process, over HTTP and over WebSocket.

    python benchmarks/ingest.py
    python benchmarks/ingest.py --only bulk --dsn postgresql://user@host/postgres

Parts (all by default):

- live: the same samples of 1 000 tags in batches of 10 000 rows, each batch committed durably. The obvious way is `copy_records_to_table` into a table with
  UNIQUE (tag_id, ts); the bare COPY goes into our own sample table.
- json: decoding JSON bodies, against `orjson.loads` alone on the same bodies.
- bulk: history in batches of 500 000 rows, for tags without samples, for tags with newer ones, and by `historian import` of a file;
  against a bare COPY of the same rows in transactions of that size (with direct compress where TimescaleDB has it).
- memory: the memory of a server process after 1 M samples and after 20 M.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import asyncpg
import numpy as np
import orjson
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from common import Figures, arguments, database, make_tags, plant, server, server_process

from historian.client.ingest import IngestLink
from historian.ingest.batching import Batcher
from historian.ingest.decode.json import parse
from historian.ingest.decode.limits import DecodeLimits
from historian.ingest.path_samples import PathSamples
from historian.ingest.writer import Writer, newest_of_each
from historian.query.times import format_time
from historian.schema import copy_binary
from historian.schema.connection import connect, open_pool
from historian.schema.decimals import DecimalForm
from historian.schema.ledger import Batch
from historian.schema.partitions import Partitions
from historian.schema.samples import Samples, arrow_schema
from historian.server.run import serving
from historian.settings import Settings

BATCH_ROWS = 10_000
BULK_ROWS = 500_000
TAGS = 1000
ARROW_STREAM = "application/vnd.apache.arrow.stream"
#: batches on their way at a time, as a producer with some latency to its server would have them
IN_FLIGHT = 32

OBVIOUS = "copy_records_to_table, UNIQUE (tag_id, ts)"
BARE = "bare binary COPY, same table and index"
ALONE = "writer, one batch at a time"
OURS = f"writer, {IN_FLIGHT} batches in flight"
HTTP = "HTTP, Arrow bodies"
SOCKET = "WebSocket, Arrow frames"
JSON = "HTTP, JSON bodies"
PARTS = ("live", "json", "bulk", "memory")


def batches(samples: Samples, rows: int = BATCH_ROWS) -> list[Samples]:
    return [samples.slice(n, min(n + rows, len(samples))) for n in range(0, len(samples), rows)]


async def obvious(dsn: str, parts: list[Samples]) -> float:
    conn = await asyncpg.connect(dsn)
    await conn.execute(
        "DROP TABLE IF EXISTS obvious; CREATE TABLE obvious (tag_id int4, ts timestamptz, value float8, quality int2, UNIQUE (tag_id, ts))"
    )
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    begun = time.perf_counter()
    for part in parts:
        # what comes in is a list of tuples there: making it belongs to the way
        stamps = [epoch + timedelta(microseconds=us) for us in part.ts.tolist()]
        records = list(zip(part.tag_id.tolist(), stamps, part.value.tolist(), part.quality.tolist(), strict=True))
        await conn.copy_records_to_table("obvious", records=records, columns=["tag_id", "ts", "value", "quality"])
    took = time.perf_counter() - begun
    await conn.execute("DROP TABLE obvious")
    await conn.close()
    return took


async def bare(dsn: str, parts: list[Samples], *, direct: bool = False) -> float:
    """COPY of sorted rows into the sample table, a transaction a part, and nothing else."""
    pool = await open_pool(dsn, size=1)
    room = Partitions(pool)
    for part in parts:
        await room.make_room(part.ts)
    direct = direct and room.direct
    await pool.close()
    conn = await connect(dsn)
    await conn.execute("SET search_path = historian")
    form = DecimalForm()
    begun = time.perf_counter()
    for part in parts:
        rows = newest_of_each([part])
        _, scale, mantissa = form.encode(rows.tag_id, rows.value)
        source = copy_binary.encode_decimals(rows.tag_id, scale, rows.quality, rows.ts, mantissa)
        async with conn.transaction():
            if direct:
                await conn.execute("SET LOCAL timescaledb.enable_direct_compress_copy = on")
            await conn.copy_to_table("sample", source=source, columns=copy_binary.DECIMAL_COLUMNS, format="binary")
    took = time.perf_counter() - begun
    await conn.close()
    return took


async def ours(dsn: str, parts: list[Samples], producer: str, in_flight: int = IN_FLIGHT) -> float:
    settings = Settings()
    lanes = settings.write_lanes
    pool = await open_pool(dsn, size=lanes + 3, stateless=True)
    writer = Writer(pool)
    batcher = Batcher(writer, lanes=lanes, batch_rows=settings.batch_samples)
    batcher.start()
    numbered = iter(enumerate(parts))

    async def submit() -> None:
        for seq, part in numbered:
            await batcher.submit(Batch(producer, seq, part))

    begun = time.perf_counter()
    await asyncio.gather(*(submit() for _ in range(in_flight)))
    took = time.perf_counter() - begun
    await batcher.close()
    await writer.close()
    await pool.close()
    return took


def arrow_bodies(parts: list[Samples]) -> list[bytes]:
    schema = arrow_schema(())
    bodies = []
    for part in parts:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as stream:
            stream.write_batch(part.to_record_batch(schema))
        bodies.append(sink.getvalue().to_pybytes())
    return bodies


def json_bodies(parts: list[Samples], first_tag: int) -> list[bytes]:
    bodies = []
    for part in parts:
        rows = zip(part.tag_id.tolist(), part.ts.tolist(), part.value.tolist(), strict=True)
        bodies.append(
            orjson.dumps(
                {"samples": [{"tag": f"bench/t{tag - first_tag + 1}", "ts": format_time(ts), "value": value} for tag, ts, value in rows]}
            )
        )
    return bodies


async def post(url: str, bodies: list[bytes], content_type: str, producer: str, in_flight: int = IN_FLIGHT) -> float:
    """To a server in a process of its own; kept-alive connections."""
    numbered = iter(enumerate(bodies))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight)) as session:

        async def send() -> None:
            for seq, body in numbered:
                headers = {"Content-Type": content_type, "Historian-Producer": producer, "Historian-Seq": str(seq)}
                async with session.post(f"{url}/v1/write", data=body, headers=headers) as answer:
                    assert answer.status == 200, await answer.text()

        begun = time.perf_counter()
        await asyncio.gather(*(send() for _ in range(in_flight)))
        return time.perf_counter() - begun


async def over_http(dsn: str, bodies: list[bytes], content_type: str, producer: str) -> float:
    async with serving(dsn, Settings(port=0)) as served:
        return await post(served.url, bodies, content_type, producer)


async def over_websocket(dsn: str, parts: list[Samples], paths: list[str], first_tag: int, producer: str) -> float:
    async with serving(dsn, Settings(port=0)) as served:
        link = IngestLink(served.url, producer)
        numbered = [(n, PathSamples(paths, part.tag_id - first_tag, part.ts, part.value, part.quality)) for n, part in enumerate(parts)]
        await link.next_seq()
        todo = iter(numbered)

        async def send() -> None:
            for seq, part in todo:
                await link.deliver(seq, part)

        begun = time.perf_counter()
        await asyncio.gather(*(send() for _ in range(IN_FLIGHT)))
        took = time.perf_counter() - begun
        await link.close()
        return took


async def live(dsn: str, rows: int, rounds: int) -> None:
    """Each way begins with an empty database: an index that others have filled already would make it slower."""
    figures = Figures("samples/s")
    paths = [f"bench/t{n + 1}" for n in range(TAGS)]
    seconds = max(1, rows // TAGS)
    for run in range(rounds):
        for way in (OBVIOUS, BARE, ALONE, OURS, HTTP, SOCKET, JSON):
            async with database(dsn, quiet=run > 0 or way != OBVIOUS) as made:
                tags = make_tags(made, TAGS)
                count = rows if way != JSON else rows // 4
                parts = batches(plant(tags, count // TAGS if way == JSON else seconds))
                if way == OBVIOUS:
                    took = await obvious(made, parts)
                elif way == BARE:
                    took = await bare(made, parts)
                elif way == ALONE:
                    took = await ours(made, parts, "alone", 1)
                elif way == OURS:
                    took = await ours(made, parts, "ours")
                elif way == HTTP:
                    took = await over_http(made, arrow_bodies(parts), ARROW_STREAM, "arrow")
                elif way == SOCKET:
                    took = await over_websocket(made, parts, paths, int(tags[0]), "socket")
                else:
                    took = await over_http(made, json_bodies(parts, int(tags[0])), "application/json", "json")
                figures.add(way, count / took)
    title = f"{rows:,} samples of {TAGS:,} tags in batches of {BATCH_ROWS:,}"
    figures.show(f"{title}; ratios to the obvious way", OBVIOUS)
    figures.show("the same; ratios to a bare COPY", BARE)
    figures.show("the same; ratios to the writer in process", OURS)


def timed(work: Callable[[], object], times: int) -> float:
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        found.append(time.perf_counter() - begun)
    return sorted(found)[times // 2]


async def decoding(dsn: str, rows: int, rounds: int) -> None:
    for size in (BATCH_ROWS, 100_000):
        figures = Figures("samples/s")
        async with database(dsn, quiet=True) as made:
            tags = make_tags(made, TAGS)
            (body,) = json_bodies([plant(tags, size // TAGS)], int(tags[0]))
            for _ in range(rounds):
                figures.add("orjson.loads alone", size / timed(lambda: orjson.loads(body), 9))  # noqa: B023
                figures.add("decoder, to columns", size / timed(lambda: parse(body, DecodeLimits()), 9))  # noqa: B023
        figures.show(f"JSON bodies of {size:,} samples", "orjson.loads alone")


async def bulk(dsn: str, rows: int, rounds: int) -> None:
    """History in large transactions, for tags without samples, and for tags with newer ones."""
    new, behind, imported, reference = (
        "writer, tags without samples",
        "writer, older than what stands",
        "historian import, Parquet",
        "bare COPY",
    )
    figures = Figures("samples/s")
    seconds = max(1, rows // TAGS)
    for run in range(rounds):
        for way in (reference, new, behind, imported):
            async with database(dsn, quiet=run > 0 or way != reference) as made:
                tags = make_tags(made, TAGS)
                history = plant(tags, seconds)
                parts = batches(history, BULK_ROWS)
                if way == reference:
                    took = await bare(made, parts, direct=True)
                elif way == imported:
                    took = await by_import(made, history, tags)
                else:
                    if way == behind:
                        # a plant that runs live: an hour after the history ends
                        await ours(made, batches(plant(tags, 100, seconds + 3600)), "live")
                    took = await ours(made, parts, way, 4)
                figures.add(way, rows / took)
    figures.show(f"{rows:,} samples of history in batches of {BULK_ROWS:,}; ratios to a bare COPY in transactions of that size", reference)


async def by_import(dsn: str, history: Samples, tags: np.ndarray) -> float:
    """The command, in a process of its own, against a server in another: from its start to its end, so with half a second for the interpreter."""
    seconds = len(history) // TAGS
    values = history.value.reshape(seconds, TAGS)
    table = pa.table(
        {
            "time": pa.array(history.ts.reshape(seconds, TAGS)[:, 0], pa.timestamp("us", tz="UTC")),
            **{f"bench/t{n + 1}": values[:, n] for n in range(TAGS)},
        }
    )
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "history.parquet"
        pq.write_table(table, file)
        async with server_process(dsn) as (url, _):
            begun = time.perf_counter()
            command = (sys.executable, "-P", "-m", "historian", "import", str(file), "--url", url)
            process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
            assert await process.wait() == 0
            return time.perf_counter() - begun


async def memory(dsn: str) -> None:
    """A server process under full load."""
    said = {}
    async with database(dsn, quiet=True) as made, server_process(made) as (url, pid):
        tags = make_tags(made, TAGS)
        for millions in range(1, 21):
            bodies = arrow_bodies(batches(plant(tags, 1000, (millions - 1) * 1000)))
            await post(url, bodies, ARROW_STREAM, f"memory-{millions}")
            said[millions] = psutil.Process(pid).memory_info().rss >> 20
    print("memory of a server process (RSS) after so many million samples\n")
    for millions in (1, 2, 5, 10, 15, 20):
        print(f"  {millions:>3} M   {said[millions]:>6,} MB   {said[millions] - said[1]:>+5,} MB")
    print()


def wanted(only: str | None) -> Iterator[str]:
    for part in PARTS:
        if only is None or part in only.split(","):
            yield part


async def measure(dsn: str, rows: int, rounds: int, only: str | None) -> None:
    parts = set(wanted(only))
    if "live" in parts:
        await live(dsn, rows, rounds)
    if "json" in parts:
        await decoding(dsn, rows, rounds)
    if "bulk" in parts:
        # five times as many: the start of a process, which an import pays for once, is half a second
        await bulk(dsn, 5 * rows, rounds)
    if "memory" in parts:
        await memory(dsn)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000, help="samples of each way and round")
    parser.add_argument("--only", help=f"some of the parts, with commas: {', '.join(PARTS)}")
    given = parser.parse_args()
    with server(given.dsn) as dsn:
        os.environ.pop("HISTORIAN_DSN", None)
        asyncio.run(measure(dsn, given.rows, given.rounds, given.only))


if __name__ == "__main__":
    main()
