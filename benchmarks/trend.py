"""What a trend costs by its span: one tag's 2 000 points of an hour, a day, a month, a year and ten years, and a hundred tags at once.

    python benchmarks/trend.py
    python benchmarks/trend.py --dsn postgresql://user@host/postgres

One tag has ten years: the last `--dense` of them with a sample a second, those before with one every `--sparse` seconds, which fill the same buckets of the rollups.
A hundred others have `--hours` of a sample a second. All is written by the writer; rollups are made as they are in operation, and on TimescaleDB everything is in the
columnstore, in chunks of 30 days, as suits some samples a second. Spans begin at instants of no particular kind. Every way is taken in turn in each round; p95 and
median are of all rounds.
"""

from __future__ import annotations

import statistics
import time
from contextlib import aclosing

import aiohttp
import numpy as np
import uvloop
from common import SECOND, START, arguments, database, make_tags, server

from historian.ingest.writer import Writer
from historian.query import formats
from historian.query.range import RangeQuery, read_range
from historian.schema.catalogue import Catalogue, Tag
from historian.schema.connection import Connection, Pool, connect, open_pool
from historian.schema.ledger import Batch
from historian.schema.samples import Samples
from historian.server.run import serving
from historian.settings import Settings

POINTS = 2000
MANY = 100
HOUR, DAY = 3600, 86_400
SPANS = {"1 hour": HOUR, "1 day": DAY, "1 month": 30 * DAY, "1 year": 365 * DAY, "10 years": 3650 * DAY}
_BATCH = 500_000


async def load(dsn: str, ids: np.ndarray, years: float, dense: float, sparse: int, hours: int) -> int:
    """Everything ends at START. Returns how many samples there are."""
    pool = await open_pool(dsn, size=4)
    if await pool.fetchval("SELECT to_regclass('historian.rollup_level') IS NULL"):
        await pool.execute("SELECT set_chunk_time_interval('historian.sample', INTERVAL '30 days')")
    writer = Writer(pool)
    rng = np.random.default_rng(7)
    seq = rows = 0
    level = 50.0

    async def write(samples: Samples) -> None:
        nonlocal seq, rows
        await writer.write([Batch("bench", seq, samples)])
        seq, rows = seq + 1, rows + len(samples)

    for begin, end, step in ((years * 365, dense * 365, sparse), (dense * 365, 0, 1)):
        lo, hi = START - int(begin * DAY) * SECOND, START - int(end * DAY) * SECOND
        for at in range(lo, hi, _BATCH * step * SECOND):
            ts = np.arange(at, min(at + _BATCH * step * SECOND, hi), step * SECOND, dtype=np.int64)
            walk = level + np.cumsum(rng.normal(0, 0.05, len(ts)))
            level = float(walk[-1])
            await write(Samples(np.full(len(ts), ids[0], np.int32), ts, np.round(walk, 2), np.full(len(ts), 192, np.int16)))
    for tag in ids[1:]:
        n = hours * HOUR
        walk = np.round(50 + np.cumsum(rng.normal(0, 0.05, n)), 2)
        ts = START + (np.arange(n, dtype=np.int64) - n) * SECOND
        await write(Samples(np.full(n, tag, np.int32), ts, walk, np.full(n, 192, np.int16)))
    await writer.close()
    await pool.close()
    return rows


async def settle(conn: Connection) -> None:
    """Make the rollups, and bring all into the form that it has after some days."""
    if await conn.fetchval("SELECT to_regclass('historian.rollup_level') IS NOT NULL"):
        while await conn.fetchval("SELECT historian.refresh_rollups(clock_timestamp())"):
            pass
    else:
        await conn.execute("CALL historian.tend_rollups(NULL, '{\"all\": true}')")
        for name in await conn.fetch(
            "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name) AS stored"
            " FROM timescaledb_information.continuous_aggregates UNION ALL SELECT 'historian.sample'"
        ):
            for row in await conn.fetch("SELECT show_chunks($1::regclass)::text AS chunk", name["stored"]):
                await conn.execute(f"CALL convert_to_columnstore('{row['chunk']}', if_not_columnstore => true)")
    await conn.execute("VACUUM ANALYZE")


async def in_process(pool: Pool, query: RangeQuery) -> int:
    encoder = formats.ARROW.encoder(query.tags)
    encoder.start()
    rows = 0
    async with (
        pool.acquire() as conn,
        conn.transaction(isolation="repeatable_read", readonly=True),
        aclosing(read_range(conn, query)) as chunks,
    ):
        async for chunk in chunks:
            encoder.write(chunk)
            rows += len(chunk)
    return rows


async def compare(dsn: str, rounds: int, repeats: int, spans: dict[str, int], hours: int) -> None:
    pool = await open_pool(dsn, size=2)
    catalogue = Catalogue(pool)
    await catalogue.refresh()
    tags = sorted(catalogue.all(), key=lambda tag: tag.tag_id)
    one, many = tags[:1], tags[1:]
    cases = {f"{name}, 1 tag": (one, span) for name, span in spans.items()}
    cases |= {f"{name}, {MANY} tags": (many, span) for name, span in spans.items() if span <= hours * HOUR}
    taken: dict[tuple[str, str], list[float]] = {}
    samples: dict[str, int] = {}
    rng = np.random.default_rng(1)
    async with serving(dsn, Settings(port=0)) as served, aiohttp.ClientSession() as session:

        async def over_http(some: list[Tag], start: int, end: int) -> None:
            params = [("tag", tag.path) for tag in some]
            params += [("start", str(start)), ("end", str(end)), ("mode", "auto"), ("points", str(POINTS)), ("format", "arrow")]
            async with session.get(f"{served.url}/v1/range", params=params) as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()

        for n in range(rounds + 1):
            for name, (some, span) in cases.items():
                for _ in range(repeats if len(some) == 1 else 3):
                    # no later than the data, and at no particular instant
                    end = START - int(rng.integers(0, 59 * SECOND)) - 1
                    start = end - span * SECOND
                    for way in ("in process", "HTTP"):
                        begun = time.perf_counter()
                        if way == "HTTP":
                            await over_http(some, start, end)
                        else:
                            samples[name] = await in_process(pool, RangeQuery(some, start, end, "auto", POINTS))
                        # the first round warms up
                        if n:
                            taken.setdefault((name, way), []).append(time.perf_counter() - begun)
    await pool.close()
    for way in ("in process", "HTTP"):
        base = _p95(taken["1 hour, 1 tag", way])
        print(f"{way}; ratios of p95: to one tag's hour; of {MANY} tags, to one tag over the same span\n")
        for name, (some, _) in cases.items():
            times = taken[name, way]
            other = base if len(some) == 1 else _p95(taken[name.replace(f"{MANY} tags", "1 tag"), way])
            print(
                f"  {name:<20} median {statistics.median(times) * 1000:>8.1f} ms   p95 {_p95(times) * 1000:>8.1f} ms   {_p95(times) / other:>6.2f} ×"
                f"   {samples[name]:>9,} samples"
            )
        print()


def _p95(times: list[float]) -> float:
    return float(np.percentile(times, 95))


async def measure(dsn: str, years: float, dense: float, sparse: int, hours: int, rounds: int, repeats: int) -> None:
    async with database(dsn) as made:
        ids = make_tags(made, MANY + 1)
        begun = time.perf_counter()
        rows = await load(made, ids, years, dense, sparse, hours)
        print(f"{rows:,} samples written in {time.perf_counter() - begun:,.0f} s")
        conn = await connect(made)
        begun = time.perf_counter()
        await settle(conn)
        await conn.close()
        print(f"rollups made, and converted, in {time.perf_counter() - begun:,.0f} s\n", flush=True)
        await compare(made, rounds, repeats, {name: span for name, span in SPANS.items() if span <= years * 365 * DAY}, hours)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--years", type=float, default=10.0, help="of one tag")
    parser.add_argument("--dense", type=float, default=1.0, help="of these, with a sample a second")
    parser.add_argument("--sparse", type=int, default=20, help="seconds from sample to sample in the others")
    parser.add_argument("--hours", type=int, default=25, help="of the hundred others")
    parser.add_argument("--repeats", type=int, default=10, help="of each span in each round")
    given = parser.parse_args()
    with server(given.dsn) as dsn:
        # as the server does
        uvloop.run(measure(dsn, given.years, min(given.dense, given.years), given.sparse, given.hours, given.rounds, given.repeats))


if __name__ == "__main__":
    main()
