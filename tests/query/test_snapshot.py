"""The snapshot: the newest sample of each tag."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from historian.query.snapshot import read_snapshot
from historian.schema.connection import Pool
from historian.schema.samples import Samples

T = 1_767_225_600_000_000


async def test_the_newest_sample_of_each_tag_that_has_one(pool: Pool, store: Any, make_tags: Any) -> None:
    speed, phase, valve, silent, other = await make_tags(
        {"a/speed": "float", "a/phase": "text", "a/valve": "bool", "a/silent": "float", "b/other": "float"}
    )
    ids = [speed.tag_id, speed.tag_id, phase.tag_id, phase.tag_id, valve.tag_id, other.tag_id]
    await store(
        Samples(
            np.array(ids, np.int32),
            np.array([T, T + 5, T, T + 1, T + 2, T], np.int64),
            np.array([1.25, 0.1 + 0.2, np.nan, np.nan, np.nan, 9.0]),
            np.array([192, 100, 192, 192, 0, 192], np.int16),
            pa.array([None, None, "heat", "hold", None, None]),
        )
    )
    # late: not the newest
    await store(Samples(np.array([speed.tag_id], np.int32), np.array([T + 3], np.int64), np.array([7.0]), np.array([192], np.int16)))
    async with pool.acquire() as conn:
        found = await read_snapshot(conn, [silent, valve, phase, speed])
        nothing = await read_snapshot(conn, [silent])
        none_asked = await read_snapshot(conn, [])
        numbers = await read_snapshot(conn, [speed])
    assert found.tag_id.tolist() == sorted([speed.tag_id, phase.tag_id, valve.tag_id])
    at = {tag_id: n for n, tag_id in enumerate(found.tag_id.tolist())}
    in_order = found.take(np.array([at[speed.tag_id], at[phase.tag_id], at[valve.tag_id]]))
    assert in_order.ts.tolist() == [T + 5, T + 1, T + 2]
    assert in_order.value.tolist()[0] == 0.1 + 0.2
    assert np.isnan(in_order.value[1:]).all()
    assert in_order.quality.tolist() == [100, 192, 0]
    assert in_order.text is not None
    assert in_order.text.to_pylist() == [None, "hold", None]
    assert len(nothing) == len(none_asked) == 0
    assert numbers.text is None
    assert (found.tag_id.dtype, found.ts.dtype, found.value.dtype, found.quality.dtype) == (np.int32, np.int64, np.float64, np.int16)
    assert (nothing.tag_id.dtype, nothing.ts.dtype, nothing.value.dtype, nothing.quality.dtype) == (
        np.int32,
        np.int64,
        np.float64,
        np.int16,
    )
