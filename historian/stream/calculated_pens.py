"""The calculated pens of a subscription: their rows, made of samples of other tags as those come, and read anew where that is not enough."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing

from historian.query.expressions.live import LivePen, Stale, reach
from historian.query.expressions.pens import CalculatedPen
from historian.query.expressions.reading import calculate
from historian.schema.catalogue import Tag
from historian.schema.connection import Connection, Pool, translated
from historian.schema.errors import HistorianError, Unavailable
from historian.schema.samples import Samples, concat
from historian.stream.events import MAX_FRAME_ROWS, Data, Event, Gap
from historian.stream.part import Piece
from historian.stream.request import FOREVER, Request
from historian.stream.tag_filter import TagFilter

log = logging.getLogger(__name__)

#: rows of a calculated pen that are read anew where samples of its tags came late; of more a gap is told
RECALCULATED_ROWS = 100_000


class CalculatedPens:
    """Those of a request; it may have none. `load` them with the backfill, then `calculate` what comes."""

    def __init__(self, request: Request, pool: Pool, now_us: int) -> None:
        self._request = request
        self._pool = pool
        self._now_us = now_us
        self._pens = [LivePen(tag) for tag in request.tags if isinstance(tag, CalculatedPen)]

    def __len__(self) -> int:
        return len(self._pens)

    @property
    def arguments(self) -> list[Tag]:
        """The tags of whose samples they are made."""
        return [tag for pen in self._pens for tag in pen.pen.tags]

    @property
    def pick_arguments(self) -> Callable[[Samples], Samples] | None:
        """Picks their samples, those beside the span too: what lies between two of them may lie in it. None where there are no pens."""
        return TagFilter(self.arguments).pick if self._pens else None

    async def load(self, conn: Connection) -> None:
        """Begin with what the transaction open on `conn` sees."""
        for pen in self._pens:
            await pen.load(conn, self._now_us)

    async def calculate(self, pieces: Sequence[Piece]) -> tuple[list[Samples], list[tuple[CalculatedPen, Stale]]]:
        """What new samples make of the pens: rows, and where the database has to be asked."""
        rows: list[Samples] = []
        stale: list[tuple[CalculatedPen, Stale]] = []
        arguments = concat([piece.arguments for piece in pieces]) if self._pens else Samples.empty()
        for pen in self._pens if len(arguments) else ():
            found, spans = await pen.apply(arguments)
            keep = found.ts >= (self._request.start or 0)
            if self._request.end is not None:
                keep &= found.ts < self._request.end
            rows.append(found.take(keep))
            stale += [(pen.pen, span) for span in spans]
        return rows, stale

    async def recalculated(self, pen: CalculatedPen, stale: Stale, cursor: int) -> list[Event]:
        """A stretch of a pen as the database has it now, and the gap of what is too much of it."""
        start, end = max(stale.start, self._request.start or 0), min(stale.end, self._request.end or FOREVER)
        # collected, so that a client that takes its time does not keep a connection
        parts: list[Samples] = []
        rows = 0
        try:
            with translated():
                async with self._pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
                    if stale.open:
                        start = max(await reach(conn, pen, stale.start), self._request.start or 0)
                    async with aclosing(calculate(conn, pen, start, end)) as chunks:
                        async for samples in chunks:
                            parts.append(samples)
                            rows += len(samples)
                            start = int(samples.ts[-1]) + 1
                            if rows >= RECALCULATED_ROWS:
                                break
                        else:
                            start = end
        except HistorianError as error:
            log.warning("a stretch of a calculated pen could not be read: %s", error)
        events: list[Event] = [Data(samples, cursor, backfill=False) for part in parts for samples in part.pieces(MAX_FRAME_ROWS)]
        return [*events, Gap(start, end, "late-samples", (pen,))] if start < end else events

    async def reloaded(self, gap: Gap) -> Gap:
        """Begin anew, where samples of their tags were left out. Returns the gap with what that has changed of the pens."""
        while True:
            start, end = gap.start, gap.end
            try:
                with translated():
                    async with self._pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
                        await self.load(conn)
                        for pen in self._pens:
                            start = min(start, await reach(conn, pen.pen, gap.start))
                            end = max(end, pen.until)
                return Gap(start, end, gap.reason, (*gap.tags, *(pen.pen for pen in self._pens)))
            except HistorianError as error:
                # what the pens are is not known until the database is back
                log.warning("calculated pens could not be read: %s", error)
                await asyncio.sleep(error.retry_after if isinstance(error, Unavailable) else 1)
