"""GET /v1/stream: a WebSocket (docs/protocol.md) or, without upgrade, an endless answer (stream_http.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast, get_args

from aiohttp import WSCloseCode, web

from historian.schema.errors import BadInput, Busy, Unavailable
from historian.server import commands, stream_http
from historian.server.access import TOKEN_SUBPROTOCOL
from historian.server.parameters import parameters
from historian.server.services import SERVICES, Services
from historian.stream import messages
from historian.stream.encoder import Compression
from historian.stream.limits import Limits
from historian.stream.outlet import Outlet
from historian.stream.session import SUBPROTOCOLS, Session

SOCKETS = web.AppKey("sockets", set[web.WebSocketResponse])


@contextmanager
def _counted(services: Services, address: str) -> Iterator[None]:
    if services.stopping:
        raise Unavailable("the server is stopping")
    settings = services.settings
    if services.streams >= settings.max_streams:
        raise Busy(f"{services.streams} streams are open, and at most {settings.max_streams} may; try again later", retry_after=5)
    if services.streams_of[address] >= settings.max_streams_address:
        raise Busy(
            f"{services.streams_of[address]} streams are open from {address}, and at most {settings.max_streams_address} may be from one address: "
            "close some, or have several subscriptions on one connection",
            retry_after=5,
        )
    services.streams += 1
    services.streams_of[address] += 1
    try:
        yield
    finally:
        services.streams -= 1
        services.streams_of[address] -= 1
        if not services.streams_of[address]:
            del services.streams_of[address]


async def stream(request: web.Request) -> web.StreamResponse:
    """One connection's streams."""
    with _counted(request.app[SERVICES], request.remote or ""):
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await _websocket(request)
        return await stream_http.flow(request)


async def _websocket(request: web.Request) -> web.StreamResponse:
    services = request.app[SERVICES]
    settings = services.settings
    offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    known = [name for name in offered if name in SUBPROTOCOLS]
    if not known:
        others = [name[:40] for name in offered if name and not name.startswith(TOKEN_SUBPROTOCOL)]
        raise BadInput(f"offer the WebSocket subprotocol {' or '.join(SUBPROTOCOLS)}" + (f", not {', '.join(others)}" if others else ""))
    compression = parameters(request.query, one=("compression",)).get("compression")
    if compression is not None and compression not in get_args(Compression):
        raise BadInput(f"compression is {' or '.join(get_args(Compression))}, or left out, not {compression[:40]!r}")
    # no permessage-deflate: numbers gain little by it and it costs memory for each client
    ws = web.WebSocketResponse(
        protocols=known[:1], heartbeat=settings.ping_s, max_msg_size=messages.MAX_MESSAGE_BYTES, compress=False, timeout=5.0
    )
    await ws.prepare(request)
    sockets = request.app[SOCKETS]
    sockets.add(ws)
    try:
        session = Session(
            ws,
            catalogue=services.catalogue,
            hub=services.hub,
            sweep=services.sweep,
            pool=services.backfills,
            outlet=None if request.transport is None else Outlet(ws, request.transport),
            compression=cast(Compression | None, compression),
            queue_bytes=settings.stream_queue,
            heartbeat_s=settings.heartbeat_s,
            client=request.remote,
            limits=Limits(settings.max_subscriptions, settings.max_stream_tags, settings.max_controls_s),
            # one place in the queue a connection, whoever opened it
            turn=lambda: services.backfill_turns.turn(f"{id(ws):x}"),
            perform=commands.performer(request),
        )
        await session.run()
    finally:
        sockets.discard(ws)
    return ws


async def close_streams(app: web.Application) -> None:
    """Signal `on_shutdown`: tell every client that the server stops."""
    app[SERVICES].stopping = True
    tasks, sockets = app[stream_http.TASKS], app[SOCKETS]
    for task in tasks:
        task.cancel()
    # a client that does not read its close message is not waited for
    with suppress(TimeoutError):
        async with asyncio.timeout(2):
            await asyncio.gather(
                *(ws.close(code=WSCloseCode.GOING_AWAY, message=b"the server stops") for ws in sockets), return_exceptions=True
            )
