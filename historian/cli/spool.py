"""`historian spool`: look at what a worker keeps on disk while its upstream is away, check it, and send it without that worker."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from historian.cli.options import Token, Url

if TYPE_CHECKING:
    from historian.ingest.spool.survey import Survey

app = typer.Typer(
    help="Look at, check and send what an ingest worker keeps on disk while its upstream is away.",
    no_args_is_help=True,
    epilog=(
        "DIR is that of a worker's --spool. A worker sends its spool by itself as soon as upstream is back: replay is for one that will not run again."
        "   ·   Exit codes: 0 done, 1 failed or damaged, 2 wrong usage, 130 interrupted"
    ),
)

Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="The worker's directory (its --spool), or the spool in it.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="As one JSON object.")]


@app.command("status", epilog="Example: historian spool status /var/lib/historian/line1")
def status(directory: Directory, json: Json = False) -> None:
    """Show what a spool holds. Changes nothing; the worker may run meanwhile."""
    _show(_survey(directory, decoding=False), json=json)


@app.command(
    "verify", epilog="Example: historian spool verify /var/lib/historian/line1   ·   Exit codes: 0 all is whole, 1 something is damaged"
)
def verify(directory: Directory, json: Json = False) -> None:
    """Read every batch, with its checksum and its samples. Changes nothing; the worker may run meanwhile."""
    found = _survey(directory, decoding=True)
    if json:
        _show(found, json=True)
    else:
        for words in found.damage:
            typer.echo(words)
        for path in found.kept:
            typer.echo(f"{path}: {path.stat().st_size} bytes that were found damaged earlier")
        if found.torn_bytes:
            typer.echo(
                f"the last {found.torn_bytes} bytes are no whole batch, as after a power cut; the worker cuts them off when it starts"
            )
        whole = f"{found.batches + found.done_batches} batches in {found.segments} segments are whole"
        damaged = len(found.damage) + len(found.kept)
        typer.echo(f"{whole}, {damaged} place{'s' * (damaged != 1)} damaged" if damaged else whole)
    if found.damage or found.kept:
        raise typer.Exit(1)


@app.command("replay", epilog="Example: historian spool replay /var/lib/historian/line1 --url https://historian.example")
def replay(
    directory: Directory,
    refused: Annotated[bool, typer.Option("--refused", help="Try those again that a server has refused before.")] = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Send all batches to a server, in order, as the worker would: each counts once, whoever sends it and how often. Refused while the worker runs."""
    from historian.cli.spool_replay import Replay
    from historian.ingest.spool.survey import find_spool

    run = Replay(find_spool(directory), url, token)
    try:
        run.send(again=refused)
    except KeyboardInterrupt:
        typer.echo(f"interrupted after {run.sent_batches} batches; the same command goes on from there", err=True)
        sys.exit(130)
    typer.echo(run.summary())
    if run.refused:
        raise typer.Exit(1)


def _survey(directory: Path, *, decoding: bool) -> Survey:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from historian.ingest.spool.survey import find_spool, survey

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Checking" if decoding else "Reading", total=None)
        return survey(
            find_spool(directory), decoding=decoding, on_bytes=lambda read, total: progress.update(task, completed=read, total=total)
        )


def _show(found: Survey, *, json: bool) -> None:
    if json:
        import orjson

        typer.echo(orjson.dumps(_document(found), option=orjson.OPT_INDENT_2).decode())
        return
    from historian.query.times import format_time

    holder = found.holder
    limits = [
        f"{holder.max_bytes / 1e6:,.0f} MB" if holder.max_bytes is not None else "no size limit",
        f"{holder.max_age_s:,.0f} s" if holder.max_age_s is not None else "no age limit",
    ]
    rows = [
        ("spool", str(found.directory)),
        ("producer", found.owner.producer),
        ("in use", f"by process {holder.pid}" if found.is_held else "no"),
        ("waiting", f"{found.batches} batches, {found.samples} samples"),
        ("size", f"{found.bytes / 1e6:,.1f} MB in {found.segments} segments"),
        ("limits", ", ".join(limits)),
        ("spooled", " to ".join(map(format_time, found.spooled_us)) if found.spooled_us else "nothing"),
        ("samples of", " to ".join(map(format_time, found.sample_us)) if found.sample_us else "none"),
        ("damage", "none"),
    ]
    damage = [*found.damage, *(f"{path.stat().st_size} bytes found damaged earlier are kept in {path}" for path in found.kept)]
    if found.torn_bytes:
        damage.append(
            f"the last {found.torn_bytes} bytes are no whole batch, as after a power cut; the worker cuts them off when it starts"
        )
    if damage:
        rows[-1:] = [("damage", damage[0]), *(("", words) for words in damage[1:])]
    for n, (seq, samples, reason) in enumerate(found.refused):
        rows.append(("" if n else "refused", f"batch {seq} of {samples} samples: {reason}"))
    for label, text in rows:
        typer.echo(f"{label:<12}{text}")


def _document(found: Survey) -> dict[str, Any]:
    from historian.query.times import format_time

    spooled, samples = found.spooled_us, found.sample_us
    return {
        "directory": str(found.directory),
        "producer": found.owner.producer,
        "instance": found.owner.instance,
        "pid": found.holder.pid if found.is_held else None,
        "batches": found.batches,
        "samples": found.samples,
        "done_batches": found.done_batches,
        "segments": found.segments,
        "bytes": found.bytes,
        "max_bytes": found.holder.max_bytes,
        "max_age_s": found.holder.max_age_s,
        "oldest_spooled": format_time(spooled[0]) if spooled else None,
        "newest_spooled": format_time(spooled[1]) if spooled else None,
        "oldest_sample": format_time(samples[0]) if samples else None,
        "newest_sample": format_time(samples[1]) if samples else None,
        "torn_bytes": found.torn_bytes,
        "damage": found.damage,
        "damaged_files": [str(path) for path in found.kept],
        "refused": [{"seq": seq, "samples": count, "reason": reason} for seq, count, reason in found.refused],
    }
