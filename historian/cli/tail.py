"""`historian tail`: the last samples of some tags, and then every one as it is committed."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from historian.cli.options import Token, Url
from historian.cli.tail_durable import Tailed

if TYPE_CHECKING:
    import pyarrow as pa

    from historian.client import Event

EPILOG = """[bold]Examples[/bold]

historian tail acme/springfield/brewing/line1/reactor1/temperature

historian tail 'acme/#' --from -1h --mode auto --points 100

historian tail 'acme/+/+/+/batch/#' --format json | jq .value

historian tail 'acme/#' --from -1h --durable lake --parquet /data/lake       each sample once, whatever is restarted; docs/pipelines.md

historian tail 'acme/#' --from now --durable alarms --format ndjson | ./alarms

historian tail 'acme/#' --format arrow > plant.arrows       Ctrl-C ends the stream as a whole one
"""


class TailFormat(StrEnum):
    lines = "lines"
    json = "json"
    ndjson = "ndjson"
    csv = "csv"
    arrow = "arrow"


class TailMode(StrEnum):
    raw = "raw"
    auto = "auto"
    minmax = "minmax"
    m4 = "m4"
    lttb = "lttb"


def tail(
    paths: Annotated[list[str], typer.Argument(metavar="PATH…", help="Tag paths and wildcards, as in site/+/line1/#.")],
    from_: Annotated[str, typer.Option("--from", metavar="TIME", help="Begin with the samples since then; 'now': only new ones.")] = "-1m",
    to: Annotated[str | None, typer.Option(metavar="TIME", help="End there.", show_default="Ctrl-C")] = None,
    mode: Annotated[
        TailMode, typer.Option(help="Of the past: every sample, or what a chart of --points needs of them. What follows is raw.")
    ] = TailMode.raw,
    points: Annotated[int, typer.Option(min=10, max=100_000, help="Points of each tag that charts aim at.")] = 2000,
    format_: Annotated[
        TailFormat, typer.Option("--format", help="json or ndjson: an object a line; arrow: an Arrow IPC stream.")
    ] = TailFormat.lines,
    durable: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Go on where the last one of this name stopped, after days too; --from counts the first time."),
    ] = None,
    parquet: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Into Parquet files there, each sample once; with --durable.", file_okay=False)
    ] = None,
    every: Annotated[float, typer.Option(min=0.1, max=86_400, metavar="SECONDS", help="A Parquet file is closed after so long.")] = 60.0,
    rows: Annotated[int, typer.Option(min=1, max=100_000_000, help="Or with so many rows, whichever is first.")] = 1_000_000,
    url: Url = None,
    token: Token = None,
) -> None:
    """Follow tags: the past since --from, then every sample as it is committed. A lost connection is opened again, and goes on where it stopped."""
    if durable is not None:
        if to is not None or mode is not TailMode.raw:
            raise typer.BadParameter("brings all samples: without --to and --mode", param_hint="--durable")
        _tail_durable(Tailed(tuple(paths), None if from_ == "now" else from_, durable, url, token), format_, parquet, every, rows)
        return
    if parquet is not None:
        raise typer.BadParameter("name a cursor with --durable: it tells where to go on", param_hint="--parquet")
    if format_ is TailFormat.arrow and sys.stdout.isatty():
        raise typer.BadParameter("arrow is not for a terminal: pipe it, or redirect it into a file", param_hint="--format")
    from historian.cli.rows import writer_of
    from historian.client import Batch, Client

    sink = sys.stdout.buffer
    writer = None if format_ is TailFormat.lines else writer_of(format_.value, sink)
    with (
        Client(url, token=token) as client,
        client.stream(paths, from_=None if from_ == "now" else from_, to=to, mode=mode.value, points=points) as stream,
    ):
        try:
            for event in stream.events():
                if not isinstance(event, Batch):
                    _tell(event)
                    continue
                if writer is None:
                    sink.write(_lines(event.samples))
                else:
                    writer.write(event.samples)
                sink.flush()
        except KeyboardInterrupt:
            # how one ends it: what has been written becomes whole
            if writer is not None:
                writer.finish()
                sink.flush()
            raise
        if writer is not None:
            writer.finish()
            sink.flush()


def _tail_durable(tailed: Tailed, format_: TailFormat, parquet: Path | None, every_s: float, rows: int) -> None:
    from historian.cli import tail_durable
    from historian.schema.cursors import check_name

    check_name(tailed.name)
    if parquet is not None:
        tail_durable.run(tailed, tail_durable.filed(parquet, tailed.name, every_s=every_s, rows=rows), _tell)
        return
    if format_ is TailFormat.arrow:
        raise typer.BadParameter("with --durable: lines, json, ndjson or csv, or --parquet", param_hint="--format")
    from historian.cli.rows import writer_of

    sink = sys.stdout.buffer
    writer = None if format_ is TailFormat.lines else writer_of(format_.value, sink)

    def write(batch: pa.RecordBatch) -> None:
        if writer is None:
            sink.write(_lines(batch))
        else:
            writer.write(batch)
        sink.flush()

    tail_durable.run(tailed, tail_durable.Printed(write), _tell)


def _lines(batch: pa.RecordBatch) -> bytes:
    import pyarrow.compute as pc

    from historian.cli.rows import quality_word, rows_of

    lines = []
    # history comes tag by tag; who reads along thinks in time
    for row in rows_of(batch.take(pc.sort_indices(batch.column("ts")))):
        quality = "" if row.quality == 192 else f"  {quality_word(row.quality)}"
        lines.append(f"{row.time:<27}  {row.tag}  {row.shown}{quality}\n")
    return "".join(lines).encode()


def _tell(event: Event) -> None:
    """On stderr: stdout has samples and nothing else."""
    from historian.client import Added, Gap, Live, Lost, Opened

    match event:
        case Opened(tags, resumed):
            if not tags:
                typer.echo("no tag matches yet; those that are made later come too", err=True)
            elif resumed is not None:
                typer.echo("connected again", err=True)
        case Added(tags):
            typer.echo(f"new: {', '.join(tag.path for tag in tags[:5])}{f' and {len(tags) - 5} more' if len(tags) > 5 else ''}", err=True)
        case Live():
            if sys.stderr.isatty():
                typer.echo("── live ──", err=True)
        case Gap(start, end, reason):
            typer.echo(f"gap from {start.isoformat()} to {end.isoformat()} ({reason})", err=True)
        case Lost(reason):
            typer.echo(f"connection lost: {reason}; trying again", err=True)
