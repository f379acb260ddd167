"""The ledger sweep: finds what was committed and not published, and publishes it in its writer's stead.

A writer that dies between commit and publication, one in another process, a notice that got lost: the ledger has them all. The sweep runs every
`interval_s`, when another process rings the doorbell after a commit, and when a stream opens.

Why nothing slips through: one statement reads a database snapshot and all ledger entries that it sees from the hub's watermark on. What it sees and the hub
has not passed on is published; then everything below the snapshot's xmin is finished business, and xmin becomes the watermark.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from historian.schema import ledger
from historian.schema.connection import Pool, translated
from historian.schema.doorbell import listen
from historian.schema.errors import HistorianError, Unavailable
from historian.schema.ledger import Notice
from historian.schema.visibility import VisibilitySnapshot
from historian.stream.hub import Hub

log = logging.getLogger(__name__)

_LOOK = """
SELECT pg_current_snapshot()::text AS snapshot,
       ARRAY(SELECT xid::text::int8 FROM historian.ledger_content WHERE xid >= $1::text::xid8 ORDER BY position) AS xids
"""
_FETCH = """
SELECT xid::text::int8 AS xid, position, content FROM historian.ledger_content
WHERE xid = ANY($1::text[]::xid8[]) ORDER BY position
"""
#: contents fetched at once: bounds memory when there is much to catch up on
_FETCHED_AT_ONCE = 8


class Sweep:
    """Sweeps the ledger for one hub, on connections of a pool. `run` is its task, which the owner starts and cancels. `on_bus`: whether a bus between servers brings
    most of it sooner."""

    def __init__(self, pool: Pool, hub: Hub, *, instance: str, interval_s: float = 0.5, on_bus: Callable[[], bool] = lambda: False) -> None:
        self._pool = pool
        self._hub = hub
        self._instance = instance
        self._interval_s = interval_s
        self._on_bus = on_bus
        self._wanted = asyncio.Event()
        self._finished = asyncio.Condition()
        self._started = 0
        self._completed = 0
        self._failure: HistorianError | None = None
        self.found = 0

    async def begin(self) -> None:
        """Start from now: what is committed already is history. Raises Unavailable."""
        with translated():
            async with self._pool.acquire() as conn:
                self._hub.raise_watermark((await VisibilitySnapshot.of(conn)).xmin)

    async def run(self) -> None:
        """Sweep until cancelled; a database that is away is waited for."""
        listener = asyncio.create_task(listen(self._pool, ledger.DOORBELL, self._hear, self._wanted.set, self._interval_s))
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._interval_s):
                        await self._wanted.wait()
                self._wanted.clear()
                self._started += 1
                failure: HistorianError | None = None
                try:
                    await self._sweep()
                except HistorianError as error:
                    failure = error
                    log.warning("ledger sweep: %s", error)
                except Exception as error:
                    failure = Unavailable(f"the ledger sweep failed: {error}")
                    log.exception("ledger sweep failed")
                async with self._finished:
                    self._completed = self._started
                    self._failure = failure
                    self._finished.notify_all()
                if failure is not None:
                    # not at the speed of the callers that wait for it
                    await asyncio.sleep(self._interval_s)
        finally:
            listener.cancel()
            with suppress(asyncio.CancelledError):
                await listener

    async def after_now(self) -> None:
        """Return when a sweep that started after this call has ended: all that was visible at the call has been handed on. Raises Unavailable."""
        wanted = self._started + 1
        self._wanted.set()
        async with self._finished:
            await self._finished.wait_for(lambda: self._completed >= wanted)
            if self._failure is not None:
                raise Unavailable(str(self._failure))

    async def _sweep(self) -> None:
        with translated():
            async with self._pool.acquire() as conn:
                row = await conn.fetchrow(_LOOK, str(self._hub.watermark))
                missing = [xid for xid in row["xids"] if not self._hub.has_passed(xid)]
                for start in range(0, len(missing), _FETCHED_AT_ONCE):
                    # some may have been published by their writers since
                    chunk = [str(xid) for xid in missing[start : start + _FETCHED_AT_ONCE] if not self._hub.has_passed(xid)]
                    for found in await conn.fetch(_FETCH, chunk):
                        self.found += not self._hub.has_passed(found["xid"])
                        self._hub.publish(Notice(found["xid"], found["position"], ledger.decode_content(found["content"])))
        self._hub.raise_watermark(VisibilitySnapshot.parse(row["snapshot"]).xmin)

    def _hear(self, payload: str) -> None:
        ringer = payload.removesuffix(ledger.RELAYED)
        # what comes over the bus anyway is not read from the database as well, unless it has not come by the next sweep
        if ringer != self._instance and not (ringer != payload and self._on_bus()):
            self._wanted.set()
