"""Compression by the swinging door: of samples that lie along a straight line, its two ends are kept.

From the last kept sample a door opens to each newer one: the slopes of all lines that pass it within the deviation. A sample whose own line fits through the doors
of all before it can stand for them, and is held as the end of the line; one that does not fit makes the held one final, and the next line begins there.

Promise. Joined by straight lines, what was kept is within the deviation of every sample that came in (but for rounding in the last digits). The original rule of
1987 tests whether the doors are still open, and not whether the line to the held sample goes through them: it can be off by more. Two kept neighbours are no
further apart than the maximum interval, unless there was no sample between them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from historian.ingest.filters.rows import Row, kept_over
from historian.ingest.filters.rules import Stage

# no infinity: a slope that overflows never fits
_STEEPEST = sys.float_info.max


class SwingingDoor:
    """One tag. Holds back at most one sample: the newest."""

    __slots__ = ("_deviation", "_high", "_low", "_max_us", "_quality", "_ts", "_value", "held")

    def __init__(self, stage: Stage) -> None:
        self._deviation = stage.deviation
        self._max_us = stage.max_us
        self.held: Row | None = None
        self._ts = 0
        self._value = 0.0
        #: of the last one kept; -1: the next is kept whatever it is
        self._quality = -1
        self._low = -_STEEPEST
        self._high = _STEEPEST

    def run(self, rows: Iterable[Row], dropped: list[int]) -> list[Row]:
        """Rows later than all before them; gives those to send. Messages of rows that others stand for from now on are added to `dropped`."""
        deviation, max_us = self._deviation, self._max_us
        held, last_ts, last, last_quality = self.held, self._ts, self._value, self._quality
        low, high = self._low, self._high
        sent: list[Row] = []
        for row in rows:
            ts, value, quality, _, _, plain = row
            if plain and quality == last_quality:
                span = ts - last_ts
                rise = value - last
                if held is not None and (span > max_us or not low <= rise / span <= high):
                    sent.append(held)
                    last_ts, last, held = held[0], held[1], None
                    low, high = -_STEEPEST, _STEEPEST
                    span = ts - last_ts
                    rise = value - last
                if span <= max_us and -_STEEPEST <= rise / span <= _STEEPEST:
                    if held is not None:
                        dropped.append(held[3])
                    held = row
                    lowest, highest = (rise - deviation) / span, (rise + deviation) / span
                    if lowest > low:
                        low = lowest
                    if highest < high:
                        high = highest
                    continue
            if held is not None:
                sent.append(held)
                held = None
            sent.append(row)
            last_ts, last, last_quality = ts, value, quality if plain else -1
            low, high = -_STEEPEST, _STEEPEST
        self.held, self._ts, self._value, self._quality = held, last_ts, last, last_quality
        self._low, self._high = low, high
        return sent

    def end_batch(self) -> None:
        if self.held is not None:
            self.held = kept_over(self.held)

    def flush(self) -> list[Row]:
        """The held row, which counts as sent."""
        if self.held is None:
            return []
        sent = [self.held]
        self._ts, self._value, self.held = self.held[0], self.held[1], None
        self._low, self._high = -_STEEPEST, _STEEPEST
        return sent

    def forget(self) -> None:
        """Send the next row whatever it is. Nothing may be held."""
        self._quality = -1
