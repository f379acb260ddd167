"""What of each message is not safe yet: a message is settled when its last sample is."""

from __future__ import annotations

import asyncio

import numpy as np

from historian.ingest.sources.source import Settled
from historian.schema.samples import Int64s


class Messages:
    """Numbers messages from 0 and counts their unsettled samples, within limits. Belongs to one event loop."""

    def __init__(self, max_samples: int, max_messages: int, max_bytes: int = 64 << 20) -> None:
        self._max_samples = max_samples
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._left: dict[int, int] = {}
        self._sizes: dict[int, int] = {}
        self._settled: dict[int, Settled] = {}
        self._next = 0
        self._room = asyncio.Event()
        self._room.set()
        self.samples = 0
        #: of the columns of messages that are not settled; texts may be long
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._left)

    def has_room(self, samples: int) -> bool:
        """Whether so many more may be taken; one message is always let in, however large."""
        return not self._left or (
            self.samples + samples <= self._max_samples and len(self._left) < self._max_messages and self.bytes < self._max_bytes
        )

    async def room(self, samples: int) -> None:
        """Wait until so many more may be taken."""
        while not self.has_room(samples):
            self._room.clear()
            await self._room.wait()

    def open(self, samples: int, settled: Settled | None, size: int = 0) -> int:
        """The number of a new message; one without samples is settled at once."""
        number = self._next
        self._next += 1
        if not samples:
            if settled is not None:
                settled()
            return number
        self._left[number] = samples
        self._sizes[number] = size
        self.samples += samples
        self.bytes += size
        if settled is not None:
            self._settled[number] = settled
        return number

    def settle(self, message: Int64s) -> None:
        """One sample of each of these messages is safe: int64[n], with repeats."""
        if not len(message):
            return
        numbers, counts = np.unique(message, return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            left = self._left[number] - count
            if left:
                self._left[number] = left
                continue
            del self._left[number]
            self.bytes -= self._sizes.pop(number)
            callback = self._settled.pop(number, None)
            if callback is not None:
                callback()
        self.samples -= len(message)
        self._room.set()
