"""Raw samples that have gone into the archive, read together with those in the database as one table, in order, in bounded memory.

Exactly once: which files are part of the archive stands in the database, and changes in the transactions that delete or bring back samples. A reader learns it in its
own snapshot, and so has each sample from one of the two. Chunks and partitions are dropped when nothing is left in them; since a drop shows in older snapshots too, a
reader whose snapshot is older than that is told to ask again (historian.archive_guard). A sample in the database wins over one in the archive at the same (tag, ts): it
came later.

A file that is missing or damaged is an error, never fewer samples: all files of a query are looked at before its first row.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from historian.schema.archive import Opened, Part, Store
from historian.schema.connection import Connection
from historian.schema.copy_binary import MAX_ROWS
from historian.schema.errors import ArchiveFault, Unavailable
from historian.schema.samples import Int32s, Int64s, Samples, concat, last_writes
from historian.schema.stored import Form, Stored, concat_stored

#: rows that are read from the archive at a time: 40 MB; single tags that have more are read in stretches of time
_ROWS = 1 << 20
#: tags whose row groups are looked up at a time
_TAGS = 1024

# In one go, so that a query without an archive pays no round trip for it. The plan's settings: see historian.query.raw.
_LOOK = """
SELECT set_config('enable_bitmapscan', 'off', true), set_config('enable_seqscan', 'off', true), set_config('random_page_cost', '1.1', true),
    EXISTS (SELECT FROM historian.archive_guard),
    (SELECT relfilenode FROM pg_class WHERE oid = 'historian.archive_guard'::regclass) = pg_relation_filenode('historian.archive_guard') AS current,
    (SELECT uri FROM historian.retention_state) AS uri,
    (SELECT json_agg(json_build_array(part_id, file, form, (extract(epoch FROM first_ts) * 1000000)::int8, (extract(epoch FROM last_ts) * 1000000)::int8,
                                      rows, bytes, footer, restored) ORDER BY part_id)
     FROM historian.archive_part WHERE hi > $1 AND lo < $2 AND last_ts >= $1 AND first_ts < $2)::text AS parts
"""

# what PostgreSQL can have as a time: queries ask up to for ever
_EARLIEST, _LATEST = -210_866_803_200_000_000, 9_223_371_331_199_999_999 - 10_000_000_000_000_000

_stores: dict[str, Store] = {}
_elsewhere: str | None = None


def use_place(uri: str | None) -> None:
    """Have this process read the archive at another place than the database says, as where it is mounted elsewhere; None: where it says."""
    global _elsewhere
    _elsewhere = uri


def store_at(uri: str) -> Store:
    """The archive at a place; of each place there is one in the process, which keeps files open. Raises BadInput."""
    if uri not in _stores:
        _stores[uri] = Store(uri)
    return _stores[uri]


def forget() -> None:
    """Open every file anew."""
    _stores.clear()


@dataclass(frozen=True, slots=True)
class Archive:
    """The parts of the archive that may have samples of a query."""

    uri: str | None
    parts: tuple[Part, ...]

    def of(self, form: Form) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.form == form)

    def read(self, form: Form, tag_ids: Sequence[int], start: int, end: int) -> AsyncGenerator[Stored, None]:
        """Rows of these tags in [start, end) (µs), ordered by (tag_id, ts), each once, at most MAX_ROWS a chunk. Raises ArchiveFault."""
        uri = _elsewhere or self.uri
        if uri is None:
            raise ArchiveFault(f"the database has {len(self.parts)} files in an archive, and does not say where; set HISTORIAN_ARCHIVE_DIR")
        return _read(store_at(uri), self.of(form), np.unique(np.array(tag_ids, np.int32)), start, end)


async def look(conn: Connection, start: int, end: int) -> Archive:
    """What of [start, end) (µs) is in the archive, in the snapshot of the transaction that is open on `conn`; also settles the plan of the query to come.

    Raises Unavailable if a chunk was dropped since the snapshot was taken.
    """
    row = await conn.fetchrow(_LOOK, max(start, _EARLIEST), min(end, _LATEST))
    if not row["current"]:
        raise Unavailable("samples were moved into the archive just now; ask again", retry_after=0)
    parts = json.loads(row["parts"] or "[]")
    return Archive(row["uri"], tuple(map(Part.of, parts)))


_HAVE = """
SELECT p.part_id, ARRAY(SELECT unnest(p.tag_ids) INTERSECT SELECT unnest($2::int4[]) EXCEPT SELECT unnest(p.restored)) AS tag_ids
FROM historian.archive_part p WHERE p.part_id = ANY ($1::int8[])
"""


async def nearest(
    conn: Connection, archive: Archive, found: Samples, form: Form, tag_ids: Sequence[int], start: int, end: int, *, newest: bool
) -> Samples:
    """Of each tag the newest sample in [start, end) (µs), or the oldest, of what was `found` in the database and of the archive; in the order of tag_id.

    `found` is the database's answer to the same. Files are gone through from that end on, each for the tags that it has and that might have a nearer sample there.
    """
    parts = archive.of(form)
    best: dict[int, tuple[int, int]] = {int(tag): (int(ts), n) for n, (tag, ts) in enumerate(zip(found.tag_id, found.ts, strict=True))}
    if not parts:
        return found
    have = dict(await conn.fetch(_HAVE, [part.part_id for part in parts], list(tag_ids)))
    rows = found
    # of two files with the same (tag, ts) the later one, which is asked first
    for part in sorted(parts, key=lambda part: (part.last_ts if newest else -part.first_ts, part.part_id), reverse=True):
        if newest:
            wanted = [tag for tag in have[part.part_id] if tag not in best or best[tag][0] < part.last_ts]
        else:
            wanted = [tag for tag in have[part.part_id] if tag not in best or best[tag][0] > part.first_ts]
        some: list[Samples] = []
        if wanted:
            async for stored in Archive(archive.uri, (part,)).read(form, wanted, start, end):
                starts = np.flatnonzero(np.append(True, stored.tag_id[1:] != stored.tag_id[:-1]))
                some.append(stored.take(np.append(starts[1:], len(stored)) - 1 if newest else starts).samples())
        nearer = concat(some)
        for n, (tag, ts) in enumerate(zip(nearer.tag_id.tolist(), nearer.ts.tolist(), strict=True), len(rows)):
            if tag not in best or (ts > best[tag][0] if newest else ts < best[tag][0]):
                best[tag] = (ts, n)
        rows = concat([rows, nearer]) if len(nearer) else rows
    return rows.take(np.array([best[tag][1] for tag in sorted(best)], np.int64))


async def merged(
    live: AsyncGenerator[Samples, None], archived: AsyncGenerator[Stored, None], limit: int | None = None
) -> AsyncGenerator[Samples, None]:
    """Both, ordered by (tag_id, ts), as one, at most `limit` rows; where both have a (tag, ts), the live one. Chunks of 1 to MAX_ROWS rows.

    Of the live ones there are at most `limit` too: they are taken to their end, so that their query is not cancelled, and the transaction goes on.
    """
    async with aclosing(archived), aclosing(live):
        async with aclosing(_merged(live, archived)) as chunks:
            async for chunk in chunks:
                if limit is None:
                    yield chunk
                    continue
                if limit:
                    yield chunk.slice(0, min(limit, len(chunk)))
                limit -= min(limit, len(chunk))
                if not limit:
                    break
        async for _ in live:
            pass


async def _merged(live: AsyncGenerator[Samples, None], archived: AsyncGenerator[Stored, None]) -> AsyncGenerator[Samples, None]:
    mine, other = await anext(live, None), await _samples(archived)
    while mine is not None and other is not None:
        # up to where both are known
        until = min((int(some.tag_id[-1]), int(some.ts[-1])) for some in (mine, other))
        n, m = up_to(mine, *until), up_to(other, *until)
        for part in joined(other.slice(0, m), mine.slice(0, n)).pieces(MAX_ROWS):
            yield part
        mine = mine.slice(n, len(mine)) if n < len(mine) else await anext(live, None)
        other = other.slice(m, len(other)) if m < len(other) else await _samples(archived)
    while mine is not None:
        yield mine
        mine = await anext(live, None)
    while other is not None:
        yield other
        other = await _samples(archived)


async def _samples(archived: AsyncGenerator[Stored, None]) -> Samples | None:
    found = await anext(archived, None)
    return found.samples() if found is not None else None


def up_to(samples: Samples, tag_id: int, ts: int) -> int:
    """How many rows, of those sorted by (tag_id, ts), are at or before this one."""
    first, past = (int(np.searchsorted(samples.tag_id, tag_id, side)) for side in ("left", "right"))
    return first + int(np.searchsorted(samples.ts[first:past], ts, "right"))


def joined(older: Samples, newer: Samples) -> Samples:
    """Both, ordered by (tag_id, ts), as one; where both have a (tag, ts), the newer one."""
    if not len(older) or not len(newer):
        return newer if len(newer) else older
    both = concat([older, newer])
    return both.take(last_writes(both.tag_id, both.ts))


async def _read(store: Store, parts: Sequence[Part], tag_ids: Int32s, start: int, end: int) -> AsyncGenerator[Stored, None]:
    opened = [await asyncio.to_thread(store.open, part) for part in parts]
    for first in range(0, len(tag_ids), _TAGS):
        some = tag_ids[first : first + _TAGS]
        for low, high in batches(opened, some):
            for span in _spans(opened, some[low:high], start, end):
                rows = await asyncio.to_thread(_rows, opened, parts, some[low:high], *span)
                for at in range(0, len(rows), MAX_ROWS):
                    yield rows.take(np.arange(at, min(at + MAX_ROWS, len(rows))))


def _groups(file: Opened, tag_ids: Int32s) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Of each tag the row groups [first, past) that may have it."""
    return np.searchsorted(file.tag_high, tag_ids, "left"), np.searchsorted(file.tag_low, tag_ids, "right")


def batches(opened: Sequence[Opened], tag_ids: Int32s, most: int = _ROWS) -> Iterator[tuple[int, int]]:
    """Positions [low, high) of tags that are read together: as many as have `most` rows at most in their row groups, or a single one."""
    places = [(file.before, *_groups(file, tag_ids)) for file in opened]
    low = 0
    while low < len(tag_ids):
        high = len(tag_ids)
        # rows in the row groups from the first tag's to that of each that follows: they only grow
        rows = np.zeros(high - low, np.int64)
        for before, first, past in places:
            rows += np.maximum(before[past[low:]] - before[first[low]], 0)
        high = low + max(1, int(np.searchsorted(rows, most, "right")))
        yield low, high
        low = high


def _spans(opened: Sequence[Opened], tag_ids: Int32s, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Stretches of [start, end) (µs) in which these tags have about _ROWS rows. More than one only of a single tag: the order is by tag first."""
    if len(tag_ids) > 1:
        yield start, end
        return
    lows: list[Int64s] = []
    sizes: list[Int64s] = []
    for file in opened:
        (first,), (past,) = _groups(file, tag_ids)
        overlaps = np.arange(first, past)
        overlaps = overlaps[(file.ts_low[overlaps] < end) & (file.ts_high[overlaps] >= start)]
        lows.append(file.ts_low[overlaps])
        sizes.append(file.before[overlaps + 1] - file.before[overlaps])
    low, size = np.concatenate(lows), np.concatenate(sizes)
    order = np.argsort(low, kind="stable")
    begun, rows = start, 0
    for at, more in zip(low[order].tolist(), size[order].tolist(), strict=True):
        if rows and rows + more > _ROWS and at > begun:
            yield begun, at
            begun, rows = at, 0
        rows += more
    if rows:
        yield begun, end


def _rows(opened: Sequence[Opened], parts: Sequence[Part], tag_ids: Int32s, start: int, end: int) -> Stored:
    found: list[Stored] = []
    for file, part in zip(opened, parts, strict=True):
        wanted = tag_ids[~np.isin(tag_ids, list(part.restored))] if part.restored else tag_ids
        if not len(wanted) or part.last_ts < start or part.first_ts >= end:
            continue
        first, past = _groups(file, wanted)
        touched = np.zeros(len(file.tag_low) + 1, np.int64)
        np.add.at(touched, first, 1)
        np.subtract.at(touched, np.maximum(past, first), 1)
        groups = np.flatnonzero((np.cumsum(touched[:-1]) > 0) & (file.ts_low < end) & (file.ts_high >= start))
        rows = file.read(groups.tolist(), wanted, start, end)
        if len(rows):
            found.append(rows)
    if len(found) < 2:
        return found[0] if found else Stored.empty(opened[0].form if opened else "number")
    both = concat_stored(found)
    return both.take(last_writes(both.tag_id, both.ts))
