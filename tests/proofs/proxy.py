"""A network that misbehaves: a TCP proxy, in a thread of its own, in front of a TCP port or a Unix socket.

It hands bytes on, and knows no protocol. From the test it can be made to delay, to stall (the connections stay, nothing passes), to break all connections in the
middle of whatever they are at, and to refuse new ones. All methods may be called from any thread, and return once it is so.
"""

from __future__ import annotations

import asyncio
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
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
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
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=_PIECE)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._abort()
        self._open.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        mine = {writer}
        self._writers.add(writer)
        try:
            if isinstance(self._target, Path):
                there_reader, there_writer = await asyncio.open_unix_connection(str(self._target), limit=_PIECE)
            else:
                there_reader, there_writer = await asyncio.open_connection(*self._target, limit=_PIECE)
            mine.add(there_writer)
            self._writers.add(there_writer)
            ways = [asyncio.create_task(self._pump(reader, there_writer)), asyncio.create_task(self._pump(there_reader, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            pass
        finally:
            for one in mine:
                one.transport.abort()
            self._writers -= mine
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_PIECE):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._open.wait()
            if self._break_after is not None:
                self._break_after -= len(data)
                if self._break_after < 0:
                    writer.write(data[: self._break_after])
                    # what was written before the break may arrive, as in life
                    await writer.drain()
                    self._break_after = None
                    self._broken.set()
                    self._abort()
                    raise ConnectionResetError
            self.bytes += len(data)
            writer.write(data)
            await writer.drain()
        # one side has ended: what the other still says is passed on
        if writer.can_write_eof():
            writer.write_eof()
