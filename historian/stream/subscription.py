"""One subscription: backfill, seam, live tail, as a sequence of events that any transport can send.

Promise. A client that takes every event has, for its tags and from its start on, exactly what the database holds: nothing is missing, nothing comes twice.
What it did not take in time, because it reads too slowly, is named in a `Gap`. Memory is bounded by `queue_bytes`, whatever the client does.

One task iterates `events()`. What the hub offers is kept, or written at once, by `intake.py`. Closing the iterator leaves the hub and frees the database connection.

Tags come to it in three ways, each with a seam of its own: those that it opens with (the first part), those that a change adds (`changes.py`), and those that a
wildcard matches once they are made, which need none (`wanted.py`).

Calculated pens are among the tags. Their rows are made of samples of other tags, which are picked for them beside those that the client gets (`calculated_pens.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext

from historian.schema.catalogue import Catalogue
from historian.schema.connection import Pool
from historian.schema.errors import BadInput
from historian.schema.samples import Samples, concat
from historian.stream.backfill import Backfill
from historian.stream.calculated_pens import CalculatedPens
from historian.stream.changes import Changes
from historian.stream.coalesce import coalesce
from historian.stream.entry import Entry
from historian.stream.events import MAX_FRAME_ROWS, Data, Event, Gap, Live, Subscribed, live_data
from historian.stream.gate import Gate
from historian.stream.hub import Hub
from historian.stream.intake import Intake
from historian.stream.limits import TagBudget
from historian.stream.request import Request
from historian.stream.sweep import Sweep
from historian.stream.thinning import Thinning


class Subscription:
    """A client's view of some tags. Make it, then iterate `events()` once.

    `turn` gives its backfills their turn at the database; `budget` counts its tags with those of its connection.
    """

    def __init__(
        self,
        request: Request,
        *,
        catalogue: Catalogue,
        hub: Hub,
        sweep: Sweep,
        pool: Pool,
        now_us: int,
        queue_bytes: int = 8 << 20,
        turn: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
        budget: TagBudget,
    ) -> None:
        self._request = request
        self._hub = hub
        self._sweep = sweep
        self._now_us = now_us
        self._woken = asyncio.Event()
        self._gate = Gate(self._woken)
        self.pause = self._gate.pause
        self.resume = self._gate.resume
        self.grant = self._gate.grant
        # a client that goes on has samples that may be corrected, we do not know which
        self._thinning = Thinning(None if request.cursor is None else now_us) if request.max_rate is not None else None
        #: when the next samples may be sent, on the clock of the loop
        self._due = 0.0
        self._pens = CalculatedPens(request, pool, now_us)
        self._intake = Intake(
            request,
            self._pens,
            catalogue=catalogue,
            hub=hub,
            budget=budget,
            gate=self._gate,
            woken=self._woken,
            queue_bytes=queue_bytes,
        )
        self._backfill = Backfill(request, pool=pool, now_us=now_us, turn=turn, thinning=self._thinning)
        self._changes = Changes(
            request,
            self._intake,
            self._backfill,
            catalogue=catalogue,
            hub=hub,
            sweep=sweep,
            budget=budget,
            gate=self._gate,
            woken=self._woken,
            sent=self._sent,
        )

    @property
    def text(self) -> bool:
        """Whether its samples have a text column."""
        return self._intake.text

    @property
    def tag_count(self) -> int:
        """How many tags it has now. They are counted in the budget; whoever ends the subscription gives them back."""
        return self._intake.tag_count

    # -- called by the client's control messages

    def change(self, add: Sequence[str], remove: Sequence[str]) -> None:
        """Ask for these names too, and for those no more; `events()` tells what becomes of it. Raises Busy."""
        self._changes.ask(add, remove)

    def acknowledge(self, position: str) -> None:
        """Raises BadInput."""
        raise BadInput("this subscription is not durable: there is nothing to acknowledge")

    def write_with(self, write: Callable[[Data], bool]) -> None:
        """A way to write a frame at once, while `events` waits for something to come; it returns False where it cannot."""
        self._intake.write_through = write

    # -- iterated by the transport

    async def events(self) -> AsyncGenerator[Event, None]:
        """All that the client is to be sent, in order. Raises Unavailable if the database goes away before the seam has passed, BadInput if wildcards come to match
        more tags than a subscription or its connection may have."""
        self._intake.follow()
        try:
            # what a calculated pen was at the cursor is not known any more
            entries = self._hub.since(self._request.cursor) if self._request.cursor and not self._pens else None
            live = self._fresh() if entries is None else self._resumed(entries)
            async with aclosing(live) as events:
                async for event in events:
                    yield event
        finally:
            await self._intake.close()

    async def _fresh(self) -> AsyncGenerator[Event, None]:
        request, intake = self._request, self._intake
        expired = request.cursor is not None
        intake.take_born(intake.take_since(intake.main, request.place))
        if intake.main.wanted.follows:
            # with what that has brought
            intake.follow()
        yield Subscribed(request.tags, False if expired else None, intake.text)
        if expired:
            yield Gap(request.start if request.start is not None else self._now_us, self._now_us, "cursor-expired")
        async with aclosing(self._backfill.frames(intake.main, request.tags, self._pens.load if self._pens else None)) as frames:
            async for samples in frames:
                await self._gate.passed_in_time()
                yield Data(samples, 0, backfill=True)
        if request.end is not None and request.end <= self._now_us:
            await self._gate.passed()
            yield Data(Samples.empty(), 0, backfill=True, last=True)
            return
        # Frames that the seam's snapshot sees may come until a sweep has found them all. After one, whatever follows is new to this client, so that its place
        # on the bus is all that a resumed stream has to know.
        await self._sweep.after_now()
        # the seam is asked of what the sweep has found
        self._hub.deliver()
        intake.live_from_here()
        async with aclosing(self._tail()) as events:
            async for event in events:
                yield event

    async def _resumed(self, entries: Iterable[Entry]) -> AsyncGenerator[Event, None]:
        # what the client's earlier seam had seen was handed on before its cursor was given out, so nothing is seen by it any more
        self._intake.live_from_here()
        yield Subscribed(self._request.tags, True, self._intake.text)
        for entry in entries:
            piece = await self._intake.take_entry(entry)
            for event in self._intake.announced():
                yield event
            for data in live_data(concat([piece.ours, piece.born]), entry.cursor, entry.cursor):
                await self._gate.passed()
                self._sent(data.samples)
                yield data
        async with aclosing(self._tail()) as events:
            async for event in events:
                yield event

    async def _tail(self) -> AsyncGenerator[Event, None]:
        intake, changes = self._intake, self._changes
        end = self._request.end
        loop = asyncio.get_running_loop()
        over_at = None if end is None else loop.time() + (end - self._now_us) / 1e6
        over = False
        yield Live(intake.taken())
        while True:
            try:
                async with asyncio.timeout_at(None if over else over_at):
                    while not self._is_something_to_do():
                        intake.waiting = True
                        self._woken.clear()
                        await self._woken.wait()
            except TimeoutError:
                over = True
            finally:
                intake.waiting = False
            if intake.fault is not None:
                raise intake.fault
            if over and intake.joining is None:
                self._hub.deliver()
                while self._gate.is_open and intake.main.queue:
                    # what waits for its time
                    self._due = 0.0
                    async with aclosing(self._news()) as events:
                        async for event in events:
                            yield event
                yield Data(Samples.empty(), intake.taken(), backfill=False, last=True)
                return
            if changes.can_begin:
                yield await changes.begin()
                continue
            if not self._gate.is_open:
                continue
            if intake.missed is not None:
                gap = await intake.take_gap()
                for event in intake.announced():
                    yield event
                if gap is not None:
                    yield await self._pens.reloaded(gap) if self._pens else gap
                continue
            async with aclosing(self._news()) as events:
                async for event in events:
                    yield event
            if changes.can_go_on:
                async with aclosing(changes.go_on()) as events:
                    async for event in events:
                        yield event

    def _is_something_to_do(self) -> bool:
        if self._intake.fault is not None or self._changes.can_begin:
            return True
        if not self._gate.is_open:
            return False
        return self._intake.missed is not None or self._is_due() or self._changes.can_go_on

    def _is_due(self) -> bool:
        if not self._intake.main.queue:
            return False
        return self._thinning is None or self._intake.is_pressed or asyncio.get_running_loop().time() >= self._due

    async def _news(self) -> AsyncGenerator[Event, None]:
        """What waits of the live tail, if it may be sent now."""
        main = self._intake.main
        await self._intake.recognise(main)
        if not self._is_due():
            return
        # of more than a frame, putting it together would hold up others; what is thinned becomes little
        pieces = main.take(MAX_FRAME_ROWS if self._thinning is None else None)
        for event in self._intake.announced():
            yield event
        if len(pieces) == 1 and pieces[0].tick is not None and len(pieces[0].ours) <= MAX_FRAME_ROWS:
            await self._gate.passed()
            yield Data(pieces[0].ours, pieces[0].cursor, backfill=False, tick=pieces[0].tick)
            return
        calculated, stale = await self._pens.calculate(pieces)
        rows = coalesce([*(samples for piece in pieces for samples in (piece.ours, piece.born)), *calculated])
        if self._thinning is not None and self._request.max_rate is not None:
            rows = self._thinning.reduce(rows)
            self._due = asyncio.get_running_loop().time() + 1 / self._request.max_rate
            asyncio.get_running_loop().call_at(self._due, self._woken.set)
        for data in live_data(rows, pieces[0].first, pieces[-1].cursor):
            await self._gate.passed()
            self._sent(data.samples)
            yield data
        for pen, span in stale:
            for event in await self._pens.recalculated(pen, span, pieces[-1].cursor):
                if isinstance(event, Data):
                    await self._gate.passed()
                yield event

    def _sent(self, samples: Samples) -> None:
        if self._thinning is not None:
            self._thinning.sent(samples)
