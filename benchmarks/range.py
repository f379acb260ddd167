"""How fast samples come out, side by side in one run: the obvious way, and ours in process and over HTTP.

    python benchmarks/range.py
    python benchmarks/range.py --dsn postgresql://user@host/postgres

2 M samples of 1 000 tags, written as they come from a plant: by time. Every way reads all of them, one way after the other, in each round. Ratios are to the obvious
way, `fetch` from a table with UNIQUE (tag_id, ts) into a pandas DataFrame. On TimescaleDB all is measured twice: before and after the samples are converted
to the columnstore.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import aiohttp
import asyncpg
import pandas as pd
import pyarrow as pa
from common import SECOND, START, Figures, arguments, database, make_tags, plant, server

from historian.ingest.writer import Writer
from historian.query import formats
from historian.query.range import RangeQuery, read_range
from historian.schema.catalogue import Catalogue, Tag
from historian.schema.connection import Pool, open_pool
from historian.schema.ledger import Batch
from historian.schema.samples import arrow_schema
from historian.server.run import Server, serving
from historian.settings import Settings

TAGS = 1000
BATCH_ROWS = 500_000
POINTS = 2000
#: reads of one tag whose median is a latency
REPEATS = 25

OBVIOUS = "fetch, pandas.DataFrame"
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


async def to_frame(pool: Pool, query: RangeQuery) -> int:
    schema = arrow_schema(query.tags)
    async with (
        pool.acquire() as conn,
        conn.transaction(isolation="repeatable_read", readonly=True),
        aclosing(read_range(conn, query)) as chunks,
    ):
        batches = [chunk.to_record_batch(schema) async for chunk in chunks]
    return len(pa.Table.from_batches(batches, schema).to_pandas())


async def over_http(served: Server, session: aiohttp.ClientSession, tag: str, start: int, end: int, form: str, mode: str = "raw") -> int:
    params = {"tag": tag, "start": str(start), "end": str(end), "format": form, "mode": mode, "points": str(POINTS)}
    size = 0
    async with session.get(f"{served.url}/v1/range", params=params) as answer:
        assert answer.status == 200, await answer.text()
        async for piece in answer.content.iter_any():
            size += len(piece)
    return size


async def seconds(way: Callable[[], Awaitable[Any]]) -> float:
    begun = time.perf_counter()
    await way()
    return time.perf_counter() - begun


async def compare(dsn: str, rows: int, rounds: int, how: str) -> None:
    end = START + rows // TAGS * SECOND
    all_of_it, latency = Figures("samples/s"), Figures("µs")
    pool, conn = await open_pool(dsn, size=2), await asyncpg.connect(dsn)
    catalogue = Catalogue(pool)
    await catalogue.refresh()
    tags = catalogue.all()
    ids = [tag.tag_id for tag in tags]

    def query(some: list[Tag], mode: Any = "raw") -> RangeQuery:
        return RangeQuery(some, START, end, mode, POINTS)

    async with serving(dsn, Settings(port=0)) as served, aiohttp.ClientSession() as session:
        ways: dict[str, Callable[[], Awaitable[Any]]] = {
            OBVIOUS: lambda: obvious(conn, ids, START, end),
            FRAME: lambda: to_frame(pool, query(tags)),
            ARROW: lambda: to_arrow(pool, query(tags)),
            MINMAX: lambda: to_arrow(pool, RangeQuery(tags, START, START + 86_400 * SECOND, "minmax", POINTS)),
            **{
                HTTP.format(form.name): (lambda name=form.name: over_http(served, session, "#", START, end, name))
                for form in formats.FORMATS
            },
            HTTP.format("arrow, minmax"): lambda: over_http(served, session, "#", START, end, "arrow", "minmax"),
        }
        for _ in range(rounds):
            for name, way in ways.items():
                all_of_it.add(name, rows / await seconds(way))
            one: dict[str, list[float]] = {OBVIOUS: [], ARROW: [], HTTP.format("arrow"): []}
            for n in range(REPEATS):
                tag = tags[n * 37 % len(tags)]
                one[OBVIOUS].append(await seconds(lambda: obvious(conn, [tag.tag_id], START, end)))  # noqa: B023
                one[ARROW].append(await seconds(lambda: to_arrow(pool, query([tag]))))  # noqa: B023
                one[HTTP.format("arrow")].append(await seconds(lambda: over_http(served, session, tag.path, START, end, "arrow")))  # noqa: B023
            for name, took in one.items():
                latency.add(name, statistics.median(took) * 1e6)
    await conn.close()
    await pool.close()
    all_of_it.show(f"{rows:,} samples of {TAGS:,} tags{how}; samples read a second, ratios to the obvious way", OBVIOUS)
    latency.show(f"one tag's {rows // TAGS:,} samples{how}; time taken, ratios to the obvious way", OBVIOUS)


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
        await compare(made, rows, rounds, "")
        if await convert(made):
            await compare(made, rows, rounds, " in the columnstore")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000, help="samples to read")
    given = parser.parse_args()
    with server(given.dsn) as dsn:
        asyncio.run(measure(dsn, given.rows // TAGS * TAGS, given.rounds))


if __name__ == "__main__":
    main()
