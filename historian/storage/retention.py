"""Retention as a server sees to it: once an hour what has expired is archived, if there is where, and removed; once a minute late samples are taken into old rollups.

Of several servers on one database one does it. Where nothing is ever removed, that costs a look at one row a minute.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from historian.schema.connection import Pool, translated
from historian.schema.errors import Conflict, HistorianError, Unavailable
from historian.storage.archive import Archiver, settle_late

log = logging.getLogger(__name__)

_LATE_S = 60.0
_EVERY_S = 3600.0
#: what waited for rollups, or failed, is tried again so soon
_AGAIN_S = 300.0

# `since` stands from the first limit that any group was given
_LIMITED = "SELECT since IS NOT NULL FROM historian.retention_state"


@dataclass(slots=True)
class RetentionCounts:
    """What has been done since the start."""

    archived: int = 0
    deleted: int = 0
    failures: int = 0


class Retention:
    """Runs as one task, which the owner cancels. A database that is away is waited for. `uri`: where the archive is; None: it does not
    archive, which is for the machine that can write there."""

    def __init__(self, pool: Pool, uri: str | None) -> None:
        self._pool = pool
        self._uri = uri
        self.counts = RetentionCounts()

    async def run(self) -> None:
        due, told = 0.0, False
        while True:
            await asyncio.sleep(_LATE_S)
            try:
                with translated():
                    limited = await self._pool.fetchval(_LIMITED)
                if not limited:
                    continue
                if time.monotonic() >= due:
                    due = time.monotonic() + _AGAIN_S
                    if await self.tend():
                        due = time.monotonic() + _EVERY_S
                else:
                    with translated():
                        async with self._pool.acquire() as conn:
                            await settle_late(conn)
                told = False
            except (Unavailable, Conflict) as error:
                log.debug("retention: %s", error)
            except Exception as error:
                self.counts.failures += 1
                if not told:
                    # once, until it goes well again
                    log.error("retention: %s", error, exc_info=not isinstance(error, HistorianError))
                    told = True

    async def tend(self) -> bool:
        """Once, all that is due. Whether it was all: false while rollups are still to be made. Raises HistorianError."""
        report = await Archiver(self._pool, self._uri, archives=self._uri is not None, wait=False).run()
        self.counts.archived += report.rows
        self.counts.deleted += report.deleted
        return not report.waits
