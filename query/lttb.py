"""LTTB (Steinarsson, 2013): the `points` samples of a tag that make its line look most like it did, by the areas of triangles: of each bucket the sample that spans the
greatest one with the sample taken before it and the mean of the bucket behind it. A pen for the eye; the extremes of a pixel column are not promised: that is M4.

A tag of more than 8 × `points` samples is first reduced to the M4 of 2 × `points` columns, so that memory is bounded by `points` (after MinMaxLTTB,
Van Der Donckt et al., IEEE VIS 2023, who found the pictures the same from 4 samples a point on).

A bad sample breaks the line: the runs between bad ones are reduced each by itself, to their share of the points and to 2 at least, and of a series of bad ones the first
and the last are kept. Stepped tags, of which triangles say nothing, and text are reduced as minmax does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from historian.query.downsample import MinMax
from historian.query.m4 import M4
from historian.schema.catalogue import STEPPED, Tag
from historian.schema.samples import UNCERTAIN, Bools, Floats, Int64s, Samples, concat

#: samples a point that are looked at, at most
_LOOKED_AT = 8


class Lttb:
    """Reduces a stream of samples that is ordered by (tag_id, ts), of the tags given, all within [start, end)."""

    def __init__(self, tags: Sequence[Tag], start: int, end: int, points: int) -> None:
        """A tag with at most `points` samples keeps them all. `points` is 4 or more."""
        self._points = points
        self._lines = [tag for tag in tags if tag.kind != "text" and not (tag.step or tag.kind in STEPPED)]
        self._line_ids = np.array(sorted(tag.tag_id for tag in self._lines), np.int32)
        self._few = M4(self._lines, start, end, _LOOKED_AT * points, auto=True)
        self._others = MinMax([tag for tag in tags if tag not in self._lines], start, end, points, auto=True)
        #: of the tag whose samples came last
        self._held: list[Samples] = []

    def feed(self, samples: Samples) -> Samples:
        """Take in the next samples; returns those that are sure to be kept."""
        if not len(samples):
            return samples
        runs = [0, *(np.flatnonzero(np.diff(samples.tag_id)) + 1).tolist(), len(samples)]
        out: list[Samples] = []
        # lines and others may come in turn: what is held of the one goes out before the other
        for lo, hi in pairwise(runs):
            run = samples.slice(lo, hi)
            if self._is_line(int(run.tag_id[0])):
                out += [self._others.finish(), self._taken(self._few.feed(run))]
            else:
                out += [self._taken(self._few.finish()), self._flush(), self._others.feed(run)]
        return concat([part for part in out if len(part)])

    def finish(self) -> Samples:
        """The rest of what is kept."""
        return concat([self._taken(self._few.finish()), self._flush(), self._others.finish()])

    def _is_line(self, tag_id: int) -> bool:
        at = int(np.searchsorted(self._line_ids, tag_id))
        return at < len(self._line_ids) and int(self._line_ids[at]) == tag_id

    def _taken(self, samples: Samples) -> Samples:
        """Hold samples until all of their tag are there; returns what is kept of those before them."""
        if not len(samples):
            return samples
        out: list[Samples] = []
        runs = [0, *(np.flatnonzero(np.diff(samples.tag_id)) + 1).tolist(), len(samples)]
        for lo, hi in pairwise(runs):
            run = samples.slice(lo, hi)
            if self._held and self._held[0].tag_id[0] != run.tag_id[0]:
                out.append(self._flush())
            self._held.append(run)
        return concat(out)

    def _flush(self) -> Samples:
        samples, self._held = concat(self._held), []
        return samples.take(kept(samples, self._points)) if len(samples) > self._points else samples


def kept(samples: Samples, points: int) -> Bools:
    """Which samples of one tag to keep."""
    bad = (samples.quality < UNCERTAIN) | np.isnan(samples.value)
    keep = np.zeros(len(samples), np.bool_)
    changes = np.flatnonzero(bad[1:] != bad[:-1]) + 1
    edges = [0, *changes.tolist(), len(samples)]
    known = len(samples) - int(bad.sum())
    for lo, hi in pairwise(edges):
        if bad[lo]:
            keep[[lo, hi - 1]] = True
        else:
            share = max(2, points * (hi - lo) // known)
            keep[lo + _largest_triangles(samples.ts[lo:hi], samples.value[lo:hi], share)] = True
    return keep


def _largest_triangles(ts: Int64s, value: Floats, points: int) -> Int64s:
    """Positions of `points` samples, the first and the last among them; all if there are no more."""
    n = len(ts)
    if n <= points:
        return np.arange(n)
    if points == 2:
        return np.array([0, n - 1])
    # in units in which neither a product of µs nor one of huge values overflows
    t = (ts - ts[0]) / max(int(ts[-1] - ts[0]), 1)
    scale = float(np.max(np.abs(value))) or 1.0
    v = value / scale
    edges = np.linspace(1, n - 1, points - 1).astype(np.int64)
    lengths = np.diff(edges)
    mean_t = np.append(np.add.reduceat(t[: n - 1], edges[:-1])[1:] / lengths[1:], t[-1])
    mean_v = np.append(np.add.reduceat(v[: n - 1], edges[:-1])[1:] / lengths[1:], v[-1])
    taken = np.empty(points, np.int64)
    taken[0], taken[-1] = 0, n - 1
    at = 0
    for i in range(points - 2):
        lo, hi = edges[i], edges[i + 1]
        area = np.abs((t[at] - mean_t[i]) * (v[lo:hi] - v[at]) - (t[at] - t[lo:hi]) * (mean_v[i] - v[at]))
        at = lo + int(area.argmax())
        taken[i + 1] = at
    return taken
