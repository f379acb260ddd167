"""A durable subscription: backfill and then all that is committed, from one acknowledged position to the next, over any number of connections and servers.

Promise. A client that keeps what came before the last `Position` that it has, and drops what came behind it, has every version of every sample of its tags once, from the
backfill's snapshot on: it goes on from that position, whoever was restarted meanwhile. Where the ledger no longer has what follows, a `Gap` says so and a backfill comes.

How. A position is a visibility snapshot. What follows one is read from the ledger, by a newer snapshot, and not taken off the live bus, which only says that there is
something new: the bus forgets, and its cursors are those of one server's life. So this costs the database a query a slice: it is for pipelines, not for viewers.

One task iterates `events()`. Another, started by it, stores what is acknowledged on this connection; a request of its own may store it too (`schema/cursors.py`).
Who opens the cursor anew takes it away: the older stream ends with Conflict.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext, suppress
from dataclasses import dataclass

from historian.query.range import RangeQuery, read_range
from historian.schema import cursors
from historian.schema.catalogue import Catalogue, Tag
from historian.schema.connection import Pool, translated
from historian.schema.cursors import Cursor, Position
from historian.schema.errors import BadInput, Unavailable
from historian.schema.paths import is_wildcard
from historian.schema.visibility import VisibilitySnapshot
from historian.stream.entry import Entry
from historian.stream.events import MAX_FRAME_ROWS, Data, Event, Gap, Live, Reached, Subscribed
from historian.stream.gate import Gate
from historian.stream.hub import Hub
from historian.stream.limits import TagBudget
from historian.stream.request import FOREVER
from historian.stream.slices import Slice, next_slice
from historian.stream.tag_filter import TagFilter

log = logging.getLogger(__name__)

#: between two slices: what is committed meanwhile comes together
BETWEEN_S = 0.05
#: without a word from the bus; and at most so often a cursor is moved on that nothing came for
IDLE_S = 5.0


@dataclass(frozen=True, slots=True)
class DurableRequest:
    """What a client asks for; `start` in µs, None: no backfill. `position`: behind which it goes on, None: behind what it has acknowledged."""

    name: str
    patterns: tuple[str, ...]
    tags: tuple[Tag, ...]
    start: int | None
    position: Position | None
    client: str | None


class DurableSubscription:
    """A client's view of some tags under a cursor's name. Make it, then iterate `events()` once."""

    def __init__(
        self,
        request: DurableRequest,
        *,
        hub: Hub,
        pool: Pool,
        catalogue: Catalogue,
        now_us: int,
        budget: TagBudget,
        turn: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
        on_acknowledged: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._request = request
        self._hub = hub
        self._pool = pool
        self._catalogue = catalogue
        self._now_us = now_us
        self._budget = budget
        self._turn = turn
        self._on_acknowledged = on_acknowledged
        self._holder = uuid.uuid4().hex
        self._gate = Gate()
        self.pause = self._gate.pause
        self.resume = self._gate.resume
        self.grant = self._gate.grant
        self._news = asyncio.Event()
        self._tags = request.tags
        self._open = any(is_wildcard(pattern) for pattern in request.patterns)
        self._filter = TagFilter(self._tags)
        self._origin = ""
        #: what the client has been sent
        self._read: VisibilitySnapshot | None = None
        #: the last position that it was told, which it may acknowledge; and the last that it did
        self._told: VisibilitySnapshot | None = None
        self._acknowledged: VisibilitySnapshot | None = None
        self._wanted: VisibilitySnapshot | None = None
        #: what was told before it is void: from then on a position can be acknowledged
        self._floor: VisibilitySnapshot | None = None
        self._stored: tuple[VisibilitySnapshot, VisibilitySnapshot] | None = None
        self._to_store = asyncio.Event()
        #: a position of before a new backfill must not be stored behind its begin
        self._storing = asyncio.Lock()

    @property
    def tag_count(self) -> int:
        """How many tags it has now. They are counted in the budget; whoever ends the subscription gives them back."""
        return len(self._tags)

    # -- called by the hub and by the client's control messages

    def offer(self, entry: Entry) -> None:
        """From the hub: something was committed."""
        self._news.set()

    def acknowledge(self, text: str) -> None:
        """The client has all up to this position, for good. Stored soon, with others. Raises BadInput."""
        position = Position.parse(text)
        if position.origin != self._origin or (self._read is not None and not self._read.covers(position.snapshot)):
            raise BadInput("this is no position that this subscription has told")
        if self._floor is None or not position.snapshot.covers(self._wanted or self._floor):
            return
        self._wanted = position.snapshot
        self._to_store.set()

    def change(self, add: Sequence[str], remove: Sequence[str]) -> None:
        """Raises BadInput."""
        raise BadInput("this subscription is durable, and its cursor is of its tags: open another one, under another name")

    def write_with(self, write: Callable[[Data], bool]) -> None:
        """Not used: what it sends comes from the ledger, and none of it amid a publication."""

    # -- iterated by the transport

    async def events(self) -> AsyncGenerator[Event, None]:
        """All that the client is to be sent, in order. Raises Conflict when the cursor is taken away, Unavailable."""
        storing: asyncio.Task[None] | None = None
        self._hub.attach(self)
        try:
            cursor, made = await self._take()
            since = None if made else self._where_to_go_on(cursor, await self._now_visible())
            storing = asyncio.create_task(self._store())
            storing.add_done_callback(lambda _: self._news.set())
            if since is not None:
                self._read = since
                yield Subscribed(self._tags, resumed=True)
            else:
                begun = self._request.position is not None or (not made and cursor.acknowledged is not None)
                yield Subscribed(self._tags, resumed=False if begun else None)
                if begun:
                    yield self._gap(cursor)
                async with aclosing(self._backfill(cursor, anything=not made or cursor.start is not None)) as backfill:
                    async for event in backfill:
                        yield event
            async with aclosing(self._follow(storing)) as following:
                async for event in following:
                    yield event
        finally:
            self._hub.detach(self)
            if storing is not None:
                storing.cancel()
                await asyncio.gather(storing, return_exceptions=True)

    async def _take(self) -> tuple[Cursor, bool]:
        request = self._request
        with translated():
            async with self._pool.acquire() as conn:
                self._origin = await cursors.origin_of(conn)
                return await cursors.take(conn, request.name, request.patterns, request.start, self._holder, request.client)

    async def _now_visible(self) -> VisibilitySnapshot:
        with translated():
            async with self._pool.acquire() as conn:
                return await VisibilitySnapshot.of(conn)

    def _where_to_go_on(self, cursor: Cursor, now: VisibilitySnapshot) -> VisibilitySnapshot | None:
        """The position behind which the ledger has all that is wanted, or None. Also takes over what the client has acknowledged."""
        asked = self._request.position
        if asked is not None and asked.snapshot == cursor.acknowledged and asked.origin == cursor.origin:
            # nothing came between it and what the cursor has seen since
            asked = None
        if cursor.origin != self._origin or (asked is not None and asked.origin != self._origin):
            return None
        since = cursor.seen if asked is None else asked.snapshot
        if (asked is None and cursor.acknowledged is None) or not since.covers(cursor.seen) or not cursor.lacks_nothing(since):
            return None
        # a database that was put back to an earlier state gives the same ids to other transactions
        if not now.covers(since):
            return None
        self._acknowledged = cursor.acknowledged
        self._told = self._floor = cursor.acknowledged if asked is None else since
        if cursor.acknowledged is not None:
            self._stored = (cursor.acknowledged, cursor.seen)
        return since

    def _gap(self, cursor: Cursor) -> Gap:
        start = cursor.start if cursor.start is not None else cursor.created_at
        return Gap(min(start, self._now_us), self._now_us, "cursor-expired")

    async def _backfill(self, cursor: Cursor, *, anything: bool = True) -> AsyncGenerator[Event, None]:
        """The history since the cursor's start; of one that has none, since it was made."""
        start = cursor.start if cursor.start is not None else cursor.created_at
        with translated():
            async with self._turn(), self._pool.acquire() as conn:
                async with self._storing:
                    await cursors.begin(conn, cursor.name, self._holder)
                    self._read = self._told = self._floor = self._acknowledged = self._wanted = self._stored = None
                async with conn.transaction(isolation="repeatable_read", readonly=True):
                    seam = await VisibilitySnapshot.of(conn)
                    # samples of tags that are made from now on come in slices
                    if await self._grown():
                        yield Subscribed(self._tags)
                    if anything and self._tags:
                        async with aclosing(read_range(conn, RangeQuery(self._tags, start, FOREVER))) as chunks:
                            async for chunk in chunks:
                                for samples in chunk.pieces(MAX_FRAME_ROWS):
                                    await self._gate.passed_in_time()
                                    yield Data(samples, 0, backfill=True)
        self._floor = seam
        yield self._reached(seam)

    async def _follow(self, storing: asyncio.Task[None]) -> AsyncGenerator[Event, None]:
        live = False
        loop = asyncio.get_running_loop()
        kept_at = loop.time()
        while True:
            if storing.done():
                # the cursor is no longer ours
                storing.result()
            self._news.clear()
            known = self._tags
            try:
                part = await self._next()
            except Unavailable as error:
                log.warning("the cursor %s waits for the database: %s", self._request.name, error)
                await asyncio.sleep(error.retry_after)
                continue
            if isinstance(part, Cursor):
                yield self._gap(part)
                async with aclosing(self._backfill(part)) as backfill:
                    async for event in backfill:
                        yield event
                continue
            if self._tags is not known:
                yield Subscribed(self._tags)
            for samples in part.samples:
                for frame in samples.pieces(MAX_FRAME_ROWS):
                    await self._gate.passed()
                    yield Data(frame, 0, backfill=False)
            if part.samples:
                yield self._reached(part.position)
            self._read = part.position
            if part.more:
                continue
            if not live:
                live = True
                yield Live(0)
            if loop.time() >= kept_at + IDLE_S:
                kept_at = loop.time()
                self._to_store.set()
            await asyncio.sleep(BETWEEN_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S):
                    await self._news.wait()

    def _reached(self, position: VisibilitySnapshot) -> Reached:
        self._told = self._read = position
        return Reached(str(Position(self._origin, position)))

    async def _next(self) -> Slice | Cursor:
        """What was committed since, or the cursor as it stands if the ledger no longer has all of that. Raises Conflict, Unavailable."""
        assert self._read is not None
        with translated():
            async with self._pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
                seen = await VisibilitySnapshot.of(conn)
                cursor = await cursors.read(conn, self._request.name)
                if cursor is None or cursor.holder != self._holder:
                    raise cursors.taken_away(self._request.name)
                self._take_over(cursor)
                if not cursor.lacks_nothing(self._read):
                    return cursor
                await self._grown()
                return await next_slice(conn, self._read, seen, self._filter.pick)

    def _take_over(self, cursor: Cursor) -> None:
        """What was acknowledged by a request of its own, on whichever server."""
        found, known = cursor.acknowledged, self._acknowledged
        if found is not None and found != known and (known is None or found.covers(known)):
            self._acknowledged, self._stored = found, (found, cursor.seen)

    async def _grown(self) -> bool:
        """Take in tags that the wildcards match by now: all of which this transaction's snapshot sees samples."""
        if not self._open:
            return False
        known = {tag.tag_id for tag in self._tags}
        tags = await self._catalogue.resolve(self._request.patterns)
        if all(tag.tag_id in known for tag in tags):
            return False
        more = len(tags) - len(known)
        self._budget.check(len(tags), more)
        self._budget.take(more)
        self._tags = tuple(tags)
        self._filter = TagFilter(self._tags)
        return True

    # -- what the client has acknowledged

    async def _store(self) -> None:
        """Keep acknowledged positions, the newest of those that came meanwhile. Ends with Conflict when the cursor is taken away."""
        while True:
            await self._to_store.wait()
            self._to_store.clear()
            try:
                acknowledged = await self._store_once()
            except Unavailable as error:
                log.warning("the cursor %s could not be moved on: %s", self._request.name, error)
                await asyncio.sleep(error.retry_after)
                self._to_store.set()
                continue
            if acknowledged is not None and self._on_acknowledged is not None:
                with suppress(ConnectionError):
                    await self._on_acknowledged(str(Position(self._origin, acknowledged)))

    async def _store_once(self) -> VisibilitySnapshot | None:
        async with self._storing:
            asked, self._wanted = self._wanted, None
            acknowledged = asked or self._acknowledged
            if acknowledged is None:
                return None
            if acknowledged == self._told and self._read is not None:
                # what followed it had nothing for this client
                seen = self._read
            elif asked is not None and asked != self._acknowledged:
                seen = asked
            else:
                return asked
            if (acknowledged, seen) != self._stored:
                try:
                    with translated():
                        async with self._pool.acquire() as conn:
                            await cursors.advance(conn, self._request.name, self._holder, acknowledged, seen)
                except Unavailable:
                    self._wanted = self._wanted or asked
                    raise
            self._acknowledged, self._stored = acknowledged, (acknowledged, seen)
            return asked
