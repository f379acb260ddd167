"""Names of databases on the server that the tests use."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

#: made on the tests' server if need be, and left there: it owns nothing
SERVER_ROLE = "historian_test_server"


def with_database(dsn: str, name: str) -> str:
    """The DSN (a URI) of another database on the same server."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


def as_role(dsn: str, role: str) -> str:
    """The DSN (a URI) of the same database for another role, who needs no password here."""
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{quote(role)}@{parts.netloc.rpartition('@')[2]}"))


def make_role(dsn: str, role: str) -> None:
    """Have a role that may log in. Several test runs may share a server."""
    with psycopg.connect(dsn, autocommit=True) as conn, suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        conn.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))


def as_server_role(dsn: str) -> str:
    """The DSN of a database that has our schema for a role that has a server's rights in it, and no others."""
    from historian.schema.rights import grant

    make_role(dsn, SERVER_ROLE)
    grant(dsn, SERVER_ROLE)
    return as_role(dsn, SERVER_ROLE)


def drop_database(dsn: str, name: str) -> None:
    """Drop a database of the server, whoever is connected to it. Raises ObjectInUse when somebody comes back again and again."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        for left in reversed(range(5)):
            try:
                # FORCE: servers that a test killed, and TimescaleDB's workers, may still be connected
                conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
                return
            except psycopg.errors.ObjectInUse:
                # a worker that was too busy to go within five seconds, or one that was started meanwhile
                if not left:
                    raise
