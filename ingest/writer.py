"""The writer: one transaction that turns batches into stored samples, exactly once.

Promise. When `write` returns, the batches are on disk, each counted once however often it was sent; what it published was committed. When it raises,
nothing of these batches is stored, unless the connection broke during the commit: then the same call, made again, finds out from the ledger.

The transaction, in this order, which is the same in every writer, so that none waits for another in a circle:

1. insert (producer, seq) into the ledger, sorted: one that stands already was done before; one that another transaction is inserting waits for it;
2. append the samples that this process believes to be newer than their tag's newest, before anything is locked;
3. wait for earlier writes of this process to the same tags, then lock the snapshot rows of all tags, in tag_id order, and learn each tag's newest timestamp: from
   here on nobody else writes these tags. If another process has overtaken a sample of step 2, roll back and begin again without that step;
4. the other samples: newer than their tag's newest are appended, the rest replace what stands at their (tag, ts);
5. move the snapshot rows;
6. leave the content for the live bus, at a position drawn now: it orders the commits of any tag; and which rollups have to be made again: of everything on the plain
   engine, of the past on TimescaleDB;
7. commit; only then acknowledge (return) and publish.

Step 2 is most of the work. Being done ahead of the locks, it lets transactions of the same tags, as one busy producer sends them, run side by side.

Not here: batching (`batching.py`), decoding and its checks (`decode/`). The samples that come in are sound: known tag ids, values that fit their kinds.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import asyncpg
import numpy as np

from historian.ingest.beliefs import NEVER, Beliefs
from historian.ingest.changed_minutes import changed_minutes
from historian.schema import copy_binary, ledger
from historian.schema.connection import PG_EPOCH_US, Connection, Pool, translate
from historian.schema.decimals import DecimalForm
from historian.schema.errors import Conflict, HistorianError, UnknownTag
from historian.schema.ledger import Batch, Notice, Receipt
from historian.schema.partitions import Partitions
from historian.schema.samples import Bools, Int32s, Int64s, Samples, concat, last_writes

log = logging.getLogger(__name__)

Publish = Callable[[Notice], None]
#: xid, position and content of what was committed, for the bus between servers; says whether it is on its way
Relay = Callable[[int, int, bytes], bool]
#: what else a transaction does, first of all; it is called again where the transaction is begun again
Beside = Callable[[Connection], Awaitable[None]]

#: An earlier write of this process that takes longer than this may be waiting, in the database, for something that we hold (TimescaleDB making a chunk): begin again
#: behind it. PostgreSQL cannot see a circle of which one part is a wait in this process.
_PATIENCE_S = 5.0


#: So many samples, and so many of each tag on average, go straight into the columnstore where there is one: the more of a tag come together, the smaller and
#: quicker they are there (docs/performance.md). Fewer wait in the rowstore until the chunk is converted.
_DIRECT_ROWS = 50_000
_DIRECT_ROWS_A_TAG = 100

#: Late samples of a tag are compared with all that stands between them if they are many, and it is not far more than they are. Else they are looked up one by
#: one, once it is known that anything stands there at all.
_MANY_LATE = 32
_STANDING_A_ROW = 8

#: What is replaced in the columnstore is taken out of it in whole batches, all those of its tags between the first and the last time of a statement: times that
#: lie further apart than this are for statements of their own, up to so many.
_APART_US = 600 * 1_000_000
_MOST_GROUPS = 50

#: rows of a transaction that are made ready in a thread: below it the change costs more than it spares the others
_LARGE = 20_000


class _Overtaken(Exception):
    """Samples were appended ahead of the locks that turn out not to be the newest of their tags, or may never become visible: begin again, locks first."""


_ENTER = """
INSERT INTO historian.ledger (producer, seq, digest, samples)
SELECT * FROM unnest($1::text[], $2::int8[], $3::bytea[], $4::int4[]) AS new (producer, seq, digest, samples)
ORDER BY producer COLLATE "C", seq
ON CONFLICT (producer, seq) DO NOTHING
RETURNING producer, seq, xid::text::int8 AS xid
"""

_ENTERED = """
SELECT l.producer, l.seq, l.digest, l.samples, l.xid::text::int8 AS xid
FROM historian.ledger l JOIN unnest($1::text[], $2::int8[]) AS k (producer, seq) ON l.producer = k.producer AND l.seq = k.seq
"""

# the lock itself orders: LockRows works above the sort
_LOCK = "SELECT tag_id, ts FROM historian.snapshot WHERE tag_id = ANY($1::int4[]) ORDER BY tag_id FOR NO KEY UPDATE"

# What stands within the span of each tag's late samples, as the int64s of PostgreSQL's binary form one after the other: nothing, where history older than what
# stands is loaded. At most `most`, since a span may be long and the samples few.
_WITHIN = """
SELECT k.n, string_agg(timestamptz_send(hit.ts), NULL) AS stamps
FROM unnest($1::int4[], $2::timestamptz[], $3::timestamptz[], $4::int8[]) WITH ORDINALITY AS k (tag_id, lo, hi, most, n)
CROSS JOIN LATERAL (
    SELECT s.ts FROM historian.sample s
    WHERE s.tag_id = k.tag_id AND s.ts >= k.lo AND s.ts <= k.hi AND s.ts >= $5::timestamptz AND s.ts <= $6::timestamptz LIMIT k.most
) AS hit
GROUP BY k.n
"""

# the same for single samples, where much stands between them
_STANDING = """
SELECT k.n FROM unnest($1::int4[], $2::timestamptz[]) WITH ORDINALITY AS k (tag_id, ts, n)
CROSS JOIN LATERAL (
    SELECT FROM historian.sample s WHERE s.tag_id = k.tag_id AND s.ts = k.ts AND s.ts >= $3::timestamptz AND s.ts <= $4::timestamptz LIMIT 1
) AS hit
"""

# the conditions on arrays and bounds repeat the join's: by them partitions, chunks and columnstore segments are left out
_REPLACED = """
DELETE FROM historian.sample s USING unnest($1::int4[], $2::timestamptz[]) AS k (tag_id, ts)
WHERE s.tag_id = k.tag_id AND s.ts = k.ts AND s.tag_id = ANY($3::int4[]) AND s.ts >= $4::timestamptz AND s.ts <= $5::timestamptz
"""

# Of a chunk whose rows have just come out of the columnstore PostgreSQL knows nothing, and would compare each of them with each key: 20 s for 10 000 of them, and
# 0.1 s where it may not.
_NO_NESTED_LOOP = "SET LOCAL enable_nestloop = off"
_AS_BEFORE = "SET LOCAL enable_nestloop TO DEFAULT"

_MOVE = """
UPDATE historian.snapshot s SET ts = n.ts, value = n.value, quality = n.quality, text = n.text
FROM unnest($1::int4[], $2::timestamptz[], $3::float8[], $4::int2[], $5::text[]) AS n (tag_id, ts, value, quality, text)
WHERE s.tag_id = n.tag_id
"""

# for this transaction only
_DIRECT = """
SELECT set_config('timescaledb.enable_direct_compress_copy', $1, true), set_config('timescaledb.enable_direct_compress_copy_client_sorted', $2, true)
"""

_LEAVE = "INSERT INTO historian.ledger_content (position, content) VALUES (nextval('historian.write_position'), $1) RETURNING position"

# the plain engine's rollups are refreshed from this; on the way, so that it costs no round trip
_LEAVE_CHANGED = """
WITH changed AS (
    INSERT INTO historian.rollup_change (level, lo, hi, tag_ids)
    SELECT '1m', lo, hi, array_agg(tag_id) FROM unnest($2::int4[], $3::timestamptz[], $4::timestamptz[]) AS c (tag_id, lo, hi) GROUP BY lo, hi
)
INSERT INTO historian.ledger_content (position, content) VALUES (nextval('historian.write_position'), $1) RETURNING position
"""

# TimescaleDB finds out by itself what was written, but not of which tags: of what may lie before the horizon (migration 0010) word is left too, where there can be one
_LEAVE_LATE = """
WITH changed AS (SELECT historian.rollup_changed($2::int4[], $3::timestamptz[], $4::timestamptz[]))
INSERT INTO historian.ledger_content (position, content) SELECT nextval('historian.write_position'), $1 FROM changed RETURNING position
"""
#: retention keeps two days at least, by the database's clock
_LATE_US = 86_400 * 1_000_000


@dataclass(slots=True)
class WriterCounts:
    """What a writer has done since it was made."""

    transactions: int = 0
    batches: int = 0
    replayed: int = 0
    samples: int = 0
    replaced: int = 0
    #: transactions that were rolled back and begun again, locks first
    begun_again: int = 0


class Writer:
    """Writes batches to one database. Calls may run at once, each on a connection of its own.

    `publish` is called after each commit, in this process, with what was committed; it must not raise or block. `instance` names this process
    on the doorbell, so that its own sweep, which needs no telling, is not woken. `relay`, if it is set, is called beside
    `publish`, for other servers.
    """

    def __init__(self, pool: Pool, publish: Publish | None = None, *, instance: str = "") -> None:
        self._pool = pool
        self.relay: Relay | None = None
        self._instance = instance
        self._publish = publish
        self._partitions = Partitions(pool)
        self._decimals = DecimalForm()
        self._one_at_a_time = threading.Lock()
        self._beliefs = Beliefs()
        self._doorbell: asyncio.Task[None] | None = None
        self._rung = False
        #: whether all that the next ring is for is on the bus
        self._relayed = True
        self.counts = WriterCounts()

    async def write(
        self, batches: Sequence[Batch], *, after: Sequence[asyncio.Future[None]] = (), beside: Beside | None = None
    ) -> list[Receipt | Conflict]:
        """Store batches in one transaction, later ones over earlier ones. Answers in their order, a Conflict for a batch whose (producer, seq) stands with other content.

        `after`: earlier writes to some of the same tags, which are to commit first: done when they have committed or failed. They never hold the same (producer, seq).
        `beside`: written in the same transaction, before the batches; of the snapshot it may lock the rows of their tags. What it raises rolls everything back.

        Raises UnknownTag, Unavailable. Either all that are no Conflict are stored or none is.
        """
        try:
            return await self._write(batches, after, beside)
        except asyncpg.CheckViolationError:
            # "no partition of relation found for row": retention dropped a month that we had made
            self._partitions.forget()
            return await self._write(batches, after, beside)

    async def _write(
        self, batches: Sequence[Batch], after: Sequence[asyncio.Future[None]], beside: Beside | None
    ) -> list[Receipt | Conflict]:
        try:
            for batch in batches:
                await self._partitions.make_room(batch.samples.ts)
            rows = sum(len(batch.samples) for batch in batches)
            work = await asyncio.to_thread(_Work.of, batches) if rows > _LARGE else _Work.of(batches)
            try:
                answers, notice, replaced = await self._commit(work, after, beside, ahead=True)
            except _Overtaken:
                self.counts.begun_again += 1
                if after:
                    await asyncio.wait(after)
                answers, notice, replaced = await self._commit(work, (), beside, ahead=False)
        except (HistorianError, asyncio.CancelledError, asyncpg.CheckViolationError):
            raise
        except Exception as error:
            ours = translate(error)
            if ours is None:
                raise
            raise ours from error
        self.counts.transactions += 1
        self.counts.replaced += replaced
        for answer in answers:
            if isinstance(answer, Receipt):
                self.counts.batches += 1
                self.counts.replayed += answer.replayed
                self.counts.samples += 0 if answer.replayed else answer.samples
        if notice is not None:
            self._ring()
        return answers

    async def _commit(
        self, work: _Work, after: Sequence[asyncio.Future[None]], beside: Beside | None, *, ahead: bool
    ) -> tuple[list[Receipt | Conflict], Notice | None, int]:
        try:
            async with self._pool.acquire() as conn:
                async with conn.transaction():
                    if beside is not None:
                        await beside(conn)
                    answers, notice, content, replaced = await self._transaction(conn, work, after, ahead)
                # committed, and only now known to anybody
                if notice is not None:
                    self._relayed &= self.relay is not None and self.relay(notice.xid, notice.position, content)
                    if self._publish is not None:
                        self._publish(notice)
                    if self._is_direct(len(notice.samples), len(work.tags)):
                        self._partitions.made_columnar(notice.samples.ts)
        except BaseException:
            # what we believed of these tags counted on this commit
            self._beliefs.forget(work.tags)
            raise
        return answers, notice, replaced

    async def _transaction(
        self, conn: Connection, work: _Work, after: Sequence[asyncio.Future[None]], ahead: bool
    ) -> tuple[list[Receipt | Conflict], Notice | None, bytes, int]:
        """The receipts, the notice and its content, if anything was stored, and how many samples were replaced."""
        batches, first, digests = work.batches, work.first, work.digests
        entered = await conn.fetch(
            _ENTER,
            [batches[n].producer for n in first.values()],
            [batches[n].seq for n in first.values()],
            [digests[n] for n in first.values()],
            [len(batches[n].samples) for n in first.values()],
        )
        fresh = {(row["producer"], row["seq"]): row["xid"] for row in entered}
        standing: dict[tuple[str, int], asyncpg.Record] = {}
        if len(fresh) < len(batches):
            repeated = [key for key in first if key not in fresh]
            rows = await conn.fetch(_ENTERED, [key[0] for key in repeated], [key[1] for key in repeated])
            standing = {(row["producer"], row["seq"]): row for row in rows}

        answers: list[Receipt | Conflict] = []
        for n, batch in enumerate(batches):
            key = (batch.producer, batch.seq)
            known = digests[first[key]] if key in fresh else standing[key]["digest"]
            if known != digests[n]:
                answers.append(Conflict(f"producer {batch.producer!r} has committed another batch as seq {batch.seq}; a seq is used once"))
                continue
            xid = fresh[key] if key in fresh else standing[key]["xid"]
            answers.append(Receipt(batch.producer, batch.seq, len(batch.samples), xid, replayed=key not in fresh or first[key] != n))

        samples = (
            work.samples if len(fresh) == len(batches) else newest_of_each([batches[n].samples for key, n in first.items() if key in fresh])
        )
        if not len(samples):
            return answers, None, b"", 0
        position, content, replaced = await self._store(conn, samples, after, ahead)
        return answers, Notice(int(next(iter(fresh.values()))), position, samples), content, replaced

    async def _store(
        self, conn: Connection, samples: Samples, after: Sequence[asyncio.Future[None]], ahead: bool
    ) -> tuple[int, bytes, int]:
        """Store samples that are sorted by (tag_id, ts), each key once. Returns the position, the content, and how many samples were replaced. Raises _Overtaken."""
        starts, ends = runs(samples.tag_id)
        counts, tags = ends - starts, samples.tag_id[starts]
        direct = self._is_direct(len(samples), len(tags))
        early = None
        if ahead and (not direct or self._partitions.is_columnar(samples.ts)):
            early = self._beliefs.newer(tags, counts, samples.ts)
        self._beliefs.expect(tags, samples.ts[ends - 1])
        if early is not None:
            await self._append(conn, samples if early.all() else samples.take(early), direct, in_order=True)
        if after and (await asyncio.wait(after, timeout=_PATIENCE_S))[1]:
            raise _Overtaken
        locked = await conn.fetch(_LOCK, tags.tolist())
        if len(locked) != len(tags):
            raise UnknownTag(sorted(set(tags.tolist()) - {row["tag_id"] for row in locked}))
        newest = np.array([NEVER if row["ts"] is None else row["ts"] for row in locked], np.int64)
        late = samples.ts <= np.repeat(newest, counts)
        if early is not None and (early & late).any():
            self._beliefs.surprised()
            raise _Overtaken
        self._beliefs.learn(tags, np.maximum(newest, samples.ts[ends - 1]))
        replaced = await self._clear(conn, samples, late) if late.any() else 0
        if early is None:
            await self._append(conn, samples, direct, in_order=not late.any())
        elif not early.all():
            # what is left is late, or lies among what is: not in order with what was appended before it
            await self._append(conn, samples.take(~early), direct, in_order=False)

        # the last sample of each tag is its newest; it moves the snapshot, or replaces it
        moves = samples.ts[ends - 1] >= newest
        last = samples.take((ends - 1)[moves])
        if len(last):
            text = last.text.to_pylist() if last.text is not None else [None] * len(last)
            await conn.execute(_MOVE, last.tag_id.tolist(), last.ts.tolist(), last.value.tolist(), last.quality.tolist(), text)
        content = await asyncio.to_thread(ledger.encode_content, samples) if len(samples) > _LARGE else ledger.encode_content(samples)
        if self._partitions.plain:
            changed = (column.tolist() for column in changed_minutes(samples))
            return await conn.fetchval(_LEAVE_CHANGED, content, *changed), content, replaced
        past = samples.ts < time.time_ns() // 1000 - _LATE_US
        if not past.any():
            return await conn.fetchval(_LEAVE, content), content, replaced
        changed = (column.tolist() for column in changed_minutes(samples.take(past)))
        return await conn.fetchval(_LEAVE_LATE, content, *changed), content, replaced

    async def _clear(self, conn: Connection, samples: Samples, late: Bools) -> int:
        """Delete what stands at the (tag, ts) of late samples; most of them replace nothing. Returns how many were deleted."""
        rows = np.flatnonzero(late)
        tag_id, ts = samples.tag_id[rows], samples.ts[rows]
        start, end = runs(tag_id)
        counts = end - start
        most = np.where(counts < _MANY_LATE, 1, _STANDING_A_ROW * counts)
        spans = (tag_id[start].tolist(), ts[start].tolist(), ts[end - 1].tolist(), most.tolist(), int(ts.min()), int(ts.max()))
        stands, crowded = np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
        for row in await conn.fetch(_WITHIN, *spans):
            n = row["n"] - 1
            own = slice(start[n], end[n])
            stamps = np.frombuffer(row["stamps"], ">i8") + PG_EPOCH_US
            if len(stamps) < most[n]:
                stands[own] = np.isin(ts[own], stamps)
            else:
                crowded[own] = True
        if crowded.any():
            singly = np.flatnonzero(crowded)
            of_tag, at = tag_id[singly], ts[singly]
            hits = await conn.fetch(_STANDING, of_tag.tolist(), at.tolist(), int(at.min()), int(at.max()))
            stands[singly[np.array([row["n"] for row in hits], np.int64) - 1]] = True
        if not stands.any():
            return 0
        return await self._replace(conn, tag_id[stands], ts[stands])

    async def _replace(self, conn: Connection, tag_id: Int32s, ts: Int64s) -> int:
        """Delete what stands at these keys. Returns how many were deleted."""
        if self._partitions.plain:
            groups = [np.arange(len(ts))]
        else:
            groups = _close_together(ts)
            await conn.execute(_NO_NESTED_LOOP)
        deleted = 0
        for group in groups:
            tags, stamps = tag_id[group], ts[group]
            status = await conn.execute(
                _REPLACED, tags.tolist(), stamps.tolist(), np.unique(tags).tolist(), int(stamps.min()), int(stamps.max())
            )
            deleted += int(status.split()[-1])
        if not self._partitions.plain:
            await conn.execute(_AS_BEFORE)
        return deleted

    def _is_direct(self, rows: int, tags: int) -> bool:
        """Whether samples go straight into the columnstore."""
        return self._partitions.direct and rows >= max(_DIRECT_ROWS, _DIRECT_ROWS_A_TAG * tags)

    async def _append(self, conn: Connection, samples: Samples, direct: bool, *, in_order: bool) -> None:
        """COPY samples, sorted by (tag_id, ts), each in the smallest form that gives its value back; `direct`: straight into the columnstore.

        `in_order`: all are newer than what their tags have. The columnstore may rely on it then.
        """
        forms = await asyncio.to_thread(self._encoded, samples) if len(samples) > _LARGE else self._encoded(samples)
        if direct:
            # two COPYs of one tag would lie beside each other in time, not one after the other
            await conn.execute(_DIRECT, "on", "on" if in_order and len(forms) == 1 else "off")
        for columns, source in forms:
            await conn.copy_to_table("sample", schema_name="historian", source=source, columns=columns, format="binary")

    def _encoded(self, samples: Samples) -> list[tuple[Sequence[str], object]]:
        """Columns and binary COPY data of each form that some of the samples have."""
        forms: list[tuple[Sequence[str], object]] = []
        is_text = samples.text.is_valid().to_numpy(zero_copy_only=False) if samples.text is not None else None
        if is_text is not None and is_text.any():
            texts = samples.take(is_text)
            forms.append((copy_binary.TEXT_COLUMNS, copy_binary.encode_texts(texts.tag_id, texts.quality, texts.ts, texts.text)))
            samples = samples.take(~is_text)
        with self._one_at_a_time:
            decimal, scale, mantissa = self._decimals.encode(samples.tag_id, samples.value)
        if decimal.any():
            some = samples if decimal.all() else samples.take(decimal)
            data = copy_binary.encode_decimals(some.tag_id, scale[decimal], some.quality, some.ts, mantissa[decimal])
            forms.append((copy_binary.DECIMAL_COLUMNS, data))
        if not decimal.all():
            rest = samples.take(~decimal)
            forms.append((copy_binary.FLOAT_COLUMNS, copy_binary.encode_floats(rest.tag_id, rest.quality, rest.ts, rest.value)))
        return forms

    def _ring(self) -> None:
        """Tell other processes that the ledger has something new: once for all commits while the last ring is on its way."""
        self._rung = True
        if self._doorbell is None or self._doorbell.done():
            self._doorbell = asyncio.get_running_loop().create_task(self._ring_until_quiet())

    async def _ring_until_quiet(self) -> None:
        while self._rung:
            payload = self._instance + (ledger.RELAYED if self._relayed else "")
            self._rung, self._relayed = False, True
            try:
                await self._pool.execute("SELECT pg_notify($1, $2)", ledger.DOORBELL, payload)
            except Exception as error:  # they sweep the ledger by themselves, only later
                log.debug("doorbell not rung: %s", error)

    async def close(self) -> None:
        """Wait for the last ring. The pool stays the caller's."""
        if self._doorbell is not None:
            await asyncio.gather(self._doorbell, return_exceptions=True)


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """Batches, made ready before a transaction is begun: all that takes this process's time is done without holding anything.

    `first`: of each (producer, seq) the position of the batch that is written; others with the same are replays of it. `samples` are those of all of `first`,
    sorted by (tag_id, ts), each key once; `tags` theirs.
    """

    batches: Sequence[Batch]
    first: dict[tuple[str, int], int]
    digests: list[bytes]
    samples: Samples
    tags: Int32s

    @classmethod
    def of(cls, batches: Sequence[Batch]) -> _Work:
        first: dict[tuple[str, int], int] = {}
        for n, batch in enumerate(batches):
            first.setdefault((batch.producer, batch.seq), n)
        samples = newest_of_each([batches[n].samples for n in first.values()])
        return cls(batches, first, [ledger.digest(batch.samples) for batch in batches], samples, samples.tag_id[runs(samples.tag_id)[0]])


def _close_together(ts: Int64s) -> list[Int64s]:
    """Positions of timestamps (µs), in groups that lie apart from each other: what lies between is left in the columnstore as it is. At most _MOST_GROUPS."""
    order = np.argsort(ts, kind="stable")
    gaps = np.diff(ts[order])
    apart = np.flatnonzero(gaps > _APART_US)
    if len(apart) >= _MOST_GROUPS:
        apart = np.sort(apart[np.argsort(gaps[apart])[-(_MOST_GROUPS - 1) :]])
    return np.split(order, apart + 1)


def runs(tag_id: Int32s) -> tuple[Int64s, Int64s]:
    """Where each run of equal values starts, and where it ends: int64[runs] both."""
    if not len(tag_id):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    starts = np.flatnonzero(np.concatenate(([True], tag_id[1:] != tag_id[:-1])))
    return starts, np.append(starts[1:], len(tag_id))


def newest_of_each(parts: Sequence[Samples]) -> Samples:
    """All rows sorted by (tag_id, ts); of rows with the same key the last one."""
    samples = concat(parts)
    if len(samples) < 2:
        return samples
    if _ascending(samples.tag_id, samples.ts):
        return samples
    tag_id, ts = samples.tag_id, samples.ts
    low, high = int(tag_id.min()), int(tag_id.max())
    if high - low < 1 << 16:
        # samples mostly come in the order of time: then it is enough to bring the tags together, and 16 bits are sorted in linear time
        order = np.argsort((tag_id - low).astype(np.uint16), kind="stable")
        if _ascending(tag_id[order], ts[order]):
            return samples.take(order)
    return samples.take(last_writes(tag_id, ts))


def _ascending(tag_id: Int32s, ts: Int64s) -> bool:
    """Whether rows are sorted by (tag_id, ts), each key once."""
    return bool(((tag_id[1:] > tag_id[:-1]) | ((tag_id[1:] == tag_id[:-1]) & (ts[1:] > ts[:-1]))).all())
