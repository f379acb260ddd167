"""GET /v1/range: samples or buckets of some tags between two instants, streamed as they are read."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import cast, get_args

from aiohttp import web

from historian.query import formats
from historian.query.described import WITH_STATES, described
from historian.query.interval import Interval, parse_origin, parse_zone
from historian.query.range import read_range
from historian.query.range_query import Bounds, Mode, RangeQuery
from historian.query.times import parse_time
from historian.schema.connection import translated
from historian.schema.errors import BadInput, TooLarge
from historian.server.parameters import integer, parameters
from historian.server.problems import as_problem
from historian.server.services import SERVICES, Services

log = logging.getLogger(__name__)

MAX_TAGS = 10_000
MAX_POINTS = 100_000
MAX_LIMIT = 2**62
_WRITE_AT = 256 << 10
#: bytes/s that a client has to take
_SLOWEST = 50_000


_ONE = ("start", "end", "mode", "points", "interval", "tz", "origin", "bounds", "limit", "format")


async def _query(request: web.Request, services: Services) -> tuple[RangeQuery, formats.Format]:
    given = parameters(request, one=_ONE, many=("tag", "at"))
    names = request.query.getall("tag", [])
    if not names:
        raise BadInput("no tag: give tag=PATH, once for each; wildcards as in site/+/line1/# are allowed")
    now = time.time_ns() // 1000
    mode = _one_of(given.get("mode", "raw"), "mode", get_args(Mode))
    at = tuple(sorted({parse_time(text, now) for text in request.query.getall("at", [])}))
    if len(at) > MAX_POINTS:
        raise TooLarge(f"{len(at)} instants; at most {MAX_POINTS} a query")
    if mode == "at" and not at:
        raise BadInput("mode at wants instants: at=TIME, once for each")
    if at and mode not in ("at", "interpolated"):
        raise BadInput(f"mode {mode} has no instants; at= goes with mode=at and mode=interpolated")
    if at:
        start, end = at[0], at[-1] + 1
    else:
        if "start" not in given:
            raise BadInput("no start: give an RFC 3339 time, integer microseconds since 1970, or one relative to now, as in start=-1h")
        start, end = parse_time(given["start"], now), parse_time(given.get("end", "now"), now)
    if end < start:
        raise BadInput(f"end ({given.get('end', 'now')}) lies before start ({given['start']})")
    points = integer(given.get("points", "2000"), "points", 10, MAX_POINTS)
    limit = integer(given["limit"], "limit", 1, MAX_LIMIT) if "limit" in given else None
    interval = None
    if "interval" in given:
        origin = parse_origin(given["origin"]) if "origin" in given else 0
        interval = Interval.parse(given["interval"], parse_zone(given.get("tz", "UTC")), origin)
    elif "tz" in given or "origin" in given:
        raise BadInput("tz and origin say where an interval begins: they go with interval=")
    bounds = _one_of(given.get("bounds", "inside"), "bounds", get_args(Bounds))
    form = formats.by_name(given["format"]) if "format" in given else formats.choose(request.headers.get("Accept"))
    tags = await services.catalogue.resolve(names)
    if len(tags) > MAX_TAGS:
        raise TooLarge(f"these wildcards match {len(tags)} tags; at most {MAX_TAGS} a query")
    return RangeQuery(tuple(tags), start, end, cast(Mode, mode), points, limit, interval, cast(Bounds, bounds), at), form


def _one_of(text: str, name: str, known: Sequence[str]) -> str:
    if text not in known:
        raise BadInput(f"{name} is {', '.join(known)}, not {text[:40]!r}")
    return text


async def get_range(request: web.Request) -> web.StreamResponse:
    """Stream a range. A fault that comes after the first bytes cuts the connection, so that nobody takes a part for the whole."""
    services = request.app[SERVICES]
    query, form = await _query(request, services)
    tags = described(query.tags, query.mode, query.bounds)
    encoder = form.encoder(tags, state=True) if query.mode in WITH_STATES else form.encoder(tags)
    response = web.StreamResponse(headers={"Content-Type": form.content_type, "Cache-Control": "no-store", "Vary": "Accept"})
    pending = bytearray(encoder.start())
    # a client that takes little, or nothing, holds a connection that others wait for: so long in all, and then some for what it has taken
    patience_s = services.settings.stalled_s

    async def send() -> None:
        nonlocal patience_s
        begun = time.monotonic()
        async with asyncio.timeout(patience_s):
            if not response.prepared:
                await response.prepare(request)
            await response.write(bytes(pending))
        patience_s += len(pending) / _SLOWEST - (time.monotonic() - begun)
        pending.clear()

    try:
        with translated():
            async with (
                services.reading() as conn,
                conn.transaction(isolation="repeatable_read", readonly=True),
                aclosing(read_range(conn, query)) as chunks,
            ):
                async for samples in chunks:
                    pending += encoder.write(samples)
                    if len(pending) >= _WRITE_AT:
                        await send()
        pending += encoder.finish()
        await send()
        await response.write_eof()
    except Exception as error:
        if not response.prepared:
            raise
        if not isinstance(error, ConnectionError):
            log.warning("a range was cut off: %s", as_problem(error, "GET /v1/range"))
        if request.transport is not None:
            request.transport.abort()
    return response
