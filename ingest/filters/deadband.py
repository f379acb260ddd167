"""Exception reporting: a value is sent when it has left the deadband around the last one that was sent, together with the one before it.

Promise. Held from one kept sample to the next, what was kept is within the deviation of every sample that came in; joined by straight lines it is within twice the
deviation. Two kept neighbours are no further apart than the maximum interval, unless there was no sample between them.
"""

from __future__ import annotations

from collections.abc import Iterable

from historian.ingest.filters.rows import Row, kept_over
from historian.ingest.filters.rules import Stage


class Deadband:
    """One tag. Holds back at most one sample: the newest, as long as nothing was sent after it."""

    __slots__ = ("_deviation", "_max_us", "_quality", "_ts", "_value", "held")

    def __init__(self, stage: Stage) -> None:
        self._deviation = stage.deviation
        self._max_us = stage.max_us
        self.held: Row | None = None
        self._ts = 0
        self._value = 0.0
        #: of the last one sent; -1: the next is sent whatever it is
        self._quality = -1

    def run(self, rows: Iterable[Row], dropped: list[int]) -> list[Row]:
        """Rows later than all before them; gives those to send. Messages of rows that others stand for from now on are added to `dropped`."""
        deviation, max_us = self._deviation, self._max_us
        held, last_ts, last, last_quality = self.held, self._ts, self._value, self._quality
        sent: list[Row] = []
        for row in rows:
            ts, value, quality, _, _, plain = row
            if plain and quality == last_quality:
                if ts - last_ts > max_us and held is not None:
                    sent.append(held)
                    last_ts, last, held = held[0], held[1], None
                if abs(value - last) <= deviation and ts - last_ts <= max_us:
                    if held is not None:
                        dropped.append(held[3])
                    held = row
                    continue
            if held is not None:
                sent.append(held)
                held = None
            sent.append(row)
            last_ts, last, last_quality = ts, value, quality if plain else -1
        self.held, self._ts, self._value, self._quality = held, last_ts, last, last_quality
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
        return sent

    def forget(self) -> None:
        """Send the next row whatever it is. Nothing may be held."""
        self._quality = -1
