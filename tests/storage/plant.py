"""A small history of every kind of sample, for what looks after data at rest."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import psycopg
import pyarrow as pa

from historian.ingest.writer import Writer
from historian.schema import documents
from historian.schema.catalogue import Catalogue, Kind
from historian.schema.connection import open_pool
from historian.schema.errors import PreconditionFailed
from historian.schema.ledger import Batch
from historian.schema.migrate import upgrade
from historian.schema.samples import Samples

YEAR_1970 = 0
YEAR_2100 = 4_102_444_800_000_000
START = 1_704_067_200_000_000  # 2024-01-01
MONTH = 31 * 86_400_000_000

KINDS: dict[str, Kind] = {
    "plant/decimal": "float",
    "plant/noisy": "float",
    "plant/whole": "int",
    "plant/on": "bool",
    "plant/state": "digital",
    "plant/note/ü": "text",
}
_ODD = [float("nan"), -0.0, 0.0, 5e-324, 1.7976931348623157e308, 0.1, 1e-7, 123456.789, -(2.0**53)]


def month(seed: int, number: int, tags: list[int], rows: int) -> Samples:
    """Some of every tag in that month, sorted by (tag_id, ts), at times that differ from run to run."""
    rng = np.random.default_rng([seed, number])
    parts = []
    for n, tag in enumerate(tags):
        ts = START + number * MONTH + np.sort(rng.choice(MONTH, rows, replace=False))
        value = [
            np.round(rng.normal(20, 5, rows), 2),
            rng.normal(0, 1, rows),
            rng.integers(-(2**40), 2**40, rows).astype(np.float64),
            rng.integers(0, 2, rows).astype(np.float64),
            rng.integers(0, 9, rows).astype(np.float64),
            np.full(rows, np.nan),
        ][n]
        if n == 1:
            value[: len(_ODD)] = _ODD[:rows]
        quality = rng.choice([192, 192, 192, 64, 68, 0, 24, 255], rows).astype(np.int16)
        quality[np.isnan(value)] = 0
        text = pa.nulls(rows, pa.string())
        if n == 5:
            quality[:] = 192
            text = pa.array([f"Wärme {number}/{at} \u2028'\"\\" if at % 7 else "" for at in range(rows)])
        parts.append((np.full(rows, tag, np.int32), ts, value, quality, text))
    return Samples(
        *(np.concatenate(columns) for columns in list(zip(*parts, strict=True))[:4]), pa.concat_arrays([part[4] for part in parts])
    )


def ends_of_time(tags: list[int]) -> Samples:
    """The first and the last sample that there can be."""
    return Samples(
        np.array([tags[0], tags[0]], np.int32), np.array([YEAR_1970, YEAR_2100]), np.array([-0.0, 1.25]), np.array([192, 64], np.int16)
    )


async def write(dsn: str, numbers: range, *, rows: int = 40, seed: int = 1, producer: str = "plant") -> None:
    """The schema if need be, the tags, and a batch for each of these months (of seq -1 + 1 = 0, the ends of time)."""
    upgrade(dsn)
    pool = await open_pool(dsn, size=4, name="historian tests")
    try:
        catalogue = Catalogue(pool)
        # a number that was given and taken back: ids have a gap, and start elsewhere than at 1
        await pool.execute("SELECT setval('historian.tag_tag_id_seq', greatest(41, (SELECT last_value FROM historian.tag_tag_id_seq)))")
        await catalogue.ensure(KINDS)
        tags = [tag.tag_id for tag in await catalogue.resolve(list(KINDS))]
        writer = Writer(pool)
        batches = [Batch(producer, number + 1, month(seed, number, tags, rows)) for number in numbers]
        if numbers.start == 0:
            batches.insert(0, Batch(producer, 0, ends_of_time(tags)))
        for batch in batches:
            await writer.write([batch])
        await writer.close()
        for kind in ("view", "dashboard"):
            with suppress(PreconditionFailed):
                await documents.create(pool, kind, producer, b'{"title": "W\xc3\xa4rme"}')
    finally:
        await pool.close()


_STORED = {
    "sample": "SELECT tag_id, ts, scale, quality, mantissa, float8send(value), text FROM historian.sample ORDER BY tag_id, ts",
    "tag": "SELECT tag_id, path, kind, unit, description, low, high, "
    "low_low_limit, low_limit, high_limit, high_high_limit, step, states, created_at FROM historian.tag ORDER BY tag_id",
    "snapshot": "SELECT tag_id, ts, float8send(value), quality, text FROM historian.snapshot ORDER BY tag_id",
    "document": "SELECT kind, name, content, etag, changed_at FROM historian.document ORDER BY kind, name",
    "ledger": "SELECT producer, seq, digest, samples, committed_at FROM historian.ledger ORDER BY producer, seq",
}


def stored(dsn: str) -> dict[str, list[tuple[object, ...]]]:
    """All that a database has, bit by bit."""
    with psycopg.connect(dsn) as conn:
        return {name: conn.execute(query).fetchall() for name, query in _STORED.items()}
