"""Who flows: of the answers that are being sent, few at a time, so that live streams and writers have the processor when they need it.

A database process works as long as its rows are taken. Eight of them and this process on few cores would leave the streams an eighth of a core each time that a
sample comes; as many as leave a core free are nearly as quick in all. The others stand still in between, with their socket full: which is why the socket is small.

Measured (2 cores, 16 analysts, PostgreSQL on the same machine; benchmarks/range.py): from writer to viewer a live sample took 47 ms (median) with two that flow and
sockets as the system has them, 17 to 24 ms with one and small sockets, and 5 ms without analysts; by Unix sockets 37 and 11 ms. The analysts had 105 and 85 to 95
MB/s; by Unix sockets 89 and 70.
"""

from __future__ import annotations

import asyncio
import os

#: answers that flow: each works a core for the database, and this process takes one
PERMITS = max(1, (os.cpu_count() or 2) - 1)
#: of a connection that range queries are read from, bytes that have come and wait
RECEIVE_BUFFER = 256 << 10
#: how long an answer flows before another that waits may
_QUANTUM_S = 0.05


class Flow:
    """One answer's part in what flows: `step` before each piece of work for it, `close` at its end.

    `permits` are shared by all answers, which take turns in the order in which they ask. One that waits for the database, or for its client, keeps none for longer than a
    turn takes.
    """

    def __init__(self, permits: asyncio.Semaphore, quantum_s: float = _QUANTUM_S) -> None:
        self._permits = permits
        self._quantum_s = quantum_s
        self._held = False
        self._begun = False
        self._over: asyncio.TimerHandle | None = None

    async def step(self) -> None:
        """Go on when it is this answer's turn; the first piece goes at once: somebody waits for the first byte."""
        if not self._begun:
            self._begun = True
        elif not self._held:
            await self._permits.acquire()
            self._held = True
            self._over = asyncio.get_running_loop().call_later(self._quantum_s, self._give_back)

    def close(self) -> None:
        """No more of this answer."""
        if self._over is not None:
            self._over.cancel()
        self._give_back()

    def _give_back(self) -> None:
        if self._held:
            self._held = False
            self._permits.release()
