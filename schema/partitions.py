"""Room for samples of any time: on plain PostgreSQL the partitions of the months that a batch touches; TimescaleDB makes its chunks itself."""

from __future__ import annotations

import numpy as np

from historian.schema.connection import Pool, translated
from historian.schema.samples import Int64s


class Partitions:
    """Knows which months have a partition, and makes those that are missing before a batch is written."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._made: set[int] = set()
        self._needed: bool | None = None

    async def make_room(self, ts: Int64s) -> None:
        """Make what is missing for these timestamps (µs), in a transaction of its own. Raises Unavailable."""
        if self._needed is False or not len(ts):
            return
        if self._needed is None:
            with translated():
                self._needed = await self._pool.fetchval("SELECT to_regprocedure('historian.make_partitions(int[])') IS NOT NULL")
            if not self._needed:
                return
        first, last = (
            int(t.astype("datetime64[M]").astype(np.int64)) for t in (ts.min().astype("datetime64[us]"), ts.max().astype("datetime64[us]"))
        )
        if first == last and first in self._made:
            return
        months = {first} if first == last else set(np.unique(ts.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)).tolist())
        missing = sorted(months - self._made)
        if missing:
            with translated():
                await self._pool.execute("SELECT historian.make_partitions($1::int[])", missing)
            self._made.update(missing)

    def forget(self) -> None:
        """Look again before the next batch: a partition was dropped."""
        self._made.clear()
