"""The buckets of some tags between edges, made of as little as they can be: rollups where the edges lie on theirs, raw samples at the ends and where not.

Of what is read a bucket for each tag and pair of edges is kept, however many samples there are.

Where raw samples were removed for good, what levels are left are read, wherever edges lie on the buckets of the lowest of them. Of all else there nothing is known.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from historian.query.buckets import NO_QUALITY, Buckets, buckets_of, concat_buckets, merge_buckets, with_qualities
from historian.query.raw import read_raw
from historian.query.rollups import LEVELS, WIDTHS, Level, Lost, read_rollups
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
    return _cover(int(edges[0]), int(edges[-1]), _fitting(edges))


def _fitting(edges: Int64s) -> list[Level]:
    inner = edges[1:-1]
    return [level for level, width in WIDTHS.items() if not (inner % width).any()]


def _cover(start: int, end: int, levels: list[Level], fewest: int = _FEWEST) -> list[Stretch]:
    if start >= end:
        return []
    if not levels:
        return [Stretch(None, start, end)]
    *lower, level = levels
    width = WIDTHS[level]
    low, high = -(-start // width) * width, end // width * width
    if high - low < fewest * width:
        return _cover(start, end, lower, fewest)
    return [*_cover(start, low, lower, fewest), Stretch(level, low, high), *_cover(high, end, lower, fewest)]


def stretches_left(edges: Int64s, lost: Lost, *, raw: bool) -> tuple[list[Stretch], list[tuple[int, int]]]:
    """The same for a tag of which something is lost; and the spans of which nothing is known, ascending. `raw`: levels are of no use."""
    start, end = int(edges[0]), int(edges[-1])
    lo, hi = max(start, lost.raw[0]), min(end, lost.raw[1])
    if lo >= hi:
        return [Stretch(None, start, end)] if raw else stretches(edges), []
    fitting = [] if raw else _fitting(edges)
    plan: list[Stretch] = _cover(start, lo, fitting)
    unknown: list[tuple[int, int]] = []
    # where the levels that are left are others
    marks = sorted({lo, hi, *(mark for mark in lost.before if lo < mark < hi)})
    for first, past in itertools.pairwise(marks):
        left = [level for level in LEVELS if lost.level_before(level) <= first]
        use = [level for level in left if level in fitting]
        for stretch in _cover(first, past, use if use[:1] == left[:1] else [], 1):
            if stretch.level is None:
                unknown.append((stretch.start, stretch.end))
            else:
                plan.append(stretch)
    return [*plan, *_cover(hi, end, fitting)], unknown


def unknown_buckets(tags: Sequence[Tag], edges: Int64s, lost: Mapping[int, Lost], *, raw: bool = False) -> Bools:
    """For each of these tags, and each pair of edges, whether some of the samples there were removed for good, and nothing tells of them. `raw`: as in stretches_left."""
    found = np.zeros((len(tags), len(edges) - 1), np.bool_)
    for n, tag in enumerate(tags):
        if tag.tag_id in lost:
            for start, end in stretches_left(edges, lost[tag.tag_id], raw=raw)[1]:
                found[n, np.searchsorted(edges, start, "right") - 1 : np.searchsorted(edges, end, "left")] = True
    return found.ravel()


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
    lost: Mapping[int, Lost] = MappingProxyType({}),
) -> Buckets:
    """For each of these tags, all of text or none, a bucket [edges[i], edges[i + 1]) (µs) wherever it has samples; ordered by (tag_id, start).

    `areas`, `squares`: whether those columns are made. `lacking`: in which rows something is wanted that rollups do not know; their tags are read from raw
    samples. With squares, and for text, all are. `lost`: what was removed of which tags; where that leaves nothing to read, there may be buckets, made of what there is.
    """
    if not tags or len(edges) < 2:
        return Buckets.empty()
    raw = squares or tags[0].kind == "text"
    only_raw = [Stretch(None, int(edges[0]), int(edges[-1]))]
    alike: dict[Lost | None, list[Tag]] = {}
    for tag in tags:
        alike.setdefault(None if raw else lost.get(tag.tag_id), []).append(tag)
    parts: list[Buckets] = []
    for what, some in alike.items():
        plan = only_raw if raw else stretches(edges) if what is None else stretches_left(edges, what, raw=False)[0]
        buckets = await _read(conn, some, edges, plan, areas=areas, squares=squares)
        from_samples = only_raw if what is None else [_from_samples(stretch, what) for stretch in plan]
        if lacking is not None and plan != from_samples and (again := lacking(buckets)).any():
            ids = np.unique(buckets.tag_id[again])
            exact = await _read(
                conn, [tag for tag in some if tag.tag_id in set(ids.tolist())], edges, from_samples, areas=areas, squares=False
            )
            buckets = _in_order(concat_buckets([buckets.take(~np.isin(buckets.tag_id, ids)), exact]))
        parts.append(buckets)
    return parts[0] if len(parts) == 1 else _in_order(concat_buckets(parts))


def _from_samples(stretch: Stretch, lost: Lost) -> Stretch:
    return stretch if lost.raw[0] <= stretch.start < lost.raw[1] else Stretch(None, stretch.start, stretch.end)


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
    if not parts:
        return Buckets.empty()
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
