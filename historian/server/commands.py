"""POST and GET /v1/commands, GET /v1/commands/{id}: values written to tags, and the audit of them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from dataclasses import asdict
from typing import Annotated, Any, get_args

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from historian.commands.service import DEFAULT_TIMEOUT_S, LONGEST_TIMEOUT_S, SHORTEST_TIMEOUT_S, Who
from historian.query.times import format_time, parse_time
from historian.schema.commands import PENDING, Command, Outcome, listed
from historian.schema.connection import translated
from historian.schema.errors import BadInput
from historian.schema.paths import check_path, is_wildcard, wildcard_regex
from historian.server.access import client_of, offered_token
from historian.server.body import read_body
from historian.server.parameters import integer, number, parameters
from historian.server.services import SERVICES
from historian.server.write import REPLAYED
from historian.stream.messages import Write, WrittenValue
from historian.stream.writes import Perform

#: what a command to the plant is waited for
MAX_WAIT_S = 60.0
_MAX_BODY = 64 << 10
PAGE, MAX_PAGE = 100, 1000
_TIMES = ("previous_ts", "requested_at", "committed_at", "expires_at", "ts", "settled_at")


class CommandBody(BaseModel):
    """What POST /v1/commands takes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    tag: Annotated[str, Field(min_length=1, max_length=512)]
    value: WrittenValue
    key: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    timeout: Annotated[float, Field(ge=SHORTEST_TIMEOUT_S, le=LONGEST_TIMEOUT_S)] = DEFAULT_TIMEOUT_S


def row_of(command: Command) -> dict[str, Any]:
    """A command as JSON: times in RFC 3339."""
    row = asdict(command)
    for name in _TIMES:
        row[name] = None if row[name] is None else format_time(row[name])
    return row


def parsed(model: type[BaseModel], body: bytes) -> Any:
    """A body as its model. Raises BadInput, which names each field at fault."""
    try:
        return model.model_validate(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise BadInput(f"the body is no JSON: {error}") from None
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)[:10]
        raise BadInput("; ".join(f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in faults)) from None


def who_asks(request: web.Request) -> Who:
    """By the token as it stands now: a right that was taken away is gone."""
    return Who(request.app[SERVICES].commands.commanders.find(offered_token(request)), client_of(request))


async def post_command(request: web.Request) -> web.Response:
    """Write a value to a tag: answered after the commit; with `wait` once it is known what the plant says, or after that time."""
    services = request.app[SERVICES]
    given = parameters(request.query, one=("wait",))
    wait_s = number(given["wait"], "wait", 0, MAX_WAIT_S) if "wait" in given else 0.0
    async with read_body(request, _MAX_BODY) as body:
        asked: CommandBody = parsed(CommandBody, body)
    done = await services.commands.perform(asked.tag, asked.value, who_asks(request), key=asked.key, timeout_s=asked.timeout)
    command = done.command
    if wait_s and command.outcome == PENDING:
        command = await services.commands.of(command.command_id, wait_s)
    return _answer(row_of(command), {REPLAYED: "true"} if done.replayed else {})


async def get_command(request: web.Request) -> web.Response:
    """One command; with `wait` as soon as it is settled."""
    given = parameters(request.query, one=("wait",))
    wait_s = number(given["wait"], "wait", 0, MAX_WAIT_S) if "wait" in given else 0.0
    command_id = integer(request.match_info["id"], "the number of a command", 0, 2**63 - 1)
    return _answer(row_of(await request.app[SERVICES].commands.of(command_id, wait_s)))


async def get_commands(request: web.Request) -> web.Response:
    """The audit, the newest first, in pages: `next` is the `before` of the page behind it."""
    given = parameters(request.query, one=("tag", "start", "end", "outcome", "limit", "before"))
    now_us = time.time_ns() // 1000
    name = given.get("tag")
    path = pattern = None
    if name is not None and is_wildcard(name):
        wildcard_regex(name)
        pattern = name
    elif name is not None:
        path = check_path(name)
    outcome = given.get("outcome")
    if outcome is not None and outcome not in get_args(Outcome):
        raise BadInput(f"outcome is one of {', '.join(get_args(Outcome))}, not {outcome[:40]!r}")
    limit = integer(given["limit"], "limit", 1, MAX_PAGE) if "limit" in given else PAGE
    start = parse_time(given["start"], now_us) if "start" in given else None
    end = parse_time(given["end"], now_us) if "end" in given else None
    before = integer(given["before"], "before", 0, 2**63 - 1) if "before" in given else None
    with translated():
        # as other queries: what is read must not keep a command waiting
        async with request.app[SERVICES].reading(client_of(request)) as conn:
            found = await listed(conn, tag=path, pattern=pattern, start=start, end=end, outcome=outcome, before=before, limit=limit + 1)
    page = found[:limit]
    return _answer({"commands": [row_of(command) for command in page], "next": page[-1].command_id if len(found) > limit else None})


async def close_waits(app: web.Application) -> None:
    """Signal `on_shutdown`: who waits for a command, or for what became of one, is answered with how it stands."""
    app[SERVICES].commands.bell.close()


def performer(request: web.Request) -> Perform:
    """How the writes of a stream connection are done."""
    service = request.app[SERVICES].commands

    async def perform(write: Write) -> AsyncGenerator[dict[str, Any], None]:
        done = await service.perform(write.tag, write.value, who_asks(request), key=write.key, timeout_s=write.timeout)
        command = done.command
        yield {"replayed": done.replayed, **row_of(command)}
        while command.outcome == PENDING and not service.bell.closed:
            command = await service.of(command.command_id, MAX_WAIT_S)
            if command.outcome != PENDING:
                yield row_of(command)

    return perform


def _answer(document: dict[str, Any], headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps(document), content_type="application/json", headers={"Cache-Control": "no-store", **(headers or {})}
    )
