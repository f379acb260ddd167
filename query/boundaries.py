"""Boundaries: of each of many tags the newest sample before an instant, and the first from an instant on; of any quality.

Each is a walk along the index, or the columnstore's batches, that ends with the first sample. It goes away from the instant in stretches, each only for the tags that
have not had their sample in the one before: first an hour, then a day. Most tags are through with that, and a chunk or two are planned and started instead of all:
9 ms instead of 150 ms for 1 000 tags on 250 chunks of TimescaleDB. And where the batches of a chunk are not in order yet, those of an hour are sorted, and not all.

What lies further away, of tags that stopped, began later or never had a sample, is one more stretch on plain PostgreSQL, where a partition without samples of the tag
costs a microsecond. On TimescaleDB it costs twenty, and 1 000 tags without any take 5 s on 250 chunks. So there the stretches go on, of so many chunks, and each is
first asked which of the tags it has at all, in one walk along its indexes (SkipScan): 0.5 s.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from itertools import pairwise

import numpy as np

from historian.query import archive
from historian.query.raw import copy
from historian.query.times import EARLIEST, LATEST, format_time
from historian.schema.catalogue import Tag
from historian.schema.connection import Connection
from historian.schema.copy_binary import MAX_ROWS, NUMERIC_SELECT, TEXT_SELECT, NumericDecoder, TextDecoder
from historian.schema.samples import Int64s, Samples, concat
from historian.schema.stored import Form

_HOUR_US = 3_600_000_000
# how far from the instant the first stretches end
_NEAR_US = (_HOUR_US, 24 * _HOUR_US)
# Chunks of the stretches behind them. Tags that are found to be there cost some 40 µs a chunk, once; a stretch costs 3 ms however small.
_FAR_CHUNKS = (1, 2, 4, 8)
_FARTHEST_CHUNKS = 16

# gaps that are looked through in one query
_GAPS = 8

_HAS_CHUNKS = "SELECT to_regprocedure('historian.make_partitions(int[])') IS NULL"
_CHUNKS = """
SELECT range_start, range_end FROM timescaledb_information.chunks
WHERE hypertable_schema = 'historian' AND hypertable_name = 'sample' AND range_start < $2 AND range_end > $1 ORDER BY range_start
"""


async def samples_before(conn: Connection, tags: Sequence[Tag], instant: int) -> Samples:
    """Of each tag the newest sample before `instant` (µs), if there is one; in the order of tag_id.

    In the transaction that is open on `conn`, whose planner settings are changed until it ends. Raises the driver's errors: wrap it in `translated()`.
    """
    return await newest_samples(conn, tags, EARLIEST, instant)


async def samples_from(conn: Connection, tags: Sequence[Tag], instant: int) -> Samples:
    """Of each tag the first sample at or after `instant` (µs), if there is one; in the order of tag_id. Otherwise as `samples_before`."""
    return await oldest_samples(conn, tags, instant, LATEST + 1)


async def newest_samples(conn: Connection, tags: Sequence[Tag], start: int, end: int) -> Samples:
    """Of each tag the newest sample in [start, end) (µs), if there is one; in the order of tag_id. Otherwise as `samples_before`."""
    return await _Search(conn, tags, newest=True).within(start, end)


async def oldest_samples(conn: Connection, tags: Sequence[Tag], start: int, end: int) -> Samples:
    """Of each tag the oldest sample in [start, end) (µs), if there is one; in the order of tag_id. Otherwise as `samples_before`."""
    return await _Search(conn, tags, newest=False).within(start, end)


async def first_and_last_samples(conn: Connection, tags: Sequence[Tag], edges: Int64s) -> AsyncGenerator[Samples, None]:
    """Of each tag the first and the last sample in each gap (edge, next edge]; `edges` (µs) ascend. Some gaps at a time, in no order; a sample may come twice.

    For few gaps: each is two look-ups of each tag. Otherwise as `samples_before`.
    """
    if len(edges) < 2:
        return
    archived = await archive.look(conn, int(edges[0]) + 1, int(edges[-1]) + 1)
    for ids, columns in (
        (sorted({tag.tag_id for tag in tags if tag.kind != "text"}), NUMERIC_SELECT),
        (sorted({tag.tag_id for tag in tags if tag.kind == "text"}), TEXT_SELECT),
    ):
        for start in range(0, len(edges) - 1, _GAPS) if ids else ():
            sql = _gaps_sql(ids, edges[start : start + _GAPS + 1].tolist(), columns)
            decoder = NumericDecoder(min(2 * _GAPS * len(ids), MAX_ROWS)) if columns == NUMERIC_SELECT else TextDecoder()
            async with aclosing(copy(conn, sql, decoder)) as chunks:
                if not archived.parts:
                    async for chunk in chunks:
                        yield chunk
                    continue
                found = concat([chunk async for chunk in chunks])
            for low, high in pairwise(edges[start : start + _GAPS + 1].tolist()):
                inside = found.take((found.ts > low) & (found.ts <= high))
                inside = inside.take(np.lexsort((inside.ts, inside.tag_id)))
                form: Form = "number" if columns == NUMERIC_SELECT else "text"
                for newest in (False, True):
                    one = _ends(inside, newest=newest)
                    chunk = await archive.nearest(conn, archived, one, form, ids, low + 1, high + 1, newest=newest)
                    if len(chunk):
                        yield chunk


def _ends(samples: Samples, *, newest: bool) -> Samples:
    """The first or the last row of each tag, of samples sorted by (tag_id, ts)."""
    if not len(samples):
        return samples
    starts = np.flatnonzero(np.append(True, samples.tag_id[1:] != samples.tag_id[:-1]))
    return samples.take(np.append(starts[1:], len(samples)) - 1 if newest else starts)


def _gaps_sql(ids: Sequence[int], edges: Sequence[int], columns: str) -> str:
    """COPY takes no parameters. What stands in the text are integers, and times made from integers.

    Each look-up has its own times: of times that come out of a join the columnstore makes nothing, and unpacks all batches from the chunk's beginning on.
    """
    looks = []
    for low, high in pairwise(edges):
        inside = f"ts > '{format_time(low)}' AND ts <= '{format_time(high)}'"
        one = f"SELECT {columns} FROM historian.sample WHERE tag_id = k.id AND {inside} ORDER BY ts"  # noqa: S608
        looks += [f"({one} LIMIT 1)", f"({one} DESC LIMIT 1)"]
    listed = ",".join(str(int(tag_id)) for tag_id in ids)
    return f"SELECT s.* FROM unnest('{{{listed}}}'::int4[]) AS k (id) CROSS JOIN LATERAL ({' UNION ALL '.join(looks)}) AS s"  # noqa: S608


class _Search:
    """For one sample of each tag."""

    def __init__(self, conn: Connection, tags: Sequence[Tag], *, newest: bool) -> None:
        self._conn = conn
        self._newest = newest
        # those that have not been found
        self._numbers = sorted({tag.tag_id for tag in tags if tag.kind != "text"})
        self._texts = sorted({tag.tag_id for tag in tags if tag.kind == "text"})
        self._found: list[Samples] = []
        self._all: tuple[tuple[Form, list[int]], ...] = (("number", list(self._numbers)), ("text", list(self._texts)))

    async def within(self, start: int, end: int) -> Samples:
        # no sample lies outside these times, and not every instant outside them can be written
        start, end = max(start, EARLIEST), min(end, LATEST + 1)
        archived = await archive.look(self._conn, start, end) if start < end and not self._done else None
        low_end, high_end = start, end
        for far in _NEAR_US:
            if start >= end or self._done:
                break
            if self._newest:
                low = max(start, end - far)
                await self._look(low, end)
                end = low
            else:
                high = min(end, start + far)
                await self._look(start, high)
                start = high
        if start < end and not self._done:
            if await self._conn.fetchval(_HAS_CHUNKS):
                await self._look_by_chunks(start, end)
            else:
                await self._look(start, end)
        samples = concat(self._found)
        samples = samples.take(np.argsort(samples.tag_id, kind="stable"))
        if archived is None or not archived.parts:
            return samples
        nearest = []
        for form, ids in self._all:
            of_form = samples.take(np.isin(samples.tag_id, ids))
            nearest.append(await archive.nearest(self._conn, archived, of_form, form, ids, low_end, high_end, newest=self._newest))
        samples = concat(nearest)
        return samples.take(np.argsort(samples.tag_id, kind="stable"))

    @property
    def _done(self) -> bool:
        return not (self._numbers or self._texts)

    async def _look_by_chunks(self, start: int, end: int) -> None:
        chunks = [(max(row["range_start"], start), min(row["range_end"], end)) for row in await self._conn.fetch(_CHUNKS, start, end)]
        counts = itertools.chain(_FAR_CHUNKS, itertools.repeat(_FARTHEST_CHUNKS))
        while chunks and not self._done:
            count = next(counts)
            if self._newest:
                chunks, some = chunks[:-count], chunks[-count:]
            else:
                some, chunks = chunks[:count], chunks[count:]
            await self._look(some[0][0], some[-1][1], few=True)

    async def _look(self, start: int, end: int, *, few: bool = False) -> None:
        """Look for those that are missing in [start, end). `few`: most are not there."""
        for ids, columns in ((self._numbers, NUMERIC_SELECT), (self._texts, TEXT_SELECT)):
            if not ids:
                continue
            decoder = NumericDecoder(min(len(ids), MAX_ROWS)) if columns == NUMERIC_SELECT else TextDecoder()
            async with aclosing(copy(self._conn, self._sql(ids, start, end, columns, few=few), decoder)) as chunks:
                parts = [chunk async for chunk in chunks]
            if parts:
                self._found += parts
                have = set(np.concatenate([part.tag_id for part in parts]).tolist())
                ids[:] = [tag_id for tag_id in ids if tag_id not in have]

    def _sql(self, ids: Sequence[int], start: int, end: int, columns: str, *, few: bool) -> str:
        """COPY takes no parameters. What stands in the text are integers, and times made from integers."""
        listed = f"'{{{','.join(str(int(tag_id)) for tag_id in ids)}}}'::int4[]"
        inside = f"ts >= '{format_time(start)}' AND ts < '{format_time(end)}'"
        wanted = f"SELECT unnest({listed})"
        if few:
            wanted = f"SELECT DISTINCT tag_id FROM historian.sample WHERE tag_id = ANY({listed}) AND {inside}"  # noqa: S608
        return (
            f"SELECT s.* FROM ({wanted}) AS k (id) CROSS JOIN LATERAL ("  # noqa: S608
            f"SELECT {columns} FROM historian.sample WHERE tag_id = k.id AND {inside} ORDER BY ts {'DESC' if self._newest else 'ASC'} LIMIT 1) AS s"
        )
