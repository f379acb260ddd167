"""GET /v1/commands/waiting, POST /v1/commands/claim and /v1/commands/{id}/outcome: how an ingest worker without a database takes commands to the plant.

Claiming never waits: the time that a worker has with a command counts from when it asked.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from historian.commands.commanders import Commander
from historian.query.times import format_time
from historian.server.body import read_body
from historian.server.commands import MAX_WAIT_S, parsed, who_asks
from historian.server.parameters import integer, number, parameters
from historian.server.services import SERVICES

_MAX_BODY = 256 << 10

_Patterns = Annotated[list[Annotated[str, Field(min_length=1, max_length=512)]], Field(min_length=1, max_length=1000)]
_Worker = Annotated[str, Field(min_length=1, max_length=200)]


class ClaimBody(BaseModel):
    """What POST /v1/commands/claim takes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    worker: _Worker
    tags: _Patterns
    limit: Annotated[int, Field(ge=1, le=100)] = 16


class OutcomeBody(BaseModel):
    """What POST /v1/commands/{id}/outcome takes; `released`: it was not delivered, and may be claimed again. `sent`: it may have reached the broker all the same."""

    model_config = ConfigDict(extra="forbid", strict=True)

    worker: _Worker
    attempt: Annotated[int, Field(ge=1)]
    outcome: Literal["delivered", "expired", "unconfirmed", "failed", "released"]
    detail: Annotated[str, Field(max_length=2000)] | None = None
    sent: bool = False


def _commander(request: web.Request) -> Commander | None:
    return who_asks(request).commander


async def get_waiting(request: web.Request) -> web.Response:
    """Whether there is something to claim: as soon as there is, at most `wait` seconds later."""
    given = parameters(request.query, one=("wait",), many=("tag",))
    wait_s = number(given["wait"], "wait", 0, MAX_WAIT_S) if "wait" in given else 0.0
    waiting = await request.app[SERVICES].deliveries.wait(_commander(request), request.query.getall("tag", ["#"])[:1000], wait_s)
    return _answer({"waiting": waiting})


async def post_claim(request: web.Request) -> web.Response:
    """Take commands: nobody else has them for `held_s` seconds."""
    async with read_body(request, _MAX_BODY) as body:
        asked: ClaimBody = parsed(ClaimBody, body)
    claims = await request.app[SERVICES].deliveries.claim(_commander(request), asked.worker, asked.tags, asked.limit)
    rows = [
        asdict(claim) | {"requested_at": format_time(claim.requested_at), "expires_at": format_time(claim.expires_at)} for claim in claims
    ]
    return _answer({"commands": rows})


async def post_outcome(request: web.Request) -> web.Response:
    """What became of a command that was claimed; `taken` false: it is no longer this worker's, and nothing changes."""
    command_id = integer(request.match_info["id"], "the number of a command", 0, 2**63 - 1)
    async with read_body(request, _MAX_BODY) as body:
        said: OutcomeBody = parsed(OutcomeBody, body)
    deliveries, who = request.app[SERVICES].deliveries, _commander(request)
    if said.outcome == "released":
        taken = await deliveries.release(who, command_id, said.worker, said.attempt, said.detail or "", sent=said.sent)
    else:
        taken = await deliveries.settle(who, command_id, said.worker, said.attempt, said.outcome, said.detail)
    return _answer({"taken": taken})


def _answer(document: dict[str, object]) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type="application/json", headers={"Cache-Control": "no-store"})
