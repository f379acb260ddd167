"""The first or the last text of each bucket."""

from __future__ import annotations

from contextlib import aclosing

import numpy as np
import pyarrow as pa

from historian.query.cells import Cells
from historian.query.raw import read_raw
from historian.schema.connection import Connection
from historian.schema.samples import GOOD, UNCERTAIN, Int64s, Samples, concat


async def read_texts(conn: Connection, cells: Cells, *, first: bool) -> Samples:
    """A row of each cell of text tags: the first or the last text in it that is not bad; quality 192 where all samples in it are good, 64 where not."""
    kept: list[Samples] = []
    counts, good = np.zeros(len(cells), np.int64), np.zeros(len(cells), np.int64)
    async with aclosing(read_raw(conn, cells.tags, cells.start, cells.end)) as chunks:
        async for samples in chunks:
            cell = cells.of(samples.tag_id, samples.ts)
            counts += np.bincount(cell, minlength=len(cells))
            good += np.bincount(cell[samples.quality >= GOOD], minlength=len(cells))
            known = np.flatnonzero((samples.quality >= UNCERTAIN) & samples.text_or_nulls().is_valid().to_numpy(zero_copy_only=False))
            if len(known):
                kept.append(samples.take(known[_ends_of_runs(cell[known], first=first)]))
    found = concat(kept)
    cell = cells.of(found.tag_id, found.ts)
    # a cell may have come in several chunks
    ends = _ends_of_runs(cell, first=first)
    place = np.full(len(cells), -1)
    place[cell[ends]] = ends
    text = found.text_or_nulls().take(pa.array(place, mask=place < 0))
    return cells.rows(np.arange(len(cells)), np.full(len(cells), np.nan), np.where(good == counts, GOOD, UNCERTAIN), text)


def _ends_of_runs(cell: Int64s, *, first: bool) -> Int64s:
    """Where in these, ascending, each begins or ends."""
    if not len(cell):
        return np.empty(0, np.int64)
    changes = cell[1:] != cell[:-1]
    return np.flatnonzero(np.concatenate(([True], changes) if first else (changes, [True])))
