"""A TCP proxy in front of a server, which misbehaves as networks do."""

from __future__ import annotations

import asyncio
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Hands bytes on between clients and the server, until it is told otherwise. Connections, not messages: it knows no HTTP."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._to = (parts.hostname, parts.port)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._swallow = 0
        self._left: int | None = None
        self.connections = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.back()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.away()

    async def back(self) -> None:
        """Listen, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def away(self) -> None:
        """Refuse connections, and break those that there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Break all connections, in the middle of whatever they are at."""
        for writer in self._writers:
            writer.transport.abort()

    def swallow_answers(self, n: int) -> None:
        """The next `n` answers do not arrive: their connections break in their stead."""
        self._swallow = n

    def cut_after(self, size: int) -> None:
        """Break the connections once so many more bytes have come from the server."""
        self._left = size

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        mine = {writer}
        self._writers.add(writer)
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._to)
            mine.add(there_writer)
            self._writers.add(there_writer)
            await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer, answers=True))
        except OSError:
            pass
        finally:
            for one in mine:
                one.transport.abort()
            self._writers -= mine
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False) -> None:
        while data := await reader.read(65_536):
            if answers and self._swallow:
                self._swallow -= 1
                raise ConnectionResetError
            if answers and self._left is not None:
                self._left -= len(data)
                if self._left < 0:
                    self._left = None
                    raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
