"""The buckets of some tags between edges, made of as little as they can be: rollups where the edges lie on theirs, raw samples at the ends and where not.

Of what is read a bucket for each tag and pair of edges is kept, however many samples there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import numpy as np

from historian.query.buckets import NO_QUALITY, Buckets, buckets_of, concat_buckets, merge_buckets, with_qualities
from historian.query.raw import read_raw
from historian.query.rollups import WIDTHS, Level, read_rollups
from historian.schema.catalogue import Tag
from historian.schema.connection import Connection
from historian.schema.samples import UNCERTAIN, Bools, Int64s

# of so many buckets of a level a stretch is read from it; shorter ones take another query for little
_FEWEST = 4


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a span, and from which level it is read; None: from raw samples."""

    level: Level | None
    start: int
    end: int


def stretches(edges: Int64s) -> list[Stretch]:
    """What to read for buckets with these edges (µs, ascending): wherever whole buckets of a level fit in between, those of the highest that does."""
    inner = edges[1:-1]
    fitting: list[Level] = [level for level, width in WIDTHS.items() if not (inner % width).any()]
    return _cover(int(edges[0]), int(edges[-1]), fitting)


def _cover(start: int, end: int, levels: list[Level]) -> list[Stretch]:
    if start >= end:
        return []
    if not levels:
        return [Stretch(None, start, end)]
    *lower, level = levels
    width = WIDTHS[level]
    low, high = -(-start // width) * width, end // width * width
    if high - low < _FEWEST * width:
        return _cover(start, end, lower)
    return [*_cover(start, low, lower), Stretch(level, low, high), *_cover(high, end, lower)]


class _Collected:
    """Buckets as they come, in the order of (tag_id, time), kept as one for each tag and pair of edges, and a few more."""

    def __init__(self, edges: Int64s) -> None:
        self._edges = edges
        self._parts: list[Buckets] = []
        self._rows = 0
        self._merge_at = 1 << 17

    def add(self, buckets: Buckets) -> None:
        self._parts.append(merge_buckets(buckets, self._edges))
        self._rows += len(self._parts[-1])
        if self._rows >= self._merge_at:
            self._parts = [self.result()]
            self._rows = len(self._parts[0])
            self._merge_at = 2 * self._rows + (1 << 17)

    def result(self) -> Buckets:
        return merge_buckets(concat_buckets(self._parts), self._edges)


async def read_buckets(
    conn: Connection,
    tags: Sequence[Tag],
    edges: Int64s,
    *,
    areas: bool = False,
    squares: bool = False,
    lacking: Callable[[Buckets], Bools] | None = None,
) -> Buckets:
    """For each of these tags, all of text or none, a bucket [edges[i], edges[i + 1]) (µs) wherever it has samples; ordered by (tag_id, start).

    `areas`, `squares`: whether those columns are made. `lacking`: in which rows something is wanted that rollups do not know; their tags are read from raw
    samples. With squares, and for text, all are.
    """
    if not tags or len(edges) < 2:
        return Buckets.empty()
    start, end = int(edges[0]), int(edges[-1])
    if squares or tags[0].kind == "text":
        return await _read(conn, tags, edges, [Stretch(None, start, end)], areas=areas, squares=squares)
    plan = stretches(edges)
    buckets = await _read(conn, tags, edges, plan, areas=areas, squares=False)
    if lacking is None or plan == [Stretch(None, start, end)] or not (again := lacking(buckets)).any():
        return buckets
    ids = np.unique(buckets.tag_id[again])
    exact = await _read(
        conn, [tag for tag in tags if tag.tag_id in set(ids.tolist())], edges, [Stretch(None, start, end)], areas=areas, squares=False
    )
    return _in_order(concat_buckets([buckets.take(~np.isin(buckets.tag_id, ids)), exact]))


async def _read(conn: Connection, tags: Sequence[Tag], edges: Int64s, plan: Sequence[Stretch], *, areas: bool, squares: bool) -> Buckets:
    parts = []
    for stretch in plan:
        collected = _Collected(edges)
        if stretch.level is None:
            async with aclosing(read_raw(conn, tags, stretch.start, stretch.end)) as chunks:
                async for samples in chunks:
                    collected.add(buckets_of(samples, edges, areas=areas, squares=squares))
        else:
            async with aclosing(read_rollups(conn, tags, stretch.level, stretch.start, stretch.end)) as rollups:
                async for buckets in rollups:
                    collected.add(with_qualities(buckets))
        parts.append(collected.result())
    if len(parts) == 1:
        return parts[0]
    return merge_buckets(_in_order(concat_buckets(parts)), edges)


def _in_order(buckets: Buckets) -> Buckets:
    return buckets.take(np.lexsort((buckets.start_ts, buckets.tag_id)))


_QUALITIES = """
SELECT k.place, s.quality FROM unnest($1::int8[], $2::int4[], $3::timestamptz[]) AS k (place, tag_id, ts)
CROSS JOIN LATERAL (SELECT quality FROM historian.sample WHERE tag_id = k.tag_id AND ts = k.ts LIMIT 1) AS s
"""


async def with_all_qualities(conn: Connection, buckets: Buckets, edges: Int64s) -> Buckets:
    """The same, with the qualities looked up that the counts of a rollup did not tell: of buckets in which some samples are good and some uncertain.

    Only those are that can make a difference to a neighbour. All others, and those whose samples are there no more, are taken for uncertain.
    """
    if buckets.start_quality is None or buckets.end_quality is None:
        return buckets
    # a bucket that is not all good itself is no better for a good neighbour
    place = np.searchsorted(edges, buckets.start_ts, "right") - 1
    adjacent = (buckets.tag_id[1:] == buckets.tag_id[:-1]) & (place[1:] == place[:-1] + 1)
    doubtful = buckets.good_count < buckets.count
    idle_start = np.append(False, adjacent & doubtful[:-1])[: len(buckets)]
    idle_end = np.append(adjacent & doubtful[1:], False)[: len(buckets)]
    columns = []
    for quality, ts, idle in ((buckets.start_quality, buckets.start_ts, idle_start), (buckets.end_quality, buckets.end_ts, idle_end)):
        places = np.flatnonzero((quality == NO_QUALITY) & ~idle)
        found = np.where(quality == NO_QUALITY, UNCERTAIN, quality).astype(np.int16)
        if len(places):
            rows = await conn.fetch(_QUALITIES, places.tolist(), buckets.tag_id[places].tolist(), ts[places].tolist())
            found[[row["place"] for row in rows]] = [row["quality"] for row in rows]
        columns.append(found)
    return replace(buckets, start_quality=columns[0], end_quality=columns[1])
