"""Connections for work on the schema itself, by psycopg, and what its errors mean for who runs a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from historian.schema.errors import BadInput, SchemaError, Unavailable

Conn = psycopg.Connection[tuple[object, ...]]

_CONNECT_TIMEOUT_S = 15


@contextmanager
def administering(dsn: str, *, name: str, denied: str) -> Iterator[Conn]:
    """A connection in autocommit, in UTC; `denied` is what to do where the role lacks a right.

    Raises BadInput for what is no DSN, Unavailable, SchemaError for what the database refuses. None of them repeats the DSN: there may be a password in it.
    """
    try:
        conn = psycopg.connect(dsn, autocommit=True, connect_timeout=_CONNECT_TIMEOUT_S, application_name=name)
    except psycopg.OperationalError as error:
        raise Unavailable(f"the database cannot be reached: {_first_line(error)}") from error
    except psycopg.Error:
        raise BadInput(
            "the DSN cannot be read; its form is postgresql://user@host/database, with other characters than letters and digits as %XX"
        ) from None
    try:
        with conn:
            conn.execute("SET timezone = 'UTC'")
            yield conn
    except psycopg.errors.InsufficientPrivilege as error:
        raise SchemaError(f"the database role lacks a right: {_first_line(error)}; {denied}") from error
    except psycopg.OperationalError as error:
        raise Unavailable(f"the database went away: {_first_line(error)}") from error
    except psycopg.Error as error:
        raise SchemaError(f"the database refuses: {_first_line(error)}") from error


def _first_line(error: psycopg.Error) -> str:
    return str(error).strip().partition("\n")[0]
