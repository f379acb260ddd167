"""`historian query`: samples of some tags between two times, as a table on the terminal, as CSV in a pipe, or into a file."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from historian.cli.options import Token, Url

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

EPILOG = """[bold]Examples[/bold]

historian query acme/springfield/brewing/line1/reactor1/temperature

historian query 'acme/+/brewing/line1/#' --start -8h --mode minmax --points 500

historian query --expr 'spread: acme/springfield/brewing/line1/reactor1/jacket_temperature - acme/springfield/brewing/line1/reactor1/temperature'

historian query 'acme/#' --start 2026-01-01 --end 2026-02-01 --output january.parquet
"""

#: rows of a table on the terminal, where no --limit is given: nobody reads more, and a pipe has no such bound
SHOWN = 1000


class Mode(StrEnum):
    raw = "raw"
    minmax = "minmax"
    auto = "auto"


class Format(StrEnum):
    table = "table"
    csv = "csv"
    json = "json"
    arrow = "arrow"
    parquet = "parquet"


_SUFFIXES = {".csv": Format.csv, ".json": Format.json, ".jsonl": Format.json, ".ndjson": Format.json}
_SUFFIXES |= {".arrow": Format.arrow, ".arrows": Format.arrow, ".parquet": Format.parquet, ".pq": Format.parquet}


def query(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH…", help="Tag paths and wildcards, as in site/+/line1/#.", show_default=False)
    ] = None,
    expr: Annotated[
        list[str] | None,
        typer.Option(help="Calculate this too, as in 'power: a/b/flow * 2'. Any number.", metavar="EXPRESSION", show_default=False),
    ] = None,
    start: Annotated[str, typer.Option(help="From then on: RFC 3339, or relative to now.")] = "-1h",
    end: Annotated[str, typer.Option(help="Until then, exclusive.")] = "now",
    mode: Annotated[
        Mode, typer.Option(help="raw: every sample; minmax: the extremes of --points pixels; auto: whichever is fewer.")
    ] = Mode.raw,
    points: Annotated[int, typer.Option(min=10, max=100_000, help="Points of each tag that minmax and auto aim at.")] = 2000,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Samples at most, in all.", show_default=f"all; {SHOWN} in a table on the terminal")
    ] = None,
    format_: Annotated[
        Format | None,
        typer.Option("--format", help="json: a line a sample.", show_default="from the suffix of FILE; table on a terminal; csv"),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there, and not to stdout.")] = None,
    url: Url = None,
    token: Token = None,
) -> None:
    """Samples of tags between two times."""
    if not paths and not expr:
        raise typer.BadParameter("say which tags, or --expr", param_hint="PATH…")
    form = _format(format_, output)
    from historian.client import Client

    bounded = form is Format.table and limit is None
    with Client(url, token=token, retry_s=5.0) as client:
        most = SHOWN + 1 if bounded else limit
        batches = client.range_batches(paths or [], start, end, mode=mode.value, points=points, limit=most, expressions=expr or ())
        if form is Format.table:
            _show(list(batches), bounded)
        elif output is None:
            _write(batches, form, sys.stdout.buffer)
        else:
            _write_file(batches, form, output)


def _format(wanted: Format | None, output: Path | None) -> Format:
    """What to write. Raises BadParameter for what a terminal cannot show, or a file cannot be."""
    if wanted is None and output is not None:
        wanted = _SUFFIXES.get(output.suffix.lower())
        if wanted is None:
            raise typer.BadParameter(f"cannot tell the format from {output.name}: say --format", param_hint="--output")
    if wanted is None:
        return Format.table if sys.stdout.isatty() else Format.csv
    if output is None and wanted in (Format.arrow, Format.parquet) and sys.stdout.isatty():
        raise typer.BadParameter(f"{wanted.value} is not for a terminal: say --output FILE, or pipe it", param_hint="--format")
    if output is not None and wanted is Format.table:
        raise typer.BadParameter("a table is for the terminal; take csv", param_hint="--format")
    return wanted


def _show(batches: list[pa.RecordBatch], bounded: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from historian.cli.rows import quality_word, rows_of

    table = Table("tag", "time (UTC)", "value", "quality", box=None, header_style="bold", pad_edge=False)
    table.columns[2].justify = "right"
    rows = [row for batch in batches for row in rows_of(batch)]
    shown = rows[:SHOWN] if bounded else rows
    for row in shown:
        table.add_row(row.tag, row.time.replace("T", " ").removesuffix("Z"), row.shown, quality_word(row.quality))
    console = Console()
    console.print(table)
    if len(shown) < len(rows):
        typer.echo(f"the first {SHOWN} samples; all of them with --limit, or --output FILE", err=True)
    elif not rows:
        typer.echo("no samples", err=True)


def _write_file(batches: Iterator[pa.RecordBatch], form: Format, output: Path) -> None:
    """Whole or not at all: a file that is cut off must not stand under its name."""
    from historian.schema.errors import BadInput

    partial = output.with_name(f"{output.name}.partial")
    try:
        with partial.open("wb") as sink:
            _write(batches, form, sink)
        partial.replace(output)
    except OSError as error:
        raise BadInput(f"cannot write {output}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _write(batches: Iterator[pa.RecordBatch], form: Format, sink: BinaryIO) -> None:
    from historian.cli.rows import writer_of

    writer = writer_of(form.value, sink)
    for batch in batches:
        writer.write(batch)
    writer.finish()
    sink.flush()
