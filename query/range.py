"""Range queries: the samples of some tags between two instants, or what a mode makes of them, as a stream of chunks in bounded memory.

Each family of modes has a module of its own, which reads through historian.query.raw and the rollups; this one hands a query to its module.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace

from historian.query.aggregates import AGGREGATES, check_kinds, read_aggregates
from historian.query.auto import read_auto
from historian.query.cursor import Place
from historian.query.downsample import MinMax
from historian.query.expressions.pens import CalculatedPen
from historian.query.expressions.reading import read_pens
from historian.query.instants import read_bounded, read_instants, read_last
from historian.query.lttb import Lttb
from historian.query.m4 import M4
from historian.query.range_query import Mode, RangeQuery
from historian.query.raw import read_raw
from historian.schema.catalogue import Tag
from historian.schema.connection import Connection
from historian.schema.copy_binary import MAX_ROWS
from historian.schema.errors import BadInput
from historian.schema.samples import Samples, concat

__all__ = ["MAX_ROWS", "Mode", "RangeQuery", "RangeReader", "read_range"]

# what downsampling leaves of a chunk is collected: up to so many rows for who waits for the first, then to four times as many each time, up to here
_FIRST_ROWS = 512
_FULL_ROWS = 16_384


class RangeReader(AsyncIterator[Samples]):
    """The chunks of a range, once: numeric tags first, then text tags, each group ordered by (tag_id, ts); 1 to MAX_ROWS rows a chunk.

    `cut` tells, once the last chunk has been taken, whether there were more samples than the query's limit. Close it (`aclosing`) before anything else is
    done with the connection.
    """

    def __init__(self, conn: Connection, query: RangeQuery, after: Place | None) -> None:
        self._chunks = self._read(conn, query, after)
        self.cut = False

    def __aiter__(self) -> RangeReader:
        return self

    async def __anext__(self) -> Samples:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        """Give up what was not taken; the query is cancelled."""
        await self._chunks.aclose()

    async def _read(self, conn: Connection, query: RangeQuery, after: Place | None) -> AsyncGenerator[Samples, None]:
        left = query.limit
        if query.mode in AGGREGATES and not any(isinstance(tag, CalculatedPen) for tag in query.tags):
            # of the whole: what is left for a page may well be tags that the mode is not for
            check_kinds(query)
        async with aclosing(_unlimited(conn, query) if after is None else _behind(conn, query, after)) as chunks:
            async for chunk in chunks:
                if left is not None and len(chunk) > left:
                    self.cut = True
                    if left:
                        yield chunk.slice(0, left)
                    return
                if left is not None:
                    left -= len(chunk)
                yield chunk


def read_range(conn: Connection, query: RangeQuery, after: Place | None = None) -> RangeReader:
    """Read a range, or what of it lies behind a place, in the transaction that is open on `conn`; its planner settings are changed until it ends.

    Closing it before the end cancels the query, and with that fails the transaction: nothing more can be read in it. Iterating raises the driver's errors:
    wrap it in `translated()`.
    """
    return RangeReader(conn, query, after)


async def _behind(conn: Connection, query: RangeQuery, after: Place) -> AsyncGenerator[Samples, None]:
    for part, overlaps in after.rest(query):
        async with aclosing(_unlimited(conn, part)) as chunks:
            async for chunk in after.behind(chunks) if overlaps else chunks:
                yield chunk


def _unlimited(conn: Connection, query: RangeQuery) -> AsyncGenerator[Samples, None]:
    if any(isinstance(tag, CalculatedPen) for tag in query.tags):
        return _with_pens(conn, query)
    if query.bounds != "inside" and query.mode != "raw":
        raise BadInput(f"bounds are for mode raw, not {query.mode}")
    match query.mode:
        case "raw" if query.bounds != "inside":
            return read_bounded(conn, query)
        case "raw":
            # one more than the limit tells whether there are more
            return read_raw(conn, query.tags, query.start, query.end, None if query.limit is None else query.limit + 1)
        case "minmax" | "m4" | "lttb" | "auto":
            return _charted(conn, query)
        case "last" if query.interval is None:
            return read_last(conn, query)
        case "at" | "interpolated":
            return read_instants(conn, query)
        case _:
            return read_aggregates(conn, query)


async def _with_pens(conn: Connection, query: RangeQuery) -> AsyncGenerator[Samples, None]:
    """Calculated pens first, whose tag_ids are negative."""
    pens = [tag for tag in query.tags if isinstance(tag, CalculatedPen)]
    async with aclosing(read_pens(conn, query, pens)) as chunks:
        async for chunk in chunks:
            yield chunk
    tags = [tag for tag in query.tags if not isinstance(tag, CalculatedPen)]
    if tags:
        async with aclosing(_unlimited(conn, replace(query, tags=tags))) as chunks:
            async for chunk in chunks:
                yield chunk


async def _charted(conn: Connection, query: RangeQuery) -> AsyncGenerator[Samples, None]:
    numbers, texts = [tag for tag in query.tags if tag.kind != "text"], [tag for tag in query.tags if tag.kind == "text"]
    if query.mode == "auto":
        parts = [read_auto(conn, query, numbers), _reduced(read_raw(conn, texts, query.start, query.end), query, texts)]
    else:
        parts = [_reduced(read_raw(conn, tags, query.start, query.end), query, tags) for tags in (numbers, texts)]
    for part in parts:
        async with aclosing(_collected(part)) as chunks:
            async for chunk in chunks:
                yield chunk


def _reducer(query: RangeQuery, tags: Sequence[Tag]) -> MinMax | Lttb:
    match query.mode:
        case "minmax":
            return MinMax(tags, query.start, query.end, query.points)
        case "lttb":
            return Lttb(tags, query.start, query.end, query.points)
        case mode:
            return M4(tags, query.start, query.end, query.points, auto=mode == "auto")


async def _reduced(raw: AsyncGenerator[Samples, None], query: RangeQuery, tags: Sequence[Tag]) -> AsyncGenerator[Samples, None]:
    if not tags or query.start >= query.end:
        return
    reducer = _reducer(query, tags)
    async with aclosing(raw):
        async for chunk in raw:
            yield reducer.feed(chunk)
    yield reducer.finish()


async def _collected(chunks: AsyncGenerator[Samples, None]) -> AsyncGenerator[Samples, None]:
    """Small chunks made one, and large ones cut."""
    collected: list[Samples] = []
    rows, enough = 0, _FIRST_ROWS
    async with aclosing(chunks):
        async for chunk in chunks:
            if len(chunk):
                collected.append(chunk)
                rows += len(chunk)
            if rows >= enough:
                for part in concat(collected).pieces(MAX_ROWS):
                    yield part
                collected, rows, enough = [], 0, min(4 * enough, _FULL_ROWS)
    for part in concat(collected).pieces(MAX_ROWS):
        yield part
