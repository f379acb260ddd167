"""`historian tags`: look at the tag catalogue, and change what it says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from historian.cli.options import Token, Url
from historian.schema.limits import LIMITS

if TYPE_CHECKING:
    from historian.client import Client
    from historian.schema.catalogue import Tag

app = typer.Typer(help="Look at the tags, define them and change what is said of them.", no_args_is_help=True)

_FIELDS = ("path", "kind", "unit", "description", "low", "high", *LIMITS, "step", "states", "writable", "write_to")
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
Path_ = Annotated[str, typer.Argument(metavar="PATH", help="A tag path.", show_default=False)]


@app.command("list", epilog="Example: historian tags list 'acme/springfield/+/line1/#'")
def list_(
    match: Annotated[str, typer.Argument(metavar="[MATCH]", help="A path or wildcard, as in site/+/line1/#.", show_default=False)] = "#",
    as_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """The tags that match, or all. In a pipe: tab-separated path, kind, unit, description."""
    with _client(url, token) as client:
        found = client.tags(match)
    if as_json:
        _print_json({"tags": [tag.row() for tag in found]})
    elif not sys.stdout.isatty():
        for tag in found:
            typer.echo("\t".join((tag.path, tag.kind, tag.unit or "", " ".join((tag.description or "").split()))))
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table("tag", "kind", "unit", "range", "description", box=None, header_style="bold", pad_edge=False)
        for tag in found:
            table.add_row(tag.path, tag.kind, tag.unit or "", _range(tag), tag.description or "")
        Console().print(table)
        typer.echo(f"{len(found)} tag{'' if len(found) == 1 else 's'}", err=True)


@app.command("show", epilog="Example: historian tags show acme/springfield/brewing/line1/feed_pump/state")
def show(path: Path_, as_json: Json = False, url: Url = None, token: Token = None) -> None:
    """All that the catalogue says of one tag, and its newest sample."""
    from historian.cli.rows import quality_word, rows_of

    with _client(url, token) as client:
        tag = _existing(client, path)
        newest = [row for batch in client.snapshot(path).to_batches() for row in rows_of(batch)]
    sample = newest[0] if newest else None
    if as_json:
        of_sample = {"ts": sample.time, "value": sample.value, "quality": sample.quality} if sample else None
        _print_json({**tag.row(), "newest": of_sample})
        return
    lines = {
        "path": tag.path,
        "tag_id": str(tag.tag_id),
        "kind": tag.kind,
        "unit": tag.unit,
        "description": tag.description,
        "range": _range(tag),
        "limits": _limits(tag),
        "step": "holds until the next sample" if tag.step else None,
        "writable": f"yes, commands go to {'the plant' if tag.write_to == 'plant' else 'the historian'}" if tag.writable else None,
        "states": ", ".join(f"{code} {name}" for code, name in (tag.states or {}).items()),
        "newest": f"{sample.shown}, {quality_word(sample.quality)}, {sample.time}" if sample else "no samples yet",
    }
    for name, text in lines.items():
        if text:
            typer.echo(f"{name:<12} {text}")


@app.command(
    "set",
    epilog="Examples: historian tags set site/line1/pump/state --kind digital --states 0=stopped,1=running   ·   "
    "historian tags set site/line1/tank/level --unit % --low 0 --high 100 --low-limit 15 --high-limit 85 --high-high-limit 95",
)
def set_(
    path: Path_,
    kind: Annotated[str | None, typer.Option(help="float, int, bool, digital or text; stays once there are samples.")] = None,
    unit: Annotated[str | None, typer.Option(help="As °C or m³/h; an empty text takes it away.")] = None,
    description: Annotated[str | None, typer.Option(help="What is measured there; an empty text takes it away.")] = None,
    low: Annotated[float | None, typer.Option(help="Low end of the range.")] = None,
    high: Annotated[float | None, typer.Option(help="High end of the range.")] = None,
    low_low_limit: Annotated[float | None, typer.Option(help="Below it a value is an alarm.")] = None,
    low_limit: Annotated[float | None, typer.Option(help="Below it a value is a warning.")] = None,
    high_limit: Annotated[float | None, typer.Option(help="Above it a value is a warning.")] = None,
    high_high_limit: Annotated[float | None, typer.Option(help="Above it a value is an alarm.")] = None,
    no_limits: Annotated[bool, typer.Option("--no-limits", help="Take away the limits that are not given here.")] = False,
    step: Annotated[bool | None, typer.Option("--step/--no-step", help="A value holds until the next sample.")] = None,
    states: Annotated[str | None, typer.Option(metavar="CODE=NAME,…", help="Names of a digital tag's codes.")] = None,
    writable: Annotated[
        bool | None, typer.Option("--writable/--no-writable", help="Commands may write it; needs a token that may (docs/commands.md).")
    ] = None,
    write_to: Annotated[
        str | None,
        typer.Option(metavar="historian|plant", help="Where a command goes: becomes a sample, or an ingest worker publishes it."),
    ] = None,
    as_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Define a tag, or change it. What is not given stays as it is."""
    given: dict[str, Any] = {"kind": kind, "low": low, "high": high, "step": step, "writable": writable, "write_to": write_to}
    definition: dict[str, Any] = {"path": path} | {name: value for name, value in given.items() if value is not None}
    definition |= {name: value or None for name, value in (("unit", unit), ("description", description)) if value is not None}
    if states is not None:
        definition["states"] = _states(states)
    limits = dict(zip(LIMITS, (low_low_limit, low_limit, high_limit, high_high_limit), strict=True))
    definition |= {name: limit for name, limit in limits.items() if limit is not None or no_limits}
    with _client(url, token) as client:
        tag = client.define(definition)[0]
    if as_json:
        _print_json(tag.row())
    else:
        typer.echo(f"{tag.path}: {tag.kind}, {tag.unit or 'no unit'}, range {_range(tag) or 'not given'}, limits {_limits(tag) or 'none'}")


@app.command("export", epilog="Example: historian tags export 'acme/#' > tags.json")
def export(
    match: Annotated[str, typer.Argument(metavar="[MATCH]", help="A path or wildcard.", show_default=False)] = "#",
    url: Url = None,
    token: Token = None,
) -> None:
    """Definitions as JSON on stdout, as 'import' reads them."""
    with _client(url, token) as client:
        found = client.tags(match)
    _print_json({"tags": [{name: value for name, value in tag.row().items() if name in _FIELDS} for tag in found]})


@app.command("import", epilog="Examples: historian tags import tags.json   ·   historian tags import tags.csv")
def import_(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, allow_dash=True, help="JSON as from 'export', or CSV with a column path.")
    ],
    url: Url = None,
    token: Token = None,
) -> None:
    """Define tags from a file. CSV has the columns path, kind, unit, description, low, high, low_low_limit, low_limit, high_limit, high_high_limit,
    step, states, writable, write_to, or some; an empty field leaves what stands."""
    text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")
    definitions = _from_csv(text) if file.suffix.lower() == ".csv" else _from_json(text)
    with _client(url, token) as client:
        made = client.define(definitions)
    typer.echo(f"{len(made)} tag{'' if len(made) == 1 else 's'} defined", err=True)


def _client(url: str | None, token: str | None) -> Client:
    from historian.client import Client

    return Client(url, token=token, retry_s=5.0)


def _existing(client: Client, path: str) -> Tag:
    from historian.schema.errors import UnknownTag
    from historian.schema.paths import check_path

    found = client.tags(check_path(path))
    if not found:
        raise UnknownTag([path])
    return found[0]


def _range(tag: Tag) -> str:
    if tag.low is None and tag.high is None:
        return ""
    low, high = ("…" if end is None else f"{end:g}" for end in (tag.low, tag.high))
    return f"{low} to {high}"


def _limits(tag: Tag) -> str:
    return ", ".join(
        f"{name.removesuffix('_limit').replace('_', ' ')} {limit:g}" for name, limit in tag.limits._asdict().items() if limit is not None
    )


def _states(text: str) -> dict[str, str] | None:
    """From `0=stopped,1=running`; none from an empty text."""
    from historian.schema.errors import BadInput

    states: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        code, equals, name = pair.partition("=")
        if not equals:
            raise BadInput(f"states look like 0=stopped,1=running, unlike {pair!r}")
        states[code.strip()] = name.strip()
    return states or None


def _from_json(text: str) -> list[Any]:
    import orjson

    from historian.schema.errors import BadInput

    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"this is no JSON: {error}") from None
    rows = document.get("tags") if isinstance(document, dict) else document
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadInput('definitions in JSON look like {"tags": [{"path": …, "unit": …}]}')
    return [{name: value for name, value in row.items() if name != "tag_id"} for row in rows]


def _from_csv(text: str) -> list[dict[str, Any]]:
    import csv
    import io

    from historian.schema.errors import BadInput

    reader = csv.DictReader(io.StringIO(text))
    unknown = [name for name in reader.fieldnames or () if name not in _FIELDS]
    if unknown or "path" not in (reader.fieldnames or ()):
        raise BadInput(f"the columns of tags in CSV are {', '.join(_FIELDS)}, path at least" + (f"; not {unknown[0]}" if unknown else ""))
    definitions = []
    for row in reader:
        try:
            definitions.append({name: _FROM_TEXT.get(name, str)(value) for name, value in row.items() if value})
        except (ValueError, KeyError) as error:
            raise BadInput(f"line {reader.line_num}: {error}") from None
    return definitions


def _truth(text: str) -> bool:
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.strip().lower()]


_FROM_TEXT: dict[str, Any] = {**dict.fromkeys(("low", "high", *LIMITS), float), "step": _truth, "states": _states, "writable": _truth}


def _print_json(document: Any) -> None:
    import orjson

    typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
