"""Migrations on TimescaleDB: from nothing to each next version, with what was written in every version before in place; a second time; and as a script."""

from __future__ import annotations

import numpy as np
import psycopg
from catalogs import catalogs
from rollup_reference import Row
from timescale_samples import Conn, chunks, connected, convert, insert_rows, new_tags, refresh, stored

from historian.schema.migrate import dry_run, migrations, require_current, status, upgrade
from historian.schema.statements import split

START = 1_767_225_600_000_000  # 2026-01-01
DAY = 86_400_000_000
LATEST = len(migrations("timescale"))
TITLES = [migration.title for migration in migrations("timescale")]

#: what came with which version
SAMPLES, HYPERTABLE, LEDGER, ROLLUPS = 2, 3, 4, 7


def day_of(version: int, tag: int) -> list[Row]:
    """Every ten minutes: decimals, floats that are none, and bad samples."""
    rng = np.random.default_rng(version)
    value = np.where(rng.random(144) < 0.5, np.round(rng.normal(20, 5, 144), 2), rng.normal(size=144))
    return [Row(tag, START + version * DAY + n * 600_000_000 + n, float(value[n]), 0 if n % 50 == 0 else 192) for n in range(144)]


def test_every_step_leaves_what_was_written_in_every_version_before(empty_timescale: str) -> None:
    before = status(empty_timescale)
    assert (before.version, before.engine, list(before.pending)) == (None, None, TITLES)
    written: list[Row] = []
    for version in range(1, LATEST + 1):
        assert upgrade(empty_timescale, to=version) == [TITLES[version - 1]]
        assert upgrade(empty_timescale, to=version) == []
        found = status(empty_timescale)
        assert (found.engine, found.version, list(found.pending)) == ("timescale", version, TITLES[version:])
        with connected(empty_timescale) as conn:
            # a table with rows in it becomes no hypertable
            written += write_a_day(conn, version) if version >= HYPERTABLE else []
            check(conn, written, version)
    after = require_current(empty_timescale)
    assert (after.version, after.latest, after.pending) == (LATEST, LATEST, ())
    assert after.extension_version is not None
    assert after.extension_version.startswith("2.23")
    assert (upgrade(empty_timescale), dry_run(empty_timescale)) == ([], "")


def write_a_day(conn: Conn, version: int) -> list[Row]:
    """By a historian of that time; the day before is converted, and gets a late sample."""
    (tag,) = new_tags(conn, f"a/{version}")
    rows = day_of(version, tag)
    insert_rows(conn, rows)
    if version >= LEDGER:
        conn.execute("INSERT INTO historian.ledger (producer, seq, digest, samples) VALUES ('p', %s, '\\xab', 144)", (version,))
    if version >= ROLLUPS:
        refresh(conn)
    *old, _ = chunks(conn)
    for chunk, converted in old:
        if not converted:
            convert(conn, chunk)
            late = Row(tag, START + (version - 1) * DAY + 7, 1.25, 192)
            insert_rows(conn, [late])
            rows.append(late)
    return rows


def check(conn: Conn, written: list[Row], version: int) -> None:
    if version >= SAMPLES:
        assert stored(conn) == sorted(written, key=lambda row: (row.tag_id, row.ts))
    if version >= LEDGER:
        assert conn.execute("SELECT array_agg(seq ORDER BY seq) FROM historian.ledger").fetchone() == (list(range(LEDGER, version + 1)),)
    if version >= ROLLUPS:
        refresh(conn)
        for level in ("1m", "1d"):
            found = conn.execute(f"SELECT sum(count), sum(bad_count) FROM historian.rollup_{level}".encode()).fetchone()
            assert found == (len(written), sum(row.quality == 0 for row in written))


def test_the_script_of_a_dry_run_makes_the_schema_that_an_upgrade_makes(empty_timescale: str, timescale: str) -> None:
    script = dry_run(empty_timescale)
    assert status(empty_timescale).version is None
    with psycopg.connect(empty_timescale, autocommit=True) as conn:
        for statement in split(script.replace("\\set ON_ERROR_STOP on", "")):
            conn.execute(statement.encode())
    assert require_current(empty_timescale).version == LATEST
    assert catalogs(empty_timescale) == catalogs(timescale)
    assert dry_run(empty_timescale) == ""
