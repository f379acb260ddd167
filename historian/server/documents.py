"""/v1/views and /v1/dashboards: documents that the pages of this server share.

Two editors do not write over each other: an answer has the ETag of what stands, and a PUT says by If-Match what it replaces. One that says nothing makes a new
document, and never replaces another content.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web
from pydantic import BaseModel

from historian.documents import dashboard
from historian.documents.dashboard import Dashboard
from historian.documents.faults import checked
from historian.documents.view import View
from historian.query.times import format_time
from historian.schema import documents
from historian.schema.connection import translated
from historian.schema.errors import BadDocument, BadInput
from historian.server.body import read_body
from historian.server.parameters import parameters
from historian.server.services import SERVICES

#: bytes of a document
MAX_DOCUMENT = 256 << 10

_ETAG = re.compile(r'"([0-9a-f]{1,64})"')


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of documents: the word for one, under which it is stored, and its model. `/v1/{word}s` lists them."""

    word: str
    model: type[BaseModel]

    def check(self, body: bytes) -> bytes:
        """The document as it is stored. Raises BadInput, BadDocument."""
        document = checked(self.model, body)
        if isinstance(document, Dashboard) and (faults := dashboard.faults(document)):
            raise BadDocument(faults)
        return orjson.dumps(document.model_dump(mode="json", exclude_none=True))


VIEWS = Kind("view", View)
DASHBOARDS = Kind("dashboard", Dashboard)
KINDS = (VIEWS, DASHBOARDS)


def routes(kind: Kind) -> list[web.RouteDef]:
    """What answers for a kind."""

    async def list_them(request: web.Request) -> web.Response:
        parameters(request.query, one=())
        with translated():
            async with request.app[SERVICES].reading() as conn:
                found = await documents.listed(conn, kind.word)
        rows = [
            {"name": one.name, "title": one.title, "etag": _quoted(one.etag), "changed_at": format_time(one.changed_at), "bytes": one.bytes}
            for one in found
        ]
        return _answer({f"{kind.word}s": rows})

    async def get(request: web.Request) -> web.Response:
        parameters(request.query, one=())
        name = _name(request)
        with translated():
            async with request.app[SERVICES].reading() as conn:
                content, etag = await documents.read(conn, kind.word, name)
        return web.Response(
            body=content.encode(), content_type="application/json", headers={"ETag": _quoted(etag), "Cache-Control": "no-cache"}
        )

    async def put(request: web.Request) -> web.Response:
        given = parameters(request.query, one=("dry_run",))
        if given.get("dry_run", "false") not in ("true", "false"):
            raise BadInput(f"dry_run is true or false, not {given['dry_run'][:40]!r}")
        name, standing = _name(request), _standing(request)
        fresh = request.headers.get("If-None-Match")
        if fresh is not None and (fresh.strip() != documents.ANY or standing is not None):
            raise BadInput("If-None-Match is * here, for a document that must be new, and does not go with If-Match")
        async with read_body(request, MAX_DOCUMENT) as body:
            content = kind.check(body)
        if given.get("dry_run") == "true":
            return web.Response(status=204)
        made = False
        with translated():
            async with request.app[SERVICES].reading() as conn:
                if standing is not None:
                    etag = await documents.replace(conn, kind.word, name, content, standing)
                elif fresh is not None:
                    etag, made = await documents.create(conn, kind.word, name, content), True
                else:
                    etag, made = await documents.put(conn, kind.word, name, content)
        return _answer({"name": name, "etag": _quoted(etag)}, status=201 if made else 200, etag=etag)

    async def delete(request: web.Request) -> web.Response:
        parameters(request.query, one=())
        name, standing = _name(request), _standing(request)
        with translated():
            async with request.app[SERVICES].reading() as conn:
                await documents.delete(conn, kind.word, name, standing or documents.ANY)
        return web.Response(status=204)

    one = f"/v1/{kind.word}s/{{name}}"
    return [web.get(f"/v1/{kind.word}s", list_them), web.get(one, get), web.put(one, put), web.delete(one, delete)]


def _name(request: web.Request) -> str:
    return documents.check_name(request.match_info["name"])


def _standing(request: web.Request) -> str | None:
    """The etag, or *, that If-Match has. Raises BadInput."""
    given = request.headers.get("If-Match")
    if given is None:
        return None
    given = given.strip()
    if given == documents.ANY:
        return given
    match = _ETAG.fullmatch(given)
    if match is None:
        raise BadInput(f"If-Match has one ETag as this server gave it, in its quotes, or *; not {given[:80]!r}")
    return match[1]


def _quoted(etag: str) -> str:
    return f'"{etag}"'


def _answer(document: dict[str, Any], *, status: int = 200, etag: str | None = None) -> web.Response:
    headers = {"Cache-Control": "no-cache"} | ({} if etag is None else {"ETag": _quoted(etag)})
    return web.Response(status=status, body=orjson.dumps(document), content_type="application/json", headers=headers)
