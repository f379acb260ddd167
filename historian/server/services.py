"""What the handlers of one server share: made by `run.py`, reached through `request.app[SERVICES]`."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from historian.commands.deliveries import Deliveries
from historian.commands.service import Commands
from historian.ingest.batching import Batcher
from historian.ingest.writer import Writer
from historian.schema.catalogue import Catalogue
from historian.schema.connection import Connection, Pool
from historian.schema.errors import Busy, Unavailable
from historian.schema.migrate import SchemaStatus
from historian.server import flow
from historian.server.ingests import Ingests
from historian.server.metrics import Metrics
from historian.server.turns import Turns
from historian.settings import Settings
from historian.stream.hub import Hub
from historian.stream.sweep import Sweep

#: for a turn at the database, when all connections are in use
_WAIT_S = 30.0
#: for a turn at the database, for a backfill: those before it may be long
_WAIT_FOR_BACKFILL_S = 3600.0
#: for a connection that has to be made
_CONNECT_S = 10.0


class BodyBudget:
    """Bounds the bytes of all request bodies that are being worked on."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.held = 0

    def take(self, size: int) -> None:
        """Count `size` more bytes. Raises Busy if that is too much; one body is always let in."""
        if self.held and self.held + size > self._limit:
            raise Busy(
                f"{self.held >> 20} MB of writes are being worked on, and at most {self._limit >> 20} MB may; send this again in a moment"
            )
        self.held += size

    def add(self, size: int) -> None:
        """Count `size` more bytes, which are here already and bounded otherwise."""
        self.held += size

    async def wait_for(self, size: int) -> None:
        """Count `size` more bytes once there is room, in the order of the calls; one body is always let in."""
        if not self._waiting and not (self.held and self.held + size > self._limit):
            self.held += size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(size)
            raise

    def give_back(self, size: int) -> None:
        self.held -= size
        while self._waiting:
            wanted, turn = self._waiting[0]
            if not turn.done():
                if self.held and self.held + wanted > self._limit:
                    return
                self.held += wanted
                turn.set_result(None)
            self._waiting.popleft()


@dataclass(slots=True)
class Services:
    """`reads` serves range queries and snapshots, `backfills` the streams: neither can starve the other, nor the writer."""

    settings: Settings
    schema: SchemaStatus
    catalogue: Catalogue
    writer: Writer
    batcher: Batcher
    hub: Hub
    sweep: Sweep
    reads: Pool
    backfills: Pool
    metrics: Metrics
    ingests: Ingests
    commands: Commands
    deliveries: Deliveries
    bodies: BodyBudget = field(init=False)
    #: what frames of /v1/ingest become; of its own, so that frames that wait cannot keep those before them from going on
    unpacked: BodyBudget = field(init=False)
    #: parsing makes many times a body's size in objects, and has one core at a time anyway: large bodies wait for each other
    decoders: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    #: whose turn it is at the connections of `reads`
    turns: Turns = field(init=False)
    #: and at those of `backfills`: a connection with many of them does not keep others waiting
    backfill_turns: Turns = field(init=False)
    #: of answers that flow at the same time (historian.server.flow)
    flowing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(flow.PERMITS))
    #: queries put their samples into a format one after the other, a few milliseconds each, and let the streams through between
    encoding: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: open streams: WebSocket connections and chunked responses
    streams: int = 0
    #: of them, by the address of the client
    streams_of: Counter[str] = field(default_factory=Counter)
    #: the metrics of all workers, where this one is not alone
    exposition: Callable[[], Awaitable[bytes]] | None = None
    stopping: bool = False

    @asynccontextmanager
    async def reading(self, who: str = "") -> AsyncIterator[Connection]:
        """A connection of `reads`, when it is the turn of the client `who`. Raises Busy if many wait, or for long, Unavailable."""
        async with self.turns.turn(who):
            try:
                conn = await self.reads.acquire(timeout=_CONNECT_S)
            except TimeoutError:
                raise Unavailable("the database does not answer") from None
            try:
                yield conn
            finally:
                await self.reads.release(conn)

    def __post_init__(self) -> None:
        self.bodies = BodyBudget(self.settings.max_bodies)
        self.turns = Turns(self.settings.read_connections, waiting=self.settings.read_queue, patience_s=_WAIT_S)
        self.backfill_turns = Turns(
            self.settings.backfill_connections, waiting=2 * self.settings.max_subscriptions, patience_s=_WAIT_FOR_BACKFILL_S
        )
        self.unpacked = BodyBudget(2 * self.settings.max_body)


SERVICES = web.AppKey("services", Services)
