"""Which minutes of which tags a transaction has written to: what the plain engine's rollups are refreshed from. TimescaleDB finds out by itself."""

from __future__ import annotations

import numpy as np

from historian.schema.samples import Int32s, Int64s, Samples

_MINUTE_US = 60 * 1_000_000
#: minutes without samples that are rather refreshed than told apart
_GAP = 60


def changed_minutes(samples: Samples) -> tuple[Int32s, Int64s, Int64s]:
    """Of samples sorted by (tag_id, ts): tag ids, and the beginnings (µs) of the first and last minute of each stretch.

    A tag has several stretches if its samples lie far apart.
    """
    if not len(samples):
        return np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int64)
    minute = samples.ts // _MINUTE_US
    starts = np.flatnonzero(np.concatenate(([True], (samples.tag_id[1:] != samples.tag_id[:-1]) | (np.diff(minute) > _GAP))))
    ends = np.append(starts[1:], len(minute)) - 1
    return samples.tag_id[starts], minute[starts] * _MINUTE_US, minute[ends] * _MINUTE_US
