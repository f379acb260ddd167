"""The archive's upkeep: raw samples that have expired go into Parquet files and leave the database; late ones among what is archived are taken into rollups and archive.

Promise. A sample is in the database or in a file of the archive, never in both and never in none, in every snapshot: a file is written, on disk, read back and compared
before the transaction that read its rows deletes exactly those and names the file. Killed at any instant, that transaction has happened or has not; a file without one is
found by the next run and deleted. Rows that somebody corrects meanwhile make the transaction begin again.

One run at a time, by a lock of the connection that does the work.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import asyncpg
import numpy as np

from historian.query import archive as reading
from historian.query.raw import copy_stored
from historian.query.times import format_time
from historian.schema.archive import FORMAT, MANIFEST, Store, Writer, Written
from historian.schema.catalogue import Catalogue
from historian.schema.connection import Connection, Pool, translated
from historian.schema.errors import BadInput, Conflict, HistorianError, Unavailable
from historian.schema.stored import Form
from historian.storage.rollups import RollupRefresh

log = logging.getLogger(__name__)

DAY_US = 86_400_000_000
#: days go into one file up to so many rows, and one day in any case; never those of two months
PART_ROWS = 10_000_000
#: others who write the same rows at the same time are given way so often
_TRIES = 4
#: stretches of late samples that are worked on in a transaction
_LATE = 100
#: so long the database's own job is waited for, which makes the rollups before anything is removed
_ROLLUPS_S = 150.0

_RACED = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)


@dataclass(slots=True)
class Report:
    """What a run has done. `waits`: the rollups of what has expired are not made yet; the next run goes on."""

    files: int = 0
    rows: int = 0
    bytes: int = 0
    deleted: int = 0
    dropped: int = 0
    buckets: int = 0
    late: int = 0
    cleaned: int = 0
    waits: bool = False
    #: groups whose samples have expired, and wait for a run that has an archive
    unarchived: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pack:
    """Days of a group, [lo, hi) in µs, that become one file, or two with that of the text tags. `rows` is what was counted."""

    group: str
    form: Form
    tag_ids: list[int]
    lo: int
    hi: int
    rows: int


OnPart = Callable[[Pack, int], None]
"""Told of each file: what it is of, and how many rows are in it so far."""


@asynccontextmanager
async def alone(pool: Pool) -> AsyncIterator[Connection]:
    """A connection that works on the archive, and no other does. Raises Conflict if another one does now, Unavailable."""
    with translated():
        async with pool.acquire() as conn:
            if not await conn.fetchval("SELECT pg_try_advisory_lock(hashtext('historian.archive'))"):
                raise Conflict("the archive is being worked on by another process; wait until it is done")
            try:
                yield conn
            finally:
                if not conn.is_closed():
                    await conn.execute("SELECT pg_advisory_unlock(hashtext('historian.archive'))")


async def settle_place(conn: Connection, uri: str | None) -> Store | None:
    """The archive of this database, at `uri` or where it is; None where there is none yet and none is named.

    Raises BadInput if `uri` is the archive of another database, or not where this one's files are.
    """
    row = await conn.fetchrow(
        "SELECT uri, archive_id::text AS id, EXISTS (SELECT FROM historian.archive_part) AS parts FROM historian.retention_state"
    )
    if uri is None and row["uri"] is None:
        return None
    store = reading.store_at(uri or row["uri"])
    found = await asyncio.to_thread(store.manifest)
    if found is not None and found["archive_id"] != row["id"]:
        raise BadInput(f"{store.uri} is the archive of another database; give each its own")
    if found is None:
        if row["parts"] or store.uri == row["uri"]:
            raise BadInput(
                f"{store.uri} has no {MANIFEST}: it is not the archive of this database, which is at {row['uri']}, or is not mounted"
            )
        await asyncio.to_thread(store.write_manifest, {"format": FORMAT, "archive_id": row["id"], "parts": [], "tags": []})
    if store.uri != row["uri"]:
        await conn.execute("UPDATE historian.retention_state SET uri = $1", store.uri)
    return store


class Archiver:
    """Works on the archive of one database. `uri`: where it is; None: where it has been so far. Without one, or not `archives`, only what needs none is done.

    `wait`: for the rollups of what has expired, some minutes if need be; else it is left to the next run.
    """

    def __init__(
        self, pool: Pool, uri: str | None = None, *, archives: bool = True, on_part: OnPart | None = None, wait: bool = True
    ) -> None:
        self._archives = archives
        self._pool = pool
        self._uri = uri
        self._on_part = on_part or (lambda pack, rows: None)
        self._wait = wait
        self._rollups = RollupRefresh(pool)

    async def run(self) -> Report:
        """Everything that is due. Raises Conflict, BadInput, ArchiveFault, Unavailable; what was done until then stands."""
        report = Report()
        with translated():
            async with alone(self._pool) as conn:
                await conn.execute("SET lock_timeout = 0")
                store = await settle_place(conn, self._uri) if self._archives else None
                if store is not None:
                    report.cleaned = await clean(conn, store)
                if await conn.fetchval("SELECT historian.want_horizon()") is None and not await conn.fetchval(
                    "SELECT horizon IS NOT NULL FROM historian.retention_state"
                ):
                    return report
                report.waits = not await self._reach_horizon(conn)
                report.late = await settle_late(conn)
                await self._archive(conn, store, report)
                for (name,) in await conn.fetch("SELECT name FROM historian.retention_group ORDER BY priority, name"):
                    row = await conn.fetchrow("SELECT * FROM historian.expire_raw($1)", name)
                    report.deleted += row["deleted"]
                    report.dropped += row["dropped"]
                    report.buckets += await conn.fetchval("SELECT historian.expire_rollups($1)", name)
                for (part,) in await conn.fetch("SELECT part FROM historian.removable_part ORDER BY range_start"):
                    report.dropped += await conn.fetchval("SELECT historian.drop_part($1, NULL)", part)
                if store is not None:
                    await write_manifest(conn, store, self._pool)
        return report

    async def _reach_horizon(self, conn: Connection) -> bool:
        """Have all rollups of what has expired made, and the horizon moved there. False: not yet."""
        until = time.monotonic() + (_ROLLUPS_S if self._wait else 0)
        plain = await conn.fetchval("SELECT to_regclass('historian.rollup_level') IS NOT NULL")
        owns = not plain and await conn.fetchval(
            "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'historian.sample'::regclass"
        )
        while True:
            if plain:
                await self._rollups.refresh()
            if await conn.fetchval("SELECT historian.advance_horizon()"):
                return True
            if owns:
                await conn.execute("""CALL historian.tend_rollups(NULL, '{"all": true}')""")
                if await conn.fetchval("SELECT historian.advance_horizon()"):
                    return True
            if time.monotonic() >= until:
                return False
            await asyncio.sleep(0.5)

    async def _archive(self, conn: Connection, store: Store | None, report: Report) -> None:
        groups = await conn.fetch(
            "SELECT name, least(historian.expired_before(raw_days), s.horizon) AS before FROM historian.retention_group g, historian.retention_state s"
            " WHERE g.archive AND g.raw_days IS NOT NULL AND s.horizon IS NOT NULL ORDER BY priority, name"
        )
        for group in groups:
            if store is None:
                report.unarchived.append(group["name"])
                continue
            catalogue = Catalogue(self._pool)
            await catalogue.refresh()
            for pack in await self._packs(conn, group["name"], group["before"]):
                written = await self._write(conn, store, pack, catalogue)
                if written is not None:
                    report.files += 1
                    report.rows += written.rows
                    report.bytes += written.bytes

    async def _packs(self, conn: Connection, group: str, before: int) -> list[Pack]:
        tags = await conn.fetch(
            "SELECT tag_id, kind = 'text' AS text FROM historian.tag WHERE tag_id = ANY (historian.retention_tags($1)) ORDER BY tag_id",
            group,
        )
        holds = await conn.fetch("SELECT lo, hi FROM historian.archive_hold WHERE until > now()")
        packs: list[Pack] = []
        forms: tuple[tuple[Form, bool], ...] = (("number", False), ("text", True))
        for form, text in forms:
            ids = [row["tag_id"] for row in tags if row["text"] == text]
            days = await conn.fetch(
                "SELECT date_trunc('day', ts, 'UTC') AS day, count(*) AS rows FROM historian.sample WHERE tag_id = ANY ($1) AND ts < $2 GROUP BY 1 ORDER BY 1",
                ids,
                before,
            )
            for day, rows in days:
                if any(hold["lo"] < day + DAY_US and day < hold["hi"] for hold in holds):
                    continue
                last = packs[-1] if packs and packs[-1].form == form else None
                held_between = last is not None and any(hold["lo"] < day and last.hi < hold["hi"] for hold in holds)
                if last is not None and not held_between and last.rows + rows <= PART_ROWS and _month(last.lo) == _month(day):
                    packs[-1] = Pack(group, form, ids, last.lo, day + DAY_US, last.rows + rows)
                else:
                    packs.append(Pack(group, form, ids, day, day + DAY_US, rows))
        return packs

    async def _write(self, conn: Connection, store: Store, pack: Pack, catalogue: Catalogue) -> Written | None:
        for attempt in range(_TRIES):
            file = _name(pack)
            await conn.execute("INSERT INTO historian.archive_pending (file) VALUES ($1)", file)
            try:
                async with conn.transaction(isolation="repeatable_read"):
                    return await self._move(conn, store, pack, file, catalogue)
            except _RACED as error:
                await asyncio.to_thread(store.delete, file)
                if attempt == _TRIES - 1:
                    raise Unavailable(
                        f"samples before {format_time(pack.hi)} are being corrected all the time; run this again later"
                    ) from error
                log.info("archive: begun again, since somebody wrote the same samples: %s", error)
        raise AssertionError

    async def _move(self, conn: Connection, store: Store, pack: Pack, file: str, catalogue: Catalogue) -> Written | None:
        """In a transaction: write the file, and delete what is in it."""
        await conn.execute("SELECT historian.keep_rollups()")
        known = [tag.row() for tag_id in pack.tag_ids if (tag := catalogue.by_id(tag_id)) is not None]
        archive_id = await conn.fetchval("SELECT archive_id::text FROM historian.retention_state")
        seen: set[int] = set()
        first, last, rows = 2**62, -(2**62), 0
        writer: Writer = await asyncio.to_thread(store.writer, file, pack.form, known, archive_id)
        with writer:
            async for stored in copy_stored(conn, pack.form, pack.tag_ids, pack.lo, pack.hi):
                await asyncio.to_thread(writer.write, stored)
                seen.update(np.unique(stored.tag_id).tolist())
                first, last, rows = min(first, int(stored.ts.min())), max(last, int(stored.ts.max())), rows + len(stored)
                self._on_part(pack, rows)
            if not rows:
                return None
            written = await asyncio.to_thread(writer.finish)
        deleted = 0
        for table in await _tables(conn, pack.lo):
            status = await conn.execute(
                f"DELETE FROM {table} WHERE tag_id = ANY ($1) AND ts >= $2 AND ts < $3",  # noqa: S608 - a name that the database gave
                pack.tag_ids,
                pack.lo,
                pack.hi,
            )
            deleted += int(status.split()[-1])
        if deleted != written.rows:
            raise HistorianError(f"{deleted} samples would leave the database, and {written.rows} are in {file}; nothing was removed")
        await conn.execute(
            "INSERT INTO historian.archive_part (file, group_name, form, lo, hi, first_ts, last_ts, tag_ids, rows, bytes, sha256, content, footer)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            *(file, pack.group, pack.form, pack.lo, pack.hi, first, last, sorted(seen)),
            *(written.rows, written.bytes, written.sha256, written.content, written.footer),
        )
        await conn.execute("DELETE FROM historian.archive_pending WHERE file = $1", file)
        return written


async def _tables(conn: Connection, lo: int) -> Sequence[str]:
    """What to delete from. On plain PostgreSQL the month's partition itself: a trigger of the parent would first collect all rows that go."""
    month = f"historian.sample_{datetime.fromtimestamp(lo / 1e6, UTC):%Y_%m}" if lo >= 0 else ""
    return [month if month and await conn.fetchval("SELECT to_regclass($1) IS NOT NULL", month) else "historian.sample"]


def _month(ts: int) -> np.datetime64:
    month: np.datetime64 = np.datetime64(ts, "us").astype("datetime64[M]")
    return month


def _name(pack: Pack) -> str:
    day = [str(np.datetime64(ts, "us").astype("datetime64[D]")) for ts in (pack.lo, pack.hi)]
    return (
        f"year={day[0][:4]}/month={day[0][5:7]}/"
        f"{day[0].replace('-', '')}_{day[1].replace('-', '')}_{pack.group}_{pack.form}_{uuid.uuid4().hex[:12]}.parquet"
    )


async def clean(conn: Connection, store: Store) -> int:
    """Delete files that a run has left behind, or that were restored an hour ago. Returns how many. Files that the database has never heard of are left alone."""
    left = await conn.fetch(
        "SELECT file FROM historian.archive_pending q WHERE from_then <= now() AND NOT EXISTS (SELECT FROM historian.archive_part p WHERE p.file = q.file)"
    )
    deleted = 0
    for (file,) in left:
        if await asyncio.to_thread(store.exists, file):
            await asyncio.to_thread(store.delete, file)
            deleted += 1
        await conn.execute("DELETE FROM historian.archive_pending WHERE file = $1", file)
    return deleted


async def settle_late(conn: Connection) -> int:
    """Make the buckets again that late samples have come into before the horizon, from archive and database together. Returns how many stretches."""
    done = 0
    while True:
        # before the transaction, so that its snapshot is newer than what the refresh did
        await conn.execute("SELECT pg_advisory_lock(hashtext('historian.refresh_rollups'))")
        try:
            for attempt in range(_TRIES):
                try:
                    async with conn.transaction(isolation="repeatable_read"):
                        spans = await conn.fetch("SELECT tag_id, lo, hi FROM historian.take_late($1)", _LATE)
                        for tag_id, lo, hi in spans:
                            await _remake(conn, tag_id, lo, hi)
                    break
                except _RACED:
                    if attempt == _TRIES - 1:
                        raise
        finally:
            await conn.execute("SELECT pg_advisory_unlock(hashtext('historian.refresh_rollups'))")
        if not spans:
            return done
        done += len(spans)


async def _remake(conn: Connection, tag_id: int, lo: int, hi: int) -> None:
    await conn.execute(
        "INSERT INTO historian.late_sample (tag_id, scale, quality, ts, mantissa, value, text, archived)"
        " SELECT tag_id, scale, quality, ts, mantissa, value, text, false FROM historian.sample WHERE tag_id = $1 AND ts >= $2 AND ts < $3",
        *(tag_id, lo, hi),
    )
    archived = await reading.look(conn, lo, hi)
    forms: tuple[Form, ...] = ("number", "text")
    for form in forms:
        if archived.of(form):
            async for stored in archived.read(form, [tag_id], lo, hi):
                for columns, source in stored.copies():
                    await conn.copy_to_table("late_sample", schema_name="historian", source=source, columns=columns, format="binary")
    await conn.execute(
        "DELETE FROM historian.late_sample a USING historian.late_sample d WHERE a.archived AND NOT d.archived AND a.tag_id = d.tag_id AND a.ts = d.ts"
    )
    await conn.execute("SELECT historian.remake_rollups($1, $2, $3)", tag_id, lo, hi)
    await conn.execute("DELETE FROM historian.late_sample")


_PARTS = """
SELECT file, group_name AS "group", form, rows, bytes, sha256, content, footer, cardinality(tag_ids) AS tags, restored,
    to_char(lo AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS lo, to_char(hi AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS hi,
    (extract(epoch FROM first_ts) * 1000000)::int8 AS first_ts, (extract(epoch FROM last_ts) * 1000000)::int8 AS last_ts
FROM historian.archive_part ORDER BY part_id
"""


async def write_manifest(conn: Connection, store: Store, pool: Pool) -> None:
    """Have the manifest say what the database says, if it does not. Raises ArchiveFault."""
    archive_id = await conn.fetchval("SELECT archive_id::text FROM historian.retention_state")
    schema = await conn.fetchval("SELECT max(number) FROM historian.migration")
    parts = [dict(row) for row in await conn.fetch(_PARTS)]
    standing = await asyncio.to_thread(store.manifest)
    if standing is not None and standing.get("parts") == parts:
        return
    catalogue = Catalogue(pool)
    await catalogue.refresh()
    used = {row["tag_id"] for row in await conn.fetch("SELECT DISTINCT unnest(tag_ids) AS tag_id FROM historian.archive_part")}
    document = {
        "format": FORMAT,
        "archive_id": archive_id,
        "schema": schema,
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": sum(part["rows"] for part in parts),
        "parts": parts,
        "tags": [tag.row() for tag in catalogue.all() if tag.tag_id in used],
    }
    await asyncio.to_thread(store.write_manifest, document)
