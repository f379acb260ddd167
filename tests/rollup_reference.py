"""What buckets ought to hold, from the samples themselves: plainly, one bucket at a time, without levels."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: level: seconds
LEVELS = {"1m": 60, "10m": 600, "1h": 3600, "6h": 21_600, "1d": 86_400}

#: what a level's row is compared by; times in µs
COLUMNS = f"""
tag_id, extract(epoch FROM bucket)::int8 * 1000000 AS bucket, count, good_count, bad_count,
{", ".join(f"COALESCE(historian.decimal_value({x}_mantissa, scale), {x}_value) AS {x}" for x in ("sum", "min", "max", "first", "last"))},
{", ".join(f"(extract(epoch FROM {x}_ts) * 1000000)::int8 AS {x}_ts" for x in ("min", "max", "first", "last"))},
(extract(epoch FROM COALESCE(start_ts, first_ts)) * 1000000)::int8 AS start_ts, (extract(epoch FROM COALESCE(end_ts, last_ts)) * 1000000)::int8 AS end_ts,
step_area, linear_area, COALESCE(known_s, extract(epoch FROM COALESCE(end_ts, last_ts) - COALESCE(start_ts, first_ts))::float8) AS known_s
"""
EXACT = (
    *("count", "good_count", "bad_count", "min", "max", "first", "last", "min_ts", "max_ts", "first_ts", "last_ts", "start_ts", "end_ts"),
)
#: sums of floats depend on their order in the last digits
CLOSE = ("sum", "step_area", "linear_area", "known_s")


@dataclass(frozen=True, slots=True)
class Row:
    """A sample of a numeric tag."""

    tag_id: int
    ts: int
    value: float
    quality: int


def expected(samples: Iterable[Row], seconds: int) -> dict[tuple[int, int], dict[str, Any]]:
    """By (tag_id, bucket in µs)."""
    width = seconds * 1_000_000
    buckets: defaultdict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in sorted(samples, key=lambda row: (row.tag_id, row.ts)):
        buckets[row.tag_id, row.ts // width * width].append(row)
    return {key: _bucket(rows) for key, rows in buckets.items()}


def _bucket(rows: list[Row]) -> dict[str, Any]:
    known = [row for row in rows if row.quality >= 64]
    least = min(known, key=lambda row: row.value, default=None)
    most = max(known, key=lambda row: row.value, default=None)
    step = linear = known_s = 0.0
    for row, following in itertools.pairwise(rows):
        if row.quality < 64:
            continue
        seconds = (following.ts - row.ts) / 1e6
        known_s += seconds
        step += row.value * seconds
        linear += (row.value if following.quality < 64 else (row.value + following.value) / 2) * seconds
    return {
        "count": len(rows),
        "good_count": sum(row.quality >= 192 for row in rows),
        "bad_count": len(rows) - len(known),
        "sum": math.fsum(row.value for row in known) if known else None,
        "min": least and least.value,
        "min_ts": least and least.ts,
        "max": most and most.value,
        "max_ts": most and most.ts,
        "first": known[0].value if known else None,
        "first_ts": known[0].ts if known else None,
        "last": known[-1].value if known else None,
        "last_ts": known[-1].ts if known else None,
        "start_ts": rows[0].ts,
        "end_ts": rows[-1].ts,
        "step_area": step,
        "linear_area": linear,
        "known_s": known_s,
    }


def assert_equal(
    found: Mapping[tuple[int, int], Mapping[str, Any]], wanted: Mapping[tuple[int, int], Mapping[str, Any]], where: str
) -> None:
    assert found.keys() == wanted.keys(), f"{where}: other buckets than there should be"
    for key, bucket in wanted.items():
        for name in EXACT:
            assert found[key][name] == bucket[name], (where, key, name, found[key][name], bucket[name])
        # of many large values that cancel out, little is exact
        scale = max(abs(bucket["min"] or 0), abs(bucket["max"] or 0), 1.0)
        for name in CLOSE:
            one, other = found[key][name], bucket[name]
            room = 1e-9 if name == "known_s" else 1e-9 * scale * max(1, bucket["count"], bucket["known_s"])
            same = one == other if one is None or other is None else abs(one - other) <= room
            assert same, (where, key, name, one, other)
