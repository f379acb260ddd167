"""Rollups on TimescaleDB: whatever is written late, corrected and deleted, a bucket of every level holds what its samples give, once it is refreshed."""

from __future__ import annotations

from typing import Any

import numpy as np
from rollup_reference import COLUMNS, LEVELS, Row, assert_equal, expected
from timescale_samples import Conn, chunks, connected, convert, delete, insert_rows, new_tags, refresh, tend_rollups

START = 1_738_281_600_000_000  # 2025-01-31: days around the end of a month
MINUTE = 60_000_000
DAY = 86_400_000_000


def buckets(conn: Conn, level: str) -> dict[tuple[int, int], dict[str, Any]]:
    cursor = conn.execute(f"SELECT {COLUMNS} FROM historian.rollup_{level}".encode())
    assert cursor.description is not None
    names = [column.name for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    found = {(row["tag_id"], row["bucket"]): row for row in rows}
    assert len(found) == len(rows), f"{level}: a bucket is there twice"
    return found


def check(conn: Conn, stands: dict[tuple[int, int], Row]) -> None:
    for level, seconds in LEVELS.items():
        assert_equal(buckets(conn, level), expected(stands.values(), seconds), level)


def some(rng: np.random.Generator, tags: list[int], count: int) -> list[Row]:
    """Decimals, noise, what is hard on sums, bad samples with a value and without: in bursts, and on the edges of buckets."""
    rows = {}
    for _ in range(count):
        kind = rng.integers(4)
        ts = START + int(rng.integers(3 * 1440)) * MINUTE if kind else START + DAY - 150_000_000 + int(rng.integers(300)) * 1_000_000
        ts += int(rng.integers(MINUTE)) if kind == 1 else 0
        value = float([np.round(rng.normal(20, 5), 2), rng.normal(), rng.choice([1e-7, -0.001, 5e-324, 1e15, 0.1, -0.0])][rng.integers(3)])
        quality = int(rng.choice([192, 192, 192, 200, 64, 130, 0, 24]))
        row = Row(int(rng.choice(tags)), ts, float("nan") if quality < 64 and rng.random() < 0.5 else value, quality)
        rows[row.tag_id, row.ts] = row
    return list(rows.values())


def put(conn: Conn, stands: dict[tuple[int, int], Row], rows: list[Row]) -> None:
    """As the writer does: what stands there is replaced."""
    with conn.transaction():
        delete(conn, [(row.tag_id, row.ts) for row in rows])
        insert_rows(conn, rows)
    stands.update({(row.tag_id, row.ts): row for row in rows})


def test_buckets_equal_what_the_samples_give_whatever_is_written_and_deleted(timescale: str) -> None:
    rng = np.random.default_rng(11)
    stands: dict[tuple[int, int], Row] = {}
    with connected(timescale) as conn:
        tags = new_tags(conn, "r/a", "r/b")
        put(conn, stands, some(rng, tags, 400))
        # nothing is refreshed yet: all is made of samples when it is read
        check(conn, stands)
        refresh(conn, None, "2025-02-02 00:00:00+00")
        check(conn, stands)

        # late ones and corrections, before what was refreshed and behind
        put(conn, stands, some(rng, tags, 200))
        put(conn, stands, [Row(row.tag_id, row.ts, 5.25, 192) for row in list(stands.values())[::3]])
        refresh(conn)
        check(conn, stands)

        # by the job, after deletes, whole buckets of them too
        gone = [key for n, key in enumerate(stands) if n % 4 == 0 or key[1] < START + 600 * MINUTE]
        assert delete(conn, gone) == len(gone)
        for key in gone:
            del stands[key]
        tend_rollups(conn)
        check(conn, stands)

        # in chunks that are converted
        for chunk, _ in chunks(conn):
            convert(conn, chunk)
        put(conn, stands, some(rng, tags, 200))
        gone = list(stands)[::5]
        assert delete(conn, gone) == len(gone)
        for key in gone:
            del stands[key]
        tend_rollups(conn)
        check(conn, stands)
        assert conn.execute("SELECT count(*) FROM historian.rollup_turn WHERE refreshed_at IS NULL").fetchone() == (0,)
