"""`historian serve`: the server, on the embedded database or on any other."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from historian.cli.options import DataDir, Dsn

EPILOG = """[bold]Examples[/bold]

historian serve                                     the embedded database, on 127.0.0.1:8742

historian serve --dsn postgresql://u@db/plant        a TimescaleDB or PostgreSQL server

historian serve --workers 4                         four processes on one port, for machines with more cores

historian serve --dsn … --nats nats://bus:4222      one of several servers on a database, that hear of each other at once

HISTORIAN_TOKEN=… historian serve --host 0.0.0.0     for other machines, with a token

Every setting is also an environment variable: HISTORIAN_PORT, HISTORIAN_MAX_BODY, …
"""


def serve(
    dsn: Dsn = None,
    data_dir: DataDir = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1", envvar="HISTORIAN_HOST", show_envvar=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port to listen on; 0 takes a free one.", show_default="8742", envvar="HISTORIAN_PORT", show_envvar=False
        ),
    ] = None,
    allow_anonymous: Annotated[
        bool, typer.Option("--allow-anonymous", help="Off loopback: let everybody who reaches the port read and write.")
    ] = False,
    commanders: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Who may write to tags (docs/commands.md); without it nobody.",
            envvar="HISTORIAN_COMMANDERS",
            show_envvar=False,
        ),
    ] = None,
    allowed_host: Annotated[list[str] | None, typer.Option(help="A further name of this server, as behind a proxy.")] = None,
    allowed_origin: Annotated[list[str] | None, typer.Option(help="An origin whose pages may use this server.")] = None,
    create_tags: Annotated[
        bool | None,
        typer.Option(
            "--create-tags/--no-create-tags", help="Make tags that a write names and that do not exist.", show_default="make them"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=64, help="Processes that answer on the port.", show_default="1", envvar="HISTORIAN_WORKERS", show_envvar=False
        ),
    ] = None,
    nats: Annotated[
        str | None,
        typer.Option(
            help="A bus between several servers on one database, as nats://host:4222.",
            metavar="URL",
            envvar="HISTORIAN_NATS",
            show_envvar=True,
        ),
    ] = None,
    ready_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help='Write {"url", "pid"} as JSON here once writes and streams are served.')
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Serve writes, queries, live streams and the trend page. Ctrl-C or SIGTERM stops it cleanly."""
    from historian.server.process import run, settings_from

    given: dict[str, Any] = {
        "dsn": dsn,
        "data_dir": data_dir,
        "host": host,
        "port": port,
        "allow_anonymous": allow_anonymous or None,
        "commanders": commanders,
        "allowed_hosts": tuple(allowed_host) if allowed_host else None,
        "allowed_origins": tuple(allowed_origin) if allowed_origin else None,
        "create_tags": create_tags,
        "nats": nats,
        "workers": workers,
    }
    settings = settings_from(given)
    sys.exit(run(settings, ready_file=ready_file, verbose=verbose))
