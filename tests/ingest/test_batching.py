"""Group commit: batches share transactions, are answered each for itself, and wait in bounded numbers."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from historian.ingest.batching import Batcher
from historian.ingest.writer import Writer
from historian.schema.catalogue import Catalogue
from historian.schema.connection import Pool
from historian.schema.errors import Busy, Conflict, Unavailable, UnknownTag
from historian.schema.ledger import Batch, Receipt
from historian.schema.samples import Samples

START = 1_767_225_600_000_000


def batch(producer: str, seq: int, tag_id: int, rows: int = 1, value: float = 1.0) -> Batch:
    ts = START + seq * 1_000_000 + np.arange(rows, dtype=np.int64)
    return Batch(producer, seq, Samples(np.full(rows, tag_id, np.int32), ts, np.full(rows, value), np.full(rows, 192, np.int16)))


@pytest.fixture
async def tag(pool: Pool) -> int:
    catalogue = Catalogue(pool)
    await catalogue.ensure({"b/a": "float"})
    return catalogue.get("b/a").tag_id


async def test_a_crowd_shares_transactions(pool: Pool, tag: int) -> None:
    writer = Writer(pool)
    batcher = Batcher(writer)
    batcher.start()
    receipts = await asyncio.gather(*(batcher.submit(batch(f"p{n}", 0, tag)) for n in range(200)))
    assert {receipt.producer for receipt in receipts} == {f"p{n}" for n in range(200)}
    assert writer.counts.batches == 200
    assert writer.counts.transactions < 20
    await batcher.close()
    await writer.close()


async def test_a_fault_of_one_batch_is_its_own(pool: Pool, tag: int) -> None:
    writer = Writer(pool)
    batcher = Batcher(writer, lanes=1)
    batcher.start()
    await batcher.submit(batch("p", 0, tag))
    answers = await asyncio.gather(
        batcher.submit(batch("q", 0, tag)),
        batcher.submit(batch("p", 0, tag, value=2.0)),
        batcher.submit(batch("r", 0, tag + 1000)),
        batcher.submit(batch("s", 0, tag)),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [Receipt, Conflict, UnknownTag, Receipt]
    assert await pool.fetchval("SELECT count(*) FROM historian.ledger") == 3
    await batcher.close()
    await writer.close()


async def positions(pool: Pool, receipts: list[Receipt]) -> list[int]:
    """Where each receipt's transaction stands in the order of commits."""
    rows = await pool.fetch("SELECT xid::text::int8 AS xid, position FROM historian.ledger_content")
    of_xid = {row["xid"]: row["position"] for row in rows}
    return [of_xid[receipt.xid] for receipt in receipts]


async def test_batches_of_a_producer_are_committed_in_order(pool: Pool, tag: int) -> None:
    writer = Writer(pool)
    batcher = Batcher(writer, lanes=4, batch_rows=3)
    batcher.start()
    receipts = await asyncio.gather(*(batcher.submit(batch("p", n, tag)) for n in range(50)))
    order = await positions(pool, receipts)
    assert order == sorted(order)
    assert writer.counts.replaced == 0
    await batcher.close()
    await writer.close()


async def test_batches_with_the_same_tag_are_committed_in_order_whoever_sends_them(pool: Pool, tag: int) -> None:
    writer = Writer(pool)
    batcher = Batcher(writer, lanes=4, batch_rows=3)
    batcher.start()
    instant = np.array([START], np.int64)
    one = [Samples(np.array([tag], np.int32), instant, np.array([float(n)]), np.array([192], np.int16)) for n in range(60)]
    receipts = await asyncio.gather(*(batcher.submit(Batch(f"p{n}", 0, samples)) for n, samples in enumerate(one)))
    order = await positions(pool, receipts)
    assert order == sorted(order)
    assert [tuple(row) for row in await pool.fetch("SELECT value FROM historian.samples")] == [(59.0,)]
    await batcher.close()
    await writer.close()


async def test_a_batch_sent_again_while_the_first_is_on_its_way_counts_once(pool: Pool, tag: int) -> None:
    writer = Writer(pool)
    batcher = Batcher(writer, lanes=4, batch_rows=1)
    batcher.start()
    receipts = await asyncio.gather(*(batcher.submit(batch("p", n // 5, tag)) for n in range(50)))
    assert sum(not receipt.replayed for receipt in receipts) == 10
    assert await pool.fetchval("SELECT count(*) FROM historian.sample") == 10
    await batcher.close()
    await writer.close()


async def test_more_than_may_wait_is_refused_and_what_waits_is_committed(pool: Pool, tag: int) -> None:
    writer = Writer(pool)
    batcher = Batcher(writer, lanes=1, batch_rows=10, max_pending_rows=100)
    batcher.start()
    answers = await asyncio.gather(*(batcher.submit(batch("p", n, tag, rows=10)) for n in range(20)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Receipt] * 10 + [Busy] * 10
    assert batcher.pending_rows == 0
    assert await pool.fetchval("SELECT count(*) FROM historian.sample") == 100
    await batcher.close()
    await writer.close()


async def test_a_database_that_hangs_is_told_of_and_the_batch_counts_once(pool: Pool, tag: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("historian.ingest.batching._HANGS_S", 0.2)
    writer = Writer(pool)
    batcher = Batcher(writer, patience_s=0.1)
    batcher.start()
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM historian.snapshot WHERE tag_id = $1 FOR UPDATE", tag)
        with pytest.raises(Unavailable, match="has not answered"):
            await batcher.submit(batch("p", 0, tag))
    receipts = [await batcher.submit(batch("p", 0, tag)) for _ in range(2)]
    assert receipts[1].replayed
    assert await pool.fetchval("SELECT count(*) FROM historian.sample") == 1
    await batcher.close()
    await writer.close()


async def test_close_commits_what_waits_and_refuses_more(pool: Pool, tag: int) -> None:
    writer = Writer(pool)
    batcher = Batcher(writer, batch_rows=1)
    batcher.start()
    waiting = [asyncio.ensure_future(batcher.submit(batch("p", n, tag))) for n in range(20)]
    await asyncio.sleep(0)  # let them be submitted
    await batcher.close()
    assert all(isinstance(answer, Receipt) for answer in await asyncio.gather(*waiting))
    with pytest.raises(Unavailable):
        await batcher.submit(batch("p", 99, tag))
    await writer.close()


async def test_a_broken_connection_is_survived_and_nothing_is_written_twice(pool: Pool, tag: int) -> None:
    """Backends are terminated while batches stream in: the ledger makes the second try harmless."""
    writer = Writer(pool)
    batcher = Batcher(writer, patience_s=30)
    batcher.start()

    async def saboteur(done: asyncio.Event) -> int:
        killed = 0
        while not done.is_set():
            killed += await pool.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND backend_type = 'client backend' AND query ILIKE '%ledger%'"
            )
            await asyncio.sleep(0.02)
        return killed

    done = asyncio.Event()
    sabotage = asyncio.create_task(saboteur(done))
    receipts = []
    for n in range(150):
        receipts += await asyncio.gather(*(batcher.submit(batch(f"p{m}", n, tag, value=float(m))) for m in range(3)))
    done.set()
    try:
        killed = await sabotage
    except Exception:  # its own connection may have been hit by the pool's clean-up
        killed = 1
    assert killed > 0
    assert len(receipts) == 450
    assert await pool.fetchval("SELECT count(*) FROM historian.ledger") == 450
    assert await pool.fetchval("SELECT count(*) FROM historian.sample") == 150  # three producers at the same timestamps: the last one each
    await batcher.close()
    await writer.close()
