"""What `historian import` shows while it runs: a progress bar on a terminal, else a line a file; and the sum at the end."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from historian.ingest.files import Plan

#: where there is no bar: how often a line says how far a large file is
_LINE_S = 10.0


@dataclass(slots=True)
class Outcome:
    """Of one file: samples that stood before, and that were sent by this run. `replayed` had been committed by a run that was not told so."""

    plan: Plan
    stood: int
    new: int = 0
    replayed: int = 0


class _Rate(ProgressColumn):
    """Samples a second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total == 1 or not task.speed else f"{task.speed:,.0f} samples/s", style="progress.data.speed")


class Reporter:
    """The bar goes to stderr, lines about files to stdout."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._has_bar = console.is_terminal
        self._task: TaskID | None = None
        self._files = (0, 1)
        self._began = self._told = time.monotonic()
        self._outcomes: list[Outcome] = []
        self._sending = False

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._progress.stop()

    def looking(self, path: Path, number: int, count: int) -> None:
        """A file, of so many, is looked through now."""
        self._files = (number, count)
        if self._task is None:
            self._task = self._progress.add_task("", total=1)
        self._progress.update(self._task, description=f"Checking {path.name}", completed=number / count)

    def looked(self, fraction: float) -> None:
        """So much of that file has been seen."""
        number, count = self._files
        assert self._task is not None
        self._progress.update(self._task, completed=(number + fraction) / count)

    def sending(self, samples: int) -> None:
        """All files are good; so many samples there are."""
        self._sending = True
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task("Importing", total=max(samples, 1))

    def begun(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        assert self._task is not None
        if outcome.stood:
            # not by `advance`: what stood is no part of the rate
            task = self._progress.tasks[-1]
            self._progress.reset(self._task, completed=int(task.completed) + outcome.stood, total=task.total)
        self._progress.update(self._task, description=f"Importing {outcome.plan.path.name}")

    def sent(self, outcome: Outcome, samples: int, *, new: bool) -> None:
        """A chunk is committed."""
        if new:
            outcome.new += samples
        else:
            outcome.replayed += samples
        assert self._task is not None
        self._progress.advance(self._task, samples)
        now = time.monotonic()
        if not self._has_bar and now - self._told >= _LINE_S:
            self._told = now
            there = outcome.stood + outcome.new + outcome.replayed
            rate = sum(o.new for o in self._outcomes) / (now - self._began)
            typer.echo(f"{outcome.plan.path}: {there} of {outcome.plan.samples} samples ({rate:,.0f}/s)")

    def ended(self, outcome: Outcome) -> None:
        """The file is imported."""
        plan = outcome.plan
        if not outcome.new:
            what = "already imported" if plan.samples else "no samples"
        elif outcome.new < plan.samples:
            what = f"imported ({outcome.new} new)"
        else:
            what = "imported"
        notes = "".join(f"; {note}" for note in plan.notes)
        if not self._has_bar or notes:
            self._say(f"{plan.path}: {plan.samples} samples of {len(plan.tags)} tags {what}{notes}")

    def _say(self, line: str) -> None:
        if self._has_bar:
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            typer.echo(line)
            sys.stdout.flush()

    def interrupted(self) -> None:
        """Ctrl-C."""
        self._progress.stop()
        typer.echo(
            "interrupted; the same command goes on where this one stopped" if self._sending else "interrupted; nothing was sent", err=True
        )

    def summary(self) -> str:
        """What has come of it all, in a line."""
        plans = [outcome.plan for outcome in self._outcomes]
        samples, new = sum(plan.samples for plan in plans), sum(outcome.new for outcome in self._outcomes)
        tags = len({tag for plan in plans for tag in plan.tags})
        seconds = time.monotonic() - self._began
        added = f"{new} new" if new else "already imported, none new"
        return f"{len(plans)} file{'s' * (len(plans) != 1)}, {samples} samples ({added}), {tags} tags, {seconds:.1f} s" + (
            f", {new / seconds:,.0f} samples/s" if new and seconds >= 0.1 else ""
        )
