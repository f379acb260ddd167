"""Rows of a file in batches of a fixed number, and whether they come back to earlier times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from historian.schema.samples import Int64s


def falls_back(newest: Int64s, codes: Int64s, us: Int64s) -> bool:
    """Whether a tag has a time here that is not after all of its earlier ones; `newest` is brought up to date."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    tags = codes[order][starts]
    ordered = us[order]
    falls = bool((np.minimum.reduceat(ordered, starts) <= newest[tags]).any())
    newest[tags] = np.maximum(newest[tags], np.maximum.reduceat(ordered, starts))
    return falls


def cut(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The same rows in batches of exactly so many, but for the last, each with the number of its first row."""
    first, held, count = 0, [], 0
    for batch in batches:
        start = 0
        while start < len(batch):
            taken = batch.slice(start, rows - count)
            held.append(taken)
            start += len(taken)
            count += len(taken)
            if count == rows:
                yield first, _joined(held)
                first, held, count = first + count, [], 0
    if held:
        yield first, _joined(held)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    (joined,) = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return joined
