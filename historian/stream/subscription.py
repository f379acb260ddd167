"""One subscription: backfill, seam, live tail, as a sequence of events that any transport can send.

Promise. A client that takes every event has, for its tags and from its start on, exactly what the database holds: nothing is missing, nothing comes twice.
What it did not take in time, because it reads too slowly, is named in a `Gap`. Memory is bounded by `queue_bytes`, whatever the client does.

The hub calls `offer`, `offer_all` and `meet`; one task iterates `events()`; nobody else touches the queues. Closing the iterator leaves the hub and frees the
database connection. Where the task waits for something to come, and the transport has given a way to write at once, `offer` writes: no task has to wake up.

Without calculated pens and thinning, once its seam has passed, and while no change is under way, it takes what others of its tags take too, picked and encoded once
(`tick.py`). Otherwise it picks for itself.

Tags come to it in three ways, each with a seam of its own: those that it opens with (the first part), those that a change adds (`joining.py`), and those that a
wildcard matches once they are made, which need none (`wanted.py`).

Calculated pens are among the tags. Their rows are made of samples of other tags, which are picked for them beside those that the client gets.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass, replace

import numpy as np

from historian.query.expressions.live import LivePen, Stale, reach
from historian.query.expressions.pens import CalculatedPen
from historian.query.expressions.reading import calculate
from historian.query.range_query import Mode, RangeQuery, StreamOrder
from historian.schema.catalogue import Catalogue, Tag
from historian.schema.connection import Connection, Pool, translated
from historian.schema.errors import BadInput, Busy, HistorianError, Unavailable
from historian.schema.samples import Samples, concat
from historian.stream.coalesce import coalesce
from historian.stream.entry import Entry
from historian.stream.gate import Gate
from historian.stream.hub import Hub
from historian.stream.joining import Joining
from historian.stream.limits import TagBudget
from historian.stream.missed import Missed
from historian.stream.part import NOTHING, Part, Piece
from historian.stream.seam import backfill
from historian.stream.sweep import Sweep
from historian.stream.thinning import Thinning
from historian.stream.tick import Tick
from historian.stream.wanted import Wanted

log = logging.getLogger(__name__)

#: rows of a data frame at the most: 1.4 MB of Arrow
MAX_FRAME_ROWS = 65_536
#: rows of a calculated pen that are read anew where samples of its tags came late; of more a gap is told
RECALCULATED_ROWS = 100_000
#: 9999-01-01, µs: beyond every timestamp that is accepted
FOREVER = 253_370_764_800_000_000
#: changes that wait for the one before them
MAX_CHANGES = 16
#: of a backfill that begins with the newest: µs of its first stretch, and how many times as long each further one is
_NEWEST_US = 60_000_000
_LONGER = 4


@dataclass(frozen=True, slots=True)
class Subscribed:
    """It is open. `resumed` is None where no cursor was given. `text`: whether its samples have a text column, now and later; None: as its tags have it."""

    tags: tuple[Tag, ...]
    resumed: bool | None = None
    text: bool | None = None


@dataclass(frozen=True, slots=True)
class Born:
    """Tags that a wildcard matches have been made: their samples follow, from the first on."""

    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """A change has begun: the history of the tags added follows, beside the live tail of the others, and `Live` is behind it. Of those removed nothing comes any more."""

    added: tuple[Tag, ...]
    removed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A change that could not be made; all is as before."""

    error: HistorianError


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


Event = Subscribed | Born | Changed | Refused | Data | Live | Gap


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for. Times in µs; `start` None: no backfill; `end` None: for ever.

    `names` are paths and wildcards; `tags` what they stood for when the bus was at `place`, and calculated pens. `order`: in which a raw backfill goes through time.
    `max_rate`: how often a second the live tail is sent at most, thinned; None: as it comes, and all of it.
    """

    tags: tuple[Tag, ...]
    start: int | None
    end: int | None
    mode: Mode = "raw"
    points: int = 2000
    cursor: int | None = None
    names: tuple[str, ...] = ()
    place: int = 0
    order: StreamOrder = "oldest"
    max_rate: float | None = None


class TagFilter:
    """Picks the samples of a set of tags; one table look-up a sample."""

    def __init__(self, tags: Sequence[Tag]) -> None:
        ids = np.array([tag.tag_id for tag in tags], np.int64)
        # the last place stands for all ids beyond
        self._wanted = np.zeros(int(ids.max(initial=0)) + 2, np.bool_)
        self._wanted[ids] = True

    def pick(self, samples: Samples) -> Samples:
        keep = self._wanted[np.minimum(samples.tag_id, len(self._wanted) - 1)]
        return samples if keep.all() else samples.take(keep)


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
        self._catalogue = catalogue
        self._hub = hub
        self._sweep = sweep
        self._pool = pool
        self._now_us = now_us
        self._queue_bytes = queue_bytes
        self._turn = turn
        self._budget = budget
        self._pens = [LivePen(tag) for tag in request.tags if isinstance(tag, CalculatedPen)]
        # the samples beside the span too: what lies between two of them may lie in it
        arguments = TagFilter([tag for pen in self._pens for tag in pen.pen.tags]).pick if self._pens else None
        tags = [tag for tag in request.tags if not isinstance(tag, CalculatedPen)]
        names = request.names or [tag.path for tag in tags]
        self._main = Part(Wanted(names, tags, request.start, request.end), arguments)
        #: whether its samples have a text column: a wildcard may match a text tag later
        self.text = self._main.wanted.follows or any(tag.kind == "text" for tag in request.tags)
        self._joining: Joining | None = None
        self._changes: deque[tuple[list[str], list[str]]] = deque()
        self._born: list[Tag] = []
        self._fault: HistorianError | None = None
        self._missed: Missed | None = None
        #: whether it takes what others of its tags take too
        self._shares = False
        #: whether it is offered all that comes, since there may be something of a change, or of a tag that nobody knows yet
        self._offered_all = False
        #: whether `events` waits for samples, and has nothing else to bring before them
        self._waiting = False
        #: writes a frame at once, or returns False where it cannot: set by a transport that can
        self.write_through: Callable[[Data], bool] | None = None
        # a client that goes on has samples that may be corrected, we do not know which
        self._thinning = Thinning(None if request.cursor is None else now_us) if request.max_rate is not None else None
        #: when the next samples may be sent, on the clock of the loop
        self._due = 0.0
        self._woken = asyncio.Event()
        self._gate = Gate(self._woken)
        self.pause = self._gate.pause
        self.resume = self._gate.resume
        self.grant = self._gate.grant

    @property
    def tag_count(self) -> int:
        """How many tags it has now. They are counted in the budget; whoever ends the subscription gives them back."""
        return sum(len(part.wanted.tags) for part in self._parts)

    @property
    def queued_bytes(self) -> int:
        """What waits to be sent."""
        return sum(part.nbytes for part in self._parts)

    @property
    def _parts(self) -> list[Part]:
        return [self._main] if self._joining is None else [self._main, self._joining.part]

    # -- called by the hub and by the client's control messages

    def offer(self, tick: Tick) -> None:
        """From the hub: write what was committed of the tags that it follows, or keep it."""
        if not self._shares or not self._spans(tick):
            self.offer_all(tick.entries)
        elif not self._written_through(tick):
            self._main.keep(Piece.of_tick(tick))
            self._kept()

    def offer_all(self, entries: Sequence[Entry]) -> None:
        """From the hub: keep what is ours of it."""
        parts = self._parts
        for entry in entries:
            for part in parts:
                self._take_born(part.offer(entry, self._catalogue.by_id))
        self._kept()

    def meet(self, samples: Samples) -> bool:
        """From the hub, before it hands on samples of tags that we have not been asked about: have it know which are ours. False: ask again about these tags."""
        wanted = self._main.wanted
        if not len(wanted.unknown(samples.tag_id)):
            return True
        # a tag is ours from its first sample in the time that was asked for
        strange = wanted.pick(samples).strangers.tag_id
        born = wanted.recognise(strange, self._catalogue.by_id)
        self._take_born(born)
        wanted.rule_out(samples.tag_id, self._catalogue.by_id)
        if len(wanted.unknown(strange)):
            self._follow_all()
        elif born:
            self._follow()
        return not len(wanted.unknown(samples.tag_id))

    def _follow(self) -> None:
        """Tell the hub what is wanted from now on. What it has by now has been offered before."""
        self._hub.deliver()
        wanted = self._main.wanted
        whole = self._joining is None and self._thinning is None and not self._pens
        self._shares = whole and self._main.seam is NOTHING
        if self._joining is not None or (wanted.follows and len(self._main.strangers())):
            self._follow_all()
            return
        self._offered_all = False
        tags = dict(wanted.tags)
        for pen in self._pens:
            tags |= {tag.tag_id: tag for tag in pen.pen.tags}
        if wanted.follows:
            self._hub.follow_with_new(self, list(tags.values()), text=self.text)
        else:
            self._hub.follow(self, list(tags.values()), text=self.text)

    def _follow_all(self) -> None:
        self._hub.follow_all(self)
        self._offered_all = True

    def _kept(self) -> None:
        """Something may have been put in a queue."""
        if self.queued_bytes > self._queue_bytes:
            self._drop()
        elif self.queued_bytes > self._queue_bytes // 2:
            # rather than have it dropped
            self._due = 0.0
        self._woken.set()

    def _spans(self, tick: Tick) -> bool:
        """Whether all of its samples lie in the time that was asked for."""
        request = self._request
        return (request.start is None or tick.first_ts >= request.start) and (request.end is None or tick.last_ts < request.end)

    def _written_through(self, tick: Tick) -> bool:
        # one that could not be written waits in the queue, before this one, until the task has woken up
        if not self._waiting or self._main.queue or self._missed is not None or self._born or self._fault is not None:
            return False
        if self.write_through is None or not self._gate.is_open or len(tick.samples) > MAX_FRAME_ROWS:
            return False
        if not self.write_through(Data(tick.samples, tick.cursor, backfill=False, tick=tick)):
            return False
        self._gate.spend()
        return True

    def change(self, add: Sequence[str], remove: Sequence[str]) -> None:
        """Ask for these names too, and for those no more; `events()` tells what becomes of it. Raises Busy."""
        if len(self._changes) >= MAX_CHANGES:
            raise Busy(f"{MAX_CHANGES} changes of this subscription wait for each other; wait for live before the next")
        self._changes.append((list(add), list(remove)))
        self._woken.set()

    def _take_born(self, tags: Sequence[Tag]) -> None:
        """Tags were made that are ours."""
        if not tags:
            return
        self._born += tags
        self._budget.take(len(tags))
        try:
            self._budget.check(self.tag_count, 0)
        except BadInput as error:
            self._fault = error

    def _drop(self) -> None:
        """The client is too slow: let go of all that waits, and remember what it was."""
        pieces = [piece for part in self._parts for piece in part.take()]
        if self._missed is None:
            self._missed = Missed(min(piece.first for piece in pieces) - 1)
        for piece in pieces:
            self._missed.add(piece.columns)

    # -- iterated by the transport

    async def events(self) -> AsyncGenerator[Event, None]:
        """All that the client is to be sent, in order. Raises Unavailable if the database goes away before the seam has passed, BadInput if wildcards come to match
        more tags than a subscription or its connection may have."""
        self._follow()
        try:
            # what a calculated pen was at the cursor is not known any more
            entries = self._hub.since(self._request.cursor) if self._request.cursor and not self._pens else None
            live = self._fresh() if entries is None else self._resumed(entries)
            async with aclosing(live) as events:
                async for event in events:
                    yield event
        finally:
            self._hub.unfollow(self)
            if self._joining is not None:
                await self._joining.aclose()
            self._main.take()

    def _take_since(self, part: Part, place: int) -> list[Tag]:
        """Take what came behind the place where the names of a part were resolved, as tags may have been made since. Returns those. Raises Unavailable."""
        if not part.wanted.follows:
            return []
        entries = self._hub.since(place)
        if entries is None:
            raise Unavailable("more was written while the wildcards were looked up than the server retains; ask again")
        return [tag for entry in entries for tag in part.offer(entry, self._catalogue.by_id)]

    async def _fresh(self) -> AsyncGenerator[Event, None]:
        request = self._request
        expired = request.cursor is not None
        self._take_born(self._take_since(self._main, request.place))
        if self._main.wanted.follows:
            # with what that has brought
            self._follow()
        yield Subscribed(request.tags, False if expired else None, self.text)
        if expired:
            yield Gap(request.start if request.start is not None else self._now_us, self._now_us, "cursor-expired")
        async with aclosing(self._history(self._main, request.tags)) as frames:
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
        self._main.seam = NOTHING
        self._follow()
        async with aclosing(self._tail()) as events:
            async for event in events:
                yield event

    async def _resumed(self, entries: Iterable[Entry]) -> AsyncGenerator[Event, None]:
        # what the client's earlier seam had seen was handed on before its cursor was given out, so nothing is seen by it any more
        self._main.seam = NOTHING
        self._follow()
        yield Subscribed(self._request.tags, True, self.text)
        for entry in entries:
            # what comes is offered as what is known, so that nothing may come between that and what follows
            self._hub.deliver()
            piece, born = self._main.piece(entry, self._catalogue.by_id)
            if born:
                self._follow()
            if len(piece.strangers):
                await self._look_up()
                self._hub.deliver()
                born += self._main.wanted.recognise(piece.strangers.tag_id, self._catalogue.by_id, unknown=True)
                piece = self._main.without_strangers(piece)
                self._follow()
            self._take_born(born)
            for event in self._announced():
                yield event
            for data in _live(concat([piece.ours, piece.born]), entry.cursor, entry.cursor):
                await self._gate.passed()
                yield self._counted(data)
        async with aclosing(self._tail()) as events:
            async for event in events:
                yield event

    async def _history(self, part: Part, tags: Sequence[Tag], prepare: bool = True) -> AsyncGenerator[Samples, None]:
        """The backfill of a part, as frames; the part's seam is passed with it."""
        load = self._load if self._pens and prepare else None
        async with self._turn(), aclosing(backfill(self._pool, self._queries(tags), part.pass_seam, load)) as chunks:
            async for chunk in chunks:
                for samples in chunk.pieces(MAX_FRAME_ROWS):
                    if self._thinning is not None:
                        self._thinning.sent(samples)
                    yield samples

    def _queries(self, tags: Sequence[Tag]) -> list[RangeQuery]:
        """What the backfill reads. It has no end where the subscription has none: timestamps may lie ahead of our clock, and what the snapshot sees of them
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

    def _taken(self) -> int:
        """The place on the bus up to which the client has, or needs, nothing."""
        self._hub.deliver()
        if self._missed is not None:
            return self._missed.behind
        return self._main.queue[0].first - 1 if self._main.queue else self._hub.cursor

    async def _tail(self) -> AsyncGenerator[Event, None]:
        end = self._request.end
        loop = asyncio.get_running_loop()
        over_at = None if end is None else loop.time() + (end - self._now_us) / 1e6
        over = False
        yield Live(self._taken())
        while True:
            try:
                async with asyncio.timeout_at(None if over else over_at):
                    while not self._is_something_to_do():
                        self._waiting = True
                        self._woken.clear()
                        await self._woken.wait()
            except TimeoutError:
                over = True
            finally:
                self._waiting = False
            if self._fault is not None:
                raise self._fault
            if over and self._joining is None:
                self._hub.deliver()
                while self._gate.is_open and self._main.queue:
                    # what waits for its time
                    self._due = 0.0
                    async with aclosing(self._news()) as events:
                        async for event in events:
                            yield event
                yield Data(Samples.empty(), self._taken(), backfill=False, last=True)
                return
            if self._changes and self._joining is None:
                yield await self._begin(*self._changes.popleft())
                continue
            if not self._gate.is_open:
                continue
            if self._missed is not None:
                missed, self._missed = self._missed, None
                gap = await self._gap(missed)
                for event in self._announced():
                    yield event
                if gap is not None:
                    yield await self._reloaded(gap) if self._pens else gap
                continue
            async with aclosing(self._news()) as events:
                async for event in events:
                    yield event
            if self._joining is not None and self._joining.ready:
                async with aclosing(self._joined()) as events:
                    async for event in events:
                        yield event

    def _is_something_to_do(self) -> bool:
        if self._fault is not None or (self._changes and self._joining is None):
            return True
        if not self._gate.is_open:
            return False
        return self._missed is not None or self._is_due() or (self._joining is not None and self._joining.ready)

    def _is_due(self) -> bool:
        return bool(self._main.queue) and (self._thinning is None or asyncio.get_running_loop().time() >= self._due)

    async def _news(self) -> AsyncGenerator[Event, None]:
        """What waits of the live tail, if it may be sent now."""
        await self._recognise(self._main)
        if not self._is_due():
            return
        # of more than a frame, putting it together would hold up others; what is thinned becomes little
        pieces = self._main.take(MAX_FRAME_ROWS if self._thinning is None else None)
        for event in self._announced():
            yield event
        if len(pieces) == 1 and pieces[0].tick is not None and len(pieces[0].ours) <= MAX_FRAME_ROWS:
            await self._gate.passed()
            yield Data(pieces[0].ours, pieces[0].cursor, backfill=False, tick=pieces[0].tick)
            return
        calculated, stale = await self._calculate(pieces)
        rows = coalesce([*(samples for piece in pieces for samples in (piece.ours, piece.born)), *calculated])
        if self._thinning is not None and self._request.max_rate is not None:
            rows = self._thinning.reduce(rows)
            self._due = asyncio.get_running_loop().time() + 1 / self._request.max_rate
            asyncio.get_running_loop().call_at(self._due, self._woken.set)
        for data in _live(rows, pieces[0].first, pieces[-1].cursor):
            await self._gate.passed()
            yield self._counted(data)
        for pen, span in stale:
            for event in await self._recalculated(pen, span, pieces[-1].cursor):
                if isinstance(event, Data):
                    await self._gate.passed()
                yield event

    def _counted(self, data: Data) -> Data:
        if self._thinning is not None:
            self._thinning.sent(data.samples)
        return data

    def _announced(self) -> list[Event]:
        """What the client has to be told before it gets samples of tags that were made since."""
        if self._fault is not None:
            raise self._fault
        born, self._born = self._born, []
        return [Born(tuple(born))] if born else []

    async def _recognise(self, part: Part) -> None:
        """Find out what the strangers that wait are."""
        while len(tag_ids := part.strangers()):
            await self._look_up()
            # not those that have come meanwhile: the catalogue may have been read before they were made
            self._take_born(part.recognise(tag_ids, self._catalogue.by_id))
        if self._offered_all and self._joining is None:
            self._follow()

    async def _gap(self, missed: Missed) -> Gap | None:
        """What is to be told of it; None where it was nothing of ours."""
        parts = self._parts
        tag_ids = np.array(sorted(missed.tag_ids), np.int32)
        for part in parts:
            if len(strange := part.wanted.unknown(tag_ids)):
                await self._look_up()
                self._hub.deliver()
                self._take_born(part.wanted.recognise(strange, self._catalogue.by_id, unknown=True))
                self._follow()
        tags = tuple(tag for part in parts for tag in part.wanted.tags.values() if tag.tag_id in missed.tag_ids)
        return Gap(missed.start, missed.end, "slow-client", tags) if tags or self._pens else None

    async def _look_up(self) -> None:
        """Have the catalogue know the tags that other processes have made; a database that is away is waited for."""
        while True:
            try:
                await self._catalogue.refresh()
                return
            except HistorianError as error:
                log.warning("the catalogue could not be read: %s", error)
                await asyncio.sleep(error.retry_after if isinstance(error, Unavailable) else 1)

    # -- changes

    async def _begin(self, add: Sequence[str], remove: Sequence[str]) -> Event:
        """Begin a change."""
        wanted = self._main.wanted
        try:
            unknown = [name for name in remove if name not in wanted.names]
            if unknown:
                raise BadInput(f"this subscription was not asked for {', '.join(map(repr, unknown[:5]))}: remove names as they were given")
            add = [name for name in add if name not in wanted.names]
            place = self._hub.cursor
            found = await self._catalogue.resolve(add)
            new = Wanted(add, (), None, None)
            if not self.text and (any(tag.kind == "text" for tag in found) or new.follows):
                raise BadInput(
                    "this subscription has no text column, which text tags and wildcards need: subscribe to these under another id"
                )
            # what has come is of the tags as they were, and none of them may be taken for one that is added
            self._hub.deliver()
            while len(self._main.strangers()):
                await self._recognise(self._main)
                self._hub.deliver()
            # from here on nothing is waited for, so that nothing comes between
            kept = Wanted(wanted.names, wanted.tags.values(), None, None)
            gone = kept.remove(remove, new)
            # one that the names kept ask for, and that has no samples yet, comes by them
            added = tuple(tag for tag in found if not kept.has(tag))
            self._budget.check(len(kept.tags) + len(added), len(added) - len(gone))
            part = Part(Wanted(add, added, self._request.start, self._request.end, beside=kept))
            born = self._take_since(part, place)
        except HistorianError as error:
            return Refused(error)
        self._budget.give_back(len(wanted.remove(remove, new)))
        self._budget.take(len(added))
        self._main.forget(np.array(gone, np.int32))
        # of those that the client was not told of it is not told that they are gone
        untold = {tag.tag_id for tag in self._born}
        self._born = [tag for tag in self._born if tag.tag_id in wanted.tags]
        self._joining = Joining(part, self._history_of_added(part, added), self._woken.set)
        self._follow()
        self._take_born(born)
        return Changed(added, tuple(tag_id for tag_id in gone if tag_id not in untold))

    async def _history_of_added(self, part: Part, tags: Sequence[Tag]) -> AsyncGenerator[Samples, None]:
        async with aclosing(self._history(part, tags, prepare=False)) as frames:
            async for samples in frames:
                yield samples
        await self._sweep.after_now()

    async def _joined(self) -> AsyncGenerator[Event, None]:
        """The next part of what a change has added, or its end: live with the others."""
        joining = self._joining
        assert joining is not None
        samples = joining.take()
        if samples is not None:
            await self._gate.passed()
            yield Data(samples, 0, backfill=True)
            return
        part = joining.part
        self._hub.deliver()
        # what is strange to one of them must not be recognised by the names of the other
        while len(self._main.strangers()) or len(part.strangers()):
            await self._recognise(self._main)
            await self._recognise(part)
            self._hub.deliver()
        pieces = part.take()
        self._main.wanted.absorb(part.wanted)
        self._main.seam = NOTHING
        self._joining = None
        self._follow()
        await joining.aclose()
        for event in self._announced():
            yield event
        # their places lie behind those of frames that were sent meanwhile; what was sent since is news for nobody who goes on from here with the tags as they were
        for data in _live(coalesce([samples for piece in pieces for samples in (piece.ours, piece.born)]), 0, 0):
            await self._gate.passed()
            yield self._counted(replace(data, cursor=self._taken()))
        yield Live(self._taken())

    # -- calculated pens

    async def _load(self, conn: Connection) -> None:
        for pen in self._pens:
            await pen.load(conn, self._now_us)

    async def _calculate(self, pieces: Sequence[Piece]) -> tuple[list[Samples], list[tuple[CalculatedPen, Stale]]]:
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
        events: list[Event] = [Data(samples, cursor, backfill=False) for part in parts for samples in part.pieces(MAX_FRAME_ROWS)]
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


def _live(samples: Samples, first: int, last: int) -> Iterable[Data]:
    """The rows of the notices `first` to `last`: only behind the last part are all of them with the client."""
    frames = list(samples.pieces(MAX_FRAME_ROWS))
    for n, part in enumerate(frames, 1):
        yield Data(part, last if n == len(frames) else first - 1, backfill=False)
