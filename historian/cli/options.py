"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Dsn = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        envvar="HISTORIAN_DSN",
        show_envvar=True,
        metavar="DSN",
        help="PostgreSQL or TimescaleDB server, as postgresql://user@host/db. Default: the embedded database.",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar="HISTORIAN_DATA_DIR", metavar="DIR", help="Where the embedded database keeps its data."),
]
Url = Annotated[
    str | None,
    typer.Option("--url", envvar="HISTORIAN_URL", metavar="URL", help="The server.", show_default="http://127.0.0.1:8742"),
]
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="HISTORIAN_TOKEN", metavar="TOKEN", help="Where the server wants one."),
]
