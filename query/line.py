"""The line that the samples of a tag draw, and what of it lies in each bucket: area, and known time.

From sample to sample the value is held (stepped tags) or goes straight to the next one (all others). A bad sample ends the line: up to it the last value is held,
and from it to the next sample nothing is known. Before a tag's first sample nothing is known either. The newest sample is held up to now, not beyond.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from historian.query.buckets import Buckets
from historian.query.cells import Cells
from historian.schema.catalogue import STEPPED
from historian.schema.samples import GOOD, UNCERTAIN, Bools, Floats, Int64s, Samples

_US = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """Of each cell:

    area        the integral over its known time, value × s
    known_s     for how many seconds there is a value
    good_s      and for how many it comes from a good sample
    elapsed_s   how many seconds of it are past, or known
    sure        whether all its time up to now is known, and from good samples only
    """

    area: Floats
    known_s: Floats
    good_s: Floats
    elapsed_s: Floats
    sure: Bools


@dataclass(frozen=True, slots=True, eq=False)
class _Ends:
    """One sample of each of many stretches. `there`: whether there is one."""

    there: Bools
    ts: Int64s
    value: Floats
    quality: npt.NDArray[np.int16]

    @classmethod
    def none(cls, shape: tuple[int, int]) -> _Ends:
        return cls(np.zeros(shape, np.bool_), np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape, np.int16))

    def put(self, place: Any, ts: Int64s, value: Floats, quality: npt.NDArray[np.int16]) -> None:
        self.there[place] = True
        self.ts[place] = ts
        # text has no number: of it only times are asked
        self.value[place] = np.nan_to_num(value)
        self.quality[place] = quality

    def at(self, column: Int64s) -> _Ends:
        """In each row, those of these columns; none where there is no such column."""
        width = self.there.shape[1]
        inside = np.clip(column, 0, width - 1)
        there = np.take_along_axis(self.there, inside, 1) & (column == inside)
        return _Ends(
            there,
            np.take_along_axis(self.ts, inside, 1),
            np.take_along_axis(self.value, inside, 1),
            np.take_along_axis(self.quality, inside, 1),
        )

    def inner(self) -> _Ends:
        return _Ends(self.there[:, 1:-1], self.ts[:, 1:-1], self.value[:, 1:-1], self.quality[:, 1:-1])

    def where(self, mask: Bools, other: _Ends) -> _Ends:
        return _Ends(
            np.where(mask, self.there, other.there),
            np.where(mask, self.ts, other.ts),
            np.where(mask, self.value, other.value),
            np.where(mask, self.quality, other.quality),
        )


def line_of(cells: Cells, buckets: Buckets, before: Samples, after: Samples, now: int) -> Line:
    """The line in these cells, given what lies in each (all qualities known), the sample before the span and the one after it of each tag that has one.

    `now` (µs) is how far the newest sample of a tag is held.
    """
    tags, n = len(cells.tags), len(cells.starts)
    # of each cell the first and the last sample; the sample before the span stands before them, the one after it behind
    first, last = _Ends.none((tags, n + 2)), _Ends.none((tags, n + 2))
    assert buckets.start_quality is not None or not len(buckets)
    row, column = np.searchsorted(cells.tag_ids, buckets.tag_id), cells.bucket_of(buckets.start_ts)
    if buckets.start_quality is not None and buckets.end_quality is not None:
        first.put((row, column + 1), buckets.start_ts, buckets.start_value(), buckets.start_quality)
        last.put((row, column + 1), buckets.end_ts, buckets.end_value(), buckets.end_quality)
    for samples, place in ((before, 0), (after, n + 1)):
        at = (np.searchsorted(cells.tag_ids, samples.tag_id), place)
        for ends in (first, last):
            ends.put(at, samples.ts, samples.value, samples.quality)
    columns = np.arange(n + 2)
    preceding = np.maximum.accumulate(np.where(first.there, columns, -1), axis=1)[:, :-2]
    following = np.minimum.accumulate(np.where(first.there, columns, n + 2)[:, ::-1], axis=1)[:, ::-1][:, 2:]
    own_first, own_last, some = first.inner(), last.inner(), first.there[:, 1:-1]
    begin, end = cells.edges[:-1][None, :], np.broadcast_to(cells.edges[1:], (tags, n))
    previous, following_one = last.at(preceding), first.at(following)
    held_to = np.where(following_one.there, end, np.minimum(end, now))
    step = np.array([tag.step or tag.kind in STEPPED for tag in cells.tags])[:, None]
    head = _piece(begin, np.where(some, own_first.ts, held_to), previous, own_first.where(some, following_one), step)
    tail = _piece(own_last.ts, np.where(some, held_to, own_last.ts), own_last, following_one, step)

    def own(column: Floats | None) -> Floats:
        made = np.zeros((tags, n))
        if column is not None:
            made[row, np.searchsorted(cells.edges, buckets.start_ts, "right") - 1] = column
        return made

    stepped_row = step[row, 0] if len(row) else np.zeros(0, np.bool_)
    all_good = own(np.where(buckets.good_count == buckets.count, 0.0, 1.0)) == 0
    past = np.where(following_one.there, end, np.minimum(end, np.maximum(now, np.where(some, own_last.ts, now))))
    with np.errstate(over="ignore", invalid="ignore"):
        area = own(np.where(stepped_row, buckets.step_area, buckets.linear_area)) + head.area + tail.area
    return Line(
        area.ravel(),
        (own(buckets.known_s) + head.known_s + tail.known_s).ravel(),
        (own(buckets.good_s) + head.good_s + tail.good_s).ravel(),
        (np.maximum(past - begin, 0) * _US).ravel(),
        (head.sure & tail.sure & all_good).ravel(),
    )


def _piece(begin: Int64s, end: Int64s, left: _Ends, right: _Ends, step: Bools) -> Line:
    """What lies in [begin, end) of the line between two samples. `sure` where that is nothing."""
    nothing = end <= begin
    known = left.there & (left.quality >= UNCERTAIN) & ~nothing
    sloped = known & right.there & (right.quality >= UNCERTAIN) & ~step
    seconds = np.where(known, (end - begin) * _US, 0.0)
    width = np.where(sloped, right.ts - left.ts, 1)

    def at(ts: Int64s) -> Floats:
        part = np.where(sloped, (ts - left.ts) / width, 0.0)
        # a difference of the greatest numbers would be beyond them
        value: Floats = left.value * (1 - part) + right.value * part
        return value

    with np.errstate(over="ignore", invalid="ignore"):
        area = np.where(known, (at(begin) / 2 + at(end) / 2) * seconds, 0.0)
    good = known & (left.quality >= GOOD)
    return Line(area, seconds, np.where(good, seconds, 0.0), seconds, nothing | (good & (~sloped | (right.quality >= GOOD))))
