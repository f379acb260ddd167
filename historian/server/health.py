"""/healthz: the process lives. /readyz: writes and streams are served. /metrics: figures for Prometheus."""

from __future__ import annotations

import asyncio

import orjson
from aiohttp import web

from historian.schema.connection import translated
from historian.schema.errors import Unavailable
from historian.server import metrics
from historian.server.services import SERVICES

_PATIENCE_S = 2.0


def _answer(document: dict[str, object]) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type="application/json", headers={"Cache-Control": "no-store"})


async def healthz(_request: web.Request) -> web.Response:
    return _answer({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    if services.stopping:
        raise Unavailable("the server is stopping")
    try:
        with translated():
            async with asyncio.timeout(_PATIENCE_S):
                await services.sweep.after_now()
    except Unavailable as error:
        raise Unavailable(f"not ready: {error}") from error
    return _answer(
        {"status": "ready", "engine": services.schema.engine, "schema": services.schema.version, "tags": len(services.catalogue)}
    )


async def prometheus(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    text = services.metrics.text() if services.exposition is None else await services.exposition()
    return web.Response(body=text, headers={"Content-Type": metrics.CONTENT_TYPE})
