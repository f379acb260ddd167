"""Streams over plain HTTP, for who has no WebSocket: one subscription as an endless answer, in one of two forms.

Arrow                one IPC stream, as `pyarrow.ipc.open_stream` reads it; what a WebSocket tells in control messages stands in the metadata of its batches
text/event-stream    server-sent events, with the messages of the JSON subprotocol: for browsers behind proxies, and scripts
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import aclosing
from typing import Any, Protocol, cast, get_args

import orjson
import pyarrow as pa
from aiohttp import web

from historian.query.expressions.pens import calculated
from historian.query.formats import ARROW, Sink
from historian.query.range_query import StreamMode
from historian.query.times import format_time, parse_time
from historian.schema.catalogue import Tag
from historian.schema.errors import BadInput, HistorianError
from historian.schema.samples import Samples, arrow_schema
from historian.server.connection import cut_off
from historian.server.parameters import integer, parameters
from historian.server.problems import as_problem
from historian.server.services import SERVICES, Services
from historian.stream import frames, messages
from historian.stream.encoder import EventEncoder
from historian.stream.missed import range_path
from historian.stream.subscription import Data, Event, Gap, Live, Request, Subscribed, Subscription

log = logging.getLogger(__name__)

EVENT_STREAM = "text/event-stream"

#: of the answers that flow, which the server ends when it stops
TASKS = web.AppKey("tasks", set[asyncio.Task[Any]])


async def _request_of(request: web.Request, services: Services) -> tuple[Request, int]:
    given = parameters(request.query, one=("from", "to", "mode", "points", "cursor"), many=("tag", "expr"))
    names = request.query.getall("tag", [])
    expressions = request.query.getall("expr", [])
    if not names and not expressions:
        raise BadInput("no tag: give tag=PATH, once for each; wildcards as in site/+/line1/# are allowed")
    now = time.time_ns() // 1000
    start = parse_time(given["from"], now) if "from" in given else None
    end = parse_time(given["to"], now) if "to" in given else None
    if start is not None and end is not None and end < start:
        raise BadInput(f"to ({given['to']}) lies before from ({given['from']})")
    mode = given.get("mode", "raw")
    if mode not in get_args(StreamMode):
        raise BadInput(f"mode is {', '.join(get_args(StreamMode))}, not {mode[:40]!r}")
    points = integer(given.get("points", "2000"), "points", 10, 100_000)
    # a browser that has lost its connection asks for what follows the last event that it got
    place = request.headers.get("Last-Event-ID") or given.get("cursor")
    cursor = None if place is None else integer(place, "cursor", 0, frames.MAX_CURSOR)
    tags = await services.catalogue.resolve(names)
    if len(tags) > messages.MAX_TAGS:
        raise BadInput(f"these wildcards match {len(tags)} tags; at most {messages.MAX_TAGS} a stream")
    tags += await calculated(services.catalogue, expressions)
    return Request(tuple(tags), start, end, cast(StreamMode, mode), points, cursor), now


class _Form(Protocol):
    """How the events of a subscription are written."""

    content_type: str

    def write(self, event: Event) -> bytes: ...

    def heartbeat(self) -> bytes: ...

    def fault(self, problem: HistorianError) -> bytes: ...

    def end(self) -> bytes: ...


class _Arrow:
    content_type = ARROW.content_type

    def __init__(self, tags: tuple[Tag, ...]) -> None:
        self._schema = arrow_schema(tags)
        self._sink = Sink()
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, mode="w"), self._schema)

    def write(self, event: Event) -> bytes:
        batch = _as_batch(event)
        return b"" if batch is None else self._add(*batch)

    def _add(self, samples: Samples, metadata: dict[str, str]) -> bytes:
        self._writer.write_batch(samples.to_record_batch(self._schema), custom_metadata=metadata or None)
        return self._sink.drain()

    def heartbeat(self) -> bytes:
        return self._add(Samples.empty(), {})

    def fault(self, problem: HistorianError) -> bytes:
        return b""

    def end(self) -> bytes:
        self._writer.close()
        return self._sink.drain()


class _Events:
    content_type = EVENT_STREAM

    def __init__(self) -> None:
        self._encoder = EventEncoder(0, binary=False)

    def write(self, event: Event) -> bytes:
        message = self._encoder.encode(event)
        assert isinstance(message, str)
        match event:
            case Data(cursor=cursor) | Live(cursor) if cursor:
                # what a browser sends as Last-Event-ID when it connects again
                place = f"id: {cursor}\n"
            case _:
                place = ""
        # JSON has no line breaks
        return f"event: {type(event).__name__.lower()}\n{place}data: {message}\n\n".encode()

    def heartbeat(self) -> bytes:
        return b": heartbeat\n\n"

    def fault(self, problem: HistorianError) -> bytes:
        return b"event: error\ndata: %b\n\n" % orjson.dumps(problem.document())

    def end(self) -> bytes:
        return b""


def _form_for(request: web.Request, tags: tuple[Tag, ...]) -> _Form:
    wanted = request.headers.get("Accept", "")
    return _Events() if EVENT_STREAM in wanted.lower() else _Arrow(tags)


def _as_batch(event: Event) -> tuple[Samples, dict[str, str]] | None:
    """What a WebSocket tells in control messages stands in a batch's metadata."""
    match event:
        case Data(samples, cursor, backfill):
            return samples, {"historian.backfill" if backfill else "historian.cursor": str(int(backfill) if backfill else cursor)}
        case Live(cursor):
            return Samples.empty(), {"historian.live": "1", "historian.cursor": str(cursor)}
        case Gap(start, end, reason, tags):
            gap = {"from": format_time(start), "to": format_time(end), "reason": reason}
            if tags:
                gap["range"] = range_path(start, end, tags)
            return Samples.empty(), {"historian.gap": json.dumps(gap)}
        case Subscribed():
            return None


async def flow(request: web.Request) -> web.StreamResponse:
    """Answer with a subscription, for as long as it lasts. A fault that comes after the first bytes cuts the connection."""
    services = request.app[SERVICES]
    settings = services.settings
    asked, now = await _request_of(request, services)
    subscription = Subscription(
        asked, hub=services.hub, sweep=services.sweep, pool=services.backfills, now_us=now, queue_bytes=settings.stream_queue
    )
    form = _form_for(request, asked.tags)
    # nginx collects an answer unless it is told not to
    headers = {"Content-Type": form.content_type, "Cache-Control": "no-store", "Vary": "Accept", "X-Accel-Buffering": "no"}
    response = web.StreamResponse(headers=headers)

    async def send(data: bytes) -> None:
        if data:
            async with asyncio.timeout(settings.stalled_s):
                await response.write(data)

    await response.prepare(request)
    task = asyncio.current_task()
    assert task is not None
    request.app[TASKS].add(task)
    coming: asyncio.Task[Event] | None = None
    try:
        async with aclosing(subscription.events()) as events:
            while True:
                coming = coming or asyncio.ensure_future(anext(events))
                done, _ = await asyncio.wait({coming}, timeout=settings.heartbeat_s)
                if not done:
                    # by which a client that is gone is found out
                    await send(form.heartbeat())
                    continue
                try:
                    event = coming.result()
                except StopAsyncIteration:
                    break
                finally:
                    coming = None
                await send(form.write(event))
        await send(form.end())
        await response.write_eof()
    except Exception as error:
        last = b""
        if not isinstance(error, ConnectionError):
            problem = as_problem(error, "GET /v1/stream")
            log.warning("a stream was cut off: %s", problem)
            # a client that takes nothing does not take this either
            last = b"" if isinstance(error, TimeoutError) else form.fault(problem)
        cut_off(request, last)
    finally:
        request.app[TASKS].discard(task)
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
    return response
