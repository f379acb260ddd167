"""The writer: one transaction that turns batches into stored samples, exactly once.

Promise. When `write` returns, the batches are on disk, each counted once however often it was sent; what it published was committed. When it raises,
nothing of these batches is stored, unless the connection broke during the commit: then the same call, made again, finds out from the ledger.

The transaction, in this order, which is the same in every writer, so that none waits for another in a circle:

1. insert (producer, seq) into the ledger, sorted: one that stands already was done before; one that another transaction is inserting waits for it;
2. lock the snapshot rows of all tags, in tag_id order, and learn each tag's newest timestamp: from here on nobody else writes these tags;
3. draw a position: it orders the commits of any tag;
4. samples newer than their tag's newest are appended; the others replace what stands at their (tag, ts);
5. move the snapshot rows, and leave the content for the live bus;
6. commit; only then acknowledge (return) and publish.

Not here: batching (`batching.py`), decoding and its checks (`decode/`). The samples that come in are sound: known tag ids, values that fit their kinds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import asyncpg
import numpy as np

from historian.schema import copy_binary, ledger
from historian.schema.connection import Connection, Pool, translate
from historian.schema.decimals import DecimalForm
from historian.schema.errors import Conflict, HistorianError, UnknownTag
from historian.schema.ledger import Batch, Notice, Receipt
from historian.schema.partitions import Partitions
from historian.schema.samples import Bools, Int64s, Samples, concat

log = logging.getLogger(__name__)

Publish = Callable[[Notice], None]

#: below every timestamp that there can be: a tag without samples
_NEVER = np.iinfo(np.int64).min

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

_POSITION = "SELECT nextval('historian.write_position')"

# One probe of the index a tag: history that is older than what stands, but lies where nothing stands, is appended at full speed. LIMIT keeps the planner to the
# probe, whatever it believes of the table's size.
_OCCUPIED = """
SELECT k.tag_id FROM unnest($1::int4[], $2::timestamptz[], $3::timestamptz[]) AS k (tag_id, lo, hi)
CROSS JOIN LATERAL (SELECT FROM historian.sample s WHERE s.tag_id = k.tag_id AND s.ts >= k.lo AND s.ts <= k.hi LIMIT 1) AS hit
"""

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

_MOVE = """
UPDATE historian.snapshot s SET ts = n.ts, value = n.value, quality = n.quality, text = n.text
FROM unnest($1::int4[], $2::timestamptz[], $3::float8[], $4::int2[], $5::text[]) AS n (tag_id, ts, value, quality, text)
WHERE s.tag_id = n.tag_id
"""

_LEAVE = "INSERT INTO historian.ledger_content (position, content) VALUES ($1, $2)"


@dataclass(slots=True)
class WriterCounts:
    """What a writer has done since it was made."""

    transactions: int = 0
    batches: int = 0
    replayed: int = 0
    samples: int = 0
    replaced: int = 0


class Writer:
    """Writes batches to one database. Calls may run at once, each on a connection of its own.

    `publish` is called after each commit, in this process, with what was committed; it must not raise or block. `instance` names this process
    on the doorbell, so that its own sweep, which needs no telling, is not woken.
    """

    def __init__(self, pool: Pool, publish: Publish | None = None, *, instance: str = "") -> None:
        self._pool = pool
        self._instance = instance
        self._publish = publish
        self._partitions = Partitions(pool)
        self._decimals = DecimalForm()
        self._doorbell: asyncio.Task[None] | None = None
        self._rung = False
        self.counts = WriterCounts()

    async def write(self, batches: Sequence[Batch]) -> list[Receipt | Conflict]:
        """Store batches in one transaction, later ones over earlier ones. Answers in their order, a Conflict for a batch whose (producer, seq) stands with other content.

        Raises UnknownTag, Unavailable. Either all that are no Conflict are stored or none is.
        """
        try:
            return await self._write(batches)
        except asyncpg.CheckViolationError:
            # "no partition of relation found for row": retention dropped a month that we had made
            self._partitions.forget()
            return await self._write(batches)

    async def _write(self, batches: Sequence[Batch]) -> list[Receipt | Conflict]:
        try:
            for batch in batches:
                await self._partitions.make_room(batch.samples.ts)
            async with self._pool.acquire() as conn:
                async with conn.transaction():
                    answers, notice, replaced = await self._transaction(conn, batches)
                # committed, and only now known to anybody
                if notice is not None and self._publish is not None:
                    self._publish(notice)
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

    async def _transaction(self, conn: Connection, batches: Sequence[Batch]) -> tuple[list[Receipt | Conflict], Notice | None, int]:
        # the same (producer, seq) twice in one call: the first is written, the others are replays of it
        first: dict[tuple[str, int], int] = {}
        for n, batch in enumerate(batches):
            first.setdefault((batch.producer, batch.seq), n)
        digests = [ledger.digest(batch.samples) for batch in batches]
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

        samples = newest_of_each([batches[n].samples for key, n in first.items() if key in fresh])
        if not len(samples):
            return answers, None, 0
        position, replaced = await self._store(conn, samples)
        return answers, Notice(int(next(iter(fresh.values()))), position, samples), replaced

    async def _store(self, conn: Connection, samples: Samples) -> tuple[int, int]:
        """Store samples that are sorted by (tag_id, ts), each key once. Returns the position, and how many samples were replaced."""
        starts = np.flatnonzero(np.concatenate(([True], samples.tag_id[1:] != samples.tag_id[:-1])))
        ends = np.append(starts[1:], len(samples))
        tags = samples.tag_id[starts]
        locked = await conn.fetch(_LOCK, tags.tolist())
        if len(locked) != len(tags):
            raise UnknownTag(sorted(set(tags.tolist()) - {row["tag_id"] for row in locked}))
        newest = np.array([_NEVER if row["ts"] is None else row["ts"] for row in locked], np.int64)
        position = await conn.fetchval(_POSITION)

        late = samples.ts <= np.repeat(newest, ends - starts)
        replaced = await self._clear(conn, samples, late, starts) if late.any() else 0
        await self._append(conn, samples)

        # the last sample of each tag is its newest; it moves the snapshot, or replaces it
        moves = samples.ts[ends - 1] >= newest
        last = samples.take((ends - 1)[moves])
        if len(last):
            text = last.text.to_pylist() if last.text is not None else [None] * len(last)
            await conn.execute(_MOVE, last.tag_id.tolist(), last.ts.tolist(), last.value.tolist(), last.quality.tolist(), text)
        await conn.execute(_LEAVE, position, ledger.encode_content(samples))
        return position, replaced

    async def _clear(self, conn: Connection, samples: Samples, late: Bools, starts: Int64s) -> int:
        """Delete what stands at the (tag, ts) of late samples; most of them replace nothing. Returns how many were deleted."""
        rows = np.flatnonzero(late)
        tag_id, ts = samples.tag_id[rows], samples.ts[rows]
        first = np.flatnonzero(np.concatenate(([True], tag_id[1:] != tag_id[:-1])))
        last = np.append(first[1:], len(rows)) - 1
        found = await conn.fetch(_OCCUPIED, tag_id[first].tolist(), ts[first].tolist(), ts[last].tolist())
        if not found:
            return 0
        occupied = np.isin(tag_id, np.array([row["tag_id"] for row in found], np.int32))
        tag_id, ts = tag_id[occupied], ts[occupied]
        lo, hi = int(ts.min()), int(ts.max())
        hits = await conn.fetch(_STANDING, tag_id.tolist(), ts.tolist(), lo, hi)
        if not hits:
            return 0
        at = np.array([row["n"] for row in hits], np.int64) - 1
        tag_id, ts = tag_id[at], ts[at]
        status = await conn.execute(_REPLACED, tag_id.tolist(), ts.tolist(), np.unique(tag_id).tolist(), int(ts.min()), int(ts.max()))
        return int(status.split()[-1])

    async def _append(self, conn: Connection, samples: Samples) -> None:
        """COPY samples, sorted by (tag_id, ts), each in the smallest form that gives its value back."""
        is_text = samples.text.is_valid().to_numpy(zero_copy_only=False) if samples.text is not None else None
        if is_text is not None and is_text.any():
            texts = samples.take(is_text)
            await self._copy(conn, copy_binary.TEXT_COLUMNS, copy_binary.encode_texts(texts.tag_id, texts.quality, texts.ts, texts.text))
            samples = samples.take(~is_text)
        decimal, scale, mantissa = self._decimals.encode(samples.tag_id, samples.value)
        if decimal.all():
            if len(samples):
                source = copy_binary.encode_decimals(samples.tag_id, scale, samples.quality, samples.ts, mantissa)
                await self._copy(conn, copy_binary.DECIMAL_COLUMNS, source)
            return
        if decimal.any():
            some = samples.take(decimal)
            source = copy_binary.encode_decimals(some.tag_id, scale[decimal], some.quality, some.ts, mantissa[decimal])
            await self._copy(conn, copy_binary.DECIMAL_COLUMNS, source)
        rest = samples.take(~decimal)
        await self._copy(conn, copy_binary.FLOAT_COLUMNS, copy_binary.encode_floats(rest.tag_id, rest.quality, rest.ts, rest.value))

    @staticmethod
    async def _copy(conn: Connection, columns: Sequence[str], source: object) -> None:
        await conn.copy_to_table("sample", schema_name="historian", source=source, columns=columns, format="binary")

    def _ring(self) -> None:
        """Tell other processes that the ledger has something new: once for all commits while the last ring is on its way."""
        self._rung = True
        if self._doorbell is None or self._doorbell.done():
            self._doorbell = asyncio.get_running_loop().create_task(self._ring_until_quiet())

    async def _ring_until_quiet(self) -> None:
        while self._rung:
            self._rung = False
            try:
                await self._pool.execute("SELECT pg_notify($1, $2)", ledger.DOORBELL, self._instance)
            except Exception as error:  # they sweep the ledger by themselves, only later
                log.debug("doorbell not rung: %s", error)

    async def close(self) -> None:
        """Wait for the last ring. The pool stays the caller's."""
        if self._doorbell is not None:
            await asyncio.gather(self._doorbell, return_exceptions=True)


def newest_of_each(parts: Sequence[Samples]) -> Samples:
    """All rows sorted by (tag_id, ts); of rows with the same key the last one."""
    samples = concat(parts)
    if len(samples) < 2:
        return samples
    tag_id, ts = samples.tag_id, samples.ts
    ascending = (tag_id[1:] > tag_id[:-1]) | ((tag_id[1:] == tag_id[:-1]) & (ts[1:] > ts[:-1]))
    if ascending.all():
        return samples
    order = np.lexsort((ts, tag_id))  # stable: rows with the same key stay in the order in which they came
    tag_id, ts = tag_id[order], ts[order]
    is_last = np.append((tag_id[1:] != tag_id[:-1]) | (ts[1:] != ts[:-1]), True)
    return samples.take(order[is_last])
