"""What a range query asks, from what a caller gives to the parameters of `GET /v1/range`.

What makes no sense together is the server's to refuse, so that every interface says the same; here only what cannot be written down is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, time, timedelta, tzinfo
from typing import TypeAlias, TypedDict

from historian.client.times import Time, as_wire
from historian.query.range_query import Bounds, Mode
from historian.schema.catalogue import Tag
from historian.schema.errors import BadInput

__all__ = ["Bounds", "Interval", "Mode", "Origin", "RangeOptions", "Tags", "Zone", "names_of", "range_parameters", "zone_name"]

Tags: TypeAlias = str | Iterable[str | Tag]
#: text as `10s`, `15m`, `8h`, `1d`, `1w`, `1mo`, `1y`, of which days and longer ones are of the calendar; a timedelta is so many hours, whatever the calendar says
Interval: TypeAlias = str | timedelta
#: a zone by its IANA name, a ZoneInfo, or what else has such a name
Zone: TypeAlias = str | tzinfo
#: how long after midnight a day, a shift, … begins: `06:00`
Origin: TypeAlias = str | time | timedelta

_US = timedelta(microseconds=1)
_DAY = timedelta(days=1)


class RangeOptions(TypedDict, total=False):
    """What `range`, `range_batches` and `frame` take besides tags, start and end. docs/query.md tells of the modes."""

    #: `raw` where it is not said
    mode: Mode
    #: charts: so many pixel columns, or points, a tag; 2000
    points: int
    #: width of the buckets; none: one bucket, the whole span
    interval: Interval | None
    #: the zone of days, shifts and months; UTC
    tz: Zone | None
    #: when a day, a shift, … begins; midnight
    origin: Origin | None
    #: raw: `outside` brings the samples just outside the span too, `interpolated` values at its edges
    bounds: Bounds
    #: at, interpolated: these instants, instead of a span and an interval
    at: Time | Iterable[Time] | None
    #: calculated beside the tags, as in `["power: a/b/flow * 2"]`; docs/expressions.md
    expressions: Sequence[str]
    #: so many rows at most, in all
    limit: int | None
    #: seconds that the answer may take; none: as long as the server lets it
    timeout: float | None


def names_of(tags: Tags) -> list[str]:
    """Paths and wildcards. Raises BadInput for what is no text and no Tag."""
    names = [tags] if isinstance(tags, str) else [tag.path if isinstance(tag, Tag) else tag for tag in tags]
    for name in names:
        if not isinstance(name, str):
            raise BadInput(f"a tag is named by its path, not by a {type(name).__name__}")
    return names


def zone_name(zone: Zone) -> str:
    """The IANA name of a zone. Raises BadInput for one that has none: a fixed offset knows nothing of summer time."""
    if isinstance(zone, str):
        return zone
    # ZoneInfo has a `key`, pytz's zones have a `zone`
    name = getattr(zone, "key", None) or getattr(zone, "zone", None) or ("UTC" if zone is UTC else None)
    if not isinstance(name, str):
        raise BadInput(f"{zone} has no name; give a zone by its IANA name, as in Europe/Amsterdam, or as a ZoneInfo")
    return name


def range_parameters(tags: Tags, start: Time | None, end: Time, options: RangeOptions) -> list[tuple[str, str | int]]:
    """The parameters of the request. Raises BadInput for what is of no type that is told of above, and for no start where there are no instants."""
    return _parameters(names_of(tags), start, end, **options)


def _parameters(
    names: list[str],
    start: Time | None,
    end: Time,
    *,
    mode: Mode = "raw",
    points: int = 2000,
    interval: Interval | None = None,
    tz: Zone | None = None,
    origin: Origin | None = None,
    bounds: Bounds = "inside",
    at: Time | Iterable[Time] | None = None,
    expressions: Sequence[str] = (),
    limit: int | None = None,
    timeout: float | None = None,
) -> list[tuple[str, str | int]]:
    params: list[tuple[str, str | int]] = [*(("tag", name) for name in names), *(("expr", expression) for expression in expressions)]
    instants = _instants(at)
    if start is not None:
        params += [("start", as_wire(start)), ("end", as_wire(end))]
    elif not instants:
        raise BadInput("no start: give a time, or instants with at=")
    params += [("mode", mode), ("points", points)]
    if interval is not None:
        params.append(("interval", _interval(interval)))
    if tz is not None:
        params.append(("tz", zone_name(tz)))
    if origin is not None:
        params.append(("origin", _origin(origin)))
    if bounds != "inside":
        params.append(("bounds", bounds))
    params += [("at", instant) for instant in instants]
    if limit is not None:
        params.append(("limit", limit))
    if timeout is not None:
        params.append(("timeout", str(timeout)))
    return params


def _instants(at: Time | Iterable[Time] | None) -> list[int | str]:
    if at is None:
        return []
    # a single time has no elements, and a text is one
    return [as_wire(instant) for instant in at] if isinstance(at, Iterable) and not isinstance(at, str) else [as_wire(at)]


def _interval(interval: Interval) -> str:
    if isinstance(interval, str):
        return interval
    if not isinstance(interval, timedelta) or interval <= timedelta(0):
        raise BadInput(f"an interval is text, as in 15m or 1d, or a positive timedelta, not {interval!r}")
    return f"{interval // _US}us"


def _origin(origin: Origin) -> str:
    if isinstance(origin, str):
        return origin
    if isinstance(origin, time):
        seconds = (origin.hour * 60 + origin.minute) * 60 + origin.second
        exact = origin.microsecond == 0
    elif isinstance(origin, timedelta) and timedelta(0) <= origin < _DAY:
        seconds, rest = divmod(origin, timedelta(seconds=1))
        exact = not rest
    else:
        raise BadInput(f"origin is a time of day, as in 06:00, a datetime.time, or a timedelta of less than a day, not {origin!r}")
    if not exact:
        raise BadInput(f"origin is a time of day in whole seconds, not {origin!r}")
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
