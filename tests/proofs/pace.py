"""A producer's pace: without one it might be done before all the trouble that is meant for it."""

from __future__ import annotations

import asyncio
import time


class Pace:
    """At most so many samples a second on the average since it was last held up; 0: as fast as it can."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._next = 0.0

    async def take(self, samples: int) -> None:
        """Wait until so many more may be sent."""
        if self._per_s <= 0:
            return
        now = time.monotonic()
        at, self._next = max(now, self._next), max(now, self._next) + samples / self._per_s
        await asyncio.sleep(at - now)
