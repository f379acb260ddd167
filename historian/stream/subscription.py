"""One subscription: backfill, seam, live tail, as a sequence of events that any transport can send.

Promise. A client that takes every event has, for its tags and from its start on, exactly what the database holds: nothing is missing, nothing comes twice.
What it did not take in time, because it reads too slowly, is named in a `Gap`. Memory is bounded by `queue_bytes`, whatever the client does.

The hub calls `offer`; one task iterates `events()`; nobody else touches the queue. Closing the iterator detaches from the hub and frees the
database connection. Where the task waits for something to come, and the transport has given a way to write at once, `offer` writes: no task has to wake up.

Calculated pens are among the tags. Their rows are made of samples of other tags, which are picked for them beside those that the client gets.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import numpy as np

from historian.query.expressions.live import LivePen, Stale, reach
from historian.query.expressions.pens import CalculatedPen
from historian.query.expressions.reading import calculate
from historian.query.range_query import Mode, RangeQuery
from historian.schema.catalogue import Tag
from historian.schema.connection import Connection, Pool, translated
from historian.schema.errors import HistorianError, Unavailable
from historian.schema.samples import Samples, concat
from historian.schema.visibility import VisibilitySnapshot
from historian.stream.coalesce import coalesce
from historian.stream.hub import Entry, Hub
from historian.stream.missed import Missed
from historian.stream.seam import backfill
from historian.stream.sweep import Sweep
from historian.stream.tick import Tick

log = logging.getLogger(__name__)

#: rows of a data frame at the most: 1.4 MB of Arrow
MAX_FRAME_ROWS = 65_536
#: a client that takes nothing of its backfill for so long holds a database snapshot for nothing
STALLED_S = 60.0
#: rows of a calculated pen that are read anew where samples of its tags came late; of more a gap is told
RECALCULATED_ROWS = 100_000
#: 9999-01-01, µs: beyond every timestamp that is accepted
FOREVER = 253_370_764_800_000_000


@dataclass(frozen=True, slots=True)
class Subscribed:
    """It is open. `resumed` is None where no cursor was given."""

    tags: tuple[Tag, ...]
    resumed: bool | None = None


@dataclass(frozen=True, slots=True)
class Data:
    """Samples; `cursor` is 0 as long as one cannot resume from here. `tick`: they are all of its samples, which others have too."""

    samples: Samples
    cursor: int
    backfill: bool
    last: bool = False
    tick: Tick | None = None


@dataclass(frozen=True, slots=True)
class Live:
    """The seam has passed."""

    cursor: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples with timestamps in [start, end) (µs) were left out; a range query for these tags, if there are any, brings them."""

    start: int
    end: int
    reason: str
    tags: tuple[Tag, ...] = ()


Event = Subscribed | Data | Live | Gap


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for. Times in µs; `start` None: no backfill; `end` None: for ever."""

    tags: tuple[Tag, ...]
    start: int | None
    end: int | None
    mode: Mode = "raw"
    points: int = 2000
    cursor: int | None = None


_NONE = Samples.empty()


class TagFilter:
    """Picks the samples of a set of tags in a time span; one table look-up a sample."""

    def __init__(self, tags: Sequence[Tag], start: int | None, end: int | None) -> None:
        ids = np.array([tag.tag_id for tag in tags], np.int64)
        # the last place stands for all ids beyond
        self._wanted = np.zeros(int(ids.max(initial=0)) + 2, np.bool_)
        self._wanted[ids] = True
        self._start = start
        self._end = end

    def pick(self, samples: Samples) -> Samples:
        keep = self._wanted[np.minimum(samples.tag_id, len(self._wanted) - 1)]
        if self._start is not None:
            keep &= samples.ts >= self._start
        if self._end is not None:
            keep &= samples.ts < self._end
        return samples if keep.all() else samples.take(keep)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What waits of the entries `first` to `cursor`."""

    first: int
    cursor: int
    #: as long as the seam has not passed
    xid: int
    samples: Samples
    #: of the tags of calculated pens
    arguments: Samples
    tick: Tick | None = None

    @property
    def nbytes(self) -> int:
        return self.samples.nbytes + self.arguments.nbytes


class Subscription:
    """A client's view of some tags. Make it, then iterate `events()` once."""

    def __init__(self, request: Request, *, hub: Hub, sweep: Sweep, pool: Pool, now_us: int, queue_bytes: int = 8 << 20) -> None:
        self._request = request
        self._hub = hub
        self._sweep = sweep
        self._pool = pool
        self._now_us = now_us
        self._queue_bytes = queue_bytes
        self._pens = [LivePen(tag) for tag in request.tags if isinstance(tag, CalculatedPen)]
        self._filter = TagFilter([tag for tag in request.tags if not isinstance(tag, CalculatedPen)], request.start, request.end)
        # the samples beside the span too: what lies between two of them may lie in it
        self._arguments = TagFilter([tag for pen in self._pens for tag in pen.pen.tags], None, None)
        self._seam: VisibilitySnapshot | None = None
        self._queue: deque[_Piece] = deque()
        self._queued_bytes = 0
        self._missed: Missed | None = None
        #: whether `events` waits for samples, and has nothing else to bring before them
        self._waiting = False
        #: writes a frame at once, or returns False where it cannot: set by a transport that can
        self.write_through: Callable[[Data], bool] | None = None
        self._woken = asyncio.Event()
        self._paused = False
        self._credit: int | None = None

    # -- called by the hub and by the client's control messages

    def offer(self, tick: Tick) -> None:
        """From the hub: write it, or keep it."""
        seam = self._seam
        if seam is not None and not self._pens and self._spans(tick) and not any(seam.sees(entry.notice.xid) for entry in tick.entries):
            if not self._written_through(tick):
                self._keep(_Piece(tick.entries[0].cursor, tick.cursor, 0, tick.samples, _NONE, tick))
            return
        # before the seam it is held by transactions, which the seam is asked of then; and who wants something else than the others picks for himself
        for entry in tick.entries:
            notice = entry.notice
            if seam is not None and seam.sees(notice.xid):
                continue
            samples = self._filter.pick(notice.samples)
            arguments = self._arguments.pick(notice.samples) if self._pens else _NONE
            if len(samples) or len(arguments):
                self._keep(_Piece(entry.cursor, entry.cursor, notice.xid, samples, arguments))

    def _keep(self, piece: _Piece) -> None:
        """Let it wait for the task that sends."""
        if len(self._queue) == 1 and self._queue[0].tick is not None:
            # they will be joined: what has been encoded for others of the first is not kept for that
            self._queue[0] = replace(self._queue[0], tick=None)
        self._queue.append(piece if len(self._queue) == 0 else replace(piece, tick=None))
        self._queued_bytes += piece.nbytes
        if self._queued_bytes > self._queue_bytes:
            self._drop()
        self._woken.set()

    def _spans(self, tick: Tick) -> bool:
        """Whether all of its samples lie in the time that was asked for."""
        request = self._request
        return (request.start is None or tick.first_ts >= request.start) and (request.end is None or tick.last_ts < request.end)

    def _written_through(self, tick: Tick) -> bool:
        # one that could not be written waits in the queue, before this one, until the task has woken up
        if not self._waiting or self._queue or self._missed is not None:
            return False
        if self.write_through is None or self._paused or self._credit == 0 or len(tick.samples) > MAX_FRAME_ROWS:
            return False
        if not self.write_through(Data(tick.samples, tick.cursor, backfill=False, tick=tick)):
            return False
        if self._credit is not None:
            self._credit -= 1
        return True

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._woken.set()

    def grant(self, frames: int) -> None:
        """From the first call on, each data frame takes one credit."""
        self._credit = (self._credit or 0) + frames
        self._woken.set()

    def _drop(self) -> None:
        """The client is too slow: let go of all that waits, and remember what it was."""
        if self._missed is None:
            self._missed = Missed(self._queue[0].first - 1)
        for piece in self._queue:
            self._missed.add((piece.samples, piece.arguments))
        self._queue.clear()
        self._queued_bytes = 0

    # -- iterated by the transport

    async def events(self) -> AsyncGenerator[Event, None]:
        """All that the client is to be sent, in order. Raises Unavailable if the database goes away before the seam has passed."""
        self._hub.follow(self, self._followed())
        try:
            # what a calculated pen was at the cursor is not known any more
            entries = self._hub.since(self._request.cursor) if self._request.cursor and not self._pens else None
            live = self._fresh() if entries is None else self._resumed(entries)
            async with aclosing(live) as events:
                async for event in events:
                    yield event
        finally:
            self._hub.unfollow(self)
            self._queue.clear()

    async def _fresh(self) -> AsyncGenerator[Event, None]:
        request = self._request
        expired = request.cursor is not None
        yield Subscribed(request.tags, resumed=False if expired else None)
        if expired:
            yield Gap(request.start if request.start is not None else self._now_us, self._now_us, "cursor-expired")
        async with aclosing(backfill(self._pool, self._queries(), self._pass_seam, self._load if self._pens else None)) as chunks:
            async for chunk in chunks:
                for samples in _frames(chunk):
                    try:
                        async with asyncio.timeout(STALLED_S):
                            await self._may_send()
                    except TimeoutError:
                        raise Unavailable(
                            f"paused or without credit for {STALLED_S:.0f} s in the middle of the backfill; subscribe again"
                        ) from None
                    yield Data(samples, 0, backfill=True)
        if request.end is not None and request.end <= self._now_us:
            await self._may_send()
            yield Data(Samples.empty(), 0, backfill=True, last=True)
            return
        # Frames that the seam's snapshot sees may come until a sweep has found them all. After one, whatever follows is new to this client, so that its place
        # on the bus is all that a resumed stream has to know.
        await self._sweep.after_now()
        yield Live(self._taken())
        async with aclosing(self._tail()) as events:
            async for event in events:
                yield event

    async def _resumed(self, entries: Iterable[Entry]) -> AsyncGenerator[Event, None]:
        # what the client's earlier seam had seen was handed on before its cursor was given out, so nothing is seen by it any more
        self._seam = VisibilitySnapshot(0, 0, frozenset())
        yield Subscribed(self._request.tags, resumed=True)
        for entry in entries:
            for data in _live(self._filter.pick(entry.notice.samples), entry.cursor, entry.cursor):
                await self._may_send()
                yield data
        yield Live(self._taken())
        async with aclosing(self._tail()) as events:
            async for event in events:
                yield event

    def _followed(self) -> list[Tag]:
        """The tags whose samples are needed: those of calculated pens too."""
        tags = [tag for tag in self._request.tags if not isinstance(tag, CalculatedPen)]
        tags += [tag for pen in self._pens for tag in pen.pen.tags]
        return list({tag.tag_id: tag for tag in tags}.values()) if self._pens else tags

    def _queries(self) -> list[RangeQuery]:
        """What the backfill reads. It has no end where the subscription has none: timestamps may lie ahead of our clock, and what the snapshot sees of them
        will not come as live frames."""
        request = self._request
        if request.start is None or not request.tags:
            return []
        end = FOREVER if request.end is None else max(request.end, request.start)
        if request.mode == "raw":
            return [RangeQuery(request.tags, request.start, end)]
        # buckets from here to the end of time would be one bucket: those end now, and what lies ahead comes raw
        now = max(min(end, self._now_us), request.start)
        queries = [RangeQuery(request.tags, request.start, now, request.mode, request.points)] if now > request.start else []
        return [*queries, RangeQuery(request.tags, now, end)] if end > now else queries

    def _taken(self) -> int:
        """The place on the bus up to which the client has, or needs, nothing."""
        self._hub.deliver()
        if self._missed is not None:
            return self._missed.behind
        return self._queue[0].first - 1 if self._queue else self._hub.cursor

    def _pass_seam(self, seam: VisibilitySnapshot) -> None:
        """From now on frames are asked; those that were held are asked now."""
        self._seam = seam
        held = [piece for piece in self._queue if not seam.sees(piece.xid)]
        self._queue = deque(held)
        self._queued_bytes = sum(piece.nbytes for piece in held)

    async def _tail(self) -> AsyncGenerator[Event, None]:
        end = self._request.end
        loop = asyncio.get_running_loop()
        over_at = None if end is None else loop.time() + (end - self._now_us) / 1e6
        while True:
            try:
                async with asyncio.timeout_at(over_at):
                    await self._something()
                    await self._may_send()
            except TimeoutError:
                yield Data(Samples.empty(), self._hub.cursor, backfill=False, last=True)
                return
            if self._missed is not None:
                missed, self._missed = self._missed, None
                gap = Gap(missed.start, missed.end, "slow-client", tuple(t for t in self._request.tags if t.tag_id in missed.tag_ids))
                yield await self._reloaded(gap) if self._pens else gap
                continue
            pieces = self._taken_off()
            if len(pieces) == 1 and pieces[0].tick is not None and len(pieces[0].samples) <= MAX_FRAME_ROWS:
                yield Data(pieces[0].samples, pieces[0].cursor, backfill=False, tick=pieces[0].tick)
                continue
            calculated, stale = await self._calculate(pieces)
            rows = coalesce([*(piece.samples for piece in pieces), *calculated])
            for n, data in enumerate(_live(rows, pieces[0].first, pieces[-1].cursor)):
                if n:
                    await self._may_send()
                yield data
            for pen, span in stale:
                for event in await self._recalculated(pen, span, pieces[-1].cursor):
                    if isinstance(event, Data):
                        await self._may_send()
                    yield event

    async def _something(self) -> None:
        """Wait until there is something to send."""
        try:
            while not self._queue and self._missed is None:
                self._waiting = True
                self._woken.clear()
                await self._woken.wait()
        finally:
            self._waiting = False

    def _taken_off(self) -> list[_Piece]:
        """What waits, as much as goes into a frame: of more, putting it together would hold up others."""
        pieces: list[_Piece] = []
        rows = 0
        while self._queue and rows < MAX_FRAME_ROWS:
            piece = self._queue.popleft()
            self._queued_bytes -= piece.nbytes
            rows += len(piece.samples)
            pieces.append(piece)
        return pieces

    # -- calculated pens

    async def _load(self, conn: Connection) -> None:
        for pen in self._pens:
            await pen.load(conn, self._now_us)

    async def _calculate(self, pieces: Sequence[_Piece]) -> tuple[list[Samples], list[tuple[CalculatedPen, Stale]]]:
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

    async def _recalculated(self, pen: CalculatedPen, stale: Stale, cursor: int) -> list[Event]:
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
        events: list[Event] = [Data(samples, cursor, backfill=False) for part in parts for samples in _frames(part)]
        return [*events, Gap(start, end, "late-samples", (pen,))] if start < end else events

    async def _reloaded(self, gap: Gap) -> Gap:
        """Begin anew with the pens, of whose tags samples were left out. Returns the gap with what that has changed of the pens."""
        while True:
            start, end = gap.start, gap.end
            try:
                with translated():
                    async with self._pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
                        await self._load(conn)
                        for pen in self._pens:
                            start = min(start, await reach(conn, pen.pen, gap.start))
                            end = max(end, pen.until)
                return Gap(start, end, gap.reason, (*gap.tags, *(pen.pen for pen in self._pens)))
            except HistorianError as error:
                # what the pens are is not known until the database is back
                log.warning("calculated pens could not be read: %s", error)
                await asyncio.sleep(error.retry_after if isinstance(error, Unavailable) else 1)

    async def _may_send(self) -> None:
        while self._paused or self._credit == 0:
            self._woken.clear()
            await self._woken.wait()
        if self._credit is not None:
            self._credit -= 1


def _frames(samples: Samples) -> Iterable[Samples]:
    for start in range(0, len(samples), MAX_FRAME_ROWS):
        yield samples.slice(start, min(start + MAX_FRAME_ROWS, len(samples)))


def _live(samples: Samples, first: int, last: int) -> Iterable[Data]:
    """The rows of the notices `first` to `last`: only behind the last part are all of them with the client."""
    frames = list(_frames(samples))
    for n, part in enumerate(frames, 1):
        yield Data(part, last if n == len(frames) else first - 1, backfill=False)
