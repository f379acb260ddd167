"""When the next data frame of a stream may be sent: the client pauses, and grants credit."""

from __future__ import annotations

import asyncio

from historian.schema.errors import Unavailable

#: a client that takes nothing of its backfill for so long holds a database snapshot for nothing
STALLED_S = 60.0


def stalled() -> Unavailable:
    """What ends a backfill that is not taken."""
    return Unavailable(f"paused or without credit for {STALLED_S:.0f} s in the middle of the backfill; subscribe again")


class Gate:
    """Open, until the client pauses or has used up its credit. Waited at by one task, which may wait for other things by the same event."""

    def __init__(self, changed: asyncio.Event | None = None) -> None:
        """`changed` is set when it may have opened."""
        self._paused = False
        self._credit: int | None = None
        self._changed = changed or asyncio.Event()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._changed.set()

    def grant(self, frames: int) -> None:
        """From the first call on, each data frame takes one credit."""
        self._credit = (self._credit or 0) + frames
        self._changed.set()

    @property
    def is_open(self) -> bool:
        return not self._paused and self._credit != 0

    def spend(self) -> None:
        """Count a data frame."""
        if self._credit is not None:
            self._credit -= 1

    async def passed(self) -> None:
        """Return when a data frame may be sent, and count it."""
        while not self.is_open:
            self._changed.clear()
            await self._changed.wait()
        self.spend()

    async def passed_in_time(self) -> None:
        """The same for a frame of a backfill. Raises Unavailable where that takes too long."""
        try:
            async with asyncio.timeout(STALLED_S):
                await self.passed()
        except TimeoutError:
            raise stalled() from None
