"""The archive: whatever is written, archived, corrected and restored, a range query gives what was written last; files that are damaged are never fewer samples."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from archive_plant import DAY, MINUTE, TODAY, Plant, keyed, steady
from databases import SERVER_ROLE, as_server_role
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rollup_reference import COLUMNS, LEVELS, Row, assert_equal, expected

from historian.query import archive
from historian.query.range import RangeQuery, read_range
from historian.query.raw import read_raw
from historian.schema import retention
from historian.schema.catalogue import Catalogue, TagDefinition
from historian.schema.connection import Pool, open_pool
from historian.schema.errors import ArchiveFault, BadInput, Unavailable
from historian.schema.samples import Samples, concat
from historian.storage import archive_restore
from historian.storage.archive import Archiver
from historian.storage.retention import Retention

PATHS = {"a/f": "float", "a/g": "float", "a/t": "text", "b/f": "float", "b/i": "int"}


def keep(dsn: str, raw: int = 3, **more: Any) -> None:
    steady(dsn)
    retention.set_group(dsn, "default", archive=True, days={"raw": raw} | more)


rows = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.one_of(
            st.integers(0, 20 * 24 * 60).map(lambda m: m * MINUTE),
            st.integers(0, 300).map(lambda s: 12 * DAY - 150_000_000 + s * 1_000_000),
        ),
        st.one_of(st.integers(-999, 999).map(lambda n: n / 10), st.sampled_from([0.1 + 0.2, -0.0, 1e300])),
        st.sampled_from([192, 192, 64, 0]),
    ),
    min_size=1,
    max_size=40,
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), rows),
        st.tuples(st.just("archive"), st.just(None)),
        st.tuples(st.just("restore"), st.tuples(st.integers(0, 19), st.integers(1, 8), st.sampled_from([None, [0], [1, 2, 3]]))),
        st.tuples(st.just("unhold"), st.just(None)),
    ),
    min_size=3,
    max_size=10,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
async def test_a_range_gives_what_was_written_last_whatever_is_archived_corrected_and_restored(
    pool: Pool, database: str, tmp_path: Path, steps: list[tuple[str, Any]]
) -> None:
    keep(database)
    for table in ("sample", "archive_part", "archive_hold", "archive_pending", "rollup_change", "ledger"):
        await pool.execute(f"DELETE FROM historian.{table}")
    plant = await Plant.make(pool, PATHS)
    start = TODAY - 18 * DAY
    for what, how in steps:
        if what == "write":
            await plant.write([(n, start + at, f"text {value}" if PATHS_TEXT[n] else value, quality) for n, at, value, quality in how])
        elif what == "archive":
            report = await Archiver(pool, str(tmp_path / "archive")).run()
            assert not report.waits
        elif what == "restore":
            first, days, tags = how
            if await pool.fetchval(
                "SELECT count(*) FROM historian.archive_part WHERE hi > $1 AND lo < $2", start + first * DAY, start + (first + days) * DAY
            ):
                await archive_restore.restore(
                    pool,
                    start=start + first * DAY,
                    end=start + (first + days) * DAY,
                    tag_ids=None if tags is None else [plant.tags[n].tag_id for n in tags],
                    keep_days=1,
                )
        else:
            await pool.execute("DELETE FROM historian.archive_hold")
        await plant.check()
    await plant.check(start + 5 * DAY + 7, start + 12 * DAY)
    for instant in (start + 5 * DAY + 7, start + 12 * DAY - 30_000_000, start + 30 * DAY):
        await plant.check_boundaries(instant)


PATHS_TEXT = [kind == "text" for kind in PATHS.values()]


async def history(pool: Pool, days: int = 8, *, every: int = 600) -> Plant:
    """Two float tags and a text tag, from so many days back until now."""
    plant = await Plant.make(pool, {"a/f": "float", "a/t": "text", "b/f": "float"})
    rng = np.random.default_rng(3)
    ts = np.arange(TODAY - days * DAY, TODAY + DAY // 2, every * 1_000_000)
    for tag in plant.tags:
        text = tag.kind == "text"
        value = np.full(len(ts), np.nan) if text else np.round(rng.normal(20, 3, len(ts)), 2)
        said = pa.array([f"phase {n % 5}" for n in range(len(ts))]) if text else None
        await plant.store(Samples(np.full(len(ts), tag.tag_id, np.int32), ts, value, np.full(len(ts), 192, np.int16), said))
    return plant


async def buckets(pool: Pool, level: str) -> list[Any]:
    return [tuple(row) for row in await pool.fetch(f"SELECT {COLUMNS} FROM historian.rollup_{level} ORDER BY tag_id, bucket")]


async def test_chunks_and_partitions_are_dropped_and_the_rollups_stay(pool: Pool, database: str, tmp_path: Path, engine: str) -> None:
    keep(database)
    # over the end of a month at least
    plant = await history(pool, 40 if engine == "plain" else 7, every=1200)
    before = {level: await buckets(pool, level) for level in LEVELS}
    parts = await pool.fetchval("SELECT count(*) FROM historian.storage_part")
    report = await Archiver(pool, str(tmp_path)).run()
    assert report.rows == sum(ts < TODAY - 3 * DAY for _, ts in plant.model)
    assert report.dropped >= 1
    assert await pool.fetchval("SELECT count(*) FROM historian.storage_part") == parts - report.dropped
    assert await pool.fetchval("SELECT count(*) FROM historian.sample WHERE ts < $1", TODAY - 3 * DAY) == 0
    await plant.check()
    for level in LEVELS:
        assert await buckets(pool, level) == before[level], level
    # another refresh of everything does not forget them
    await refresh(database)
    for level in LEVELS:
        assert await buckets(pool, level) == before[level], level
    again = await Archiver(pool).run()
    assert (again.files, again.rows, again.dropped) == (0, 0, 0)


async def refresh(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        if conn.execute("SELECT to_regclass('historian.rollup_turn')").fetchone() != (None,):
            conn.execute("""CALL historian.tend_rollups(NULL, '{"all": true}')""")
        else:
            while conn.execute("SELECT historian.refresh_rollups(now())").fetchone() != (0,):
                pass


async def test_late_samples_among_archived_ones_are_taken_into_the_rollups(pool: Pool, database: str, tmp_path: Path) -> None:
    keep(database)
    plant = await history(pool)
    await Archiver(pool, str(tmp_path)).run()
    old = TODAY - 6 * DAY + 7 * 3600 * 1_000_000
    a, b = plant.tags[0].tag_id, plant.tags[2].tag_id
    # a new one, a correction of one that is archived, and a tag that has nothing archived there
    new = (await Catalogue(pool).define([TagDefinition(path="c/new", kind="float")]))[0]
    plant.tags.append(new)
    await plant.write([(0, old + 1, 99.5, 192), (2, old, -7.25, 192), (3, old + 5, 1.5, 192), (3, old + 30_000_000, 2.5, 0)])
    await refresh(database)
    await plant.check()

    async def check() -> None:
        for level, seconds in LEVELS.items():
            numbers = [
                Row(tag, ts, struct.unpack("<d", value)[0] if value != b"nan" else math.nan, quality)
                for (tag, ts), (value, quality, _) in plant.model.items()
                if tag in (a, b, new.tag_id) and ts < TODAY - 3 * DAY
            ]
            found = await pool.fetch(
                f"SELECT {COLUMNS} FROM historian.rollup_{level} WHERE tag_id = ANY ($1) AND bucket < $2",
                [a, b, new.tag_id],
                TODAY - 3 * DAY,
            )
            assert_equal({(row["tag_id"], row["bucket"]): dict(row) for row in found}, expected(numbers, seconds), level)

    report = await Archiver(pool).run()
    assert report.late == 3
    await check()
    # now the late ones are archived too, beside what they correct
    assert await pool.fetchval("SELECT count(*) FROM historian.sample WHERE ts < $1", TODAY - 3 * DAY) == 0
    await plant.check()
    await plant.write([(2, old, -8.5, 192)])
    assert (await Archiver(pool).run()).late == 1
    await refresh(database)
    await check()
    await archive_restore.restore(pool, start=0, end=2**52, keep_days=1)
    await refresh(database)
    await plant.check()
    await check()


async def test_groups_keep_what_is_theirs(pool: Pool, database: str, tmp_path: Path) -> None:
    keep(database, 5)
    retention.set_group(database, "fast", patterns=("a/#",), archive=False, days={"raw": 2, "1m": 4})
    retention.set_group(database, "never", patterns=("a/t",), priority=1)
    plant = await history(pool)
    await Archiver(pool, str(tmp_path)).run()
    oldest = dict(await pool.fetch("SELECT tag_id, min(ts) FROM historian.sample GROUP BY 1"))
    fast, never, rest = (tag.tag_id for tag in plant.tags)
    assert oldest == {fast: TODAY - 2 * DAY, never: TODAY - 8 * DAY, rest: TODAY - 5 * DAY}
    minutes = dict(await pool.fetch("SELECT tag_id, min(bucket) FROM historian.rollup_1m GROUP BY 1"))
    assert minutes == {fast: TODAY - 4 * DAY, never: TODAY - 8 * DAY, rest: TODAY - 8 * DAY}
    hours = dict(await pool.fetch("SELECT tag_id, min(bucket) FROM historian.rollup_1h GROUP BY 1"))
    assert hours == dict.fromkeys((fast, never, rest), TODAY - 8 * DAY)
    plant.model = {key: kept for key, kept in plant.model.items() if key[0] != fast or key[1] >= TODAY - 2 * DAY}
    await plant.check()
    # what comes late where raw samples were removed for good is no rollup of it
    day = await buckets(pool, "1d")
    await plant.write([(0, TODAY - 6 * DAY + 5, 1e6, 192), (2, TODAY - 6 * DAY + 5, 1e6, 192)])
    await refresh(database)
    await Archiver(pool).run()
    changed = {row[0] for row, was in zip(await buckets(pool, "1d"), day, strict=True) if row != was}
    assert changed == {rest}


async def test_a_level_that_has_expired_is_made_of_the_archive_where_a_late_sample_needs_it(
    pool: Pool, database: str, tmp_path: Path
) -> None:
    keep(database, 3, **{"1m": 3, "10m": 3})
    plant = await history(pool)
    await Archiver(pool, str(tmp_path)).run()
    assert await pool.fetchval("SELECT min(bucket) FROM historian.rollup_10m") == TODAY - 3 * DAY
    old = TODAY - 6 * DAY + 7 * 3600 * 1_000_000
    await plant.write([(0, old + 1, 99.5, 192)])
    await refresh(database)
    await Archiver(pool).run()
    row = await pool.fetchrow("SELECT count FROM historian.rollup_1h WHERE tag_id = $1 AND bucket = $2", plant.tags[0].tag_id, old)
    assert row["count"] == 7
    row = await pool.fetchrow(
        "SELECT count FROM historian.rollup_1d WHERE tag_id = $1 AND bucket = $2", plant.tags[0].tag_id, TODAY - 6 * DAY
    )
    assert row["count"] == 145
    assert await pool.fetchval("SELECT min(bucket) FROM historian.rollup_10m") == TODAY - 3 * DAY


@pytest.mark.parametrize("harm", ["missing", "cut", "page", "footer"])
async def test_a_damaged_file_is_an_error_that_names_it_and_never_fewer_samples(
    pool: Pool, database: str, tmp_path: Path, harm: str
) -> None:
    keep(database)
    plant = await history(pool, 4)
    await Archiver(pool, str(tmp_path)).run()
    # this process has seen them whole
    archive.forget()
    part = next(part for part in await archive_restore.parts(pool) if part.form == "number")
    file = tmp_path / part.file
    data = bytearray(file.read_bytes())
    if harm == "missing":
        file.unlink()
    elif harm == "cut":
        file.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 3 if harm == "page" else -40] ^= 0x10
        file.write_bytes(data)
    with pytest.raises(ArchiveFault, match=part.file):
        await plant.read(0, TODAY)
    with pytest.raises(ArchiveFault, match=part.file):
        await archive_restore.restore(pool, start=0, end=TODAY, keep_days=1)
    faults = [archive_restore.verify(archive.store_at(str(tmp_path)), one) for one in await archive_restore.parts(pool)]
    assert [fault is not None for fault in faults] == [one.file == part.file for one in await archive_restore.parts(pool)]
    # what does not need it is read
    assert len(await plant.read(TODAY - 2 * DAY, TODAY)) > 100


async def test_a_reader_whose_snapshot_is_older_than_a_drop_is_told_to_ask_again(
    pool: Pool, database: str, tmp_path: Path, engine: str
) -> None:
    keep(database)
    days = 40 if engine == "plain" else 6
    plant = await history(pool, days, every=3600)
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        await conn.fetchval("SELECT pg_current_snapshot()")
        assert (await Archiver(pool, str(tmp_path)).run()).dropped
        with pytest.raises(Unavailable, match="ask again"):
            async for _ in read_raw(conn, plant.tags, 0, 2**52):
                pass
    await plant.check()
    # and one that has begun to read is not disturbed: what it reads is not dropped
    await plant.write([(0, TODAY - (days - 1) * DAY, 1.0, 192)])
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        query = RangeQuery(tags=plant.tags, start=0, end=2**52)
        first = concat([chunk async for chunk in read_range(conn, query)])
        report = await Archiver(pool).run()
        assert (report.rows, report.dropped) == (1, 0)
        assert keyed(concat([chunk async for chunk in read_range(conn, query)])) == keyed(first)
    assert (await Archiver(pool).run()).dropped


async def test_the_archive_can_be_read_without_the_database(pool: Pool, database: str, tmp_path: Path) -> None:
    keep(database)
    plant = await history(pool, 5)
    # a URI, too
    await Archiver(pool, tmp_path.as_uri()).run()
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert {tag["path"] for tag in manifest["tags"]} == {"a/f", "a/t", "b/f"}
    assert sum(part["rows"] for part in manifest["parts"]) == sum(ts < TODAY - 3 * DAY for _, ts in plant.model)
    for part in manifest["parts"]:
        data = (tmp_path / part["file"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (part["bytes"], part["sha256"])
    files = [str(tmp_path / part["file"]) for part in manifest["parts"] if part["form"] == "number"]
    table = ds.dataset(files, partitioning=ds.partitioning(flavor="hive"), partition_base_dir=str(tmp_path)).to_table(
        filter=ds.field("tag_id") == plant.tags[0].tag_id
    )
    assert set(table.column("year").to_pylist()) <= {2000 + n for n in range(20, 99)}
    value = table.column("mantissa").to_numpy() / 10.0 ** table.column("scale").to_numpy()
    found = await plant.read(0, TODAY - 3 * DAY, [plant.tags[0]])
    assert sorted(value) == pytest.approx(sorted(found.value))
    # another database does not take it for its own
    await pool.execute("UPDATE historian.retention_state SET archive_id = gen_random_uuid()")
    with pytest.raises(BadInput, match="another database"):
        await Archiver(pool).run()


async def test_a_servers_role_can_do_it_once_the_database_has_made_the_rollups(pool: Pool, database: str, tmp_path: Path) -> None:
    keep(database)
    plant = await history(pool, 5)
    await pool.execute("SELECT historian.want_horizon()")
    # other databases of the server may have older transactions
    while not await pool.fetchval("SELECT historian.advance_horizon()"):
        await refresh(database)
    opened = await open_pool(database if SERVER_ROLE in database else as_server_role(database), size=4)
    try:
        report = await Archiver(opened, str(tmp_path), wait=False).run()
        assert report.rows
        assert not report.waits
        await plant.write([(0, TODAY - 4 * DAY + 3, 5.0, 192)])
        await refresh(database)
        # as a server does it, by the hour, and what a server has that does not archive
        retention_task = Retention(opened, None)
        assert await retention_task.tend()
        assert retention_task.counts.archived == 0
        assert await pool.fetchval("SELECT count(*) FROM historian.rollup_change WHERE level = 'late' AND lo < $1", TODAY - 3 * DAY) == 0
        retention_task = Retention(opened, str(tmp_path))
        assert await retention_task.tend()
        assert retention_task.counts.archived == 1
        await archive_restore.restore(opened, start=0, end=TODAY - 4 * DAY, keep_days=2)
    finally:
        opened.terminate()
    await plant.check()
