"""`historian db backup` and `restore`, of the embedded database."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from historian.cli.options import DataDir, Dsn

if TYPE_CHECKING:
    from historian.storage.backup import Backup

BACKUP_EPILOG = """
[bold]historian db backup /backups[/bold]   into that directory, named by the time

[bold]historian db backup /backups/before-the-upgrade[/bold]   under that name, where there is nothing yet

[bold]historian db backup --list /backups[/bold]

A server may run on the database meanwhile. Put backups on another disk, and try a restore now and then: docs/backup.md.
"""
RESTORE_EPILOG = """
[bold]historian db restore /backups/historian-20260101T000000Z --data-dir /srv/historian-new[/bold]

The database that runs now is left alone: a restore goes into a new directory.
"""


class BackupReporter:
    """A bar on a terminal, else a line for each phase; on stderr."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._terminal = console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._progress.stop()

    def phase(self, name: str) -> None:
        for task in self._progress.task_ids:
            self._progress.remove_task(task)
        self._progress.add_task(name, total=1)
        if not self._terminal:
            typer.echo(name, err=True)

    def fraction(self, done: float) -> None:
        self._progress.update(self._progress.task_ids[-1], completed=done)


def backup(
    to: Annotated[
        Path, typer.Argument(metavar="DIR", help="A directory that has backups in it, or a new one for this backup.", show_default=False)
    ],
    dsn: Dsn = None,
    data_dir: DataDir = None,
    list_: Annotated[bool, typer.Option("--list", help="Show the backups in DIR, oldest first, and make none.")] = False,
) -> None:
    """Back up the embedded database, also while a server runs on it. Nothing is written over."""
    from historian.cli.db_place import database, directory_of, is_made
    from historian.schema.errors import SchemaError
    from historian.storage.backup import list_backups, place_for, take_backup

    to = to.expanduser().absolute()
    if list_:
        _show(list_backups(to), to)
        return
    _refuse_server(dsn, "back it up with pg_basebackup or pgBackRest")
    directory = directory_of(data_dir)
    if not is_made(directory):
        raise SchemaError(f"there is no database in {directory} to back up; name its --data-dir")
    # before anything is started
    place_for(to, directory)
    began = time.monotonic()
    with database(None, directory) as place, BackupReporter() as reporter:
        try:
            made = take_backup(place.dsn, directory, to, reporter.phase, reporter.fraction)
        except KeyboardInterrupt:
            typer.echo("\ninterrupted; nothing of the backup is kept", err=True)
            sys.exit(130)
    typer.echo(f"{made.path}: {_size(made.size_bytes)}, {made.tags:,} tags, checked, in {time.monotonic() - began:,.1f} s")


def restore(
    backup: Annotated[Path, typer.Argument(metavar="BACKUP", help="A backup that historian db backup made.", show_default=False)],
    dsn: Dsn = None,
    data_dir: DataDir = None,
) -> None:
    """Bring a backup back, into a new data directory. The backup is checked before, and stays as it is."""
    from historian.cli.db_place import directory_of
    from historian.schema.migrate import status
    from historian.storage.backup import read_backup
    from historian.storage.restore import restore_backup

    _refuse_server(dsn, "restore it with what made its backup, pgBackRest or a copy of pg_basebackup")
    directory = directory_of(data_dir)
    found = read_backup(backup.expanduser().absolute())
    began = time.monotonic()
    with BackupReporter() as reporter:
        try:
            embedded = restore_backup(found, directory, reporter.phase, reporter.fraction)
        except KeyboardInterrupt:
            typer.echo("\ninterrupted; nothing was restored, and the same command begins again", err=True)
            sys.exit(130)
        reporter.phase("Starting")
        # once, here: what the WAL of the backup has goes into the tables, and one sees that it runs
        embedded.start()
        try:
            schema = status(embedded.dsn)
        finally:
            embedded.stop()
    typer.echo(
        f"{directory}: restored as of {found.ended_at}, {_size(found.size_bytes)}, {found.tags:,} tags, in {time.monotonic() - began:,.1f} s"
    )
    if schema.pending:
        typer.echo(f"Its schema is older than this program: historian db upgrade --data-dir {directory}")
    typer.echo(f"Start the server on it: historian serve --data-dir {directory}")


def _refuse_server(dsn: str | None, instead: str) -> None:
    from historian.schema.errors import BadInput

    if dsn is not None:
        raise BadInput(f"this is for the embedded database; a server of your own has its own tools: {instead}, see docs/backup.md")


def _show(backups: list[Backup], directory: Path) -> None:
    if not backups:
        typer.echo(f"no backups in {directory}")
        return
    width = max(len(one.path.name) for one in backups)
    typer.echo(f"{'name':<{width}}  {'taken':<20}  {'size':>10}  {'tags':>8}  schema  historian")
    for one in backups:
        typer.echo(
            f"{one.path.name:<{width}}  {one.ended_at:<20}  {_size(one.size_bytes):>10}  {one.tags:>8,}  {one.schema_version:>6}  {one.historian}"
        )


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:,.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:,.1f} MB"
