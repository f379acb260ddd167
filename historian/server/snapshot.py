"""GET /v1/snapshot: the newest sample of every tag that matches."""

from __future__ import annotations

from aiohttp import web

from historian.query import formats
from historian.query.snapshot import read_snapshot
from historian.schema.connection import translated
from historian.server.parameters import parameters
from historian.server.services import SERVICES


async def get_snapshot(request: web.Request) -> web.Response:
    """In the formats of a range; tags without samples are left out."""
    services = request.app[SERVICES]
    given = parameters(request.query, one=("match", "format"))
    form = formats.by_name(given["format"]) if "format" in given else formats.choose(request.headers.get("Accept"))
    tags = await services.catalogue.resolve([given.get("match", "#")])
    with translated():
        async with services.reading() as conn:
            samples = await read_snapshot(conn, tags)
    encoder = form.encoder(tags)
    body = encoder.start() + encoder.write(samples) + encoder.finish()
    return web.Response(body=body, headers={"Content-Type": form.content_type, "Cache-Control": "no-store", "Vary": "Accept"})
