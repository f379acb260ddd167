"""`historian commands`: write values to tags, look at the audit, and say who may."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from historian.cli.options import Token, Url

if TYPE_CHECKING:
    from historian.client.commands import Command
    from historian.schema.catalogue import Tag

app = typer.Typer(
    help="Write values to tags: acknowledged, with a right of their own, and audited.",
    no_args_is_help=True,
    epilog="docs/commands.md tells what is safe about it, and what is not.",
)

Json = Annotated[bool, typer.Option("--json", help="As JSON.")]

_WRITE = """[bold]Examples[/bold]

historian commands write acme/springfield/line1/setpoint 21.5

historian commands write acme/springfield/line1/mode automatic       of a digital tag a state's name, or its code

historian commands write acme/springfield/line1/valve 40 --wait 10    wait until the plant's broker has it

historian commands write acme/springfield/line1/offset -5             a number below 0

Exit codes: 0 it is committed (with --wait: and has got where it was to go), 1 refused, expired or failed, 2 wrong usage.
The token (HISTORIAN_TOKEN) is one that 'historian commands grant' made.
"""

_GRANT = """[bold]Examples[/bold]

historian commands grant operator-line1 --file commanders.toml --tags 'acme/springfield/+/line1/#'

historian commands grant mqtt-worker --file commanders.toml --deliver     an ingest worker that takes commands to the plant

historian serve --commanders commanders.toml                              the server that asks the file
"""


@app.command("write", epilog=_WRITE, context_settings={"ignore_unknown_options": True})
def write(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A tag that is writable.", show_default=False)],
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help="A number, true or false, a state, or text, as the tag's kind is.", show_default=False)
    ],
    wait: Annotated[float, typer.Option(min=0, max=3600, metavar="SECONDS", help="Wait so long for what becomes of it.")] = 0.0,
    timeout: Annotated[
        float, typer.Option(min=0.5, max=3600, metavar="SECONDS", help="After so long it is not published to the plant any more.")
    ] = 10.0,
    key: Annotated[str | None, typer.Option(help="The same key is the same command: for scripts that try again.")] = None,
    as_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Write a value to a tag. Done when it is committed."""
    from historian.client import Client
    from historian.schema.errors import UnknownTag
    from historian.schema.paths import check_path

    with Client(url, token=token, retry_s=5.0) as client:
        found = client.tags(check_path(path))
        if not found:
            raise UnknownTag([path])
        command = client.command(path, _typed(found[0], value), key=key, timeout=timeout, wait=wait)
    if as_json:
        _print_json(_row(command))
    else:
        was = "" if command.previous_ts is None else f" (was {_shown(command.previous)})"
        detail = f": {command.detail}" if command.detail else ""
        typer.echo(f"{command.tag}: {_shown(command.value)}{was}, {command.outcome}, command {command.command_id}{detail}")
    if command.outcome not in ("written", "delivered") and (wait or command.outcome != "accepted"):
        raise typer.Exit(1)


@app.command(
    "list", epilog="Examples: historian commands list 'acme/+/line1/#' --start -1d   ·   historian commands list --outcome refused --json"
)
def list_(
    tag: Annotated[str | None, typer.Argument(metavar="[TAG]", help="A path or wildcard.", show_default=False)] = None,
    start: Annotated[str | None, typer.Option(help="From this time on, as -1d or 2026-01-01.")] = None,
    end: Annotated[str | None, typer.Option(help="Before this time.")] = None,
    outcome: Annotated[str | None, typer.Option(help="refused, written, accepted, delivered, expired, unconfirmed or failed.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="So many at most.")] = 100,
    as_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """The audit, the newest first: who wrote what where, what was refused, and what became of it."""
    from historian.client import Client

    with Client(url, token=token, retry_s=5.0) as client:
        found = client.commands(tag, start=start, end=end, outcome=outcome, limit=limit)
    if as_json:
        _print_json({"commands": [_row(command) for command in found]})
        return
    for one in found:
        at = one.requested_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        who = f"{one.commander or 'nobody known'} ({one.client})"
        typer.echo(
            f"{one.command_id:>8} {at}  {one.outcome:<12}{who:<36} {one.tag} = {_shown(one.value)}"
            + (f"  {one.detail}" if one.detail else "")
        )


@app.command("show", epilog="Example: historian commands show 1234")
def show(
    number: Annotated[int, typer.Argument(metavar="NUMBER", min=0, help="The number of a command.", show_default=False)],
    as_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """All that the audit says of one command."""
    from historian.client import Client

    with Client(url, token=token, retry_s=5.0) as client:
        row = _row(client.command_of(number))
    if as_json:
        _print_json(row)
        return
    for name, value in row.items():
        if value is not None and name != "replayed":
            typer.echo(f"{name:<14} {_shown(value)}")


@app.command("grant", epilog=_GRANT)
def grant(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who it is: so the audit calls them.", show_default=False)],
    file: Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="The file of commanders; it is made if it is not there.")],
    tags: Annotated[
        list[str] | None, typer.Option("--tags", metavar="TAG", help="A path or wildcard that it may write; all by default.")
    ] = None,
    deliver: Annotated[bool, typer.Option("--deliver", help="An ingest worker, that takes commands to the plant and makes none.")] = False,
) -> None:
    """Make a token that may write to tags. It is shown once; the file keeps only its hash. To take the right away, take the entry out: that counts at once."""
    from historian.commands.grants import grant

    token = grant(file, name, tags or ["#"], deliver=deliver)
    typer.echo(
        f"{name} may {'take commands to the plant' if deliver else 'write'}: {' '.join(tags or ['#'])}. The token, which is not kept anywhere:",
        err=True,
    )
    typer.echo(token)


def _typed(tag: Tag, text: str) -> bool | int | float | str:
    """The value that a text means for a tag; what it does not take, the server says."""
    if tag.kind == "text":
        return text
    if tag.kind == "bool" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if tag.kind == "digital" and tag.state_code(text) is not None:
        return text
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _shown(value: Any) -> str:
    return {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else str(value)


def _row(command: Command) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(command)


def _print_json(document: Any) -> None:
    import orjson

    typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode())
