"""A notice on the live bus, at its place in the order."""

from __future__ import annotations

from dataclasses import dataclass

from historian.schema.ledger import Notice


@dataclass(frozen=True, slots=True)
class Entry:
    """Cursors grow from entry to entry, one at a time."""

    cursor: int
    notice: Notice
