"""How fast samples come out, side by side in one run: the obvious way, and ours in process and over HTTP.

    python benchmarks/range.py
    python benchmarks/range.py --dsn postgresql://user@host/postgres

1 M samples of 1 000 tags, written as they come from a plant: by time. Every way reads all of them, one way after the other, in each round. Ratios are to the obvious
way, `fetch` from a table with UNIQUE (tag_id, ts) into a pandas DataFrame. On TimescaleDB all is measured twice: before and after the samples are converted
to the columnstore. With the `bench` extra, ADBC and ConnectorX run along: on the obvious table, and ADBC on ours too, where the database makes the value.

Then: what becomes of a live stream's latency, and of the rate at which samples are read, when 16 analysts ask at once; and when the first bytes come.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import pandas as pd
import pyarrow as pa
import uvloop
from common import SECOND, START, Figures, arguments, database, make_tags, plant, server, server_process

from historian.ingest.writer import Writer
from historian.query import formats, raw
from historian.query.range import RangeQuery, read_range
from historian.query.times import format_time
from historian.schema.catalogue import Catalogue, Tag
from historian.schema.connection import Pool, open_pool
from historian.schema.copy_binary import NUMERIC_SELECT, NumericDecoder
from historian.schema.ledger import Batch
from historian.schema.samples import arrow_schema
from historian.server.run import serving
from historian.settings import Settings

try:
    import adbc_driver_postgresql.dbapi
except ImportError:
    adbc_driver_postgresql = None
try:
    import connectorx
except ImportError:
    connectorx = None

TAGS = 1000
BATCH_ROWS = 500_000
POINTS = 2000
#: reads of one tag whose median is a latency
REPEATS = 25

#: analysts that ask at the same time
ANALYSTS = 16
#: how long a live stream is watched, alone and with them
WATCHED_S = 10.0

OBVIOUS = "fetch, pandas.DataFrame"
BARE = "bare COPY binary to a buffer"
ADBC = "ADBC to Arrow"
ADBC_OURS = "ADBC to Arrow, from our table"
CONNECTORX = "ConnectorX to Arrow"
SAMPLES = "range to Arrow, in memory"
DECIMAL, FLOAT = "decode decimals", "decode the same as floats"
FRAME = "range to pandas.DataFrame"
ARROW = "range to Arrow IPC"
MINMAX = f"range minmax, {POINTS} points a tag and day"
HTTP = "HTTP, {}"


async def load(dsn: str, rows: int) -> None:
    """The same samples into our tables and into the obvious one."""
    tags = await asyncio.to_thread(make_tags, dsn, TAGS)
    samples = plant(tags, rows // TAGS)
    pool = await open_pool(dsn, size=2)
    writer = Writer(pool)
    for seq, start in enumerate(range(0, len(samples), BATCH_ROWS)):
        await writer.write([Batch("bench", seq, samples.slice(start, start + BATCH_ROWS))])
    await writer.close()
    await pool.execute("CREATE TABLE obvious (tag_id int4, ts timestamptz, value float8, quality int2, UNIQUE (tag_id, ts))")
    # in the order of time, as a plant sends it
    await pool.execute(
        "INSERT INTO obvious SELECT tag_id, ts, COALESCE(historian.decimal_value(mantissa, scale), value), quality FROM historian.sample ORDER BY ts, tag_id"
    )
    await pool.execute("VACUUM ANALYZE historian.sample")
    await pool.execute("VACUUM ANALYZE obvious")
    await pool.close()


async def obvious(conn: asyncpg.Connection, tag_ids: list[int], start: int, end: int) -> int:
    lo, hi = (datetime.fromtimestamp(us / 1e6, UTC) for us in (start, end))
    rows = await conn.fetch(
        "SELECT tag_id, ts, value, quality FROM obvious WHERE tag_id = ANY($1) AND ts >= $2 AND ts < $3 ORDER BY tag_id, ts",
        tag_ids,
        lo,
        hi,
    )
    return len(pd.DataFrame(rows, columns=["tag_id", "ts", "value", "quality"]))


async def to_arrow(pool: Pool, query: RangeQuery) -> int:
    """As the server does it: bytes that are let go."""
    encoder = formats.ARROW.encoder(query.tags)
    size = len(encoder.start())
    async with (
        pool.acquire() as conn,
        conn.transaction(isolation="repeatable_read", readonly=True),
        aclosing(read_range(conn, query)) as chunks,
    ):
        async for chunk in chunks:
            size += len(encoder.write(chunk))
    return size + len(encoder.finish())


async def in_memory(pool: Pool, query: RangeQuery) -> int:
    """As ADBC does it: record batches that are kept."""
    schema = arrow_schema(query.tags)
    async with (
        pool.acquire() as conn,
        conn.transaction(isolation="repeatable_read", readonly=True),
        aclosing(read_range(conn, query)) as chunks,
    ):
        return pa.Table.from_batches([chunk.to_record_batch(schema) async for chunk in chunks], schema).num_rows


async def bare(pool: Pool, query: RangeQuery, select: str = NUMERIC_SELECT) -> list[bytes]:
    """The same rows as the database sends them."""
    parts: list[bytes] = []

    async def take(data: bytes) -> None:
        parts.append(data)

    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        await conn.execute(raw.PLAN)
        await conn.copy_from_query(
            raw._select([tag.tag_id for tag in query.tags], query.start, query.end, select, None), output=take, format="binary"
        )
    return parts


def decode(parts: list[bytes]) -> int:
    decoder = NumericDecoder()
    return sum(len(samples) for part in parts for samples in decoder.feed(part)) + len(decoder.finish())


def adbc(dsn: str, sql: str) -> int:
    with adbc_driver_postgresql.dbapi.connect(dsn) as conn, conn.cursor() as cursor:
        cursor.execute(sql)
        return int(cursor.fetch_arrow_table().num_rows)


async def to_frame(pool: Pool, query: RangeQuery) -> int:
    schema = arrow_schema(query.tags)
    async with (
        pool.acquire() as conn,
        conn.transaction(isolation="repeatable_read", readonly=True),
        aclosing(read_range(conn, query)) as chunks,
    ):
        batches = [chunk.to_record_batch(schema) async for chunk in chunks]
    return len(pa.Table.from_batches(batches, schema).to_pandas())


async def over_http(url: str, session: aiohttp.ClientSession, tag: str, start: int, end: int, form: str, mode: str = "raw") -> int:
    params = {"tag": tag, "start": str(start), "end": str(end), "format": form, "mode": mode, "points": str(POINTS)}
    size = 0
    async with session.get(f"{url}/v1/range", params=params) as answer:
        assert answer.status == 200, await answer.text()
        async for piece in answer.content.iter_any():
            size += len(piece)
    return size


async def ticks(url: str, tag: str, seconds: float) -> list[float]:
    """How long a sample takes from its writer to a live stream, s; twenty a second."""
    found: list[float] = []
    written: dict[float, float] = {}
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/v1/stream", protocols=["historian.v1.json"]) as ws:

        async def write(value: float) -> None:
            body = {"samples": [{"tag": tag, "ts": time.time_ns() // 1000, "value": value}]}
            async with session.post(f"{url}/v1/write", json=body) as answer:
                assert answer.status == 200, await answer.text()

        await write(0)
        await ws.send_json({"type": "subscribe", "id": 1, "tags": [tag]})
        while (await ws.receive_json())["type"] != "live":
            pass

        async def watch() -> None:
            async for message in ws:
                now = time.perf_counter()
                document = message.json()
                for sample in document.get("samples", ()):
                    if sample["value"] in written:
                        found.append(now - written[sample["value"]])

        watching = asyncio.create_task(watch())
        until = time.perf_counter() + seconds
        n = 0
        while time.perf_counter() < until:
            n += 1
            written[float(n)] = time.perf_counter()
            await write(float(n))
            await asyncio.sleep(0.05)
        watching.cancel()
    return found


def stream(url: str, tag: str, ready: Any, results: Any) -> None:
    """A process of its own, so that its clock and its loop are none of the analysts'."""
    ready.wait()
    results.put(asyncio.run(ticks(url, tag, WATCHED_S)))


def analyst(url: str, start: int, end: int, ready: Any, results: Any) -> None:
    """Asks for everything again and again; the bytes that it got."""
    # stands for another machine: it takes what processor time is left
    os.nice(19)
    got = 0

    async def ask() -> None:
        nonlocal got
        async with aiohttp.ClientSession() as session, asyncio.timeout(WATCHED_S):
            while True:
                params = {"tag": "bench/#", "start": str(start), "end": str(end), "format": "arrow"}
                async with session.get(f"{url}/v1/range", params=params) as answer:
                    assert answer.status == 200, await answer.text()
                    async for piece in answer.content.iter_any():
                        got += len(piece)

    ready.wait()
    with suppress(TimeoutError):
        asyncio.run(ask())
    results.put(got)


async def seconds(way: Callable[[], Awaitable[Any]]) -> float:
    begun = time.perf_counter()
    await way()
    return time.perf_counter() - begun


async def compare(dsn: str, rows: int, rounds: int, how: str) -> None:
    end = START + rows // TAGS * SECOND
    all_of_it, latency, decoding = Figures("samples/s"), Figures("µs"), Figures("samples/s")
    pool, conn = await open_pool(dsn, size=2), await asyncpg.connect(dsn)
    catalogue = Catalogue(pool)
    await catalogue.refresh()
    tags = catalogue.all()
    ids = [tag.tag_id for tag in tags]

    def query(some: list[Tag], mode: Any = "raw") -> RangeQuery:
        return RangeQuery(some, START, end, mode, POINTS)

    span = f"ts >= '{format_time(START)}' AND ts < '{format_time(end)}'"
    plain = f"SELECT tag_id, ts, value, quality FROM obvious WHERE {span} ORDER BY tag_id, ts"
    ours = raw._select(
        [tag.tag_id for tag in tags],
        START,
        end,
        "tag_id, ts, COALESCE(historian.decimal_value(mantissa, scale), value) AS value, quality",
        None,
    )
    # the same values, as they would come if none were a decimal
    as_floats = "tag_id, 0::int2 AS scale, quality, ts, NULL::int8 AS mantissa, historian.decimal_value(mantissa, scale) AS value"
    decimals, floats = await bare(pool, query(tags)), await bare(pool, query(tags), as_floats)
    async with serving(dsn, Settings(port=0)) as served, aiohttp.ClientSession() as session:
        ways: dict[str, Callable[[], Awaitable[Any]]] = {
            OBVIOUS: lambda: obvious(conn, ids, START, end),
            BARE: lambda: bare(pool, query(tags)),
            ARROW: lambda: to_arrow(pool, query(tags)),
            SAMPLES: lambda: in_memory(pool, query(tags)),
            FRAME: lambda: to_frame(pool, query(tags)),
        }
        if adbc_driver_postgresql is not None:
            ways[ADBC] = lambda: asyncio.to_thread(adbc, dsn, plain)
            ways[ADBC_OURS] = lambda: asyncio.to_thread(adbc, dsn, ours)
        if connectorx is not None and urlsplit(dsn).hostname:
            # it knows no Unix sockets
            ways[CONNECTORX] = lambda: asyncio.to_thread(connectorx.read_sql, dsn, plain, return_type="arrow")
        ways |= {
            MINMAX: lambda: to_arrow(pool, RangeQuery(tags, START, START + 86_400 * SECOND, "minmax", POINTS)),
            **{
                HTTP.format(form.name): (lambda name=form.name: over_http(served.url, session, "#", START, end, name))
                for form in formats.FORMATS
            },
            HTTP.format("arrow, minmax"): lambda: over_http(served.url, session, "#", START, end, "arrow", "minmax"),
        }
        for _ in range(rounds):
            for name, way in ways.items():
                all_of_it.add(name, rows / await seconds(way))
            for name, parts in ((DECIMAL, decimals), (FLOAT, floats)):
                begun = time.perf_counter()
                assert decode(parts) == rows
                decoding.add(name, rows / (time.perf_counter() - begun))
            one: dict[str, list[float]] = {OBVIOUS: [], ARROW: [], HTTP.format("arrow"): []}
            for n in range(REPEATS):
                tag = tags[n * 37 % len(tags)]
                one[OBVIOUS].append(await seconds(lambda: obvious(conn, [tag.tag_id], START, end)))  # noqa: B023
                one[ARROW].append(await seconds(lambda: to_arrow(pool, query([tag]))))  # noqa: B023
                one[HTTP.format("arrow")].append(await seconds(lambda: over_http(served.url, session, tag.path, START, end, "arrow")))  # noqa: B023
            for name, took in one.items():
                latency.add(name, statistics.median(took) * 1e6)
    await conn.close()
    await pool.close()
    all_of_it.show(f"{rows:,} samples of {TAGS:,} tags{how}; samples read a second, ratios to the obvious way", OBVIOUS)
    reference = ADBC if adbc_driver_postgresql is not None else BARE
    took = all_of_it.median(ARROW)
    spent = rows / decoding.median(DECIMAL) - rows / decoding.median(FLOAT)
    print(f"  of bare COPY     {took / all_of_it.median(BARE):>6.2f}      (0.75 wanted)")
    print(f"  of {reference:<12}  {all_of_it.median(SAMPLES) / all_of_it.median(reference):>6.2f}      (1 wanted)")
    print(f"  of fetch, pandas {took / all_of_it.median(OBVIOUS):>6.1f}      (6 wanted)")
    print(f"  the decimal form {100 * spent * took / rows:>6.1f} %    of the time (10 at most)\n")
    latency.show(f"one tag's {rows // TAGS:,} samples{how}; time taken, ratios to the obvious way", OBVIOUS)


async def first_bytes(url: str, how: str) -> None:
    """How long until the first bytes of an answer, and of one whose tag has little."""
    figures = Figures("ms")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        for _ in range(REPEATS):
            for tag in ("bench/#", "bench/t7"):
                for form in formats.FORMATS:
                    begun = time.perf_counter()
                    answer = await session.get(f"{url}/v1/range", params={"tag": tag, "start": str(START), "format": form.name})
                    assert answer.status == 200
                    await answer.content.readany()
                    figures.add(f"{tag}, {form.name}", (time.perf_counter() - begun) * 1e3)
                    answer.close()
    figures.show(f"the first bytes of an answer over HTTP{how}; ratios to Arrow of all tags", "bench/#, arrow")


def crowd(url: str, rows: int, how: str) -> None:
    """One analyst, and then sixteen, beside a live stream: each a process, as is the server."""
    end = START + rows // TAGS * SECOND
    spawn = multiprocessing.get_context("spawn")
    print(f"analysts who read {rows:,} samples as Arrow again and again, and a live stream beside them{how}\n")
    for analysts in (0, 1, ANALYSTS):
        live, answers, ready = spawn.Queue(), spawn.Queue(), spawn.Barrier(analysts + 1)
        workers = [spawn.Process(target=analyst, args=(url, START, end, ready, answers)) for _ in range(analysts)]
        workers.append(spawn.Process(target=stream, args=(url, "live/t", ready, live)))
        for worker in workers:
            worker.start()
        latencies = sorted(live.get())
        got = [answers.get() for _ in range(analysts)]
        for worker in workers:
            worker.join()
        p50, p99 = (latencies[int(len(latencies) * p)] * 1e3 for p in (0.5, 0.99))
        told = f"{sum(got) / WATCHED_S / 1e6:6.1f} MB/s, each {min(got) / 1e6:,.0f} to {max(got) / 1e6:,.0f} MB" if got else ""
        print(f"  {analysts:>2} analysts   live p50 {p50:6.1f} ms, p99 {p99:6.1f} ms   {told}")
    print()


async def convert(dsn: str) -> bool:
    """Bring all samples into the columnstore; False where there is none."""
    conn = await asyncpg.connect(dsn)
    try:
        if not await conn.fetchval("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')"):
            return False
        await conn.execute("SELECT compress_chunk(c) FROM show_chunks('historian.sample') AS c")
        await conn.execute("VACUUM ANALYZE historian.sample")
        return True
    finally:
        await conn.close()


async def measure(dsn: str, rows: int, rounds: int) -> None:
    async with database(dsn) as made:
        await load(made, rows)
        for how in ("", " in the columnstore"):
            if how and not await convert(made):
                break
            await compare(made, rows, rounds, how)
            async with server_process(made) as (url, _):
                await first_bytes(url, how)
                await asyncio.to_thread(crowd, url, rows, how)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="samples to read")
    given = parser.parse_args()
    with server(given.dsn) as dsn:
        # as the server does
        uvloop.run(measure(dsn, given.rows // TAGS * TAGS, given.rounds))


if __name__ == "__main__":
    main()
