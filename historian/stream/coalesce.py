"""What waits for a client as one: of several writes of the same (tag, ts) the last."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from historian.schema.samples import Samples, concat


def coalesce(parts: Sequence[Samples]) -> Samples:
    """All rows of the parts, each (tag_id, ts) once, as the last part has it that has it. The order of rows stays where nothing comes twice."""
    rows = concat(parts)
    filled = [part for part in parts if len(part)]
    if _apart(filled):
        return rows
    # stable: of the same (tag, ts) the last one stands last
    order = np.lexsort((rows.ts, rows.tag_id))
    tag_id, ts = rows.tag_id[order], rows.ts[order]
    last = np.ones(len(rows), np.bool_)
    last[:-1] = (tag_id[1:] != tag_id[:-1]) | (ts[1:] != ts[:-1])
    return rows if last.all() else rows.take(order[last])


def _apart(parts: Sequence[Samples]) -> bool:
    """Whether each part is later than the one before: so a plant writes."""
    return all(int(part.ts.min()) > int(before.ts.max()) for before, part in pairwise(parts))
