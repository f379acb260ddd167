"""Rollups of the plain engine, refreshed from the log of what was written. (On TimescaleDB the job historian.tend_rollups of the database does it.)"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from historian.schema.connection import Pool, translated
from historian.schema.errors import HistorianError

log = logging.getLogger(__name__)

_EVERY_S = 10.0
#: a minute is made when it has been over for so long: most samples have come by then, and those that come later make it again
_SETTLES_S = 5.0

_REFRESH = "SELECT historian.refresh_rollups(clock_timestamp() - $1::float8 * interval '1 second')"


@dataclass(slots=True)
class RefreshCounts:
    """What has been refreshed since the start."""

    #: stretches of buckets of a tag and a level
    stretches: int = 0
    failures: int = 0


class RollupRefresh:
    """Runs as one task, which the owner cancels. A database that is away is waited for; of several servers on one database, one at a time refreshes."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.counts = RefreshCounts()

    async def run(self) -> None:
        told = False
        while True:
            try:
                await self.refresh()
                told = False
            except HistorianError as error:
                log.debug("refresh of rollups: %s", error)
            except Exception:
                self.counts.failures += 1
                if not told:
                    # once, until it goes well again
                    log.exception("refresh of rollups failed; what was not refreshed is read from the samples themselves")
                    told = True
            await asyncio.sleep(_EVERY_S)

    async def refresh(self, settles_s: float = _SETTLES_S) -> int:
        """All that there is to refresh now, in bites of a transaction each. Returns how many stretches of buckets were made. Raises Unavailable."""
        made = 0
        while True:
            with translated():
                found: int = await self._pool.fetchval(_REFRESH, settles_s)
            made += found
            self.counts.stretches += found
            if not found:
                return made
