"""The server's upkeep of its database: news of the catalogue, partitions ahead, and what the ledger need not keep."""

from __future__ import annotations

import asyncio
import logging
import time

from historian.schema.catalogue import Catalogue
from historian.schema.connection import Pool, translated
from historian.schema.errors import HistorianError
from historian.schema.ledger import ANONYMOUS
from historian.schema.ledger_retention import CURSOR_KEPT_BYTES, CURSOR_KEPT_S, forget_content
from historian.schema.partitions import Partitions

log = logging.getLogger(__name__)

_CATALOGUE_S = 1.0
_UPKEEP_S = 60.0

# A bounded bite, so that no single statement is long; the next one comes in a minute. The names of one beginning are a range of the key.
_ANONYMOUS = """
DELETE FROM historian.ledger WHERE (producer, seq) IN (
    SELECT producer, seq FROM historian.ledger
    WHERE producer >= $1 AND producer < $2 AND committed_at < clock_timestamp() - interval '1 hour' LIMIT 50000)
"""


class Maintenance:
    """Runs as one task, which the owner cancels. A database that is away is waited for."""

    def __init__(
        self,
        pool: Pool,
        catalogue: Catalogue,
        *,
        content_kept_s: float,
        cursor_kept_s: float = CURSOR_KEPT_S,
        cursor_kept_bytes: int = CURSOR_KEPT_BYTES,
    ) -> None:
        self._pool = pool
        self._catalogue = catalogue
        self._content_kept_s = content_kept_s
        self._cursor_kept_s = cursor_kept_s
        self._cursor_kept_bytes = cursor_kept_bytes
        self._partitions = Partitions(pool)

    async def run(self) -> None:
        due = 0.0
        while True:
            try:
                await self._catalogue.refresh()
                if time.monotonic() >= due:
                    due = time.monotonic() + _UPKEEP_S
                    await self.upkeep()
            except HistorianError as error:
                log.debug("upkeep: %s", error)
            except Exception:
                log.exception("upkeep failed")
            await asyncio.sleep(_CATALOGUE_S)

    async def upkeep(self) -> None:
        """Once: partitions ahead, old content and spent ledger rows away. Raises Unavailable."""
        await self._partitions.make_ahead(time.time_ns() // 1000)
        with translated():
            async with self._pool.acquire() as conn:
                await forget_content(
                    conn, kept_s=self._content_kept_s, cursor_kept_s=self._cursor_kept_s, cursor_kept_bytes=self._cursor_kept_bytes
                )
            await self._pool.execute(_ANONYMOUS, ANONYMOUS, ANONYMOUS[:-1] + chr(ord(ANONYMOUS[-1]) + 1))
