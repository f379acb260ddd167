"""The supervisor: listens on the port, keeps N workers that answer on it, and starts another for each that dies.

All workers accept from one socket, whose queue outlives any of them: while one is away the others take the connections. They are sessions of their own, so that
Ctrl-C reaches this process only, which has them stop in order: no new connections, what was accepted is committed.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from historian.ingest.backoff import Backoff
from historian.schema.connection import connect
from historian.schema.errors import BadInput, HistorianError, Unavailable
from historian.server.listening import check_exposure, listen, url_of
from historian.server.workers.channel import Channel, Message
from historian.server.workers.figures import Family, join
from historian.server.workers.start import Start
from historian.settings import Settings

log = logging.getLogger(__name__)

#: a worker that stops answers what is in flight, which takes 15 s at most, and commits what it has accepted
_STOP_S = 40.0
#: one that has lived for so long was sound: the next one is started soon
_SOUND_S = 30.0
_FIGURES_S = 2.0
_LONGEST_PAUSE_S = 30.0


@dataclass(slots=True, eq=False)
class _Life:
    """One process of a worker."""

    number: int
    process: Process
    channel: Channel
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    failure: str | None = None
    asked: dict[int, asyncio.Future[list[Family]]] = field(default_factory=dict)


class Supervisor:
    """The workers of one server. Made by `supervising`."""

    def __init__(self, dsn: str, settings: Settings, listening: socket.socket, *, verbose: bool) -> None:
        self._dsn = dsn
        self._settings = settings
        self._listening = listening
        self._verbose = verbose
        self._lives: dict[int, _Life] = {}
        self._next = 0
        self._stopping = False
        self._restarts = 0
        self._answering: set[asyncio.Task[None]] = set()
        self.url = url_of(listening, settings)

    async def start(self) -> None:
        """Have all workers ready. Raises what the first that fails says."""
        for number in range(self._settings.workers):
            await self._begin(number)
        await asyncio.gather(*(self._ready(life) for life in self._lives.values()))

    async def keep(self) -> None:
        """Start another for each that ends, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._settings.workers):
                group.create_task(self._keep(number))

    async def stop(self) -> None:
        """Have all of them stop in order; those that take too long, or are not waited for, are killed."""
        self._stopping = True
        # nobody is to wait in its queue; the workers close theirs
        self._listening.close()
        lives = [life for life in self._lives.values() if life.process.returncode is None]
        try:
            for life in lives:
                with suppress(ProcessLookupError):
                    life.process.send_signal(signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP_S):
                    await asyncio.gather(*(life.process.wait() for life in lives))
        finally:
            for life in lives:
                if life.process.returncode is None:
                    log.warning("worker %d did not stop; it is killed", life.number)
                    with suppress(ProcessLookupError):
                        life.process.kill()
                life.channel.close()

    async def _begin(self, number: int) -> _Life:
        ours, theirs = socket.socketpair()
        try:
            start = Start(number, self._dsn, self._settings, self._listening.fileno(), self._verbose)
            # -P: the working directory is none of our packages
            command = [sys.executable, "-P", "-m", "historian.server.workers.worker", str(theirs.fileno())]
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), self._listening.fileno()),
                start_new_session=True,
            )
            # a few kB, which its buffer holds: passwords are in it, and no business of anybody who lists processes
            ours.sendall(pickle.dumps(start))
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        life = self._lives[number] = _Life(number, process, await Channel.over(ours))
        task = asyncio.create_task(self._listen(life))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)
        return life

    async def _listen(self, life: _Life) -> None:
        """Take what a worker says, until it ends."""
        async for message in life.channel.messages():
            match message["type"]:
                case "ready":
                    life.ready.set()
                case "failed":
                    life.failure = message["detail"]
                case "figures":
                    waiting = life.asked.get(message["id"])
                    if waiting is not None and not waiting.done():
                        waiting.set_result(message["families"])
                case "metrics":
                    task = asyncio.create_task(self._tell_metrics(life, message))
                    self._answering.add(task)
                    task.add_done_callback(self._answering.discard)
        life.channel.close()

    async def _ready(self, life: _Life) -> None:
        """Wait until it is. Raises HistorianError if it ends before."""
        ready = asyncio.ensure_future(life.ready.wait())
        ended = asyncio.ensure_future(life.process.wait())
        try:
            await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
            ended.cancel()
        if not life.ready.is_set():
            # what it said last may be on its way
            await asyncio.sleep(0.1)
            raise HistorianError(life.failure or f"worker {life.number} ended ({_how(life.process)}) before it was ready; its log says why")

    async def _keep(self, number: int) -> None:
        backoff = Backoff(first=0.2, longest=_LONGEST_PAUSE_S)
        while True:
            life, began = self._lives[number], time.monotonic()
            await life.process.wait()
            if self._stopping:
                return
            if life.ready.is_set() and time.monotonic() - began > _SOUND_S:
                backoff.reset()
            pause = backoff.next()
            log.error(
                "worker %d ended (%s%s); another one is started", number, _how(life.process), f": {life.failure}" if life.failure else ""
            )
            await asyncio.sleep(pause)
            self._restarts += 1
            try:
                await self._begin(number)
            except OSError as error:
                log.error("worker %d cannot be started: %s", number, error)

    # -- figures

    async def _tell_metrics(self, life: _Life, message: Message) -> None:
        text = join(await self._figures(), self._own())
        life.channel.send({"type": "metrics", "id": message["id"], "text": text.decode()})

    async def _figures(self) -> dict[str, list[Family]]:
        """Of each worker that answers."""
        number, self._next = self._next, self._next + 1
        asked: dict[str, asyncio.Future[list[Family]]] = {}
        lives = [life for life in self._lives.values() if life.ready.is_set() and life.process.returncode is None]
        for life in lives:
            asked[str(life.number)] = life.asked[number] = asyncio.get_running_loop().create_future()
            life.channel.send({"type": "figures", "id": number})
        if asked:
            await asyncio.wait(asked.values(), timeout=_FIGURES_S)
        for life in lives:
            del life.asked[number]
        return {worker: answer.result() for worker, answer in asked.items() if answer.done()}

    def _own(self) -> list[Metric]:
        up = sum(life.ready.is_set() and life.process.returncode is None for life in self._lives.values())
        return [
            GaugeMetricFamily("historian_server_workers", "Workers that serve", value=up),
            CounterMetricFamily(
                "historian_server_worker_restarts", "Workers that were started in the place of one that had ended", value=self._restarts
            ),
        ]


def _how(process: Process) -> str:
    code = process.returncode
    if code is None:
        return "still running"
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


async def _check_connections(dsn: str, settings: Settings) -> None:
    """Say so if the database has fewer connections than the workers may come to use."""
    needed = settings.workers * settings.connections
    with suppress(Unavailable):
        conn = await connect(dsn)
        try:
            allowed = int(await conn.fetchval("SHOW max_connections"))
        finally:
            await conn.close()
        if needed > allowed:
            log.warning(
                "%d workers may use %d connections, and the database has max_connections = %d: raise it, or lower HISTORIAN_READ_CONNECTIONS "
                "and HISTORIAN_BACKFILL_CONNECTIONS",
                settings.workers,
                needed,
                allowed,
            )


@asynccontextmanager
async def supervising(dsn: str, settings: Settings, *, verbose: bool) -> AsyncIterator[Supervisor]:
    """A server of several workers on a database whose schema is current; all of them serve once the context is entered, and stop in order when it is left.

    Raises BadInput, Conflict, and what the workers say, if they cannot start.
    """
    if sys.platform == "win32":
        raise BadInput("several workers need a POSIX system: take --workers 1")
    check_exposure(settings)
    await _check_connections(dsn, settings)
    with listen(settings) as listening:
        supervisor = Supervisor(dsn, settings, listening, verbose=verbose)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(supervisor.stop)
            await supervisor.start()
            keeping = asyncio.create_task(supervisor.keep())
            try:
                yield supervisor
            finally:
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)
