"""GET and PUT /v1/tags: the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from historian.schema.catalogue import Tag, TagDefinition
from historian.schema.errors import BadInput, Forbidden
from historian.server import commands
from historian.server.body import read_body
from historian.server.parameters import parameters
from historian.server.services import SERVICES

MAX_DEFINITIONS = 10_000
_MAX_BODY = 16 << 20


class _Definitions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    tags: Annotated[list[TagDefinition], Field(max_length=MAX_DEFINITIONS)]


def _answer(tags: list[Tag]) -> web.Response:
    return web.Response(
        body=orjson.dumps({"tags": [tag.row() for tag in tags]}), content_type="application/json", headers={"Cache-Control": "no-cache"}
    )


async def _check_right(request: web.Request, definitions: Sequence[TagDefinition]) -> None:
    """What may be written, and where that goes, is for those who may write it. Raises Forbidden."""
    if not any(definition.model_fields_set & {"writable", "write_to"} for definition in definitions):
        return
    catalogue, commander = request.app[SERVICES].catalogue, commands.who_asks(request).commander
    await catalogue.refresh()
    for definition in definitions:
        tag = catalogue.get(definition.path) or Tag(0, definition.path, "float")
        stays = definition.writable in (None, tag.writable) and definition.write_to in (None, tag.write_to)
        if not stays and (commander is None or commander.may != "command" or not commander.has(definition.path)):
            raise Forbidden(
                f"tag {definition.path!r}: writable and write_to are changed by those alone who may write to the tag, with their token (docs/commands.md)"
            )


async def get_tags(request: web.Request) -> web.Response:
    """The tags that match a path or wildcard, or all, by path."""
    given = parameters(request.query, one=("match",))
    catalogue = request.app[SERVICES].catalogue
    await catalogue.refresh()
    match = given.get("match")
    return _answer(catalogue.all() if match is None else catalogue.match(match))


async def put_tags(request: web.Request) -> web.Response:
    """Make tags or change them, all or none; fields left out stay as they are."""
    async with read_body(request, _MAX_BODY) as body:
        try:
            definitions = _Definitions.model_validate(orjson.loads(body)).tags
        except orjson.JSONDecodeError as error:
            raise BadInput(f"the body is no JSON: {error}") from None
        except ValidationError as error:
            faults = [
                f"{'.'.join(str(part) for part in fault['loc']) or 'body'}: {fault['msg'].removeprefix('Value error, ')}"
                for fault in error.errors(include_url=False, include_context=False)
            ]
            more = f"; and {len(faults) - 20} more" if len(faults) > 20 else ""
            raise BadInput("; ".join(faults[:20]) + more) from None
        await _check_right(request, definitions)
        return _answer(await request.app[SERVICES].catalogue.define(definitions))
