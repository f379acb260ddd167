"""The writes of one stream connection: done one after the other, in the order in which they came, and each answered after its commit.

Bounded: so many may wait; more are refused. A fault of one is the answer to that one, and touches neither the others nor the subscriptions. What waits when the
connection ends is not begun; what is being committed then is perhaps committed, and its key tells.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

import orjson

from historian.schema.errors import Busy, Forbidden, HistorianError
from historian.stream.encoder import error_message
from historian.stream.messages import Write

log = logging.getLogger(__name__)

MAX_WAITING = 32
#: commands to the plant whose outcome is waited for; of more it is not told
MAX_WATCHED = 100


#: Performs a write. Yields the fields of `written` after the commit, and those of `outcome` once it is settled if it was not then; raises HistorianError before the first
Perform = Callable[[Write], AsyncGenerator[dict[str, Any], None]]


class Writes:
    """`perform` None: this server takes no commands. `close` ends what is under way."""

    def __init__(self, perform: Perform | None, send: Callable[[str], Awaitable[None]]) -> None:
        self._perform = perform
        self._send = send
        self._queue: asyncio.Queue[Write] = asyncio.Queue(MAX_WAITING)
        self._task: asyncio.Task[None] | None = None
        self._watching: set[asyncio.Task[None]] = set()

    def put(self, write: Write) -> None:
        """Have one done. Raises Busy, Forbidden."""
        if self._perform is None:
            raise Forbidden("this server takes no commands")
        try:
            self._queue.put_nowait(write)
        except asyncio.QueueFull:
            raise Busy(f"{MAX_WAITING} writes of this connection wait for their answers; send the next ones then") from None
        if self._task is None:
            self._task = asyncio.create_task(self._run(self._perform))

    async def close(self) -> None:
        """None is begun from now on."""
        tasks = [task for task in (self._task, *self._watching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, perform: Perform) -> None:
        with suppress(ConnectionError):
            while True:
                write = await self._queue.get()
                answers = perform(write)
                try:
                    written = await anext(answers)
                except HistorianError as error:
                    await self._send(error_message(error, write.id, request="write"))
                    continue
                except Exception:
                    log.exception("a write failed")
                    fault = HistorianError("this write failed on the server; its log says why")
                    await self._send(error_message(fault, write.id, request="write"))
                    continue
                await self._tell("written", write.id, written)
                if len(self._watching) < MAX_WATCHED:
                    watching = asyncio.create_task(self._watch(write.id, answers))
                    self._watching.add(watching)
                    watching.add_done_callback(self._watching.discard)

    async def _watch(self, write_id: int, answers: AsyncGenerator[dict[str, Any], None]) -> None:
        """Tell what became of a command; where that cannot be found out, the audit has it."""
        with suppress(ConnectionError, HistorianError):
            async with aclosing(answers) as outcomes:
                async for outcome in outcomes:
                    await self._tell("outcome", write_id, outcome)

    async def _tell(self, kind: str, write_id: int, fields: dict[str, Any]) -> None:
        await self._send(orjson.dumps({"type": kind, "id": write_id, **fields}).decode())
