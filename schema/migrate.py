"""The schema of a database: what stands there, and how it comes to the newest version.

Steps are those of `steps.py`, in order, each recorded when it is done, all under an advisory lock: whatever interrupts an upgrade, the next one completes it, and of two
at once one waits for the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import psycopg

from historian.schema.administration import Conn, administering
from historian.schema.engine import Engine, extension_version, find_engine, prepare_engine
from historian.schema.errors import BadInput, SchemaError
from historian.schema.lock_wait import TRY_S, LockWait
from historian.schema.steps import LOCK, UNLOCK, Migration, closing, foundation, migrations, script

__all__ = ["PATIENCE_S", "Migration", "SchemaStatus", "dry_run", "dry_run_embedded", "migrations", "require_current", "status", "upgrade"]

_NAME = "historian migrations"
#: for locks that others hold, a step
PATIENCE_S = 60.0

_NO_SCHEMA = "to_regclass('historian.migration') IS NULL"

# Limits that an administrator has set for everyday work would cut long steps short. The last one: a step whose process was killed ends with it, and lets its locks go.
_SESSION = (
    "SET timezone = 'UTC'",
    "SET statement_timeout = 0",
    "SET idle_in_transaction_session_timeout = 0",
    f"SET lock_timeout = '{TRY_S:g}s'",
)
_END_WITH_US = "SET client_connection_check_interval = '1s'"


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """What stands in a database. `version` is None where there is no schema; `pending` are the names of the migrations to come."""

    engine: Engine | None
    server_version: str
    extension_version: str | None
    version: int | None
    latest: int
    pending: tuple[str, ...]


_ASK_FOR_RIGHTS = "let its owner run: historian db grant ROLE"
_AS_OWNER = "run this as the owner of the schema (with a --dsn of that role)"


def _standing(conn: Conn) -> tuple[int | None, Engine | None]:
    row = conn.execute("SELECT to_regclass('historian.migration')").fetchone()
    if row is None or row[0] is None:
        return None, None
    row = conn.execute("SELECT max(number), max(engine) FROM historian.migration").fetchone()
    if row is None or row[0] is None:
        return None, None
    number, engine = row
    assert isinstance(number, int)
    return number, cast(Engine, engine)


def _refuse_newer(version: int | None, latest: int) -> None:
    if version is not None and version > latest:
        raise SchemaError(f"the database has schema version {version}, this program knows {latest}: install a newer historian")


def _pending(engine: Engine, version: int | None, to: int | None) -> list[Migration]:
    known = migrations(engine)
    _refuse_newer(version, len(known))
    if to is not None and not (version or 1) <= to <= len(known):
        raise BadInput(
            f"schema version {to} is none to go to from {version or 'nothing'}: this program knows 1 to {len(known)}, and no way back"
        )
    return known[version or 0 : to]


def status(dsn: str) -> SchemaStatus:
    """What stands in the database; changes nothing. Raises Unavailable, and SchemaError if its schema is newer than this program knows."""
    with administering(dsn, name=_NAME, denied=_ASK_FOR_RIGHTS) as conn:
        version, engine = _standing(conn)
        if engine is None:
            row = conn.execute("SELECT count(*) FROM pg_available_extensions WHERE name = 'timescaledb'").fetchone()
            known = migrations("timescale" if row and row[0] else "plain")
        else:
            known = migrations(engine)
        _refuse_newer(version, len(known))
        server = conn.execute("SHOW server_version").fetchone()
        return SchemaStatus(
            engine=engine,
            server_version=str(server[0]) if server else "",
            extension_version=extension_version(conn),
            version=version,
            latest=len(known),
            pending=tuple(migration.title for migration in known if migration.number > (version or 0)),
        )


def upgrade(
    dsn: str,
    *,
    to: int | None = None,
    on_step: Callable[[str], None] | None = None,
    on_wait: Callable[[str], None] | None = None,
    patience_s: float = PATIENCE_S,
) -> list[str]:
    """Bring the database to the newest schema, or to version `to`, making it where there is none. Returns the names of what was applied.

    Safe to interrupt and to run from several processes at once: each step is a transaction, or one that bears to be repeated, all under an advisory lock. `on_wait` is
    told, from another thread, whose locks a step waits for; each step waits at most `patience_s` for them, while another upgrade is waited for as long as it takes.

    Raises Unavailable, BadInput for a version that is none, and SchemaError if the schema is newer than this program knows or the server cannot carry it.
    """
    with administering(dsn, name=_NAME, denied=_AS_OWNER) as conn, LockWait(dsn, conn.info.backend_pid, on_wait) as wait:
        conn.execute("SET lock_timeout = 0")
        conn.execute(LOCK)
        for setting in _session(conn):
            conn.execute(setting)
        if patience_s < TRY_S:
            conn.execute("SELECT set_config('lock_timeout', %s, false)", [f"{max(1, int(patience_s * 1000))}ms"])
        version, engine = _standing(conn)
        if engine is None:
            engine = prepare_engine(conn)
            for statement in foundation(extension=False, schema=_lacks_schema(conn)):
                conn.execute(statement)
        applied: list[str] = []
        for migration in _pending(engine, version, to):
            if on_step is not None:
                on_step(migration.title)
            _apply(conn, wait, migration, engine, patience_s)
            applied.append(migration.title)
        conn.execute(UNLOCK)
        return applied


def _apply(conn: Conn, wait: LockWait, migration: Migration, engine: Engine, patience_s: float) -> None:
    what = f"migration {migration.title}"

    def whole() -> None:
        with conn.transaction():
            # our own files, no outside text in them
            for statement in [*(migration.statements() if migration.whole else ()), *closing(migration, engine)]:
                conn.execute(statement)

    try:
        if not migration.whole:
            for statement in migration.statements():
                wait.patiently(f"a statement of {what}", partial(conn.execute, statement), patience_s)
        wait.patiently(what, whole, patience_s)
    except psycopg.Error as error:
        if isinstance(error, psycopg.OperationalError | psycopg.errors.InsufficientPrivilege):
            raise
        undone = "was undone" if migration.whole else "is begun again the next time"
        raise SchemaError(f"{what} failed and {undone}: {str(error).strip()}") from error


def dry_run(dsn: str, *, to: int | None = None) -> str:
    """What `upgrade` would send, as a script for psql; changes and locks nothing. Empty if there is nothing to do. Raises as `upgrade` does."""
    with administering(dsn, name=_NAME, denied=_ASK_FOR_RIGHTS) as conn:
        version, engine = _standing(conn)
        first: list[str] = []
        standing = f"(SELECT max(number) FROM historian.migration) = {version}"  # noqa: S608
        if engine is None:
            engine, extension = find_engine(conn)
            first = foundation(extension=extension, schema=_lacks_schema(conn))
            made = conn.execute("SELECT to_regclass('historian.migration') IS NOT NULL").fetchone()
            standing = "NOT EXISTS (SELECT FROM historian.migration)" if made and made[0] else _NO_SCHEMA
        plan = _pending(engine, version, to)
        return script(plan, engine, first=first, session=_session(conn), standing=standing) if plan else ""


def dry_run_embedded() -> str:
    """What `upgrade` would send to an embedded database that is yet to be made."""
    first = foundation(extension=False, schema=True)
    return script(migrations("plain"), "plain", first=first, session=_SESSION, standing=_NO_SCHEMA)


def _session(conn: Conn) -> list[str]:
    settings = list(_SESSION)
    if conn.info.server_version >= 170000:
        settings.append("SET transaction_timeout = 0")
    linux = conn.execute("SELECT version() LIKE '%linux%'").fetchone()
    if linux and linux[0]:  # elsewhere refused
        settings.append(_END_WITH_US)
    return settings


def _lacks_schema(conn: Conn) -> bool:
    row = conn.execute("SELECT to_regnamespace('historian') IS NULL").fetchone()
    return bool(row and row[0])


def require_current(dsn: str) -> SchemaStatus:
    """The status of a database that this program can work on. Raises SchemaError, saying what to run, if there are migrations to come."""
    now = status(dsn)
    if now.pending:
        what = "has no schema" if now.version is None else f"has schema version {now.version} of {now.latest}"
        raise SchemaError(f"the database {what}; run: historian db {'init' if now.version is None else 'upgrade'}")
    return now
