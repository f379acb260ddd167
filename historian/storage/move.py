"""The move of a whole historian database to another server, of either engine: `historian db move`.

Promise. The source is only read, in one consistent snapshot. What is in the target is committed slice by slice, each with the record that it is done, so that
a move that is killed at any point goes on where it stopped, and nothing is doubled. Counts and checksums, computed by both servers from what they store, are
compared for each slice before it is committed, and all over again at the end. Until then the target lets no writer in. Samples go from server to server as
the bytes of a binary COPY; memory does not grow with their number.

Not here: that nobody writes to the source meanwhile. The caller holds the embedded database; whoever writes to another server all the same is found out at
the end, and the move says so instead of being done.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol

import asyncpg

from historian.schema import migrate
from historian.schema.connection import Connection, Pool, connect, open_pool, translated
from historian.schema.errors import Conflict
from historian.storage.move_plan import Slice, bin_seconds, month_start, read_plan
from historian.storage.move_tables import LEDGER, SEQUENCES, WHOLE, Copied
from historian.storage.move_target import Mismatch, MoveState, Target, read_state, refuse_occupied

_LEDGER_BITE = 500_000
#: pieces of a COPY between the two servers, of some 100 KB each
_IN_BETWEEN = 16
#: verified in one query, at most
_CHECKED_SLICES = 50

_DAY = 86_400 * 1_000_000

_IDENTITY = "SELECT (SELECT system_identifier FROM pg_control_system()) || '/' || oid FROM pg_database WHERE datname = current_database()"
# what was written since the snapshot was taken
_NEWER = """
SELECT (SELECT count(*) FROM historian.ledger WHERE NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot))
    + (SELECT count(*) FROM historian.tag WHERE NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot))
"""
# the audit has no transaction ids: what it came to in the snapshot, and what it is now
_COMMANDS = "SELECT count(*), max(greatest(committed_at, settled_at)) FROM historian.command"
_LAST = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {}"
#: every level, as the database's own job does it, for which it waits if that is at it
_TEND_ROLLUPS = """CALL historian.tend_rollups(NULL, '{"all": true}')"""


class Report(Protocol):
    """Who shows how far the move is."""

    def phase(self, name: str, total: int, done: int = 0) -> None:
        """A new part of the work begins, of so many samples (1 where they are not what is counted); so many of them had been done before."""

    def advance(self, done: int) -> None:
        """So many more."""

    def fraction(self, done: float) -> None:
        """So much of the phase is done."""

    def note(self, text: str) -> None:
        """Something that its user should know."""


@dataclass(frozen=True, slots=True)
class Database:
    """One side of a move; `name` is for people, without a password."""

    dsn: str
    name: str


@dataclass(frozen=True, slots=True)
class Moved:
    """What has come of a move. `before` of the samples had been moved by earlier runs; `already`: the move was done before, and nothing was left to do."""

    samples: int
    before: int
    slices: int
    tags: int
    batches: int
    engine: str
    already: bool = False


async def move(source: Database, target: Database, report: Report) -> Moved:
    """Move everything from the source to the target, or go on with that.

    Raises SchemaError if the source's schema is not the newest, Conflict for a target that holds anything else or a source that was written to meanwhile,
    Mismatch, Unavailable.
    """
    await asyncio.to_thread(migrate.require_current, source.dsn)
    engine = await _prepare(target)
    pool = await open_pool(target.dsn, size=2, name="historian db move")
    reading: Connection = None
    try:
        reading = await connect(source.dsn, name="historian db move")
        with translated():
            conn = await pool.acquire()
            await _lock(conn, target)
            identity, own = await reading.fetchval(_IDENTITY), await conn.fetchval(_IDENTITY)
            state = await read_state(conn)
            if identity == own:
                raise Conflict(f"{source.name} and {target.name} are the same database")
            if state is not None and state.source != identity:
                done = "was made" if state.finished_at is not None else "was begun and not finished"
                raise Conflict(f"a move from another database, {state.source_name}, into {target.name} {done}; move into an empty database")
            earlier = await read_state(reading)
            if earlier is not None and earlier.finished_at is None:
                raise Conflict(f"a move from {earlier.source_name} into {source.name} is not finished; finish that one first")
            await _refuse_retained(reading, source.name)
            if state is not None and state.finished_at is not None:
                return Moved(0, 0, 0, 0, 0, engine, already=True)
            return await _Move(source, reading, conn, pool, report, engine).run(identity, state)
    finally:
        # not in order: after an error or Ctrl-C there may be a COPY in the middle of either
        if reading is not None:
            reading.terminate()
        pool.terminate()


async def _refuse_retained(reading: Connection, name: str) -> None:
    """Raises Conflict where rollups stand for samples that the database does not have: the target would make its own from what is left."""
    if await reading.fetchval("SELECT to_regclass('historian.archive_part') IS NULL"):
        return
    parts, lost = await reading.fetchrow(
        "SELECT EXISTS (SELECT FROM historian.archive_part), EXISTS (SELECT FROM historian.retention_lost WHERE before > '-infinity')"
    )
    if parts:
        raise Conflict(f"{name} has samples in an archive; bring them back first, with: historian archive restore")
    if lost:
        raise Conflict(
            f"{name} keeps rollups of samples that retention has removed, and a move cannot take them along: dump and restore the database instead (docs/backup.md)"
        )


async def _prepare(target: Database) -> str:
    """Have the newest schema in the target. Returns its engine. Raises Conflict, before anything is changed, if something else is in it."""
    standing = await asyncio.to_thread(migrate.status, target.dsn)
    if standing.version is not None:
        conn = await connect(target.dsn, name="historian db move")
        try:
            with translated():
                if await read_state(conn) is None:
                    await refuse_occupied(conn, target.name)
        finally:
            conn.terminate()
    if standing.pending:
        await asyncio.to_thread(migrate.upgrade, target.dsn)
        standing = await asyncio.to_thread(migrate.status, target.dsn)
    return str(standing.engine)


async def _lock(conn: Connection, target: Database) -> None:
    """One move at a time. Raises Conflict."""
    # a move that is killed lets go when the server looks after its connection
    with suppress(asyncpg.PostgresError):
        await conn.execute("SET client_connection_check_interval = '2s'")
    try:
        await conn.execute("SET lock_timeout = 30000")
        await conn.fetchval("SELECT pg_advisory_lock(hashtext('historian.move'))")
        await conn.execute("RESET lock_timeout")
    except asyncpg.LockNotAvailableError:
        raise Conflict(f"another move into {target.name} is running") from None


class _Move:
    """One run."""

    def __init__(self, source: Database, reading: Connection, conn: Connection, pool: Pool, report: Report, engine: str) -> None:
        self._source = source
        self._reading = reading
        self._conn = conn
        self._pool = pool
        self._report = report
        self._engine = engine

    async def run(self, identity: str, state: MoveState | None) -> Moved:
        reading = self._reading
        async with reading.transaction(isolation="repeatable_read", readonly=True):
            snapshot: str = await reading.fetchval("SELECT pg_current_snapshot()::text")
            # sorts of a slice in memory; and no walk along an index over a whole partition to spare one
            await reading.execute("SET LOCAL work_mem = '128MB'")
            if await reading.fetchval("SELECT to_regprocedure('historian.make_partitions(int[])') IS NOT NULL"):
                await reading.execute(
                    "SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_indexonlyscan = off"
                )
            tags: int = await reading.fetchval("SELECT count(*) FROM historian.tag")
            target = Target(self._pool, self._conn, tags)
            bin_s = await bin_seconds(reading) if state is None else state.bin_s
            if state is None:
                await target.begin(identity, self._source.name, bin_s)
            moved = await target.moved()
            self._report.phase("Reading the source", 1)
            slices = await read_plan(reading, bin_s, moved, self._report.fraction)
            samples, before = await self._move_samples(target, slices, {one.lo for one in moved})
            await self._verify(target, slices)
            batches = await self._finish(target, snapshot)
        await self._refresh()
        return Moved(samples, before, len(slices), tags, batches, self._engine)

    async def _move_samples(self, target: Target, slices: Sequence[Slice], moved: set[int]) -> tuple[int, int]:
        left = [one for one in slices if one.again or one.lo not in moved]
        total = sum(one.samples for one in slices)
        before = total - sum(one.samples for one in left)
        again = sum(one.again for one in left)
        if again:
            self._report.note(
                f"{again} slice{'s' * (again != 1)} moved earlier {'have' if again > 1 else 'has'} changed in the source and will be moved again"
            )
        self._report.phase("Moving", total, before)
        flow = _Outflow(self._reading, left[0].select()) if left else None
        try:
            for one, following in zip_longest(left, left[1:]):
                assert flow is not None
                await target.make_room(one)
                await target.store(one, flow.rows())
                # the source sorts the next slice while the target is still checking this one
                await flow.ended()
                flow = _Outflow(self._reading, following.select()) if following is not None else None
                self._report.advance(one.samples)
        finally:
            if flow is not None:
                flow.cancel()
        return total, before

    async def _verify(self, target: Target, slices: Sequence[Slice]) -> None:
        """Everything once more, as the target has it now."""
        self._report.phase("Verifying", sum(one.samples for one in slices))
        groups = _groups(slices, by_month=self._engine == "plain")
        for n, (edge, group) in enumerate(groups):
            await target.check(group, edge if n else None, groups[n + 1][0] if n + 1 < len(groups) else None)
            self._report.advance(sum(one.samples for one in group))
        if not groups:
            await target.check([], None, None)

    async def _finish(self, target: Target, snapshot: str) -> int:
        """The ledger, and in one transaction what is small and the end of the move. Returns how many batches there are."""
        self._report.phase("Moving tags and batches", 0)
        batches = await self._move_ledger(target)
        sequences = {name: await self._reading.fetchval(_LAST.format(name)) for name in SEQUENCES}
        async with target.transaction():
            await target.clear_whole()
            for table in WHOLE:
                await self._copy(target, table, table.select)
                if not await self._same(table):
                    raise Mismatch(f"the table {table.name} is not the same in the target as in the source; run the same command again")
            await self._refuse_changed(snapshot)
            await target.finish(sequences)
        with suppress(asyncpg.PostgresError):
            for name in ("sample", LEDGER.name, *(table.name for table in WHOLE)):
                await self._conn.execute(f"ANALYZE historian.{name}")
        return batches

    async def _move_ledger(self, target: Target) -> int:
        columns, key = ", ".join(LEDGER.columns), ", ".join(LEDGER.key)
        for attempt in (1, 2):
            rows = -1
            while rows:
                newest = await target.newest_of_ledger()
                after = " WHERE (producer, seq) > ($1::text, $2::int8)" if newest is not None else ""
                select = f"SELECT {columns} FROM historian.ledger{after} ORDER BY {key} LIMIT {_LEDGER_BITE}"  # noqa: S608
                rows = await self._copy(target, LEDGER, select, *(newest or ()))
            if await self._same(LEDGER):
                count: int = await self._conn.fetchval("SELECT count(*) FROM historian.ledger")
                return count
            if attempt == 1:
                # of an earlier run, before the source was written to again
                await target.clear_ledger()
        raise Mismatch("the ledger is not the same in the target as in the source; run the same command again")

    async def _copy(self, target: Target, table: Copied, select: str, *args: object) -> int:
        flow = _Outflow(self._reading, select, *args)
        try:
            rows = await target.copy(table, flow.rows())
            await flow.ended()
        finally:
            flow.cancel()
        return rows

    async def _same(self, table: Copied) -> bool:
        ours, theirs = [await conn.fetchrow(table.checksum) for conn in (self._reading, self._conn)]
        return tuple(ours) == tuple(theirs)

    async def _refuse_changed(self, snapshot: str) -> None:
        """Whether anybody has written to the source since this run has begun. Raises Conflict."""
        looking = await connect(self._source.dsn, name="historian db move")
        try:
            newer = await looking.fetchval(_NEWER, snapshot)
            commanded = tuple(await looking.fetchrow(_COMMANDS)) != tuple(await self._reading.fetchrow(_COMMANDS))
        finally:
            looking.terminate()
        if newer or commanded:
            what = f"{newer} batches or tags" if newer else "commands"
            raise Conflict(
                f"the source was written to while it was moved ({what}): stop its servers and producers, and run the same command again; "
                "it moves what has changed"
            )

    async def _refresh(self) -> None:
        """The rollups of the target. Whatever is not done here, its server or its jobs do."""
        self._report.phase("Refreshing rollups", 0)
        try:
            if self._engine == "plain":
                while await self._conn.fetchval("SELECT historian.refresh_rollups(clock_timestamp() - interval '5 seconds')"):
                    pass
                return
            await self._conn.execute(_TEND_ROLLUPS)
        except asyncpg.PostgresError as error:
            self._report.note(
                f"the rollups are not all refreshed yet ({str(error).splitlines()[0]}): the target goes on with that by itself"
            )


class _Outflow:
    """A COPY out of the source that runs ahead of who takes it, by so much and no more."""

    def __init__(self, conn: Connection, select: str, *args: object) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(_IN_BETWEEN)
        self._task = asyncio.create_task(self._run(conn, select, args))

    async def _run(self, conn: Connection, select: str, args: tuple[object, ...]) -> None:
        try:
            await conn.copy_from_query(select, *args, output=self._queue.put, format="binary")
        except Exception:
            # who takes the rows is to see the end, and then asks why
            await self._queue.put(None)
            raise
        await self._queue.put(None)

    async def rows(self) -> AsyncIterator[bytes]:
        """What comes, to its end. Raises what the source raised."""
        while (piece := await self._queue.get()) is not None:
            yield piece
        await self._task

    async def ended(self) -> None:
        """Wait for the end; what nobody took is thrown away."""
        while not self._task.done():
            await self._queue.get()
        await self._task

    def cancel(self) -> None:
        """Give it up; the connection is of no more use then, unless it had come to its end."""
        self._task.cancel()
        # what it raised has been raised to who took the rows, or does not matter any more
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())


def _groups(slices: Sequence[Slice], *, by_month: bool) -> list[tuple[int, list[Slice]]]:
    """Slices that are verified in one query, and where the stretch of time of each group begins: those of a partition of the plain engine, which is read as
    a whole, or some that lie in the same day."""
    groups: list[tuple[int, list[Slice]]] = []
    for one in slices:
        edge = month_start(one.lo) if by_month else one.lo // _DAY * _DAY
        if groups and edge <= groups[-1][0] and (by_month or len(groups[-1][1]) < _CHECKED_SLICES):
            groups[-1][1].append(one)
        else:
            groups.append((max(edge, groups[-1][1][-1].hi) if groups else edge, [one]))
    return groups
