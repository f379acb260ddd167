"""HTTP connections that a client may close half: what it sent is answered, and what it left unfinished is answered too.

aiohttp drops a connection whose client has shut down its sending side (`nc -N`, some PLC libraries, a proxy that gives up). Then a complete request gets no
answer, and a broken one no reason. Here the answer is written first.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import ContentLengthError
from aiohttp.web_protocol import RequestHandler

from historian.schema.errors import BadInput


class HalfCloseHandler(RequestHandler):
    """aiohttp's protocol of one connection, except for the end of what the client sends."""

    __slots__ = ("_newest",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: the body of the newest request, while it may be unfinished
        self._newest: StreamReader | None = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages:
            self._newest = self._messages[-1][1]

    def eof_received(self) -> bool:  # type: ignore[override]
        """True keeps the sending side open until the answer is written."""
        if self._payload_parser is not None or self._upgraded:
            return False  # a WebSocket: over
        unfinished = None
        if self._parser is not None:
            try:
                self._parser.feed_eof()
            except ContentLengthError as error:
                unfinished = BadInput(f"the connection was closed in the middle of the body: {error.message}")
            except Exception:
                unfinished = BadInput("the connection was closed in the middle of the body")
        if unfinished is not None and self._newest is not None and not self._newest.is_eof():
            self._newest.set_exception(unfinished)
            self._newest.feed_eof()
        if self._current_request is None and not self._messages and (self._waiter is not None or not self._request_count):
            return False  # idle
        # no further request: close when this one is answered
        self.close()
        return True


def protocol_factory(server: web.Server) -> Any:
    """What `loop.create_server` wants: makes the protocol of each connection of an aiohttp server."""
    loop = asyncio.get_running_loop()

    def make() -> HalfCloseHandler:
        return HalfCloseHandler(server, loop=loop, **server._kwargs)

    return make
