"""The target of a move: what it records of the move, the gate that keeps everybody else out until the move is done, and the slices as they come in.

Two tables of the move's own tell what is done: `historian.move`, a row that names the source, and `historian.move_slice`, a row for each slice that is
committed, written in the slice's own transaction. The gate is a trigger on the tables that every writer touches first: a server that is started on half of
the data finds the database unavailable for writes, and producers keep what they have.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from historian.query.times import format_time
from historian.schema.connection import Connection, Pool
from historian.schema.errors import Conflict, HistorianError
from historian.schema.partitions import Partitions
from historian.storage.move_plan import Slice, between
from historian.storage.move_tables import MODULUS, SAMPLE_COLUMNS, SAMPLE_HASH, WHOLE, Copied

_DAY = 86_400 * 1_000_000

#: as the writer does it: so many samples of each tag on average go straight into the columnstore (docs/performance.md)
_DIRECT_ROWS_A_TAG = 100

#: how far before the end of a partition what is appended may come to lie: COPY takes pages that were added in advance by an earlier one
_PAGES_BEFORE_END = 1024

_STATE = """
CREATE TABLE historian.move (
    source      text NOT NULL,
    source_name text NOT NULL,
    bin_s       int4 NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz
);
CREATE TABLE historian.move_slice (
    lo       timestamptz PRIMARY KEY,
    hi       timestamptz NOT NULL,
    samples  int8 NOT NULL,
    checksum numeric NOT NULL
);
CREATE FUNCTION historian.move_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('historian.moving', true) IS DISTINCT FROM 'on' THEN
        -- as a server says it that is still starting: whoever writes tries again later
        RAISE EXCEPTION USING ERRCODE = 'cannot_connect_now', MESSAGE = 'a move into this database is not finished; run historian db move to its end first';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER move_gate BEFORE INSERT ON historian.tag FOR EACH STATEMENT EXECUTE FUNCTION historian.move_gate();
CREATE TRIGGER move_gate BEFORE INSERT ON historian.ledger FOR EACH STATEMENT EXECUTE FUNCTION historian.move_gate();
"""

_DIRECT = """
SELECT set_config('timescaledb.enable_direct_compress_copy', 'on', true), set_config('timescaledb.enable_direct_compress_copy_client_sorted', 'on', true)
"""

# what was written is also told to the rollups, which are refreshed from it
_CHECK = f"""
WITH by_tag AS (
    SELECT tag_id, count(*) AS samples, sum({SAMPLE_HASH}) AS checksum,
        date_bin(INTERVAL '1 minute', min(ts), timestamptz '2000-01-01 00:00:00+00') AS lo,
        date_bin(INTERVAL '1 minute', max(ts), timestamptz '2000-01-01 00:00:00+00') AS hi
    FROM historian.sample WHERE {{condition}} GROUP BY tag_id
), told AS (
    SELECT historian.rollup_changed(array_agg(tag_id), array_agg(lo), array_agg(hi)) FROM by_tag HAVING count(*) > 0
)
SELECT COALESCE(sum(samples), 0)::int8 AS samples, mod(COALESCE(sum(checksum), 0), {MODULUS}) AS checksum, (SELECT count(*) FROM told) AS told FROM by_tag
"""  # noqa: S608

# samples outside of all slices are in bins of even number
_CHECK_ALL = f"""
SELECT width_bucket(ts, $1::timestamptz[]) AS bin, count(*) AS samples, mod(sum({SAMPLE_HASH}), {MODULUS}) AS checksum
FROM historian.sample WHERE {{condition}} GROUP BY 1
"""  # noqa: S608

_OCCUPIED = "SELECT (SELECT count(*) FROM historian.tag) AS tags, EXISTS (SELECT FROM historian.sample) AS samples, EXISTS (SELECT FROM historian.ledger) AS batches"


class Mismatch(HistorianError):
    """What the target has is not what the source has."""


@dataclass(frozen=True, slots=True)
class MoveState:
    """Of a move that was begun before."""

    source: str
    source_name: str
    bin_s: int
    finished_at: int | None


async def read_state(conn: Connection) -> MoveState | None:
    """None where nothing was ever moved into this database."""
    if not await conn.fetchval("SELECT to_regclass('historian.move') IS NOT NULL"):
        return None
    row = await conn.fetchrow("SELECT source, source_name, bin_s, finished_at FROM historian.move")
    return None if row is None else MoveState(*row)


async def refuse_occupied(conn: Connection, name: str) -> None:
    """Raises Conflict if there is anything in the database. Its schema must stand."""
    row = await conn.fetchrow(_OCCUPIED)
    if row["tags"] or row["samples"] or row["batches"]:
        what = f"{row['tags']} tag{'s' * (row['tags'] != 1)}" if row["tags"] else "samples" if row["samples"] else "batches"
        raise Conflict(f"{name} has {what} of its own already; a move goes into an empty database: make one, and name it with --to")


class Target:
    """The target, while this process moves into it. `conn` is from `pool`, and used by nobody else."""

    def __init__(self, pool: Pool, conn: Connection, tags: int) -> None:
        self._conn = conn
        self._partitions = Partitions(pool)
        self._tags = tags

    async def begin(self, source: str, source_name: str, bin_s: int) -> None:
        """Record the move, and close the gate."""
        async with self._conn.transaction():
            await self._conn.execute(_STATE)
            await self._conn.execute(
                "INSERT INTO historian.move (source, source_name, bin_s) VALUES ($1, $2, $3)", source, source_name, bin_s
            )

    async def moved(self) -> list[Slice]:
        """The slices that are committed."""
        rows = await self._conn.fetch("SELECT lo, hi, samples, checksum FROM historian.move_slice ORDER BY lo")
        return [Slice(row["lo"], row["hi"], row["samples"], int(row["checksum"]) % MODULUS) for row in rows]

    async def make_room(self, one: Slice) -> None:
        """Partitions or chunks for a slice, before its transaction."""
        await self._partitions.make_room(np.clip(np.array(one.days, np.int64) * _DAY, one.lo, one.hi - 1))

    async def store(self, one: Slice, rows: AsyncIterator[bytes]) -> None:
        """A slice, as binary COPY gave it, in a transaction: stored, checked, recorded. Raises Mismatch, and then nothing of it is stored."""
        conn = self._conn
        async with conn.transaction():
            if one.again:
                await conn.execute(f"DELETE FROM historian.sample WHERE {between(one.lo, one.hi)}")  # noqa: S608
                await conn.execute("DELETE FROM historian.move_slice WHERE lo = $1", one.lo)
            first_page = await self._end_of_partition(one.lo)
            if self._partitions.direct and one.samples >= _DIRECT_ROWS_A_TAG * self._tags:
                await conn.execute(_DIRECT)
            if one.samples:
                await conn.copy_to_table("sample", schema_name="historian", columns=SAMPLE_COLUMNS, source=rows, format="binary")
            condition = between(one.lo, one.hi)
            found = await conn.fetchrow(
                _CHECK.format(condition=f"{condition} AND ctid >= '({first_page},0)'::tid" if first_page else condition)
            )
            if first_page and found["samples"] != one.samples:
                found = await conn.fetchrow(_CHECK.format(condition=condition))
            _compare(one, found["samples"], int(found["checksum"]) % MODULUS)
            if one.samples:
                await conn.execute(
                    "INSERT INTO historian.move_slice (lo, hi, samples, checksum) VALUES ($1, $2, $3, $4)",
                    one.lo,
                    one.hi,
                    one.samples,
                    one.checksum,
                )

    async def _end_of_partition(self, ts: int) -> int:
        """The page from which on the samples of a COPY come to lie, on plain PostgreSQL: what was there before is not read again with every slice."""
        if not self._partitions.plain:
            return 0
        pages = await self._conn.fetchval(
            "SELECT pg_relation_size(to_regclass('historian.sample_' || to_char($1::timestamptz, 'YYYY_MM'))) / current_setting('block_size')::int8",
            ts,
        )
        return max(0, (pages or 0) - _PAGES_BEFORE_END)

    async def check(self, slices: Sequence[Slice], lo: int | None, hi: int | None) -> None:
        """All of the target's samples in [lo, hi) once more: they are those of these slices. Raises Mismatch; the slice at fault is moved again by the next run."""
        bounds = [bound for one in slices for bound in (one.lo, one.hi)]
        rows = await self._conn.fetch(_CHECK_ALL.format(condition=between(lo, hi)), bounds)
        found = {row["bin"]: (row["samples"], int(row["checksum"]) % MODULUS) for row in rows}
        for n, one in enumerate(slices):
            try:
                _compare(one, *found.get(2 * n + 1, (0, 0)))
            except Mismatch:
                await self._forget(one)
                raise
        for n, (samples, _) in sorted(found.items()):
            if n % 2 == 0:
                after = f" after {format_time(bounds[n - 1])}" if n else ""
                raise Mismatch(f"the target has {samples} samples{after} that are not in the source; move into an empty database")

    async def _forget(self, one: Slice) -> None:
        # an impossible checksum: the next run finds that this slice is not what it should be, and moves it again
        await self._conn.execute("UPDATE historian.move_slice SET checksum = -1 WHERE lo = $1", one.lo)

    async def copy(self, table: Copied, rows: AsyncIterator[bytes]) -> int:
        """Rows of a table, as binary COPY gave them. Returns how many there were."""
        async with self._conn.transaction():
            await self._conn.execute("SET LOCAL historian.moving = 'on'")
            said: str = await self._conn.copy_to_table(
                table.name, schema_name="historian", columns=table.columns, source=rows, format="binary"
            )
        return int(said.split()[-1])

    async def newest_of_ledger(self) -> tuple[str, int] | None:
        """How far the ledger has come, in the order of its key."""
        row = await self._conn.fetchrow("SELECT producer, seq FROM historian.ledger ORDER BY producer DESC, seq DESC LIMIT 1")
        return None if row is None else (row["producer"], row["seq"])

    async def clear_ledger(self) -> None:
        await self._conn.execute("TRUNCATE historian.ledger")

    def transaction(self) -> Any:
        """The last one: tables that are copied whole, and the end of the move."""
        return self._conn.transaction()

    async def clear_whole(self) -> None:
        """What an interrupted run cannot have left, since all of it is one transaction; for tables that were not empty all the same."""
        await self._conn.execute(f"TRUNCATE {', '.join(f'historian.{table.name}' for table in WHOLE)}")

    async def finish(self, sequences: dict[str, int]) -> None:
        """Numbers go on behind those of the source, the gate opens, and the move is done; within `transaction`."""
        for name, last in sequences.items():
            await self._conn.execute("SELECT setval($1::text::regclass, greatest($2::int8, 1), $2::int8 > 0)", name, last)
        await self._conn.execute("DROP FUNCTION historian.move_gate() CASCADE")
        await self._conn.execute("DROP TABLE historian.move_slice")
        await self._conn.execute("UPDATE historian.move SET finished_at = clock_timestamp()")


def _compare(one: Slice, samples: int, checksum: int) -> None:
    if samples != one.samples:
        raise Mismatch(
            f"the slice {one} has {one.samples} samples in the source and {samples} in the target; run the same command to move it again"
        )
    if checksum != one.checksum:
        raise Mismatch(f"the slice {one} has other samples in the target than in the source; run the same command to move it again")
