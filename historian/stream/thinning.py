"""A live tail that is sent at most so often: what of each tag's samples is sent, so that no peak is lost.

Of each tag and each time that is sent: the first and the last sample, the good ones with the least and the greatest value, and the first and the last bad one: all real
samples. A sample at or before the newest that has been sent of its tag corrects what the client has, and is always sent.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from historian.query.expressions.pens import MAX_PENS
from historian.schema.samples import UNCERTAIN, Int64s, Samples, last_writes

_Mask = npt.NDArray[np.bool_]


class Thinning:
    """Thins the live tail of one subscription. `since`: samples before it (µs) are taken for corrections."""

    def __init__(self, since: int | None = None) -> None:
        self._since = np.iinfo(np.int64).min if since is None else since
        # by tag_id; those of calculated pens are negative
        self._newest: Int64s = np.full(MAX_PENS + 1, self._since)

    def sent(self, samples: Samples) -> None:
        """The client has these."""
        if len(samples):
            self._reach(samples)
            np.maximum.at(self._newest, samples.tag_id + MAX_PENS, samples.ts)

    def reduce(self, samples: Samples) -> Samples:
        """What is to be sent of these, ordered by (tag_id, ts); of several samples at one (tag_id, ts) the last."""
        if not len(samples):
            return samples
        self._reach(samples)
        samples = samples.take(last_writes(samples.tag_id, samples.ts))
        keep = samples.ts <= self._newest[samples.tag_id + MAX_PENS]
        new = np.flatnonzero(~keep)
        if len(new):
            keep[new] = _extremes(samples.take(new))
        return samples if keep.all() else samples.take(keep)

    def _reach(self, samples: Samples) -> None:
        highest = int(samples.tag_id.max()) + MAX_PENS
        if highest >= len(self._newest):
            wider = np.full(2 * highest + 1, self._since)
            wider[: len(self._newest)] = self._newest
            self._newest = wider


def _extremes(samples: Samples) -> _Mask:
    """Which rows stand out of their tag's; the rows are ordered by (tag_id, ts)."""
    begins = np.append(True, samples.tag_id[1:] != samples.tag_id[:-1])
    starts = np.flatnonzero(begins)
    of = np.cumsum(begins) - 1
    keep: _Mask = begins | np.append(begins[1:], True)
    bad = samples.quality < UNCERTAIN
    good = ~bad & ~np.isnan(samples.value)
    least = np.minimum.reduceat(np.where(good, samples.value, np.inf), starts)
    greatest = np.maximum.reduceat(np.where(good, samples.value, -np.inf), starts)
    for found in (good & (samples.value == least[of]), good & (samples.value == greatest[of]), bad):
        keep |= _firsts(found, of)
    keep |= _firsts(bad[::-1], of[::-1])[::-1]
    return keep


def _firsts(found: _Mask, of: Int64s) -> _Mask:
    """Of the rows found, the first in each group; a group's rows stand together."""
    rows = np.flatnonzero(found)
    first = np.append(True, of[rows][1:] != of[rows][:-1])[: len(rows)]
    mask = np.zeros(len(found), np.bool_)
    mask[rows[first]] = True
    return mask
