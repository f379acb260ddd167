"""How much a spool takes, and what it says when it takes no more. Nothing is ever dropped to make room."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from historian.ingest.spool.disk import reason_of


@dataclass(frozen=True, slots=True)
class Limits:
    """max_bytes of all segments; max_age_s: how long the oldest batch may have waited for a new one to be taken. None for no limit."""

    max_bytes: int | None
    max_age_s: float | None

    def reached(self, directory: Path, held: int, more: int, oldest_us: int | None) -> str:
        """In words, why so many more bytes are not taken; empty if they are."""
        if self.max_bytes is not None and held + more > self.max_bytes:
            return f"the spool {directory} is full: it holds {held} of at most {self.max_bytes} bytes, and drops nothing to make room"
        if oldest_us is not None and self.max_age_s is not None and (age := time.time() - oldest_us / 1e6) > self.max_age_s:
            return f"the spool {directory} takes no more: its oldest batch has waited {age:.0f} s, of at most {self.max_age_s:g} s"
        return ""


def disk_words(directory: Path, error: OSError) -> str:
    """What is the matter with the disk."""
    return f"the spool {directory} cannot be written: {reason_of(error)}; what it holds stays, and nothing new is taken"
