"""One connection of a live stream. Memory is bounded: the server sends a frame for each credit, and at most WINDOW frames wait here."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import aiohttp
import orjson

from historian.client.times import now

#: frames that may wait here: 23 MB where all of them are full
WINDOW = 16
#: the id of the one subscription of a connection
SUBSCRIPTION = 1


class Link:
    """One connection: a task reads it into a queue, which ends with the reason for the end."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse, takes: Callable[[dict[str, Any]], bool]) -> None:
        """`takes` is shown each message, and says whether it was for it: the others wait to be taken in their turn."""
        self._ws = ws
        self._takes = takes
        self._queue: deque[bytes | dict[str, Any]] = deque()
        self._arrived = asyncio.Event()
        self._ended: str | None = None
        self.heard = now()
        self._ungranted = 0
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        reason = "closed by the server"
        try:
            while True:
                message = await self._ws.receive()
                self.heard = now()
                if message.type == aiohttp.WSMsgType.BINARY:
                    self._put(message.data)
                elif message.type == aiohttp.WSMsgType.TEXT:
                    document = orjson.loads(message.data)
                    if document.get("type") != "heartbeat" and not self._takes(document):
                        self._put(document)
                else:
                    if isinstance(message.data, Exception):
                        reason = str(message.data) or type(message.data).__name__
                    elif message.extra:
                        reason = f"closed by the server: {message.extra}"
                    return
        except (aiohttp.ClientError, ConnectionError, OSError, orjson.JSONDecodeError) as error:
            reason = str(error) or type(error).__name__
        finally:
            self._ended = reason
            self._arrived.set()

    def _put(self, item: bytes | dict[str, Any]) -> None:
        self._queue.append(item)
        self._arrived.set()

    async def take(self) -> bytes | dict[str, Any] | None:
        """The next message or frame; None at the end. May be cancelled without a loss."""
        while not self._queue:
            if self._ended is not None:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return self._queue.popleft()

    @property
    def reason(self) -> str:
        return self._ended or ""

    async def send(self, message: dict[str, Any]) -> None:
        # one that is lost is found out by reading
        with suppress(ConnectionError, aiohttp.ClientError):
            await self._ws.send_str(orjson.dumps(message).decode())

    async def taken(self) -> None:
        """A frame has been taken: let the server send more, half a window at a time."""
        self._ungranted += 1
        if self._ungranted >= WINDOW // 2 and self._ended is None:
            granted, self._ungranted = self._ungranted, 0
            await self.send({"type": "credit", "id": SUBSCRIPTION, "n": granted})

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        with suppress(ConnectionError, aiohttp.ClientError, TimeoutError):
            await self._ws.close()
