"""Times as callers give them, and as the server takes them.

A time without a zone is refused: whether it means UTC or the plant's local time is not to be guessed, and an hour's error goes unnoticed for months.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from time import time_ns
from typing import Any, TypeAlias

from historian.schema.errors import BadInput

#: an aware datetime or pandas Timestamp, integer microseconds since 1970 UTC, or text: RFC 3339 (`2026-01-01T00:00:00Z`) or relative to now (`now`, `-1h`)
Time: TypeAlias = datetime | int | str

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def as_us(time: Any) -> int:
    """Microseconds since 1970 UTC of an aware datetime, a pandas Timestamp (its nanoseconds are cut off), or an integer. Raises BadInput for others."""
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise BadInput(f"{time.isoformat()} has no time zone: give datetime(…, tzinfo=timezone.utc), or pandas' .tz_localize(zone)")
        since = time - EPOCH
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    if isinstance(time, bool) or not hasattr(time, "__index__"):
        raise BadInput(f"a time is an aware datetime, integer microseconds since 1970 UTC, or text, not {type(time).__name__}")
    return int(time.__index__())


def of_us(us: int | str) -> datetime:
    """Microseconds since 1970 UTC as a datetime; 1970 for what no datetime can be."""
    try:
        return EPOCH + timedelta(microseconds=int(us))
    except (OverflowError, ValueError):
        return EPOCH


def now() -> datetime:
    return of_us(time_ns() // 1000)


def as_wire(time: Time) -> int | str:
    """As a message or parameter has it: text stays, and the server judges it. Raises BadInput."""
    return time if isinstance(time, str) else as_us(time)
