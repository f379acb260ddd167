"""Minmax downsampling: what a trend of so many points needs of a range, picked out of the stream of its samples.

A tag's span [start, end) is cut into buckets of equal width. Every sample that is kept is a real one, with its own timestamp:

    numbers       the smallest and the greatest value of a bucket (of equal ones the earliest), in `points // 2` buckets
    stepped tags  the first and the last sample of a bucket too, in `points // 4` buckets: a step is drawn from its edge
    text tags     the first and the last sample of a bucket, in `points // 2` buckets

"Sample" means one that is not bad. Of the bad ones the first and the last of each bucket are kept beside those, so that the line breaks where it broke; they
count for no minimum, and not towards `points`.

A pen with an extreme pair for each pixel column looks the same as one with all samples (M4: Jugel et al., VLDB 2014; the first and last of M4 join columns
of straight lines, and are left out here for numbers, which are drawn at 2 buckets a column).

Memory is bounded by the chunks that come in and by `points`: what was picked from the beginning of a bucket stands for it when the rest of it comes,
since picking from what was picked and the rest picks the same as from all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from historian.schema.catalogue import STEPPED, Tag
from historian.schema.samples import UNCERTAIN, Bools, Floats, Int64s, Samples, concat

_Positions = npt.NDArray[np.intp]


class MinMax:
    """Reduces a stream of samples that is ordered by (tag_id, ts), of the tags given, all within [start, end)."""

    def __init__(self, tags: Sequence[Tag], start: int, end: int, points: int, *, auto: bool = False) -> None:
        """`auto`: a tag with at most `points` samples keeps them all. `points` is 4 or more."""
        tags = sorted(tags, key=lambda tag: tag.tag_id)
        self._start = start
        self._ids = np.array([tag.tag_id for tag in tags], np.int32)
        self._text = np.array([tag.kind == "text" for tag in tags], np.bool_)
        # those whose first and last samples are kept too
        self._edged = np.array([tag.kind != "text" and self._has_edges(tag) for tag in tags], np.bool_)
        buckets = np.where(self._edged, max(points // 4, 1), max(points // 2, 1))
        # the last bucket may be shorter, or lie behind the end
        self._width = np.maximum(-(-(end - start) // buckets), 1).astype(np.int64)
        self._whole = points if auto else -1
        # of the tag whose samples came last: what was picked of its open bucket, or all samples as long as it may keep them; and how many it has had
        self._held = Samples.empty()
        self._held_stand_for = 0

    @staticmethod
    def _has_edges(tag: Tag) -> bool:
        return tag.step or tag.kind in STEPPED

    def feed(self, samples: Samples) -> Samples:
        """Take in the next samples; returns those that are sure to be kept."""
        if not len(samples):
            return samples
        return self._reduce(samples, last=False)

    def finish(self) -> Samples:
        """The rest of what is kept."""
        return self._reduce(Samples.empty(), last=True)

    def _reduce(self, new: Samples, *, last: bool) -> Samples:
        samples = concat([self._held, new]) if len(self._held) else new
        n = len(samples)
        if not n:
            return samples
        # runs: one for each tag
        runs = _starts(samples.tag_id[1:] != samples.tag_id[:-1])
        lengths = np.diff(np.append(runs, n))
        tag = np.searchsorted(self._ids, samples.tag_id[runs])
        bucket = (samples.ts - self._start) // np.repeat(self._width[tag], lengths)
        tag_of_row = np.repeat(tag, lengths)
        # groups: one for each tag and bucket
        groups = _starts((tag_of_row[1:] != tag_of_row[:-1]) | (bucket[1:] != bucket[:-1]))
        keep = self._picked(samples, groups, tag_of_row)
        counts = lengths.copy()
        counts[0] += self._held_stand_for - len(self._held)
        whole = counts <= self._whole
        keep |= np.repeat(whole, lengths)
        if last:
            self._held, self._held_stand_for = Samples.empty(), 0
            return samples.take(keep)
        held_from = int(runs[-1] if whole[-1] else groups[-1])
        held = np.flatnonzero(keep[held_from:]) + held_from
        self._held, self._held_stand_for = samples.take(held), int(counts[-1])
        keep[held_from:] = False
        return samples.take(keep)

    def _picked(self, samples: Samples, groups: Int64s, tag_of_row: _Positions) -> Bools:
        """Which rows a minmax keeps, given the first row of each tag and bucket."""
        n = len(samples)
        group = np.repeat(np.arange(len(groups)), np.diff(np.append(groups, n)))
        is_text = self._text[tag_of_row]
        is_bad = (samples.quality < UNCERTAIN) | np.where(is_text, _no_text(samples), np.isnan(samples.value))
        keep = np.zeros(n, np.bool_)
        _keep_first_and_last(keep, np.flatnonzero(is_bad), group)
        edges = ~is_bad & (is_text | self._edged[tag_of_row])
        _keep_first_and_last(keep, np.flatnonzero(edges), group)
        ranked = ~is_bad & ~is_text
        if ranked.any():
            _keep_extreme(keep, samples.value, ranked, group, groups, np.minimum.reduceat, np.inf)
            _keep_extreme(keep, samples.value, ranked, group, groups, np.maximum.reduceat, -np.inf)
        return keep


def _starts(differs: Bools) -> Int64s:
    """Where runs begin, given for each row but the first whether it differs from the one before."""
    return np.flatnonzero(np.concatenate(([True], differs)))


def _no_text(samples: Samples) -> Bools:
    if samples.text is None:
        return np.ones(len(samples), np.bool_)
    missing: Bools = samples.text.is_null().to_numpy(zero_copy_only=False)
    return missing


def _keep_first_and_last(keep: Bools, rows: Int64s, group: Int64s) -> None:
    """Of these rows, in order, keep the first and the last of each group."""
    if len(rows):
        changes = group[rows[1:]] != group[rows[:-1]]
        keep[rows[np.concatenate(([True], changes))]] = True
        keep[rows[np.concatenate((changes, [True]))]] = True


def _keep_extreme(
    keep: Bools,
    value: Floats,
    ranked: Bools,
    group: Int64s,
    groups: Int64s,
    reduceat: Callable[[Floats, Int64s], Floats],
    worst: float,
) -> None:
    """Keep the earliest of the ranked rows of each group whose value is the group's extreme."""
    extreme = reduceat(np.where(ranked, value, worst), groups)
    rows = np.flatnonzero(ranked & (value == extreme[group]))
    first = np.concatenate(([True], group[rows[1:]] != group[rows[:-1]]))
    keep[rows[first]] = True
