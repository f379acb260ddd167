"""The backfill of a subscription: which range queries it is, and their rows as frames. The seam at its end is in `seam.py`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing

from historian.query.range_query import RangeQuery, StreamOrder
from historian.schema.catalogue import Tag
from historian.schema.connection import Connection, Pool
from historian.schema.samples import Samples
from historian.stream.events import MAX_FRAME_ROWS
from historian.stream.part import Part
from historian.stream.request import FOREVER, Request
from historian.stream.seam import backfill
from historian.stream.thinning import Thinning

#: of one that begins with the newest: µs of its first stretch, and how many times as long each further one is
_NEWEST_US = 60_000_000
_LONGER = 4


class Backfill:
    """Reads the history of parts of a subscription, each once. `turn` gives it its turn at the database; `thinning` learns what the client gets."""

    def __init__(
        self,
        request: Request,
        *,
        pool: Pool,
        now_us: int,
        turn: Callable[[], AbstractAsyncContextManager[None]],
        thinning: Thinning | None,
    ) -> None:
        self._request = request
        self._pool = pool
        self._now_us = now_us
        self._turn = turn
        self._thinning = thinning

    async def frames(
        self, part: Part, tags: Sequence[Tag], prepare: Callable[[Connection], Awaitable[None]] | None = None
    ) -> AsyncGenerator[Samples, None]:
        """The history of the tags of a part, as frames; the part's seam is passed with it. Raises Unavailable.

        `prepare` reads what else it needs as of the same snapshot.
        """
        async with self._turn(), aclosing(backfill(self._pool, self._queries(tags), part.pass_seam, prepare)) as chunks:
            async for chunk in chunks:
                for samples in chunk.pieces(MAX_FRAME_ROWS):
                    if self._thinning is not None:
                        self._thinning.sent(samples)
                    yield samples

    def _queries(self, tags: Sequence[Tag]) -> list[RangeQuery]:
        """What is read. It has no end where the subscription has none: timestamps may lie ahead of our clock, and what the snapshot sees of them
        will not come as live frames."""
        request = self._request
        if request.start is None or not tags:
            return []
        end = FOREVER if request.end is None else max(request.end, request.start)
        if request.mode == "raw":
            return [RangeQuery(tags, *span) for span in _spans(request.start, end, self._now_us, request.order)]
        # buckets from here to the end of time would be one bucket: those end now, and what lies ahead comes raw
        now = max(min(end, self._now_us), request.start)
        queries = [RangeQuery(tags, request.start, now, request.mode, request.points)] if now > request.start else []
        return [*queries, RangeQuery(tags, now, end)] if end > now else queries


def _spans(start: int, end: int, now: int, order: StreamOrder) -> Iterable[tuple[int, int]]:
    """[start, end) as it is read: in one, or from the newest stretch, which is short, and has what lies ahead of our clock, to the oldest."""
    if order == "oldest" or start >= end:
        yield start, end
        return
    width, upper = _NEWEST_US, end
    lower = max(start, min(now, end) - width)
    while upper > start:
        yield lower, upper
        width *= _LONGER
        upper, lower = lower, max(start, lower - width)
