"""Options of the commands that talk to a running server."""

from __future__ import annotations

from typing import Annotated

import typer

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="HISTORIAN_URL", metavar="URL", help="The server.  [default: http://127.0.0.1:8742]", show_default=False),
]
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="HISTORIAN_TOKEN", metavar="TOKEN", help="Where the server wants one.", show_default=False),
]
