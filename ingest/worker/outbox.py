"""Delivery: batches go upstream, or into the spool while upstream is away; what can never be taken goes into the dead-letter file.

Promise. A batch's samples are settled once they are committed upstream, or on disk in the spool or among the dead letters, and all batches before it are too. A batch
that was sent and not answered keeps its seq in the spool, so that it counts once however the first try ended. Of two samples at one (tag, ts) the later stays the later:
live batches do not wait for the backlog, but a sample that is not newer than what the backlog has of its tag queues behind it; and where an earlier batch is written
later than one behind it, because its first try failed, what it would undo of that one is written once more. Until then that one is not settled.

When the spool is full, or the dead-letter files are, batches wait here, the intake fills up, and the source takes nothing more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from historian.ingest.backoff import Backoff
from historian.ingest.path_samples import PathSamples
from historian.ingest.spool.newest import Newest
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
from historian.schema.samples import Bools, Int64s

log = logging.getLogger(__name__)

#: not the batch's fault: it will do later
_LATER = (Unavailable, Busy, ProducerTaken, Unauthorized, Forbidden, SchemaError)
_SEQS_AT_ONCE = 100_000
#: a batch that is refused in parts takes some more
_SPARE_SEQS = 50_000
#: of the backlog, on their way at a time: live batches share the way
_REPLAYED_AT_ONCE = 4
_MAX_CONFLICTS = 5
#: tries of a batch that upstream cannot take for a fault of its own, before it is looked into
_OWN_FAULTS = 3
_FIRST_PAUSE_S = 0.1
#: that nothing can be kept is logged at most so often
_TOLD_EVERY_S = 60.0
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
    #: to the spool at once: upstream is away, or what it is not newer than waits there
    queues: bool = False
    #: of batches before it, which were written after it was sent
    overtaking: list[PathSamples] = field(default_factory=list)
    resolved: asyncio.Event = field(default_factory=asyncio.Event)
    sending: asyncio.Task[bool] | None = None


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
        self._reserving = asyncio.Lock()
        self._definitions: dict[str, TagDefinition] = {}
        self._defined: dict[str, TagDefinition] = {}
        self._away = True
        self._stop = asyncio.Event()
        #: who waits for room in the spool may try again; one at a time does
        self._room_made = asyncio.Event()
        self._told_full_at = -_TOLD_EVERY_S
        #: set once upstream has been tried: until then nobody knows whether it is there
        self.tried = asyncio.Event()
        self._trouble: HistorianError | None = None
        self._told: type[HistorianError] | None = None
        #: batches that upstream has taken; and of those that it cannot for a fault of its own, how many were taken before, and how often it was tried
        self._taken = 0
        self._own_faults: dict[int, tuple[int, int]] = {}
        #: who waits for room, and for which, in words
        self._full: dict[object, str] = {}
        #: a batch could not be kept when the worker stopped: those after it are not settled either, so that their origin sends them in their order
        self._gap = False
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
        return next(iter(self._full.values()), "") or (str(self._trouble) if self._trouble is not None and self._away else "")

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
        pause = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while self._seqs[0] + _SPARE_SEQS >= self._seqs[1]:
            try:
                await self._reserve(0)
            except Busy as error:
                self.is_full(self, str(error))
                await asyncio.sleep(pause.next())
            else:
                self.is_full(self, "")
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
                self._start(_Parcel(self._seq(), samples.take(behind), message[behind], queues=True))
                samples, message = samples.take(~behind), message[~behind]
        if len(samples):
            self._start(_Parcel(self._seq(), samples, message, queues=self._away))

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
        outcome = None if parcel.queues or self._stop.is_set() else await self._try(parcel, parcel.seq, parcel.samples)
        in_order = outcome is True
        for earlier in list(self._flight):
            if earlier is parcel:
                break
            await earlier.resolved.wait()
        safe = outcome is not None or await self._keep(parcel, parcel.seq, parcel.samples)
        if safe and parcel.overtaking and (undone := _undone(parcel)).any():
            in_order = False
            safe = await self._keep(parcel, None, parcel.samples.take(undone))
        if not in_order:
            for later in list(self._flight)[self._flight.index(parcel) + 1 :]:
                if not later.queues:
                    later.overtaking.append(parcel.samples)
        self._gap |= not safe
        if not self._gap:
            self._settle(parcel.message)
        parcel.resolved.set()
        while self._flight and self._flight[0].resolved.is_set():
            self._flight.popleft()
        self._changed.set()

    async def _try(self, parcel: _Parcel, seq: int, samples: PathSamples) -> bool | None:
        """Deliver it. Returns None if upstream is away, otherwise what `_deliver` does."""
        parcel.sending = asyncio.ensure_future(self._deliver(seq, samples))
        try:
            await asyncio.wait({parcel.sending})
            clean = parcel.sending.result()
        except _LATER as error:
            self._went_away(error)
            return None
        except asyncio.CancelledError:
            if not self._stop.is_set():
                raise
            return None
        self.counts.delivered += len(samples)
        return clean

    async def _keep(self, parcel: _Parcel, seq: int | None, samples: PathSamples) -> bool:
        """Have samples of a batch, before which all are safe, in the spool, or upstream if there is no room and nothing they would overtake. Returns False if the
        worker stops and neither can be done."""
        pause = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        try:
            while True:
                self._room_made.clear()
                try:
                    if seq is None:
                        seq = await self._new_seq()
                    await self._append(seq, samples)
                    return True
                except TooLarge as error:
                    return await self._keep_halves(parcel, samples, str(error))
                except Busy as error:
                    self.is_full(parcel, str(error))
                    if self._stop.is_set():
                        return False
                if not self._away and seq is not None and not self._spool.behind(samples).any():
                    if await self._try(parcel, seq, samples) is not None:
                        return True
                    if self._stop.is_set():
                        return False
                await self._pause(pause.next())
        finally:
            self.is_full(parcel, "")

    async def _keep_halves(self, parcel: _Parcel, samples: PathSamples, reason: str) -> bool:
        if len(samples) == 1:
            await self._bury(samples, reason, "too large")
            return True
        half = np.arange(len(samples)) < len(samples) // 2
        return await self._keep(parcel, None, samples.take(half)) and await self._keep(parcel, None, samples.take(~half))

    async def _pause(self, seconds: float) -> None:
        """Wait for room in the spool, for upstream, or for the stop, but not longer than that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._room_made.wait()

    async def _append(self, seq: int, samples: PathSamples) -> None:
        async with self._appending:
            await asyncio.to_thread(self._spool.append, seq, samples)
        self.counts.spooled += len(samples)
        self._changed.set()

    # -- upstream

    async def _deliver(self, seq: int, samples: PathSamples) -> bool:
        """Have all of a batch committed, but for what upstream will never take. Returns whether it was taken whole, at once: if not, parts of it may have been
        written after the batches that were sent behind it. Raises one of _LATER."""
        waiting = [(seq, samples)]
        conflicts, clean = 0, True
        while waiting:
            number, part = waiting.pop(0)
            try:
                await self._upstream.deliver(number, part)
                self._taken += 1
                self._is_back()
            except _LATER:
                raise
            except BadSamples as error:
                faults = {fault.row: f"{fault.column}: {fault.detail}" for fault in error.faults if 0 <= fault.row < len(part)}
                if not faults:
                    clean = False
                    waiting[:0] = await self._narrowed(part, str(error))
                    continue
                bad = np.zeros(len(part), np.bool_)
                bad[list(faults)] = True
                await self._bury(part.take(bad), [faults[row] for row in sorted(faults)], "refused upstream")
                if not bad.all():
                    waiting.insert(0, (await self._new_seq(), part.take(~bad)))
            except Conflict as error:
                # this seq stands with another content: from another life of this worker, whose spool is gone
                conflicts += 1
                if conflicts > _MAX_CONFLICTS:
                    raise Unavailable(f"seqs of producer {self._upstream.producer!r} are in use: {error}") from error
                await self._reserve(await self._upstream.next_seq())
                waiting.insert(0, (await self._new_seq(), part))
            except (BadInput, UnknownTag) as error:
                waiting[:0] = await self._narrowed(part, str(error))
            except HistorianError as error:
                # the server's own fault, as it says: it may be mended, unless it takes others meanwhile and this one never
                first, tries = self._own_faults.setdefault(seq, (self._taken, 0))
                self._own_faults[seq] = (first, tries + 1)
                if tries < _OWN_FAULTS or self._taken == first:
                    raise Unavailable(str(error)) from error
                waiting[:0] = await self._narrowed(part, str(error))
            else:
                continue
            clean = False
        self._own_faults.pop(seq, None)
        return clean

    async def _narrowed(self, part: PathSamples, reason: str) -> list[tuple[int, PathSamples]]:
        """A batch that is refused without a row that is at fault, in halves; a sample alone is a dead letter."""
        if len(part) == 1:
            await self._bury(part, reason, "refused upstream")
            return []
        half = np.arange(len(part)) < len(part) // 2
        return [(await self._new_seq(), part.take(half)), (await self._new_seq(), part.take(~half))]

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

    def _is_back(self) -> None:
        if self._told is not None:
            log.info("upstream takes batches again")
            self._told = None

    def _went_away(self, error: HistorianError) -> None:
        if self._told is not type(error):
            # once, until a batch is taken: not at each try of one that answers and takes nothing
            log.warning("upstream: %s; batches go to the spool", error)
            self._told = type(error)
        if not self._away:
            self.counts.away += 1
        self._away, self._trouble = True, error
        self._changed.set()

    def is_full(self, who: object, trouble: str) -> None:
        """Somebody cannot have something kept, in words; or can again."""
        if trouble:
            self._full[who] = trouble
        else:
            self._full.pop(who, None)
        # while a full spool is sent, room comes and goes with each batch
        if trouble and time.monotonic() - self._told_full_at >= _TOLD_EVERY_S:
            self._told_full_at = time.monotonic()
            log.error("nothing more is taken for now: %s", trouble)

    def _seq(self) -> int:
        first, end = self._seqs
        if first >= end:
            raise RuntimeError("a batch was started without prepare()")
        self._seqs = (first + 1, end)
        return first

    async def _new_seq(self) -> int:
        """For a part of a batch. Raises Busy if the disk is full."""
        async with self._reserving:
            if self._seqs[0] >= self._seqs[1]:
                await self._reserve(0)
            return self._seq()

    async def _reserve(self, at_least: int) -> None:
        first = await asyncio.to_thread(self._spool.reserve_seqs, _SEQS_AT_ONCE, at_least)
        self._seqs = (first, first + _SEQS_AT_ONCE)

    # -- the backlog

    async def replay(self) -> None:
        """Find upstream when it is away, and send the backlog in its order, until `give_up`."""
        pause = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while not self._stop.is_set():
            try:
                if self._away:
                    # no reset: an upstream that answers and takes nothing is not asked ten times a second
                    await self._contact()
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
                pause.reset()
                await self._changed.wait()

    async def _contact(self) -> None:
        next_seq = await self._upstream.next_seq()
        if next_seq > self._seqs[0]:
            await self._reserve(next_seq)
        await self._define()
        if self._stop.is_set():
            return
        self._away, self._trouble = False, None
        self.tried.set()
        self._changed.set()
        self._room_made.set()

    async def _replay_some(self) -> None:
        entries = _independent(await asyncio.to_thread(self._spool.read, None, _REPLAYED_AT_ONCE))
        results = await asyncio.gather(*(self._deliver(seq, samples) for seq, samples in entries), return_exceptions=True)
        for (seq, samples), result in zip(entries, results, strict=True):
            if isinstance(result, BaseException):
                # those after it stay too: they come again in their order
                raise result
            await asyncio.to_thread(self._spool.done, seq)
            self.counts.replayed += len(samples)
            self._changed.set()
            self._room_made.set()

    async def watch(self) -> None:
        """Raises what a delivery raised that it should not have."""
        while self.failed is None:
            await self._broken.wait()
        raise self.failed

    # -- the end

    async def finish(self, grace_s: float) -> None:
        """Have what is on its way delivered, or spooled once the grace is over."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=grace_s)
        self.give_up()
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def give_up(self) -> None:
        """Upstream is not waited for any more: what is not delivered by now goes to the spool, and what has no room there is left to its origin."""
        self._stop.set()
        self._room_made.set()
        self._away = True
        for parcel in self._flight:
            if parcel.sending is not None:
                parcel.sending.cancel()


def _undone(parcel: _Parcel) -> Bools:
    """bool[n]: the samples that what was written after them may have undone."""
    newest = Newest()
    for samples in parcel.overtaking:
        newest.note(samples)
    return newest.behind(parcel.samples)


def _independent(entries: Sequence[tuple[int, PathSamples]]) -> Sequence[tuple[int, PathSamples]]:
    """The first of these, of which none has a tag at a time that an earlier one has too: should one fail and one behind it be committed, nothing is out of order."""
    newest = Newest()
    for n, (_, samples) in enumerate(entries):
        if newest.behind(samples).any():
            return entries[:n]
        newest.note(samples)
    return entries


async def until_kept(keep: Callable[[], Awaitable[object]], told: Callable[[object, str], None]) -> None:
    """Write to the dead-letter file, however long somebody takes to make room there."""
    pause = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
    try:
        while True:
            try:
                await keep()
            except Busy as error:
                told(keep, str(error))
                await asyncio.sleep(pause.next())
            else:
                return
    finally:
        told(keep, "")
