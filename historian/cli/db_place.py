"""Which database a command of `historian db` works on: the embedded one of a data directory, or one on a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer


@dataclass(frozen=True, slots=True)
class Place:
    """A database; `name` is for people, without its password. `ours`: nobody else has it, since it is the embedded one and was started for this command."""

    dsn: str
    name: str
    ours: bool = False


def directory_of(data_dir: Path | None) -> Path:
    """The data directory, or where it is if none is named."""
    from historian.embedded import default_data_dir

    return (data_dir or default_data_dir()).expanduser().absolute()


def is_made(directory: Path) -> bool:
    """Whether an embedded database stands there. What we may not see, the start will tell in words."""
    try:
        return (directory / "pgdata" / "PG_VERSION").exists()
    except OSError:
        return True


@contextmanager
def database(dsn: str | None, data_dir: Path | None) -> Iterator[Place]:
    """The database to work on. The embedded one is started for the command, unless a server runs it: then the command goes in beside that server."""
    from historian.embedded import EmbeddedDatabase, running_dsn
    from historian.schema.errors import Conflict

    if dsn is not None:
        yield Place(dsn, name_of(dsn))
        return
    directory = directory_of(data_dir)
    embedded = EmbeddedDatabase(directory)
    try:
        embedded.start(on_step=lambda step: typer.echo(step, err=True))
    except Conflict:
        beside = running_dsn(directory)
        if beside is None:
            raise
        yield Place(beside, str(directory))
        return
    try:
        yield Place(embedded.dsn, str(directory), ours=True)
    finally:
        embedded.stop()


def name_of(dsn: str, option: str = "--dsn") -> str:
    """`user@host:port/database`. Raises BadInput for what is no DSN, without repeating it: there may be a password in it."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    from historian.schema.errors import BadInput

    try:
        if not dsn.startswith(("postgresql://", "postgres://")):
            raise BadInput(f"{option} is not of the form postgresql://user@host/database")
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise BadInput(
            f"{option} cannot be read; its form is postgresql://user@host/database, with other characters than letters and digits as %XX"
        ) from None
    user, port, database = (f"{sign}{parts[key]}" if key in parts else "" for key, sign in (("user", ""), ("port", ":"), ("dbname", "/")))
    return f"{user}{'@' if user else ''}{parts.get('host', 'localhost')}{port}{database}"
