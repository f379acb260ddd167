"""GET /v1/stream: a WebSocket (docs/protocol.md) or, without upgrade, an endless Arrow IPC stream over chunked HTTP."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Any, cast, get_args

import pyarrow as pa
from aiohttp import WSCloseCode, web
from typing_extensions import Buffer

from historian.query.expressions.pens import calculated
from historian.query.range_query import StreamMode
from historian.query.times import format_time, parse_time
from historian.schema.errors import BadInput, Busy, Unavailable
from historian.schema.samples import Samples, arrow_schema
from historian.server.access import TOKEN_SUBPROTOCOL
from historian.server.parameters import integer, parameters
from historian.server.problems import as_problem
from historian.server.services import SERVICES, Services
from historian.stream import frames, messages
from historian.stream.session import SUBPROTOCOLS, Session
from historian.stream.subscription import Data, Event, Gap, Live, Request, Subscribed, Subscription

log = logging.getLogger(__name__)

ARROW_STREAM = "application/vnd.apache.arrow.stream"


SOCKETS = web.AppKey("sockets", set[web.WebSocketResponse])
TASKS = web.AppKey("tasks", set[asyncio.Task[Any]])


@contextmanager
def _counted(services: Services) -> Iterator[None]:
    if services.stopping:
        raise Unavailable("the server is stopping")
    if services.streams >= services.settings.max_streams:
        raise Busy(f"{services.streams} streams are open, and at most {services.settings.max_streams} may", retry_after=5)
    services.streams += 1
    try:
        yield
    finally:
        services.streams -= 1


async def stream(request: web.Request) -> web.StreamResponse:
    """One connection's streams."""
    with _counted(request.app[SERVICES]):
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await _websocket(request)
        return await _chunked(request)


async def _websocket(request: web.Request) -> web.StreamResponse:
    services = request.app[SERVICES]
    settings = services.settings
    offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    known = [name for name in offered if name in SUBPROTOCOLS]
    if not known:
        others = [name[:40] for name in offered if name and not name.startswith(TOKEN_SUBPROTOCOL)]
        raise BadInput(f"offer the WebSocket subprotocol {' or '.join(SUBPROTOCOLS)}" + (f", not {', '.join(others)}" if others else ""))
    compression = parameters(request.query, one=("compression",)).get("compression")
    if compression not in (None, "zstd"):
        raise BadInput(f"compression is zstd or left out, not {compression[:40]!r}")
    # no permessage-deflate: numbers gain little by it and it costs memory for each client
    ws = web.WebSocketResponse(
        protocols=known[:1], heartbeat=settings.ping_s, max_msg_size=messages.MAX_MESSAGE_BYTES, compress=False, timeout=5.0
    )
    await ws.prepare(request)
    sockets = request.app[SOCKETS]
    sockets.add(ws)
    try:
        session = Session(
            ws,
            catalogue=services.catalogue,
            hub=services.hub,
            sweep=services.sweep,
            pool=services.backfills,
            compress=compression == "zstd",
            queue_bytes=settings.stream_queue,
            heartbeat_s=settings.heartbeat_s,
        )
        await session.run()
    finally:
        sockets.discard(ws)
    return ws


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
    cursor = integer(given["cursor"], "cursor", 0, frames.MAX_CURSOR) if "cursor" in given else None
    tags = await services.catalogue.resolve(names)
    if len(tags) > messages.MAX_TAGS:
        raise BadInput(f"these wildcards match {len(tags)} tags; at most {messages.MAX_TAGS} a stream")
    tags += await calculated(services.catalogue, expressions)
    return Request(tuple(tags), start, end, cast(StreamMode, mode), points, cursor), now


class _Drained(io.RawIOBase):
    """A file that only collects, for an Arrow writer whose output is sent piece by piece."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        part = bytes(data)
        self._parts.append(part)
        return len(part)

    def drain(self) -> bytes:
        collected = b"".join(self._parts)
        self._parts.clear()
        return collected


def _as_batch(event: Event) -> tuple[Samples, dict[str, str]] | None:
    """What a WebSocket tells in control messages stands in a batch's metadata."""
    match event:
        case Data(samples, cursor, backfill):
            return samples, {"historian.backfill" if backfill else "historian.cursor": str(int(backfill) if backfill else cursor)}
        case Live(cursor):
            return Samples.empty(), {"historian.live": "1", "historian.cursor": str(cursor)}
        case Gap(start, end, reason):
            gap = {"from": format_time(start), "to": format_time(end), "reason": reason}
            return Samples.empty(), {"historian.gap": json.dumps(gap)}
        case Subscribed():
            return None


async def _chunked(request: web.Request) -> web.StreamResponse:
    services = request.app[SERVICES]
    settings = services.settings
    asked, now = await _request_of(request, services)
    subscription = Subscription(
        asked, hub=services.hub, sweep=services.sweep, pool=services.backfills, now_us=now, queue_bytes=settings.stream_queue
    )
    schema = arrow_schema(asked.tags)
    response = web.StreamResponse(headers={"Content-Type": ARROW_STREAM, "Cache-Control": "no-store"})
    sink = _Drained()
    writer = pa.ipc.new_stream(sink, schema)

    async def send(samples: Samples, metadata: dict[str, str]) -> None:
        writer.write_batch(samples.to_record_batch(schema), custom_metadata=metadata or None)
        async with asyncio.timeout(settings.stalled_s):
            await response.write(sink.drain())

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
                    # a batch without rows: a heartbeat, by which a client that is gone is found out
                    await send(Samples.empty(), {})
                    continue
                try:
                    batch = _as_batch(coming.result())
                except StopAsyncIteration:
                    break
                finally:
                    coming = None
                if batch is not None:
                    await send(*batch)
        writer.close()
        await response.write(sink.drain())
        await response.write_eof()
    except Exception as error:
        if not isinstance(error, ConnectionError):
            log.warning("a stream was cut off: %s", as_problem(error, "GET /v1/stream"))
        if request.transport is not None:
            request.transport.abort()
    finally:
        request.app[TASKS].discard(task)
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
    return response


async def close_streams(app: web.Application) -> None:
    """Signal `on_shutdown`: tell every client that the server stops."""
    app[SERVICES].stopping = True
    tasks, sockets = app[TASKS], app[SOCKETS]
    for task in tasks:
        task.cancel()
    # a client that does not read its close message is not waited for
    with suppress(TimeoutError):
        async with asyncio.timeout(2):
            await asyncio.gather(
                *(ws.close(code=WSCloseCode.GOING_AWAY, message=b"the server stops") for ws in sockets), return_exceptions=True
            )
