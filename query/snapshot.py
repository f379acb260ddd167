"""The snapshot: the newest sample of every tag."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from historian.schema.catalogue import Tag
from historian.schema.connection import Connection
from historian.schema.samples import Samples

_NEWEST = """
SELECT tag_id, ts, value, quality, text FROM historian.snapshot
WHERE tag_id = ANY($1::int4[]) AND ts IS NOT NULL ORDER BY tag_id
"""


async def read_snapshot(conn: Connection, tags: Sequence[Tag]) -> Samples:
    """The newest sample of each of these tags that has one, in the order of tag_id. Raises the driver's errors: wrap it in `translated()`."""
    rows = await conn.fetch(_NEWEST, [tag.tag_id for tag in tags])
    text = pa.array([row["text"] for row in rows], pa.string())
    return Samples(
        np.array([row["tag_id"] for row in rows], np.int32),
        np.array([row["ts"] for row in rows], np.int64),
        # None becomes NaN
        np.array([row["value"] for row in rows], np.float64),
        np.array([row["quality"] for row in rows], np.int16),
        text if text.null_count < len(text) else None,
    )
