"""Long answers: ended when their client has gone, or when their time is over, whatever they are doing then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import HttpVersion11, web

from historian.schema.errors import HistorianError, TimeLimit
from historian.server.connection import ConnectionHandler

#: how often it is looked whether the client is still there
_LOOK_S = 0.1


class ClientGone(HistorianError):
    """Nobody is there to be answered: the connection was closed, or its client takes nothing any more."""


@asynccontextmanager
async def attended(
    request: web.Request, response: web.StreamResponse, seconds: float, is_over: Callable[[], bool] = lambda: False
) -> AsyncIterator[None]:
    """Work for this request's client, which is given up when the client goes (ClientGone) or after so many seconds (TimeLimit): a query is cancelled in the database.

    `is_over` tells that the work has found out by itself, and is putting things in order: that must not be interrupted.

    A client that closes its connection while nothing is being sent looks just like one that has only shut down its sending side: see `ConnectionHandler.probe`.
    """
    loop = asyncio.get_running_loop()
    gone = False

    async def watch() -> None:
        nonlocal gone
        while True:
            await asyncio.sleep(_LOOK_S)
            if is_over():
                deadline.reschedule(None)
                return
            if request.transport is None or request.transport.is_closing():
                gone = True
                deadline.reschedule(loop.time())
                return
            if not response.prepared and request.version >= HttpVersion11 and isinstance(request.protocol, ConnectionHandler):
                request.protocol.probe()

    try:
        async with asyncio.timeout(seconds) as deadline:
            watching = asyncio.create_task(watch())
            try:
                yield
            finally:
                watching.cancel()
    except TimeoutError:
        if gone:
            raise ClientGone("the client has closed its connection") from None
        if deadline.expired():
            raise TimeLimit(
                f"this took longer than {seconds:g} s: ask for less at a time (a shorter span, fewer tags, a mode with an interval), or page with limit and cursor"
            ) from None
        raise
