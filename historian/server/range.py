"""GET or POST /v1/range: samples or buckets of some tags between two instants, streamed as they are read, or a page of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, replace
from typing import cast, get_args

from aiohttp import web

from historian.query import formats
from historian.query.cursor import BEGINNING, Cursor, Place, digest_of
from historian.query.described import WITH_STATES, described
from historian.query.expressions.pens import calculated
from historian.query.interval import Interval, parse_origin, parse_zone
from historian.query.range import read_range
from historian.query.range_query import Bounds, Mode, RangeQuery
from historian.query.times import parse_time
from historian.schema.connection import translated
from historian.schema.errors import BadInput, TooLarge
from historian.schema.samples import Samples
from historian.server.access import client_of
from historian.server.attendance import ClientGone, attended
from historian.server.connection import cut_off
from historian.server.flow import Flow
from historian.server.parameters import given_in, integer, number, parameters
from historian.server.problems import as_problem
from historian.server.services import SERVICES, Services

log = logging.getLogger(__name__)

MAX_TAGS = 10_000
MAX_POINTS = 100_000
MAX_LIMIT = 2**62
#: an answer with a limit up to this many rows is a page: made whole before it is sent, so that its headers can tell where the next begins
PAGE_ROWS = 100_000
#: a page that has become so large ends with the chunk that it is in
_PAGE_BYTES = 16 << 20
#: where the next page begins, if there is one
NEXT_HEADER = "Historian-Next"
#: longer addresses would not fit into the headers that clients take
_LONGEST_LINK = 4000

#: bytes that are collected before they are sent: the first rows at once, then four times as many each time
_FIRST_WRITE = 1
_WRITE_AT = 256 << 10
#: what has been waiting for so long is sent with the next rows, however few
_WRITE_AFTER_S = 0.05
#: bytes/s that a client has to take
_SLOWEST = 50_000


_ONE = ("start", "end", "mode", "points", "interval", "tz", "origin", "bounds", "limit", "cursor", "timeout", "format")
#: what may differ from page to page
_OF_A_PAGE = frozenset({"limit", "cursor", "timeout", "format"})


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request: the query and how it is to be answered. `now`, `digest`: see Cursor."""

    query: RangeQuery
    form: formats.Format
    after: Place | None
    now: int
    digest: bytes
    timeout_s: float

    @property
    def is_page(self) -> bool:
        return self.query.limit is not None and self.query.limit <= PAGE_ROWS


async def _asked(request: web.Request, services: Services) -> _Asked:
    fields = await given_in(request)
    given = parameters(fields, one=_ONE, many=("tag", "expr", "at"))
    names = fields.getall("tag", [])
    expressions = fields.getall("expr", [])
    if not names and not expressions:
        raise BadInput(
            "no tag: give tag=PATH, once for each; wildcards as in site/+/line1/# are allowed, and expressions as in expr=a/b * 2"
        )
    settings = services.settings
    limit = integer(given["limit"], "limit", 1, MAX_LIMIT) if "limit" in given else None
    if limit is not None and settings.max_rows is not None and limit > settings.max_rows:
        raise TooLarge(
            f"limit is {limit}, and a query may have {settings.max_rows} rows on this server: page with a smaller limit and cursor"
        )
    timeout_s = number(given["timeout"], "timeout", 0.001, settings.query_s) if "timeout" in given else settings.query_s
    digest = digest_of((name, value) for name, value in fields.items() if name not in _OF_A_PAGE)
    cursor = Cursor.decode(given["cursor"], digest) if "cursor" in given else None
    if cursor is not None and (limit is None or limit > PAGE_ROWS):
        raise BadInput(f"a cursor goes with a limit of at most {PAGE_ROWS}: so many rows are a page")
    now = time.time_ns() // 1000 if cursor is None else cursor.now
    mode = _one_of(given.get("mode", "raw"), "mode", get_args(Mode))
    at = tuple(sorted({parse_time(text, now) for text in fields.getall("at", [])}))
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
    tags += await calculated(services.catalogue, expressions)
    query = RangeQuery(tuple(tags), start, end, cast(Mode, mode), points, limit, interval, cast(Bounds, bounds), at)
    return _Asked(query, form, cursor.place if cursor is not None else None, now, digest, timeout_s)


def _one_of(text: str, name: str, known: Sequence[str]) -> str:
    if text not in known:
        raise BadInput(f"{name} is {', '.join(known)}, not {text[:40]!r}")
    return text


class _Output:
    """The answer on its way: bytes that are collected, and sent in pieces that grow."""

    def __init__(self, request: web.Request, form: formats.Format, patience_s: float) -> None:
        self._request = request
        self.response = web.StreamResponse(headers={"Content-Type": form.content_type, "Cache-Control": "no-store", "Vary": "Accept"})
        self._pending = bytearray()
        self._send_at = _FIRST_WRITE
        self._sent = time.monotonic()
        # a client that takes little, or nothing, holds a connection that others wait for: so long in all, and then some for what it has taken
        self._patience_s = patience_s
        #: whether nobody takes it any more
        self.over = False

    def __len__(self) -> int:
        """Bytes that are not sent."""
        return len(self._pending)

    def add(self, data: bytes) -> None:
        self._pending += data

    async def flow(self) -> None:
        """Send what is there, if it is enough. Raises ClientGone."""
        if len(self._pending) >= self._send_at or (self._pending and time.monotonic() - self._sent > _WRITE_AFTER_S):
            await self.send()
            self._send_at = min(4 * max(self._send_at, 4096), _WRITE_AT)

    async def send(self) -> None:
        """Send all that is there. Raises ClientGone."""
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self._patience_s):
                if not self.response.prepared:
                    await self.response.prepare(self._request)
                await self.response.write(bytes(self._pending))
        except ConnectionError:
            self.over = True
            raise ClientGone("the client has closed its connection") from None
        except TimeoutError:
            self.over = True
            raise ClientGone("the client takes nothing") from None
        self._sent = time.monotonic()
        self._patience_s += len(self._pending) / _SLOWEST - (self._sent - begun)
        self._pending.clear()

    async def end(self) -> None:
        await self.send()
        try:
            await self.response.write_eof()
        except ConnectionError:
            self.over = True
            raise ClientGone("the client has closed its connection") from None


async def _encoded(services: Services, form: formats.Format, encoder: formats.Encoder, samples: Samples) -> AsyncIterator[bytes]:
    """The samples in the format, in pieces that hold up the event loop for some milliseconds each, and one query's at a time: live streams run in between."""
    if form.slow:
        yield await asyncio.to_thread(encoder.write, samples)
        return
    for piece in samples.pieces(form.rows):
        async with services.encoding:
            data = encoder.write(piece)
            await asyncio.sleep(0)
        yield data


async def _answer(request: web.Request, services: Services, asked: _Asked, out: _Output) -> None:
    query, form = asked.query, asked.form
    most = services.settings.max_rows
    if query.limit is None and most is not None:
        query = replace(query, limit=most)
    tags = described(query.tags, query.mode, query.bounds)
    encoder = form.encoder(tags, state=True) if query.mode in WITH_STATES else form.encoder(tags)
    texts = {tag.tag_id for tag in query.tags if tag.kind == "text"}
    place = asked.after or BEGINNING
    more = False
    out.add(encoder.start())
    with translated(), closing(Flow(services.flowing)) as flow:
        async with (
            services.reading(client_of(request)) as conn,
            conn.transaction(isolation="repeatable_read", readonly=True),
            aclosing(read_range(conn, query, asked.after)) as chunks,
        ):
            async for samples in chunks:
                await flow.step()
                if asked.is_page:
                    if len(out) > _PAGE_BYTES:
                        more = True
                        break
                    place = place.after(samples, text=int(samples.tag_id[-1]) in texts)
                async for data in _encoded(services, form, encoder, samples):
                    out.add(data)
                    if not asked.is_page:
                        await out.flow()
        more = more or chunks.cut
    if more and asked.query.limit is None:
        raise TooLarge(
            f"more than {most} rows, which is all that a query may have on this server: ask for a shorter span or fewer tags, for a mode with an interval,"
            f" or page with limit and cursor"
        )
    following = Cursor(place, asked.now, asked.digest).encode() if more and asked.is_page else ""
    if following:
        out.response.headers[NEXT_HEADER] = following
        link = str(request.rel_url.update_query(cursor=following))
        if request.method == "GET" and len(link) <= _LONGEST_LINK:
            out.response.headers["Link"] = f'<{link}>; rel="next"'
    out.add(encoder.finish(following))
    await out.end()


async def get_range(request: web.Request) -> web.StreamResponse:
    """Stream a range. A fault that comes after the first bytes cuts the connection, so that nobody takes a part for the whole."""
    services = request.app[SERVICES]
    asked = await _asked(request, services)
    out = _Output(request, asked.form, services.settings.stalled_s)
    try:
        async with attended(request, out.response, asked.timeout_s, lambda: out.over):
            await _answer(request, services, asked, out)
    except Exception as error:
        if isinstance(error, ClientGone):
            if not out.response.prepared:
                raise ConnectionResetError(str(error)) from None
            cut_off(request)
            return out.response
        if not out.response.prepared:
            raise
        problem = as_problem(error, f"{request.method} /v1/range")
        log.warning("a range was cut off: %s", problem)
        cut_off(request, asked.form.fault(problem.document()))
    return out.response
