"""Migrations: the numbered SQL files under sql/, applied in order, each in a transaction, under a lock.

`NNNN_name.sql` is for both engines; `NNNN_name.plain.sql` and `NNNN_name.timescale.sql` for one. In a file for both, what follows `--@plain ` or
`--@timescale ` on a line is for that engine alone. A file that has been released is never changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import cast

import psycopg

from historian.schema.engine import Engine, extension_version, prepare_engine
from historian.schema.errors import SchemaError, Unavailable

_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)(?:\.(plain|timescale))?\.sql")
_CONNECT_TIMEOUT_S = 15

Conn = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Migration:
    """One step: `sql` is for the engine that it was read for."""

    number: int
    name: str
    sql: str


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """What stands in a database. `version` is None where there is no schema; `pending` are the names of the migrations to come."""

    engine: Engine | None
    server_version: str
    extension_version: str | None
    version: int | None
    latest: int
    pending: tuple[str, ...]


def migrations(engine: Engine) -> list[Migration]:
    """The migrations for an engine, in order. Raises SchemaError if the files have a gap or a number twice: the installation is damaged."""
    found: list[Migration] = []
    for file in resources.files("historian.schema").joinpath("sql").iterdir():
        match = _NAME.fullmatch(file.name)
        if match is None or match[3] not in (None, engine):
            continue
        sql = file.read_text(encoding="utf-8").replace(f"--@{engine} ", "")
        found.append(Migration(int(match[1]), match[2], sql))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise SchemaError("the migrations of this installation have a gap; install the package again")
    return found


@contextmanager
def _connected(dsn: str) -> Iterator[Conn]:
    try:
        with psycopg.connect(dsn, autocommit=True, connect_timeout=_CONNECT_TIMEOUT_S, application_name="historian migrations") as conn:
            conn.execute("SET timezone = 'UTC'")
            yield conn
    except psycopg.OperationalError as error:
        raise Unavailable(f"the database cannot be reached: {str(error).strip().splitlines()[0]}") from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise SchemaError(f"the database role lacks a right: {str(error).strip().splitlines()[0]}") from error


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


def status(dsn: str) -> SchemaStatus:
    """What stands in the database; changes nothing. Raises Unavailable, and SchemaError if its schema is newer than this program knows."""
    with _connected(dsn) as conn:
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
            pending=tuple(f"{m.number:04d}_{m.name}" for m in known if m.number > (version or 0)),
        )


def upgrade(dsn: str, *, on_step: Callable[[str], None] | None = None) -> list[str]:
    """Bring the database to the newest schema, making it where there is none. Returns the names of what was applied.

    Safe to interrupt and to run from several processes at once: each step is a transaction, all under an advisory lock.
    Raises Unavailable, and SchemaError if the schema is newer than this program knows or the server cannot carry it.
    """
    with _connected(dsn) as conn:
        conn.execute("SELECT pg_advisory_lock(hashtext('historian.migrate'))")
        version, engine = _standing(conn)
        if engine is None:
            engine = prepare_engine(conn)
            conn.execute("CREATE SCHEMA IF NOT EXISTS historian")
            conn.execute(
                "CREATE TABLE IF NOT EXISTS historian.migration ("
                " number int PRIMARY KEY, name text NOT NULL, engine text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
        known = migrations(engine)
        _refuse_newer(version, len(known))
        applied: list[str] = []
        for migration in known[version or 0 :]:
            name = f"{migration.number:04d}_{migration.name}"
            if on_step is not None:
                on_step(name)
            try:
                with conn.transaction():
                    # our own files, no outside text in them
                    conn.execute(migration.sql)
                    conn.execute(
                        "INSERT INTO historian.migration (number, name, engine) VALUES (%s, %s, %s)",
                        (migration.number, migration.name, engine),
                    )
            except psycopg.Error as error:
                if isinstance(error, psycopg.OperationalError | psycopg.errors.InsufficientPrivilege):
                    raise
                raise SchemaError(f"migration {name} failed and was undone: {str(error).strip()}") from error
            applied.append(name)
        return applied


def require_current(dsn: str) -> SchemaStatus:
    """The status of a database that this program can work on. Raises SchemaError, saying what to run, if there are migrations to come."""
    now = status(dsn)
    if now.pending:
        what = "has no schema" if now.version is None else f"has schema version {now.version} of {now.latest}"
        raise SchemaError(f"the database {what}; run: historian db {'init' if now.version is None else 'upgrade'}")
    return now
