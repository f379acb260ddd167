"""Documents that the pages of a server share, by kind and name: JSON texts that are read whole and written whole.

Promise. What stands is written over by those alone who have seen it: each write names the etag of what it replaces, and is checked and done in one statement.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from historian.schema.connection import Connection
from historian.schema.errors import BadInput, Conflict, NotFound, PreconditionFailed, PreconditionRequired

#: of one kind in a database
MAX_DOCUMENTS = 1000
#: replaces whatever stands
ANY = "*"

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}", re.ASCII)

_LIST = (
    "SELECT name, content::json->>'title' AS title, etag, changed_at, octet_length(content) AS bytes"
    " FROM historian.document WHERE kind = $1 ORDER BY name"
)
_READ = "SELECT content, etag FROM historian.document WHERE kind = $1 AND name = $2"
_INSERT = """
INSERT INTO historian.document (kind, name, content, etag)
SELECT $1, $2, $3, $4 WHERE (SELECT count(*) FROM historian.document WHERE kind = $1) < $5
ON CONFLICT (kind, name) DO NOTHING
"""
_REPLACE = """
UPDATE historian.document SET content = $3, etag = $4, changed_at = clock_timestamp() WHERE kind = $1 AND name = $2 AND ($5 = '*' OR etag = $5)
"""
_DELETE = "DELETE FROM historian.document WHERE kind = $1 AND name = $2 AND ($3 = '*' OR etag = $3)"


@dataclass(frozen=True, slots=True)
class Described:
    """A document without its content; `changed_at` in µs."""

    name: str
    title: str
    etag: str
    changed_at: int
    bytes: int


def check_name(name: str) -> str:
    """The name itself: it stands in addresses. Raises BadInput."""
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"a name has 1 to 100 lower-case letters, digits, '.', '_' and '-', and begins with a letter or digit, unlike {name[:40]!r}"
        )
    return name


def etag_of(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=12).hexdigest()


async def listed(conn: Connection, kind: str) -> list[Described]:
    """All of a kind, by name."""
    return [Described(*row) for row in await conn.fetch(_LIST, kind)]


async def read(conn: Connection, kind: str, name: str) -> tuple[str, str]:
    """The content and its etag. Raises NotFound."""
    row: Any = await conn.fetchrow(_READ, kind, name)
    if row is None:
        raise _missing(kind, name)
    return row["content"], row["etag"]


async def create(conn: Connection, kind: str, name: str, content: bytes) -> str:
    """Store a new document; returns its etag. Raises PreconditionFailed where one of this name stands, Conflict where there are as many as may be."""
    etag = etag_of(content)
    if (await conn.execute(_INSERT, kind, name, content.decode(), etag, MAX_DOCUMENTS)).endswith(" 1"):
        return etag
    if await conn.fetchrow(_READ, kind, name) is None:
        raise Conflict(f"there are {MAX_DOCUMENTS} {kind}s, as many as may be; delete one that nobody needs")
    raise PreconditionFailed(f"there is a {kind} {name!r} already; take another name, or read it and replace it (If-Match with its ETag)")


async def replace(conn: Connection, kind: str, name: str, content: bytes, etag: str) -> str:
    """Store another content in place of the one with this etag; returns the new etag. Raises NotFound, PreconditionFailed where another content stands."""
    new = etag_of(content)
    if not (await conn.execute(_REPLACE, kind, name, content.decode(), new, etag)).endswith(" 1"):
        raise await _changed(conn, kind, name)
    return new


async def put(conn: Connection, kind: str, name: str, content: bytes) -> tuple[str, bool]:
    """Store a document of which the caller does not say what it replaces: lets a new one in, and the same content again.

    Returns the etag, and whether it was made now. Raises PreconditionRequired where another content stands, Conflict as `create`.
    """
    try:
        return await create(conn, kind, name, content), True
    except PreconditionFailed:
        _, standing = await read(conn, kind, name)
        if standing != etag_of(content):
            raise PreconditionRequired(
                f"there is a {kind} {name!r} with another content: say which one this replaces, If-Match with the ETag that it was read with"
            ) from None
        return standing, False


async def delete(conn: Connection, kind: str, name: str, etag: str) -> None:
    """Forget a document that has this etag. Raises NotFound, PreconditionFailed."""
    if not (await conn.execute(_DELETE, kind, name, etag)).endswith(" 1"):
        raise await _changed(conn, kind, name)


async def _changed(conn: Connection, kind: str, name: str) -> NotFound | PreconditionFailed:
    if await conn.fetchrow(_READ, kind, name) is None:
        return _missing(kind, name)
    return PreconditionFailed(
        f"the {kind} {name!r} has been changed by somebody else meanwhile; read it again, and make your change in that"
    )


def _missing(kind: str, name: str) -> NotFound:
    return NotFound(f"there is no {kind} {name[:100]!r}; GET /v1/{kind}s lists those that there are")
