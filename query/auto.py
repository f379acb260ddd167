"""Auto: a trend as M4 would draw it from all samples, at a cost that does not grow with its span.

Over a short span the samples are read, and the columns are those of M4. Over a longer one a rollup is read instead: of the coarsest level whose buckets make columns
that are hardly wider. Then the first column begins where a bucket does, at or before `start`, and the columns are whole buckets wide: `points // 4` of them or somewhat
fewer. A bucket knows its first, last, smallest and greatest sample with their times: these go through M4 in place of all its samples, and the same come out. Where the
span begins or ends inside a bucket, where a bucket is not made yet, and where its samples have changed since, lower levels and samples are read instead of it.

A tag that turns out to have few samples comes from them after all: with `points` or fewer, whole.

Where the samples have been removed for good, and rollups as fine as that with them, the next coarser level that is left is shown: of each of its buckets the first, last,
smallest and greatest sample.

Bad samples are shown of each column that has any: the first and the last sample of the column, where they are bad; else one between. What a rollup does not know of them
are their values and qualities: they come with NaN and 0; and of other samples it knows whether they are good (192) or uncertain (64).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np

from historian.query.archive import joined, up_to
from historian.query.m4 import M4
from historian.query.range_query import RangeQuery
from historian.query.raw import PLAN, copy, read_numbers, read_raw
from historian.query.rollups import LEVELS, WIDTHS, Level, Pieces, Rows, Stale, by_pieces, lost_of, remembered_pieces, stored_rows, times
from historian.query.times import format_time
from historian.schema.catalogue import Tag
from historian.schema.connection import Connection
from historian.schema.copy_binary import MAX_ROWS, NUMERIC_SELECT, FixedRows, NumericDecoder
from historian.schema.decimals import POWERS
from historian.schema.samples import BAD, GOOD, UNCERTAIN, Bools, Int32s, Int64s, Samples, concat

#: columns of whole buckets are at most so much wider than they would be otherwise
_WIDER = 1.25
#: of minutes, below which there are only the samples
_FINEST = 2
#: buckets of a tag at most, for columns as fine as that
_MANY = 20_000

#: rows that are held at once; and of the first tags, for which somebody waits
_ROWS = 120_000
_FIRST_ROWS = 6_000
_TAGS = 512

#: spans over which the samples of slow tags are read even if they are more than `points`
_SHORT_US = 2 * WIDTHS["1d"]

_VALUES = ("first", "last", "min", "max")
_TIMES = {f"{name}_ts": (f"COALESCE({name}_ts, '-infinity')", ">i8") for name in _VALUES}
_KINDS = "((good_count + bad_count < count)::int << 1) | (bad_count > 0)::int"
_NO_FLOATS = " AND ".join(f"{name}_value IS NULL" for name in _VALUES)
# Numbers as they are kept, mantissa or float, and the power of ten with how many samples there are, whether some numbers are of either kind, whether some samples are
# uncertain, whether some are bad. To let the database divide would take a fifth of its time.
_COLUMNS = {
    "tag_id": ("tag_id", ">i4"),
    "counts": (
        f"CASE WHEN good_count = count AND (scale = 0 OR ({_NO_FLOATS})) THEN (count << 8) | (scale << 3)"
        f" ELSE (count << 8) | (scale::int << 3) | ((scale > 0 AND NOT ({_NO_FLOATS}))::int << 2) | {_KINDS} END",
        ">i8",
    ),
    **_TIMES,
    **{name: (f"COALESCE({name}_value, {name}_mantissa, 'NaN')", ">f8") for name in _VALUES},
}
# where both kinds of numbers are in one bucket
_NUMBERS = _COLUMNS | {
    "counts": (f"(count << 8) | {_KINDS}", ">i8"),
    **{name: (f"COALESCE(historian.number({name}_mantissa, scale, {name}_value), 'NaN')", ">f8") for name in _VALUES},
}
_BAD_COLUMNS = {
    "tag_id": ("tag_id", ">i4"),
    "bucket": ("bucket", ">i8"),
    "start_ts": ("COALESCE(start_ts, '-infinity')", ">i8"),
    "end_ts": ("COALESCE(end_ts, '-infinity')", ">i8"),
}


@dataclass(frozen=True, slots=True)
class Columns:
    """Pixel columns [origin + i × width, origin + (i + 1) × width) (µs), and what they are made of: a rollup level, or None: the samples."""

    level: Level | None
    origin: int
    width: int

    @classmethod
    def of(cls, start: int, end: int, points: int) -> Columns:
        """For a span, which is not empty, and so many points."""
        span = end - start
        width = max(-(-span // max(points // 4, 1)), 1)
        fits: list[Level] = [level for level in LEVELS if width >= WIDTHS[level]]
        fine = [level for level in fits if -(-width // WIDTHS[level]) * WIDTHS[level] <= _WIDER * width]
        if fine and (span <= _MANY * WIDTHS[fine[-1]] or fits[-1] == fine[-1]):
            level = fine[-1]
        elif fits and (fine or width >= _FINEST * WIDTHS["1m"]):
            level = fits[-1]
        else:
            return cls(None, start, width)
        bucket = WIDTHS[level]
        origin = start // bucket * bucket
        for count in (max(points // 4, 1), max(points // 4 - 1, 1)):
            width = -(-span // (count * bucket)) * bucket
            # what lies before `start` in its bucket may take a column more than there are
            if end - origin <= max(points // 4, 1) * width:
                break
        return cls(level, origin, width)


async def read_auto(conn: Connection, query: RangeQuery, tags: Sequence[Tag]) -> AsyncGenerator[Samples, None]:
    """Of numeric tags, ordered by (tag_id, ts)."""
    start, end, points = query.start, query.end, query.points
    if start >= end or not tags:
        return
    columns = Columns.of(start, end, points)
    tags = sorted({tag.tag_id: tag for tag in tags}.values(), key=lambda tag: tag.tag_id)
    if columns.level is None:
        async with aclosing(_drawn(conn, tags, query, start, end)) as chunks:
            async for chunk in chunks:
                yield chunk
        return
    await conn.execute(PLAN)
    stale = await Stale.of(conn, tags, start, end)
    a_tag = (end - start) // WIDTHS[columns.level] + 1
    together = max(1, min(_TAGS, _ROWS // a_tag, 4 * _ROWS // points))
    done, following = 0, max(1, min(together, _FIRST_ROWS // a_tag))
    while done < len(tags):
        drawing = _Drawing(conn, query, columns, tags[done : done + following])
        samples = await drawing.draw(stale)
        for piece in samples.pieces(MAX_ROWS):
            yield piece
        done, following = done + following, together


async def _drawn(conn: Connection, tags: Sequence[Tag], query: RangeQuery, lo: int, hi: int) -> AsyncGenerator[Samples, None]:
    """From the samples, which all lie in [lo, hi)."""
    reducer = M4(tags, query.start, query.end, query.points, auto=True)
    lost = await lost_of(conn, tags, lo, hi)
    if lost:
        await conn.execute(PLAN)
    left = await _left(conn, remembered_pieces(tags, lost, lo, hi), lo, hi) if lost else Samples.empty()
    async with aclosing(read_raw(conn, tags, lo, hi)) as chunks:
        async for chunk in chunks:
            n = up_to(left, int(chunk.tag_id[-1]), int(chunk.ts[-1]))
            kept = reducer.feed(joined(left.slice(0, n), chunk))
            left = left.slice(n, len(left))
            if len(kept):
                yield kept
    kept = concat([reducer.feed(left), reducer.finish()])
    for piece in kept.pieces(MAX_ROWS):
        yield piece


async def _left(conn: Connection, grouped: Sequence[tuple[list[Tag], Pieces]], lo: int, hi: int) -> Samples:
    """What whole buckets remember of samples in [lo, hi) that are lost, in order."""
    coarser = [(tags, Pieces(pieces.coarser, (), {})) for tags, pieces in grouped if pieces.coarser]
    parts: list[Samples] = []
    async for rows in stored_rows(conn, coarser, _NUMBERS):
        rows = rows[~np.isnan(rows["first"])]
        tag_id, quality = rows["tag_id"].astype(np.int32), np.where(rows["counts"] & 2, UNCERTAIN, GOOD).astype(np.int16)
        parts += [Samples(tag_id, times(rows[f"{name}_ts"]), rows[name].astype(np.float64), quality) for name in _VALUES]
    async for rows in stored_rows(conn, coarser, _BAD_COLUMNS, " AND bad_count > 0"):
        parts.append(_at_ends(rows))
    found = concat(parts)
    found = found.take((found.ts >= lo) & (found.ts < hi))
    order = np.lexsort((found.ts, found.tag_id))
    tag_id, ts = found.tag_id[order], found.ts[order]
    return found.take(order[np.append(True, (tag_id[1:] != tag_id[:-1]) | (ts[1:] != ts[:-1]))] if len(order) else order)


class _Drawing:
    """Some tags at once, from the rollups."""

    def __init__(self, conn: Connection, query: RangeQuery, columns: Columns, tags: Sequence[Tag]) -> None:
        assert columns.level is not None
        self._conn = conn
        self._query = query
        self._columns = columns
        self._level: Level = columns.level
        self._tags = tags
        self._ids = np.array([tag.tag_id for tag in tags], np.int32)

    async def draw(self, stale: Stale) -> Samples:
        query = self._query
        grouped = by_pieces(self._tags, self._level, stale, query.start, query.end)
        parts: list[Samples] = []
        count = np.zeros(len(self._ids), np.int64)
        some_bad = False
        for columns in (_COLUMNS, _NUMBERS):
            mixed = False
            async for rows in stored_rows(self._conn, grouped, columns):
                mixed |= bool((rows["counts"] & 4).any())
                if not mixed:
                    parts.append(self._candidates(rows))
                    count += self._counted(rows["tag_id"], rows["counts"] >> 8)
                    some_bad |= bool((rows["counts"] & 1).any())
            if not mixed:
                break
            parts.clear()
            count[:] = 0
        for some, pieces in grouped:
            # picked as they come: all that lies behind the last refresh may be read here
            reducer = self._reducer()
            async with aclosing(read_numbers(self._conn, some, pieces.raw)) as chunks:
                async for chunk in chunks:
                    parts.append(reducer.feed(chunk))
                    count += self._counted(chunk.tag_id, np.ones(len(chunk), np.int64))
            parts.append(reducer.finish())
        if some_bad:
            parts += await self._bad_ones(grouped, parts)
        if any(pieces.coarser for _, pieces in grouped):
            parts.append(await _left(self._conn, grouped, query.start, query.end))
        found = self._in_order(concat(parts))
        few = (count > 0) & (count <= query.points * (4 if query.end - query.start <= _SHORT_US else 1))
        few &= ~np.isin(self._ids, [tag.tag_id for some, pieces in grouped if pieces.coarser for tag in some])
        if not few.any() or not len(found):
            return self._reduced(found)
        own, many = await self._from_samples(found, few, count)
        return self._in_order(concat([own, self._reduced(many)]))

    def _counted(self, tag_id: Int32s, count: Int64s) -> Int64s:
        return np.bincount(np.searchsorted(self._ids, tag_id), count, len(self._ids)).astype(np.int64)

    def _reducer(self) -> M4:
        query, columns = self._query, self._columns
        return M4(self._tags, query.start, query.end, query.points, columns=(columns.origin, columns.width))

    def _reduced(self, samples: Samples) -> Samples:
        reducer = self._reducer()
        return concat([reducer.feed(samples), reducer.finish()])

    def _in_order(self, samples: Samples) -> Samples:
        """By (tag_id, ts), each once."""
        # times are below 2**52, until 2112
        key = (np.searchsorted(self._ids, samples.tag_id) << 52) | samples.ts
        order = np.argsort(key, kind="stable")
        key = key[order]
        return samples.take(order[np.concatenate(([True], key[1:] != key[:-1]))] if len(key) else order)

    async def _from_samples(self, found: Samples, few: Bools, count: Int64s) -> tuple[Samples, Samples]:
        """Drawn from their samples: the tags that have few of them. And of `found` what is left, of the others: also of those whose samples are gone, while rollups
        remember them."""
        place = np.searchsorted(self._ids, found.tag_id)
        theirs = found.ts[few[place]]
        tags = [tag for tag, is_few in zip(self._tags, few.tolist(), strict=True) if is_few]
        reducer = M4(tags, self._query.start, self._query.end, self._query.points, auto=True)
        parts: list[Samples] = []
        seen = np.zeros(len(self._ids), np.int64)
        async with aclosing(read_raw(self._conn, tags, int(theirs.min()), int(theirs.max()) + 1)) as chunks:
            async for chunk in chunks:
                seen += self._counted(chunk.tag_id, np.ones(len(chunk), np.int64))
                parts.append(reducer.feed(chunk))
        own = concat([*parts, reducer.finish()])
        few = few & (seen >= count)
        return own.take(few[np.searchsorted(self._ids, own.tag_id)]), found.take(~few[place])

    def _candidates(self, rows: Rows) -> Samples:
        """Of buckets, each in one column: of each column, or of each run of its buckets, the first, last, smallest and greatest sample."""
        known = ~np.isnan(rows["first"])
        if not known.all():
            rows = rows[known]
        n = len(rows)
        if not n:
            return Samples.empty()
        tag_id, first_ts = rows["tag_id"].astype(np.int32), times(rows["first_ts"])
        column = self._column(tag_id, first_ts)
        power = POWERS[rows["counts"] >> 3 & 31]
        # rows of several levels come one level after the other
        starts = np.flatnonzero(np.concatenate(([True], (column[1:] != column[:-1]) | (first_ts[1:] < first_ts[:-1]))))
        lengths = np.diff(np.append(starts, n))
        picked = {"first": starts, "last": starts + lengths - 1}
        for name, reduceat in (("min", np.minimum.reduceat), ("max", np.maximum.reduceat)):
            value = rows[name] / power
            at = np.flatnonzero(value == np.repeat(reduceat(value, starts), lengths))
            run = np.searchsorted(starts, at, "right")
            picked[name] = at[np.concatenate(([True], run[1:] != run[:-1]))]
        order = np.concatenate(list(picked.values()))
        return Samples(
            tag_id[order],
            np.concatenate([times(rows[f"{name}_ts"][at]) for name, at in picked.items()]),
            np.concatenate([(rows[name][at] / power[at]).astype(np.float64) for name, at in picked.items()]),
            np.where(rows["counts"][order] & 2, UNCERTAIN, GOOD).astype(np.int16),
        )

    # -- bad samples

    async def _bad_ones(self, grouped: Sequence[tuple[list[Tag], Pieces]], parts: Sequence[Samples]) -> list[Samples]:
        """Bad samples at the ends of buckets; and one of each column that has none of those."""
        found = [part.take(part.quality < UNCERTAIN) for part in parts]
        rows = [rows async for rows in stored_rows(self._conn, grouped, _BAD_COLUMNS, " AND bad_count > 0")]
        if not rows:
            return []
        bad = np.concatenate(rows)
        bad = bad[np.lexsort((bad["bucket"], bad["tag_id"]))]
        made = [_at_ends(bad)]
        shown = np.concatenate([self._column(part.tag_id, part.ts) for part in (*found, *made)])
        column = self._column(bad["tag_id"].astype(np.int32), times(bad["bucket"]))
        first = np.concatenate(([True], column[1:] != column[:-1]))
        hidden = bad[first & ~np.isin(column, shown)]
        # in buckets of so many µs, of which the lower levels or the samples are not in the database
        archived: list[tuple[int, Rows]] = []
        for level in reversed(LEVELS[: LEVELS.index(self._level)]):
            if not len(hidden):
                break
            lower = await self._first_bad(level, hidden, _upper(level))
            archived.append((_upper(level), self._missing(hidden, lower["tag_id"], times(lower["bucket"]), _upper(level))))
            made.append(_at_ends(lower))
            hidden = lower[(times(lower["start_ts"]) < 0) & (times(lower["end_ts"]) < 0)]
        if len(hidden):
            made.append(await self._first_bad_samples(hidden))
            archived.append((WIDTHS["1m"], self._missing(hidden, made[-1].tag_id, made[-1].ts, WIDTHS["1m"])))
        for width, missing in archived:
            made += [await self._first_bad_read(width, missing, lo) for lo in np.unique(times(missing["bucket"])).tolist()]
        return made

    def _missing(self, within: Rows, tag_id: Int32s, ts: Int64s, width: int) -> Rows:
        """Those of the buckets, which are `width` wide, in which none of these times lie."""
        theirs = (np.searchsorted(self._ids, within["tag_id"]) << 52) | times(within["bucket"])
        return within[~np.isin(theirs, (np.searchsorted(self._ids, tag_id) << 52) | (ts // width * width))]

    async def _first_bad_read(self, width: int, within: Rows, lo: int) -> Samples:
        """The first bad sample, in database and archive, of each of the buckets that begin then."""
        ids = set(within["tag_id"][times(within["bucket"]) == lo].tolist())
        found: list[Samples] = []
        async with aclosing(read_raw(self._conn, [tag for tag in self._tags if tag.tag_id in ids], lo, lo + width)) as chunks:
            async for chunk in chunks:
                found.append(chunk.take(chunk.quality < UNCERTAIN))
                found[-1] = found[-1].take(np.unique(found[-1].tag_id, return_index=True)[1])
        first = concat(found)
        return first.take(np.unique(first.tag_id, return_index=True)[1])

    def _column(self, tag_id: Int32s, ts: Int64s) -> Int64s:
        place: Int64s = np.searchsorted(self._ids, tag_id).astype(np.int64)
        return (place << 52) | ((ts - self._columns.origin) // self._columns.width)

    async def _first_bad(self, level: Level, within: Rows, width: int) -> Rows:
        """The first bucket with bad samples of each of these greater ones."""
        select = ", ".join(sql for sql, _ in _BAD_COLUMNS.values())
        sql = _first_of_each(within, width, select, f"rollup_{level}_stored", "bucket", "bad_count > 0")
        decoder = FixedRows([(name, kind) for name, (_, kind) in _BAD_COLUMNS.items()])
        async with aclosing(copy(self._conn, sql, decoder)) as chunks:
            rows = [chunk async for chunk in chunks]
        return np.concatenate(rows) if rows else within[:0]

    async def _first_bad_samples(self, within: Rows) -> Samples:
        sql = _first_of_each(within, WIDTHS["1m"], NUMERIC_SELECT, "sample", "ts", f"quality < {UNCERTAIN}")
        async with aclosing(copy(self._conn, sql, NumericDecoder())) as chunks:
            return concat([chunk async for chunk in chunks])


def _upper(level: Level) -> int:
    return WIDTHS[LEVELS[LEVELS.index(level) + 1]]


def _first_of_each(within: Rows, width: int, select: str, table: str, time: str, where: str) -> str:
    """COPY takes no parameters. What stands in the text are integers, and times made from integers."""
    los = times(within["bucket"])
    ids = ",".join(map(str, within["tag_id"].tolist()))
    from_, to = (",".join(f'"{format_time(us)}"' for us in edge.tolist()) for edge in (los, los + width))
    first, last = format_time(int(los.min())), format_time(int(los.max()) + width)
    return (
        f"SELECT f.* FROM unnest('{{{ids}}}'::int4[], '{{{from_}}}'::timestamptz[], '{{{to}}}'::timestamptz[]) AS k (id, lo, hi) "  # noqa: S608
        f"CROSS JOIN LATERAL (SELECT {select} FROM historian.{table} WHERE tag_id = k.id AND {time} >= k.lo AND {time} < k.hi "
        f"AND {time} >= '{first}' AND {time} < '{last}' AND {where} ORDER BY {time} LIMIT 1) AS f"
    )


def _at_ends(bad: Rows) -> Samples:
    """The bad ones among the first and last samples of these buckets."""
    tag_id, ts = np.tile(bad["tag_id"].astype(np.int32), 2), np.concatenate([times(bad["start_ts"]), times(bad["end_ts"])])
    there = ts >= 0
    n = int(there.sum())
    return Samples(tag_id[there], ts[there], np.full(n, np.nan), np.full(n, BAD, np.int16))
