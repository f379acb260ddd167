"""HTTP connections that a client may close half: what it sent is answered, and what it left unfinished is answered too.

aiohttp drops a connection whose client has shut down its sending side (`nc -N`, some PLC libraries, a proxy that gives up). Then a complete request gets no
answer, and a broken one no reason. Here the answer is written first.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import orjson
from aiohttp import StreamReader, web
from aiohttp.http_exceptions import ContentLengthError
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from historian.schema.errors import BadInput

log = logging.getLogger(__name__)

#: a connection that has not brought a whole request by then is closed
_FIRST_REQUEST_S = 30.0


def cut_off(request: web.BaseRequest, last: bytes = b"") -> None:
    """Have the connection end in the middle of a chunked answer, behind these bytes if there are any, so that nobody takes a part for the whole."""
    transport = request.transport
    if transport is None:
        return
    if last:
        # as a chunk; the last one, which would say that this is all, does not follow
        transport.write(b"%x\r\n%b\r\n" % (len(last), last))
        transport.close()
    else:
        transport.abort()


class ConnectionHandler(RequestHandler):
    """aiohttp's protocol of one connection, except for the end of what the client sends."""

    __slots__ = ("_half_closed", "_newest", "_silence")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: the body of the newest request, while it may be unfinished
        self._newest: StreamReader | None = None
        self._half_closed = False
        self._silence: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # aiohttp's own limit begins with the first request
        self._silence = asyncio.get_running_loop().call_later(_FIRST_REQUEST_S, self._close_if_silent)

    def connection_lost(self, exc: BaseException | None) -> None:
        # it would keep all that there is of a connection for as long
        if self._silence is not None:
            self._silence.cancel()
        super().connection_lost(exc)

    def _close_if_silent(self) -> None:
        if not self._request_count and self.transport is not None:
            self.force_close()

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
        # no further request: closed when those that are here are answered
        self._half_closed = True
        return True

    def probe(self) -> None:
        """Find out whether a client that has shut down its sending side is still there, by an interim answer (RFC 9110, section 15.2: a client takes any number of them).

        One that is gone answers the first with a reset, at which the second, a moment later, ends the connection. Only before the answer has begun.
        """
        if self._half_closed and self.transport is not None and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 102 Processing\r\n\r\n")

    async def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        finished = await super().finish_response(request, resp, start_time)
        if self._half_closed and not self._messages:
            self.close()
        return finished

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What aiohttp's parser refuses, and what nobody foresaw: a problem document as for any other fault."""
        if status >= 500:
            log.error("a request from %s failed", request.remote, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun: it can only be cut off")
        title = "Internal error" if status >= 500 else "Malformed request"
        detail = "the server failed to answer this; its log says why"
        if status < 500:
            told = (message or "").splitlines()[0] if message else ""
            detail = f"this is no HTTP/1.1 request that can be read: {told[:200].encode('ascii', 'replace').decode()}"
        document = {
            "type": f"urn:historian:problem:{'internal' if status >= 500 else 'bad-input'}",
            "title": title,
            "status": status,
            "detail": detail,
        }
        response = web.Response(
            status=status, body=orjson.dumps(document), content_type="application/problem+json", headers={"Server": "historian"}
        )
        response.force_close()
        return response


def protocol_factory(server: web.Server) -> Any:
    """What `loop.create_server` wants: makes the protocol of each connection of an aiohttp server."""
    loop = asyncio.get_running_loop()

    def make() -> ConnectionHandler:
        return ConnectionHandler(server, loop=loop, **server._kwargs)

    return make
