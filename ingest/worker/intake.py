"""The intake: takes what the source puts in, leaves out what the window and the filters say, and makes batches of the rest.

Bounded: beyond so many unsettled samples or messages the source waits. A batch goes when nothing is on its way, when it is full, or when its first sample has waited
long enough, whichever is first.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from historian.ingest.command_queue import CommandQueue
from historian.ingest.filters.chain import Filters, Kept
from historian.ingest.path_samples import PathSamples, concat
from historian.ingest.sources.source import Settled
from historian.ingest.worker.config import WorkerConfig
from historian.ingest.worker.dead_letters import DeadLetters
from historian.ingest.worker.messages import Messages
from historian.ingest.worker.outbox import Outbox, until_kept
from historian.schema.catalogue import TagDefinition
from historian.schema.samples import Int64s

log = logging.getLogger(__name__)

_US = 1_000_000
#: held samples are looked at so often
_TICK_S = 1.0
#: of refused samples a line in the log at most so often
_TOLD_EVERY_S = 60.0


class WorkerIntake:
    """`historian.ingest.sources.source.Intake`, of one worker."""

    def __init__(
        self,
        config: WorkerConfig,
        state_dir: Path,
        filters: Filters,
        messages: Messages,
        outbox: Outbox,
        dead_letters: DeadLetters,
        commands: CommandQueue,
    ) -> None:
        self._commands = commands
        self._config = config
        self._state_dir = state_dir
        self._filters = filters
        self._messages = messages
        self._outbox = outbox
        self._dead_letters = dead_letters
        self._parts: list[tuple[PathSamples, Int64s]] = []
        self._rows = 0
        self._first_at = 0.0
        self._wake = asyncio.Event()
        self._closing = False
        self._told_at = -_TOLD_EVERY_S
        self.waiting = False

    @property
    def state_dir(self) -> Path:
        return self._state_dir

    @property
    def commands(self) -> CommandQueue:
        return self._commands

    async def put(self, samples: PathSamples, settled: Settled | None = None) -> None:
        """See `Intake.put`."""
        if not self._messages.has_room(len(samples)):
            # what the filters hold may be all that there is no room for
            self._take(self._filters.flush())
            self.waiting = True
            try:
                await self._messages.room(len(samples))
            finally:
                self.waiting = False
        number = self._messages.open(len(samples), settled, samples.nbytes)
        if not len(samples):
            return
        if self._config.max_past_s is not None or self._config.max_future_s is not None:
            samples = await self._within_window(samples, number)
        if len(samples):
            self._take(self._filters.apply(samples, np.full(len(samples), number, np.int64)))

    async def refuse(self, reason: str, where: str, payload: bytes, settled: Settled | None = None) -> None:
        """See `Intake.refuse`."""
        self._tell(f"a message from {where}: {reason}")
        await until_kept(lambda: self._dead_letters.refuse(reason, where, payload, "not understood"), self._outbox.is_full)
        if settled is not None:
            settled()

    def define(self, tags: Sequence[TagDefinition]) -> None:
        """See `Intake.define`."""
        self._filters.define(tags)
        self._outbox.define(tags)

    def _take(self, kept: Kept) -> None:
        self._messages.settle(kept.released)
        if len(kept.samples):
            if not self._rows:
                self._first_at = time.monotonic()
            self._parts.append((kept.samples, kept.message))
            self._rows += len(kept.samples)
            self._wake.set()

    async def _within_window(self, samples: PathSamples, number: int) -> PathSamples:
        """Those whose time is near enough to this machine's clock; the others become dead letters."""
        now = time.time_ns() // 1000
        past, future = self._config.max_past_s, self._config.max_future_s
        early = samples.ts < now - int(past * _US) if past is not None else np.zeros(len(samples), np.bool_)
        ahead = samples.ts > now + int(future * _US) if future is not None else np.zeros(len(samples), np.bool_)
        out = early | ahead
        if not out.any():
            return samples
        refused = samples.take(out)
        reasons = [
            f"its time lies {abs(ts - now) / _US:.0f} s {'ahead of' if ts > now else 'behind'} this machine's clock, beyond the"
            f" {'max_future_s' if ts > now else 'max_past_s'} of this worker"
            for ts in refused.ts.tolist()
        ]
        self._tell(f"{len(refused)} samples, the first of tag {refused.paths[refused.tag[0]]}: {reasons[0]}")
        await until_kept(lambda: self._dead_letters.write(refused, reasons, "outside the window"), self._outbox.is_full)
        self._messages.settle(np.full(len(refused), number, np.int64))
        return samples.take(~out)

    def _tell(self, text: str) -> None:
        if time.monotonic() - self._told_at >= _TOLD_EVERY_S:
            self._told_at = time.monotonic()
            log.warning("refused, and kept in %s: %s", self._dead_letters.directory, text)

    async def tick(self) -> None:
        """Let go of what the filters have held for long."""
        while True:
            await asyncio.sleep(_TICK_S)
            self._take(self._filters.due(time.time_ns() // 1000))

    async def run(self) -> None:
        """Make batches and start them, until `close`."""
        while True:
            while not self._rows:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
            await self._outbox.room()
            await self._gather()
            await self._outbox.prepare()
            samples, message = self._next_batch()
            self._outbox.start(samples, message)

    async def _gather(self) -> None:
        """Wait for more, while there is something on its way anyway."""
        until = self._first_at + self._config.batch_ms / 1000
        while self._rows < self._config.batch_samples and self._outbox.busy and not self._closing:
            left = until - time.monotonic()
            if left <= 0:
                return
            self._wake.clear()
            try:
                async with asyncio.timeout(left):
                    await self._wake.wait()
            except TimeoutError:
                return

    def _next_batch(self) -> tuple[PathSamples, Int64s]:
        taken: list[tuple[PathSamples, Int64s]] = []
        rows, used = 0, 0
        for samples, message in self._parts:
            room = self._config.batch_samples - rows
            if room <= 0:
                break
            if len(samples) > room:
                head = np.arange(len(samples)) < room
                taken.append((samples.take(head), message[:room]))
                self._parts[used] = (samples.take(~head), message[room:])
                rows += room
                break
            taken.append((samples, message))
            rows += len(samples)
            used += 1
        del self._parts[:used]
        self._rows -= rows
        self._first_at = time.monotonic()
        return concat([samples for samples, _ in taken]), np.concatenate([message for _, message in taken])

    def close(self) -> None:
        """No more comes: what the filters hold goes too, and `run` ends after the last batch."""
        self._take(self._filters.flush())
        self._closing = True
        self._wake.set()
