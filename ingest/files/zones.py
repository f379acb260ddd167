"""Local times of a zone as UTC, a column at a time, with those named that do not exist or that the clock ran through twice.

The rules come from Python's zoneinfo (and the tzdata package): Arrow's own need a zone database of the system, which slim images do not have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from historian.schema.errors import BadInput
from historian.schema.samples import Bools, Int64s

_US = 1_000_000
_FIRST = datetime(1969, 12, 30, tzinfo=UTC)
_LAST = datetime(2100, 1, 3, tzinfo=UTC)
#: no zone changes its offset twice within it
_PROBE = timedelta(days=4)


@dataclass(frozen=True, slots=True, eq=False)
class Zone:
    """A zone from 1970 to 2100 as periods of one offset: period n is the local time [begin[n], end[n]), µs, `offset[n]` µs ahead of UTC."""

    name: str
    begin: Int64s
    end: Int64s
    offset: Int64s

    def to_utc(self, local: Int64s) -> tuple[Int64s, Bools, Bools]:
        """UTC µs; which of the times do not exist; which are ambiguous (those are taken for the second of the two)."""
        period = np.clip(np.searchsorted(self.begin, local, side="right") - 1, 0, None)
        missing = local >= self.end[period]
        twice = (period > 0) & (local < self.end[np.clip(period - 1, 0, None)])
        return local - self.offset[period], missing, twice


@lru_cache(maxsize=8)
def zone(name: str) -> Zone:
    """The zone of an IANA name, or of a fixed offset such as `+01:00`. Raises BadInput."""
    fixed = re.fullmatch(r"([+-])(\d\d):?(\d\d)", name.strip())
    if fixed:
        minutes = int(fixed[2]) * 60 + int(fixed[3])
        if int(fixed[3]) >= 60 or minutes > 18 * 60:
            raise BadInput(f"{name!r} is no offset that a zone has")
        return _of(name, [0], [(-1 if fixed[1] == "-" else 1) * minutes * 60])
    try:
        rules = ZoneInfo(name.strip())
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadInput(f"there is no time zone {name!r}; it is a name as Europe/Berlin, or an offset as +01:00") from None
    begin, offsets = [int(_FIRST.timestamp())], [_offset(rules, _FIRST)]
    at = _FIRST
    while at < _LAST:
        following = at + _PROBE
        if _offset(rules, following) != offsets[-1]:
            before, after = at, following
            while after - before > timedelta(seconds=1):
                middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
                before, after = (middle, after) if _offset(rules, middle) == offsets[-1] else (before, middle)
            begin.append(int(after.timestamp()))
            offsets.append(_offset(rules, following))
        at = following
    return _of(name, begin, offsets)


def _offset(rules: ZoneInfo, at: datetime) -> int:
    offset = at.astimezone(rules).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


def _of(name: str, begin: list[int], offsets: list[int]) -> Zone:
    offset = np.array(offsets, np.int64) * _US
    starts = np.array(begin, np.int64) * _US
    # before the first and after the last period the same rules hold: those times are refused elsewhere
    local_begin = starts + offset
    local_end = np.append(starts[1:], np.iinfo(np.int64).max - 10**15) + offset
    return Zone(name, local_begin, local_end, offset)
