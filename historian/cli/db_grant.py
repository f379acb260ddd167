"""`historian db grant`: put a role under the rules for a server's role, or for a reader's."""

from __future__ import annotations

from typing import Annotated

import typer

EPILOG = """[bold]Examples[/bold]

historian db grant historian_server --dsn postgresql://historian_owner@db.example/plant

historian db grant analyst --read-only --dsn postgresql://historian_owner@db.example/plant

Run it as the owner of the schema or as a superuser, once: what later upgrades bring is covered. Taking all back: DROP OWNED BY role, in SQL.
"""


Role = Annotated[
    str, typer.Argument(metavar="ROLE", help="A role that exists on the server, and owns nothing of the schema.", show_default=False)
]
ReadOnly = Annotated[bool, typer.Option("--read-only", help="For people who only read: SELECT on the tables and views.")]


def report(dsn: str, name: str, role: str, *, read_only: bool) -> None:
    """Grant, and say what the role can do now. `name` is the database's, for people."""
    from historian.schema.rights import grant as apply

    found = apply(dsn, role, read_only=read_only)
    can = "read" if read_only else "read and write"
    cannot = "neither write nor change the schema" if read_only else "neither drop, alter, truncate nor create"
    typer.echo(f"role {role} can {can} all data in {name}, and {cannot}")
    for right in found.beyond:
        typer.echo(f"warning: it also has {right}, through PUBLIC or a role that it is a member of", err=True)
