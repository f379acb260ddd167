"""The subscription that a GET /v1/stream without upgrade asks for in its address."""

from __future__ import annotations

import time
from typing import cast, get_args

from aiohttp import web

from historian.query.expressions.pens import calculated
from historian.query.range_query import StreamMode, StreamOrder
from historian.query.times import parse_time
from historian.schema.catalogue import Tag
from historian.schema.cursors import Position, check_name
from historian.schema.errors import BadInput
from historian.schema.paths import is_wildcard
from historian.server.parameters import integer, number, parameters
from historian.server.services import Services
from historian.stream import frames, messages
from historian.stream.durable import DurableRequest, DurableSubscription
from historian.stream.limits import TagBudget
from historian.stream.open_subscription import OpenSubscription
from historian.stream.request import Request
from historian.stream.subscription import Subscription

#: what goes with a durable cursor, which brings all samples of its tags
_OF_DURABLE = ("durable", "position", "from")
_OF_ORDINARY = ("from", "to", "mode", "points", "cursor", "order", "max_rate")


async def asked_for(request: web.Request, services: Services) -> tuple[OpenSubscription, tuple[Tag, ...], bool]:
    """The subscription, its tags as far as they are there, and whether its samples have a text column. Raises BadInput, UnknownTag, Unavailable."""
    names = request.query.getall("tag", [])
    durable = "durable" in request.query or "position" in request.query
    if durable:
        given = parameters(request.query, one=_OF_DURABLE, many=("tag",))
        if "durable" not in given:
            raise BadInput("position is of a durable cursor: name it in durable")
    else:
        given = parameters(request.query, one=(*_OF_ORDINARY, "durable", "position"), many=("tag", "expr"))
    if not names and "expr" not in request.query:
        raise BadInput("no tag: give tag=PATH, once for each; wildcards as in site/+/line1/# are allowed")
    now = time.time_ns() // 1000
    budget = TagBudget(services.settings.max_stream_tags)
    if durable:
        return await _durable(request, services, given, names, now, budget)
    asked = await _request_of(request, services, given, names, now, budget)
    subscription = Subscription(
        asked,
        catalogue=services.catalogue,
        hub=services.hub,
        sweep=services.sweep,
        pool=services.backfills,
        now_us=now,
        queue_bytes=services.settings.stream_queue,
        turn=lambda: services.backfill_turns.turn(f"{id(request):x}"),
        budget=budget,
    )
    return subscription, asked.tags, subscription.text


async def _request_of(
    request: web.Request, services: Services, given: dict[str, str], names: list[str], now: int, budget: TagBudget
) -> Request:
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
    budget.check(len(tags), len(tags))
    pens = await calculated(services.catalogue, request.query.getall("expr", []))
    budget.take(len(tags) + len(pens))
    return Request(
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


async def _durable(
    request: web.Request, services: Services, given: dict[str, str], names: list[str], now: int, budget: TagBudget
) -> tuple[OpenSubscription, tuple[Tag, ...], bool]:
    name = check_name(given["durable"])
    # a browser that has lost its connection asks for what follows the last position that it got
    place = request.headers.get("Last-Event-ID") or given.get("position")
    start = parse_time(given["from"], now) if "from" in given else None
    tags = tuple(await services.catalogue.resolve(names))
    budget.check(len(tags), len(tags))
    budget.take(len(tags))
    subscription = DurableSubscription(
        DurableRequest(name, tuple(names), tags, start, None if place is None else Position.parse(place), request.remote),
        hub=services.hub,
        pool=services.backfills,
        catalogue=services.catalogue,
        now_us=now,
        budget=budget,
        turn=lambda: services.backfill_turns.turn(f"{id(request):x}"),
    )
    # a wildcard may match a text tag later, and the schema of an Arrow stream stays
    return subscription, tags, any(map(is_wildcard, names)) or any(tag.kind == "text" for tag in tags)
