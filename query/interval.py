"""The interval of a range query: how wide its buckets are, and where they begin.

Three sorts of intervals:

    fixed         so many µs, counted from 1970-01-01 00:00 UTC, or from `origin` after it: `10s`, `7h`, and `15m` or `8h` in UTC
    wall clock    hours and less that divide a day, in a zone that is not UTC: they begin at the same times of day every day, from `origin` on, so that the
                  one in which the clock is changed is longer or shorter. 8 h from 06:00 in Europe/Amsterdam are the shifts 06:00, 14:00, 22:00, and one
                  of 7 or 9 hours twice a year
    calendar      days, weeks (from Monday), months, years of the zone, each beginning at `origin` after midnight. Of several, `3mo`, the first ones are
                  those that 1970 began with: quarters

What begins at a time of day that the clock passes over begins when it does so. A time of day that comes twice is the first of the two; but an interval that
fits into the time that comes twice begins anew in the second, so that an hour has an hour.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC as _UTC
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from historian.schema.errors import BadInput, TooLarge
from historian.schema.samples import Int64s

Unit = Literal["us", "day", "week", "month", "year"]

_DAY_US = 86_400_000_000
_UNITS_US = {"us": 1, "ms": 1000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}
_CALENDAR: dict[str, Unit] = {"d": "day", "w": "week", "mo": "month", "y": "year"}
_TEXT = re.compile(r"(\d{1,15})(us|ms|mo|s|m|h|d|w|y)", re.ASCII)
#: about as long as one of them is, µs: no shorter than the shortest
_ROUGHLY_US: dict[Unit, int] = {"us": 1, "day": _DAY_US, "week": 7 * _DAY_US, "month": 28 * _DAY_US, "year": 365 * _DAY_US}
#: the times that there are span 130 years
_LONGEST_US = 150 * 366 * _DAY_US

#: buckets of a tag in one query
MAX_BUCKETS = 2_000_000

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
        count, unit = int(match[1]), _CALENDAR.get(match[2], "us")
        if unit == "us":
            count *= _UNITS_US[match[2]]
        if count * _ROUGHLY_US[unit] > _LONGEST_US:
            raise BadInput(f"interval {text.strip()} is longer than all time; leave it out for one bucket over the whole span")
        return cls(count, unit, zone, origin_us)

    @property
    def follows_wall_clock(self) -> bool:
        """Whether these hours, or parts of them, are those of the clocks in `zone`."""
        return self.unit == "us" and self.zone.key != "UTC" and _DAY_US % self.count == 0

    def edges(self, start: int, end: int) -> Int64s:
        """Where buckets begin (µs), ascending: the last at or before `start`, all in [start, end), and the first at or after `end`.

        The same whatever the span. Raises TooLarge where there are more than MAX_BUCKETS.
        """
        if (end - start) // (self.count * _ROUGHLY_US[self.unit]) > MAX_BUCKETS:
            raise TooLarge(
                f"more than {MAX_BUCKETS} buckets a tag; make the interval longer, or the span shorter: pieces of it give the same buckets"
            )
        if self.unit == "us" and not self.follows_wall_clock:
            first = (start - self.origin_us) // self.count * self.count + self.origin_us
            return np.arange(first, end + self.count, self.count, dtype=np.int64)
        shown = (us + _offset(self.zone, us) - self.origin_us for us in (start, end))
        local = self._local_edges(*shown) + self.origin_us
        edges = _Clock(self.zone, int(local[0]), int(local[-1])).utc(local, again=self.count if self.unit == "us" else None)
        return edges[np.searchsorted(edges, start, "right") - 1 : np.searchsorted(edges, end, "left") + 1]

    def _local_edges(self, start: int, end: int) -> Int64s:
        """Edges in the times of the zone's clocks, as if days began at midnight: from some before `start` to some after `end`."""
        if self.unit == "us":
            # whole days around it, since a clock that is put back shows some times again
            return np.arange((start // _DAY_US - 1) * _DAY_US, (end // _DAY_US + 2) * _DAY_US + 1, self.count, dtype=np.int64)
        if self.unit in ("day", "week"):
            # 1970-01-01 was a Thursday
            width, monday = (_DAY_US, 0) if self.unit == "day" else (7 * _DAY_US, 4 * _DAY_US)
            width *= self.count
            return np.arange(((start - monday) // width - 1) * width + monday, end + 2 * width + _DAY_US, width, dtype=np.int64)
        months = self.count * (1 if self.unit == "month" else 12)
        first, last = (int(np.int64(us).view("M8[us]").astype("M8[M]").astype(np.int64)) for us in (start, end))
        numbers = np.arange((first // months - 1) * months, last + 2 * months + 1, months, dtype=np.int64)
        return numbers.view("M8[M]").astype("M8[us]").view(np.int64)


class _Clock:
    """The clocks of a zone, at least from one time of its own to another (µs): when they are put forward or back, and how far they are ahead of UTC between that."""

    def __init__(self, zone: ZoneInfo, start: int, end: int) -> None:
        years = range(_datetime(start - 2 * _DAY_US).year, _datetime(end + 2 * _DAY_US).year + 1)
        changes = [change for year in years for change in _changes(zone, year)]
        self._at = np.array([at for at, _, _ in changes], np.int64)
        before = [before for _, before, _ in changes]
        # as it was before the first change, and after each
        self._offset = np.array([*before[:1], *(after for _, _, after in changes)] or [_offset(zone, start)], np.int64)

    def utc(self, local: Int64s, again: int | None) -> Int64s:
        """When the clocks show these times (ascending), ascending, each instant once. What they show twice is taken for the first time, and for both where it is
        part of a stretch of at least `again` µs that comes twice."""
        # of the stretches between two changes, the first that does not end before the time is shown
        stretch = np.searchsorted(self._at + self._offset[:-1], local, "right")
        begin = np.concatenate(([np.iinfo(np.int64).min], self._at))
        # what they pass over is when they do so
        first = np.maximum(local - self._offset[stretch], begin[stretch])
        if again is None:
            return np.unique(first)
        later = np.searchsorted(self._at + self._offset[1:], local, "right")
        twice = (later > stretch) & (self._offset[stretch] - self._offset[later] >= again)
        return np.unique(np.concatenate((first, local[twice] - self._offset[later[twice]])))


_EPOCH = datetime(1970, 1, 1, tzinfo=_UTC)
_STEP_S = 4 * 86_400


def _datetime(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)


def _offset(zone: ZoneInfo, us: int) -> int:
    """By how much the clocks are ahead of UTC at an instant, µs."""
    ahead = _datetime(us).astimezone(zone).utcoffset()
    return 0 if ahead is None else ahead // timedelta(microseconds=1)


@lru_cache(maxsize=4096)
def _changes(zone: ZoneInfo, year: int) -> tuple[tuple[int, int, int], ...]:
    """When the clocks of a zone are changed in a year (UTC): the instant, and the offsets before and after.

    zoneinfo does not tell. Found by looking every fourth day: since 1970 no two changes that undo each other are closer (around Ramadan in Morocco: 30 days).
    """
    begin, end = ((datetime(y, 1, 1, tzinfo=_UTC) - _EPOCH).days * 86_400 for y in (year, year + 1))
    found = []
    before = _offset(zone, begin * 1_000_000)
    for second in range(begin, end, _STEP_S):
        following = min(second + _STEP_S, end)
        after = _offset(zone, following * 1_000_000)
        if after != before:
            # the first second that does not show what was shown before
            at = bisect_right(range(second, following), 0, key=partial(_differs, zone, before)) + second
            found.append((at * 1_000_000, before, after))
        before = after
    return tuple(found)


def _differs(zone: ZoneInfo, offset: int, second: int) -> bool:
    return _offset(zone, second * 1_000_000) != offset


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
