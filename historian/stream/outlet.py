"""A WebSocket connection that is written to at once where its client takes what comes: no coroutine, and no task that has to wake up, for each message.

aiohttp writes each uncompressed message whole, so that messages written here come between two of its own. What waits in the transport is bounded by `_MOST_WAITING`
and one message: of more, `write` refuses, and the way through aiohttp waits for the client.
"""

from __future__ import annotations

import asyncio
import struct

from aiohttp import web

#: bytes in the transport, as asyncio's own high-water mark
_MOST_WAITING = 64 << 10

_FINAL = 0x80
_TEXT = _FINAL | 1
_BINARY = _FINAL | 2
# the header of a message of a server (RFC 6455, section 5.2), for three ranges of lengths
_SHORT = struct.Struct(">BB")
_MEDIUM = struct.Struct(">BBH")
_LONG = struct.Struct(">BBQ")


class Outlet:
    """The sending side of one WebSocket that was opened without compression of messages."""

    def __init__(self, ws: web.WebSocketResponse, transport: asyncio.Transport) -> None:
        self._ws = ws
        self._transport = transport

    def open(self) -> bool:
        """Whether a message may be written now."""
        transport = self._transport
        return not self._ws.closed and not transport.is_closing() and transport.get_write_buffer_size() < _MOST_WAITING

    def write(self, message: str | bytes) -> None:
        """Write a message, if `open`."""
        if isinstance(message, str):
            kind, body = _TEXT, message.encode()
        else:
            kind, body = _BINARY, message
        size = len(body)
        if size < 126:
            head = _SHORT.pack(kind, size)
        elif size < 1 << 16:
            head = _MEDIUM.pack(kind, 126, size)
        else:
            head = _LONG.pack(kind, 127, size)
        self._transport.write(head + body)
