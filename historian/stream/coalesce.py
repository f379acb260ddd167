"""What waits for a client as one: of several writes of the same (tag, ts) the last."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from historian.schema.samples import Samples, concat, last_writes


def coalesce(parts: Sequence[Samples]) -> Samples:
    """All rows of the parts, each (tag_id, ts) once, as the last part has it that has it. The order of rows stays where nothing comes twice."""
    rows = concat(parts)
    filled = [part for part in parts if len(part)]
    if _apart(filled):
        return rows
    last = last_writes(rows.tag_id, rows.ts)
    return rows if len(last) == len(rows) else rows.take(last)


def _apart(parts: Sequence[Samples]) -> bool:
    """Whether each part is later than the one before: so a plant writes."""
    return all(int(part.ts.min()) > int(before.ts.max()) for before, part in pairwise(parts))
