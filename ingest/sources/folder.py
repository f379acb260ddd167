"""Files dropped into a folder: each is looked through, sent, and moved away when all its samples are settled.

Promise. A file is taken once it is complete: nothing has changed it for `settle_s`, or that long after it was renamed into the folder. Its samples are sent
only if all of it is good. It is moved (or deleted) only when every sample of it is settled; the same content again is set aside and not sent. A file at fault goes to
failed/ with what is wrong, and is never tried again by itself. A process that is killed goes on, when it is started again, with the chunks that were not settled.

Files are sent one after the other, the oldest first, so that of two which say something else about the same instant the later one wins; many may be unsettled at once.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from historian.ingest.backoff import Backoff
from historian.ingest.files import Chunk, Plan, examine
from historian.ingest.path_samples import PathSamples
from historian.ingest.sources.folder_config import FolderConfig
from historian.ingest.sources.folder_moves import Folder
from historian.ingest.sources.folder_state import DoneFile, DoneList, FileState, Progress
from historian.ingest.sources.source import Intake, SourceCounts
from historian.schema.catalogue import TagDefinition
from historian.schema.errors import BadInput
from historian.schema.samples import BAD, GOOD

log = logging.getLogger(__name__)

__all__ = ["FolderConfig", "FolderSource"]

#: files that are watched at once until they are complete
WATCHED = 1_000
#: files that are sent and not settled, at most
UNSETTLED = 500
#: reads of a file that the storage fails, before it is set aside
TRIES = 6
#: of the storage, not of the file: to be tried again
_PASSING = {
    errno.EIO,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.ENODEV,
    errno.ENXIO,
    errno.EMFILE,
    errno.ENFILE,
}
# a folder of many files is not looked through all the time
_LOOKING_SHARE = 0.2


class _Stopped(Exception):
    """The source is cancelled while a thread looks through a file."""


@dataclass(slots=True, eq=False)
class _Taken:
    """A file that is sent, or being sent."""

    name: str
    state: FileState
    identity: str
    #: chunks that are not settled
    left: set[int]
    is_long: bool
    #: other files of this content
    twins: list[tuple[str, FileState]] = field(default_factory=list)
    given_up: bool = False


@dataclass(slots=True, eq=False)
class _Finished:
    """A file that only has to be moved: it is done, a duplicate, or at fault."""

    name: str
    state: FileState
    done: DoneFile | None = None
    duplicate: bool = False
    error: str | None = None


class FolderSource:
    """One folder. Its state is in the intake's `state_dir`."""

    def __init__(self, config: FolderConfig) -> None:
        self.counts = SourceCounts(more=dict.fromkeys(("files_done", "files_failed", "files_duplicate", "files_unsettled"), 0))
        self._config = config
        self._options = config.options
        self._folder = Folder(config.path, config.match)
        self._backoff = Backoff()
        self._seen: dict[str, tuple[FileState, float]] = {}
        self._tries: dict[str, int] = {}
        self._pending: list[str] = []
        self._looked = 0.0
        #: by name: sent, or waiting to be moved
        self._names: set[str] = set()
        self._taken: dict[str, _Taken] = {}
        #: to be noted and moved; noted, and to be moved
        self._finished: deque[_Finished] = deque()
        self._moves: list[_Finished] = []
        self._stuck: OSError | None = None
        self._stop = threading.Event()

    async def run(self, intake: Intake) -> None:
        """Take files until cancelled."""
        self._intake = intake
        self._changed = asyncio.Event()
        self._stop.clear()
        is_open = False
        try:
            while True:
                try:
                    if not is_open:
                        await asyncio.to_thread(self._open)
                        is_open = True
                    pause = await self._once()
                    self._is_well()
                    await self._wait(pause)
                except OSError as error:
                    await asyncio.sleep(self._is_in_trouble(error))
        finally:
            self._stop.set()
            self.counts.connected = False

    def _open(self) -> None:
        state_dir = self._intake.state_dir
        self._done, self._progress = DoneList(state_dir / "done.jsonl"), Progress(state_dir / "progress")
        self._folder.sweep()
        self._names.clear()
        self._taken.clear()
        self._finished.clear()
        self._moves.clear()

    async def _once(self) -> float:
        """One look into the folder, and all that is to be taken. Returns the pause before the next, in seconds. Raises OSError."""
        started = time.monotonic()
        await asyncio.to_thread(self._folder.prepare)
        await self._move_finished()
        is_whole = not self._pending or started - self._looked > self._config.settle_s + 2 * self._config.poll_s
        if is_whole:
            found = await asyncio.to_thread(self._folder.oldest, WATCHED, frozenset(self._names))
        else:
            found = await asyncio.to_thread(self._folder.states, self._pending)
        now = time.monotonic()
        looking = now - started
        if is_whole:
            self._looked = now
        known, self._seen = self._seen, {}
        self._tries = {name: tries for name, tries in self._tries.items() if name in known}
        ready = []
        for name, state in found:
            before = known.get(name)
            since = before[1] if before is not None and before[0] == state else now
            self._seen[name] = (state, since)
            if now - since >= self._config.settle_s:
                ready.append((name, state))
        # of very many files only these are looked at until they are complete
        due = {name for name, _ in ready}
        self._pending = [name for name, _ in found if name not in due] if len(found) == WATCHED or not is_whole else []
        for name, state in ready:
            await self._take(name, state)
            if self._finished:
                await self._move_finished()
        if self._stuck is not None:
            raise self._stuck
        return self._config.poll_s if found else max(self._config.poll_s, looking / _LOOKING_SHARE)

    async def _wait(self, pause: float) -> None:
        """Until the next look; files that are finished meanwhile are moved. Raises OSError."""
        until = asyncio.get_running_loop().time() + pause
        while True:
            try:
                async with asyncio.timeout_at(until):
                    await self._changed.wait()
            except TimeoutError:
                return
            self._changed.clear()
            await self._move_finished()

    def _is_well(self) -> None:
        self._backoff.reset()
        if not self.counts.connected:
            self.counts.connects += 1
            if self.counts.trouble:
                log.info("folder %s is back", self._config.path)
        self.counts.connected, self.counts.trouble = True, ""

    def _is_in_trouble(self, error: OSError) -> float:
        where = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
        trouble = f"folder {self._config.path}: {where}{error.strerror or error}"
        if self.counts.connected:
            self.counts.disconnects += 1
        if not self.counts.trouble:
            log.warning("%s; trying again", ascii(trouble)[1:-1])
        self.counts.connected, self.counts.trouble = False, trouble
        return self._backoff.next()

    # ── one file

    async def _take(self, name: str, state: FileState) -> None:
        """Look through a file and send it. Raises OSError if the folder is at fault."""
        while len(self._taken) >= UNSETTLED:
            self._changed.clear()
            if not self._finished:
                await self._changed.wait()
            await self._move_finished()
        if len(self._moves) >= UNSETTLED and self._stuck is not None:
            raise self._stuck
        path = self._config.path / name
        try:
            _check_name(name)
            plan = await asyncio.to_thread(examine, path, self._options, self._go_on)
        except BadInput as error:
            await self._refuse(name, state, error)
            return
        except Exception as error:  # what a library makes of a hostile file must not end the worker
            log.exception("folder: %s cannot be read", ascii(name))
            await self._refuse(name, state, BadInput(f"{path}: {type(error).__name__}: {error}"))
            return
        if await asyncio.to_thread(_state, path) != state:
            # still being written, or gone
            self._seen.pop(name, None)
            return
        self._names.add(name)
        identity = plan.producer.removeprefix("import:")
        twin, done = self._taken.get(identity), self._done.get(identity)
        if twin is not None:
            twin.twins.append((name, state))
        elif done is not None:
            # killed before it was moved
            is_itself = (done.name, done.state) == (name, state)
            self._finished.append(_Finished(name, state, duplicate=not is_itself))
        else:
            await self._send(plan, name, state, identity)

    async def _send(self, plan: Plan, name: str, state: FileState, identity: str) -> None:
        settled = await asyncio.to_thread(self._progress.read, identity)
        chunks = {seq for seq, count in enumerate(plan.counts) if count}
        taken = self._taken[identity] = _Taken(name, state, identity, chunks - settled, len(chunks) > 1)
        self.counts.messages += 1
        self.counts.more["files_unsettled"] = len(self._taken)
        if not taken.left:
            self._finish(taken)
            return
        bools = [TagDefinition(path=tag, kind="bool") for tag, kind in zip(plan.tags, plan.types, strict=True) if kind == "bool"]
        if bools:
            self._intake.define(bools)
        found = plan.chunks(settled.__contains__)
        try:
            while (chunk := await asyncio.to_thread(next, found, None)) is not None:
                samples = samples_of(chunk)
                self.counts.samples += len(samples)
                await self._intake.put(samples, partial(self._settled, taken, chunk.seq))
        except BadInput as error:
            # changed while it was sent: what it is now is another file
            self._drop(taken)
            await self._refuse(name, state, error, stored="What had been sent of this file stays stored.")
        finally:
            _close(found)

    def _settled(self, taken: _Taken, seq: int) -> None:
        taken.left.discard(seq)
        if taken.given_up:
            return
        if not taken.left:
            self._finish(taken)
        elif taken.is_long:
            try:
                self._progress.add(taken.identity, seq)
            except OSError as error:
                log.warning("folder: progress is not noted, and would be sent again after a crash: %s", error.strerror or error)

    def _finish(self, taken: _Taken) -> None:
        done = DoneFile(taken.identity, taken.name, taken.state)
        self._finished.append(_Finished(taken.name, taken.state, done))
        self._finished.extend(_Finished(name, state, duplicate=True) for name, state in taken.twins)
        self._changed.set()

    def _drop(self, taken: _Taken) -> None:
        taken.given_up = True
        del self._taken[taken.identity]
        self._names -= {taken.name, *(name for name, _ in taken.twins)}
        self.counts.more["files_unsettled"] = len(self._taken)

    async def _refuse(self, name: str, state: FileState, error: BadInput, stored: str = "Nothing of this file was stored.") -> None:
        """Set aside a file at fault, unless it is another one by now; or leave it for a while, where the storage is at fault. Raises OSError."""
        cause = _storage_fault(error)
        tries = self._tries.pop(name, 0) + 1
        if cause is not None and tries < TRIES:
            log.warning("folder: %s cannot be read: %s; trying again", ascii(name), cause.strerror)
            self._tries[name] = tries
            self._seen[name] = (state, time.monotonic() + self._config.poll_s * 2**tries)
            return
        self._names.add(name)
        self._moves.append(_Finished(name, state, error=f"{error}\n{stored}"))
        await self._move_finished()

    async def _move_finished(self) -> None:
        """Note what is done, and move it. What cannot be moved keeps nothing else waiting: it is tried again, and `_stuck` says why.

        Raises OSError if nothing can be noted.
        """
        batch = list(self._finished)
        added = [finished.done for finished in batch if finished.done is not None]
        if added:
            await asyncio.to_thread(self._done.add, added)
        for finished in batch:
            self._finished.popleft()
            self._moves.append(finished)
            if finished.done is not None:
                self._taken.pop(finished.done.identity, None)
        self.counts.more["files_unsettled"] = len(self._taken)
        moves, self._moves, self._stuck = self._moves, [], None
        for n, finished in enumerate(moves):
            try:
                await asyncio.to_thread(self._move_one, finished)
            except OSError as error:
                self._stuck = error
                self._moves.append(finished)
            except asyncio.CancelledError:
                self._moves += moves[n:]
                raise
            else:
                self._names.discard(finished.name)
                self._seen.pop(finished.name, None)

    def _move_one(self, finished: _Finished) -> None:
        name, state = finished.name, finished.state
        if finished.done is not None:
            self._progress.forget(finished.done.identity)
        if finished.error is not None:
            if self._folder.move_failed(name, state, finished.error):
                self.counts.refused += 1
                self.counts.more["files_failed"] += 1
                log.warning("folder: %s is at fault, and in failed/", ascii(name))
            return
        if self._config.after == "delete":
            self._folder.delete(name, state)
        else:
            self._folder.move_done(name, state, duplicate=finished.duplicate)
        self.counts.more["files_duplicate" if finished.duplicate else "files_done"] += 1

    def _go_on(self, fraction: float) -> None:
        """Asked while a file is looked through."""
        if self._stop.is_set():
            raise _Stopped


def samples_of(chunk: Chunk) -> PathSamples:
    """As a worker sends them: a missing quality is good, or bad where there is no value."""
    batch = chunk.samples
    tag, value = batch.column("tag"), batch.column("value")
    text = value if pa.types.is_string(value.type) else None
    missing = np.asarray(value.is_null().to_numpy(zero_copy_only=False))
    if text is not None:
        number = np.full(len(value), np.nan)
    else:
        number = np.asarray(value.cast(pa.float64()).fill_null(float("nan")).to_numpy(zero_copy_only=False))
        missing = missing | np.isnan(number)
    quality = np.where(missing, BAD, GOOD).astype(np.int16)
    if "quality" in batch.schema.names:
        given = batch.column("quality")
        has = np.asarray(given.is_valid().to_numpy(zero_copy_only=False))
        quality = np.where(has, np.asarray(given.fill_null(0).to_numpy(zero_copy_only=False)), quality).astype(np.int16)
    return PathSamples(
        tag.dictionary.to_pylist(),
        np.asarray(tag.indices.to_numpy(zero_copy_only=False)),
        np.asarray(batch.column("ts").cast(pa.int64()).to_numpy(zero_copy_only=False)),
        number,
        quality,
        text,
    )


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise BadInput("the name of the file is no UTF-8: rename it") from None


def _state(path: Path) -> FileState | None:
    try:
        return FileState.of(path)
    except FileNotFoundError:
        return None


def _close(chunks: Generator[Chunk, None, None]) -> None:
    # a thread may still be in it
    with suppress(ValueError):
        chunks.close()


def _storage_fault(error: BaseException) -> OSError | None:
    """The fault of the storage behind an error, if there is one."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in _PASSING:
            return found
        found = found.__cause__ or found.__context__
    return None
