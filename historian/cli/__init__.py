"""The `historian` command: its sub-commands, each in a module of its own, and what its errors look like.

Exit codes: 0 done, 1 failed (the reason is on stderr), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from historian import __version__
from historian.cli import archive, commands, cursors, db, demo, import_, ingest, query, retention, serve, spool, tags, tail
from historian.schema.errors import BadSamples, HistorianError

app = typer.Typer(
    name="historian",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: [bold]historian demo[/bold]   ·   Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"historian {__version__}")
        raise typer.Exit


@app.callback()
def _historian(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """An industrial historian with live trending streams.

    Commands that read or write talk to a running server: --url, or HISTORIAN_URL, or the local one.
    """


app.command("demo", epilog=demo.EPILOG)(demo.demo)
app.command("serve", epilog=serve.EPILOG)(serve.serve)
app.command("import", epilog=import_.EPILOG)(import_.import_files)
app.command("query", epilog=query.EPILOG)(query.query)
app.command("tail", epilog=tail.EPILOG)(tail.tail)
app.add_typer(commands.app, name="commands")
app.add_typer(cursors.app, name="cursors")
app.add_typer(ingest.app, name="ingest")
app.add_typer(spool.app, name="spool")
app.add_typer(tags.app, name="tags")
app.add_typer(db.app, name="db")
app.add_typer(archive.app, name="archive")
app.add_typer(retention.app, name="retention")


def main() -> None:
    """Run the command and exit."""
    try:
        app()
    except HistorianError as error:
        _complain(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # whoever read our output is gone; keep the interpreter's own flush from complaining
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _complain(error: HistorianError) -> None:
    typer.echo(f"historian: {error}", err=True)
    if isinstance(error, BadSamples):
        for fault in error.faults[1:10]:
            typer.echo(f"  row {fault.row}: {fault.column}: {fault.detail}", err=True)
