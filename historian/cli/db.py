"""`historian db`: make the database's schema, look at it, bring it up to date; move and back up the database."""

from __future__ import annotations

from typing import Annotated

import typer

from historian.cli import db_backup, db_grant, db_move
from historian.cli.db_place import Place, database, directory_of, is_made
from historian.cli.options import DataDir, Dsn

#: exit code of `status` when the schema is not there or not the newest
PENDING = 3

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the SQL of what is to be done, as a script for psql, and do nothing.")]
LockWait = Annotated[
    float,
    typer.Option(
        "--lock-wait", metavar="SECONDS", min=0, max=86_400, help="So long a step waits for locks that a running server or a query holds."
    ),
]

app = typer.Typer(
    help="Make, look at, upgrade, move and back up the database.",
    no_args_is_help=True,
    epilog=(
        "They work on the embedded database in --data-dir, also while a server runs on it, or on any server with --dsn."
        "   ·   Exit codes: 0 done, 1 failed, 2 wrong usage; of status: 3 if the schema is not there or not the newest"
    ),
)


@app.command(
    "init",
    epilog="""[bold]Examples[/bold]

historian db init --dsn postgresql://historian_owner@db.example/plant

historian db init --dsn postgresql://historian_owner@db.example/plant --dry-run > schema.sql
""",
)
def init(dsn: Dsn = None, data_dir: DataDir = None, dry_run: DryRun = False, lock_wait: LockWait = 60.0) -> None:
    """Make the schema, and the embedded database itself if there is none. Does nothing where the newest schema stands."""
    from historian.schema.errors import SchemaError
    from historian.schema.migrate import dry_run_embedded
    from historian.schema.migrate import status as schema_status

    if dry_run and dsn is None and not is_made(directory_of(data_dir)):
        typer.echo(dry_run_embedded(), nl=False)
        return
    with database(dsn, data_dir) as place:
        found = schema_status(place.dsn)
        if found.version is not None and found.pending:
            raise SchemaError(f"the database has schema version {found.version} of {found.latest}; run: historian db upgrade")
        _upgrade(place, dry_run=dry_run, lock_wait=lock_wait)


@app.command(
    "upgrade",
    epilog="""[bold]Examples[/bold]

historian db upgrade --data-dir /srv/historian

historian db upgrade --dsn postgresql://historian_owner@db.example/plant --dry-run > upgrade.sql

historian db upgrade --init                          in a deployment's job: whatever stands, the newest schema stands afterwards
""",
)
def upgrade(
    dsn: Dsn = None,
    data_dir: DataDir = None,
    init: Annotated[bool, typer.Option("--init", help="Make the schema, too, if there is none.")] = False,
    dry_run: DryRun = False,
    lock_wait: LockWait = 60.0,
) -> None:
    """Bring the schema to the newest version. Safe to interrupt, and to run from several places at once: the next run does what is left."""
    from historian.schema.errors import SchemaError
    from historian.schema.migrate import status as schema_status

    nothing = "there is no schema in {} to upgrade; run: historian db init"
    if dsn is None and not is_made(directory_of(data_dir)) and not init:
        raise SchemaError(nothing.format(directory_of(data_dir)))
    with database(dsn, data_dir) as place:
        if schema_status(place.dsn).version is None and not init:
            raise SchemaError(nothing.format(place.name))
        _upgrade(place, dry_run=dry_run, lock_wait=lock_wait)


@app.command("grant", epilog=db_grant.EPILOG)
def grant(role: db_grant.Role, read_only: db_grant.ReadOnly = False, dsn: Dsn = None, data_dir: DataDir = None) -> None:
    """Give a role what a server needs, and nothing that drops, alters, truncates or creates; or, with --read-only, what a reader needs."""
    with database(dsn, data_dir) as place:
        db_grant.report(place.dsn, place.name, role, read_only=read_only)


@app.command("status", epilog="Exit codes: 0 the newest schema stands, 3 it is not there or not the newest, 1 failed, 2 wrong usage")
def status(
    dsn: Dsn = None,
    data_dir: DataDir = None,
    json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Show the engine, versions, migrations to come, size, and how the samples lie on disk. Changes nothing."""
    from historian.cli.db_status import show, size_bytes
    from historian.schema.chunks import layout
    from historian.schema.migrate import SchemaStatus, migrations
    from historian.schema.migrate import status as schema_status

    directory = directory_of(data_dir)
    if dsn is None and not is_made(directory):
        # looking must not make one
        known = migrations("plain")
        found = SchemaStatus(None, "", None, None, len(known), tuple(f"{m.number:04d}_{m.name}" for m in known))
        show(str(directory), found, 0, None, json=json)
    else:
        with database(dsn, data_dir) as place:
            found = schema_status(place.dsn)
            lies = layout(place.dsn) if not found.pending else None
            show(place.name, found, size_bytes(place.dsn), lies, json=json)
    if found.pending:
        raise typer.Exit(PENDING)


@app.command(
    "chunks",
    epilog="Examples: historian db chunks --dsn postgresql://historian@db.example/plant   ·   historian db chunks --interval 6h   ·   historian db chunks --now",
)
def chunks(
    interval: Annotated[
        str | None,
        typer.Option("--interval", metavar="6h|2d|auto", help="How long a chunk is, of those to come; auto: it follows the measured rate."),
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="Convert and put right at once what is due, also what was written to a moment ago.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="List all chunks, not only the newest.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
    dsn: Dsn = None,
    data_dir: DataDir = None,
) -> None:
    """Show how the samples lie on disk, in chunks of TimescaleDB or months of plain PostgreSQL; set the interval of chunks, convert them now."""
    from historian.cli import db_chunks
    from historian.schema.chunks import layout, parse_interval, set_interval
    from historian.schema.errors import SchemaError
    from historian.schema.migrate import require_current

    wanted = parse_interval(interval) if interval is not None else None
    if dsn is None and not is_made(directory_of(data_dir)):
        raise SchemaError(f"there is no database in {directory_of(data_dir)}; run: historian db init")
    with database(dsn, data_dir) as place:
        require_current(place.dsn)
        if interval is not None:
            set_interval(place.dsn, wanted)
        if now:
            db_chunks.tend_now(place.dsn)
        found = layout(place.dsn)
    if json:
        import orjson

        typer.echo(orjson.dumps(db_chunks.document(found), option=orjson.OPT_INDENT_2).decode())
    else:
        db_chunks.show(found, every=every)


app.command("move", epilog=db_move.EPILOG)(db_move.move)
app.command("backup", epilog=db_backup.BACKUP_EPILOG)(db_backup.backup)
app.command("restore", epilog=db_backup.RESTORE_EPILOG)(db_backup.restore)


def _upgrade(place: Place, *, dry_run: bool, lock_wait: float) -> None:
    from historian.schema.migrate import dry_run as script
    from historian.schema.migrate import status as schema_status
    from historian.schema.migrate import upgrade as apply

    if dry_run:
        # a script for psql in any case
        typer.echo(script(place.dsn) or f"-- nothing to do: {place.name} has the newest schema\n", nl=False)
        return
    applied = apply(
        place.dsn,
        on_step=lambda name: typer.echo(f"applying {name}"),
        on_wait=lambda who: typer.echo(f"waiting for {who}", err=True),
        patience_s=lock_wait,
    )
    now = schema_status(place.dsn)
    what = f"{len(applied)} migration{'s' if len(applied) != 1 else ''} applied" if applied else "nothing to do"
    typer.echo(f"{what}: {place.name} has schema version {now.version}, engine {now.engine}")
