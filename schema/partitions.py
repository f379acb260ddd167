"""Room for samples of any time, made before they are written: partitions of the months on plain PostgreSQL, chunks on TimescaleDB; and whether they can be written
straight into the columnstore.

Made ahead of the write and in a transaction of its own, because whoever makes a partition or a chunk within a longer transaction keeps all other writers waiting
until that one ends.
"""

from __future__ import annotations

import numpy as np

from historian.schema.connection import Pool, translated
from historian.schema.samples import Bools, Int64s

_MONTH_US = 31 * 86_400 * 1_000_000
_MONTHS_AHEAD = 3

# TimescaleDB has no call of its own for it: a row makes its chunk, and the chunk stays when the row is taken back. No reader ever sees that row.
_TOUCH = "INSERT INTO historian.sample (tag_id, quality, ts, mantissa) VALUES (0, 0, $1, 0)"
_TAKE_BACK = "DELETE FROM historian.sample WHERE tag_id = 0 AND ts = $1"
_CHUNK = """
SELECT range_start, range_end FROM timescaledb_information.chunks
WHERE hypertable_schema = 'historian' AND hypertable_name = 'sample' AND range_start <= $1 AND range_end > $1
"""

# it changes with the rate (migration 0009)
_INTERVAL = "SELECT (date_part('epoch', historian.chunk_interval()) * 1000000)::int8"


# direct compress came with TimescaleDB 2.21; neither setting may be asked for where it is not known
_ENGINE = """
SELECT to_regprocedure('historian.make_partitions(int[])') IS NOT NULL AS plain,
       current_setting('timescaledb.enable_direct_compress_copy_client_sorted', true) IS NOT NULL AS direct
"""


class Partitions:
    """Knows for which times there is room, and makes what is missing."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        #: whether this is plain PostgreSQL; known after the first `make_room`
        self.plain: bool | None = None
        #: of plain PostgreSQL: months since January 1970
        self._months: set[int] = set()
        #: of TimescaleDB: [from, to) of each chunk, µs
        self._chunks: list[tuple[int, int]] = []
        #: those of them that are known to have been written straight into the columnstore
        self._columnar: set[tuple[int, int]] = set()
        #: whether COPY can write straight into the columnstore; known after the first `make_room`
        self.direct = False

    async def make_room(self, ts: Int64s) -> None:
        """Make what is missing for these timestamps (µs). Raises Unavailable."""
        if not len(ts):
            return
        if self.plain is None:
            with translated():
                row = await self._pool.fetchrow(_ENGINE)
            self.plain, self.direct = row["plain"], row["direct"] and not row["plain"]
        if self.plain:
            await self._make_months(ts)
        else:
            await self._make_chunks(ts)

    async def make_ahead(self, now: int) -> None:
        """Make what live samples will soon need: months, or the next chunk. Raises Unavailable."""
        await self.make_room(np.array([now], np.int64))
        if self.plain:
            ahead = [n * _MONTH_US for n in range(1, _MONTHS_AHEAD)]
        else:
            with translated():
                ahead = [await self._pool.fetchval(_INTERVAL)]
        await self.make_room(now + np.array(ahead, np.int64))

    async def _make_months(self, ts: Int64s) -> None:
        first, last = (
            int(t.astype("datetime64[M]").astype(np.int64)) for t in (ts.min().astype("datetime64[us]"), ts.max().astype("datetime64[us]"))
        )
        if first == last and first in self._months:
            return
        months = {first} if first == last else set(np.unique(ts.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)).tolist())
        missing = sorted(months - self._months)
        if missing:
            with translated():
                await self._pool.execute("SELECT historian.make_partitions($1::int[])", missing)
            self._months.update(missing)

    async def _make_chunks(self, ts: Int64s) -> None:
        low, high = int(ts.min()), int(ts.max())
        if any(start <= low and high < end for start, end in self._chunks):
            return
        homeless = ts[~self._has_chunk(ts)]
        while len(homeless):
            self._chunks.insert(0, await self._chunk(int(homeless[0])))
            homeless = homeless[~self._has_chunk(homeless)]

    def _has_chunk(self, ts: Int64s) -> Bools:
        bounds = np.array(sorted(self._chunks), np.int64).reshape(-1, 2)
        at = np.searchsorted(bounds[:, 0], ts, side="right") - 1
        found: Bools = (at >= 0) & (ts < bounds[:, 1][at]) if len(bounds) else np.zeros(len(ts), np.bool_)
        return found

    async def _chunk(self, ts: int) -> tuple[int, int]:
        """The chunk of a timestamp, made if need be."""
        with translated():
            async with self._pool.acquire() as conn:
                row = await conn.fetchrow(_CHUNK, ts)
                if row is None:
                    async with conn.transaction():
                        await conn.execute(_TOUCH, ts)
                        await conn.execute(_TAKE_BACK, ts)
                    row = await conn.fetchrow(_CHUNK, ts)
        if row is None:  # dropped again in between: the write makes it
            return ts, ts + 1
        return row["range_start"], row["range_end"]

    def is_columnar(self, ts: Int64s) -> bool:
        """Whether all of these times lie in chunks that have been written to directly before. The first direct write to a chunk changes its state, and
        whoever else would change it waits until that transaction ends."""
        return all(chunk in self._columnar for chunk in self._touched(ts))

    def made_columnar(self, ts: Int64s) -> None:
        """A direct write to these times has been committed."""
        self._columnar.update(self._touched(ts))

    def _touched(self, ts: Int64s) -> list[tuple[int, int]]:
        low, high = int(ts.min()), int(ts.max())
        return [(start, end) for start, end in self._chunks if start <= high and low < end]

    def forget(self) -> None:
        """Look again before the next batch: a partition was dropped."""
        self._months.clear()
        self._chunks.clear()
        self._columnar.clear()
