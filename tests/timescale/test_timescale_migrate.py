"""Migrations on TimescaleDB: from nothing, a second time, and from every earlier version with data in place."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from rollup_reference import Row
from timescale_samples import chunks, connected, convert, insert_rows, new_tags, refresh, stored

from historian.schema.migrate import migrations, require_current, status, upgrade

START = 1_767_225_600_000_000  # 2026-01-01
DAY = 86_400_000_000
LATEST = len(migrations("timescale"))

#: what came with which version
HYPERTABLE, LEDGER, ROLLUPS = 3, 4, 7


class _FarEnough(Exception):
    pass


def upgrade_to(dsn: str, version: int) -> None:
    """As a historian of that time would have done."""

    def stop(name: str) -> None:
        if int(name[:4]) > version:
            raise _FarEnough

    with contextlib.suppress(_FarEnough):
        upgrade(dsn, on_step=stop)
    assert status(dsn).version == version


def two_days(tag: int) -> list[Row]:
    rng = np.random.default_rng(7)
    value = np.where(rng.random(2880) < 0.5, np.round(rng.normal(20, 5, 2880), 2), rng.normal(size=2880))
    return [Row(tag, START + n * 60_000_000 + n, float(value[n]), 0 if n % 100 == 0 else 192) for n in range(2880)]


def test_from_nothing_to_the_newest_once(timescale: str) -> None:
    known = [f"{m.number:04d}_{m.name}" for m in migrations("timescale")]
    before = status(timescale)
    assert (before.version, before.engine, list(before.pending)) == (None, None, known)
    assert upgrade(timescale) == known
    after = status(timescale)
    assert (after.engine, after.version, after.latest, after.pending) == ("timescale", LATEST, LATEST, ())
    assert after.extension_version is not None
    assert after.extension_version.startswith("2.23")
    assert require_current(timescale) == after
    assert upgrade(timescale) == []
    assert status(timescale) == after


@pytest.mark.parametrize("version", range(1, LATEST))
def test_what_stands_in_an_earlier_version_stands_in_the_newest(timescale: str, version: int) -> None:
    upgrade_to(timescale, version)
    with connected(timescale) as conn:
        (tag,) = new_tags(conn, "a/b")
        # nothing could be written before there was a ledger, and a table with rows in it becomes no hypertable
        rows = two_days(tag) if version >= HYPERTABLE else []
        if rows:
            insert_rows(conn, rows)
            first, *_ = chunks(conn)
            convert(conn, first[0])
        if version >= LEDGER:
            conn.execute("INSERT INTO historian.ledger (producer, seq, digest, samples) VALUES ('p', 7, '\\xab', 2880)")
        if version >= ROLLUPS:
            refresh(conn)
    known = [f"{m.number:04d}_{m.name}" for m in migrations("timescale")]
    assert upgrade(timescale) == known[version:]
    require_current(timescale)
    with connected(timescale) as conn:
        assert conn.execute("SELECT path FROM historian.tag WHERE tag_id = %s", (tag,)).fetchall() == [("a/b",)]
        assert stored(conn) == rows
        assert conn.execute("SELECT seq, samples FROM historian.ledger").fetchall() == ([(7, 2880)] if version >= LEDGER else [])
        # buckets that were made, and those that are only made now
        assert conn.execute("SELECT coalesce(sum(count), 0) FROM historian.rollup_1d").fetchone() == (len(rows),)
        late = Row(tag, START + 1, 1.25, 192)
        insert_rows(conn, [late])
        refresh(conn)
        found = conn.execute("SELECT sum(count), sum(bad_count) FROM historian.rollup_1m").fetchone()
        assert found == (len(rows) + 1, sum(row.quality == 0 for row in rows))
