"""Samples and rollups by SQL, for tests of a TimescaleDB: filled from numpy columns by INSERT, converted, refreshed, and read back.

Connections are psycopg's, in autocommit mode: converting and refreshing are procedures that no transaction may be around.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
from rollup_reference import LEVELS, Row

from historian.schema.decimals import POWERS, decimal_scales
from historian.schema.samples import Floats, Int16s, Int32s, Int64s

Conn = psycopg.Connection[tuple[Any, ...]]

_INSERT = """
INSERT INTO historian.sample (tag_id, scale, quality, ts, mantissa, value)
SELECT tag_id, scale, quality, timestamptz 'epoch' + ts * interval '1 microsecond', mantissa, value
FROM unnest(%s::int4[], %s::int2[], %s::int2[], %s::int8[], %s::int8[], %s::float8[]) AS new (tag_id, scale, quality, ts, mantissa, value)
"""

_DELETE = """
DELETE FROM historian.sample s USING unnest(%s::int4[], %s::int8[]) AS old (tag_id, ts)
WHERE s.tag_id = old.tag_id AND s.ts = timestamptz 'epoch' + old.ts * interval '1 microsecond'
"""

_STORED = """
SELECT tag_id, (extract(epoch FROM ts) * 1000000)::int8, COALESCE(mantissa::float8 / ('1e' || scale)::float8, value), quality
FROM historian.sample ORDER BY tag_id, ts
"""

_CHUNKS = """
SELECT format('%I.%I', chunk_schema, chunk_name), is_compressed FROM timescaledb_information.chunks
WHERE hypertable_schema = 'historian' AND hypertable_name = 'sample' ORDER BY range_start
"""


def connected(dsn: str) -> Conn:
    return psycopg.connect(dsn, autocommit=True)


def new_tags(conn: Conn, *paths: str, kind: str = "float") -> list[int]:
    rows = conn.execute(
        "INSERT INTO historian.tag (path, kind, step) SELECT path, %s, false FROM unnest(%s::text[]) AS path RETURNING tag_id",
        (kind, list(paths)),
    ).fetchall()
    tags: list[int] = [tag for (tag,) in rows]
    conn.execute("INSERT INTO historian.snapshot (tag_id) SELECT unnest(%s::int4[])", (tags,))
    return tags


def insert(conn: Conn, tag_id: Int32s, ts: Int64s, value: Floats, quality: Int16s) -> None:
    """Samples as columns of equal length, `ts` in µs since 1970, each kept as the decimal that it is, or as float8: one statement."""
    scale = decimal_scales(value)
    decimal = scale >= 0
    mantissa = np.rint(value * POWERS[np.maximum(scale, 0)])
    mantissas = [int(m) if is_decimal else None for m, is_decimal in zip(mantissa, decimal, strict=True)]
    values = [None if is_decimal else float(v) for v, is_decimal in zip(value, decimal, strict=True)]
    columns = (tag_id.tolist(), np.maximum(scale, 0).tolist(), quality.tolist(), ts.tolist(), mantissas, values)
    conn.execute(_INSERT, columns)


def insert_rows(conn: Conn, rows: list[Row]) -> None:
    insert(
        conn,
        np.array([row.tag_id for row in rows], np.int32),
        np.array([row.ts for row in rows], np.int64),
        np.array([row.value for row in rows], np.float64),
        np.array([row.quality for row in rows], np.int16),
    )


def delete(conn: Conn, keys: list[tuple[int, int]]) -> int:
    """Samples at these (tag_id, µs). Returns how many there were."""
    return conn.execute(_DELETE, ([tag for tag, _ in keys], [ts for _, ts in keys])).rowcount


def stored(conn: Conn) -> list[Row]:
    """All numeric samples, in the order of (tag_id, ts)."""
    return [Row(*row) for row in conn.execute(_STORED).fetchall()]


def chunks(conn: Conn) -> list[tuple[str, bool]]:
    """Chunks of the samples in the order of time, and whether each is converted."""
    return [(name, converted) for name, converted in conn.execute(_CHUNKS).fetchall()]


def convert(conn: Conn, chunk: str, *, again: bool = False) -> None:
    """To the columnstore. `again`: take in what was written to it since."""
    conn.execute("CALL convert_to_columnstore(%s::regclass, recompress => %s)", (chunk, again))


def refresh(conn: Conn, start: str | None = None, end: str | None = None) -> None:
    """All levels of rollups that this version of the schema has, the finest first; between two times, or all that there is."""
    for level in LEVELS:
        if conn.execute("SELECT to_regclass(%s) IS NULL", (f"historian.rollup_{level}",)).fetchone() == (True,):
            continue
        conn.execute(
            "CALL refresh_continuous_aggregate(%s::regclass, %s::timestamptz, %s::timestamptz)", (f"historian.rollup_{level}", start, end)
        )


def tend_rollups(conn: Conn) -> None:
    """What the job of the rollups does, with all levels at once."""
    conn.execute("""CALL historian.tend_rollups(NULL, '{"all": true}')""")
