"""When the next data frame of a stream may be sent: the client pauses, and grants credit."""

from __future__ import annotations

import asyncio


class Gate:
    """Open, until the client pauses or has used up its credit. Waited at by one task."""

    def __init__(self) -> None:
        self._paused = False
        self._credit: int | None = None
        self._changed = asyncio.Event()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._changed.set()

    def grant(self, frames: int) -> None:
        """From the first call on, each data frame takes one credit."""
        self._credit = (self._credit or 0) + frames
        self._changed.set()

    async def passed(self) -> None:
        """Return when a data frame may be sent, and count it."""
        while self._paused or self._credit == 0:
            self._changed.clear()
            await self._changed.wait()
        if self._credit is not None:
            self._credit -= 1
