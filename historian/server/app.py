"""The web application: which path is answered by which handler."""

from __future__ import annotations

from aiohttp import web

from historian.server import (
    commands,
    cursors,
    deliveries,
    documents,
    health,
    ingest,
    page,
    producers,
    range,
    snapshot,
    stream,
    stream_http,
    tags,
    write,
)
from historian.server.access import access, add_headers
from historian.server.asyncapi import asyncapi
from historian.server.openapi import openapi
from historian.server.problems import problems
from historian.server.services import SERVICES, Services


def make_app(services: Services) -> web.Application:
    """The application of one server, whose services run already."""
    app = web.Application(middlewares=[problems, access])
    app[SERVICES] = services
    app[stream.SOCKETS] = set()
    app[stream_http.TASKS] = set()
    app.on_response_prepare.append(add_headers)
    app.on_shutdown.append(ingest.close_ingests)
    app.on_shutdown.append(stream.close_streams)
    app.on_shutdown.append(commands.close_waits)
    app.router.add_routes(
        [
            web.post("/v1/write", write.write),
            web.get("/v1/range", range.get_range),
            web.post("/v1/range", range.get_range),
            web.get("/v1/snapshot", snapshot.get_snapshot),
            web.get("/v1/tags", tags.get_tags),
            web.put("/v1/tags", tags.put_tags),
            web.get("/v1/producers/{name:.+}", producers.producer),
            web.get("/v1/cursors", cursors.get_cursors),
            web.delete("/v1/cursors/{name}", cursors.delete_cursor),
            web.post("/v1/cursors/{name}/acknowledge", cursors.acknowledge),
            web.post("/v1/commands", commands.post_command),
            web.get("/v1/commands", commands.get_commands),
            web.get(r"/v1/commands/{id:\d+}", commands.get_command),
            web.get("/v1/commands/waiting", deliveries.get_waiting),
            web.post("/v1/commands/claim", deliveries.post_claim),
            web.post(r"/v1/commands/{id:\d+}/outcome", deliveries.post_outcome),
            web.get("/v1/stream", stream.stream),
            web.get("/v1/ingest", ingest.ingest),
            web.get("/openapi.json", openapi),
            web.get("/asyncapi.json", asyncapi),
            web.get("/healthz", health.healthz),
            web.get("/readyz", health.readyz),
            web.get("/metrics", health.prometheus),
            *page.routes(),
        ]
    )
    for kind in documents.KINDS:
        app.router.add_routes(documents.routes(kind))
    return app
