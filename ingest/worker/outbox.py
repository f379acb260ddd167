"""Delivery: batches go upstream, or into the spool while upstream is away; what can never be taken goes into the dead-letter file.

Promise. A batch's samples are settled once they are committed upstream, or on disk in the spool or among the dead letters. A batch that was sent and not answered
keeps its seq in the spool, so that it counts once however the first try ended. Of two samples at one (tag, ts) the later stays the later: live batches do not wait
for the backlog, but a sample that is not newer than what the backlog has of its tag queues behind it.

When the spool is full, or the dead-letter files are, batches wait here, the intake fills up, and the source takes nothing more.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from historian.ingest.backoff import Backoff
from historian.ingest.path_samples import PathSamples
from historian.ingest.spool.spool import Spool
from historian.ingest.worker.dead_letters import DeadLetters
from historian.ingest.worker.upstream import Upstream
from historian.schema.catalogue import TagDefinition
from historian.schema.errors import (
    BadInput,
    BadSamples,
    Busy,
    Conflict,
    Forbidden,
    HistorianError,
    ProducerTaken,
    SchemaError,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnknownTag,
)
from historian.schema.samples import Int64s

log = logging.getLogger(__name__)

#: not the batch's fault: it will do later
_LATER = (Unavailable, Busy, ProducerTaken, Unauthorized, Forbidden, SchemaError)
_SEQS_AT_ONCE = 100_000
#: a batch that is refused in parts takes some more
_SPARE_SEQS = 50_000
#: of the backlog, on their way at a time: live batches share the way
_REPLAYED_AT_ONCE = 4
_MAX_CONFLICTS = 5
_LONGEST_PAUSE_S = 10.0


@dataclass(slots=True)
class OutboxCounts:
    """Since the worker started."""

    delivered: int = 0
    replayed: int = 0
    spooled: int = 0
    away: int = 0


@dataclass(eq=False, slots=True)
class _Parcel:
    """A batch on its way. `message`: int64[n], the message of each sample."""

    seq: int
    samples: PathSamples
    message: Int64s
    #: to the spool at once: what it is not newer than waits there
    behind: bool = False
    delivered: bool = False
    resolved: asyncio.Event = field(default_factory=asyncio.Event)
    sending: asyncio.Task[None] | None = None


class Outbox:
    """Of one worker. Belongs to one event loop; `replay` runs as long as it does."""

    def __init__(
        self, upstream: Upstream, spool: Spool, dead_letters: DeadLetters, settle: Callable[[Int64s], None], *, in_flight: int = 8
    ) -> None:
        self._upstream = upstream
        self._spool = spool
        self._dead_letters = dead_letters
        self._settle = settle
        self._in_flight = in_flight
        self._flight: deque[_Parcel] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._seqs = (0, 0)
        self._appending = asyncio.Lock()
        self._definitions: dict[str, TagDefinition] = {}
        self._defined: dict[str, TagDefinition] = {}
        self._away = True
        self._stopping = False
        #: set once upstream has been tried: until then nobody knows whether it is there
        self.tried = asyncio.Event()
        self._trouble: HistorianError | None = None
        self._full = ""
        self.failed: BaseException | None = None
        self._broken = asyncio.Event()
        self.counts = OutboxCounts()

    # -- what it is doing

    @property
    def state(self) -> str:
        """running | replaying | spooling | connecting | conflict | full."""
        if self._full:
            return "full"
        if isinstance(self._trouble, ProducerTaken):
            return "conflict"
        if self._away:
            return "spooling" if self.tried.is_set() else "connecting"
        return "replaying" if self._spool.batches else "running"

    @property
    def trouble(self) -> str:
        """In words, what keeps batches from upstream, or from disk."""
        return self._full or (str(self._trouble) if self._trouble is not None and self._away else "")

    @property
    def busy(self) -> bool:
        """Whether a batch is on its way."""
        return bool(self._flight)

    async def room(self) -> None:
        """Wait until one more batch may be started."""
        await self.tried.wait()
        while len(self._flight) >= self._in_flight:
            self._changed.clear()
            await self._changed.wait()

    # -- live batches

    def define(self, tags: Sequence[TagDefinition]) -> None:
        """Tell upstream of these before the next batch, unless it has been told."""
        for tag in tags:
            if self._defined.get(tag.path) != tag:
                self._definitions[tag.path] = tag

    async def prepare(self) -> None:
        """What has to be done before `start`, which cannot wait."""
        pause = Backoff(0.1, _LONGEST_PAUSE_S)
        while self._seqs[0] + _SPARE_SEQS >= self._seqs[1]:
            try:
                await self._reserve(0)
            except Busy as error:
                self.is_full(str(error))
                await asyncio.sleep(pause.next())
            else:
                self.is_full("")
        if self._definitions and not self._away:
            try:
                await self._define()
            except _LATER as error:
                self._went_away(error)

    def start(self, samples: PathSamples, message: Int64s) -> None:
        """Send a batch on its way. Batches are sent in the order of these calls."""
        if self._spool.batches and not self._away:
            behind = self._spool.behind(samples)
            if behind.any():
                self._start(_Parcel(self._seq(), samples.take(behind), message[behind], behind=True))
                samples, message = samples.take(~behind), message[~behind]
        if len(samples):
            self._start(_Parcel(self._seq(), samples, message))

    def _start(self, parcel: _Parcel) -> None:
        self._flight.append(parcel)
        task = asyncio.create_task(self._see_through(parcel))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed = error
            self._broken.set()
        self._changed.set()

    async def _see_through(self, parcel: _Parcel) -> None:
        await self._send_or_store(parcel)
        parcel.resolved.set()
        # one that was delivered is kept until those before it are safe: they may have to be put in order yet
        while self._flight and self._flight[0].resolved.is_set():
            self._flight.popleft()
        self._changed.set()

    async def _send_or_store(self, parcel: _Parcel) -> None:
        pause = Backoff(0.1, _LONGEST_PAUSE_S)
        while True:
            if not self._away and not parcel.behind:
                parcel.sending = asyncio.ensure_future(self._deliver(parcel.seq, parcel.samples))
                try:
                    await asyncio.wait({parcel.sending})
                    parcel.sending.result()
                except _LATER as error:
                    self._went_away(error)
                except asyncio.CancelledError:
                    if not self._stopping:
                        raise
                    self._away = True
                else:
                    parcel.delivered = True
                    self._settle(parcel.message)
                    self.counts.delivered += len(parcel.samples)
                    await self._put_behind(parcel)
                    return
            try:
                await self._store_in_turn(parcel)
            except Busy as error:
                self.is_full(str(error))
                if self._stopping:
                    # its messages are not settled: their origin has them still
                    return
                await asyncio.sleep(pause.next())
            else:
                self.is_full("")
                for later in list(self._flight)[self._flight.index(parcel) + 1 :]:
                    if later.delivered:
                        await self._put_behind(later)
                return

    async def _put_behind(self, parcel: _Parcel) -> None:
        """Of a batch that was delivered: what an earlier one, which has to wait in the spool, would undo is written once more, after it."""
        if not self._spool.batches:
            return
        behind = self._spool.behind(parcel.samples)
        pause = Backoff(0.1, _LONGEST_PAUSE_S)
        while behind.any():
            try:
                return await self._append(self._seq(), parcel.samples.take(behind))
            except Busy as error:
                self.is_full(str(error))
                if self._stopping:
                    return
                await asyncio.sleep(pause.next())

    async def _store_in_turn(self, parcel: _Parcel) -> None:
        """Into the spool, after all batches before this one are safe. Raises Busy."""
        for earlier in list(self._flight):
            if earlier is parcel:
                break
            await earlier.resolved.wait()
        await self._append(parcel.seq, parcel.samples)
        self._settle(parcel.message)

    async def _append(self, seq: int, samples: PathSamples) -> None:
        async with self._appending:
            await asyncio.to_thread(self._spool.append, seq, samples)
        self.counts.spooled += len(samples)
        self._changed.set()

    # -- upstream

    async def _deliver(self, seq: int, samples: PathSamples) -> None:
        """Have all of a batch committed, but for what upstream will never take. Raises one of _LATER."""
        waiting = [(seq, samples)]
        conflicts = 0
        while waiting:
            number, part = waiting.pop(0)
            try:
                await self._upstream.deliver(number, part)
            except _LATER:
                raise
            except BadSamples as error:
                faults = {fault.row: f"{fault.column}: {fault.detail}" for fault in error.faults if 0 <= fault.row < len(part)}
                if not faults:
                    waiting[:0] = await self._narrowed(part, str(error))
                    continue
                bad = np.zeros(len(part), np.bool_)
                bad[list(faults)] = True
                await self._bury(part.take(bad), [faults[row] for row in sorted(faults)], "refused upstream")
                if not bad.all():
                    waiting.insert(0, (self._seq(), part.take(~bad)))
            except Conflict as error:
                # this seq stands with another content: from another life of this worker, whose spool is gone
                conflicts += 1
                if conflicts > _MAX_CONFLICTS:
                    raise Unavailable(f"seqs of producer {self._upstream.producer!r} are in use: {error}") from error
                await self._reserve(await self._upstream.next_seq())
                waiting.insert(0, (self._seq(), part))
            except (BadInput, UnknownTag) as error:
                waiting[:0] = await self._narrowed(part, str(error), whole=not isinstance(error, TooLarge))

    async def _narrowed(self, part: PathSamples, reason: str, *, whole: bool = True) -> list[tuple[int, PathSamples]]:
        """A batch that is refused without a row that is at fault, in halves; a sample alone is a dead letter."""
        if len(part) == 1:
            await self._bury(part, reason, "refused upstream")
            return []
        half = np.arange(len(part)) < len(part) // 2
        return [(self._seq(), part.take(half)), (self._seq(), part.take(~half))]

    async def _bury(self, samples: PathSamples, reasons: str | Sequence[str], kind: str) -> None:
        await until_kept(lambda: self._dead_letters.write(samples, reasons, kind), self.is_full)

    async def _define(self) -> None:
        """Raises one of _LATER; what upstream will not have is logged, and not asked for again."""
        wanted, self._definitions = self._definitions, {}
        try:
            await self._define_some(list(wanted.values()))
        except _LATER:
            self._definitions = wanted | self._definitions
            raise
        self._defined |= wanted

    async def _define_some(self, tags: Sequence[TagDefinition]) -> None:
        try:
            await self._upstream.define(tags)
        except _LATER:
            raise
        except HistorianError as error:
            if len(tags) == 1:
                log.warning("tag %s stays as it is upstream: %s", tags[0].path, error)
                return
            for half in (tags[: len(tags) // 2], tags[len(tags) // 2 :]):
                await self._define_some(half)

    def _went_away(self, error: HistorianError) -> None:
        if not self._away or type(error) is not type(self._trouble):
            log.warning("upstream: %s; batches go to the spool", error)
        if not self._away:
            self.counts.away += 1
        self._away, self._trouble = True, error
        self._changed.set()

    def is_full(self, trouble: str) -> None:
        """Something cannot be kept, in words; or nothing any more."""
        if trouble and not self._full:
            log.error("nothing more is taken: %s", trouble)
        elif self._full and not trouble:
            log.info("there is room again")
        self._full = trouble

    def _seq(self) -> int:
        first, end = self._seqs
        if first >= end:
            raise RuntimeError("a batch was started without prepare()")
        self._seqs = (first + 1, end)
        return first

    async def _reserve(self, at_least: int) -> None:
        first = await asyncio.to_thread(self._spool.reserve_seqs, _SEQS_AT_ONCE, at_least)
        self._seqs = (first, first + _SEQS_AT_ONCE)

    # -- the backlog

    async def replay(self) -> None:
        """Find upstream when it is away, and send the backlog in its order."""
        pause = Backoff(0.1, _LONGEST_PAUSE_S)
        while True:
            try:
                if self._away:
                    await self._contact()
                    pause.reset()
                if self._spool.batches:
                    await self._replay_some()
                    pause.reset()
                    continue
            except _LATER as error:
                self._went_away(error)
                self.tried.set()
                await asyncio.sleep(pause.next())
                continue
            self._changed.clear()
            if not self._away and not self._spool.batches:
                await self._changed.wait()

    async def _contact(self) -> None:
        next_seq = await self._upstream.next_seq()
        if next_seq > self._seqs[0]:
            await self._reserve(next_seq)
        await self._define()
        if self.tried.is_set():
            log.info("upstream is there")
        self._away, self._trouble = False, None
        self.tried.set()
        self._changed.set()

    async def _replay_some(self) -> None:
        entries = await asyncio.to_thread(self._spool.read, None, _REPLAYED_AT_ONCE)
        results = await asyncio.gather(*(self._deliver(seq, samples) for seq, samples in entries), return_exceptions=True)
        for (seq, samples), result in zip(entries, results, strict=True):
            if isinstance(result, BaseException):
                # those after it stay too: they come again in their order
                raise result
            await asyncio.to_thread(self._spool.done, seq)
            self.counts.replayed += len(samples)
            self._changed.set()

    async def watch(self) -> None:
        """Raises what a delivery raised that it should not have."""
        while self.failed is None:
            await self._broken.wait()
        raise self.failed

    # -- the end

    async def finish(self, grace_s: float) -> None:
        """Have what is on its way delivered, or spooled once the grace is over."""
        if not self._tasks:
            return
        await asyncio.wait(set(self._tasks), timeout=grace_s)
        self._stopping = True
        self._away = True
        while self._tasks:
            for parcel in self._flight:
                if parcel.sending is not None:
                    parcel.sending.cancel()
            await asyncio.wait(set(self._tasks), timeout=1.0)


async def until_kept(keep: Callable[[], object], told: Callable[[str], None]) -> None:
    """Write to the dead-letter file, however long somebody takes to make room there."""
    pause = Backoff(0.1, _LONGEST_PAUSE_S)
    full = False
    while True:
        try:
            await keep()  # type: ignore[misc]
        except Busy as error:
            full = True
            told(str(error))
            await asyncio.sleep(pause.next())
        else:
            if full:
                told("")
            return
