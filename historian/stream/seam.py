"""The seam between backfill and live tail: exactly once, by transaction visibility.

The backfill runs in one REPEATABLE READ transaction; its database snapshot says of every transaction whether the backfill has seen it. Each frame of the live
bus carries the xid of its writer, and is left out if the snapshot sees that xid. No values and no clocks are compared, so neither the number of
writers nor the order in which they commit and publish matters. The caller attaches to the bus before it calls this: a transaction that commits after the
snapshot was taken is then published to an attached subscriber, whenever that is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from historian.query.range import RangeQuery, read_range
from historian.schema.connection import Connection, Pool, translated
from historian.schema.samples import Samples
from historian.schema.visibility import VisibilitySnapshot


async def backfill(
    pool: Pool,
    queries: Sequence[RangeQuery],
    on_seam: Callable[[VisibilitySnapshot], None],
    prepare: Callable[[Connection], Awaitable[None]] | None = None,
) -> AsyncGenerator[Samples, None]:
    """The history that the queries ask for, one after the other, as of one snapshot, which is told before the first rows. Raises Unavailable.

    `prepare` reads what else it needs as of that snapshot.
    """
    with translated():
        async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            on_seam(await VisibilitySnapshot.of(conn))
            if prepare is not None:
                await prepare(conn)
            for query in queries:
                async with aclosing(read_range(conn, query)) as chunks:
                    async for chunk in chunks:
                        yield chunk
