"""Buckets as columns: what the samples of a stretch of time come to, for many tags and stretches at once.

A bucket knows what lies between its first and its last sample, the areas under the line included; so of neighbouring buckets, made from samples or read from a
rollup, a greater one can be made without the samples. "Known" are samples that are not bad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from historian.schema.samples import GOOD, UNCERTAIN, Bools, Floats, Int16s, Int32s, Int64s, Samples

#: stands for a time that there is not
NO_TIME = int(np.iinfo(np.int64).min)
#: stands for the quality of a sample, where that is not known
NO_QUALITY = -1

_US = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """Columns of equal length; a row for each tag and bucket that has samples.

    tag_id, start                        whose it is, and when it begins (µs)
    count, good_count, bad_count         samples of any quality, of 192 and more, of less than 64; what is left is uncertain
    sum, min, max, first, last           of the known samples: NaN where there are none. NaN too for a sum that is not known, and all of text
    min_ts, max_ts, first_ts, last_ts    when (µs); of equal ones the earliest. NO_TIME where there is none
    start_ts, end_ts                     the first and the last sample of any quality
    step_area, linear_area               integral over [start_ts, end_ts] (value × s), each value held, or along the line; NaN where it is not known
    known_s                              the seconds of [start_ts, end_ts] for which there is a value

    and, None where they are not made (no rollup has them):
    start_quality, end_quality           of the samples at start_ts and end_ts; NO_QUALITY where it is not known
    good_s                               as known_s, for values of quality 192 and more; NaN where it is not known
    squares                              the sum of the squared deviations from the mean
    """

    tag_id: Int32s
    start: Int64s
    count: Int64s
    good_count: Int64s
    bad_count: Int64s
    sum: Floats
    min: Floats
    max: Floats
    first: Floats
    last: Floats
    min_ts: Int64s
    max_ts: Int64s
    first_ts: Int64s
    last_ts: Int64s
    start_ts: Int64s
    end_ts: Int64s
    step_area: Floats
    linear_area: Floats
    known_s: Floats
    start_quality: Int16s | None = None
    end_quality: Int16s | None = None
    good_s: Floats | None = None
    squares: Floats | None = None

    def __len__(self) -> int:
        return len(self.tag_id)

    @property
    def known_count(self) -> Int64s:
        return self.count - self.bad_count

    @classmethod
    def empty(cls) -> Buckets:
        i, f = np.empty(0, np.int64), np.empty(0, np.float64)
        return cls(np.empty(0, np.int32), i, i, i, i, f, f, f, f, f, i, i, i, i, i, i, f, f, f)

    def take(self, index: Int64s | Bools) -> Buckets:
        """The rows at these positions, or where this mask is true."""
        columns: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        taken: dict[str, Any] = {name: None if column is None else column[index] for name, column in columns.items()}
        return Buckets(**taken)

    def start_value(self) -> Floats:
        """The value at start_ts, NaN where that sample is bad."""
        return np.where(self.start_ts == self.first_ts, self.first, np.nan)

    def end_value(self) -> Floats:
        """The value at end_ts, NaN where that sample is bad."""
        return np.where(self.end_ts == self.last_ts, self.last, np.nan)


def concat_buckets(parts: Sequence[Buckets]) -> Buckets:
    """All rows of the parts, in their order."""
    parts = [part for part in parts if len(part)]
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Buckets.empty()
    columns: dict[str, Any] = {}
    for field in fields(Buckets):
        of_parts = [getattr(part, field.name) for part in parts]
        made = [column for column in of_parts if column is not None]
        missing = NO_QUALITY if field.name.endswith("_quality") else np.nan
        columns[field.name] = (
            np.concatenate(
                [
                    np.full(len(part), missing, made[0].dtype) if column is None else column
                    for part, column in zip(parts, of_parts, strict=True)
                ]
            )
            if made
            else None
        )
    return Buckets(**columns)


def buckets_of(samples: Samples, edges: Int64s, *, areas: bool = True, squares: bool = False) -> Buckets:
    """What samples come to between these edges (µs, ascending): for each tag a bucket [edges[i], edges[i + 1]) wherever it has a sample.

    `samples` are ordered by (tag_id, ts) and all in [edges[0], edges[-1]). `areas`, `squares`: whether areas and times, and squares, are made: else they are NaN.
    """
    n = len(samples)
    if not n:
        return Buckets.empty()
    ts, quality = samples.ts, samples.quality
    place = np.searchsorted(edges, ts, "right") - 1
    starts = _starts((samples.tag_id[1:] != samples.tag_id[:-1]) | (place[1:] != place[:-1]))
    ends = np.append(starts[1:], n)
    lengths = ends - starts
    bad = quality < UNCERTAIN
    no_number = np.isnan(samples.value)
    if no_number.any():
        bad |= no_number if samples.text is None else no_number & samples.text.is_null().to_numpy(zero_copy_only=False)
    some_bad = bool(bad.any())
    bad_count = np.add.reduceat(bad, starts, dtype=np.int64) if some_bad else np.zeros(len(starts), np.int64)
    known = lengths > bad_count
    # positions of the first and last known sample; of buckets without any, of some sample
    if some_bad:
        rows = np.arange(n)
        first = np.where(known, np.minimum.reduceat(np.where(bad, n, rows), starts), starts)
        last = np.where(known, np.maximum.reduceat(np.where(bad, -1, rows), starts), starts)
    else:
        first, last = starts, ends - 1
    value = np.where(bad, 0.0, samples.value) if some_bad else samples.value
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.add.reduceat(value, starts)
    least, least_at = _extreme(samples.value, bad if some_bad else None, starts, lengths, smallest=True)
    most, most_at = _extreme(samples.value, bad if some_bad else None, starts, lengths, smallest=False)
    nothing = np.full(len(starts), np.nan)
    step_area = linear_area = known_s = good_s = deviations = nothing
    if areas:
        step_area, linear_area, known_s, good_s = _areas(samples, value, bad, ends)
    if squares:
        with np.errstate(over="ignore", invalid="ignore"):
            mean = total / np.maximum(lengths - bad_count, 1)
            off = value - np.repeat(mean, lengths)
            deviations = np.add.reduceat(np.where(bad, 0.0, off * off), starts)
    return Buckets(
        tag_id=samples.tag_id[starts],
        start=edges[place[starts]],
        count=lengths,
        good_count=np.add.reduceat((quality >= GOOD) & ~bad, starts, dtype=np.int64),
        bad_count=bad_count,
        sum=np.where(known, total, np.nan),
        min=least,
        max=most,
        first=np.where(known, samples.value[first], np.nan),
        last=np.where(known, samples.value[last], np.nan),
        min_ts=np.where(least_at < n, ts[np.minimum(least_at, n - 1)], NO_TIME),
        max_ts=np.where(most_at < n, ts[np.minimum(most_at, n - 1)], NO_TIME),
        first_ts=np.where(known, ts[first], NO_TIME),
        last_ts=np.where(known, ts[last], NO_TIME),
        start_ts=ts[starts],
        end_ts=ts[ends - 1],
        step_area=step_area,
        linear_area=linear_area,
        known_s=known_s,
        start_quality=np.where(bad, 0, quality).astype(np.int16)[starts],
        end_quality=np.where(bad, 0, quality).astype(np.int16)[ends - 1],
        good_s=good_s,
        squares=deviations if squares else None,
    )


def _extreme(value: Floats, bad: Bools | None, starts: Int64s, lengths: Int64s, *, smallest: bool) -> tuple[Floats, Int64s]:
    """For each bucket its extreme known value, and the position of the earliest sample that has it; NaN and len(value) where there is none."""
    n = len(value)
    worst = np.inf if smallest else -np.inf
    ranked = value if bad is None else np.where(bad, worst, value)
    extreme = (np.minimum if smallest else np.maximum).reduceat(ranked, starts)
    rows = np.flatnonzero(ranked == np.repeat(extreme, lengths))
    at = np.full(len(starts), n, np.int64)
    # backwards: the earliest is written last
    at[(np.searchsorted(starts, rows, "right") - 1)[::-1]] = rows[::-1]
    none = ~np.isfinite(extreme)
    at[none] = n
    return np.where(none, np.nan, extreme), at


def _areas(samples: Samples, value: Floats, bad: Bools, ends: Int64s) -> tuple[Floats, Floats, Floats, Floats]:
    """step_area, linear_area, known_s, good_s of the buckets that end before these positions."""
    starts = np.concatenate(([0], ends[:-1]))
    seconds = np.zeros(len(samples))
    seconds[:-1] = np.diff(samples.ts) * _US
    # what follows a bucket's last sample is another's, and what follows a bad one is nobody's
    seconds[ends - 1] = 0.0
    seconds[bad] = 0.0
    following = np.empty_like(value)
    following[:-1] = np.where(bad[1:], value[:-1], value[1:])
    following[-1] = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        step = value * seconds
        linear = (value / 2 + following / 2) * seconds
        return (
            np.add.reduceat(step, starts),
            np.add.reduceat(linear, starts),
            np.add.reduceat(seconds, starts),
            np.add.reduceat(np.where(samples.quality >= GOOD, seconds, 0.0), starts),
        )


def merge_buckets(parts: Buckets, edges: Int64s) -> Buckets:
    """Greater buckets of neighbouring ones: for each tag one [edges[i], edges[i + 1]) wherever it has a part.

    `parts` are ordered by (tag_id, start_ts), each wholly in one of the greater buckets, and no two of a tag overlap.
    """
    n = len(parts)
    if not n:
        return parts
    place = np.searchsorted(edges, parts.start_ts, "right") - 1
    starts = _starts((parts.tag_id[1:] != parts.tag_id[:-1]) | (place[1:] != place[:-1]))
    if len(starts) == n:
        return replace(parts, start=edges[place])
    ends = np.append(starts[1:], n)
    lengths = ends - starts
    known = parts.count > parts.bad_count
    rows = np.arange(n)
    any_known = np.logical_or.reduceat(known, starts)
    first = np.where(any_known, np.minimum.reduceat(np.where(known, rows, n), starts), starts)
    last = np.where(any_known, np.maximum.reduceat(np.where(known, rows, -1), starts), starts)
    known_count = np.add.reduceat(parts.known_count, starts)
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.where(any_known, np.add.reduceat(np.where(known, parts.sum, 0.0), starts), np.nan)
    unranked = np.isnan(parts.min)
    least, least_at = _extreme(parts.min, unranked, starts, lengths, smallest=True)
    most, most_at = _extreme(parts.max, unranked, starts, lengths, smallest=False)
    step_gap, linear_gap, gap = _between(parts, starts)
    good_s = squares = None
    if parts.good_s is not None:
        good_gap = np.where(_end_quality(parts) >= GOOD, gap, 0.0)
        # the quality of a sample that is followed by no time at all does not matter
        good_gap[(_end_quality(parts) == NO_QUALITY) & (gap > 0)] = np.nan
        good_s = np.add.reduceat(parts.good_s + good_gap, starts)
    if parts.squares is not None:
        # pairwise merging (Chan, Golub, LeVeque 1979) of all parts at once
        with np.errstate(over="ignore", invalid="ignore"):
            off = parts.sum / np.maximum(parts.known_count, 1) - np.repeat(total / np.maximum(known_count, 1), lengths)
            squares = np.add.reduceat(np.where(known, parts.squares + parts.known_count * off * off, 0.0), starts)
    with np.errstate(over="ignore", invalid="ignore"):
        return Buckets(
            tag_id=parts.tag_id[starts],
            start=edges[place[starts]],
            count=np.add.reduceat(parts.count, starts),
            good_count=np.add.reduceat(parts.good_count, starts),
            bad_count=np.add.reduceat(parts.bad_count, starts),
            sum=total,
            min=least,
            max=most,
            first=parts.first[first],
            last=parts.last[last],
            min_ts=np.where(least_at < n, parts.min_ts[np.minimum(least_at, n - 1)], NO_TIME),
            max_ts=np.where(most_at < n, parts.max_ts[np.minimum(most_at, n - 1)], NO_TIME),
            first_ts=parts.first_ts[first],
            last_ts=parts.last_ts[last],
            start_ts=parts.start_ts[starts],
            end_ts=parts.end_ts[ends - 1],
            step_area=np.add.reduceat(parts.step_area + step_gap, starts),
            linear_area=np.add.reduceat(parts.linear_area + linear_gap, starts),
            known_s=np.add.reduceat(parts.known_s + gap, starts),
            start_quality=None if parts.start_quality is None else parts.start_quality[starts],
            end_quality=None if parts.end_quality is None else parts.end_quality[ends - 1],
            good_s=good_s,
            squares=squares,
        )


def _end_quality(parts: Buckets) -> Int16s:
    return np.full(len(parts), NO_QUALITY, np.int16) if parts.end_quality is None else parts.end_quality


def _between(parts: Buckets, starts: Int64s) -> tuple[Floats, Floats, Floats]:
    """What lies between the last sample of each part and the first of the next one in the same greater bucket: step area, linear area, known seconds."""
    seconds = np.zeros(len(parts))
    seconds[:-1] = (parts.start_ts[1:] - parts.end_ts[:-1]) * _US
    seconds[starts[1:] - 1] = 0.0
    value, following = parts.end_value(), np.full(len(parts), np.nan)
    following[:-1] = parts.start_value()[1:]
    # text has no values, but its samples are known
    seconds[parts.end_ts != parts.last_ts] = 0.0
    held = np.where(np.isnan(value), 0.0, value)
    with np.errstate(over="ignore", invalid="ignore"):
        linear = np.where(np.isnan(following), held, held / 2 + following / 2)
        return held * seconds, linear * seconds, seconds


def _starts(differs: Bools) -> Int64s:
    """Where runs begin, given for each row but the first whether it differs from the one before."""
    return np.flatnonzero(np.concatenate(([True], differs)))


def with_qualities(buckets: Buckets) -> Buckets:
    """The rows of a rollup with as much of the qualities of their samples as the counts tell."""
    uncertain = buckets.count - buckets.good_count - buckets.bad_count
    of_known = np.where(uncertain == 0, GOOD, np.where(buckets.good_count == 0, UNCERTAIN, NO_QUALITY))
    start = np.where(buckets.start_ts == buckets.first_ts, of_known, 0)
    end = np.where(buckets.end_ts == buckets.last_ts, of_known, 0)
    good_s = np.where(uncertain == 0, buckets.known_s, np.where(buckets.good_count == 0, 0.0, np.nan))
    return replace(buckets, start_quality=start.astype(np.int16), end_quality=end.astype(np.int16), good_s=good_s)
