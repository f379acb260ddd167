"""What a process believes to be the newest timestamp of each tag, so that it can append ahead of the locks; the snapshot, read under them, has the last word.

A belief that is too high costs speed: the samples are appended later, under the locks. One that is too low costs a transaction, which is begun again.
"""

from __future__ import annotations

import numpy as np

from historian.schema.samples import Bools, Int32s, Int64s

#: below every timestamp that there can be: a tag without samples
NEVER = np.iinfo(np.int64).min
_UNKNOWN = np.iinfo(np.int64).max

#: after a surprise so many transactions lock first; twice as many after the next, up to the longest
_CAUTION = 8
_LONGEST_CAUTION = 1024


class Beliefs:
    """Of one writer. Timestamps are µs; arrays of tags are int32, each tag once."""

    def __init__(self) -> None:
        self._newest = np.empty(0, np.int64)
        self._caution = _CAUTION
        self._cautious = 0

    def newer(self, tags: Int32s, counts: Int64s, ts: Int64s) -> Bools | None:
        """Which of the samples, `counts[n]` of them of tag n, are believed to be newer than all that their tags have; None if none is, or if others write these
        tags too."""
        if self._cautious:
            self._cautious -= 1
            return None
        self._make_room(tags)
        newer: Bools = ts > np.repeat(self._newest[tags], counts)
        return newer if newer.any() else None

    def expect(self, tags: Int32s, newest: Int64s) -> None:
        """A transaction is on its way that makes these the newest of their tags."""
        self._make_room(tags)
        self._newest[tags] = np.maximum(self._newest[tags], newest)

    def learn(self, tags: Int32s, newest: Int64s) -> None:
        """The snapshot says so, under the locks: where nothing was known, it is now."""
        known = self._newest[tags]
        self._newest[tags] = np.where(known == _UNKNOWN, newest, np.maximum(known, newest))

    def forget(self, tags: Int32s) -> None:
        """A transaction failed: what was expected of it may never be."""
        self._make_room(tags)
        self._newest[tags] = _UNKNOWN

    def surprised(self) -> None:
        """Another process writes the same tags. The more often that happens, the longer the locks come first."""
        self._cautious = self._caution
        self._caution = min(self._caution * 2, _LONGEST_CAUTION)

    def _make_room(self, tags: Int32s) -> None:
        highest = int(tags.max(initial=-1))
        if highest >= len(self._newest):
            grown = np.full(max(highest + 1, 2 * len(self._newest)), _UNKNOWN)
            grown[: len(self._newest)] = self._newest
            self._newest = grown
