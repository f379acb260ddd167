"""How the samples lie on disk, in words: for `historian db chunks` and `historian db status`."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from historian.schema.chunks import Layout, Part

#: parts that are listed unless all are asked for
_LISTED = 20
_POLL_S = 0.5


def summary(found: Layout) -> list[tuple[str, str]]:
    """Label and text of a few lines."""
    parts = found.parts
    lines = [
        ("samples", f"{_count(len(parts), 'month' if found.chunking is None else 'chunk')}, {_size(sum(p.size_bytes for p in parts))}")
    ]
    for form in ("rowstore", "both", "columnstore"):
        some = [part for part in parts if part.form == form]
        if some and found.chunking is not None:
            each = found.bytes_a_sample(form)
            text = f"{len(some):,}, {_size(sum(part.size_bytes for part in some))}" + (f", {each:,.1f} bytes a sample" if each else "")
            lines.append((f"  {'rowstore and columnstore' if form == 'both' else form}", text))
        elif some and (each := found.bytes_a_sample(form)):
            lines.append(("", f"{each:,.1f} bytes a sample"))
    chunking = found.chunking
    if chunking is not None:
        from historian.schema.chunks import show_interval

        how = "chosen by hand" if chunking.by_hand else "follows the rate"
        recommended = f"; recommended {show_interval(chunking.recommended)}" if chunking.recommended is not None else ""
        lines.append(
            ("interval", f"{show_interval(chunking.interval)}, {how}{recommended}; converted after {show_interval(chunking.convert_after)}")
        )
        rate = chunking.rows_a_day
        lines.append(("rate", f"{rate:,.0f} samples a day ({rate / 86_400:,.1f} a second)" if rate else "not measured yet"))
        lines.append(("to do", _to_do(parts)))
    return lines


def _to_do(parts: tuple[Part, ...]) -> str:
    due = [part for part in parts if part.due]
    if not due:
        return "nothing"
    kinds = {
        "to convert": sum(part.form == "rowstore" for part in due),
        "with late samples": sum(part.form == "both" for part in due),
        "unordered": sum(part.unordered for part in due),
        "in small batches": sum(part.fragmented for part in due),
    }
    text = f"{_count(len(due), 'chunk')}: " + ", ".join(f"{n:,} {kind}" for kind, n in kinds.items() if n)
    problem = next((part for part in due if part.problem), None)
    return text + (f"; {problem.name} could not be converted: {problem.problem}" if problem is not None else "")


def document(found: Layout) -> dict[str, Any]:
    """The same for programs."""
    chunking = found.chunking
    return {
        "parts": len(found.parts),
        "size_bytes": sum(part.size_bytes for part in found.parts),
        "forms": {
            form: {
                "parts": sum(part.form == form for part in found.parts),
                "size_bytes": sum(part.size_bytes for part in found.parts if part.form == form),
                "bytes_a_sample": found.bytes_a_sample(form),
            }
            for form in ("rowstore", "both", "columnstore")
        },
        "due": [part.name for part in found.parts if part.due],
        "problems": {part.name: part.problem for part in found.parts if part.problem},
        "chunking": None
        if chunking is None
        else {
            "interval_s": chunking.interval.total_seconds(),
            "by_hand": chunking.by_hand,
            "recommended_s": chunking.recommended.total_seconds() if chunking.recommended is not None else None,
            "samples_a_day": chunking.rows_a_day,
            "convert_after_s": chunking.convert_after.total_seconds(),
        },
    }


def show(found: Layout, *, every: bool) -> None:
    """The summary, and the parts, the newest last."""
    for label, text in summary(found):
        typer.echo(f"{label:<28}{text}" if label.startswith("  ") else f"{label:<10}{text}")
    parts = found.parts if every else found.parts[-_LISTED:]
    if not parts:
        return
    typer.echo()
    if len(parts) < len(found.parts):
        typer.echo(f"the newest {len(parts)} of {len(found.parts):,}; --all shows them all")
    typer.echo(f"{'from':<18}{'to':<18}{'samples':>16}{'size':>12}{'bytes a sample':>16}  form")
    for part in parts:
        each = f"{part.size_bytes / part.rows:,.1f}" if part.rows else ""
        rows = f"{part.rows:,}" if part.rows is not None else "?"
        marks = [part.form, *(name for name in ("unordered", "fragmented", "due") if getattr(part, name))]
        line = (
            f"{part.start:%Y-%m-%d %H:%M}  {part.end:%Y-%m-%d %H:%M}  {rows:>16}{_size(part.size_bytes):>12}{each:>16}  {', '.join(marks)}"
        )
        typer.echo(line + (f": {part.problem}" if part.problem else ""))


def tend_now(dsn: str) -> None:
    """Convert and put right all that is due, with a bar on a terminal. Raises Unavailable, SchemaError."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from historian.schema.chunks import layout, tend

    total = sum(part.due for part in layout(dsn).parts)
    columns = (TextColumn("chunks"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        ThreadPoolExecutor(1) as worker,
        Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress,
    ):
        bar = progress.add_task("", total=total)
        job = worker.submit(tend, dsn)
        while wait_for([job], timeout=_POLL_S).not_done:
            # looking at chunks that were written to since may find more
            due = sum(part.due for part in layout(dsn).parts)
            total = max(total, due)
            progress.update(bar, total=total, completed=total - due)
        job.result()


def _size(size_bytes: int) -> str:
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:,.1f} {unit}"
    return f"{size_bytes / 1e3:,.1f} kB"


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
