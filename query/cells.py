"""The cells of an aggregate: every bucket of every one of some tags, as many as are worked on at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from historian.query.range_query import RangeQuery
from historian.schema.catalogue import Tag
from historian.schema.samples import Floats, Int32s, Int64s, Samples

#: at a time, at most: a column of them is half a megabyte
MAX_CELLS = 65_536


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Tag i and bucket j are cell `i * len(starts) + j`: the order in which their rows leave.

    tags     in the order of tag_id, all of text or none
    starts   when each bucket begins (µs): the `ts` of its row
    edges    what of them lies in the span: bucket j is made of [edges[j], edges[j + 1])
    """

    tags: Sequence[Tag]
    starts: Int64s
    edges: Int64s

    def __len__(self) -> int:
        return len(self.tags) * len(self.starts)

    @property
    def start(self) -> int:
        return int(self.edges[0])

    @property
    def end(self) -> int:
        return int(self.edges[-1])

    @property
    def text(self) -> bool:
        return self.tags[0].kind == "text"

    @property
    def tag_ids(self) -> Int32s:
        return np.array([tag.tag_id for tag in self.tags], np.int32)

    def bucket_of(self, ts: Int64s) -> Int64s:
        """Which bucket these times lie in."""
        return np.searchsorted(self.edges, ts, "right") - 1

    def of(self, tag_id: Int32s, ts: Int64s) -> Int64s:
        """The cells of samples in the span."""
        return np.searchsorted(self.tag_ids, tag_id) * len(self.starts) + self.bucket_of(ts)

    def rows(self, cell: Int64s, value: Floats, quality: npt.NDArray[np.integer], text: pa.Array | None = None) -> Samples:
        """Rows of these cells. A value that is no number, or beyond them, is NaN with quality 0."""
        number = np.isfinite(value)
        n = len(self.starts)
        if text is not None:
            number |= text.is_valid().to_numpy(zero_copy_only=False)
        return Samples(
            self.tag_ids[cell // n],
            self.starts[cell % n],
            np.where(np.isfinite(value), value, np.nan),
            np.where(number, quality, 0).astype(np.int16),
            text,
        )

    def every_row(self, value: Floats, quality: npt.NDArray[np.integer]) -> Samples:
        """A row of each cell, in order."""
        return self.rows(np.arange(len(self)), value, quality)

    def nothing(self) -> Samples:
        """A row of each cell that tells nothing."""
        return self.every_row(np.full(len(self), np.nan), np.zeros(len(self), np.int16))


def cells_of(query: RangeQuery) -> Iterator[Cells]:
    """All cells of a query, in the order of its rows: numeric tags first, then text tags."""
    if query.interval is None:
        starts, edges = np.array([query.start]), np.array([query.start, query.end])
    else:
        edges = query.interval.edges(query.start, query.end)
        starts = edges[:-1]
        edges = np.clip(edges, query.start, query.end)
    n = len(starts)
    of_group = max(MAX_CELLS // n, 1)
    tags = sorted({tag.tag_id: tag for tag in query.tags}.values(), key=lambda tag: tag.tag_id)
    for some in ([tag for tag in tags if tag.kind != "text"], [tag for tag in tags if tag.kind == "text"]):
        for first in range(0, len(some), of_group):
            group = some[first : first + of_group]
            for begin in range(0, n, MAX_CELLS):
                stop = min(begin + MAX_CELLS, n)
                yield Cells(group, starts[begin:stop], edges[begin : stop + 1])
