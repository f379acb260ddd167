"""`historian retention`: how long samples and rollups are kept, by groups of tags."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from historian.cli.db_place import database, directory_of, is_made
from historian.cli.options import DataDir, Dsn

if TYPE_CHECKING:
    from historian.schema.retention import Group

Json = Annotated[bool, typer.Option("--json", help="As one JSON object.")]

app = typer.Typer(
    help="How long raw samples and rollups are kept, by groups of tags.",
    no_args_is_help=True,
    epilog="Nothing is removed before somebody says so: the group default, of all tags, keeps everything for ever. docs/archive.md tells more.",
)

SET_EPILOG = """[bold]Examples[/bold]

historian retention set default --raw 400 --archive          raw samples go into the archive after 400 days; rollups stay for ever

historian retention set fast --match 'site/+/vibration/#' --raw 14 --no-archive --keep-1m 90 --keep-10m 730

historian retention set fast --raw forever

What has expired is removed by: historian archive run, by a server every hour, and, where there is nothing to archive, on TimescaleDB by a job of the database.
"""

_DAYS = re.compile(r"(\d{1,6})d?")


@app.command(
    "list", epilog="Examples: historian retention list   ·   historian retention list --dsn postgresql://historian@db/plant --json"
)
def show(dsn: Dsn = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Show the groups, in the order in which a tag is looked for in them."""
    from historian.schema.retention import LEVELS, groups

    found, horizon = _on(dsn, data_dir, groups)
    if json:
        import orjson

        document = {
            "groups": [_document(group) for group in found],
            "wanted": horizon.wanted.isoformat() if horizon.wanted else None,
            "horizon": horizon.at.isoformat() if horizon.at else None,
        }
        typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
        return
    typer.echo(f"{'group':<20}{'tags':>8}{'raw':>12}  {'archive':<9}" + "".join(f"{level:>10}" for level in LEVELS) + "  patterns")
    for group in found:
        kept = "".join(f"{_kept(getattr(group, f'days_{level}')):>10}" for level in LEVELS)
        archive = "" if group.raw_days is None else "yes" if group.archive else "no"
        typer.echo(f"{group.name:<20}{group.tags:>8,}{_kept(group.raw_days):>12}  {archive:<9}{kept}  {' '.join(group.patterns)}")
    if horizon.at is not None:
        typer.echo(f"what has expired before {horizon.at:%Y-%m-%d} may be removed")


@app.command("set", epilog=SET_EPILOG)
def set_(
    name: Annotated[
        str, typer.Argument(metavar="GROUP", help="Its name; default is the group of all tags that no other has.", show_default=False)
    ],
    match: Annotated[
        list[str] | None, typer.Option("--match", metavar="PATTERN", help="Its tags: paths and wildcards, as site/+/line1/#. Repeatable.")
    ] = None,
    raw: Annotated[str | None, typer.Option("--raw", metavar="DAYS|forever", help="Raw samples are kept so long in the database.")] = None,
    archive: Annotated[
        bool | None,
        typer.Option("--archive/--no-archive", help="Then they go into the archive, or for good.", show_default="archive; of default: no"),
    ] = None,
    keep_1m: Annotated[str | None, typer.Option("--keep-1m", metavar="DAYS|forever", help="Buckets of a minute are kept so long.")] = None,
    keep_10m: Annotated[str | None, typer.Option("--keep-10m", metavar="DAYS|forever", help="Of ten minutes.")] = None,
    keep_1h: Annotated[str | None, typer.Option("--keep-1h", metavar="DAYS|forever", help="Of an hour.")] = None,
    keep_6h: Annotated[str | None, typer.Option("--keep-6h", metavar="DAYS|forever", help="Of six hours.")] = None,
    keep_1d: Annotated[str | None, typer.Option("--keep-1d", metavar="DAYS|forever", help="Of a day.")] = None,
    priority: Annotated[
        int | None, typer.Option(help="Of groups that have the same tag the lowest counts, then the name.", show_default="100")
    ] = None,
    dsn: Dsn = None,
    data_dir: DataDir = None,
) -> None:
    """Make a group, or change what is named here of one. Removes nothing by itself."""
    from historian.schema.retention import set_group

    given = {"raw": raw, "1m": keep_1m, "10m": keep_10m, "1h": keep_1h, "6h": keep_6h, "1d": keep_1d}
    days = {what: _days(what, text) for what, text in given.items() if text is not None}
    _on(
        dsn,
        data_dir,
        lambda to: set_group(to, name, patterns=tuple(match) if match else None, priority=priority, archive=archive, days=days),
    )
    show(dsn, data_dir, json=False)


@app.command("remove", epilog="Example: historian retention remove fast")
def remove(name: Annotated[str, typer.Argument(metavar="GROUP", show_default=False)], dsn: Dsn = None, data_dir: DataDir = None) -> None:
    """Remove a group: its tags are then of the others. What was archived stays archived."""
    from historian.schema.retention import remove_group

    _on(dsn, data_dir, lambda to: remove_group(to, name))
    typer.echo(f"group {name} is removed")


def _on(dsn: str | None, data_dir: Any, work: Any) -> Any:
    from historian.schema.errors import SchemaError
    from historian.schema.migrate import require_current

    if dsn is None and not is_made(directory_of(data_dir)):
        raise SchemaError(f"there is no database in {directory_of(data_dir)}; run: historian db init")
    with database(dsn, data_dir) as place:
        require_current(place.dsn)
        return work(place.dsn)


def _days(what: str, text: str) -> int | None:
    """None for `forever`. Raises BadInput."""
    from historian.schema.errors import BadInput

    if text.strip().lower() == "forever":
        return None
    match = _DAYS.fullmatch(text.strip().lower())
    if match is None:
        raise BadInput(f"{what}: {text!r} is no number of days; give 30, or forever")
    return int(match[1])


def _kept(days: int | None) -> str:
    return "forever" if days is None else f"{days:,} days"


def _document(group: Group) -> dict[str, Any]:
    return {name: getattr(group, name) for name in group.__slots__}
