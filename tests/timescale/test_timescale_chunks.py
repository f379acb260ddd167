"""Chunks in the columnstore: converted by hand and by the job, written to late, deleted from, and read, with the samples that they should have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import pytest
from rollup_reference import Row
from timescale_samples import Conn, chunks, connected, convert, delete, insert_rows, new_tags, stored

from historian.schema.chunks import layout, set_interval, tend

START = 1_767_225_600_000_000  # 2026-01-01
MINUTE = 60_000_000


@contextmanager
def emptied(dsn: str) -> Iterator[Conn]:
    with connected(dsn) as conn:
        conn.execute("TRUNCATE historian.sample")
        conn.execute("DELETE FROM historian.snapshot")
        conn.execute("DELETE FROM historian.tag")
        yield conn


@pytest.fixture
def conn(timescale: str) -> Iterator[Conn]:
    with emptied(timescale) as opened:
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


def test_the_job_converts_what_is_old_and_nothing_else_and_takes_in_what_comes_late(timescale: str) -> None:
    with emptied(timescale) as conn:
        (tag,) = new_tags(conn, "p/a")
        rows = [*a_day(tag), *a_day(tag, 1)]
        insert_rows(conn, rows)
        conn.execute("INSERT INTO historian.sample (tag_id, quality, ts, mantissa) VALUES (%s, 192, now(), 1)", (tag,))
    tend(timescale)
    assert [part.form for part in layout(timescale).parts] == ["columnstore", "columnstore", "rowstore"]
    with connected(timescale) as conn:
        late = Row(tag, START + 1, 1.5, 192)
        insert_rows(conn, [late])
    parts = layout(timescale).parts
    assert [(part.form, part.problem) for part in parts] == [("both", None), ("columnstore", None), ("rowstore", None)]
    tend(timescale)
    found = layout(timescale)
    assert [(part.form, part.due, part.problem) for part in found.parts] == [*[("columnstore", False, None)] * 2, ("rowstore", False, None)]
    assert found.chunking is not None
    with connected(timescale) as conn:
        assert stored(conn)[:-1] == by_key([*rows, late])


def test_the_interval_of_the_chunks_to_come_is_set_by_hand_or_follows_the_rate(timescale: str) -> None:
    with emptied(timescale):
        pass
    set_interval(timescale, timedelta(hours=6))
    found = layout(timescale).chunking
    assert found is not None
    assert (found.interval, found.by_hand) == (timedelta(hours=6), True)
    with connected(timescale) as conn:
        (tag,) = new_tags(conn, "p/a")
        insert_rows(conn, a_day(tag))
        assert len(chunks(conn)) == 4
    set_interval(timescale, None)
    found = layout(timescale).chunking
    assert found is not None
    assert not found.by_hand
