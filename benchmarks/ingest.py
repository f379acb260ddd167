"""How fast samples get in, side by side in one run: the obvious way, a bare COPY, and ours in process and over HTTP.

    python benchmarks/ingest.py
    python benchmarks/ingest.py --dsn postgresql://user@host/postgres

Each way writes the same samples of 1 000 tags in batches of 10 000 rows, one after the other, each batch committed durably before the next. Ratios are to the
obvious way, `copy_records_to_table` into a table with UNIQUE (tag_id, ts).
"""

from __future__ import annotations

import asyncio
import time

import aiohttp
import asyncpg
import orjson
import pyarrow as pa
from common import Figures, arguments, database, make_tags, plant, server

from historian.ingest.writer import Writer
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
TAGS = 1000

OBVIOUS = "copy_records_to_table, UNIQUE (tag_id, ts)"
BARE = "bare binary COPY, same table and index"
OURS = "writer (ledger, snapshot, order, replacement)"
ARROW = "HTTP, Arrow bodies"
JSON = "HTTP, JSON bodies"
PARSE = "orjson.loads alone on the JSON bodies"


def batches(samples: Samples) -> list[Samples]:
    return [samples.slice(n, n + BATCH_ROWS) for n in range(0, len(samples), BATCH_ROWS)]


async def obvious(dsn: str, parts: list[Samples]) -> float:
    conn = await asyncpg.connect(dsn)
    await conn.execute(
        "DROP TABLE IF EXISTS obvious; CREATE TABLE obvious (tag_id int4, ts timestamptz, value float8, quality int2, UNIQUE (tag_id, ts))"
    )
    from datetime import UTC, datetime, timedelta

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


async def bare(dsn: str, parts: list[Samples]) -> float:
    conn = await connect(dsn)
    await conn.execute("SET search_path = historian")
    for part in parts:
        await Partitions(conn).make_room(part.ts)
    form = DecimalForm()
    begun = time.perf_counter()
    for part in parts:
        _, scale, mantissa = form.encode(part.tag_id, part.value)
        source = copy_binary.encode_decimals(part.tag_id, scale, part.quality, part.ts, mantissa)
        await conn.copy_to_table("sample", source=source, columns=copy_binary.DECIMAL_COLUMNS, format="binary")
    took = time.perf_counter() - begun
    await conn.close()
    return took


async def ours(dsn: str, parts: list[Samples], run: int) -> float:
    pool = await open_pool(dsn, size=3)
    writer = Writer(pool)
    begun = time.perf_counter()
    for seq, part in enumerate(parts):
        await writer.write([Batch(f"bench-{run}", seq, part)])
    took = time.perf_counter() - begun
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


async def over_http(dsn: str, bodies: list[bytes], content_type: str, run: str) -> float:
    """Two bodies are on their way at a time, as a producer with some latency to its server would have it."""
    async with serving(dsn, Settings(port=0)) as served, aiohttp.ClientSession() as session:
        numbered = iter(enumerate(bodies))

        async def post() -> None:
            for seq, body in numbered:
                headers = {"Content-Type": content_type, "Historian-Producer": f"bench-{run}", "Historian-Seq": str(seq)}
                async with session.post(f"{served.url}/v1/write", data=body, headers=headers) as answer:
                    assert answer.status == 200, await answer.text()

        begun = time.perf_counter()
        await asyncio.gather(post(), post())
        return time.perf_counter() - begun


async def measure(dsn: str, rows: int, rounds: int) -> None:
    figures, parsing = Figures("samples/s"), Figures("samples/s")
    for run in range(rounds):
        async with database(dsn) as made:
            tags = make_tags(made, TAGS)
            seconds = rows // TAGS
            at = 0

            def fresh(seconds: int) -> list[Samples]:
                # always newer than what stands, as live samples are
                nonlocal at
                part = plant(tags, seconds, at)  # noqa: B023
                at += seconds
                return batches(part)

            figures.add(OBVIOUS, rows / await obvious(made, fresh(seconds)))
            figures.add(BARE, rows / await bare(made, fresh(seconds)))
            figures.add(OURS, rows / await ours(made, fresh(seconds), run))
            figures.add(
                ARROW, rows / await over_http(made, arrow_bodies(fresh(seconds)), "application/vnd.apache.arrow.stream", f"arrow-{run}")
            )
            some = max(1, seconds // 4)
            bodies = json_bodies(fresh(some), int(tags[0]))
            begun = time.perf_counter()
            for body in bodies:
                orjson.loads(body)
            parsing.add(PARSE, some * TAGS / (time.perf_counter() - begun))
            rate = some * TAGS / await over_http(made, bodies, "application/json", f"json-{run}")
            parsing.add(JSON, rate)
            figures.add(JSON, rate)
    figures.show(f"{rows:,} samples of {TAGS:,} tags in batches of {BATCH_ROWS:,}; ratios to the obvious way", OBVIOUS)
    figures.show("the same figures; ratios to a bare COPY", BARE)
    parsing.show("JSON; ratios to parsing alone", PARSE)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=500_000, help="samples of each way and round")
    given = parser.parse_args()
    with server(given.dsn) as dsn:
        asyncio.run(measure(dsn, given.rows, given.rounds))


if __name__ == "__main__":
    main()
