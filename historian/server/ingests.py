"""What the connections to /v1/ingest of one server share: the leases of their producers, a batcher that never gives up, and what is under way under each name."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from historian.ingest.batching import Batcher
from historian.ingest.leases import Lease, Leases
from historian.schema.errors import Unavailable
from historian.schema.ledger import Batch, Receipt


@dataclass(slots=True)
class IngestCounts:
    """`in_flight` batches are here and not answered."""

    connections: int = 0
    in_flight: int = 0
    acked: int = 0
    refused: int = 0


@dataclass(slots=True)
class Ingests:
    """`batcher` waits for the database for as long as it takes: a batch that it gave back would come after those behind it."""

    leases: Leases
    batcher: Batcher
    counts: IngestCounts = field(default_factory=IngestCounts)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _pending: defaultdict[str, set[asyncio.Task[Receipt]]] = field(default_factory=lambda: defaultdict(set))
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def submit(self, batch: Batch) -> asyncio.Task[Receipt]:
        """Hand a batch to the batcher. One turn of the loop later it is queued behind those before it, or has failed."""
        task = asyncio.create_task(self.batcher.submit(batch))
        self._pending[batch.producer].add(task)
        task.add_done_callback(lambda done: self._settle(batch.producer, done))
        return task

    def _settle(self, producer: str, task: asyncio.Task[Receipt]) -> None:
        if not task.cancelled():
            # its connection may be gone: then nobody asks for the exception, which is no fault
            task.exception()
        pending = self._pending[producer]
        pending.discard(task)
        if not pending:
            del self._pending[producer]

    async def settled(self, producer: str, timeout_s: float) -> None:
        """Until nothing of a producer is under way. Raises Unavailable after so many seconds."""
        pending = self._pending.get(producer)
        if pending and (await asyncio.wait(set(pending), timeout=timeout_s))[1]:
            raise Unavailable(f"batches that producer {producer!r} sent before are still being written")

    def release(self, lease: Lease) -> None:
        """Give a lease back as soon as nothing of its producer is under way: who has it next must find it in the ledger."""
        task = asyncio.create_task(self._release(lease))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _release(self, lease: Lease) -> None:
        pending = self._pending.get(lease.producer)
        if pending:
            # if it is lost meanwhile, there is nothing to give back, which does no harm
            await asyncio.wait(set(pending))
        await lease.release()

    async def close(self) -> None:
        """Commit what was accepted, and give the leases back."""
        await self.batcher.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.leases.close()
