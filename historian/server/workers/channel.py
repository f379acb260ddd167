"""What a supervisor and a worker tell each other: JSON objects with a `type`, over a pair of sockets. It ends when either process does, however that was."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import orjson

Message = dict[str, Any]

_LENGTH = struct.Struct("<I")
#: the figures of a worker are some 20 kB
_MAX_BYTES = 16 << 20


class Channel:
    """One end of it. One task reads; any may send."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Channel:
        """A channel over one socket of the pair, which it closes at its end."""
        return cls(*await asyncio.open_connection(sock=end))

    def send(self, message: Message) -> None:
        """Neither waits nor raises: to a process that is gone nothing is told."""
        data = orjson.dumps(message)
        if not self._writer.is_closing():
            self._writer.write(_LENGTH.pack(len(data)) + data)

    async def messages(self) -> AsyncIterator[Message]:
        """All that the other side sends, until it is gone."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (size,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
                if size > _MAX_BYTES:
                    return
                yield orjson.loads(await self._reader.readexactly(size))

    def close(self) -> None:
        self._writer.close()
