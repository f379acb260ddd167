"""HTTP to one server: the requests of a client, sent again while that is harmless, and failures as our errors.

Promise. Every request here may be sent twice: reads, definitions, and writes, which the server knows by (producer, seq). So after a lost connection,
and when the server says 429 or 503, the same request is sent again, with growing pauses and not before `Retry-After`, for at most `retry_s` seconds.
A server that has never answered is not waited for: then its address is probably wrong.

Belongs to one event loop. `close` ends all connections.
"""

from __future__ import annotations

import asyncio
import io
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import urlencode

import aiohttp
import orjson

from historian import __version__
from historian.client.address import Address
from historian.client.problems import error_of
from historian.schema.errors import BadInput, Busy, HistorianError, Unavailable
from historian.stream.frames import ARROW, HEADER_SIZE, MAX_PAYLOAD
from historian.stream.ingest_frames import SUBPROTOCOL as INGEST

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
_CONNECT_S = 10.0
#: a WebSocket is asked for a sign of life after so long a silence, and given up after half as long again
_PING_S = 20.0
#: acknowledgements, and problems that name many rows
_MAX_ANSWER = 4 << 20
#: what servers and proxies take as an address begins to differ at 8 kB
_LONGEST_QUERY = 4000

Answer = TypeVar("Answer")
Parameters = Sequence[tuple[str, str | int]]


class Http:
    """The connections to one server."""

    def __init__(self, address: Address, *, timeout: float, retry_s: float) -> None:
        self.address = address
        self.timeout = timeout
        self._retry_s = retry_s
        self._session: aiohttp.ClientSession | None = None
        #: whether the server has answered anything yet
        self._reached = False

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            headers = {"User-Agent": f"historian-python/{__version__}"}
            if self.address.token is not None:
                headers["Authorization"] = f"Bearer {self.address.token}"
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=self.timeout)
            self._session = aiohttp.ClientSession(headers=headers, timeout=timeout)
        return self._session

    @asynccontextmanager
    async def translated(self) -> AsyncIterator[None]:
        """Failures of the connection become Unavailable."""
        url = self.address.url
        try:
            yield
        except aiohttp.InvalidURL as error:
            raise BadInput(f"{error} is no address of a server") from None
        except aiohttp.ClientConnectorError as error:
            # asyncio words it by itself; a name that cannot be resolved has a number of another kind
            number = error.os_error.errno
            reason = os.strerror(number) if number and not isinstance(error, aiohttp.ClientConnectorDNSError) else str(error.os_error)
            raise Unavailable(f"no historian answers at {url} ({reason}); start one with: historian serve", FIRST_PAUSE_S) from error
        except TimeoutError as error:
            raise Unavailable(f"{url} did not answer within {self.timeout:g} s", FIRST_PAUSE_S) from error
        except (aiohttp.ClientError, ConnectionError, OSError) as error:
            raise Unavailable(f"the connection to {url} broke: {error or type(error).__name__}", FIRST_PAUSE_S) from error

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Parameters = (),
        body: bytes | Callable[[], bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[bytes, Mapping[str, str]]:
        """The whole body and the headers of a good answer. `body` may be made anew for each try. Raises the HistorianError that the server tells of, and Unavailable
        if it cannot be reached."""

        async def once() -> tuple[bytes, Mapping[str, str]]:
            data = body() if callable(body) else body
            async with self.translated(), await self._send(method, path, params, data, headers) as response:
                return await response.read(), response.headers

        return await self._patiently(once)

    @asynccontextmanager
    async def opened(
        self, path: str, *, params: Parameters = (), headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A good answer, whose body is still to be read, to GET, or to POST where the parameters are too many for an address; once it is open nothing is tried again."""
        method, body = "GET", None
        if len(form := urlencode([(name, str(value)) for name, value in params]).encode()) > _LONGEST_QUERY:
            method, body, params = "POST", form, ()
            headers = {**(headers or {}), "Content-Type": "application/x-www-form-urlencoded"}

        async def once() -> aiohttp.ClientResponse:
            async with self.translated():
                return await self._send(method, path, params, body, headers)

        # what the caller does with it is none of ours: its own OSError must not look like a lost connection
        async with await self._patiently(once) as response:
            yield response

    async def _send(
        self, method: str, path: str, params: Parameters, body: bytes | None, headers: Mapping[str, str] | None
    ) -> aiohttp.ClientResponse:
        # as a file: aiohttp sends one piece by piece, and bytes in one go that holds the loop up
        data = None if body is None else io.BytesIO(body)
        response = await self._open_session().request(
            method, self.address.url + path, params=[(k, str(v)) for k, v in params], data=data, headers=headers
        )
        self._reached = True
        if response.status < 300:
            return response
        async with response:
            raise _problem(response, await response.read())

    async def _patiently(self, once: Callable[[], Awaitable[Answer]]) -> Answer:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._retry_s
        pause = FIRST_PAUSE_S
        while True:
            try:
                return await once()
            except (Busy, Unavailable) as error:
                wait = max(pause * random.uniform(0.5, 1.0), error.retry_after)
                if not self._reached or loop.time() + wait > deadline:
                    raise
            await asyncio.sleep(wait)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def websocket(self) -> aiohttp.ClientWebSocketResponse:
        """A connection for streams. Raises Unavailable, or what the server refuses it with."""
        params = {} if self.address.nearby else {"compression": "zstd-dict"}
        return await self._upgrade("/v1/stream", ARROW, params, MAX_PAYLOAD + HEADER_SIZE)

    async def ingest_websocket(self) -> aiohttp.ClientWebSocketResponse:
        """A connection for batches. Raises as `websocket` does."""
        return await self._upgrade("/v1/ingest", INGEST, {}, _MAX_ANSWER)

    async def _upgrade(self, path: str, protocol: str, params: dict[str, str], max_msg_size: int) -> aiohttp.ClientWebSocketResponse:
        async with self.translated():
            try:
                return await self._open_session().ws_connect(
                    f"{self.address.url}{path}",
                    params=params,
                    protocols=(protocol,),
                    heartbeat=_PING_S,
                    max_msg_size=max_msg_size,
                    timeout=aiohttp.ClientWSTimeout(ws_close=2.0),
                )
            except aiohttp.WSServerHandshakeError as error:
                raise _refused(error, self.address.url) from None


def _retry_after(headers: Mapping[str, str] | None) -> float | None:
    """Seconds; a date, which nobody sends here, counts as none."""
    try:
        return max(0.0, float((headers or {}).get("Retry-After", "")))
    except ValueError:
        return None


def _problem(response: aiohttp.ClientResponse, body: bytes) -> HistorianError:
    try:
        document = orjson.loads(body) if response.content_type.endswith("json") else None
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        # a proxy, or no historian at all
        document = {"detail": f"{response.method} {response.url} was answered {response.status} {response.reason}"}
    return error_of(document, status=response.status, retry_after=_retry_after(response.headers))


def _refused(error: aiohttp.WSServerHandshakeError, url: str) -> HistorianError:
    """The body of a refused handshake is not to be had: its status has to do."""
    if error.status == 401:
        document = {"type": "unauthorized", "detail": f"{url} wants a token: connect(url, token=…), or HISTORIAN_TOKEN"}
    else:
        document = {"detail": f"{url} refused the connection: {error.status} {error.message}"}
    return error_of(document, status=error.status, retry_after=_retry_after(error.headers))
