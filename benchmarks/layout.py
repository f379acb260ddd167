"""Which index, how many rows a transaction, which chunk: writes and reads of the same samples, measured together.

    python benchmarks/layout.py
    python benchmarks/layout.py --dsn postgresql://user@host/postgres

Each line is a fresh table of the form of historian.sample. `write` is a COPY of sorted rows by one connection, `CPU s` what its backend used, which other work on
the machine disturbs less; `WAL` and `size` are bytes a row. Reads are what a chart asks for: one tag's 2 000 samples, eight tags' last 300 s, and the last minute
of all tags.
"""

from __future__ import annotations

import asyncio
import statistics
import time

import numpy as np
import psutil
from common import START, arguments, database, plant, server

from historian.ingest.writer import newest_of_each
from historian.schema import copy_binary
from historian.schema.connection import Connection, connect
from historian.schema.decimals import DecimalForm
from historian.schema.samples import Samples

TAGS = 1000
SECONDS = 2000
ROWS = TAGS * SECONDS
#: rows of a transaction: live at 1 000 samples/s, a busy producer, group commit under full load, bulk
SHAPES = (100, 10_000, 100_000, 500_000)
INDEXES = {
    "none": None,
    "brin (tag_id, ts)": "USING brin (tag_id, ts) WITH (pages_per_range = 8)",
    "btree (ts, tag_id)": "(ts, tag_id)",
    "btree (tag_id, ts)": "(tag_id, ts)",
    "the same, no dedup.": "(tag_id, ts) WITH (deduplicate_items = off)",
    "unique (tag_id, ts)": "(tag_id, ts)",
}
TABLE = """
DROP TABLE IF EXISTS trial;
CREATE TABLE trial (tag_id int4 NOT NULL, scale int2 NOT NULL, quality int2 NOT NULL, ts timestamptz NOT NULL, mantissa int8, value float8, text text)
"""


Part = tuple[Samples, np.ndarray, np.ndarray]


def prepared(samples: Samples, rows: int) -> list[Part]:
    """Of each transaction: its samples, sorted, with their scales and mantissas."""
    form, parts = DecimalForm(), []
    for n in range(0, len(samples), rows):
        part = newest_of_each([samples.slice(n, min(n + rows, len(samples)))])
        _, scale, mantissa = form.encode(part.tag_id, part.value)
        parts.append((part, scale, mantissa))
    return parts


async def wal(conn: Connection) -> int:
    return int(await conn.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'"))


async def write(conn: Connection, parts: list[Part], *, direct: bool = False) -> tuple[float, float, float]:
    """Rows/s, rows per CPU second of the backend, bytes of WAL a row."""
    backend = psutil.Process(await conn.fetchval("SELECT pg_backend_pid()"))
    before, cpu = await wal(conn), sum(backend.cpu_times()[:2])
    begun = time.perf_counter()
    for part, scale, mantissa in parts:
        source = copy_binary.encode_decimals(part.tag_id, scale, part.quality, part.ts, mantissa)
        async with conn.transaction():
            if direct:
                await conn.execute("SET LOCAL timescaledb.enable_direct_compress_copy = on")
            await conn.copy_to_table("trial", source=source, columns=copy_binary.DECIMAL_COLUMNS, format="binary")
    took = time.perf_counter() - begun
    used = max(sum(backend.cpu_times()[:2]) - cpu, 0.01)
    return ROWS / took, ROWS / used, (await wal(conn) - before) / ROWS


async def reads(conn: Connection) -> list[float]:
    """Milliseconds of each question, the median of seven."""
    end = START + SECONDS * 1_000_000
    questions = [
        ("SELECT ts, mantissa, scale FROM trial WHERE tag_id = $1 ORDER BY ts", [TAGS // 2]),
        (
            "SELECT tag_id, ts, mantissa, scale FROM trial WHERE tag_id = ANY($1::int4[]) AND ts >= $2::timestamptz ORDER BY tag_id, ts",
            [[n * 100 + 1 for n in range(8)], end - 300_000_000],
        ),
        ("SELECT count(*), sum(mantissa) FROM trial WHERE ts >= $1::timestamptz", [end - 60_000_000]),
    ]
    found = []
    for query, given in questions:
        times = []
        for _ in range(7):
            begun = time.perf_counter()
            await conn.fetch(query, *given)
            times.append((time.perf_counter() - begun) * 1000)
        found.append(statistics.median(times))
    return found


def show(name: str, rows: int, written: tuple[float, float, float], size: float, read: list[float]) -> None:
    rate, cpu, log = written
    times = " ".join(f"{ms:8.1f}" for ms in read)
    print(f"  {name:<22} {rows:>8,} {rate:>12,.0f} {cpu:>12,.0f} {log:>7.0f} {size:>7.1f}   {times}", flush=True)


HEADER = f"  {'':<22} {'rows/tx':>8} {'write/s':>12} {'/CPU s':>12} {'WAL':>7} {'size':>7}   {'1 tag':>8} {'8 tags':>8} {'minute':>8}  ms\n"


async def plain(conn: Connection, samples: Samples) -> None:
    print("index × rows of a transaction, in a plain table\n\n" + HEADER)
    for shape in SHAPES:
        parts = prepared(samples, shape)
        for name, index in INDEXES.items():
            if shape == 100 and name not in ("none", "brin (tag_id, ts)", "the same, no dedup."):
                continue
            await conn.execute(TABLE)
            if index is not None:
                await conn.execute(f"CREATE {'UNIQUE ' if name.startswith('unique') else ''}INDEX ON trial {index}")
            written = await write(conn, parts)
            # what autovacuum does by and by, before anybody reads
            await conn.execute("VACUUM ANALYZE trial")
            size = await conn.fetchval("SELECT pg_total_relation_size('trial')") / ROWS
            show(name, shape, written, size, await reads(conn))
        print()


async def timescale(conn: Connection, samples: Samples) -> None:
    print("TimescaleDB: rowstore with an index, or straight into the columnstore (one chunk, or one of 10 minutes)\n\n" + HEADER)
    for shape in SHAPES[1:]:
        parts = prepared(samples, shape)
        for name, direct, chunk in (
            ("rowstore, btree", False, "1 day"),
            ("direct compress", True, "1 day"),
            ("direct, 10 min chunks", True, "10 minutes"),
            ("rowstore, 10 min", False, "10 minutes"),
        ):
            await conn.execute(TABLE)
            await conn.execute("CREATE INDEX ON trial (tag_id, ts) WITH (deduplicate_items = off)")
            await conn.execute(f"SELECT create_hypertable('trial', by_range('ts', INTERVAL '{chunk}'), create_default_indexes => false)")
            await conn.execute(
                "ALTER TABLE trial SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'tag_id', timescaledb.orderby = 'ts')"
            )
            written = await write(conn, parts, direct=direct)
            size = await conn.fetchval("SELECT hypertable_size('trial')") / ROWS
            show(name, shape, written, size, await reads(conn))
            if name == "rowstore, btree" and shape == SHAPES[-1]:
                begun = time.perf_counter()
                await conn.execute("SELECT compress_chunk(c) FROM show_chunks('trial') c")
                took = time.perf_counter() - begun
                size = await conn.fetchval("SELECT hypertable_size('trial')") / ROWS
                show("… converted", shape, (ROWS / took, 0, 0), size, await reads(conn))
        print()


async def measure(dsn: str) -> None:
    async with database(dsn) as made:
        conn = await connect(made)
        samples = plant(np.arange(1, TAGS + 1, dtype=np.int32), SECONDS)
        await plain(conn, samples)
        if await conn.fetchval("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'"):
            await timescale(conn, samples)
        await conn.close()


def main() -> None:
    given = arguments(__doc__).parse_args()
    with server(given.dsn) as dsn:
        asyncio.run(measure(dsn))


if __name__ == "__main__":
    main()
