"""Range queries on TimescaleDB: the program's own reading gives what was written, and what every mode gives on the database that the other tests use."""

from __future__ import annotations

from contextlib import aclosing
from typing import get_args

import numpy as np
import pytest
from rollup_reference import Row
from timescale_samples import chunks, connected, convert, insert_rows, new_tags, refresh

from historian.ingest.writer import Writer
from historian.query.interval import Interval
from historian.query.range import Mode, RangeQuery, read_range
from historian.schema.catalogue import Catalogue, Tag, TagDefinition
from historian.schema.connection import Connection, Pool, connect, translated
from historian.schema.errors import HistorianError
from historian.schema.ledger import Batch
from historian.schema.samples import Samples, concat

DAY = 86_400_000_000
START = 1_769_731_200_000_000  # 2026-01-30: into the next month
END = START + 3 * DAY
PATHS = ("q/a", "q/b", "q/c")


def written(tags: list[int]) -> list[Row]:
    """Three days: decimals a minute apart, noise at odd times, a few; all with bad samples, some without a value."""
    rng = np.random.default_rng(3)
    times = (
        *(START + np.arange(0, 3 * DAY, 60_000_000), START + np.unique(rng.integers(0, 3 * DAY, 1500))),
        START + np.unique(rng.integers(0, 3 * DAY, 9)),
    )
    rows = []
    for tag, ts in zip(tags, times, strict=True):
        walk = rng.normal(0, 0.5, len(ts)).cumsum()
        for n, at in enumerate(ts.tolist()):
            bad = n % 40 == 7
            value = float("nan") if bad and n % 80 == 7 else float(np.round(walk[n], 2)) if tag == tags[0] else float(walk[n])
            rows.append(Row(tag, at, value, 0 if bad else 64 if n % 30 == 3 else 192))
    return rows


def columns(rows: list[Row]) -> Samples:
    return Samples(
        np.array([row.tag_id for row in rows], np.int32),
        np.array([row.ts for row in rows], np.int64),
        np.array([row.value for row in rows], np.float64),
        np.array([row.quality for row in rows], np.int16),
    )


@pytest.fixture
def filled(timescale: str) -> tuple[str, list[Tag]]:
    """A database with all rows: of the three days one is in the columnstore with late rows beside it, one is refreshed, one is neither."""
    with connected(timescale) as conn:
        found = conn.execute("SELECT tag_id FROM historian.tag WHERE path = ANY(%s) ORDER BY path", (list(PATHS),)).fetchall()
        ids = [tag_id for (tag_id,) in found]
        if not ids:
            ids = new_tags(conn, *PATHS)
            rows = written(ids)
            insert_rows(conn, rows[::2])
            convert(conn, chunks(conn)[0][0])
            insert_rows(conn, rows[1::2])
            refresh(conn, None, "2026-02-01 00:00:00+00")
    return timescale, [Tag(tag_id, path, "float") for tag_id, path in zip(ids, PATHS, strict=True)]


async def read(conn: Connection, query: RangeQuery) -> Samples:
    with translated():
        async with conn.transaction(isolation="repeatable_read", readonly=True), aclosing(read_range(conn, query)) as reader:
            return concat([chunk async for chunk in reader])


async def test_what_was_written_comes_back_bit_by_bit(filled: tuple[str, list[Tag]]) -> None:
    dsn, tags = filled
    wanted = columns(written([tag.tag_id for tag in tags]))
    conn = await connect(dsn)
    try:
        found = await read(conn, RangeQuery(tags, START, END))
        inner = await read(conn, RangeQuery(tags[:2], START + DAY // 3, START + 2 * DAY))
    finally:
        await conn.close()
    assert (found.tag_id.tolist(), found.ts.tolist()) == (wanted.tag_id.tolist(), wanted.ts.tolist())
    assert (found.value.tobytes(), found.quality.tolist()) == (wanted.value.tobytes(), wanted.quality.tolist())
    assert len(inner) == np.sum((wanted.tag_id != tags[2].tag_id) & (wanted.ts >= START + DAY // 3) & (wanted.ts < START + 2 * DAY))


async def outcome(conn: Connection, query: RangeQuery) -> tuple[list[object], ...] | str:
    """By path; a mode that wants something else of its query says so, on any database."""
    try:
        found = await read(conn, query)
    except HistorianError as error:
        return f"{type(error).__name__}: {error}"
    paths = {tag.tag_id: tag.path for tag in query.tags}
    return (
        [paths[tag_id] for tag_id in found.tag_id.tolist()],
        found.ts.tolist(),
        found.value.tolist(),
        found.quality.tolist(),
        found.text_or_nulls().to_pylist(),
    )


async def test_every_mode_gives_what_it_gives_on_another_server(filled: tuple[str, list[Tag]], pool: Pool) -> None:
    dsn, tags = filled
    others = await Catalogue(pool).define([TagDefinition(path=path, kind="float") for path in PATHS])
    writer = Writer(pool)
    await writer.write([Batch("test", 0, columns(written([tag.tag_id for tag in others])))])
    await writer.close()
    answered = set()
    conn = await connect(dsn)
    try:
        for mode in get_args(Mode):
            if mode == "auto":
                # what it says of bad samples depends on which rollups are made: tests/query/test_auto.py has its own measure
                assert isinstance(await outcome(conn, RangeQuery(tags, START, END, mode, 100)), tuple)
                continue
            for interval in (None, Interval(3_600_000_000), Interval(45_000_000)):
                for start, end in ((START, END), (START + DAY + 12_345_678, START + DAY + 40 * 60_000_000)):
                    found, wanted = [], []
                    ask = (start, end, mode, 100, None, interval)
                    found = await outcome(conn, RangeQuery(tags, *ask))
                    async with pool.acquire() as other:
                        wanted = await outcome(other, RangeQuery(others, *ask))
                    if isinstance(found, str) or isinstance(wanted, str):
                        assert found == wanted, (mode, interval)
                        continue
                    answered.add(mode)
                    assert (*found[:2], *found[3:]) == (*wanted[:2], *wanted[3:]), (mode, interval)
                    # sums of floats depend on their order in the last digits
                    np.testing.assert_allclose(found[2], wanted[2], rtol=1e-9, atol=1e-9, err_msg=f"{mode} {interval}")
    finally:
        await conn.close()
    assert answered >= {"raw", "minmax", "m4"}
