"""Reading from a server's history what the subscription has missed."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
from asyncua.ua.uaerrors import UaStatusCodeError

from historian.ingest.backoff import Backoff
from historian.ingest.sources.opcua_checkpoint import Track
from historian.ingest.sources.opcua_config import OpcuaConfig
from historian.ingest.sources.opcua_connection import Connection, name_of
from historian.ingest.sources.opcua_messages import History
from historian.ingest.sources.opcua_samples import NodeTable, Taken
from historian.ingest.sources.source import Intake
from historian.schema.samples import Int64s

log = logging.getLogger(__name__)

_TRIES = 5
#: nothing more to be had, and no fault
_EMPTY = frozenset({"BadNoData", "BadBoundNotFound"})
#: the server holds few of them at a time: begin again where it was
_LOST_PLACE = frozenset({"BadContinuationPointInvalid", "BadNoContinuationPoints"})
_LATER = frozenset(
    {
        "BadTooManyOperations",
        "BadTimeout",
        "BadResourceUnavailable",
        "BadOutOfMemory",
        "BadRequestTimeout",
        "BadServerTooBusy",
        "BadNoCommunication",
    }
)
#: what is wrong is the session, not the question
_SESSION = frozenset(
    {
        "BadSessionIdInvalid",
        "BadSessionClosed",
        "BadSessionNotActivated",
        "BadSecureChannelIdInvalid",
        "BadSecureChannelClosed",
        "BadConnectionClosed",
    }
)


@dataclass(slots=True)
class Gap:
    """What is missing of one node, [start, end] in µs. `track` takes its samples on their way, `close` is called once all are settled."""

    number: int
    slot: int
    start: int
    end: int
    due: float
    track: Track
    close: Callable[[], None]


class HistoryReader:
    """Fills gaps, several at a time, each in the order of time, in chunks. One for each connection; `run` in as many tasks as may read at once.

    `took(Taken)` is told of every chunk that has been handed over, and of what could not be taken of it. `figures` has history_open and history_failed; `lost` takes
    the number of gaps that are given up.
    """

    def __init__(
        self,
        connection: Connection,
        config: OpcuaConfig,
        table: NodeTable,
        intake: Intake,
        took: Callable[[Taken], Awaitable[None]],
        figures: dict[str, int],
        lost: Callable[[int], None],
    ) -> None:
        self._connection, self._config, self._table, self._intake, self._took = connection, config, table, intake, took
        self._figures, self._lost = figures, lost
        figures["history_open"] = 0
        self._waiting: deque[Gap] = deque()
        self._by_slot: dict[int, Gap] = {}
        self._some = asyncio.Event()
        self._refusals: dict[str, int] = {}

    def extend(self, slot: int, start: int, end: int) -> bool:
        """Make a gap that nobody has begun with so long that it has these, too. Returns False if there is none in this slot."""
        waiting = self._by_slot.get(slot)
        if waiting is None:
            return False
        waiting.end, waiting.start = max(waiting.end, end), min(waiting.start, start)
        return True

    def add(self, gap: Gap) -> None:
        """Have a gap filled, after those that are there."""
        self._by_slot[gap.slot] = gap
        self._waiting.append(gap)
        self._figures["history_open"] += 1
        self._some.set()

    async def run(self) -> None:
        """Fill one gap after another, for ever. Raises what a broken connection raises."""
        loop = asyncio.get_running_loop()
        while True:
            while not self._waiting:
                self._some.clear()
                await self._some.wait()
            gap = self._waiting[0]
            if gap.due > loop.time():
                # they stand in the order in which they become due
                await asyncio.sleep(gap.due - loop.time())
                continue
            self._waiting.popleft()
            del self._by_slot[gap.slot]
            try:
                whole = await self._fill(gap)
            finally:
                self._figures["history_open"] -= 1
            if whole:
                gap.track.finish(gap.close)

    async def _fill(self, gap: Gap) -> bool:
        """Returns whether nothing more can be had; False if another connection should try again."""
        node = self._table.nodes[gap.number].node
        start, continuation, tries = gap.start, None, 0
        chunk = self._config.history_chunk
        backoff = Backoff(0.2, 10.0)
        while True:
            try:
                result = await self._connection.history(node, start, gap.end, chunk, continuation)
                code = name_of(result.status) if result.status >> 30 >= 2 else ""
            except UaStatusCodeError as error:
                result, code = None, name_of(error.code)
                if code in _SESSION:
                    raise
            except TimeoutError:
                result, code = None, "BadTimeout"
                chunk = max(100, chunk // 2)
            if code:
                if code in _EMPTY:
                    return True
                tries += 1
                if code in _LOST_PLACE and tries < _TRIES:
                    continuation = None
                    continue
                if code in _LATER and tries < _TRIES:
                    continuation = None
                    await asyncio.sleep(backoff.next())
                    continue
                self._failed(node.to_string(), code)
                if code in _LATER:
                    return False
                self._lost(1)
                return True
            assert result is not None
            newest = await self._put(gap, result)
            continuation = result.continuation
            count = len(result.values) if result.values is not None else 0
            if continuation is not None:
                if count == 0:
                    tries += 1
                    if tries >= _TRIES:
                        self._failed(node.to_string(), "only continuation points and no values")
                        self._lost(1)
                        return True
                else:
                    tries = 0
                    start = max(start, newest)
                continue
            if count < chunk:
                return True
            # as many as were asked for, and no continuation point: some servers take the number for the whole answer
            start = newest if newest > start else start + 1
            if start > gap.end:
                return True

    async def _put(self, gap: Gap, result: History) -> int:
        """Hand over one chunk. Returns its newest timestamp."""
        if result.values is None or not len(result.values):
            return gap.start
        taken = self._table.take(result.values, np.full(len(result.values), gap.number, np.int64), None)
        samples = taken.samples
        newest = gap.start
        if len(samples):
            if (np.diff(samples.ts) < 0).any():
                samples = samples.take(np.argsort(samples.ts, kind="stable"))
            newest = int(samples.ts[-1])
            slots: Int64s = np.array([gap.slot], np.int64)
            await self._intake.put(samples, gap.track.add(slots, np.array([min(newest, gap.end)], np.int64)))
        await self._took(taken)
        return newest

    def _failed(self, node: str, code: str) -> None:
        self._figures["history_failed"] += 1
        # one line for each kind of refusal, not for each of ten thousand nodes
        if code not in self._refusals:
            log.warning("the history of %s cannot be read: %s", node, code)
        self._refusals[code] = self._refusals.get(code, 0) + 1
