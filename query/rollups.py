"""Rollups as readers want them: exact in the snapshot of their transaction.

A stored bucket may lag behind its samples: it has not been made yet, or something in it was written late, corrected or deleted since. historian.rollup_stale says
where, in the same snapshot. There the next lower level is read, and at last the samples themselves; so a late sample in a bucket of a day costs three buckets of six
hours, five of an hour, five of ten minutes, nine of a minute and the samples of one. The same is done where the buckets of a level have been removed, as its retention
has it.

Where the samples have been removed for good, what buckets are left stay as they are, and there is nothing below them: see Lost.

Only stored buckets are read, and no SQL aggregates: samples come by COPY and are put together in columns, at five times the rate of the database.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from historian.query.buckets import NO_TIME, Buckets, buckets_of, concat_buckets, merge_buckets
from historian.query.raw import PLAN, copy, read_raw
from historian.query.times import format_time
from historian.schema.catalogue import Tag
from historian.schema.connection import PG_EPOCH_US, Connection
from historian.schema.copy_binary import FixedRows
from historian.schema.samples import Int64s

Level = Literal["1m", "10m", "1h", "6h", "1d"]

#: width of a level's buckets (µs), the lowest level first
WIDTHS: Mapping[Level, int] = {"1m": 60_000_000, "10m": 600_000_000, "1h": 3_600_000_000, "6h": 21_600_000_000, "1d": 86_400_000_000}
LEVELS: tuple[Level, ...] = tuple(WIDTHS)

#: buckets of a chunk: while the database finds the next, these are made use of
_AT_ONCE = 2048
#: buckets that are held at once
_BUCKETS = 65_536
#: pieces of a tag's time that are told apart; of more, neighbours are read together from below
_PIECES = 100

#: what is left beside buckets of an hour is read in minutes, and not first in tens of them: to plan one more part of a query takes longer than to read some more rows
_SHORT: Mapping[Level, int] = {"10m": WIDTHS["1h"]}

#: [start, end), µs
Span = tuple[int, int]

# in one go with what is stale, so that where nothing was ever removed it costs a look at an empty table
_STALE = """
SELECT true AS stale, level, tag_id AS tag_id, NULL::int4[] AS tag_ids, ARRAY[stale_from, stale_to] AS instants FROM historian.rollup_stale($1, $2, $3)
UNION ALL
SELECT false, NULL, NULL, tag_ids, instants FROM (
    SELECT array_agg(tag_id) AS tag_ids, ARRAY[since, before, before_1m, before_10m, before_1h, before_6h, before_1d] AS instants
    FROM historian.retention_lost WHERE tag_id = ANY ($1) AND greatest(before, before_1m, before_10m, before_1h, before_6h, before_1d) > $2 GROUP BY 2
) AS l
"""
_LOST = """
SELECT array_agg(tag_id), ARRAY[since, before, before_1m, before_10m, before_1h, before_6h, before_1d]
FROM historian.retention_lost WHERE tag_id = ANY ($1) AND before > $2 AND since < $3 GROUP BY 2
"""


def _time(column: str) -> str:
    return f"COALESCE({column}, '-infinity')"


def _number(name: str) -> str:
    return f"COALESCE(historian.number({name}_mantissa, scale, {name}_value), 'NaN')"


_COLUMNS = {
    "tag_id": ("tag_id", ">i4"),
    "start": ("bucket", ">i8"),
    "count": ("count", ">i8"),
    "good_count": ("good_count", ">i8"),
    "bad_count": ("bad_count", ">i8"),
    **{name: (_number(name), ">f8") for name in ("sum", "min", "max", "first", "last")},
    **{f"{name}_ts": (_time(f"{name}_ts"), ">i8") for name in ("min", "max", "first", "last")},
    "start_ts": ("COALESCE(start_ts, first_ts)", ">i8"),
    "end_ts": ("COALESCE(end_ts, last_ts)", ">i8"),
    "step_area": ("COALESCE(step_area, 'NaN')", ">f8"),
    "linear_area": ("COALESCE(linear_area, 'NaN')", ">f8"),
    "known_s": (
        "COALESCE(known_s, date_part('epoch', COALESCE(end_ts, last_ts) - COALESCE(start_ts, first_ts)))",
        ">f8",
    ),
}
_TIMES = frozenset(name for name in _COLUMNS if name == "start" or name.endswith("_ts"))


@dataclass(frozen=True, slots=True)
class Lost:
    """What was removed of a tag: its raw samples for good, in a span; and of each level the buckets before an instant (µs). All of them are midnights (UTC)."""

    raw: Span
    before: tuple[int, ...]

    @classmethod
    def of_row(cls, instants: Sequence[int]) -> Lost:
        return cls((instants[0], max(instants[0], instants[1])), tuple(instants[2:]))

    def level_before(self, level: Level) -> int:
        return self.before[LEVELS.index(level)]

    def finest(self, start: int, end: int) -> list[tuple[Level | None, int, int]]:
        """Of a span in which the samples are lost: the lowest level that is left, from where to where, ascending; None: of none is anything."""
        found: list[tuple[Level | None, int, int]] = []
        for level in LEVELS:
            lo = max(start, self.level_before(level))
            if lo < end:
                found.append((level, lo, end))
                end = lo
        if start < end:
            found.append((None, start, end))
        return found[::-1]


_WHOLE = Lost((0, 0), tuple(-(2**63) for _ in LEVELS))

#: so new that nothing of it can have been removed: retention keeps two days at least
_NEW_US = 86_400_000_000


async def lost_of(conn: Connection, tags: Sequence[Tag], start: int, end: int) -> dict[int, Lost]:
    """The tags of which raw samples in [start, end) (µs) were removed for good, as the snapshot of the open transaction has it. For a new span it costs nothing."""
    if start > time.time_ns() // 1000 - _NEW_US:
        return {}
    rows = await conn.fetch(_LOST, [tag.tag_id for tag in tags], start, end)
    return {tag_id: Lost.of_row(instants) for tag_ids, instants in rows for tag_id in tag_ids}


@dataclass(frozen=True, slots=True)
class Stale:
    """Where stored buckets do not hold what their samples give, by level: of all tags, and of some. And what was removed, of some."""

    of_all: Mapping[Level, tuple[Span, ...]]
    of_tag: Mapping[int, Mapping[Level, tuple[Span, ...]]]
    lost: Mapping[int, Lost]

    @classmethod
    async def of(cls, conn: Connection, tags: Sequence[Tag], start: int, end: int) -> Stale:
        """As the snapshot of the open transaction has it."""
        of_all: dict[Level, list[Span]] = {level: [] for level in LEVELS}
        of_tag: dict[int, dict[Level, list[Span]]] = {}
        lost: dict[int, Lost] = {}
        for is_stale, level, tag_id, tag_ids, instants in await conn.fetch(_STALE, [tag.tag_id for tag in tags], start, end):
            if not is_stale:
                lost.update(dict.fromkeys(tag_ids, Lost.of_row(instants)))
                continue
            lo, hi = instants
            spans = of_all if tag_id is None else of_tag.setdefault(tag_id, {})
            spans.setdefault(level, []).append((max(lo, start), min(hi, end)))
        return cls(
            {level: tuple(spans) for level, spans in of_all.items()},
            {tag_id: {level: tuple(spans) for level, spans in levels.items()} for tag_id, levels in of_tag.items()},
            lost,
        )

    def pieces(self, tag_id: int | None, level: Level, start: int, end: int) -> Pieces:
        """What to read for [start, end) of a tag, or of one of which nothing is known but what holds for all: buckets of `level` wherever they are exact."""
        own = self.of_tag.get(tag_id, {}) if tag_id is not None else {}
        lost = self.lost.get(tag_id, _WHOLE) if tag_id is not None else _WHOLE
        stale: list[Span] = []
        by_level: dict[Level, list[Span]] = {}
        for at in LEVELS[: LEVELS.index(level) + 1]:
            # what is stale in a level is so in those above; but where the samples are gone, buckets stay as they are
            new = [part for span in (*self.of_all.get(at, ()), *own.get(at, ())) for part in _cut(span, [lost.raw])[0]]
            stale = _merged([*stale, *new], WIDTHS[at])
            by_level[at] = stale
        found: dict[Level, tuple[Span, ...]] = {}
        wanted: list[Span] = [(start, end)]
        for at in reversed(LEVELS[: LEVELS.index(level) + 1]):
            width = WIDTHS[at]
            whole, rest = [], []
            for lo, hi in wanted:
                inner = (-(-lo // width) * width, hi // width * width)
                # of what was removed there are no buckets, or some that a late sample had made again
                inner = (max(inner[0], min(lost.level_before(at), inner[1])), inner[1])
                if inner[0] >= inner[1] or (at != level and hi - lo < _SHORT.get(at, 0)):
                    rest.append((lo, hi))
                    continue
                rest += [span for span in ((lo, inner[0]), (inner[1], hi)) if span[0] < span[1]]
                kept, cut = _cut(inner, by_level[at])
                whole += kept
                rest += cut
            if whole:
                found[at] = tuple(sorted(whole))
            wanted = rest
        raw = tuple(_merged(wanted, 1))
        return Pieces(found, raw, _coarser(raw, lost))


def _coarser(raw: Sequence[Span], lost: Lost) -> dict[Level, tuple[Span, ...]]:
    """Where samples would be read that are lost: the whole buckets of the lowest level that is left, by level."""
    found: dict[Level, list[Span]] = {}
    for lo, hi in raw:
        lo, hi = max(lo, lost.raw[0]), min(hi, lost.raw[1])
        for level, first, past in lost.finest(lo, hi) if lo < hi else ():
            if level is not None:
                found.setdefault(level, []).append((first, past))
    return {level: tuple(_merged(spans, WIDTHS[level])) for level, spans in found.items()}


@dataclass(frozen=True, slots=True)
class Pieces:
    """Disjoint spans that cover one: stored buckets by level, and where to take the samples. `coarser`: where of those some are lost, whole buckets of levels that
    are left, which may reach beyond the span."""

    stored: Mapping[Level, tuple[Span, ...]]
    raw: tuple[Span, ...]
    coarser: Mapping[Level, tuple[Span, ...]]


def _merged(spans: Sequence[Span], width: int) -> list[Span]:
    """Ascending and apart, each grown to whole buckets of this width. Of too many, those that lie close together are made one."""
    apart = 0
    while True:
        out: list[Span] = []
        for lo, hi in sorted((lo // width * width, -(-hi // width) * width) for lo, hi in spans if lo < hi):
            if out and lo <= out[-1][1] + apart:
                out[-1] = (out[-1][0], max(out[-1][1], hi))
            else:
                out.append((lo, hi))
        if len(out) <= _PIECES or width == 1:
            return out
        apart = max(2 * apart, width)


def _cut(span: Span, stale: Sequence[Span]) -> tuple[list[Span], list[Span]]:
    """Of a span what is not stale and what is, given what is, ascending."""
    kept, cut = [], []
    at, end = span
    for lo, hi in stale:
        if hi <= at or lo >= end:
            continue
        if lo > at:
            kept.append((at, lo))
        cut.append((max(lo, at), min(hi, end)))
        at = min(hi, end)
    if at < end:
        kept.append((at, end))
    return kept, cut


async def read_rollups(conn: Connection, tags: Sequence[Tag], level: Level, start: int, end: int) -> AsyncGenerator[Buckets, None]:
    """The buckets of a level that begin in [start, end) (µs), ordered by (tag_id, start), as the samples of the snapshot give them: whatever was written, corrected or
    deleted since they were made.

    In the transaction that is open on `conn`, REPEATABLE READ, whose planner settings are changed until it ends. Memory is bounded by some 65 536 buckets and the
    samples that they are made of. Samples of whole buckets are read: `start` and `end` are moved up to where buckets begin. Raises the driver's errors: wrap it in
    `translated()`.
    """
    width = WIDTHS[level]
    start, end = -(-start // width) * width, -(-end // width) * width
    tags = sorted({tag.tag_id: tag for tag in tags}.values(), key=lambda tag: tag.tag_id)
    if start >= end or not tags:
        return
    await conn.execute(PLAN)
    stale = await Stale.of(conn, tags, start, end)
    a_tag = (end - start) // width
    together = max(1, _BUCKETS // a_tag)
    stride = min(a_tag, _BUCKETS) * width
    for n in range(0, len(tags), together):
        some = tags[n : n + together]
        for lo in range(start, end, stride):
            buckets = await _buckets(conn, some, level, stale, lo, min(lo + stride, end))
            if len(buckets):
                yield buckets


async def _buckets(conn: Connection, tags: Sequence[Tag], level: Level, stale: Stale, start: int, end: int) -> Buckets:
    width = WIDTHS[level]
    parts: list[Buckets] = []
    grouped = by_pieces(tags, level, stale, start, end)
    async for rows in stored_rows(conn, grouped, _COLUMNS):
        parts.append(_as_buckets(rows))
    for some, pieces in grouped:
        for lo, hi in pieces.raw:
            # whole buckets of the level all lie in it, or parts of them
            parts += [part async for part in _from_samples(conn, some, lo, hi, width)]
    if not parts:
        return Buckets.empty()
    found = concat_buckets(parts)
    found = found.take(np.lexsort((found.start_ts, found.tag_id)))
    begins = np.unique(found.start_ts // width) * width
    return merge_buckets(found, np.unique(np.concatenate((begins, begins + width))))


async def _from_samples(conn: Connection, tags: Sequence[Tag], start: int, end: int, width: int) -> AsyncGenerator[Buckets, None]:
    async with aclosing(read_raw(conn, tags, start, end)) as chunks:
        async for samples in chunks:
            begins = np.unique(samples.ts // width) * width
            yield buckets_of(samples, np.unique(np.concatenate((begins, begins + width))))


def by_pieces(tags: Sequence[Tag], level: Level, stale: Stale, start: int, end: int) -> list[tuple[list[Tag], Pieces]]:
    """Tags with what to read of them; those of which the same is to be read together."""
    alike: dict[Lost | None, list[Tag]] = {}
    for tag in tags:
        if tag.tag_id not in stale.of_tag:
            alike.setdefault(stale.lost.get(tag.tag_id), []).append(tag)
    groups = [(some, stale.pieces(some[0].tag_id if lost is not None else None, level, start, end)) for lost, some in alike.items()]
    return groups + [([tag], stale.pieces(tag.tag_id, level, start, end)) for tag in tags if tag.tag_id in stale.of_tag]


def remembered_pieces(tags: Sequence[Tag], lost: Mapping[int, Lost], start: int, end: int) -> list[tuple[list[Tag], Pieces]]:
    """The same, where nothing but samples of [start, end) is to be read, of the tags that have lost some."""
    alike: dict[Lost, list[Tag]] = {}
    for tag in tags:
        if tag.tag_id in lost:
            alike.setdefault(lost[tag.tag_id], []).append(tag)
    raw = ((start, end),)
    return [(some, Pieces({}, raw, _coarser(raw, what))) for what, some in alike.items()]


Rows = npt.NDArray[np.void]


async def stored_rows(
    conn: Connection, grouped: Sequence[tuple[Sequence[Tag], Pieces]], columns: Mapping[str, tuple[str, str]], where: str = ""
) -> AsyncGenerator[Rows, None]:
    """These columns (SQL and type by name; NULL in none) of the stored buckets of the pieces: by level, and in no order that could be relied on."""
    select = ", ".join(sql for sql, _ in columns.values())
    parts = []
    for level in LEVELS:
        spans = [(tag.tag_id, lo, hi) for tags, pieces in grouped for lo, hi in pieces.stored.get(level, ()) for tag in tags]
        if spans:
            parts.append(_stored_sql(level, spans, select, where))
    if parts:
        decoder = FixedRows([(name, kind) for name, (_, kind) in columns.items()], _AT_ONCE)
        async with aclosing(copy(conn, " UNION ALL ".join(parts), decoder)) as chunks:
            async for rows in chunks:
                yield rows


def _stored_sql(level: Level, spans: Sequence[tuple[int, int, int]], select: str, where: str) -> str:
    """COPY takes no parameters. What stands in the text are integers, and times made from integers."""
    lo, hi = min(span[1] for span in spans), max(span[2] for span in spans)
    # for the planner, which then passes over the partitions outside
    inside = f"bucket >= '{format_time(lo)}' AND bucket < '{format_time(hi)}'{where}"
    if all(span[1:] == (lo, hi) for span in spans):
        keys, own = f"unnest('{{{','.join(str(int(span[0])) for span in spans)}}}'::int4[]) AS k (id)", ""
    else:
        ids = ",".join(str(int(span[0])) for span in spans)
        los, his = (",".join(f'"{format_time(span[n])}"' for span in spans) for n in (1, 2))
        keys = f"unnest('{{{ids}}}'::int4[], '{{{los}}}'::timestamptz[], '{{{his}}}'::timestamptz[]) AS k (id, lo, hi)"
        own = " AND bucket >= k.lo AND bucket < k.hi"
    return (
        f"SELECT r.* FROM {keys} CROSS JOIN LATERAL ("  # noqa: S608
        f"SELECT {select} FROM historian.rollup_{level}_stored WHERE tag_id = k.id AND {inside}{own} ORDER BY bucket) AS r"
    )


def times(column: npt.NDArray[Any]) -> Int64s:
    """As they come from the database to µs since 1970, NO_TIME where there is none."""
    found = column.astype(np.int64)
    return np.where(found == NO_TIME, NO_TIME, found + PG_EPOCH_US)


def _as_buckets(rows: Rows) -> Buckets:
    columns: dict[str, Any] = {}
    for name, (_, kind) in _COLUMNS.items():
        columns[name] = times(rows[name]) if name in _TIMES else rows[name].astype(kind[1:])
    return Buckets(**columns)
