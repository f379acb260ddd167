"""The batcher: many producers' batches in few transactions (group commit), in bounded memory.

Promise. `submit` returns when the batch is on disk, or raises and it is not (Busy, Conflict, UnknownTag, Unavailable). Batches of one producer, and batches with
the same tags, are committed in the order in which they were submitted.

How. A few transactions may be on their way at a time. While they are, batches gather, and the next transaction takes them together, up to `batch_rows`. So a
lone producer never waits for a timer, and a crowd, or one who sends ahead, shares transactions. A transaction whose producers or tags are those of an earlier
one that is still on its way commits after it: a large one is begun all the same, since the writer does most of its work before it has to wait; few rows wait
for more. A transaction that fails for a reason of one batch is tried
again batch by batch, so that nobody pays for another's fault. A database that is away is waited for up to `patience_s`: the ledger makes the second try harmless.

What waits is bounded by `max_pending_rows`: beyond it `submit` raises Busy at once, and the producer comes back later. Shutdown: `close` refuses
new batches and commits those that wait.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from historian.ingest.writer import Writer
from historian.schema.errors import Busy, Conflict, HistorianError, Unavailable
from historian.schema.ledger import Batch, Receipt
from historian.schema.samples import Int32s

log = logging.getLogger(__name__)

#: rows that are worth a transaction which has to wait for an earlier one: fewer are quicker together with those that come meanwhile
_WORTH_AHEAD = 5000

#: A write that takes longer hangs: a connection to a server that stands still breaks only after many minutes. Far more than the largest batch takes.
_HANGS_S = 120.0

#: first and longest pause between two tries while the database is away
_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


@dataclass(eq=False, slots=True)
class _Waiting:
    batch: Batch
    answer: asyncio.Future[Receipt]
    tags: Int32s


@dataclass(eq=False, slots=True)
class _Group:
    """Batches of one transaction. `ended` is done when they are committed or refused."""

    waiting: list[_Waiting]
    rows: int
    keys: set[tuple[str, int]]
    tags: Int32s
    ended: asyncio.Future[None]

    @classmethod
    def of(cls, waiting: list[_Waiting]) -> _Group:
        batches = [one.batch for one in waiting]
        tags = np.unique(np.concatenate([one.tags for one in waiting]))
        keys = {(batch.producer, batch.seq) for batch in batches}
        rows = sum(len(batch.samples) for batch in batches)
        return cls(waiting, rows, keys, tags, asyncio.get_running_loop().create_future())

    def follows(self, other: _Group) -> bool:
        """Whether it has to commit after an earlier group."""
        producers = {producer for producer, _ in self.keys}
        return any(producer in producers for producer, _ in other.keys) or bool(np.isin(self.tags, other.tags, assume_unique=True).any())


class Batcher:
    """Feeds one writer with `lanes` transactions at a time. Belongs to one event loop; `start` it before the first `submit`."""

    def __init__(
        self,
        writer: Writer,
        *,
        lanes: int = 3,
        batch_rows: int = 100_000,
        max_pending_rows: int = 2_000_000,
        patience_s: float = 10.0,
    ) -> None:
        self._writer = writer
        self._lanes = lanes
        self._queue: deque[_Waiting] = deque()
        self._queued_rows = 0
        self._woken = asyncio.Event()
        self._running: list[_Group] = []
        self._batch_rows = batch_rows
        self._max_pending_rows = max_pending_rows
        self._patience_s = patience_s
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        self._away = False
        self.pending_rows = 0

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run()) for _ in range(self._lanes)]

    async def submit(self, batch: Batch) -> Receipt:
        """Have a batch committed. Raises Busy, Conflict, UnknownTag, Unavailable; then it is not stored, or the ledger knows it when it is sent again."""
        if self._closing:
            raise Unavailable("the server is stopping")
        # one batch is always let in, however large
        if self.pending_rows and self.pending_rows + len(batch.samples) > self._max_pending_rows:
            raise Busy(
                f"{self.pending_rows} samples wait to be written, and at most {self._max_pending_rows} may; send this batch again in a moment"
            )
        waiting = _Waiting(batch, asyncio.get_running_loop().create_future(), np.unique(batch.samples.tag_id))
        self._queue.append(waiting)
        self._queued_rows += len(batch.samples)
        self.pending_rows += len(batch.samples)
        self._woken.set()
        # a caller that goes away leaves its batch: it may be in a transaction already
        return await asyncio.shield(waiting.answer)

    async def close(self) -> None:
        """Refuse new batches, commit those that wait, and stop."""
        self._closing = True
        self._woken.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            while not self._queue or self._gathers():
                if self._closing and not self._queue:
                    return
                self._woken.clear()
                await self._woken.wait()
            group = self._next_group()
            earlier = [other for other in self._running if group.follows(other)]
            self._running.append(group)
            try:
                if not all(group.keys.isdisjoint(other.keys) for other in earlier):
                    # sent again while the first is on its way: which of them enters the ledger first would be left to chance
                    await asyncio.wait([other.ended for other in earlier])
                    earlier = []
                await self._commit(group.waiting, [other.ended for other in earlier])
            finally:
                self._running.remove(group)
                group.ended.set_result(None)
                self._woken.set()
                self.pending_rows -= group.rows
                for waiting in group.waiting:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(Unavailable("the server is stopping"))

    def _next_group(self) -> _Group:
        waiting = [self._queue.popleft()]
        rows = len(waiting[0].batch.samples)
        while self._queue and rows + len(self._queue[0].batch.samples) <= self._batch_rows:
            waiting.append(self._queue.popleft())
            rows += len(waiting[-1].batch.samples)
        self._queued_rows -= rows
        return _Group.of(waiting)

    def _gathers(self) -> bool:
        """Whether what waits had better wait for more."""
        if not self._running or self._queued_rows >= _WORTH_AHEAD:
            return False
        first = _Group.of([self._queue[0]])
        return any(first.follows(group) for group in self._running)

    async def _commit(self, group: list[_Waiting], after: Sequence[asyncio.Future[None]]) -> None:
        try:
            answers = await self._patiently([waiting.batch for waiting in group], after)
        except Unavailable as error:
            _fail(group, error)
        except Exception as error:
            if len(group) > 1:
                for waiting in group:
                    await self._commit([waiting], after)
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

    async def _patiently(self, batches: list[Batch], after: Sequence[asyncio.Future[None]]) -> list[Receipt | Conflict]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience_s
        pause = _PAUSE_S
        while True:
            try:
                answers = await self._answered(batches, after)
            except Unavailable as error:
                if not self._away:
                    # once, not at each try of each lane
                    log.warning("write: %s; trying again", error)
                    self._away = True
                if loop.time() + pause > deadline or self._closing:
                    raise
            else:
                if self._away:
                    log.info("write: the database is back")
                    self._away = False
                return answers
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _answered(self, batches: list[Batch], after: Sequence[asyncio.Future[None]]) -> list[Receipt | Conflict]:
        """Write them. Raises Unavailable for a database that does not answer."""
        writing = asyncio.ensure_future(self._writer.write(batches, after=[one for one in after if not one.done()]))
        try:
            # who waits without limit has nobody to tell
            await asyncio.wait({writing}, timeout=None if self._patience_s == math.inf else _HANGS_S)
        except asyncio.CancelledError:
            writing.cancel()
            raise
        if writing.done():
            return writing.result()
        # it may hang in its rollback too: let it, its connection is the database's to end
        writing.cancel()
        writing.add_done_callback(lambda task: task.cancelled() or task.exception())
        raise Unavailable(f"the database has not answered for {_HANGS_S:g} s")


def _fail(group: list[_Waiting], error: Exception) -> None:
    for waiting in group:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)
            # its caller may be gone: then nobody asks for the exception, which is no fault
            with suppress(BaseException):
                waiting.answer.exception()
