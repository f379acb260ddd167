"""The write path against a real database: stored once, last commit wins, nothing by halves."""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from historian.ingest.writer import Writer, newest_of_each
from historian.schema.catalogue import Catalogue, Kind
from historian.schema.connection import Pool
from historian.schema.errors import Conflict, UnknownTag
from historian.schema.ledger import Batch, Notice, Receipt
from historian.schema.samples import Samples

START = 1_767_225_600_000_000  # 2026-01-01
DAY = 86_400_000_000


def samples_of(rows: list[tuple[int, int, float]], text: list[str | None] | None = None) -> Samples:
    return Samples(
        np.array([row[0] for row in rows], np.int32),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64),
        np.array([0 if np.isnan(row[2]) and text is None else 192 for row in rows], np.int16),
        None if text is None else pa.array(text, pa.string()),
    )


async def tag_ids(pool: Pool, count: int, kind: Kind = "float") -> list[int]:
    catalogue = Catalogue(pool)
    await catalogue.ensure({f"w/{kind}{n}": kind for n in range(count)})
    return [catalogue.get(f"w/{kind}{n}").tag_id for n in range(count)]


async def held(pool: Pool) -> dict[tuple[int, int], tuple[float | None, str | None]]:
    """Every sample by its key; a key that is there twice fails."""
    rows = await pool.fetch(
        "SELECT tag_id, ts, COALESCE(historian.decimal_value(mantissa, scale), value) AS value, text FROM historian.sample ORDER BY tag_id, ts"
    )
    found = {(row["tag_id"], row["ts"]): (row["value"], row["text"]) for row in rows}
    assert len(found) == len(rows), "a (tag, ts) is stored twice"
    return found


async def numbers(pool: Pool) -> dict[tuple[int, int], float]:
    return {key: value for key, (value, _) in (await held(pool)).items()}


async def test_samples_are_stored_and_published_after_the_commit(pool: Pool) -> None:
    (tag,) = await tag_ids(pool, 1)
    seen: list[Notice] = []
    writer = Writer(pool, seen.append)
    (receipt,) = await writer.write(
        [Batch("p", 0, samples_of([(tag, START, 1.25), (tag, START + 1, float("nan")), (tag, START + 2, -0.0)]))]
    )
    assert isinstance(receipt, Receipt)
    assert (receipt.samples, receipt.replayed) == (3, False)
    found = await numbers(pool)
    assert found[tag, START] == 1.25
    assert np.isnan(found[tag, START + 1])
    assert str(found[tag, START + 2]) == "-0.0"
    (notice,) = seen
    assert notice.xid == receipt.xid
    assert notice.samples.ts.tolist() == [START, START + 1, START + 2]
    await writer.close()


async def test_a_batch_that_is_sent_again_counts_once(pool: Pool) -> None:
    (tag,) = await tag_ids(pool, 1)
    seen: list[Notice] = []
    writer = Writer(pool, seen.append)
    batch = Batch("p", 7, samples_of([(tag, START, 1.0)]))
    (first,) = await writer.write([batch])
    await writer.write([Batch("q", 0, samples_of([(tag, START, 2.0)]))])
    (again,) = await writer.write([batch])
    assert isinstance(first, Receipt)
    assert again == Receipt("p", 7, 1, first.xid, replayed=True)
    # the replay must not undo what was written since
    assert await numbers(pool) == {(tag, START): 2.0}
    assert len(seen) == 2
    await writer.close()


async def test_the_same_seq_with_other_content_is_a_conflict_and_hurts_nobody_else(pool: Pool) -> None:
    (tag,) = await tag_ids(pool, 1)
    writer = Writer(pool)
    await writer.write([Batch("p", 0, samples_of([(tag, START, 1.0)]))])
    answers = await writer.write([Batch("p", 0, samples_of([(tag, START, 9.0)])), Batch("q", 0, samples_of([(tag, START + 1, 2.0)]))])
    assert isinstance(answers[0], Conflict)
    assert isinstance(answers[1], Receipt)
    assert await numbers(pool) == {(tag, START): 1.0, (tag, START + 1): 2.0}
    await writer.close()


async def test_an_unknown_tag_stores_nothing(pool: Pool) -> None:
    (tag,) = await tag_ids(pool, 1)
    writer = Writer(pool)
    with pytest.raises(UnknownTag):
        await writer.write([Batch("p", 0, samples_of([(tag, START, 1.0), (tag + 1000, START, 1.0)]))])
    assert await numbers(pool) == {}
    assert await pool.fetchval("SELECT count(*) FROM historian.ledger") == 0
    await writer.close()


async def test_late_and_corrected_samples_replace_what_stands(pool: Pool) -> None:
    a, b = await tag_ids(pool, 2)
    writer = Writer(pool)
    await writer.write([Batch("p", 0, samples_of([(a, START + n * DAY, float(n)) for n in range(40)] + [(b, START, 0.5)]))])
    # corrected in two months, late between, newer, and a correction of the newest
    rows = [
        (a, START + 3 * DAY, 33.0),
        (a, START + 35 * DAY, 355.0),
        (a, START + 5 * DAY + 1, 5.1),
        (a, START + 41 * DAY, 41.0),
        (b, START, 0.75),
    ]
    await writer.write([Batch("p", 1, samples_of(rows))])
    expected = {(a, START + n * DAY): float(n) for n in range(40)} | {(b, START): 0.5} | {row[:2]: row[2] for row in rows}
    assert await numbers(pool) == expected
    assert writer.counts.replaced == 3
    snapshot = {row["tag_id"]: (row["ts"], row["value"]) for row in await pool.fetch("SELECT tag_id, ts, value FROM historian.snapshot")}
    assert snapshot == {a: (START + 41 * DAY, 41.0), b: (START, 0.75)}
    await writer.close()


async def test_text_samples(pool: Pool) -> None:
    (tag,) = await tag_ids(pool, 1, "text")
    writer = Writer(pool)
    nan = float("nan")
    await writer.write([Batch("p", 0, samples_of([(tag, START, nan), (tag, START + 1, nan)], ["füllen", ""]))])
    await writer.write([Batch("p", 1, samples_of([(tag, START, nan)], ["rühren\n\t\\"]))])
    assert {key: text for key, (_, text) in (await held(pool)).items()} == {(tag, START): "rühren\n\t\\", (tag, START + 1): ""}
    await writer.close()


async def test_far_past_and_future_have_room(pool: Pool) -> None:
    (tag,) = await tag_ids(pool, 1)
    writer = Writer(pool)
    stamps = [0, 86_400_000_000 * 365 * 20, START, 4_102_444_799_999_999]
    await writer.write([Batch("p", 0, samples_of([(tag, ts, 1.0) for ts in stamps]))])
    assert sorted(ts for _, ts in await numbers(pool)) == stamps
    await writer.close()


KEYS = st.tuples(st.integers(0, 3), st.integers(0, 12))
BATCHES = st.lists(st.lists(KEYS, max_size=12), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=BATCHES, together=st.integers(1, 4), resent=st.sets(st.integers(0, 7)), hands=st.lists(st.booleans(), min_size=8, max_size=8)
)
async def test_any_sequence_of_batches_leaves_the_last_write_of_each_key(
    pool: Pool, database_as_owner: str, batches: list[list[tuple[int, int]]], together: int, resent: set[int], hands: list[bool]
) -> None:
    """Through two writers, as of two processes: what one believes to be the newest, the other may have overtaken."""
    # as the owner: a server's role may not do it
    with psycopg.connect(database_as_owner) as owner:
        owner.execute(
            "TRUNCATE historian.sample, historian.ledger, historian.ledger_content; UPDATE historian.snapshot SET ts = NULL, value = NULL"
        )
    ids = await tag_ids(pool, 4)
    seen: list[Notice] = []
    writer, other = Writer(pool, seen.append), Writer(pool, seen.append)
    expected: dict[tuple[int, int], float] = {}
    made, value = [], 0.0
    for seq, keys in enumerate(batches):
        rows = []
        for tag, at in keys:
            value += 0.37
            rows.append((ids[tag], START + at * DAY, value))
            expected[ids[tag], START + at * DAY] = value
        made.append(Batch("p", seq, samples_of(rows)))
    for first in range(0, len(made), together):
        await (other if hands[first % 8] else writer).write(made[first : first + together])
    for seq in resent & set(range(len(made))):
        (answer,) = await writer.write([made[seq]])
        assert isinstance(answer, Receipt)
        assert answer.replayed
    assert await numbers(pool) == expected
    newest = {tag: max(ts for t, ts in expected if t == tag) for tag, _ in expected}
    rows = await pool.fetch("SELECT tag_id, ts, value FROM historian.snapshot WHERE ts IS NOT NULL")
    assert {row["tag_id"]: (row["ts"], row["value"]) for row in rows} == {tag: (ts, expected[tag, ts]) for tag, ts in newest.items()}
    # what was published, applied in its order, is what is held
    applied: dict[tuple[int, int], float] = {}
    for notice in seen:
        applied.update(
            zip(zip(notice.samples.tag_id.tolist(), notice.samples.ts.tolist(), strict=True), notice.samples.value.tolist(), strict=True)
        )
    assert applied == expected
    await writer.close()
    await other.close()


async def test_bulk_loads_in_any_order_with_corrections_and_floats_among_decimals(pool: Pool) -> None:
    """Enough rows of each tag for the columnstore, where there is one: new history, older history, one that fills a hole, and one that replaces what stands."""
    ids = await tag_ids(pool, 2)
    expected: dict[tuple[int, int], float] = {}
    writer = Writer(pool)

    async def load(seq: int, first: int, step: int, value: float) -> None:
        ts = np.tile(START + (first + np.arange(30_000, dtype=np.int64) * step) * 1000, 2)
        values = np.round(value + np.arange(60_000) / 100, 2)
        values[::7] += np.pi  # no decimals
        tag = np.repeat(np.array(ids, np.int32), 30_000)
        expected.update(zip(zip(tag.tolist(), ts.tolist(), strict=True), values.tolist(), strict=True))
        (answer,) = await writer.write([Batch("bulk", seq, Samples(tag, ts, values, np.full(60_000, 192, np.int16)))])
        assert isinstance(answer, Receipt)

    await load(0, 100_000, 2, 1.0)
    await load(1, 160_000, 1, 2.0)
    await load(2, 0, 1, 3.0)
    # between the rows of the first
    await load(3, 100_001, 2, 4.0)
    # over it, and over what follows
    await load(4, 110_000, 3, 5.0)
    assert await numbers(pool) == expected
    assert writer.counts.replaced == 60_000 - 2 * sum((110_000 + n * 3) >= 190_000 for n in range(30_000))
    newest = await pool.fetch("SELECT ts, value FROM historian.snapshot WHERE tag_id = ANY($1) ORDER BY tag_id", ids)
    last = START + (110_000 + 29_999 * 3) * 1000
    assert [tuple(row) for row in newest] == [(last, expected[tag, last]) for tag in ids]
    await writer.close()


async def test_what_another_process_overtook_is_stored_once_and_replaces_what_stands(pool: Pool) -> None:
    (tag,) = await tag_ids(pool, 1)
    writer, other = Writer(pool), Writer(pool)
    await writer.write([Batch("p", 0, samples_of([(tag, START, 1.0)]))])
    await other.write([Batch("q", 0, samples_of([(tag, START + 10, 2.0), (tag, START + 20, 3.0)]))])
    # it believes START to be the newest, and appends all of these ahead of the locks
    await writer.write([Batch("p", 1, samples_of([(tag, START + at, 4.0 + at) for at in (5, 10, 30)]))])
    assert await numbers(pool) == {
        (tag, START): 1.0,
        (tag, START + 5): 9.0,
        (tag, START + 10): 14.0,
        (tag, START + 20): 3.0,
        (tag, START + 30): 34.0,
    }
    assert writer.counts.replaced == 1
    await writer.close()
    await other.close()


async def test_a_write_that_waits_long_for_an_earlier_one_lets_go_and_comes_after_it(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("historian.ingest.writer._PATIENCE_S", 0.01)
    (tag,) = await tag_ids(pool, 1)
    writer = Writer(pool)
    await writer.write([Batch("p", 0, samples_of([(tag, START, 1.0)]))])
    earlier = asyncio.get_running_loop().create_future()
    later = asyncio.create_task(writer.write([Batch("p", 2, samples_of([(tag, START + 2, 3.0)]))], after=[earlier]))
    open_transactions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_xid IS NOT NULL"
    async with asyncio.timeout(30):
        # it enters the ledger, appends, waits, and rolls back
        while writer.counts.begun_again == 0 or await pool.fetchval(open_transactions):
            await asyncio.sleep(0)
    assert not later.done()
    await writer.write([Batch("p", 1, samples_of([(tag, START + 2, 2.0)]))])
    earlier.set_result(None)
    await later
    assert await numbers(pool) == {(tag, START): 1.0, (tag, START + 2): 3.0}
    await writer.close()


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=3),
)
def test_newest_of_each_is_sorted_and_keeps_the_last(rows: list[tuple[int, int]], cuts: list[int]) -> None:
    samples = samples_of([(tag, ts, float(n)) for n, (tag, ts) in enumerate(rows)])
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    result = newest_of_each([samples.slice(a, b) for a, b in itertools.pairwise(edges)])
    expected = {key: float(n) for n, key in enumerate(rows)}
    assert list(zip(result.tag_id.tolist(), result.ts.tolist(), strict=True)) == sorted(expected)
    assert result.value.tolist() == [expected[key] for key in sorted(expected)]


async def test_many_writers_on_the_same_tags_never_deadlock_and_the_last_commit_wins(pool: Pool) -> None:
    """Batches in random order of tags and producers, several in a transaction; the position that each draws says who came last."""
    ids = await tag_ids(pool, 12)
    notices: list[Notice] = []
    writers = [Writer(pool, notices.append) for _ in range(4)]
    chance = random.Random(3)

    async def work(number: int) -> None:
        for step in range(25):
            batches = []
            for part in range(2):
                chosen = chance.sample(ids, 8)
                rows = [
                    (tag, START + chance.randrange(20) * 1000, number * 1e6 + step * 100 + n + part / 2) for n, tag in enumerate(chosen)
                ]
                # producers that several writers share, too: their seqs never meet
                batches.append(Batch(f"p{chance.randrange(3)}", number * 1000 + step * 2 + part, samples_of(rows)))
            for answer in await writers[number].write(batches):
                assert isinstance(answer, Receipt)

    async with asyncio.timeout(120):
        await asyncio.gather(*(work(n) for n in range(4)))
    expected: dict[tuple[int, int], float] = {}
    for notice in sorted(notices, key=lambda notice: notice.position):
        s = notice.samples
        expected.update(zip(zip(s.tag_id.tolist(), s.ts.tolist(), strict=True), s.value.tolist(), strict=True))
    assert await numbers(pool) == expected
    for writer in writers:
        await writer.close()


async def test_writer_processes_on_the_same_tags(database: str, pool: Pool) -> None:
    """Three processes, each at 3 000 samples/s into the same ten tags, on a raster that makes them collide."""
    ids = await tag_ids(pool, 10)
    script = Path(__file__).parent.parent / "stream" / "seam_writer.py"
    arguments = ["--dsn", database, "--tags", f"{ids[0]}-{ids[-1]}", "--rate", "3000", "--seconds", "4"]
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, str(script), "--number", str(n), *arguments, stdout=asyncio.subprocess.PIPE)
        for n in range(3)
    ]
    outputs = await asyncio.gather(*(process.communicate() for process in processes))
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    # the ledger's content, applied in the order of the positions, is what is held
    from historian.schema.ledger import decode_content

    expected: dict[tuple[int, int], float] = {}
    for row in await pool.fetch("SELECT content FROM historian.ledger_content ORDER BY position"):
        s = decode_content(row["content"])
        expected.update(zip(zip(s.tag_id.tolist(), s.ts.tolist(), strict=True), s.value.tolist(), strict=True))
    assert await numbers(pool) == expected
    assert len(expected) < 36_000, "nothing collided: this test has shown nothing"
