"""Range queries of calculated pens: the samples of the tags are read side by side, in bounded memory, and the expression is evaluated as they come."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

import numpy as np

from historian.query.boundaries import newest_samples, samples_before, samples_from
from historian.query.downsample import MinMax
from historian.query.expressions.evaluation import evaluated
from historian.query.expressions.pens import CalculatedPen
from historian.query.expressions.series import Series, union
from historian.query.instants import instants_of, neighbours_of
from historian.query.lttb import Lttb
from historian.query.m4 import M4
from historian.query.range_query import Mode, RangeQuery
from historian.query.raw import read_raw
from historian.schema.catalogue import Tag
from historian.schema.connection import Connection
from historian.schema.copy_binary import MAX_ROWS
from historian.schema.errors import BadInput
from historian.schema.samples import Int64s, Samples, concat

#: samples that are held for one pen, of all its tags
_HELD = 400_000
#: of one tag, read at once
_MOST, _FEWEST = 65_536, 1000

#: charts, and what makes them of the rows of a pen
_CHARTS: Mapping[Mode, Callable[[CalculatedPen, RangeQuery], MinMax | Lttb]] = {
    "auto": lambda pen, query: M4([pen], query.start, query.end, query.points, auto=True),
    "minmax": lambda pen, query: MinMax([pen], query.start, query.end, query.points),
    "m4": lambda pen, query: M4([pen], query.start, query.end, query.points),
    "lttb": lambda pen, query: Lttb([pen], query.start, query.end, query.points),
}


def check_mode(query: RangeQuery) -> None:
    """Raises BadInput for what an expression has no answer to."""
    if query.mode not in (known := ("raw", *_CHARTS, "interpolated", "at", "last")):
        raise BadInput(f"mode {query.mode} is not for expressions; the modes for them are {', '.join(known)}")
    if query.mode == "last" and query.interval is not None:
        raise BadInput("mode last of an expression is its newest row in the span; leave the interval out")
    if query.bounds != "inside":
        raise BadInput(f"bounds={query.bounds} is not for expressions; ask for a longer span")


async def read_pens(conn: Connection, query: RangeQuery, pens: Sequence[CalculatedPen]) -> AsyncGenerator[Samples, None]:
    """What the query's mode makes of the pens, in the order of their tag_id; 1 to MAX_ROWS rows a chunk. In the transaction that is open on `conn`."""
    check_mode(query)
    for pen in sorted(pens, key=lambda pen: pen.tag_id):
        async with aclosing(_read(conn, query, pen)) as chunks:
            async for chunk in chunks:
                yield chunk


def _read(conn: Connection, query: RangeQuery, pen: CalculatedPen) -> AsyncGenerator[Samples, None]:
    match query.mode:
        case "raw":
            return calculate(conn, pen, query.start, query.end, limit=query.limit)
        case "last":
            return _last(conn, query, pen)
        case mode if mode in _CHARTS:
            return _charted(conn, query, pen)
        case _:
            return _at(conn, pen, instants_of(query))


async def _charted(conn: Connection, query: RangeQuery, pen: CalculatedPen) -> AsyncGenerator[Samples, None]:
    reducer = _CHARTS[query.mode](pen, query)
    async with aclosing(calculate(conn, pen, query.start, query.end)) as chunks:
        async for chunk in chunks:
            kept = reducer.feed(chunk)
            if len(kept):
                yield kept
    kept = reducer.finish()
    for piece in kept.pieces(MAX_ROWS):
        yield piece


async def _last(conn: Connection, query: RangeQuery, pen: CalculatedPen) -> AsyncGenerator[Samples, None]:
    """The newest row in the span."""
    newest = await newest_samples(conn, [tag for tag in pen.tags if tag.tag_id in pen.drivers], query.start, query.end)
    if len(newest):
        async with aclosing(_at(conn, pen, newest.ts.max(keepdims=True))) as chunks:
            async for chunk in chunks:
                yield chunk


async def _at(conn: Connection, pen: CalculatedPen, instants: Int64s) -> AsyncGenerator[Samples, None]:
    """The pen at these instants, from the samples next to them."""
    # of a tag that is interpolated here, and held elsewhere, the next sample is wanted too
    tags = [replace(tag, kind="float", step=False) if tag.tag_id in pen.interpolated else tag for tag in pen.tags]
    size = max(1, min(MAX_ROWS, _HELD // len(tags)))
    for start in range(0, len(instants), size):
        some = instants[start : start + size]
        found = await neighbours_of(conn, tags, some)
        series = {tag.tag_id: Series.of(found.take(found.tag_id == tag.tag_id)) for tag in tags}
        value, quality = await evaluated(pen.expression, partial(pen.column, series=series, instants=some), len(some))
        yield Samples(np.full(len(some), pen.tag_id, np.int32), some, value, quality)


async def calculate(
    conn: Connection, pen: CalculatedPen, start: int, end: int, *, limit: int | None = None
) -> AsyncGenerator[Samples, None]:
    """The pen at the timestamps of its tags in [start, end); 1 to MAX_ROWS rows a chunk.

    In the transaction that is open on `conn`. Between two chunks nothing is under way: it may be closed then, and the transaction goes on.
    """
    if start >= end:
        return
    tags = pen.tags
    before = _by_tag(await samples_before(conn, tags, start))
    after = _by_tag(await samples_from(conn, [tag for tag in tags if tag.tag_id in pen.interpolated], end))
    rows = max(_FEWEST, min(_MOST, _HELD // len(tags), _MOST if limit is None else limit + 1))
    sources = [_Source(tag, start, end, rows, before.get(tag.tag_id), after.get(tag.tag_id)) for tag in tags]
    reached = start - 1
    while reached < end - 1:
        for source in sources:
            await source.fill(conn, reached)
        frontier = min(source.known_to for source in sources)
        at = union([s.between(reached, frontier) for s in sources if s.tag_id in pen.drivers])
        series = {source.tag_id: source.series for source in sources}
        for row in range(0, len(at), MAX_ROWS):
            some = at[row : row + MAX_ROWS]
            value, quality = await evaluated(pen.expression, partial(pen.column, series=series, instants=some), len(some))
            yield Samples(np.full(len(some), pen.tag_id, np.int32), some, value, quality)
        reached = frontier
        for source in sources:
            source.forget(reached)


def _by_tag(samples: Samples) -> dict[int, Series]:
    return {int(samples.tag_id[n]): Series.of(samples.slice(n, n + 1)) for n in range(len(samples))}


class _Source:
    """The samples of one tag in [start, end), read `rows` at a time, with the one before and the one behind them."""

    def __init__(self, tag: Tag, start: int, end: int, rows: int, before: Series | None, after: Series | None) -> None:
        self.tag_id = tag.tag_id
        self.series = before or Series.empty()
        self._tag = tag
        self._next = start
        self._end = end
        self._rows = rows
        self._after = after
        self._read_all = False
        #: what the tag is, is known up to here, µs
        self.known_to = start - 1

    async def fill(self, conn: Connection, reached: int) -> None:
        """Read on, where all that is here has been used."""
        if self._read_all or self.known_to > reached:
            return
        parts: list[Samples] = []
        async with aclosing(read_raw(conn, [self._tag], self._next, self._end, self._rows)) as chunks:
            async for chunk in chunks:
                parts.append(chunk)
        found = Series.of(concat(parts))
        self.series = found.behind(self.series)
        if len(found) < self._rows:
            self._read_all = True
            self.known_to = self._end - 1
            if self._after is not None:
                self.series = self._after.behind(self.series)
        else:
            self.known_to = int(found.ts[-1])
            self._next = self.known_to + 1

    def between(self, reached: int, frontier: int) -> Int64s:
        """The timestamps in (reached, frontier]."""
        first, last = np.searchsorted(self.series.ts, [reached, frontier], side="right")
        return self.series.ts[first:last]

    def forget(self, reached: int) -> None:
        """Keep the last sample up to there, and what comes behind it."""
        self.series = self.series.slice(max(0, int(np.searchsorted(self.series.ts, reached, side="right")) - 1))
