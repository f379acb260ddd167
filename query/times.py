"""Times as people and programs write them, and as this program keeps them: integer microseconds since 1970 UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from historian.schema.errors import BadInput

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)

#: the times that samples may have, µs: 1970 up to 2100
EARLIEST = 0
LATEST = (datetime(2100, 1, 1, tzinfo=UTC) - _EPOCH) // _US

_UNIT_US = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 604_800_000_000}
_RELATIVE = re.compile(r"(?:now)?([+-])(\d{1,12})([smhdw])", re.ASCII)
# RFC 3339, and what is often left out of it: the seconds, the offset (then it is UTC), the whole time of day
_ABSOLUTE = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,18}))?)?(?:([Zz])|([+-]\d\d:\d\d))?)?",
    re.ASCII,
)


def parse_time(value: str | int, now_us: int) -> int:
    """Microseconds since 1970 UTC.

    Takes RFC 3339 with any offset (`2026-01-01T00:00:00.5+01:00`; UTC where there is none; a date is its midnight; digits beyond the microsecond are cut
    off), integer microseconds as a number or as digits, and times relative to `now_us`: `now`, `-90s`, `-15m`, `now-1h`, `-7d`, `now+1w`.
    Raises BadInput, with the text, for anything else and for times before 1970 or after 2100-01-01.
    """
    us = _parsed(value, now_us)
    if not EARLIEST <= us <= LATEST:
        raise BadInput(f"time {_shown(value)} lies outside 1970 to 2100")
    return us


def _parsed(value: str | int, now_us: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise BadInput(f"a time is text or an integer, not {type(value).__name__}")
    text = value.strip()
    if text == "now":
        return now_us
    if text.isascii() and text.isdigit():
        # more digits than any time has; int() would take its time over a million of them
        return int(text[:20])
    if match := _RELATIVE.fullmatch(text):
        sign, count, unit = match.groups()
        return now_us + int(sign + count) * _UNIT_US[unit]
    if match := _ABSOLUTE.fullmatch(text):
        return _absolute(match, value)
    hint = "; a + in an address is written %2B" if re.search(r"\d \d\d:\d\d$", text) else ""
    raise BadInput(f"no time: {_shown(value)}; a time is RFC 3339, integer microseconds since 1970, or relative to now, as in -15m{hint}")


def _absolute(match: re.Match[str], value: str) -> int:
    day, clock, seconds, fraction, _, offset = match.groups()
    # a leap second is taken for the first instant behind it, which is what clocks make of it
    leap = seconds == "60"
    try:
        moment = datetime.fromisoformat(f"{day}T{clock or '00:00'}:{'59' if leap else seconds or '00'}{offset or '+00:00'}")
    except ValueError as error:
        raise BadInput(f"no time: {_shown(value)}: {error}") from None
    us = (moment - _EPOCH) // _US
    return us + 1_000_000 if leap else us + int((fraction or "0")[:6].ljust(6, "0"))


def _shown(value: str | int) -> str:
    text = (
        str(value)
        if isinstance(value, int) and abs(value) < 10**20
        else repr(value)[:60]
        if isinstance(value, str)
        else "of so many digits"
    )
    return text


def format_time(us: int) -> str:
    """RFC 3339 in UTC: `2026-01-01T00:00:00Z`, with six digits of a second where they are not all zero."""
    return (_EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")
