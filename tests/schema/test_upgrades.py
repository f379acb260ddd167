"""Upgrades of databases with data in them, from every earlier version: nothing is lost, nothing counts twice, and the schema is the same as one made new."""

from __future__ import annotations

import math

import numpy as np
import psycopg
import pytest
from catalogs import catalogs

from historian.ingest.batching import Batcher
from historian.ingest.writer import Writer
from historian.query.range import RangeQuery, read_range
from historian.query.snapshot import read_snapshot
from historian.schema.catalogue import Catalogue
from historian.schema.connection import Pool, open_pool
from historian.schema.engine import Engine
from historian.schema.errors import BadInput, Conflict
from historian.schema.ledger import Batch
from historian.schema.migrate import migrations, status, upgrade
from historian.schema.samples import Samples

LATEST = {engine: len(migrations(engine)) for engine in ("plain", "timescale")}
#: every version that a database may have had, whatever the engine
EARLIER = range(1, max(LATEST.values()))
#: samples have room from here on (months, chunks); the ledger is there; writers log what buckets they change
SAMPLES_SINCE, LEDGER_SINCE, ROLLUPS_SINCE = 3, 4, 7

_DAY = 86_400_000_000
_START = 1_767_225_600_000_000  # 2026-01-01
_NAN = math.nan

KINDS = {"p/float": "float", "p/int": "int", "p/bool": "bool", "p/digital": "digital", "p/text": "text"}
#: tag, µs, mantissa, scale, value, quality, text: as the table has them
STORED: list[tuple[str, int, int | None, int, float | None, int, str | None]] = [
    ("p/float", _START, 2150, 2, None, 192, None),
    ("p/float", _START + 1, None, 0, 0.1 + 0.2, 192, None),
    ("p/float", _START + 2, None, 0, _NAN, 0, None),
    ("p/float", _START + 3, None, 0, -0.0, 100, None),
    ("p/float", _START + 40 * _DAY, 7, 22, None, 192, None),
    # late, into a month long past, and another before 1970
    ("p/float", _START - 300 * _DAY, -5, 1, None, 192, None),
    ("p/float", -_DAY, 1, 0, None, 40, None),
    ("p/int", _START, 2**53, 0, None, 192, None),
    ("p/bool", _START, 1, 0, None, 192, None),
    ("p/digital", _START, 3, 0, None, 64, None),
    ("p/text", _START, None, 0, None, 192, "läuft; 'so' \\ $$"),
    ("p/text", _START + 1, None, 0, None, 192, ""),
]
#: blake2b of BATCH as the first program with a ledger computed it
DIGEST = bytes.fromhex("bf0c4c4b3d810d10742e8491e5492b6c")
BATCH_ROWS = [("p/float", _START, 21.5, 192), ("p/int", _START, float(2**53), 192)]


def newest() -> dict[str, tuple[int, float, int, str | None]]:
    """The last stored sample of each tag."""
    found: dict[str, tuple[int, float, int, str | None]] = {}
    for tag, ts, value, quality, text in expected():
        if tag not in found or ts > found[tag][0]:
            found[tag] = (ts, value, quality, text)
    return found


def expected() -> list[tuple[str, int, float, int, str | None]]:
    """What a reader gets: tag, µs, value, quality, text."""
    rows = []
    for tag, ts, mantissa, scale, value, quality, text in STORED:
        number = mantissa / 10.0**scale if mantissa is not None else (_NAN if value is None else value)
        rows.append((tag, ts, number, quality, text))
    return sorted(rows)


def fill(dsn: str, version: int, engine: Engine) -> None:
    """What a program of that version had written: in SQL of its time, which no later column or function disturbs."""
    with psycopg.connect(dsn) as conn:
        for path, kind in KINDS.items():
            row = conn.execute(
                "INSERT INTO historian.tag (path, kind, step, unit, states) VALUES (%s, %s, %s, '°C', %s) RETURNING tag_id",
                [path, kind, kind != "float", '{"3": "running"}' if kind == "digital" else None],
            ).fetchone()
            assert row is not None
            conn.execute("INSERT INTO historian.snapshot (tag_id) VALUES (%s)", row)
        if version < SAMPLES_SINCE:
            return
        if engine == "plain":
            conn.execute(
                "SELECT historian.make_partitions(array_agg(DISTINCT (extract(year FROM ts) * 12 + extract(month FROM ts) - 1 - 1970 * 12)::int))"
                " FROM (SELECT to_timestamp(us / 1e6) AT TIME ZONE 'UTC' AS ts FROM unnest(%s::int8[]) us) AS stamps",
                [[row[1] for row in STORED]],
            )
        for path, ts, mantissa, scale, value, quality, text in STORED:
            conn.execute(
                "INSERT INTO historian.sample (tag_id, scale, quality, ts, mantissa, value, text)"
                " SELECT tag_id, %s, %s, timestamptz 'epoch' + %s * interval '1 microsecond', %s, %s, %s FROM historian.tag WHERE path = %s",
                [scale, quality, ts, mantissa, value, text, path],
            )
        for path, (ts, number, quality, text) in newest().items():
            conn.execute(
                "UPDATE historian.snapshot SET ts = timestamptz 'epoch' + %s * interval '1 microsecond', value = %s, quality = %s, text = %s"
                " WHERE tag_id = (SELECT tag_id FROM historian.tag WHERE path = %s)",
                [ts, number, quality, text, path],
            )
        if engine == "timescale":
            # a day that the policy has converted already
            conn.execute("SELECT compress_chunk(c) FROM show_chunks('historian.sample', older_than => timestamptz '2026-01-01') c")
        if version >= LEDGER_SINCE:
            conn.execute("INSERT INTO historian.ledger (producer, seq, digest, samples) VALUES ('edge', 7, %s, 2)", [DIGEST])
            conn.execute(
                "INSERT INTO historian.ledger_content (position, content) VALUES (nextval('historian.write_position'), 'of long ago')"
            )
        if version >= ROLLUPS_SINCE:
            conn.execute("SELECT historian.rollup_changed(array_agg(tag_id), array_agg(ts), array_agg(ts)) FROM historian.sample")


async def check(dsn: str, version: int) -> None:
    """All that was filled in reads the same, and is taken for what it is by the newest program."""
    pool = await open_pool(dsn, size=4)
    try:
        catalogue = Catalogue(pool)
        await catalogue.refresh()
        tags = {tag.path: tag for tag in catalogue.all()}
        assert {path: tag.kind for path, tag in tags.items()} == KINDS
        assert {tag.unit for tag in tags.values()} == {"°C"}
        assert tags["p/digital"].states == {"3": "running"}
        paths = {tag.tag_id: path for path, tag in tags.items()}

        async def everything() -> list[tuple[str, int, float, int, str | None]]:
            found = []
            async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
                async for chunk in read_range(conn, RangeQuery(list(tags.values()), -(2**55), 2**55)):
                    found += rows_of(chunk, paths)
            return sorted(found)

        if version >= SAMPLES_SINCE:
            same(await everything(), expected())
            async with pool.acquire() as conn:
                snapshot = rows_of(await read_snapshot(conn, list(tags.values())), paths)
            same(sorted(snapshot), sorted((path, *row) for path, row in newest().items()))
            assert await pool.fetchval("SELECT count(*) FROM historian.samples") == len(STORED)
            assert await pool.fetchval("SELECT count(*) FROM historian.current") == len(KINDS)
            # buckets have what was there before there were buckets
            await check_buckets(pool)
            await make_buckets(pool)
            await check_buckets(pool)

        # as a server has it: a conversion by TimescaleDB's policy, which begins on its own, may get in the way of a write, which is made again
        writer = Writer(pool)
        batcher = Batcher(writer, patience_s=30)
        batcher.start()
        batch = Batch("edge", 7, batch_of({path: tag.tag_id for path, tag in tags.items()}))
        answer = await batcher.submit(batch)
        assert answer.replayed == (version >= LEDGER_SINCE)
        if version >= LEDGER_SINCE:
            same(await everything(), expected())
            other = Batch("edge", 7, batch.samples.take(np.array([0])))
            with pytest.raises(Conflict):
                await batcher.submit(other)
        # and goes on: newer, late, and a replacement in what was there before the upgrade
        more = Samples(
            np.full(3, tags["p/float"].tag_id, np.int32),
            np.array([-_DAY, _START + 5, _START + 90 * _DAY]),
            np.array([9.5, 8.5, 7.5]),
            np.full(3, 192, np.int16),
        )
        assert not (await batcher.submit(Batch("edge", 8, more))).replayed
        floats = {ts: value for path, ts, value, _, _ in await everything() if path == "p/float"}
        assert [floats[ts] for ts in more.ts.tolist()] == [9.5, 8.5, 7.5]
        if version >= SAMPLES_SINCE:
            assert len(floats) == sum(row[0] == "p/float" for row in STORED) + 2
        await batcher.close()
        await writer.close()
    finally:
        pool.terminate()


LEVELS = ("1m", "10m", "1h", "6h", "1d")


async def make_buckets(pool: Pool) -> None:
    """All of the past, as maintenance makes them."""
    if await pool.fetchval("SELECT to_regprocedure('historian.refresh_rollups(timestamptz, int8)') IS NULL"):
        await pool.execute("""CALL historian.tend_rollups(NULL, '{"all": true}')""")
        return
    while await pool.fetchval("SELECT historian.refresh_rollups(now())"):
        pass


async def check_buckets(pool: Pool) -> None:
    numbers = [row for row in expected() if KINDS[row[0]] != "text"]
    for level in LEVELS:
        row = await pool.fetchrow(
            f"SELECT sum(count) AS count, sum(bad_count) AS bad, min(min) AS min, max(max) AS max FROM historian.rollups_{level} WHERE tag <> 'p/text'"
        )
        assert (row["count"], row["bad"]) == (len(numbers), sum(quality < 64 for _, _, _, quality, _ in numbers)), level
        known = [value for _, _, value, quality, _ in numbers if quality >= 64]
        assert (row["min"], row["max"]) == (min(known), max(known)), level


def batch_of(ids: dict[str, int]) -> Samples:
    tags, ts, values, qualities = zip(*BATCH_ROWS, strict=True)
    return Samples(np.array([ids[tag] for tag in tags], np.int32), np.array(ts, np.int64), np.array(values), np.array(qualities, np.int16))


def rows_of(samples: Samples, paths: dict[int, str]) -> list[tuple[str, int, float, int, str | None]]:
    columns = (
        samples.tag_id.tolist(),
        samples.ts.tolist(),
        samples.value.tolist(),
        samples.quality.tolist(),
        samples.text_or_nulls().to_pylist(),
    )
    return [(paths[tag_id], ts, value, quality, words) for tag_id, ts, value, quality, words in zip(*columns, strict=True)]


def same(found: list[tuple[str, int, float, int, str | None]], wanted: list[tuple[str, int, float, int, str | None]]) -> None:
    """Equal to the bit: -0.0 is not 0.0, and NaN is NaN."""

    def exact(rows: list[tuple[str, int, float, int, str | None]]) -> list[tuple[object, ...]]:
        return [(tag, ts, "nan" if math.isnan(value) else value.hex(), quality, text) for tag, ts, value, quality, text in rows]

    assert exact(found) == exact(wanted)


@pytest.mark.parametrize("version", EARLIER)
async def test_a_database_of_every_earlier_version_keeps_its_data_and_has_the_schema_of_one_made_new(
    empty_database: str, database_as_owner: str, engine: Engine, version: int
) -> None:
    if version >= LATEST[engine]:
        pytest.skip("this engine has no later version")
    upgrade(empty_database, to=version)
    assert status(empty_database).version == version
    fill(empty_database, version, engine)
    applied = upgrade(empty_database)
    assert len(applied) == LATEST[engine] - version
    assert status(empty_database).pending == ()
    # so that both have the same months
    fill(database_as_owner, version, engine)
    upgraded, made = catalogs(empty_database), catalogs(database_as_owner)
    assert upgraded.keys() == made.keys()
    for kind in made:
        assert upgraded[kind] == made[kind]
    assert made["functions"]
    assert made["indexes"]
    await check(empty_database, version)


@pytest.mark.parametrize("to", [0, -1, 10_000])
def test_a_version_that_is_none_is_refused(database: str, database_as_owner: str, to: int) -> None:
    before = status(database_as_owner)
    with pytest.raises(BadInput, match=f"schema version {to} is none to go to"):
        upgrade(database_as_owner, to=to)
    with pytest.raises(BadInput, match="no way back"):
        upgrade(database_as_owner, to=before.latest - 1)
    assert status(database_as_owner) == before
