"""/v1/cursors: the durable cursors of this database, which are listed, moved on and forgotten."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from historian.query.times import format_time
from historian.schema import cursors
from historian.schema.connection import translated
from historian.schema.cursors import Cursor, Position
from historian.schema.errors import BadInput
from historian.server.parameters import given_in, parameters
from historian.server.services import SERVICES


def _row(cursor: Cursor) -> dict[str, Any]:
    return {
        "name": cursor.name,
        "tags": list(cursor.tags),
        "from": _time(cursor.start),
        "created_at": _time(cursor.created_at),
        "acknowledged_at": _time(cursor.acknowledged_at),
        "waiting_since": _time(cursor.waiting_since),
        "expired": cursor.lost is not None,
        "client": cursor.client,
    }


def _time(us: int | None) -> str | None:
    return None if us is None else format_time(us)


async def get_cursors(request: web.Request) -> web.Response:
    """All of them, by name."""
    parameters(request.query, one=())
    with translated():
        async with request.app[SERVICES].reading() as conn:
            found = await cursors.listed(conn)
    return web.Response(
        body=orjson.dumps({"cursors": [_row(cursor) for cursor in found]}),
        content_type="application/json",
        headers={"Cache-Control": "no-cache"},
    )


async def delete_cursor(request: web.Request) -> web.Response:
    """Forget one; the ledger is no longer held for it, and a stream that has it ends."""
    parameters(request.query, one=())
    with translated():
        async with request.app[SERVICES].reading() as conn:
            await cursors.delete(conn, cursors.check_name(request.match_info["name"]))
    return web.Response(status=204)


async def acknowledge(request: web.Request) -> web.Response:
    """The reader has all up to a position, for good: answered when that is stored."""
    given = parameters(await given_in(request), one=("position",))
    if "position" not in given:
        raise BadInput("no position: give the last historian.position of the stream behind which everything is safe")
    name = cursors.check_name(request.match_info["name"])
    position = Position.parse(given["position"])
    with translated():
        async with request.app[SERVICES].reading() as conn:
            kept = await cursors.acknowledge(conn, name, position)
    return web.Response(body=orjson.dumps({"name": name, "position": str(kept)}), content_type="application/json")
