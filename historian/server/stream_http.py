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
from historian.query.range_query import StreamMode, StreamOrder
from historian.query.times import format_time, parse_time
from historian.schema.catalogue import Tag
from historian.schema.errors import BadInput, HistorianError
from historian.schema.samples import Samples, arrow_schema
from historian.server.connection import cut_off
from historian.server.parameters import integer, number, parameters
from historian.server.problems import as_problem
from historian.server.services import SERVICES, Services
from historian.stream import frames, messages
from historian.stream.encoder import EventEncoder
from historian.stream.limits import TagBudget
from historian.stream.missed import range_path
from historian.stream.subscription import Born, Changed, Data, Event, Gap, Live, Refused, Request, Subscribed, Subscription

log = logging.getLogger(__name__)

EVENT_STREAM = "text/event-stream"

#: of the answers that flow, which the server ends when it stops
TASKS = web.AppKey("tasks", set[asyncio.Task[Any]])


async def _request_of(request: web.Request, services: Services) -> tuple[Request, int]:
    given = parameters(request.query, one=("from", "to", "mode", "points", "cursor", "order", "max_rate"), many=("tag", "expr"))
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
    order = given.get("order", "oldest")
    if order not in get_args(StreamOrder):
        raise BadInput(f"order is {' or '.join(get_args(StreamOrder))}, not {order[:40]!r}")
    max_rate = number(given["max_rate"], "max_rate", messages.LOWEST_RATE, messages.HIGHEST_RATE) if "max_rate" in given else None
    where = services.hub.cursor
    tags = await services.catalogue.resolve(names)
    TagBudget(services.settings.max_stream_tags).check(len(tags), len(tags))
    pens = await calculated(services.catalogue, expressions)
    asked = Request(
        (*tags, *pens),
        start,
        end,
        cast(StreamMode, mode),
        points,
        cursor,
        names=tuple(names),
        place=where,
        order=cast(StreamOrder, order),
        max_rate=max_rate,
    )
    return asked, now


class _Form(Protocol):
    """How the events of a subscription are written."""

    content_type: str

    def write(self, event: Event) -> bytes: ...

    def heartbeat(self) -> bytes: ...

    def fault(self, problem: HistorianError) -> bytes: ...

    def end(self) -> bytes: ...


class _Arrow:
    content_type = ARROW.content_type

    def __init__(self, tags: tuple[Tag, ...], text: bool) -> None:
        self._schema = arrow_schema(tags, text=text)
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
            case Born():
                name, place = "tags", ""
            case Data(cursor=cursor) | Live(cursor) if cursor:
                # what a browser sends as Last-Event-ID when it connects again
                name, place = type(event).__name__.lower(), f"id: {cursor}\n"
            case _:
                name, place = type(event).__name__.lower(), ""
        # JSON has no line breaks
        return f"event: {name}\n{place}data: {message}\n\n".encode()

    def heartbeat(self) -> bytes:
        return b": heartbeat\n\n"

    def fault(self, problem: HistorianError) -> bytes:
        return b"event: error\ndata: %b\n\n" % orjson.dumps(problem.document())

    def end(self) -> bytes:
        return b""


def _form_for(request: web.Request, tags: tuple[Tag, ...], text: bool) -> _Form:
    wanted = request.headers.get("Accept", "")
    return _Events() if EVENT_STREAM in wanted.lower() else _Arrow(tags, text)


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
        case Born(tags):
            return Samples.empty(), {"historian.tags": orjson.dumps([tag.row() for tag in tags]).decode()}
        case Subscribed() | Changed() | Refused():
            return None


async def flow(request: web.Request) -> web.StreamResponse:
    """Answer with a subscription, for as long as it lasts. A fault that comes after the first bytes cuts the connection."""
    services = request.app[SERVICES]
    settings = services.settings
    asked, now = await _request_of(request, services)
    budget = TagBudget(settings.max_stream_tags)
    budget.take(len(asked.tags))
    subscription = Subscription(
        asked,
        catalogue=services.catalogue,
        hub=services.hub,
        sweep=services.sweep,
        pool=services.backfills,
        now_us=now,
        queue_bytes=settings.stream_queue,
        turn=lambda: services.backfill_turns.turn(f"{id(request):x}"),
        budget=budget,
    )
    form = _form_for(request, asked.tags, subscription.text)
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
