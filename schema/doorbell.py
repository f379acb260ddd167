"""A doorbell: a NOTIFY channel on which another process rings after a commit. The table is the truth; without the bell it is only looked at later."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from historian.schema.connection import Connection, Pool

log = logging.getLogger(__name__)

_AGAIN_S = 0.5


class Doorbell:
    """Hears one channel, on a connection of a pool that it keeps. `run` is its task, which the owner starts and cancels."""

    def __init__(self, pool: Pool, channel: str) -> None:
        self._pool = pool
        self._channel = channel
        self._rung = asyncio.Event()
        #: whoever waits, waits no longer
        self.closed = False

    def close(self) -> None:
        """Have all who wait go on, now and at once: the owner stops."""
        self.closed = True
        self._ring()

    async def run(self) -> None:
        """Listen until cancelled; a database that is away is waited for."""
        while True:
            try:
                async with self._pool.acquire() as conn:
                    gone = asyncio.Event()
                    conn.add_termination_listener(lambda _: gone.set())  # noqa: B023 - each connection has its own event
                    await conn.add_listener(self._channel, self._hear)
                    # what came before it listened
                    self._ring()
                    try:
                        await gone.wait()
                    finally:
                        if not conn.is_closed():
                            await conn.remove_listener(self._channel, self._hear)
            except Exception as error:
                log.debug("doorbell %s: %s", self._channel, error)
            await asyncio.sleep(_AGAIN_S)

    def next_ring(self) -> asyncio.Event:
        """Set at the next ring. Take it before looking at the table, wait for it after: nothing is missed between."""
        return self._rung

    async def rung(self, ring: asyncio.Event, timeout_s: float) -> None:
        """Wait for a ring, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await ring.wait()

    def _hear(self, _conn: Connection, _pid: int, _channel: str, _payload: str) -> None:
        self._ring()

    def _ring(self) -> None:
        self._rung.set()
        self._rung = asyncio.Event()
