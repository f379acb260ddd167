"""A network that misbehaves: a TCP proxy, in a thread of its own, in front of a TCP port or a Unix socket.

It hands bytes on, and knows no protocol. From the test it can be made to delay, to stall (the connections stay, nothing passes), to break all connections in the
middle of whatever they are at, and to refuse new ones. All methods may be called from any thread, and return once it is so.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self

_PIECE = 65_536


class Proxy:
    """Listens on a port of 127.0.0.1, which stays. `target` is (host, port) or the path of a Unix socket."""

    def __init__(self, target: tuple[str, int] | Path) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._delay_s = 0.0
        self._break_after: int | None = None
        self._broken = threading.Event()
        self.port = 0
        #: accepted so far
        self.connections = 0
        #: passed on so far, both ways
        self.bytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # -- what a test does with it

    def delay(self, seconds: float) -> None:
        """Every piece takes so long from now on, one after the other."""
        self._call(lambda: setattr(self, "_delay_s", seconds))

    def stall(self) -> None:
        """Nothing passes any more, and connections stay; new ones are taken and get nothing."""
        self._call(self._open.clear)

    def resume(self) -> None:
        self._call(self._open.set)

    def cut(self) -> None:
        """Break all connections (RST), at once; new ones are served."""
        self._call(self._abort)

    def refuse(self) -> None:
        """Break all connections and refuse new ones, until `accept`."""
        self._run(self._close())

    def accept(self) -> None:
        self._run(self._listen())

    def break_within(self, size: int, timeout: float) -> bool:
        """Break all connections once so many more bytes have passed, in the middle of a piece if it comes so. Returns whether that many came within `timeout` seconds;
        they are broken in any case."""
        self._broken.clear()
        self._call(lambda: setattr(self, "_break_after", size))
        reached = self._broken.wait(timeout)
        self._call(lambda: setattr(self, "_break_after", None))
        self.cut()
        return reached

    # -- in the thread

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def _call(self, work: Callable[[], object]) -> None:
        async def call() -> None:
            work()

        self._run(call())

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=100)
            self._listener.setblocking(False)
            self.port = self._listener.getsockname()[1]
            self._loop.add_reader(self._listener, self._take)

    async def _close(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        self._open.set()
        broken = list(self._tasks)
        self._abort()
        await asyncio.gather(*broken, return_exceptions=True)

    def _abort(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _take(self) -> None:
        assert self._listener is not None
        try:
            here, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self.connections += 1
        # a task that is cancelled before it began runs nothing of its own: what closes the connection is its callback
        task = self._loop.create_task(self._serve(here))
        self._tasks.add(task)
        task.add_done_callback(lambda _: _break(here))
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, here: socket.socket) -> None:
        here.setblocking(False)
        unix = isinstance(self._target, Path)
        there = socket.socket(socket.AF_UNIX if unix else socket.AF_INET, socket.SOCK_STREAM)
        there.setblocking(False)
        try:
            for one in (here,) if unix else (here, there):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.sock_connect(there, str(self._target) if unix else self._target)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pump(here, there))
                ways.create_task(self._pump(there, here))
            here.close()
            there.close()
        except (OSError, ExceptionGroup):
            # one side is gone, and so is now the other
            pass
        finally:
            _break(there)

    async def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        while data := await self._loop.sock_recv(source, _PIECE):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._open.wait()
            if self._break_after is not None:
                self._break_after -= len(data)
                if self._break_after < 0:
                    # what passes before the break may arrive, as in life
                    size, self._break_after = self._break_after, None
                    await self._loop.sock_sendall(sink, data[:size])
                    self._broken.set()
                    self._abort()
                    raise ConnectionResetError
            self.bytes += len(data)
            await self._loop.sock_sendall(sink, data)
        # one side has ended: what the other still says is passed on
        sink.shutdown(socket.SHUT_WR)


def _break(connection: socket.socket) -> None:
    """RST, unless it has ended well: what was on its way may be lost, on both sides."""
    if connection.fileno() < 0:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
