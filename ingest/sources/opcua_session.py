"""One connection of the OPC UA source at work: what the server publishes goes to the intake, and what is missing between is read from its history."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from asyncua.ua.uaerrors import UaError

from historian.ingest.backoff import Backoff
from historian.ingest.sources.opcua_checkpoint import NEVER, Checkpoints
from historian.ingest.sources.opcua_config import OpcuaConfig
from historian.ingest.sources.opcua_connection import Connection
from historian.ingest.sources.opcua_decode import Values
from historian.ingest.sources.opcua_history import Gap, HistoryReader
from historian.ingest.sources.opcua_messages import Publish
from historian.ingest.sources.opcua_nodes import Selection, select
from historian.ingest.sources.opcua_quality import overflowed
from historian.ingest.sources.opcua_samples import NodeTable, Taken
from historian.ingest.sources.opcua_subscription import Subscriptions
from historian.ingest.sources.source import Intake, SourceCounts
from historian.schema.samples import Bools, Int64s

log = logging.getLogger(__name__)

_WARN_S = 60.0


class NodesChanged(Exception):
    """There are nodes that the connection does not have."""


class Owner(Protocol):
    """What a session needs of its source."""

    config: OpcuaConfig
    counts: SourceCounts

    def now_connected(self, selection: Selection, refused: dict[int, int], table: NodeTable) -> None: ...


@dataclass(slots=True)
class _Warned:
    """Says something at most once a minute."""

    at: float = -_WARN_S

    def __call__(self, text: str, *values: object) -> None:
        now = time.monotonic()
        if now - self.at >= _WARN_S:
            self.at = now
            log.warning(text, *values)


class Session:
    """What is known of the nodes of one connection."""

    def __init__(self, owner: Owner, connection: Connection, selection: Selection, intake: Intake, checkpoints: Checkpoints) -> None:
        self._owner, self._config, self._counts = owner, owner.config, owner.counts
        self._connection, self._selection, self._intake, self._checkpoints = connection, selection, intake, checkpoints
        table = NodeTable(selection.nodes)
        self._table = table
        self._slots = checkpoints.slots(table.paths)
        self._has_history: Bools = np.array([node.has_history for node in selection.nodes], np.bool_)
        #: newest source timestamp that was handed over, µs
        self._newest: Int64s = np.full(len(table), NEVER, np.int64)
        self._starts: Int64s = np.full(len(table), NEVER, np.int64)
        self._unseen = np.ones(len(table), np.bool_)
        self._suspect = np.zeros(len(table), np.bool_)
        #: samples of each node since the server had no more to send
        self._run: Int64s = np.zeros(len(table), np.int64)
        self._refused: set[int] = set()
        self._reader = HistoryReader(connection, self._config, table, intake, self._took_history, self._counts.more, self._lose)
        self._subscriptions = Subscriptions(connection, self._config, table)
        self._warn_lost = _Warned()

    async def run(self, backoff: Backoff) -> None:
        """Subscribe, and take what comes, until the connection breaks."""
        self._intake.define([node.definition for node in self._selection.nodes if node.kind is not None])
        start = NEVER
        if self._config.history is not None:
            start = int((time.time() - self._config.history.total_seconds()) * 1_000_000)
        self._starts = self._checkpoints.reconnect(self._slots, start)
        await self._subscriptions.open()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._take(backoff))
            for _ in range(self._config.history_concurrency):
                tasks.create_task(self._reader.run())
            await self._subscriptions.monitor()
            self._owner.now_connected(self._selection, self._subscriptions.refused, self._table)
            if self._config.browse_again_s:
                tasks.create_task(self._look_again())

    async def _take(self, backoff: Backoff) -> None:
        publishes = self._subscriptions.publishes()
        try:
            async for publish, missing in publishes:
                if missing:
                    self._suspect[:] = True
                if publish.notifications:
                    self._counts.messages += 1
                await self._publish(publish)
                backoff.reset()
        finally:
            await publishes.aclose()

    async def _publish(self, publish: Publish) -> None:
        arrival = time.time_ns() // 1000
        for values in publish.values:
            node = values.handle
            known = node < len(self._table)
            if not known.all():
                raise UaError("the server sent a value of a node that was not asked for")
            await self._values(values, node, arrival)
        if not publish.more:
            self._run[:] = 0

    async def _values(self, values: Values, node: Int64s, arrival: int) -> None:
        taken = self._table.take(values, node, arrival)
        samples = taken.samples
        if len(samples):
            numbers, first, count = np.unique(taken.node, return_index=True, return_counts=True)
            self._run[numbers] += count
            # a queue of one keeps the newest, and nobody expects more of it
            full = (self._run[numbers] >= self._subscriptions.queue[numbers]) & (self._subscriptions.queue[numbers] > 1)
            marked = np.zeros(len(self._table), np.bool_)
            marked[taken.node[overflowed(taken.status)]] = True
            lossy = (full | marked[numbers] | self._suspect[numbers]) & ~self._unseen[numbers]
            if lossy.any():
                self._overflow(numbers[lossy], taken)
                self._suspect[numbers] = False
            unseen = self._unseen[numbers]
            if unseen.any():
                self._first(numbers[unseen], samples.ts[first[unseen]])
            np.maximum.at(self._newest, taken.node, samples.ts)
            settled = self._checkpoints.track.add(self._slots[taken.node], samples.ts)
            self._counts.samples += len(samples)
            await self._intake.put(samples, settled)
        await self._took(taken)

    def _first(self, numbers: Int64s, ts: Int64s) -> None:
        """The first values of nodes on this connection: what lies between them and the checkpoint is missing."""
        self._unseen[numbers] = False
        self._suspect[numbers] = False
        starts = self._starts[numbers]
        new = starts == NEVER
        self._checkpoints.begin(self._slots[numbers[new]], ts[new])
        missing = ~new & (ts > starts)
        fill = missing & self._has_history[numbers]
        self._lose(int((missing & ~fill).sum()))
        close = self._checkpoints.closer(self._slots[numbers[~fill]])
        close()
        for number, start, end in zip(numbers[fill].tolist(), starts[fill].tolist(), ts[fill].tolist(), strict=True):
            slot = int(self._slots[number])
            self._reader.add(
                Gap(
                    number,
                    slot,
                    start,
                    end,
                    self._due(),
                    self._checkpoints.filling(),
                    self._checkpoints.closer(self._slots[number : number + 1]),
                )
            )

    def _overflow(self, numbers: Int64s, taken: Taken) -> None:
        """The server's queues of these nodes have lost samples, or may have."""
        self._counts.more["overflows"] += len(numbers)
        flagged = overflowed(taken.status)
        lost = 0
        for number in numbers.tolist():
            if not self._has_history[number]:
                lost += 1
                continue
            rows = np.flatnonzero(taken.node == number)
            last = rows[flagged[rows]]
            start, end = int(self._newest[number]), int(taken.samples.ts[last[-1] if len(last) else rows[0]])
            slot = int(self._slots[number])
            if not self._reader.extend(slot, start, end):
                self._checkpoints.open_gap(slot)
                closer = self._checkpoints.closer(self._slots[number : number + 1])
                self._reader.add(Gap(number, slot, start, end, self._due(), self._checkpoints.passing(), closer))
        self._lose(lost)

    def _due(self) -> float:
        return asyncio.get_running_loop().time() + self._config.history_delay_s

    def _lose(self, count: int) -> None:
        if count:
            self._counts.more["lost"] += count
            self._warn_lost(
                "samples of %d nodes of %s may be lost: the server has no history of them, or refuses it", count, self._config.url
            )

    async def _took_history(self, taken: Taken) -> None:
        self._counts.samples += len(taken.samples)
        self._counts.more["history_samples"] += len(taken.samples)
        await self._took(taken)

    async def _took(self, taken: Taken) -> None:
        for number, (reason, count) in taken.refused.items():
            self._counts.more["refused_samples"] += count
            if number in self._refused:
                continue
            self._refused.add(number)
            self._counts.refused += 1
            node = self._table.nodes[number]
            where = f"{self._config.url} {node.node_id}"
            await self._intake.refuse(f"node {node.node_id} of tag {node.path} sent {reason}", where, reason.encode())

    async def _look_again(self) -> None:
        """Browse now and then. Raises NodesChanged if there are nodes that were not there."""
        paths = set(self._table.paths)
        while True:
            await asyncio.sleep(self._config.browse_again_s)
            found = await select(self._connection, self._config)
            if any(node.path not in paths for node in found.nodes):
                raise NodesChanged
