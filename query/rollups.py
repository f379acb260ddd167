"""Rollups as buckets."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, Sequence
from typing import Literal

import numpy as np

from historian.query.buckets import NO_TIME, Buckets
from historian.query.times import format_time
from historian.schema.catalogue import Tag
from historian.schema.connection import PG_EPOCH_US, Connection
from historian.schema.samples import Int64s

Level = Literal["1m", "10m", "1h", "1d"]

#: how wide the buckets of each level are, µs; the widest last
LEVELS: dict[Level, int] = {"1m": 60_000_000, "10m": 600_000_000, "1h": 3_600_000_000, "1d": 86_400_000_000}

_TIMES = ("start", "min_ts", "max_ts", "first_ts", "last_ts", "start_ts", "end_ts")
_COUNTS = ("count", "good_count", "bad_count")
_NUMBERS = ("sum", "min", "max", "first", "last", "step_area", "linear_area", "known_s")
_COLUMNS = ("tag_id", *_COUNTS, *_TIMES, *_NUMBERS)
_KINDS = {"tag_id": ">i4", **dict.fromkeys(_COUNTS + _TIMES, ">i8"), **dict.fromkeys(_NUMBERS, ">f8")}
_ROW = np.dtype([("n", ">i2"), *((f, t) for c in _COLUMNS for f, t in ((f"{c}_size", ">i4"), (c, _KINDS[c])))])


def _sql(tags: Sequence[Tag], level: Level, start: int, end: int) -> str:
    number = "COALESCE(historian.decimal_value({0}_mantissa, scale), {0}_value, 'NaN')"
    selected = {
        "tag_id": "tag_id",
        **{c: c for c in _COUNTS},
        "start": "bucket",
        **{c: f"COALESCE({c}, '-infinity')" for c in ("min_ts", "max_ts", "first_ts", "last_ts")},
        "start_ts": "COALESCE(start_ts, first_ts)",
        "end_ts": "COALESCE(end_ts, last_ts)",
        **{c: number.format(c) for c in ("sum", "min", "max", "first", "last")},
        **{c: f"COALESCE({c}, 'NaN')" for c in ("step_area", "linear_area")},
        "known_s": "COALESCE(known_s, extract(epoch FROM COALESCE(end_ts, last_ts) - COALESCE(start_ts, first_ts))::float8)",
    }
    ids = ",".join(str(int(tag.tag_id)) for tag in tags)
    return (
        f"SELECT {', '.join(selected[c] for c in _COLUMNS)} FROM historian.rollup_{level} "  # noqa: S608
        f"WHERE tag_id = ANY('{{{ids}}}'::int4[]) AND bucket >= '{format_time(start)}' AND bucket < '{format_time(end)}' ORDER BY tag_id, bucket"
    )


async def read_rollups(conn: Connection, tags: Sequence[Tag], level: Level, start: int, end: int) -> AsyncGenerator[Buckets, None]:
    """The buckets of a level that begin in [start, end) (µs), ordered by (tag_id, start)."""
    if not tags or start >= end:
        return
    out = io.BytesIO()
    await conn.copy_from_query(_sql(tags, level, start, end), output=out, format="binary")
    rows = np.frombuffer(out.getbuffer()[19:-2], _ROW)
    if not len(rows):
        return
    columns = {c: rows[c].astype(_ROW[c].newbyteorder("=")) for c in _COLUMNS}
    for name in _TIMES:
        columns[name] = _since_1970(columns[name])
    yield Buckets(**columns)


def _since_1970(times: Int64s) -> Int64s:
    return np.where(times == NO_TIME, NO_TIME, times + PG_EPOCH_US)
