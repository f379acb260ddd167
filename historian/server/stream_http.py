"""Streams over plain HTTP, for who has no WebSocket: one subscription as an endless answer, in one of two forms.

Arrow                one IPC stream, as `pyarrow.ipc.open_stream` reads it; what a WebSocket tells in control messages stands in the metadata of its batches
text/event-stream    server-sent events, with the messages of the JSON subprotocol: for browsers behind proxies, and scripts
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

import orjson
import pyarrow as pa
from aiohttp import web

from historian.query.formats import ARROW, Sink
from historian.query.times import format_time
from historian.schema.catalogue import Tag
from historian.schema.errors import HistorianError
from historian.schema.samples import Samples, arrow_schema
from historian.server.connection import cut_off
from historian.server.problems import as_problem
from historian.server.services import SERVICES
from historian.server.stream_parameters import asked_for
from historian.stream.encoder import EventEncoder
from historian.stream.events import Born, Changed, Data, Event, Gap, Live, Reached, Refused, Subscribed
from historian.stream.missed import range_path

log = logging.getLogger(__name__)

EVENT_STREAM = "text/event-stream"

#: of the answers that flow, which the server ends when it stops
TASKS = web.AppKey("tasks", set[asyncio.Task[Any]])


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
        self._told = {tag.tag_id for tag in tags}
        self._schema = arrow_schema(tags, text=text)
        self._sink = Sink()
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, mode="w"), self._schema)

    def write(self, event: Event) -> bytes:
        if isinstance(event, Subscribed):
            # of a durable subscription it comes again, with those that were made since
            event = Born(tuple(tag for tag in event.tags if tag.tag_id not in self._told))
            self._told |= {tag.tag_id for tag in event.tags}
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
            # what a browser sends as Last-Event-ID when it connects again
            case Reached(position):
                name, place = "position", f"id: {position}\n"
            case Data(cursor=cursor) | Live(cursor) if cursor:
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
            return (Samples.empty(), {"historian.tags": orjson.dumps([tag.row() for tag in tags]).decode()}) if tags else None
        case Reached(position):
            return Samples.empty(), {"historian.position": position}
        case Subscribed() | Changed() | Refused():
            return None


async def _paced(events: AsyncGenerator[Event, None], every_s: float) -> AsyncGenerator[Event | None, None]:
    """The events, and None wherever none has come for so long."""
    coming: asyncio.Task[Event] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait({coming}, timeout=every_s)
            if not done:
                yield None
                continue
            try:
                event = coming.result()
            except StopAsyncIteration:
                return
            finally:
                coming = None
            yield event
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        await events.aclose()


def _written(form: _Form, event: Event | None) -> bytes:
    # by a heartbeat a client that is gone is found out
    return form.heartbeat() if event is None else form.write(event)


async def flow(request: web.Request) -> web.StreamResponse:
    """Answer with a subscription, for as long as it lasts. One that cannot be opened is answered with a problem; a fault that comes later cuts the connection."""
    services = request.app[SERVICES]
    settings = services.settings
    subscription, tags, text = await asked_for(request, services)
    form = _form_for(request, tags, text)
    # nginx collects an answer unless it is told not to
    headers = {"Content-Type": form.content_type, "Cache-Control": "no-store", "Vary": "Accept", "X-Accel-Buffering": "no"}
    response = web.StreamResponse(headers=headers)

    async def send(data: bytes) -> None:
        if data:
            async with asyncio.timeout(settings.stalled_s):
                await response.write(data)

    task = asyncio.current_task()
    assert task is not None
    request.app[TASKS].add(task)
    try:
        async with aclosing(_paced(subscription.events(), settings.heartbeat_s)) as events:
            opened = await anext(events)
            await response.prepare(request)
            try:
                await send(_written(form, opened))
                async for event in events:
                    await send(_written(form, event))
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
    return response
