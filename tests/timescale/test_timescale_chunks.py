"""Chunks in the columnstore: converted by hand and by the policy, written to late, deleted from, and read, with the samples that they should have."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from rollup_reference import Row
from timescale_samples import Conn, chunks, connected, convert, delete, insert_rows, new_tags, run_jobs, stored

START = 1_767_225_600_000_000  # 2026-01-01
MINUTE = 60_000_000


@pytest.fixture
def conn(timescale_database: str) -> Iterator[Conn]:
    with connected(timescale_database) as opened:
        yield opened


def a_day(tag: int, day: int = 0) -> list[Row]:
    """Decimals, floats that are none, and bad samples without a value."""
    rng = np.random.default_rng(tag)
    value = np.where(np.arange(1440) % 3 == 0, rng.normal(size=1440), np.round(rng.normal(20, 5, 1440), 2))
    return [Row(tag, START + (day * 1440 + n) * MINUTE, float(value[n]), 64 if n % 50 == 0 else 192) for n in range(1440)]


def by_key(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row.tag_id, row.ts))


def test_what_is_converted_is_what_was_written(conn: Conn) -> None:
    a, b = new_tags(conn, "p/a", "p/b")
    written = [*a_day(b, 1), *a_day(a), *a_day(b), *a_day(a, 1)]
    insert_rows(conn, written)
    first, second = chunks(conn)
    convert(conn, first[0])
    assert chunks(conn) == [(first[0], True), second]
    assert stored(conn) == by_key(written)
    convert(conn, second[0])
    assert stored(conn) == by_key(written)


def test_late_samples_and_corrections_in_a_converted_chunk(conn: Conn) -> None:
    a, b = new_tags(conn, "p/a", "p/b")
    rows = a_day(a)
    insert_rows(conn, [*rows[:1000], *a_day(b)])
    ((chunk, _),) = chunks(conn)
    convert(conn, chunk)
    stands = {(row.tag_id, row.ts): row for row in [*rows[:1000], *a_day(b)]}

    # between those that stand, before and behind them, and in the place of some, as the writer does it
    late = [Row(a, START - 1, 1e-7, 192), Row(a, START + MINUTE // 2, 0.125, 192), *rows[1000:]]
    corrected = [Row(row.tag_id, row.ts, -row.value, 0) for row in rows[5:900:7]]
    with conn.transaction():
        assert delete(conn, [(row.tag_id, row.ts) for row in [*late, *corrected]]) == len(corrected)
        insert_rows(conn, [*late, *corrected])
    stands |= {(row.tag_id, row.ts): row for row in [*late, *corrected]}
    assert stored(conn) == by_key(list(stands.values()))

    gone = [(row.tag_id, row.ts) for row in [*corrected[::2], *a_day(b)[100:1300]]]
    assert delete(conn, gone) == len(gone)
    for key in gone:
        del stands[key]
    assert stored(conn) == by_key(list(stands.values()))

    # taken in
    convert(conn, chunk, again=True)
    assert stored(conn) == by_key(list(stands.values()))


def test_what_is_taken_back_in_a_converted_chunk_never_was(conn: Conn) -> None:
    (tag,) = new_tags(conn, "p/a")
    insert_rows(conn, a_day(tag))
    ((chunk, _),) = chunks(conn)
    convert(conn, chunk)
    with conn.transaction(force_rollback=True):
        delete(conn, [(row.tag_id, row.ts) for row in a_day(tag)[:700]])
        insert_rows(conn, [Row(tag, START + 1, 1.5, 192)])
        assert len(stored(conn)) == 741
    assert stored(conn) == a_day(tag)


def test_the_policy_converts_what_is_old_and_nothing_else(conn: Conn) -> None:
    (tag,) = new_tags(conn, "p/a")
    insert_rows(conn, [*a_day(tag), *a_day(tag, 1)])
    conn.execute("INSERT INTO historian.sample (tag_id, quality, ts, mantissa) VALUES (%s, 192, now(), 1)", (tag,))
    assert run_jobs(conn, "policy_compression", "sample") == 1
    assert [converted for _, converted in chunks(conn)] == [True, True, False]
    # the next run takes in what came late
    insert_rows(conn, [Row(tag, START + 1, 1.5, 192)])
    run_jobs(conn, "policy_compression", "sample")
    assert [row for row in stored(conn) if row.ts < START + 2 * 1440 * MINUTE] == by_key(
        [*a_day(tag), *a_day(tag, 1), Row(tag, START + 1, 1.5, 192)]
    )
