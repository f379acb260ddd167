"""The live bus between servers: NATS JetStream, in front of the ledger sweep.

Promise. What a writer of this process commits is sent to the other servers on its database, and what they send is handed to the hub: mostly within milliseconds of
the commit. No more than that: a message that is lost, late, doubled, too large or faulty changes when a sample arrives, never whether. The sweep of the ledger finds
all that was committed, and the hub drops an xid that it has handed on.

How. JetStream has a stream for each database (docs/scale.md). Each server reads it by an ordered consumer of its own, from what is new. Nobody waits for
acknowledgements of what is sent: to whom a message does not come, the ledger tells it.

Bounds. What waits to be sent, and what has come and waits to be handed on, have a size each; what is beyond is left to the sweep. A connection that is lost is made
again after pauses that grow. NATS may be away when the server starts, and for as long as it likes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from historian.ingest.backoff import Backoff
from historian.ingest.decode.ipc_sizes import check_sizes
from historian.ingest.decode.limits import DecodeLimits
from historian.schema import ledger
from historian.schema.connection import Pool
from historian.schema.errors import HistorianError
from historian.schema.ledger import Notice
from historian.stream.hub import Hub
from historian.stream.nats_connection import NatsAddress, NatsConnection

if TYPE_CHECKING:
    from nats.aio.msg import Msg

log = logging.getLogger(__name__)

XID = "Historian-Xid"
POSITION = "Historian-Position"
SENDER = "Historian-Sender"
#: of a message's size, left for its headers
_HEADERS_BYTES = 512

#: what waits to be sent
_WAITING_BYTES = 8 << 20
#: a notice that would unpack to more is none of ours
_LIMITS = DecodeLimits()
#: another primary may have taken over: whether the database is still the one whose stream this is
_LOOK_S = 60.0


@dataclass(slots=True)
class NatsBusCounts:
    """What went over the bus since it was made, in notices."""

    sent: int = 0
    #: too many at once, too large, or without a connection: left to the sweep
    unsent: int = 0
    received: int = 0
    #: those that came behind the sweep
    late: int = 0
    #: that had no room while this server was busy: left to the sweep
    dropped: int = 0
    faulty: int = 0
    connections: int = 0


class NatsBus:
    """The bus of one server. `run` is its task, which the owner starts and cancels. It belongs to one event loop."""

    def __init__(self, pool: Pool, hub: Hub, address: NatsAddress, *, instance: str) -> None:
        self._pool = pool
        self._hub = hub
        self._address = address
        self._instance = instance
        self._connection: NatsConnection | None = None
        self._waiting: deque[tuple[int, int, bytes]] = deque()
        self._waiting_bytes = 0
        self._woken = asyncio.Event()
        self.counts = NatsBusCounts()

    @property
    def connected(self) -> bool:
        """Whether notices of others come over the bus, as far as one knows."""
        return self._connection is not None

    @property
    def waiting_bytes(self) -> int:
        return self._waiting_bytes

    def relay(self, xid: int, position: int, content: bytes) -> bool:
        """Send what a transaction committed, soon. Whether it will be tried: if not, others are to be told to look into the ledger. Neither blocks nor raises."""
        connection = self._connection
        size = len(content)
        if connection is None or size + _HEADERS_BYTES > connection.max_payload or self._waiting_bytes + size > _WAITING_BYTES:
            self.counts.unsent += 1
            return False
        self._waiting.append((xid, position, content))
        self._waiting_bytes += size
        self._woken.set()
        return True

    async def run(self) -> None:
        """Keep connected until cancelled."""
        backoff = Backoff(first=0.2, longest=30.0)
        away = False
        while True:
            try:
                async with NatsConnection.open(self._pool, self._address, self._take) as connection:
                    log.info("the bus: connected to NATS at %s, stream %s", connection.where, connection.stream)
                    self.counts.connections += 1
                    self._connection = connection
                    away = False
                    backoff.reset()
                    await self._serve(connection)
            except Exception as error:
                # once, until it is back
                level = logging.DEBUG if away else logging.WARNING
                text = error if isinstance(error, HistorianError) else f"{type(error).__name__}: {error}"
                log.log(level, "the bus: NATS is away (%s); the ledger is swept instead", self._address.redact(str(text)))
                away = True
            finally:
                self._connection = None
                self.counts.unsent += len(self._waiting)
                self._waiting.clear()
                self._waiting_bytes = 0
            await asyncio.sleep(backoff.next())

    async def _serve(self, connection: NatsConnection) -> None:
        """Send what is to be sent, until the connection ends, or another server is the primary. Raises what ended it."""
        sending = asyncio.create_task(self._send(connection))
        try:
            while not sending.done():
                await connection.until_lost(_LOOK_S)
                self.counts.dropped += connection.take_dropped()
                if await connection.has_moved():
                    log.info("the bus: another primary has taken over")
                    return
            await sending
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await sending

    async def _send(self, connection: NatsConnection) -> None:
        while True:
            while not self._waiting:
                self._woken.clear()
                await self._woken.wait()
            xid, position, content = self._waiting.popleft()
            self._waiting_bytes -= len(content)
            await connection.send(content, {XID: str(xid), POSITION: str(position), SENDER: self._instance})
            self.counts.sent += 1

    async def _take(self, message: Msg) -> None:
        """A message of the stream: of another server, of this one, or of anybody who may write there."""
        headers = message.headers or {}
        if headers.get(SENDER) == self._instance:
            return
        try:
            xid, position = int(headers[XID]), int(headers[POSITION])
            if self._hub.has_passed(xid):
                self.counts.late += 1
                return
            check_sizes(memoryview(message.data), _LIMITS)
            notice = Notice(xid, position, ledger.decode_content(message.data))
        except Exception as error:
            if not self.counts.faulty:
                log.warning(
                    "the bus: a message on %s is no notice of ours (%s: %s); further ones are only counted",
                    message.subject,
                    type(error).__name__,
                    error,
                )
            self.counts.faulty += 1
            return
        self._hub.publish(notice)
        self.counts.received += 1
        # many may have come at once, and others want their turn
        await asyncio.sleep(0)
