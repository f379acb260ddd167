"""A doorbell: a NOTIFY channel on which another process rings after a commit. The table is the truth; without the bell it is only looked at later."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from historian.schema.connection import Connection, Pool

log = logging.getLogger(__name__)

Found = TypeVar("Found")

_AGAIN_S = 0.5


async def listen(pool: Pool, channel: str, heard: Callable[[str], None], listening: Callable[[], None], again_s: float) -> None:
    """Keep a connection that hears a channel, until cancelled: `heard` is called with each payload, `listening` whenever it hears from now on, as what came before
    that was not heard. A database that is away is tried again after `again_s`."""

    def hear(_conn: Connection, _pid: int, _channel: str, payload: str) -> None:
        heard(payload)

    while True:
        try:
            async with pool.acquire() as conn:
                gone = asyncio.Event()
                conn.add_termination_listener(lambda _: gone.set())  # noqa: B023 - each connection has its own event
                await conn.add_listener(channel, hear)
                listening()
                try:
                    await gone.wait()
                finally:
                    if not conn.is_closed():
                        await conn.remove_listener(channel, hear)
        except Exception as error:
            log.debug("doorbell %s: %s", channel, error)
        await asyncio.sleep(again_s)


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
        await listen(self._pool, self._channel, lambda _: self._ring(), self._ring, _AGAIN_S)

    async def ask(self, look: Callable[[], Awaitable[Found]], enough: Callable[[Found], bool], *, wait_s: float, every_s: float) -> Found:
        """What `look` finds in the table as soon as that is enough, or what it finds after `wait_s`, or when the owner stops.

        It looks at each ring, and every `every_s`.
        """
        deadline = time.monotonic() + wait_s
        while True:
            # taken before looking, waited for after: nothing is missed between
            ring = self._rung
            found = await look()
            left = deadline - time.monotonic()
            if enough(found) or left <= 0 or self.closed:
                return found
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, every_s)):
                    await ring.wait()

    def _ring(self) -> None:
        self._rung.set()
        self._rung = asyncio.Event()
