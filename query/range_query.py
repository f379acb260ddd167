"""What a range query asks: values that travel from the interfaces to the readers of the modes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from historian.query.interval import Interval
from historian.schema.catalogue import Tag

Mode = Literal[
    "raw",
    # charts: so many `points`
    "auto",
    "minmax",
    "m4",
    "lttb",
    # the value at instants
    "last",
    "at",
    "interpolated",
    # buckets of an `interval`, or one over the whole span
    "first",
    "avg",
    "min",
    "max",
    "sum",
    "count",
    "stddev",
    "range",
    "delta",
    "percent_good",
    "twa",
    "integral",
    "total",
    "duration",
    "transitions",
]

#: of the backfill of a stream
StreamMode = Literal["raw", "minmax", "m4", "lttb", "auto"]

#: in which the backfill of a stream goes through time
StreamOrder = Literal["oldest", "newest"]

Bounds = Literal["inside", "outside", "interpolated"]


@dataclass(frozen=True, slots=True)
class RangeQuery:
    """Samples of `tags` in [start, end) (µs), or what `mode` makes of them.

    `points`      charts: pixel columns or points that each tag gets at most, as the mode has it
    `limit`       at most so many samples in all
    `interval`    width of the buckets; None: one bucket, the whole span
    `bounds`      raw: whether the samples just outside the span come too (`outside`), or values interpolated at its edges (`interpolated`)
    `at`          at, interpolated: these instants (µs, ascending), instead of an interval
    """

    tags: Sequence[Tag]
    start: int
    end: int
    mode: Mode = "raw"
    points: int = 2000
    limit: int | None = None
    interval: Interval | None = None
    bounds: Bounds = "inside"
    at: tuple[int, ...] = ()
