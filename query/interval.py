"""The interval of a range query: how wide its buckets are, and where they begin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from historian.schema.errors import BadInput
from historian.schema.samples import Int64s

Unit = Literal["us", "day", "week", "month", "year"]

_UNITS_US = {"us": 1, "ms": 1000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}
_CALENDAR: dict[str, Unit] = {"d": "day", "w": "week", "mo": "month", "y": "year"}
_TEXT = re.compile(r"(\d{1,15})(us|ms|mo|s|m|h|d|w|y)", re.ASCII)


UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class Interval:
    """`count` units. `us` counts microseconds; the others are of the calendar of `zone`, and so have the length that the calendar gives them.

    `origin_us`: how long after midnight (of `zone`) a day, a shift, … begins, µs.
    """

    count: int
    unit: Unit = "us"
    zone: ZoneInfo = UTC
    origin_us: int = 0

    @classmethod
    def parse(cls, text: str, zone: ZoneInfo, origin_us: int = 0) -> Interval:
        """From `10s`, `250ms`, `15m`, `8h`, `1d`, `1w`, `1mo`, `1y`. Raises BadInput."""
        match = _TEXT.fullmatch(text.strip())
        if match is None or not int(match[1]):
            raise BadInput(f"no interval: {text[:40]!r}; an interval is a number and a unit, as in 250ms, 10s, 15m, 8h, 1d, 1w, 1mo, 1y")
        count, unit = int(match[1]), match[2]
        if unit in _CALENDAR:
            return cls(count, _CALENDAR[unit], zone, origin_us)
        return cls(count * _UNITS_US[unit], "us", zone, origin_us)

    def edges(self, start: int, end: int) -> Int64s:
        """Where buckets begin (µs), ascending: the last at or before `start`, all in [start, end), and the first at or after `end`."""
        if self.unit != "us":
            raise BadInput("intervals of the calendar are not there yet")
        first = (start - self.origin_us) // self.count * self.count + self.origin_us
        return np.arange(first, end + self.count, self.count, dtype=np.int64)


def parse_zone(name: str) -> ZoneInfo:
    """A time zone by its IANA name. Raises BadInput."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadInput(f"no time zone: {name[:60]!r}; zones have IANA names, as in Europe/Amsterdam") from None


def parse_origin(text: str) -> int:
    """How long after midnight, µs: `06:00`, `06:00:30`. Raises BadInput."""
    match = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?", text.strip(), re.ASCII)
    if match is None:
        raise BadInput(f"origin is a time of day, as in 06:00, not {text[:40]!r}")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((hours * 60 + minutes) * 60 + seconds) * 1_000_000
