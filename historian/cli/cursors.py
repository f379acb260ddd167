"""`historian cursors`: the durable cursors of a server."""

from __future__ import annotations

from typing import Annotated

import typer

from historian.cli.options import Token, Url

app = typer.Typer(
    help="Durable cursors: how far named readers of the stream have come.",
    no_args_is_help=True,
    epilog="They are made by: historian tail PATH… --durable NAME. docs/pipelines.md tells more.",
)


@app.command("list", epilog="Examples: historian cursors list   ·   historian cursors list --json | jq '.cursors[].waiting_since'")
def list_(json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False, url: Url = None, token: Token = None) -> None:
    """Show the cursors: what they are of, what was acknowledged last, and since when something waits for them."""
    from historian.client import Client

    with Client(url, token=token) as client:
        found = client.cursors()
    if json:
        import orjson

        typer.echo(orjson.dumps({"cursors": found}, option=orjson.OPT_INDENT_2).decode())
        return
    typer.echo(f"{'cursor':<24}{'acknowledged':<30}{'waiting since':<30}tags")
    for cursor in found:
        waiting = "expired: a gap follows" if cursor["expired"] else cursor["waiting_since"] or "nothing waits"
        typer.echo(f"{cursor['name']:<24}{cursor['acknowledged_at'] or 'never':<30}{waiting:<30}{' '.join(cursor['tags'])}")


@app.command("delete", epilog="Example: historian cursors delete lake")
def delete(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The cursor.", show_default=False)], url: Url = None, token: Token = None
) -> None:
    """Forget a cursor: what waits for it in the database is kept no longer, and a stream that has it ends."""
    from historian.client import Client

    with Client(url, token=token) as client:
        client.delete_cursor(name)
    typer.echo(f"cursor {name} is deleted")
