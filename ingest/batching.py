"""The batcher: many producers' batches in few transactions (group commit), in bounded memory.

Promise. `submit` returns when the batch is on disk, or raises and it is not (Busy, Conflict, UnknownTag, Unavailable). Batches of one producer are committed in the
order in which they were submitted.

How. A producer belongs to one of a few lanes. A lane that is idle commits what it gets at once; while it commits, batches gather, and the next transaction
takes them together, up to `batch_rows`. So a lone producer never waits for a timer, and a crowd shares transactions. A transaction that fails for a reason of
one batch is tried again batch by batch, so that nobody pays for another's fault. A database that is away is waited for up to `patience_s`: the ledger makes
the second try harmless.

What waits is bounded by `max_pending_rows`: beyond it `submit` raises Busy at once, and the producer comes back later. Shutdown: `close` refuses
new batches and commits those that wait.
"""

from __future__ import annotations

import asyncio
import logging
import random
import zlib
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

from historian.ingest.writer import Writer
from historian.schema.errors import Busy, Conflict, HistorianError, Unavailable
from historian.schema.ledger import Batch, Receipt

log = logging.getLogger(__name__)

#: first and longest pause between two tries while the database is away
_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


@dataclass(eq=False, slots=True)
class _Waiting:
    batch: Batch
    answer: asyncio.Future[Receipt]


@dataclass(eq=False, slots=True)
class _Lane:
    queue: deque[_Waiting] = field(default_factory=deque)
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class Batcher:
    """Feeds one writer. Belongs to one event loop; `start` it before the first `submit`."""

    def __init__(
        self,
        writer: Writer,
        *,
        lanes: int = 2,
        batch_rows: int = 10_000,
        max_pending_rows: int = 2_000_000,
        patience_s: float = 10.0,
    ) -> None:
        self._writer = writer
        self._lanes = [_Lane() for _ in range(lanes)]
        self._batch_rows = batch_rows
        self._max_pending_rows = max_pending_rows
        self._patience_s = patience_s
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        self.pending_rows = 0

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run(lane)) for lane in self._lanes]

    async def submit(self, batch: Batch) -> Receipt:
        """Have a batch committed. Raises Busy, Conflict, UnknownTag, Unavailable; then it is not stored, or the ledger knows it when it is sent again."""
        if self._closing:
            raise Unavailable("the server is stopping")
        # one batch is always let in, however large
        if self.pending_rows and self.pending_rows + len(batch.samples) > self._max_pending_rows:
            raise Busy(
                f"{self.pending_rows} samples wait to be written, and at most {self._max_pending_rows} may; send this batch again in a moment"
            )
        waiting = _Waiting(batch, asyncio.get_running_loop().create_future())
        lane = self._lanes[zlib.crc32(batch.producer.encode()) % len(self._lanes)]
        lane.queue.append(waiting)
        self.pending_rows += len(batch.samples)
        lane.woken.set()
        # a caller that goes away leaves its batch: it may be in a transaction already
        return await asyncio.shield(waiting.answer)

    async def close(self) -> None:
        """Refuse new batches, commit those that wait, and stop."""
        self._closing = True
        for lane in self._lanes:
            lane.woken.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, lane: _Lane) -> None:
        while True:
            while not lane.queue:
                if self._closing:
                    return
                lane.woken.clear()
                await lane.woken.wait()
            group = [lane.queue.popleft()]
            rows = len(group[0].batch.samples)
            while lane.queue and rows + len(lane.queue[0].batch.samples) <= self._batch_rows:
                group.append(lane.queue.popleft())
                rows += len(group[-1].batch.samples)
            try:
                await self._commit(group)
            finally:
                self.pending_rows -= rows
                for waiting in group:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(Unavailable("the server is stopping"))

    async def _commit(self, group: list[_Waiting]) -> None:
        try:
            answers = await self._patiently([waiting.batch for waiting in group])
        except Unavailable as error:
            _fail(group, error)
        except Exception as error:
            if len(group) > 1:
                for waiting in group:
                    await self._commit([waiting])
                return
            if not isinstance(error, HistorianError):
                log.exception("a batch of producer %r could not be written", group[0].batch.producer)
                error = HistorianError("this batch could not be written; the server's log says why")
            _fail(group, error)
        else:
            for waiting, answer in zip(group, answers, strict=True):
                if waiting.answer.done():
                    continue
                if isinstance(answer, Conflict):
                    waiting.answer.set_exception(answer)
                else:
                    waiting.answer.set_result(answer)

    async def _patiently(self, batches: list[Batch]) -> list[Receipt | Conflict]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience_s
        pause = _PAUSE_S
        while True:
            try:
                return await self._writer.write(batches)
            except Unavailable as error:
                if loop.time() + pause > deadline or self._closing:
                    raise
                log.warning("write: %s; trying again", error)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LONGEST_PAUSE_S)


def _fail(group: list[_Waiting], error: Exception) -> None:
    for waiting in group:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)
            # its caller may be gone: then nobody asks for the exception, which is no fault
            with suppress(BaseException):
                waiting.answer.exception()
