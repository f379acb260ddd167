"""Rollups: what making them costs beside writing the samples, how large they are, and what they save a reader.

    python benchmarks/rollups.py
    python benchmarks/rollups.py --dsn postgresql://user@host/postgres

`refreshed` is one pass over all that was written, level by level; live, each minute of it is made once, a minute later. Sizes are with indexes and all, on
TimescaleDB also once converted. `--tags` and `--hours` say how much: a sample a second of each tag.
"""

from __future__ import annotations

import asyncio
import time

import numpy as np
from common import START, Figures, arguments, database, make_tags, plant, server

from historian.ingest.writer import Writer
from historian.schema.connection import Connection, connect, open_pool
from historian.schema.ledger import Batch

LEVELS = ("1m", "10m", "1h", "1d")
_SLICE_S = 600


async def load(dsn: str, tags: np.ndarray, seconds: int) -> float:
    """Seconds that it took to write."""
    pool = await open_pool(dsn, size=6, name="benchmark", stateless=True)
    writer = Writer(pool)
    took = 0.0
    for seq, first in enumerate(range(0, seconds, _SLICE_S)):
        samples = plant(tags, min(_SLICE_S, seconds - first), first)
        began = time.perf_counter()
        await writer.write([Batch("bench", seq, samples)])
        took += time.perf_counter() - began
    await writer.close()
    await pool.close()
    return took


async def refresh(conn: Connection, level: str, is_plain: bool) -> None:
    if not is_plain:
        await conn.execute(f"CALL refresh_continuous_aggregate('historian.rollup_{level}', NULL, NULL)")
    elif level == "1m":
        # all levels, one after the other: told as one figure
        while await conn.fetchval("SELECT historian.refresh_rollups($1)", START + 400 * 86_400_000_000):
            pass


async def sizes(conn: Connection, level: str, is_plain: bool) -> tuple[float, float | None]:
    """Bytes a bucket: as made, and converted."""
    buckets = await conn.fetchval(f"SELECT count(*) FROM historian.rollup_{level}")
    if is_plain:
        made = await conn.fetchval(
            "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = $1::regclass",
            f"historian.rollup_{level}_stored",
        )
        return float(made) / buckets, None
    hypertable = await conn.fetchval(
        "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)"
        " FROM timescaledb_information.continuous_aggregates WHERE view_name = $1",
        f"rollup_{level}",
    )
    made = await conn.fetchval("SELECT hypertable_size($1::regclass)", hypertable)
    for row in await conn.fetch("SELECT show_chunks($1::regclass)::text AS chunk", hypertable):
        await conn.execute(f"CALL convert_to_columnstore('{row['chunk']}')")
    return float(made) / buckets, float(await conn.fetchval("SELECT hypertable_size($1::regclass)", hypertable)) / buckets


async def reads(conn: Connection, tags: np.ndarray, seconds: int, rounds: int) -> Figures:
    """Milliseconds for one tag's whole span: from the samples, and from each level."""
    figures = Figures("ms")
    columns = (
        "bucket, count, scale, min_mantissa, min_value, max_mantissa, max_value, first_mantissa, first_value, last_mantissa, last_value"
    )
    queries = {
        f"samples ({seconds:,})": "SELECT ts, scale, mantissa, value FROM historian.sample WHERE tag_id = {tag} AND ts >= '2026-01-01+00' ORDER BY ts"
    } | {
        f"{level} ({max(1, seconds // width):,})": f"SELECT {columns} FROM historian.rollup_{level} WHERE tag_id = {{tag}} ORDER BY bucket"
        for level, width in (("1m", 60), ("10m", 600), ("1h", 3600), ("1d", 86_400))
    }
    for n in range(rounds):
        for name, query in queries.items():
            for tag in tags[n * 5 : n * 5 + 5]:

                async def take(_: bytes) -> None:
                    pass

                began = time.perf_counter()
                await conn.copy_from_query(query.format(tag=int(tag)), output=take, format="binary")
                figures.add(name, (time.perf_counter() - began) * 1000)
    return figures


async def measure(dsn: str, tag_count: int, hours: float, rounds: int) -> None:
    seconds = int(hours * 3600)
    async with database(dsn) as made:
        tags = make_tags(made, tag_count)
        conn = await connect(made)
        is_plain = await conn.fetchval("SELECT to_regclass('historian.rollup_level') IS NOT NULL")
        samples = tag_count * seconds
        wrote = await load(made, tags, seconds)
        print(f"{samples:,} samples of {tag_count:,} tags, {hours:g} h\n")
        print(f"  {'written':<20}{samples / wrote:>12,.0f} samples/s")
        for level in LEVELS:
            began = time.perf_counter()
            await refresh(conn, level, is_plain)
            took = time.perf_counter() - began
            if not is_plain or level == "1m":
                name = "refreshed, all" if is_plain else f"refreshed, {level}"
                print(f"  {name:<20}{samples / took:>12,.0f} samples/s   {took / wrote:>6.2f} × the time of the writing")
        print()
        for level in LEVELS:
            await conn.execute(f"ANALYZE historian.{'rollup_' + level + '_stored' if is_plain else 'sample'}")
            as_made, converted = await sizes(conn, level, is_plain)
            print(f"  {level}   {as_made:>7,.1f} bytes a bucket" + (f", {converted:,.1f} converted" if converted is not None else ""))
        print()
        (await reads(conn, tags, seconds, rounds)).show("one tag's whole span, ratios to reading its samples", f"samples ({seconds:,})")
        await conn.close()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tags", type=int, default=200)
    parser.add_argument("--hours", type=float, default=6.0)
    given = parser.parse_args()
    with server(given.dsn) as dsn:
        asyncio.run(measure(dsn, given.tags, given.hours, given.rounds))


if __name__ == "__main__":
    main()
