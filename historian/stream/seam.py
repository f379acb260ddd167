"""The seam between backfill and live tail: exactly once, by transaction visibility.

The backfill runs in one REPEATABLE READ transaction; its database snapshot says of every transaction whether the backfill has seen it. Each frame of the live
bus carries the xid of its writer, and is left out if the snapshot sees that xid. No values and no clocks are compared, so neither the number of
writers nor the order in which they commit and publish matters. The caller attaches to the bus before it calls this: a transaction that commits after the
snapshot was taken is then published to an attached subscriber, whenever that is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from historian.query.range import RangeQuery, read_range
from historian.schema.catalogue import Tag
from historian.schema.connection import Connection, Pool, translated
from historian.schema.errors import HistorianError
from historian.schema.samples import Samples
from historian.schema.visibility import VisibilitySnapshot

log = logging.getLogger(__name__)

#: a tag that there is not, and a time in which the samples and the rollups that a trend mostly needs lie, µs
_NOBODY = (Tag(0, "nobody", "float"),)
_MONTH_US = 30 * 86_400_000_000


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


async def warm_up(pool: Pool, connections: int) -> None:
    """Have some connections of the pool know what a backfill needs: on a new one the first takes 30 to 80 ms longer, in which the server looks up tables and partitions,
    and the driver prepares its statements."""

    async def know(ready: asyncio.Barrier) -> None:
        with translated():
            async with pool.acquire() as conn:
                # each has another one
                await ready.wait()
                async with conn.transaction(isolation="repeatable_read", readonly=True):
                    await VisibilitySnapshot.of(conn)
                    now = time.time_ns() // 1000
                    for query in (RangeQuery(_NOBODY, now - _MONTH_US, now, "auto"), RangeQuery(_NOBODY, now, now + _MONTH_US)):
                        async with aclosing(read_range(conn, query)) as chunks:
                            async for _ in chunks:
                                pass

    ready = asyncio.Barrier(connections)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(know(ready))
    except* HistorianError as errors:
        # it will be seen again, by somebody who is told
        log.info("connections for backfills were not prepared: %s", errors.exceptions[0])
