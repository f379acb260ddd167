"""One connection to NATS: the database's stream on it, an ordered consumer, and how one finds out that it is lost.

The client library's own reconnection is off: a new connection is a new `NatsConnection`, so that there is one way only of getting ready, and its pauses are ours.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from historian.schema.connection import Pool, translated
from historian.schema.errors import BadInput, Unavailable

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

#: what the stream keeps, for consumers that were away: then the oldest go
STREAM_BYTES = 256 << 20
STREAM_AGE_S = 600

_CONNECT_S = 5.0
#: a peer that answers none of two pings is gone
_PING_S = 5
_CLOSE_S = 2.0
#: what has come and waits to be handed on
_PENDING_BYTES = 8 << 20
#: what the library holds back while the peer does not read
_SEND_BYTES = 1 << 20

# One database: a cluster, a timeline (a copy of the cluster that was promoted has another one) and a name in it.
_IDENTITY = """
SELECT format('%s-%s-%s', (SELECT system_identifier FROM pg_control_system()), ltrim(left(pg_walfile_name(pg_current_wal_lsn()), 8), '0'),
              (SELECT oid FROM pg_database WHERE datname = current_database()))
"""


@dataclass(frozen=True, slots=True)
class NatsAddress:
    """Where NATS is, and how it is told who we are. `urls` may hold a user and a password."""

    urls: tuple[str, ...]
    token: str | None = None
    credentials: Path | None = None

    def redact(self, text: str) -> str:
        """A text that may be logged."""
        for url in self.urls:
            parts = urlsplit(url)
            for secret in (url, parts.netloc.rpartition("@")[0], parts.password, self.token):
                if secret:
                    text = text.replace(secret, "…")
        return text


def require_nats() -> None:
    """Raises BadInput where the client library is not installed."""
    try:
        import nats  # noqa: F401
    except ImportError:
        raise BadInput("a bus of NATS needs its client library: pip install 'historian[nats]'") from None


async def _identity(pool: Pool) -> str:
    with translated():
        found: str = await pool.fetchval(_IDENTITY)
        return found


class NatsConnection:
    """An open connection. Make it by `open`."""

    def __init__(self, pool: Pool, identity: str) -> None:
        self._pool = pool
        self._identity = identity
        self._lost = asyncio.Event()
        self._error: Exception | None = None
        self._dropped = 0
        self._client: Client
        self.where = ""

    @property
    def stream(self) -> str:
        """Its name at JetStream."""
        return f"historian-{self._identity}"

    @property
    def subject(self) -> str:
        return f"historian.{self._identity}"

    @property
    def max_payload(self) -> int:
        """The largest message that this NATS takes, bytes."""
        return self._client.max_payload

    @classmethod
    @asynccontextmanager
    async def open(cls, pool: Pool, address: NatsAddress, take: Callable[[Msg], Awaitable[None]]) -> AsyncIterator[NatsConnection]:
        """Connected and reading as long as the context is open: `take` is called with one message after the other. Raises Unavailable, saying why."""
        import nats
        import nats.errors

        self = cls(pool, await _identity(pool))
        options: dict[str, Any] = {"token": address.token, "user_credentials": address.credentials and str(address.credentials)}
        try:
            self._client = await nats.connect(
                servers=list(address.urls),
                name="historian",
                allow_reconnect=False,
                connect_timeout=int(_CONNECT_S),
                ping_interval=_PING_S,
                max_outstanding_pings=2,
                pending_size=_SEND_BYTES,
                error_cb=self._on_error,
                closed_cb=self._on_closed,
                **{name: value for name, value in options.items() if value},
            )
        except (OSError, ssl.SSLError, ValueError, nats.errors.Error) as error:
            raise Unavailable(f"no connection: {str(error) or type(error).__name__}") from error
        try:
            self.where = self._client.connected_url.netloc.rpartition("@")[2] if self._client.connected_url else ""
            try:
                async with asyncio.timeout(2 * _CONNECT_S):
                    await self._read(take)
            except (TimeoutError, nats.errors.Error) as error:
                raise Unavailable(f"no JetStream there, or no right to use it: {str(error) or type(error).__name__}") from error
            yield self
        finally:
            # a peer that takes nothing does not take what is left for it either
            with suppress(Exception):
                async with asyncio.timeout(_CLOSE_S):
                    await self._client.close()

    async def _read(self, take: Callable[[Msg], Awaitable[None]]) -> None:
        from nats.js import api
        from nats.js.errors import NotFoundError

        js = self._client.jetstream(timeout=_CONNECT_S)
        try:
            # as it stands: whoever runs NATS may have made it, with other limits, and with replicas
            await js.stream_info(self.stream)
        except NotFoundError:
            await js.add_stream(
                api.StreamConfig(
                    name=self.stream,
                    description="what was committed to a historian's database",
                    subjects=[self.subject],
                    retention=api.RetentionPolicy.LIMITS,
                    discard=api.DiscardPolicy.OLD,
                    storage=api.StorageType.FILE,
                    max_bytes=STREAM_BYTES,
                    max_age=STREAM_AGE_S,
                )
            )
        await js.subscribe(
            self.subject,
            stream=self.stream,
            cb=take,
            ordered_consumer=True,
            deliver_policy=api.DeliverPolicy.NEW,
            idle_heartbeat=float(_PING_S),
            pending_bytes_limit=_PENDING_BYTES,
        )

    async def send(self, content: bytes, headers: dict[str, str]) -> None:
        """Put a message on the stream. Waits while much has not been taken by NATS. Raises what the library raises."""
        await self._client.publish(self.subject, content, headers=headers)

    async def until_lost(self, seconds: float) -> None:
        """Wait for so long. Raises Unavailable as soon as the connection is lost."""
        for _ in range(int(seconds)):
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._lost.wait()
            # the library may hang in closing a connection that does not take its last bytes, and then does not say that it is closed
            if self._lost.is_set() or not self._client.is_connected:
                reason = self._error or self._client.last_error
                raise Unavailable(
                    f"the connection was lost: {str(reason) or type(reason).__name__}" if reason else "the connection was lost"
                )

    async def has_moved(self) -> bool:
        """Whether the database is another one than that of this stream: a standby has taken over. One that is away has not."""
        try:
            return await _identity(self._pool) != self._identity
        except Unavailable:
            return False

    def take_dropped(self) -> int:
        """Messages that had no room since the last call."""
        dropped, self._dropped = self._dropped, 0
        return dropped

    async def _on_error(self, error: Exception) -> None:
        from nats.errors import SlowConsumerError

        if isinstance(error, SlowConsumerError):
            self._dropped += 1
            return
        # the consumer may be gone, as when somebody deleted the stream: begin again
        self._error = error
        self._lost.set()

    async def _on_closed(self) -> None:
        self._lost.set()
