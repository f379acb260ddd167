"""What the ledger need not keep of contents: after some minutes all that no durable cursor waits for, and beyond two limits all the same.

Promise. A cursor from which something is taken that it has not seen has that in its `lost`, from the same statement on: its reader is told of a gap.
"""

from __future__ import annotations

from historian.schema.connection import Connection

#: for cursors that have not had it, a content is kept so long, and so much of it in all
CURSOR_KEPT_S = 7 * 86_400.0
CURSOR_KEPT_BYTES = 4 << 30

# the oldest transaction that a cursor may wait for. One that has lost something holds nothing any more
_HELD = """
SELECT coalesce(min(pg_snapshot_xmin(seen)), pg_snapshot_xmax(pg_current_snapshot()))::text::int8 FROM historian.cursor WHERE lost IS NULL
"""
_TOO_OLD = """
SELECT coalesce(max(xid), '0')::text::int8 FROM historian.ledger_content WHERE committed_at < clock_timestamp() - $1::float8 * interval '1 second'
"""
# from the newest back: the scan ends where the limit is reached
_TOO_MUCH = """
SELECT xid::text::int8 FROM (
    SELECT xid, sum(octet_length(content)) OVER (ORDER BY xid DESC) AS bytes FROM historian.ledger_content
) AS counted WHERE bytes > $1 ORDER BY xid DESC LIMIT 1
"""
# the file never shrinks: only where it has more than the limit is it worth counting
_STORED = "SELECT pg_total_relation_size('historian.ledger_content')"
# a bounded bite, so that no single statement is long
_FORGET = """
WITH gone AS (
    DELETE FROM historian.ledger_content WHERE xid IN (
        SELECT xid FROM historian.ledger_content
        WHERE xid < $1::text::xid8 AND committed_at < clock_timestamp() - $2::float8 * interval '1 second' ORDER BY xid LIMIT 50000)
    RETURNING xid
), lost AS (
    SELECT c.name, max(g.xid) AS xid FROM historian.cursor c
    JOIN gone g ON g.xid >= pg_snapshot_xmin(c.seen) AND NOT pg_visible_in_snapshot(g.xid, c.seen) GROUP BY c.name
)
UPDATE historian.cursor c SET lost = greatest(c.lost, l.xid) FROM lost l WHERE l.name = c.name
"""


async def forget_content(conn: Connection, *, kept_s: float, cursor_kept_s: float, cursor_kept_bytes: int) -> None:
    """Once: delete contents older than `kept_s` that no cursor waits for, or that are older than `cursor_kept_s`, or behind the newest `cursor_kept_bytes`."""
    below = max(await conn.fetchval(_HELD), await conn.fetchval(_TOO_OLD, max(kept_s, cursor_kept_s)) + 1)
    if await conn.fetchval(_STORED) > cursor_kept_bytes:
        below = max(below, (await conn.fetchval(_TOO_MUCH, cursor_kept_bytes) or 0) + 1)
    await conn.execute(_FORGET, str(below), kept_s)
