"""Visibility snapshots agree with PostgreSQL on what is committed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from historian.schema.connection import Pool, connect
from historian.schema.errors import BadInput
from historian.schema.visibility import VisibilitySnapshot

_SEEN = "SELECT pg_visible_in_snapshot(x::text::xid8, $1::text::pg_snapshot) FROM generate_series($2::int8, $3::int8) AS x ORDER BY x"


@given(st.integers(1, 2**62), st.sets(st.integers(0, 50)), st.integers(0, 60))
def test_a_snapshot_is_read_from_its_text(xmin: int, in_progress: set[int], width: int) -> None:
    running = {xmin + n for n in in_progress if n < width}
    text = f"{xmin}:{xmin + width}:{','.join(map(str, sorted(running)))}"
    snapshot = VisibilitySnapshot.parse(text)
    assert (snapshot.xmin, snapshot.xmax, snapshot.in_progress) == (xmin, xmin + width, frozenset(running))
    for xid in range(max(0, xmin - 3), xmin + width + 3):
        assert snapshot.sees(xid) == (xid < xmin + width and xid not in running)


@pytest.mark.parametrize("text", ["", "1:2", "0:0:", "5:4:", "5:9:4", "5:9:9", "5:9:7,6", "5:9:6,6", f"1:{2**63}:", "1:2:;", "a:b:"])
def test_what_is_no_snapshot_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        VisibilitySnapshot.parse(text)


async def test_it_sees_what_is_committed_and_not_what_runs(database: str, pool: Pool) -> None:
    other = await connect(database)
    try:
        running = other.transaction()
        await running.start()
        unfinished = int(await other.fetchval("SELECT pg_current_xact_id()::text"))
        committed = int(await pool.fetchval("SELECT pg_current_xact_id()::text"))
        async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            snapshot = await VisibilitySnapshot.of(conn)
            await running.commit()
            later = int(await pool.fetchval("SELECT pg_current_xact_id()::text"))
            # the transaction that was running stays unseen though it is committed now
            assert await VisibilitySnapshot.of(conn) == snapshot
        assert snapshot.sees(committed)
        assert not snapshot.sees(unfinished)
        assert not snapshot.sees(later)
    finally:
        await other.close()


async def test_it_agrees_with_postgresql(database: str, pool: Pool) -> None:
    other = await connect(database)
    try:
        async with other.transaction():
            await other.fetchval("SELECT pg_current_xact_id()::text")
            for _ in range(3):
                await pool.fetchval("SELECT pg_current_xact_id()::text")
            text = await pool.fetchval("SELECT pg_current_snapshot()::text")
            snapshot = VisibilitySnapshot.parse(text)
            lo, hi = max(3, snapshot.xmin - 5), snapshot.xmax + 5
            theirs = [row[0] for row in await pool.fetch(_SEEN, text, lo, hi)]
            assert [snapshot.sees(xid) for xid in range(lo, hi + 1)] == theirs
    finally:
        await other.close()
