"""Rollups as readers want them: exact in the snapshot of their transaction.

A stored bucket may lag behind its samples: it has not been made yet, or something in it was written late, corrected or deleted since. historian.rollup_stale says
where, in the same snapshot. There the next lower level is read, and at last the samples themselves; so a late sample in a bucket of a day costs 23 buckets of an
hour, five of ten minutes, nine of a minute and the samples of one.

Only stored buckets are read, and no SQL aggregates: samples come by COPY and are put together in columns, at five times the rate of the database.
"""

from __future__ import annotations

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

Level = Literal["1m", "10m", "1h", "1d"]

#: width of a level's buckets (µs), the lowest level first
WIDTHS: Mapping[Level, int] = {"1m": 60_000_000, "10m": 600_000_000, "1h": 3_600_000_000, "1d": 86_400_000_000}
LEVELS: tuple[Level, ...] = tuple(WIDTHS)

#: buckets that are held at once
_BUCKETS = 65_536
#: pieces of a tag's time that are told apart; of more, neighbours are read together from below
_PIECES = 100

#: [start, end), µs
Span = tuple[int, int]

_STALE = "SELECT level, tag_id, stale_from, stale_to FROM historian.rollup_stale($1, $2, $3)"


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
class Stale:
    """Where stored buckets do not hold what their samples give, by level: of all tags, and of some."""

    of_all: Mapping[Level, tuple[Span, ...]]
    of_tag: Mapping[int, Mapping[Level, tuple[Span, ...]]]

    @classmethod
    async def of(cls, conn: Connection, tags: Sequence[Tag], start: int, end: int) -> Stale:
        """As the snapshot of the open transaction has it."""
        of_all: dict[Level, list[Span]] = {level: [] for level in LEVELS}
        of_tag: dict[int, dict[Level, list[Span]]] = {}
        for level, tag_id, lo, hi in await conn.fetch(_STALE, [tag.tag_id for tag in tags], start, end):
            spans = of_all if tag_id is None else of_tag.setdefault(tag_id, {})
            spans.setdefault(level, []).append((max(lo, start), min(hi, end)))
        return cls(
            {level: tuple(spans) for level, spans in of_all.items()},
            {tag_id: {level: tuple(spans) for level, spans in levels.items()} for tag_id, levels in of_tag.items()},
        )

    def pieces(self, tag_id: int | None, level: Level, start: int, end: int) -> Pieces:
        """What to read for [start, end) of a tag, or of one of which nothing is known but what holds for all: buckets of `level` wherever they are exact."""
        own = self.of_tag.get(tag_id, {}) if tag_id is not None else {}
        stale: list[Span] = []
        by_level: dict[Level, list[Span]] = {}
        for at in LEVELS[: LEVELS.index(level) + 1]:
            # what is stale in a level is so in those above
            stale = _merged([*stale, *self.of_all.get(at, ()), *own.get(at, ())], WIDTHS[at])
            by_level[at] = stale
        found: dict[Level, tuple[Span, ...]] = {}
        wanted: list[Span] = [(start, end)]
        for at in reversed(LEVELS[: LEVELS.index(level) + 1]):
            width = WIDTHS[at]
            whole, rest = [], []
            for lo, hi in wanted:
                inner = (-(-lo // width) * width, hi // width * width)
                if inner[0] >= inner[1]:
                    rest.append((lo, hi))
                    continue
                rest += [span for span in ((lo, inner[0]), (inner[1], hi)) if span[0] < span[1]]
                kept, cut = _cut(inner, by_level[at])
                whole += kept
                rest += cut
            if whole:
                found[at] = tuple(sorted(whole))
            wanted = rest
        return Pieces(found, tuple(_merged(wanted, 1)))


@dataclass(frozen=True, slots=True)
class Pieces:
    """Disjoint spans that cover one: stored buckets by level, and where to take the samples."""

    stored: Mapping[Level, tuple[Span, ...]]
    raw: tuple[Span, ...]


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
    common = [tag for tag in tags if tag.tag_id not in stale.of_tag]
    groups = [(common, stale.pieces(None, level, start, end))] if common else []
    return groups + [([tag], stale.pieces(tag.tag_id, level, start, end)) for tag in tags if tag.tag_id in stale.of_tag]


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
        decoder = FixedRows([(name, kind) for name, (_, kind) in columns.items()])
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
