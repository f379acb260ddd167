"""`historian query`: samples of some tags, or what a mode makes of them, as a table or sparklines on the terminal, as CSV in a pipe, or into a file."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from historian.cli.options import Token, Url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import tzinfo

    import pyarrow as pa

    from historian.client import Client
    from historian.client.ranges import RangeOptions

EPILOG = """[bold]Examples[/bold]

historian query acme/springfield/brewing/line1/reactor1/temperature

historian query 'acme/#' --start 2026-01-01 --end 2026-02-01 --output january.parquet

[bold]Charts[/bold]: auto, minmax, m4, lttb, in so many --points

historian query 'acme/+/brewing/line1/#' --start -8h --format spark

historian query 'acme/+/brewing/line1/#' --start -8h --mode minmax --points 500

[bold]Buckets[/bold]: first, avg, min, max, sum, count, stddev, range, delta, percent_good, twa, integral, total, duration, transitions, of an --interval

historian query 'acme/#' --start -7d --mode avg --interval 1h --wide

historian query acme/springfield/brewing/line1/reactor1/temperature --start -30d --mode twa --interval 8h --tz Europe/Amsterdam --origin 06:00

historian query 'acme/+/+/+/+/state' --start -1d --mode duration

[bold]Instants[/bold]: last, at, interpolated

historian query 'acme/#' --mode at --at 2026-01-01T06:00:00Z --at 2026-01-01T14:00:00Z

historian query 'acme/#' --start -1h --mode interpolated --interval 10s --format csv --wide

[bold]Expressions[/bold]: calculated of tags

historian query --expr 'spread: acme/springfield/brewing/line1/reactor1/jacket_temperature - acme/springfield/brewing/line1/reactor1/temperature'
"""

#: rows of a table on the terminal, where no --limit is given: nobody reads more, and a pipe has no such bound
SHOWN = 1000
#: samples that a wide table is made of, likewise
WIDE_SAMPLES = 1_000_000


class Mode(StrEnum):
    """As historian.query.range_query has them, which is too heavy for a --help."""

    RAW = "raw"
    AUTO = "auto"
    MINMAX = "minmax"
    M4 = "m4"
    LTTB = "lttb"
    LAST = "last"
    AT = "at"
    INTERPOLATED = "interpolated"
    FIRST = "first"
    AVG = "avg"
    MIN = "min"
    MAX = "max"
    SUM = "sum"
    COUNT = "count"
    STDDEV = "stddev"
    RANGE = "range"
    DELTA = "delta"
    PERCENT_GOOD = "percent_good"
    TWA = "twa"
    INTEGRAL = "integral"
    TOTAL = "total"
    DURATION = "duration"
    TRANSITIONS = "transitions"


class Bounds(StrEnum):
    INSIDE = "inside"
    OUTSIDE = "outside"
    INTERPOLATED = "interpolated"


class Format(StrEnum):
    TABLE = "table"
    SPARK = "spark"
    CSV = "csv"
    JSON = "json"
    NDJSON = "ndjson"
    ARROW = "arrow"
    PARQUET = "parquet"


_SUFFIXES = {".csv": Format.CSV, ".json": Format.JSON, ".jsonl": Format.JSON, ".ndjson": Format.NDJSON}
_SUFFIXES |= {".arrow": Format.ARROW, ".arrows": Format.ARROW, ".parquet": Format.PARQUET, ".pq": Format.PARQUET}


def query(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH…", help="Tag paths and wildcards, as in site/+/line1/#.", show_default=False)
    ] = None,
    expr: Annotated[
        list[str] | None,
        typer.Option(help="Calculate this too, as in 'power: a/b/flow * 2'. Any number.", metavar="EXPRESSION", show_default=False),
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="From then on: RFC 3339, or relative to now.", show_default="-1h, where there is no --at")
    ] = None,
    end: Annotated[str, typer.Option(help="Until then, exclusive.")] = "now",
    mode: Annotated[
        Mode | None,
        typer.Option(help="What to make of the samples; raw: nothing.", show_default="raw; auto for sparklines", metavar="MODE"),
    ] = None,
    interval: Annotated[
        str | None,
        typer.Option(help="Width of the buckets: 10s, 15m, 8h, 1d, 1w, 1mo, 1y.", metavar="INTERVAL", show_default="the whole span"),
    ] = None,
    tz: Annotated[
        str | None, typer.Option(help="Zone of days, shifts and months, and of the times of a table.", metavar="ZONE", show_default="UTC")
    ] = None,
    origin: Annotated[
        str | None, typer.Option(help="When a day or a shift begins, as in 06:00.", metavar="HH:MM", show_default="00:00")
    ] = None,
    at: Annotated[
        list[str] | None, typer.Option(help="Modes at and interpolated: at this instant, instead of a span. Any number.", metavar="TIME")
    ] = None,
    bounds: Annotated[
        Bounds, typer.Option(help="raw: outside brings the samples next to the span too; interpolated, values at its edges.")
    ] = Bounds.INSIDE,
    points: Annotated[int, typer.Option(min=10, max=100_000, help="Modes of charts: pixel columns, or points, of each tag.")] = 2000,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Rows at most, in all.", show_default=f"all; {SHOWN} in a table on the terminal")
    ] = None,
    format_: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="spark: a line of blocks a tag; json, ndjson: a line a sample.",
            show_default="from FILE's suffix; table on a terminal; csv",
        ),
    ] = None,
    wide: Annotated[bool, typer.Option("--wide", help="A column for each tag: table, csv, parquet.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there, and not to stdout.")] = None,
    url: Url = None,
    token: Token = None,
) -> None:
    """Samples of tags between two times, or what a mode makes of them: docs/query.md tells of each."""
    if not paths and not expr:
        raise typer.BadParameter("say which tags, or --expr", param_hint="PATH…")
    paths = paths or []
    form = _format(format_, output)
    if wide and form not in (Format.TABLE, Format.CSV, Format.PARQUET):
        raise typer.BadParameter(f"{form.value} has a row for each sample; --wide is for table, csv and parquet", param_hint="--wide")
    from historian.client import Client
    from historian.client.ranges import RangeOptions

    options = RangeOptions(mode=(mode or (Mode.AUTO if form is Format.SPARK else Mode.RAW)).value, points=points, bounds=bounds.value)
    if interval is not None:
        options["interval"] = interval
    if origin is not None:
        options["origin"] = origin
    if tz is not None and (interval is not None or origin is not None):
        options["tz"] = tz
    if expr:
        options["expressions"] = expr
    if limit is not None:
        options["limit"] = limit
    if at:
        options["at"] = at
    elif start is None:
        start = "-1h"
    with Client(url, token=token, retry_s=5.0) as client:
        if wide:
            _write_wide(client, paths, start, end, options, form, output, tz)
        elif form is Format.TABLE:
            _show(client, paths, start, end, options, tz)
        elif form is Format.SPARK:
            _draw(client, paths, start, end, options, tz)
        else:
            batches = client.range_batches(paths, start, end, **options)
            _into(output, lambda sink: _write(batches, form, sink))


def _format(wanted: Format | None, output: Path | None) -> Format:
    """What to write. Raises BadParameter for what a terminal cannot show, or a file cannot be."""
    if wanted is None and output is not None:
        wanted = _SUFFIXES.get(output.suffix.lower())
        if wanted is None:
            raise typer.BadParameter(f"cannot tell the format from {output.name}: say --format", param_hint="--output")
    if wanted is None:
        return Format.TABLE if sys.stdout.isatty() else Format.CSV
    if output is None and wanted in (Format.ARROW, Format.PARQUET) and sys.stdout.isatty():
        raise typer.BadParameter(f"{wanted.value} is not for a terminal: say --output FILE, or pipe it", param_hint="--format")
    if output is not None and wanted in (Format.TABLE, Format.SPARK):
        raise typer.BadParameter(f"{wanted.value} is for the terminal; take csv", param_hint="--format")
    return wanted


def _zone(tz: str | None) -> tzinfo:
    from historian.query.interval import parse_zone

    return parse_zone(tz or "UTC")


def _show(client: Client, paths: list[str], start: str | None, end: str, options: RangeOptions, tz: str | None) -> None:
    """A row for each sample; so many at most, where no limit is given."""
    from rich.console import Console
    from rich.table import Table

    from historian.cli.rows import quality_word, rows_of, shown_time

    zone = _zone(tz)
    bounded = options.get("limit") is None
    if bounded:
        options["limit"] = SHOWN + 1
    rows = [row for batch in client.range_batches(paths, start, end, **options) for row in rows_of(batch)]
    shown = rows[:SHOWN] if bounded else rows
    by_state = any(row.state is not None for row in shown)
    table = Table(
        "tag", f"time ({tz or 'UTC'})", *(["state"] if by_state else []), "value", "quality", box=None, header_style="bold", pad_edge=False
    )
    table.columns[-2].justify = "right"
    for row in shown:
        table.add_row(row.tag, shown_time(row.ts, zone), *([row.state or ""] if by_state else []), row.shown, quality_word(row.quality))
    Console().print(table)
    if len(shown) < len(rows):
        typer.echo(f"the first {SHOWN} samples; all of them with --limit, or --output FILE", err=True)
    elif not rows:
        typer.echo("no samples", err=True)


def _draw(client: Client, paths: list[str], start: str | None, end: str, options: RangeOptions, tz: str | None) -> None:
    import time

    from rich.console import Console
    from rich.text import Text

    from historian.cli.sparklines import BLOCKS, PLAIN_BLOCKS, Sparklines
    from historian.query.times import parse_time

    if start is None:
        raise typer.BadParameter("a sparkline has a span, and no instants", param_hint="--at")
    zone = _zone(tz)
    now = time.time_ns() // 1000
    sparklines = Sparklines(parse_time(start, now), parse_time(end, now))
    for batch in client.range_batches(paths, sparklines.start, sparklines.end, **options):
        sparklines.add(batch)
    console = Console(highlight=False)
    try:
        BLOCKS.encode(sys.stdout.encoding or "utf-8")
        blocks = BLOCKS
    except UnicodeEncodeError:
        blocks = PLAIN_BLOCKS
    for line in sparklines.lines(console.width, zone, blocks=blocks):
        quiet = "dim" if line.heading else ""
        text = Text.assemble((line.name, quiet), "  ", (line.spark, quiet or "green"), "  ", (line.figures, quiet))
        text.rstrip()
        console.print(text, no_wrap=True, overflow="crop", crop=False, soft_wrap=True)


def _write_wide(
    client: Client, paths: list[str], start: str | None, end: str, options: RangeOptions, form: Format, output: Path | None, tz: str | None
) -> None:
    """A column for each tag; by state, where a mode is, a column for each state of it."""
    from historian.cli import wide as wide_forms
    from historian.client.frames import Shape

    bounded = form is Format.TABLE and options.get("limit") is None
    if bounded:
        options["limit"] = WIDE_SAMPLES + 1
    table = client.range(paths, start, end, **options)
    if bounded and len(table) > WIDE_SAMPLES:
        typer.echo(f"of the first {WIDE_SAMPLES} samples, tag by tag; take a shorter span, an --interval, or --output FILE", err=True)
    shaped: RangeOptions = options.copy()
    shaped["tz"] = tz or "UTC"
    frame = Shape(options=shaped).frame(table)
    if form is Format.TABLE:
        if not wide_forms.show(frame, SHOWN):
            typer.echo(f"the first {SHOWN} of {len(frame)} rows; all of them with --output FILE", err=True)
    else:
        _into(output, lambda sink: wide_forms.write(frame, form.value, sink))


def _into(output: Path | None, write: Callable[[BinaryIO], None]) -> None:
    """Have it written to stdout, or into a file: whole or not at all, for a file that is cut off must not stand under its name."""
    from historian.schema.errors import BadInput

    if output is None:
        write(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    partial = output.with_name(f"{output.name}.partial")
    try:
        with partial.open("wb") as sink:
            write(sink)
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
