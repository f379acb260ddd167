"""Samples brought back from the archive into the database, and the archive's files verified.

Promise. Each sample comes back once: the rows of some tags, and the note that they are no longer read from the file, are one transaction, under the lock by which
writers take turns at a tag. What stands in the database at a (tag, ts) is left: it came later. Killed at any instant and run again, the rest comes. Rollups stay as they
are: they count these samples already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from historian.query import archive as reading
from historian.query.archive import Archive
from historian.schema.archive import Part, Store
from historian.schema.connection import PG_EPOCH_US, Connection, Pool, translated
from historian.schema.errors import ArchiveFault, BadInput
from historian.schema.partitions import Partitions
from historian.schema.stored import ContentHash, Stored
from historian.storage.archive import alone, clean, settle_place, write_manifest

#: tags are brought back together up to about so many rows: their writers wait meanwhile, less than a second
_ROWS = 200_000
#: readers that began before a restore still read the file
_READERS = "1 hour"


@dataclass(frozen=True, slots=True)
class ArchivedPart:
    """A file of the archive, for people. Times in µs; `tags` are those that are still read from it."""

    part_id: int
    file: str
    group: str
    form: str
    lo: int
    hi: int
    tags: int
    restored: int
    rows: int
    bytes: int
    sha256: str
    content: str
    footer: str


@dataclass(slots=True)
class Restored:
    """What a restore has done. `rows` came back; `stood`: others were in the database already. `files` are no longer part of the archive."""

    rows: int = 0
    stood: int = 0
    files: int = 0


_LIST = """
SELECT part_id, file, group_name, form, lo, hi, cardinality(tag_ids) - cardinality(restored), cardinality(restored), rows, bytes, sha256, content, footer
FROM historian.archive_part ORDER BY lo, part_id
"""

_WANTED = """
SELECT part_id, file, form, (extract(epoch FROM first_ts) * 1000000)::int8, (extract(epoch FROM last_ts) * 1000000)::int8, rows, bytes, footer, restored, tag_ids, lo, hi
FROM historian.archive_part WHERE hi > $1 AND lo < $2 ORDER BY part_id DESC
"""


async def parts(pool: Pool) -> list[ArchivedPart]:
    """All files of the archive, the oldest first. Raises Unavailable."""
    with translated():
        return [ArchivedPart(*row) for row in await pool.fetch(_LIST)]


async def place(pool: Pool) -> str | None:
    """Where the archive is. Raises Unavailable."""
    with translated():
        found: str | None = await pool.fetchval("SELECT uri FROM historian.retention_state")
        return found


def verify(store: Store, part: ArchivedPart) -> str | None:
    """Read a file as a whole and compare it with what was written; what is wrong with it, or None. Blocks: call it in a thread."""
    try:
        size, sha256 = store.digest(part.file)
        if size != part.bytes or sha256 != part.sha256:
            return f"is damaged: {size:,} bytes with SHA-256 {sha256[:12]}…, and {part.bytes:,} with {part.sha256[:12]}… were written"
        found = ContentHash()
        for stored in store.contents(part.file, "text" if part.form == "text" else "number"):
            found.add(stored)
        if (found.rows, found.hexdigest()) != (part.rows, part.content):
            return f"has {found.rows:,} rows that are not the {part.rows:,} that were written"
    except ArchiveFault as error:
        return str(error)
    return None


async def restore(
    pool: Pool,
    *,
    uri: str | None = None,
    start: int,
    end: int,
    tag_ids: Sequence[int] | None = None,
    keep_days: int,
    on_rows: Callable[[str, int, int], None] | None = None,
) -> Restored:
    """Bring back the samples of these tags (None: of all) in the days that [start, end) (µs) touches; they are not archived again for `keep_days`.

    Whole days, and whole files of them: of other files that overlap with those, too, since one may correct the other. `on_rows` is told of each file how many of its
    rows are done, of how many. Raises BadInput where there is nothing to restore, Conflict, ArchiveFault, Unavailable.
    """
    told = on_rows or (lambda file, done, total: None)
    result = Restored()
    with translated():
        async with alone(pool) as conn:
            store = await settle_place(conn, uri)
            rows, start, end = await _overlapping(conn, start, end)
            if store is None or not rows:
                raise BadInput("nothing of that is in the archive; historian archive list shows what is")
            await clean(conn, store)
            await conn.execute(
                "INSERT INTO historian.archive_hold (lo, hi, until) VALUES ($1, $2, now() + make_interval(days => $3))",
                start,
                end,
                keep_days,
            )
            for *fields, of_part, _, _ in rows:
                part = Part.of(fields)
                wanted = np.array(
                    sorted(set(of_part).difference(part.restored).intersection(of_part if tag_ids is None else tag_ids)), np.int32
                )
                await _restore_part(conn, pool, store, part, wanted, result, told)
                if await _retire(conn, part):
                    result.files += 1
            await write_manifest(conn, store, pool)
    return result


async def _overlapping(conn: Connection, start: int, end: int) -> tuple[Sequence[Any], int, int]:
    """The parts of a span, the latest first, and the span widened to their days."""
    while True:
        rows = await conn.fetch(_WANTED, start, end)
        low, high = min((row["lo"] for row in rows), default=start), max((row["hi"] for row in rows), default=end)
        if low >= start and high <= end:
            # what is held is whole days
            return rows, low, high
        start, end = min(low, start), max(high, end)


async def _restore_part(
    conn: Connection,
    pool: Pool,
    store: Store,
    part: Part,
    wanted: np.ndarray[tuple[int], np.dtype[np.int32]],
    result: Restored,
    told: Callable[[str, int, int], None],
) -> None:
    opened = await asyncio.to_thread(store.open, part)
    archive = Archive(store.uri, (part,))
    done = 0
    told(part.file, done, part.rows)
    partitions = Partitions(pool)
    for low, high in reading.batches([opened], wanted, _ROWS):
        some = wanted[low:high].tolist()
        async with conn.transaction():
            await conn.execute("SELECT historian.keep_rollups()")
            await conn.execute("SELECT FROM historian.snapshot WHERE tag_id = ANY ($1) ORDER BY tag_id FOR NO KEY UPDATE", some)
            async for stored in archive.read(part.form, some, part.first_ts, part.last_ts + 1):
                await partitions.make_room(stored.ts)
                fresh = stored.take(~await _standing(conn, stored))
                for columns, source in fresh.copies():
                    await conn.copy_to_table("sample", schema_name="historian", source=source, columns=columns, format="binary")
                result.rows += len(fresh)
                result.stood += len(stored) - len(fresh)
                done += len(stored)
                told(part.file, done, part.rows)
            await conn.execute("UPDATE historian.archive_part SET restored = restored || $2::int4[] WHERE part_id = $1", part.part_id, some)


async def _standing(conn: Connection, stored: Stored) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which of these (tag, ts) the database has."""
    tags = np.unique(stored.tag_id).tolist()
    rows = await conn.fetch(
        "SELECT s.tag_id, string_agg(timestamptz_send(s.ts), NULL) AS stamps FROM historian.sample s"
        " WHERE s.tag_id = ANY ($1) AND s.ts >= $2 AND s.ts <= $3 GROUP BY 1",
        *(tags, int(stored.ts.min()), int(stored.ts.max())),
    )
    stands = np.zeros(len(stored), np.bool_)
    for tag_id, stamps in rows:
        own = slice(*(int(np.searchsorted(stored.tag_id, tag_id, side)) for side in ("left", "right")))
        stands[own] = np.isin(stored.ts[own], np.frombuffer(stamps, ">i8") + PG_EPOCH_US)
    return stands


async def _retire(conn: Connection, part: Part) -> bool:
    """Have a file of which everything was restored be none of the archive's any more."""
    async with conn.transaction():
        status = await conn.execute("DELETE FROM historian.archive_part WHERE part_id = $1 AND tag_ids <@ restored", part.part_id)
        if status == "DELETE 0":
            return False
        await conn.execute(
            f"INSERT INTO historian.archive_pending (file, from_then) VALUES ($1, now() + interval '{_READERS}')",  # noqa: S608
            part.file,
        )
    return True
