"""Commands in the database: each a row of the audit, which its answer waits for, and afterwards what became of it.

Promise. A command is there once for its (commander, key). Of the commands to one tag that go to the plant, one at a time is with a worker, the oldest first, and none
after its expiry, by this database's clock. A worker that dies with one loses it to the next after HELD_S; so a command is published at least once if any worker can
before it expires, and perhaps more often: its number tells.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from historian.schema.catalogue import Tag
from historian.schema.connection import Connection
from historian.schema.errors import NotFound

#: NOTIFY channel: rung with a command that was accepted, and with one that was settled
DOORBELL = "historian_command"

#: a worker has a command so long; then another may take it
HELD_S = 3.0

Outcome = Literal["refused", "written", "accepted", "delivered", "expired", "unconfirmed", "failed"]
#: what a command is until it is settled
PENDING: Final = "accepted"
#: as what a worker settles one
Settled = Literal["delivered", "expired", "unconfirmed", "failed"]

Allowed = Callable[[str], bool]

_KEY = re.compile(r"[\x21-\x7e]{1,100}", re.ASCII)

_COLUMNS = (
    "command_id, tag, value::text AS value, previous::text AS previous, previous_ts, commander, client, key, write_to, requested_at, committed_at, expires_at, ts,"
    " outcome, detail, worker, attempts, settled_at"
)
_LOCK = "SELECT ts, value, text FROM historian.snapshot WHERE tag_id = $1 FOR NO KEY UPDATE"
_INSERT = f"""
INSERT INTO historian.command
    (tag, value, previous, previous_ts, commander, client, key, write_to, requested_at, expires_at, ts, outcome, detail, settled_at)
VALUES ($1, $2::text::jsonb, $3::text::jsonb, $4, $5, $6, $7, $8, clock_timestamp() - $9::float8 * interval '1 second',
    clock_timestamp() + $10::float8 * interval '1 second', $11, $12, $13, CASE WHEN $12 = 'accepted' THEN NULL ELSE clock_timestamp() END)
ON CONFLICT (commander, key) WHERE key IS NOT NULL AND outcome <> 'refused' DO NOTHING
RETURNING {_COLUMNS}
"""  # noqa: S608
_OF_KEY = f"SELECT {_COLUMNS} FROM historian.command WHERE commander = $1 AND key = $2 AND outcome <> 'refused'"  # noqa: S608
_READ = f"SELECT {_COLUMNS} FROM historian.command WHERE command_id = $1"  # noqa: S608
_LIST = f"""
SELECT {_COLUMNS} FROM historian.command
WHERE ($1::text IS NULL OR tag = $1) AND ($2::text IS NULL OR historian.matches(tag, $2)) AND ($3::timestamptz IS NULL OR requested_at >= $3)
    AND ($4::timestamptz IS NULL OR requested_at < $4) AND ($5::text IS NULL OR outcome = $5) AND ($6::int8 IS NULL OR command_id < $6)
ORDER BY command_id DESC LIMIT $7
"""  # noqa: S608

# the oldest of each tag that has not expired: those behind it wait
_WAITING = """
SELECT DISTINCT ON (tag) tag, command_id, held_until IS NOT NULL AND held_until > clock_timestamp() AS held
FROM historian.command WHERE outcome = 'accepted' AND expires_at > clock_timestamp() ORDER BY tag, command_id
"""
# whoever comes second finds it held, or settled
_CLAIM = """
UPDATE historian.command c SET worker = $2, attempts = attempts + 1, sent = sent + 1,
    held_until = least(expires_at, clock_timestamp() + $3::float8 * interval '1 second')
WHERE command_id = ANY($1::int8[]) AND outcome = 'accepted' AND expires_at > clock_timestamp()
    AND (held_until IS NULL OR held_until <= clock_timestamp())
RETURNING command_id, tag, value::text AS value, requested_at, expires_at, attempts,
    extract(epoch FROM held_until - clock_timestamp())::float8 AS held_s, extract(epoch FROM expires_at - clock_timestamp())::float8 AS expires_s
"""
_SETTLE = """
WITH done AS (
    UPDATE historian.command SET outcome = $3, detail = $4, settled_at = clock_timestamp(), held_until = NULL
    WHERE command_id = $1 AND worker = $2 AND attempts = $5 AND outcome = 'accepted' RETURNING command_id
)
SELECT pg_notify('historian_command', 'settled') FROM done
"""
_RELEASE = """
WITH done AS (
    UPDATE historian.command SET held_until = NULL, detail = $3, sent = sent - CASE WHEN $5 THEN 0 ELSE 1 END
    WHERE command_id = $1 AND worker = $2 AND attempts = $4 AND outcome = 'accepted' RETURNING command_id
)
SELECT pg_notify('historian_command', 'accepted') FROM done
"""
# one that a worker has had, and not given back unpublished, may have got through; a worker that still has it says itself what became of it
_EXPIRE = """
WITH done AS (
    UPDATE historian.command SET settled_at = clock_timestamp(),
        outcome = CASE WHEN sent = 0 THEN 'expired' ELSE 'unconfirmed' END,
        detail = CASE WHEN sent = 0 THEN coalesce(detail, 'no worker took it in time: is one running that has a topic for this tag?')
            ELSE 'a worker took it, and has not said what became of it: it may have reached the plant' || coalesce(' (' || detail || ')', '') END
    WHERE outcome = 'accepted' AND expires_at <= clock_timestamp() - interval '1 second' RETURNING command_id
)
SELECT count(*), CASE WHEN count(*) > 0 THEN pg_notify('historian_command', 'settled') END FROM done
"""
# bounded bites: the next comes in a minute
_FORGET = """
DELETE FROM historian.command WHERE command_id IN (
    SELECT command_id FROM historian.command
    WHERE requested_at < clock_timestamp() - least($1::float8, $2::float8) * interval '1 second' AND outcome <> 'accepted'
        AND requested_at < clock_timestamp() - CASE WHEN outcome = 'refused' THEN $2::float8 ELSE $1::float8 END * interval '1 second'
    ORDER BY requested_at LIMIT 10000)
"""


@dataclass(frozen=True, slots=True)
class Previous:
    """The newest sample that a tag had: µs, and its value as JSON has it. Both None: it had none."""

    ts: int | None
    value: Any


@dataclass(frozen=True, slots=True)
class Asked:
    """A command that somebody asks for. `commander` is who has the right, by name; `waited_s` since it came in."""

    tag: str
    value: Any
    client: str
    commander: str | None = None
    key: str | None = None
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Command:
    """A row; times in µs."""

    command_id: int
    tag: str
    value: Any
    previous: Any
    previous_ts: int | None
    commander: str | None
    client: str
    key: str | None
    write_to: str | None
    requested_at: int
    committed_at: int
    expires_at: int | None
    ts: int | None
    outcome: Outcome
    detail: str | None
    worker: str | None
    attempts: int
    settled_at: int | None


@dataclass(frozen=True, slots=True)
class Claim:
    """A command that a worker has, for `held_s` seconds from before it asked. `expires_s`: until when it may be published at all."""

    command_id: int
    tag: str
    value: Any
    requested_at: int
    expires_at: int
    attempt: int
    held_s: float
    expires_s: float


def is_key(text: str) -> bool:
    """Whether a client may call a command so: 1 to 100 visible ASCII characters."""
    return _KEY.fullmatch(text) is not None


async def previous(conn: Connection, tag: Tag) -> Previous:
    """What the tag has now. Until this transaction ends nobody else writes or commands it: of two commands to a tag the later to commit has the higher number."""
    row = await conn.fetchrow(_LOCK, tag.tag_id)
    if row is None or row["ts"] is None:
        return Previous(None, None)
    return Previous(row["ts"], row["text"] if row["text"] is not None else _plain(tag, row["value"]))


def _plain(tag: Tag, value: float | None) -> Any:
    if value is None or value != value:
        return None
    if tag.kind == "bool":
        return bool(value)
    return int(value) if tag.kind in ("int", "digital") else value


async def insert(
    conn: Connection,
    asked: Asked,
    outcome: Outcome,
    *,
    before: Previous | None = None,
    write_to: str | None = None,
    expires_s: float | None = None,
    ts: int | None = None,
    detail: str | None = None,
) -> Command | None:
    """Write a command down. None if its commander has one with this key already."""
    had = before or Previous(None, None)
    row = await conn.fetchrow(
        _INSERT,
        asked.tag,
        _json(asked.value),
        None if had.ts is None else _json(had.value),
        had.ts,
        asked.commander,
        asked.client,
        asked.key,
        write_to,
        asked.waited_s,
        expires_s,
        ts,
        outcome,
        detail,
    )
    return None if row is None else _command(row)


async def ring(conn: Connection) -> None:
    """Tell the workers, with the commit of this transaction."""
    await conn.execute("SELECT pg_notify($1, 'accepted')", DOORBELL)


async def of_key(conn: Connection, commander: str, key: str) -> Command | None:
    row = await conn.fetchrow(_OF_KEY, commander, key)
    return None if row is None else _command(row)


async def read(conn: Connection, command_id: int) -> Command:
    """Raises NotFound."""
    row = await conn.fetchrow(_READ, command_id)
    if row is None:
        raise NotFound(f"there is no command {command_id}, or it is older than the audit goes back")
    return _command(row)


async def listed(
    conn: Connection,
    *,
    tag: str | None,
    pattern: str | None,
    start: int | None,
    end: int | None,
    outcome: str | None,
    before: int | None,
    limit: int,
) -> list[Command]:
    """Commands, the newest first; `before`: only those with a lower number."""
    return [_command(row) for row in await conn.fetch(_LIST, tag, pattern, start, end, outcome, before, limit)]


async def waiting(conn: Connection, patterns: Sequence[re.Pattern[str]], *, allowed: Allowed = lambda _: True) -> list[int]:
    """The numbers of commands that a worker for tags of these patterns could claim now: of each tag the oldest. `allowed`: to which tags it may."""
    rows = await conn.fetch(_WAITING)
    return sorted(
        row["command_id"]
        for row in rows
        if not row["held"] and any(pattern.fullmatch(row["tag"]) for pattern in patterns) and allowed(row["tag"])
    )


async def claim(
    conn: Connection, worker: str, patterns: Sequence[re.Pattern[str]], *, limit: int, allowed: Allowed = lambda _: True
) -> list[Claim]:
    """Take commands for a worker, the oldest first: of each tag one at most."""
    found = (await waiting(conn, patterns, allowed=allowed))[:limit]
    if not found:
        return []
    rows = await conn.fetch(_CLAIM, found, worker, HELD_S)
    return [
        Claim(
            row["command_id"],
            row["tag"],
            orjson.loads(row["value"]),
            row["requested_at"],
            row["expires_at"],
            row["attempts"],
            row["held_s"],
            row["expires_s"],
        )
        for row in sorted(rows, key=lambda row: row["command_id"])
    ]


async def settle(conn: Connection, command_id: int, worker: str, attempt: int, outcome: Settled, detail: str | None = None) -> bool:
    """Say what became of a command that the worker claimed. False: it is no longer this worker's."""
    return await conn.fetchrow(_SETTLE, command_id, worker, outcome, detail, attempt) is not None


async def release(conn: Connection, command_id: int, worker: str, attempt: int, detail: str, *, sent: bool) -> bool:
    """Give a command back, so that it is taken again; `sent`: this attempt may have reached the broker. False: it is no longer this worker's."""
    return await conn.fetchrow(_RELEASE, command_id, worker, detail, attempt, sent) is not None


async def expire(conn: Connection) -> int:
    """Settle what nobody has delivered in time. Returns how many."""
    return int(await conn.fetchval(_EXPIRE))


async def forget(conn: Connection, *, kept_s: float, refused_kept_s: float) -> None:
    """Delete what is older than the audit is kept: `refused_kept_s` for refusals, `kept_s` for all others."""
    await conn.execute(_FORGET, kept_s, refused_kept_s)


def _json(value: Any) -> str:
    # PostgreSQL keeps no NUL in a text; only a refusal has one
    return orjson.dumps(value).decode().replace("\\u0000", "\\ufffd")


def _command(row: Any) -> Command:
    had = row["previous"]
    return Command(**{**row, "value": orjson.loads(row["value"]), "previous": None if had is None else orjson.loads(had)})
