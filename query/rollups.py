"""Rollups as buckets."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Literal

import numpy as np

from historian.query.buckets import Buckets, buckets_of, concat_buckets, merge_buckets
from historian.query.raw import read_raw
from historian.schema.catalogue import Tag
from historian.schema.connection import Connection

Level = Literal["1m", "10m", "1h", "1d"]

#: width of a level's buckets (µs), the lowest level first
WIDTHS: Mapping[Level, int] = {"1m": 60_000_000, "10m": 600_000_000, "1h": 3_600_000_000, "1d": 86_400_000_000}


async def read_rollups(conn: Connection, tags: Sequence[Tag], level: Level, start: int, end: int) -> AsyncGenerator[Buckets, None]:
    """The buckets of a level that begin in [start, end) (µs), ordered by (tag_id, start): made from the samples."""
    width = WIDTHS[level]
    parts = []
    async with aclosing(read_raw(conn, tags, start, end)) as chunks:
        async for samples in chunks:
            begins = np.unique(samples.ts // width) * width
            parts.append(buckets_of(samples, np.unique(np.concatenate((begins, begins + width)))))
    found = concat_buckets(parts)
    begins = np.unique(found.start)
    yield merge_buckets(found, np.unique(np.concatenate((begins, begins + width))))
