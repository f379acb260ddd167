"""Durable cursors: how far named readers of the stream have come, kept in the database and told in terms of transactions.

Promise. As long as a cursor has lost nothing, the ledger has the content of every transaction that the cursor's `seen` does not see. Where it no longer has, `lost`
says so, from the same statement on by which the content went.

A position is the set of transactions that a reader has had, as a visibility snapshot: neither restarts nor the order of commits change what it means. It holds for the
database whose transaction ids it is made of, which its `origin` names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from historian.schema.connection import Connection
from historian.schema.errors import BadInput, Conflict, NotFound
from historian.schema.visibility import VisibilitySnapshot

#: in a database: each of them may hold the ledger
MAX_CURSORS = 1000
#: a server has some thousand transactions in progress at the most, of 20 characters each
MAX_POSITION = 65_536

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)

_ORIGIN = (
    "SELECT (SELECT system_identifier FROM pg_control_system()) || '-' || (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_COLUMNS = (
    "name, tags, start, origin, acknowledged::text, seen::text, lost::text::int8 AS lost, holder, client, created_at, acknowledged_at,"
    " pg_snapshot_xmin(seen)::text::int8 AS xmin"
)
_READ = f"SELECT {_COLUMNS} FROM historian.cursor WHERE name = $1"  # noqa: S608
_LIST = f"""
SELECT {_COLUMNS}, (SELECT min(committed_at) FROM historian.ledger_content l
    WHERE l.xid >= pg_snapshot_xmin(c.seen) AND NOT pg_visible_in_snapshot(l.xid, c.seen)) AS waiting_since
FROM historian.cursor c ORDER BY name
"""  # noqa: S608
_INSERT = """
INSERT INTO historian.cursor (name, tags, start, origin, seen, holder)
SELECT $1, $2, $3, $4, pg_current_snapshot(), $5 WHERE (SELECT count(*) FROM historian.cursor) < $6
ON CONFLICT (name) DO NOTHING
"""
_TAKE = f"UPDATE historian.cursor SET holder = $2, client = $3 WHERE name = $1 RETURNING {_COLUMNS}"  # noqa: S608
_BEGIN = """
UPDATE historian.cursor SET origin = $3, acknowledged = NULL, seen = pg_current_snapshot(), lost = NULL WHERE name = $1 AND holder = $2
"""
# Never back: a position may be acknowledged by its stream, and by a request that came to another server. This is VisibilitySnapshot.covers, of the row as it is
# when its turn has come.
_MOVES = """
UPDATE historian.cursor SET acknowledged = $3::text::pg_snapshot, seen = $4::text::pg_snapshot,
    acknowledged_at = CASE WHEN acknowledged::text IS DISTINCT FROM $3::text THEN clock_timestamp() ELSE acknowledged_at END
WHERE name = $1 AND pg_snapshot_xmax($4::text::pg_snapshot) >= pg_snapshot_xmax(seen)
    AND NOT EXISTS (SELECT FROM pg_snapshot_xip($4::text::pg_snapshot) AS x WHERE pg_visible_in_snapshot(x, seen))
"""
_ADVANCE = f"{_MOVES} AND holder = $2"
_ACKNOWLEDGE = f"{_MOVES} AND origin = $2"
_DELETE = "DELETE FROM historian.cursor WHERE name = $1"

# what follows a position, in the order of the transaction ids
_FOLLOWING = """
SELECT xid::text::int8 AS xid, position, octet_length(content) AS bytes FROM historian.ledger_content
WHERE xid >= $1::text::xid8 AND NOT pg_visible_in_snapshot(xid, $2::text::pg_snapshot) ORDER BY xid LIMIT $3
"""
_CONTENT = "SELECT xid::text::int8 AS xid, content FROM historian.ledger_content WHERE xid = ANY($1::text[]::xid8[])"


@dataclass(frozen=True, slots=True)
class Position:
    """How far a reader has come. As text it is opaque to clients."""

    origin: str
    snapshot: VisibilitySnapshot

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises BadInput."""
        origin, slash, snapshot = text.partition("/")
        if not slash or len(text) > MAX_POSITION:
            raise BadInput(f"{text[:40]!r} is no position of a durable cursor")
        return cls(origin, VisibilitySnapshot.parse(snapshot))

    def __str__(self) -> str:
        return f"{self.origin}/{self.snapshot}"


@dataclass(frozen=True, slots=True)
class Cursor:
    """A row; times in µs. `seen` is what holds the ledger: the acknowledged position, or what followed it without a sample of the cursor's tags."""

    name: str
    tags: tuple[str, ...]
    start: int | None
    origin: str
    acknowledged: VisibilitySnapshot | None
    seen: VisibilitySnapshot
    lost: int | None
    holder: str
    client: str | None
    created_at: int
    acknowledged_at: int | None
    #: when the oldest transaction was committed that it has not had; None: it has all, or the row was not read by `listed`
    waiting_since: int | None = None

    def lacks_nothing(self, since: VisibilitySnapshot) -> bool:
        """Whether the ledger still has all that `since` does not see; it is this cursor's `seen`, or covers it."""
        return self.lost is None or self.lost < since.xmin


@dataclass(frozen=True, slots=True)
class Following:
    """A transaction behind a position: its place among others that wrote the same tags, and the size of its content."""

    xid: int
    position: int
    bytes: int


def check_name(name: str) -> str:
    """The name itself: it also names files and stands in addresses. Raises BadInput."""
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"a cursor's name has 1 to 100 letters, digits, '.', '_' and '-', and begins with a letter or digit, unlike {name[:40]!r}"
        )
    return name


async def origin_of(conn: Connection) -> str:
    """Names the database: the same name, the same transaction ids."""
    return str(await conn.fetchval(_ORIGIN))


async def take(conn: Connection, name: str, tags: Sequence[str], start: int | None, holder: str, client: str | None) -> tuple[Cursor, bool]:
    """Make the cursor, or take the one that there is from whoever had it. Returns it, and whether it was made now. Raises BadInput, Conflict."""
    origin = await origin_of(conn)
    made = await conn.execute(_INSERT, check_name(name), list(tags), start, origin, holder, MAX_CURSORS)
    standing = await read(conn, name)
    if standing is None:
        raise Conflict(f"this database has {MAX_CURSORS} durable cursors, as many as may be; delete one: historian cursors delete NAME")
    if set(standing.tags) != set(tags):
        raise Conflict(
            f"the cursor {name!r} is of the tags {' '.join(standing.tags)[:200]}; take another name, or delete it: historian cursors delete {name}"
        )
    row = await conn.fetchrow(_TAKE, name, holder, client)
    if row is None:
        raise Conflict(f"the cursor {name!r} was deleted at this moment")
    return _cursor(row), made.endswith(" 1")


async def read(conn: Connection, name: str) -> Cursor | None:
    row = await conn.fetchrow(_READ, name)
    return None if row is None else _cursor(row)


async def listed(conn: Connection) -> list[Cursor]:
    """All, by name."""
    return [_cursor(row) for row in await conn.fetch(_LIST)]


async def begin(conn: Connection, name: str, holder: str) -> None:
    """Nothing counts as had: a backfill follows, of a snapshot that is taken after this. Raises Conflict."""
    _still_ours(await conn.execute(_BEGIN, name, holder, await origin_of(conn)), name)


async def advance(conn: Connection, name: str, holder: str, acknowledged: VisibilitySnapshot, seen: VisibilitySnapshot) -> None:
    """Keep how far the reader has come, where it has not been further already. Raises Conflict."""
    if not (await conn.execute(_ADVANCE, name, holder, str(acknowledged), str(seen))).endswith(" 1"):
        standing = await read(conn, name)
        if standing is None or standing.holder != holder:
            raise taken_away(name)


async def acknowledge(conn: Connection, name: str, position: Position) -> Position:
    """Keep that the reader has all up to a position, whoever has the cursor open, or nobody. Returns what is kept, which may be further already. Raises BadInput,
    NotFound, Conflict for a position of before the backfill that has begun since."""
    snapshot = position.snapshot
    if position.origin == await origin_of(conn) and not (await VisibilitySnapshot.of(conn)).covers(snapshot):
        raise BadInput("this is no position that this database has told")
    if (await conn.execute(_ACKNOWLEDGE, name, position.origin, str(snapshot), str(snapshot))).endswith(" 1"):
        return position
    standing = await read(conn, name)
    if standing is None:
        raise NotFound(f"there is no cursor {name[:100]!r}")
    if standing.origin == position.origin and standing.acknowledged is not None and standing.acknowledged.covers(snapshot):
        return Position(standing.origin, standing.acknowledged)
    raise Conflict(f"a backfill of the cursor {name!r} has begun since: what is read of it has positions of its own, and this one is void")


async def delete(conn: Connection, name: str) -> None:
    """Forget the cursor; a stream that has it ends. Raises NotFound."""
    if not (await conn.execute(_DELETE, name)).endswith(" 1"):
        raise NotFound(f"there is no cursor {name[:100]!r}")


async def following(conn: Connection, position: VisibilitySnapshot, limit: int) -> list[Following]:
    """What the ledger has, as this connection's snapshot sees it, that `position` does not see."""
    rows = await conn.fetch(_FOLLOWING, str(position.xmin), str(position), limit)
    return [Following(row["xid"], row["position"], row["bytes"]) for row in rows]


async def contents(conn: Connection, xids: Sequence[int]) -> dict[int, bytes]:
    """What transactions wrote, as the ledger keeps it."""
    return {row["xid"]: row["content"] for row in await conn.fetch(_CONTENT, [str(xid) for xid in xids])}


def _still_ours(status: str, name: str) -> None:
    if not status.endswith(" 1"):
        raise taken_away(name)


def taken_away(name: str) -> Conflict:
    return Conflict(f"the cursor {name!r} was deleted, or another stream has opened it: one stream at a time has a cursor")


def _cursor(row: Any) -> Cursor:
    acknowledged = None if row["acknowledged"] is None else VisibilitySnapshot.parse(row["acknowledged"])
    seen = VisibilitySnapshot.parse(row["seen"])
    return Cursor(
        row["name"],
        tuple(row["tags"]),
        row["start"],
        row["origin"],
        acknowledged,
        seen,
        row["lost"],
        row["holder"],
        row["client"],
        row["created_at"],
        row["acknowledged_at"],
        row.get("waiting_since"),
    )
