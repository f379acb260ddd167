"""M4 (Jugel et al., VLDB 2014): of each pixel column the first, the last, the smallest and the greatest sample. Lines drawn through these cover the same pixels, of the
columns that they were picked for, as lines through all samples.

A column is [start + i × width, start + (i + 1) × width), of `points // 4` equal ones (text: first and last only, of `points // 2`). As with minmax, "sample" means one
that is not bad, of equal ones the earliest is taken, and of the bad ones the first and the last of each column are kept beside those.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from historian.query.downsample import MinMax
from historian.schema.catalogue import Tag


class M4(MinMax):
    """Reduces a stream of samples that is ordered by (tag_id, ts), of the tags given, all within [start, end)."""

    def __init__(
        self, tags: Sequence[Tag], start: int, end: int, points: int, *, auto: bool = False, columns: tuple[int, int] | None = None
    ) -> None:
        """`auto`: a tag with at most `points` samples keeps them all. `columns`: where the first column begins and how wide they are (µs), instead."""
        super().__init__(tags, start, end, points, auto=auto)
        if columns is not None:
            self._start = columns[0]
            self._width = np.full(len(self._ids), columns[1], np.int64)

    @staticmethod
    def _has_edges(tag: Tag) -> bool:
        return True
