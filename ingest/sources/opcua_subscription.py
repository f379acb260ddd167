"""Subscriptions of one connection: monitored items made in batches, and what the server publishes, in order."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress

import numpy as np
from asyncua import ua
from asyncua.ua.uaerrors import UaStatusCodeError

from historian.ingest.sources.opcua_config import OpcuaConfig
from historian.ingest.sources.opcua_connection import BATCH, Connection, name_of
from historian.ingest.sources.opcua_messages import Publish
from historian.ingest.sources.opcua_samples import NodeTable
from historian.schema.samples import Int64s

#: the server keeps what it has for a worker that takes nothing this long
_LIFETIME_S = 60.0
#: one is answered while the samples of the other are handed over
_REQUESTS = 2
_SLACK_S = 2.0
_SEQUENCES = 2**32 - 1
_FILTER_REFUSED = frozenset({"BadMonitoredItemFilterUnsupported", "BadFilterNotAllowed", "BadMonitoredItemFilterInvalid"})


class Subscriptions:
    """All nodes of a table, in as many subscriptions as they need. A node's number is its client handle.

    queue    int64[n], samples that the server keeps of each node
    refused  what the server would not monitor: number of the node → its status code
    """

    def __init__(self, connection: Connection, config: OpcuaConfig, table: NodeTable) -> None:
        self._connection, self._config, self._table = connection, config, table
        self.queue: Int64s = np.full(len(table), config.queue_size, np.int64)
        self.refused: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._patience = 0.0
        self._per_subscription = config.items_per_subscription

    async def open(self) -> None:
        """Make the subscriptions. Values come, and `publishes` has to be read, as soon as `monitor` has begun."""
        interval = self._config.publishing_interval_ms
        keepalive = max(1, math.ceil(self._config.keepalive_s * 1000 / interval))
        lifetime = max(3 * keepalive, math.ceil(_LIFETIME_S * 1000 / interval))
        for _ in range(0, max(1, len(self._table)), self._per_subscription):
            made = await self._connection.create_subscription(interval, keepalive, lifetime)
            self._next[made.SubscriptionId] = 1
            silence = made.RevisedPublishingInterval * made.RevisedMaxKeepAliveCount / 1000
            # of two requests, the second waits for the second sign of life
            self._patience = max(self._patience, silence * (_REQUESTS + 1) + min(self._config.timeout_s, _SLACK_S))

    async def monitor(self) -> None:
        """Make the monitored items."""
        for n, subscription in enumerate(list(self._next)):
            numbers = list(range(n * self._per_subscription, min((n + 1) * self._per_subscription, len(self._table))))
            for first in range(0, len(numbers), BATCH):
                await self._monitor(subscription, numbers[first : first + BATCH], self._config.deadband)

    async def _monitor(self, subscription: int, numbers: list[int], deadband: float | None) -> None:
        results = await self._connection.create_items(subscription, [self._item(number, deadband) for number in numbers])
        again = []
        for number, result in zip(numbers, results, strict=True):
            if result.StatusCode.is_good():
                self.queue[number] = max(1, result.RevisedQueueSize)
            elif deadband is not None and name_of(result.StatusCode.value) in _FILTER_REFUSED:
                again.append(number)
            else:
                self.refused[number] = result.StatusCode.value
        if again:
            # all samples are better than none
            await self._monitor(subscription, again, None)

    def _item(self, number: int, deadband: float | None) -> ua.MonitoredItemCreateRequest:
        node = self._table.nodes[number]
        request = ua.MonitoredItemCreateRequest()
        request.ItemToMonitor.NodeId = node.node
        request.ItemToMonitor.AttributeId = ua.AttributeIds.Value
        request.MonitoringMode = ua.MonitoringMode.Reporting
        wanted = request.RequestedParameters
        wanted.ClientHandle = number
        wanted.SamplingInterval = self._config.sampling_interval_ms
        wanted.QueueSize = self._config.queue_size
        wanted.DiscardOldest = True
        if deadband is not None and node.kind in ("float", "int"):
            wanted.Filter = ua.DataChangeFilter(ua.DataChangeTrigger.StatusValue, int(ua.DeadbandType.Absolute), deadband)
        return request

    async def publishes(self) -> AsyncGenerator[tuple[Publish, bool]]:
        """What the server publishes, and whether messages before it are missing. The server is asked for no more than one message ahead of the one that is given.

        Raises ConnectionError when a subscription has ended, TimeoutError when the server is silent for longer than it promised, and what a broken connection raises.
        """
        asked: deque[asyncio.Task[Publish]] = deque()
        acknowledge: list[tuple[int, int]] = []
        requests = _REQUESTS
        try:
            while True:
                while len(asked) < requests:
                    asked.append(asyncio.create_task(self._connection.publish(acknowledge, self._patience)))
                    acknowledge = []
                    # tasks send in the order in which they first run
                    await asyncio.sleep(0)
                try:
                    publish = await asked.popleft()
                except UaStatusCodeError as error:
                    code = name_of(error.code)
                    if code == "BadTooManyPublishRequests" and requests > 1:
                        requests -= 1
                        continue
                    if code == "BadTimeout":
                        continue
                    raise
                if publish.status is not None and publish.status >> 30 >= 2:
                    raise ConnectionError(f"the server has ended the subscription: {name_of(publish.status)}")
                missing = False
                if publish.subscription in self._next and publish.sequence:
                    missing = publish.sequence != self._next[publish.subscription]
                    self._next[publish.subscription] = publish.sequence % _SEQUENCES + 1 if publish.notifications else publish.sequence
                if publish.notifications:
                    acknowledge.append((publish.subscription, publish.sequence))
                yield publish, missing
        finally:
            for task in asked:
                task.cancel()
            for task in asked:
                with suppress(asyncio.CancelledError, Exception):
                    await task
