"""`historian db move`: from one database to another, with a progress bar."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from historian.cli.interruptible import run_interruptible
from historian.cli.options import DataDir, Dsn

if TYPE_CHECKING:
    from historian.storage.move import Moved

EPILOG = """
[bold]historian db move --to postgresql://owner@db.example/plant[/bold]   the embedded database to a TimescaleDB server

[bold]historian db move --dsn postgresql://a.example/plant --to postgresql://b.example/plant[/bold]   from one server to another

Stop the server and the workers of the source first. Whatever way a move ends, the same command goes on where it stopped. docs/moving.md has the whole of it.
"""

#: where there is no bar: how often a line says how far it is
_LINE_S = 10.0


class _Rate(ProgressColumn):
    """Samples a second."""

    def render(self, task: Task) -> Text:
        return Text(
            "" if not task.total or task.total == 1 or not task.speed else f"{task.speed:,.0f} samples/s", style="progress.data.speed"
        )


class MoveReporter:
    """A bar on a terminal, else a line every some seconds; both on stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._name = ""
        self._total = self._done = self._began_at = 0
        self._told = self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._progress.stop()

    def phase(self, name: str, total: int, done: int = 0) -> None:
        for task in self._progress.task_ids:
            self._progress.remove_task(task)
        self._name, self._total, self._done, self._began_at = name, total, done, done
        self._told = self._began = time.monotonic()
        # without a total the bar only moves
        self._progress.add_task(name, total=total or None, completed=done)
        if not self._console.is_terminal:
            typer.echo(f"{name}: {total:,} samples{f', {done:,} of them done before' if done else ''}" if total > 1 else name, err=True)

    def advance(self, done: int) -> None:
        self._done += done
        self._progress.update(self._progress.task_ids[-1], advance=done)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._told >= _LINE_S:
            self._told = now
            rate = (self._done - self._began_at) / (now - self._began)
            left = (self._total - self._done) / rate if rate else 0.0
            typer.echo(f"{self._name}: {self._done:,} of {self._total:,} samples ({rate:,.0f}/s, {left:,.0f} s left)", err=True)

    def fraction(self, done: float) -> None:
        self._progress.update(self._progress.task_ids[-1], completed=done)

    def note(self, text: str) -> None:
        self._progress.stop()
        typer.echo(text, err=True)
        self._progress.start()


def move(
    to: Annotated[
        str,
        typer.Option("--to", metavar="DSN", help="Server to move to, as postgresql://user@host/db: an empty database.", show_default=False),
    ],
    dsn: Dsn = None,
    data_dir: DataDir = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Move everything to another server: tags with their ids, samples, and which batches are done.

    The source is only read, and stays as it is. Everything is compared by counts and checksums, slice by slice and all over again at the end.
    Until it is done, the target takes no samples from anybody else.
    """
    from historian.cli.db_place import database, directory_of, is_made, name_of
    from historian.schema.errors import Conflict, SchemaError
    from historian.storage.move import Database
    from historian.storage.move import move as run

    target = Database(to, name_of(to, "--to"))
    if dsn is None and not is_made(directory_of(data_dir)):
        raise SchemaError(f"there is no database in {directory_of(data_dir)} to move; name its --data-dir, or a server with --dsn")
    with database(dsn, data_dir) as place:
        if dsn is None and not place.ours:
            raise Conflict(
                f"a server, or another command, runs on {place.name}: stop it first, and its producers with it; "
                "what is written during a move would be left behind"
            )
        if dsn is not None:
            typer.echo(
                f"Servers and workers that write to {place.name} must be stopped: samples that come during the move are found out, and make it fail at its end.",
                err=True,
            )
        if not yes and sys.stdin.isatty() and not typer.confirm(f"Move {place.name} to {target.name}?", default=True, err=True):
            raise typer.Exit(1)
        with MoveReporter() as reporter:
            began = time.monotonic()
            try:
                moved = run_interruptible(run(Database(place.dsn, place.name), target, reporter))
            except KeyboardInterrupt:
                typer.echo("\ninterrupted; the same command goes on where this one stopped", err=True)
                sys.exit(130)
        _tell(moved, place.name, target.name, time.monotonic() - began)


def _tell(moved: Moved, source: str, target: str, seconds: float) -> None:
    if moved.already:
        typer.echo(f"{source} was moved to {target} before; nothing to do")
        return
    new = moved.samples - moved.before
    rate = f", {new / seconds:,.0f} samples/s" if new and seconds >= 0.1 else ""
    earlier = f" ({moved.before:,} of them earlier)" if moved.before else ""
    typer.echo(
        f"moved {moved.samples:,} samples{earlier} of {moved.tags:,} tags and {moved.batches:,} batches to {target} in {seconds:,.1f} s{rate}; "
        "counts and checksums are the same on both sides"
    )
    typer.echo(f"Start the server on it: historian serve --dsn postgresql://{target}")
