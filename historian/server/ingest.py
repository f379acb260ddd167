"""GET /v1/ingest: the WebSocket of fast producers (docs/protocol.md)."""

from __future__ import annotations

from aiohttp import web

from historian.schema.errors import BadInput, Busy, Unavailable
from historian.server.access import TOKEN_SUBPROTOCOL
from historian.server.ingest_session import IngestSession
from historian.server.services import SERVICES
from historian.stream.ingest_frames import SUBPROTOCOL


async def ingest(request: web.Request) -> web.StreamResponse:
    """One connection's batches."""
    services = request.app[SERVICES]
    settings = services.settings
    if request.query:
        raise BadInput("/v1/ingest takes no parameters: the first message says what there is to say")
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise BadInput(f"this is a WebSocket with the subprotocol {SUBPROTOCOL}; single batches go to POST /v1/write")
    offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    if SUBPROTOCOL not in offered:
        others = [name[:40] for name in offered if name and not name.startswith(TOKEN_SUBPROTOCOL)]
        raise BadInput(f"offer the WebSocket subprotocol {SUBPROTOCOL}" + (f", not {', '.join(others)}" if others else ""))
    counts = services.ingests.counts
    if services.stopping or services.ingests.stopping.is_set():
        raise Unavailable("the server is stopping")
    if counts.connections >= settings.max_ingests:
        raise Busy(f"{counts.connections} producers are connected, and at most {settings.max_ingests} may be", retry_after=5)
    counts.connections += 1
    try:
        # no permessage-deflate: a client compresses by zstd, where that is worth it; who exceeds the credit by a little is told so
        ws = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,),
            heartbeat=settings.ping_s,
            max_msg_size=settings.ingest_window + (64 << 10),
            compress=False,
            timeout=2.0,
        )
        await ws.prepare(request)
        if not await IngestSession(ws, services, request.remote or "").run() and request.transport is not None:
            request.transport.abort()
        return ws
    finally:
        counts.connections -= 1


async def close_ingests(app: web.Application) -> None:
    """Signal `on_shutdown`: every connection is told, and has its answers."""
    app[SERVICES].ingests.stopping.set()
