"""Whose turn it is: places that are few, shared fairly by clients that ask for many."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from historian.schema.errors import Busy


class Turns:
    """`places` at a time; who waits gets the next that is free, the client first that holds fewest, then the one that waits longest.

    One client never holds all places if there are four or more, so that another's short question does not wait for the end of long ones. `waiting` of each client, and
    sixteen times as many in all, may wait, for `patience_s`.
    """

    def __init__(self, places: int, *, waiting: int, patience_s: float) -> None:
        self._free = places
        self._places = places
        self._share = places - places // 4
        self._waiting_each = waiting
        self._patience_s = patience_s
        self._held: Counter[str] = Counter()
        # clients in no order; their requests in that of coming, each with its number
        self._queues: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}
        self._next = 0
        #: how many wait
        self.waiting = 0

    @property
    def held(self) -> int:
        """Places in use."""
        return self._places - self._free

    @asynccontextmanager
    async def turn(self, who: str) -> AsyncIterator[None]:
        """One place for `who`, as long as the context is open. Raises Busy if too many wait already, or if it lasts too long."""
        await self._take(who)
        try:
            yield
        finally:
            self._free += 1
            self._held[who] -= 1
            if not self._held[who]:
                del self._held[who]
            self._grant()

    async def _take(self, who: str) -> None:
        waits = len(self._queues.get(who, ()))
        if waits >= self._waiting_each or self.waiting >= 16 * self._waiting_each:
            raise Busy(
                f"{waits} queries of this client wait for their turn, and {self.waiting} in all; ask again in a moment", retry_after=5
            )
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (self._next, mine)
        self._next += 1
        self.waiting += 1
        self._queues.setdefault(who, deque()).append(entry)
        self._grant()
        try:
            async with asyncio.timeout(self._patience_s):
                await mine
        except (TimeoutError, asyncio.CancelledError) as error:
            if mine.done() and not mine.cancelled():
                # the turn came in the same moment
                self._free += 1
                self._held[who] -= 1
            elif entry in (queue := self._queues.get(who, deque())):
                self.waiting -= 1
                queue.remove(entry)
                if not queue:
                    del self._queues[who]
            self._grant()
            if isinstance(error, TimeoutError):
                raise Busy(f"{self.held} queries are being answered, and no more can be; ask again in a moment", retry_after=5) from None
            raise

    def _grant(self) -> None:
        while self._free:
            ready = [(self._held[who], queue[0][0], who) for who, queue in self._queues.items() if self._held[who] < self._share]
            if not ready:
                return
            who = min(ready)[2]
            _, turn = self._queues[who].popleft()
            if not self._queues[who]:
                del self._queues[who]
            self.waiting -= 1
            if turn.done():
                # cancelled, and not yet here to say so
                continue
            self._free -= 1
            self._held[who] += 1
            turn.set_result(None)
