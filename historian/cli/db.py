"""`historian db`: make the database's schema, look at it, bring it up to date; move and back up the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from historian.cli import db_backup, db_move
from historian.cli.options import DataDir, Dsn

if TYPE_CHECKING:
    from historian.schema.migrate import SchemaStatus

#: exit code of `status` when the schema is not there or not the newest
PENDING = 3

app = typer.Typer(
    help="Make, look at, upgrade, move and back up the database.",
    no_args_is_help=True,
    epilog=(
        "They work on the embedded database in --data-dir, also while a server runs on it, or on any server with --dsn."
        "   ·   Exit codes: 0 done, 1 failed, 2 wrong usage; of status: 3 if the schema is not there or not the newest"
    ),
)


@app.command("init", epilog="Example: historian db init --dsn postgresql://historian@db.example/plant")
def init(dsn: Dsn = None, data_dir: DataDir = None) -> None:
    """Make the schema, and the embedded database itself if there is none. Does nothing where the newest schema stands."""
    from historian.schema.errors import SchemaError
    from historian.schema.migrate import status as schema_status

    with _database(dsn, data_dir) as place:
        found = schema_status(place.dsn)
        if found.version is not None and found.pending:
            raise SchemaError(f"the database has schema version {found.version} of {found.latest}; run: historian db upgrade")
        _upgrade(place)


@app.command("upgrade", epilog="Example: historian db upgrade --data-dir /srv/historian")
def upgrade(dsn: Dsn = None, data_dir: DataDir = None) -> None:
    """Bring the schema to the newest version. Safe to interrupt, and to run from several places at once."""
    from historian.schema.errors import SchemaError
    from historian.schema.migrate import status as schema_status

    nothing = "there is no schema in {} to upgrade; run: historian db init"
    if dsn is None and not _made(_directory(data_dir)):
        raise SchemaError(nothing.format(_directory(data_dir)))
    with _database(dsn, data_dir) as place:
        if schema_status(place.dsn).version is None:
            raise SchemaError(nothing.format(place.name))
        _upgrade(place)


@app.command("status", epilog="Exit codes: 0 the newest schema stands, 3 it is not there or not the newest, 1 failed, 2 wrong usage")
def status(
    dsn: Dsn = None,
    data_dir: DataDir = None,
    json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Show the engine, versions, migrations to come, and size. Changes nothing."""
    from historian.schema.migrate import SchemaStatus, migrations
    from historian.schema.migrate import status as schema_status

    directory = _directory(data_dir)
    if dsn is None and not _made(directory):
        # looking must not make one
        known = migrations("plain")
        found = SchemaStatus(None, "", None, None, len(known), tuple(f"{m.number:04d}_{m.name}" for m in known))
        _show(str(directory), found, 0, json=json)
    else:
        with _database(dsn, data_dir) as place:
            found = schema_status(place.dsn)
            _show(place.name, found, _size_bytes(place.dsn), json=json)
    if found.pending:
        raise typer.Exit(PENDING)


app.command("move", epilog=db_move.EPILOG)(db_move.move)
app.command("backup", epilog=db_backup.BACKUP_EPILOG)(db_backup.backup)
app.command("restore", epilog=db_backup.RESTORE_EPILOG)(db_backup.restore)


@dataclass(frozen=True, slots=True)
class _Place:
    """A database; `name` is for people, without its password. `ours`: nobody else has it, since it is the embedded one and was started for this command."""

    dsn: str
    name: str
    ours: bool = False


def _directory(data_dir: Path | None) -> Path:
    from historian.embedded import default_data_dir

    return (data_dir or default_data_dir()).expanduser().absolute()


def _made(directory: Path) -> bool:
    """Whether an embedded database stands there. What we may not see, the start will tell in words."""
    try:
        return (directory / "pgdata" / "PG_VERSION").exists()
    except OSError:
        return True


@contextmanager
def _database(dsn: str | None, data_dir: Path | None) -> Iterator[_Place]:
    """The database to work on. The embedded one is started for the command, unless a server runs it: then the command goes in beside that server."""
    from historian.embedded import EmbeddedDatabase, running_dsn
    from historian.schema.errors import Conflict

    if dsn is not None:
        yield _Place(dsn, _name(dsn))
        return
    directory = _directory(data_dir)
    embedded = EmbeddedDatabase(directory)
    try:
        embedded.start(on_step=lambda step: typer.echo(step, err=True))
    except Conflict:
        beside = running_dsn(directory)
        if beside is None:
            raise
        yield _Place(beside, str(directory))
        return
    try:
        yield _Place(embedded.dsn, str(directory), ours=True)
    finally:
        embedded.stop()


def _name(dsn: str, option: str = "--dsn") -> str:
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


def _upgrade(place: _Place) -> None:
    from historian.schema.migrate import status as schema_status
    from historian.schema.migrate import upgrade as apply

    applied = apply(place.dsn, on_step=lambda name: typer.echo(f"applying {name}"))
    now = schema_status(place.dsn)
    what = f"{len(applied)} migration{'s' if len(applied) != 1 else ''} applied" if applied else "nothing to do"
    typer.echo(f"{what}: {place.name} has schema version {now.version}, engine {now.engine}")


def _size_bytes(dsn: str) -> int:
    import psycopg

    from historian.schema.errors import Unavailable

    try:
        with psycopg.connect(dsn, connect_timeout=15, application_name="historian db status") as conn:
            row = conn.execute("SELECT pg_database_size(current_database())").fetchone()
    except psycopg.Error as error:
        raise Unavailable(f"the size of the database cannot be read: {str(error).strip().splitlines()[0]}") from error
    return int(row[0]) if row else 0


def _show(name: str, found: SchemaStatus, size_bytes: int, *, json: bool) -> None:
    if json:
        import orjson

        document = {
            "database": name,
            "engine": found.engine,
            "server_version": found.server_version or None,
            "extension_version": found.extension_version,
            "schema_version": found.version,
            "latest_version": found.latest,
            "pending": found.pending,
            "size_bytes": size_bytes,
        }
        typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
        return
    engines = {"timescale": f"TimescaleDB {found.extension_version}", "plain": "plain PostgreSQL", None: "none yet"}
    version = f"{found.version} of {found.latest}" if found.version is not None else "none; run: historian db init"
    rows = [
        ("database", name),
        ("server", f"PostgreSQL {found.server_version}" if found.server_version else "not made yet"),
        ("engine", engines[found.engine]),
        ("schema", version),
        ("pending", ", ".join(found.pending) or "nothing"),
        ("size", f"{size_bytes / 1e6:,.1f} MB"),
    ]
    for label, text in rows:
        typer.echo(f"{label:<10}{text}")
