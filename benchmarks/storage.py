"""How small samples lie on disk, and what it costs: bytes a sample in each form, what they are made of, conversion, late writes into what was converted, rollups.

    python benchmarks/storage.py
    python benchmarks/storage.py --dsn postgresql://user@host/postgres
    python benchmarks/storage.py --dsn … --skab ~/SKAB/data

Bytes are of everything: rows, their headers, TOAST, indexes, empty room in pages. `rowstore` is as live samples are written, in groups of 10 000; `direct` as a bulk
load writes them, 100 rows of a tag at a time straight into the columnstore; `1 000` is a conversion with TimescaleDB's own batches, `converted` what the job makes
of either. `--skab` names a directory with recordings of the Skoltech Anomaly Benchmark (one `;`-separated CSV file each, `datetime` first): with them, real sensors
are measured too. Last, what rollups take and what making them costs beside the writing, which is benchmarks/rollups.py, here with fewer samples.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rollups
from common import SECOND, START, arguments, database, make_tags, plant, server

from historian.ingest.writer import Writer, newest_of_each
from historian.schema import copy_binary
from historian.schema.chunks import tend
from historian.schema.connection import Connection, connect, open_pool
from historian.schema.decimals import DecimalForm
from historian.schema.ledger import Batch
from historian.schema.samples import Samples, concat

TAGS = 250
SECONDS = 8000
DAY = 86_400 * SECOND
#: recordings are stored so many times, under other tags: with few pages, how PostgreSQL makes room would be most of the figure
SKAB_TIMES = 10
GROUPS = ("ts", "mantissa", "value", "scale", "quality")


def other_values(samples: Samples, value: np.ndarray) -> Samples:
    return Samples(samples.tag_id, samples.ts, value, samples.quality)


def jittered(samples: Samples, us: int) -> Samples:
    moved = samples.ts + np.random.default_rng(1).integers(-us, us + 1, len(samples))
    return Samples(samples.tag_id, moved, samples.value, samples.quality)


def plants() -> dict[str, Samples]:
    """What is measured, by name; in the order in which it comes."""
    walk = plant(np.arange(1, TAGS + 1, dtype=np.int32), SECONDS)
    rng = np.random.default_rng(2)
    n = len(walk)
    states = np.repeat(rng.integers(0, 4, (SECONDS // 100 + 1, TAGS)), 100, axis=0)[:SECONDS]
    return {
        "walk, 2 decimals, each second": walk,
        "the same, ±1 ms": jittered(walk, 1000),
        "the same, ±100 ms": jittered(walk, 100_000),
        "the same, 2 % not good": Samples(walk.tag_id, walk.ts, walk.value, np.where(rng.random(n) < 0.02, 64, 192).astype(np.int16)),
        "noise around 50, 2 decimals": other_values(walk, np.round(50 + rng.normal(0, 1, n), 2)),
        "noise, float64": other_values(walk, walk.value + rng.normal(0, 0.01, n)),
        "noise, float32": other_values(walk, (walk.value + rng.normal(0, 0.01, n)).astype(np.float32).astype(np.float64)),
        "counter, integer": other_values(walk, np.cumsum(rng.integers(0, 20, (SECONDS, TAGS)), axis=0).ravel().astype(np.float64)),
        "states, now and then": other_values(walk, states.ravel().astype(np.float64)),
    }


def recordings(directory: Path) -> Samples:
    """The eight sensors of all recordings, each sensor a tag."""
    parts = []
    for file in sorted(directory.rglob("*.csv")):
        rows = [line.split(";") for line in file.read_text().splitlines()[1:]]
        ts = np.array([row[0] for row in rows], "datetime64[us]").astype(np.int64)
        parts += [
            Samples(
                np.full(len(rows), n * 8 + sensor, np.int32),
                ts,
                np.array([float(row[sensor]) for row in rows]),
                np.full(len(rows), 192, np.int16),
            )
            for sensor in range(1, 9)
            for n in range(SKAB_TIMES)
        ]
    whole = concat(parts)
    return whole.take(np.argsort(whole.ts, kind="stable"))


async def copy(conn: Connection, samples: Samples, form: DecimalForm, *, direct: bool) -> None:
    samples = newest_of_each([samples])
    decimal, scale, mantissa = form.encode(samples.tag_id, samples.value)
    async with conn.transaction():
        if direct:
            await conn.execute("SET LOCAL timescaledb.enable_direct_compress_copy = on")
        if decimal.any():
            some = samples.take(decimal)
            source = copy_binary.encode_decimals(some.tag_id, scale[decimal], some.quality, some.ts, mantissa[decimal])
            await conn.copy_to_table("sample", schema_name="historian", source=source, columns=copy_binary.DECIMAL_COLUMNS, format="binary")
        if not decimal.all():
            rest = samples.take(~decimal)
            source = copy_binary.encode_floats(rest.tag_id, rest.quality, rest.ts, rest.value)
            await conn.copy_to_table("sample", schema_name="historian", source=source, columns=copy_binary.FLOAT_COLUMNS, format="binary")


async def fill(conn: Connection, samples: Samples, rows: int, *, direct: bool = False) -> None:
    form = DecimalForm()
    for n in range(0, len(samples), rows):
        await copy(conn, samples.slice(n, min(n + rows, len(samples))), form, direct=direct)


async def size(conn: Connection) -> int:
    return int(await conn.fetchval("SELECT sum(bytes)::int8 FROM historian.storage_part"))


async def empty(conn: Connection) -> None:
    await conn.execute("SELECT drop_chunks('historian.sample', newer_than => '1900-01-01'::timestamptz)")


async def composition(conn: Connection, rows: int) -> dict[str, float]:
    """Bytes a sample of the columns in the columnstore; `rest` is all else: headers, segment and metadata columns, TOAST, indexes, room in pages."""
    found = dict.fromkeys(GROUPS, 0.0)
    for table in await conn.fetch("SELECT columnstore::text AS name FROM historian.chunk WHERE columnstore IS NOT NULL"):
        sums = ", ".join(f"coalesce(sum(pg_column_size({name})), 0)::float8 AS {name}" for name in GROUPS)
        row = await conn.fetchrow(f"SELECT {sums} FROM {table['name']}")
        for name in GROUPS:
            found[name] += row[name] / rows
    return found | {"rest": await size(conn) / rows - sum(found.values())}


async def convert(conn: Connection, batch: int) -> float:
    """Seconds."""
    await conn.execute(f"SET timescaledb.compression_batch_size_limit = {batch}")
    began = time.perf_counter()
    await conn.execute("SELECT compress_chunk(chunk, recompress => true) FROM historian.chunk")
    return time.perf_counter() - began


async def sizes_on_timescale(dsn: str, sets: dict[str, Samples]) -> None:
    print(f"bytes a sample   {'rowstore':>9} {'direct':>9} {'1 000':>9} {'converted':>9}   {'rows/s':>10}   again: {'rows/s':>10}\n")
    made_of = []
    for name, samples in sets.items():
        async with database(dsn, quiet=True) as made:
            conn = await connect(made)
            rows = len(newest_of_each([samples]))
            figures = []
            await fill(conn, samples, 100 * len(np.unique(samples.tag_id)), direct=True)
            figures.append(await size(conn) / rows)
            batch = await conn.fetchval("SELECT historian.batch_rows()")
            again = await convert(conn, batch)
            await empty(conn)
            await fill(conn, samples, 10_000)
            figures.insert(0, await size(conn) / rows)
            await conn.execute("SET timescaledb.compression_batch_size_limit = 1000")
            await conn.execute("SELECT compress_chunk(chunk) FROM historian.chunk")
            figures.append(await size(conn) / rows)
            await conn.execute("SELECT decompress_chunk(chunk) FROM historian.chunk")
            took = await convert(conn, batch)
            figures.append(await size(conn) / rows)
            made_of.append((name, await composition(conn, rows)))
            print(f"  {name}\n                 " + " ".join(f"{figure:>9.2f}" for figure in figures), end="")
            print(f"   {rows / took:>10,.0f}          {rows / again:>10,.0f}", flush=True)
            await conn.close()
    print("\nconverted, what it is made of: bytes a sample\n\n  " + " " * 32 + "".join(f"{group:>10}" for group in (*GROUPS, "rest")))
    for name, parts in made_of:
        print(f"  {name:<32}" + "".join(f"{part:>10.2f}" for part in parts.values()))
    print()


async def sizes_on_plain(dsn: str, sets: dict[str, Samples]) -> None:
    print("bytes a sample, with the index\n")
    for name, samples in sets.items():
        async with database(dsn, quiet=True) as made:
            pool = await open_pool(made, size=2, name="benchmark", stateless=True)
            writer = Writer(pool)
            tags = make_tags(made, int(samples.tag_id.max()))
            samples = Samples(tags[samples.tag_id - 1], samples.ts, samples.value, samples.quality)
            for seq, first in enumerate(range(0, len(samples), 10_000)):
                await writer.write([Batch("bench", seq, samples.slice(first, min(first + 10_000, len(samples))))])
            async with pool.acquire() as conn:
                rows = await conn.fetchval("SELECT count(*) FROM historian.sample")
                print(f"  {name:<32}{await size(conn) / rows:>9.1f}", flush=True)
            await writer.close()
            await pool.close()
    print()


def late_samples(tags: np.ndarray, day: int, count: int, turn: int, *, new: bool) -> Samples:
    """`count` samples of some tags, each tag's side by side: between those that stand, or over them."""
    each = max(1, count // len(tags))
    some = tags[: count // each] if count > 1 else tags[turn * 7 % len(tags) :][:1]
    ts = day + (500 + turn * 317 + np.arange(each, dtype=np.int64)) * SECOND + (SECOND // 2 + count if new else 0)
    return Samples(
        np.tile(some, each), np.repeat(ts, len(some)), np.full(len(some) * each, 1.5 + turn), np.full(len(some) * each, 192, np.int16)
    )


async def late_writes(dsn: str, rounds: int) -> None:
    print("late writes, ms each              rowstore  converted: first, then\n")
    async with database(dsn, quiet=True) as made:
        tags = make_tags(made, TAGS)
        pool = await open_pool(made, size=4, name="benchmark", stateless=True)
        writer = Writer(pool)
        # the job leaves alone what is recent
        days = {"converted": START, "rowstore": int(time.time()) // 86_400 * DAY}
        seq = 0

        async def write(samples: Samples) -> float:
            nonlocal seq
            seq += 1
            began = time.perf_counter()
            await writer.write([Batch("bench", seq, samples)])
            return (time.perf_counter() - began) * 1000

        async with pool.acquire() as conn:
            for day in days.values():
                walk = plant(tags, 4000)
                await fill(conn, Samples(walk.tag_id, walk.ts - START + day, walk.value, walk.quality), 10_000)
            await conn.execute("VACUUM ANALYZE historian.sample")
        newest = np.full(len(tags), days["rowstore"] + DAY)
        await write(Samples(tags, newest, np.full(len(tags), 1.0), np.full(len(tags), 192, np.int16)))
        for count in (1, 100, 10_000):
            for new in (True, False):
                await asyncio.to_thread(tend, made)
                found: dict[str, list[float]] = {name: [] for name in days}
                replaced = writer.counts.replaced
                for turn in range(max(rounds, 3) * 2 - 1):
                    for name, day in days.items():
                        found[name].append(await write(late_samples(tags, day, count, turn, new=new)))
                rowstore, again = (statistics.median(found[name][1:]) for name in ("rowstore", "converted"))
                first = found["converted"][0]
                what = f"{count:>6,} {'between what stands' if new else 'corrections'}"
                print(
                    f"  {what:<32}{rowstore:>10.1f} {first:>10.1f} {again:>10.1f}   {first / rowstore:>5.1f} × {again / rowstore:>5.1f} ×",
                    end="",
                )
                print(f"   ({writer.counts.replaced - replaced:,} replaced)", flush=True)
        began = time.perf_counter()
        await asyncio.to_thread(tend, made)
        print(f"\n  all of it brought into the columnstore: {time.perf_counter() - began:.1f} s\n")
        await writer.close()
        await pool.close()


async def measure(dsn: str, skab: Path | None, only: str | None, rounds: int) -> None:
    async with database(dsn) as made:
        conn = await connect(made)
        is_plain = await conn.fetchval("SELECT to_regclass('historian.chunk') IS NULL")
        await conn.close()
    sections: dict[str, Callable[[], object]] = {}
    sets = plants()
    if skab is not None:
        sets["SKAB, eight sensors"] = recordings(skab)
    if is_plain:
        sections["sizes"] = lambda: sizes_on_plain(dsn, sets)
    else:
        sections["sizes"] = lambda: sizes_on_timescale(dsn, sets)
        sections["late"] = lambda: late_writes(dsn, rounds)
    sections["rollups"] = lambda: rollups.measure(dsn, TAGS, 2.0, rounds)
    for name, section in sections.items():
        if only in (None, name):
            await section()  # type: ignore[misc]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--skab", type=Path, help="a directory with recordings of the Skoltech Anomaly Benchmark")
    parser.add_argument("--only", choices=("sizes", "late", "rollups"), help="one of the parts")
    given = parser.parse_args()
    with server(given.dsn) as dsn:
        asyncio.run(measure(dsn, given.skab, given.only, given.rounds))


if __name__ == "__main__":
    main()
