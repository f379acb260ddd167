"""What a supervisor starts a worker with; handed over pickled, from a process to one that it has made."""

from __future__ import annotations

from dataclasses import dataclass

from historian.settings import Settings


@dataclass(frozen=True, slots=True)
class Start:
    """`listening` is the number of a descriptor that the worker inherits."""

    number: int
    dsn: str
    settings: Settings
    listening: int
    verbose: bool
