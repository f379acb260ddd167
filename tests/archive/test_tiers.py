"""What is read where retention has removed levels of the rollups: what is below them, in the archive too; and where that is gone for good, what is above them."""

from __future__ import annotations

import math
import struct
from contextlib import aclosing
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from archive_plant import DAY, MINUTE, TODAY, Plant, steady

from historian.query.aggregates import AGGREGATES
from historian.query.auto import Columns
from historian.query.interval import Interval
from historian.query.range import read_range
from historian.query.range_query import Mode, RangeQuery
from historian.schema import retention
from historian.schema.catalogue import Tag
from historian.schema.connection import Pool
from historian.schema.samples import Samples, concat
from historian.storage.archive import Archiver

HOUR = 60 * MINUTE
UTC = ZoneInfo("UTC")
WIDTHS = {"1m": MINUTE, "10m": 10 * MINUTE, "1h": HOUR, "1d": DAY, "90m": 90 * MINUTE}


async def read(pool: Pool, tags: list[Tag], start: int, end: int, mode: Mode, interval: str | None = None, points: int = 2000) -> Samples:
    query = RangeQuery(tags, start, end, mode, points, interval=Interval.parse(interval, UTC) if interval else None)
    async with (
        pool.acquire() as conn,
        conn.transaction(isolation="repeatable_read", readonly=True),
        aclosing(read_range(conn, query)) as chunks,
    ):
        return concat([chunk async for chunk in chunks])


async def history(pool: Pool, days: int, every: int, *, mixed: bool = False) -> Plant:
    """Two tags, from so many days back until today, with a sample every so many seconds and not quite."""
    plant = await Plant.make(pool, {"a/f": "float", "b/f": "float"})
    rng = np.random.default_rng(5)
    for tag in plant.tags:
        ts = np.arange(TODAY - days * DAY, TODAY, every * 1_000_000) + 1_000_000
        ts += rng.integers(0, every * 300_000, len(ts))
        # many bad samples, and few
        quality = np.where(mixed & (rng.random(len(ts)) < (0.3 if tag is plant.tags[0] else 0.02)), 0, 192).astype(np.int16)
        await plant.store(Samples(np.full(len(ts), tag.tag_id, np.int32), ts, np.round(rng.normal(20, 3, len(ts)), 2), quality))
    return plant


def of(plant: Plant, tag: Tag, start: int, end: int) -> tuple[Any, Any]:
    """Times and values of the model, NaN of bad samples."""
    found = []
    for (tag_id, ts), (value, quality, _) in sorted(plant.model.items()):
        if tag_id == tag.tag_id and start <= ts < end:
            found.append((ts, struct.unpack("<d", value)[0] if quality else math.nan))
    return np.array([ts for ts, _ in found]), np.array([value for _, value in found])


SPANS = [
    # whole days and parts of them, in what is archived and over its end
    (TODAY - 6 * DAY, TODAY - 5 * DAY),
    (TODAY - 6 * DAY + 7 * HOUR, TODAY - 6 * DAY + 8 * HOUR + 5 * MINUTE),
    (TODAY - 6 * DAY + 12_345_678, TODAY - 2 * DAY - 98_765_432),
    (TODAY - 8 * DAY, TODAY),
]


def bad_columns(samples: Samples, start: int, points: int) -> set[tuple[int, int]]:
    columns = Columns.of(start, dict(SPANS)[start], points)
    bad = samples.take(samples.quality < 64)
    return set(zip(bad.tag_id.tolist(), ((bad.ts - columns.origin) // columns.width).tolist(), strict=True))


async def test_what_a_query_gives_is_the_same_before_and_after_samples_are_archived_and_levels_removed(
    pool: Pool, database: str, tmp_path: Path
) -> None:
    steady(database)
    plant = await history(pool, 8, 300, mixed=True)

    async def all_of_it() -> dict[Any, Samples]:
        found: dict[Any, Samples] = {}
        for start, end in SPANS:
            for points in (40, 400, 2000):
                found["auto", start, points] = await read(pool, plant.tags, start, end, "auto", points=points)
            for mode in get_args(Mode):
                if mode in AGGREGATES and mode not in ("duration", "transitions"):
                    for interval in WIDTHS if mode in ("avg", "twa") else ("1h", None):
                        found[mode, start, interval] = await read(pool, plant.tags, start, end, mode, interval)
        return found

    # with rollups made, and nothing removed
    retention.set_group(database, "default", archive=True, days={"raw": 3650})
    await Archiver(pool, str(tmp_path)).run()
    before = await all_of_it()
    retention.set_group(database, "default", archive=True, days={"raw": 3, "1m": 3, "10m": 4, "1h": 6, "6h": 6})
    report = await Archiver(pool, str(tmp_path)).run()
    assert report.rows
    assert not report.waits
    for level, days in (("1m", 3), ("10m", 4), ("1h", 6), ("6h", 6)):
        assert await pool.fetchval(f"SELECT min(bucket) FROM historian.rollup_{level}") == TODAY - days * DAY
    # days that are made longer bring nothing back
    retention.set_group(database, "default", days={"1m": 100, "10m": None, "1h": 3650, "6h": 3650})
    for key, found in (await all_of_it()).items():
        was = before[key]
        if key[0] == "auto":
            # of bad samples there is one in the same columns, if not the same one
            assert bad_columns(found, key[1], key[2]) == bad_columns(was, key[1], key[2]), key
            found, was = (some.take(some.quality >= 64) for some in (found, was))
        assert (found.tag_id == was.tag_id).all(), key
        assert (found.ts == was.ts).all(), key
        assert found.value == pytest.approx(was.value, nan_ok=True), key
        assert (found.quality == was.quality).all(), key
    # and it is what was written
    found = await read(pool, plant.tags[:1], *SPANS[0], "avg", "1h")
    _, value = of(plant, plant.tags[0], *SPANS[0])
    assert found.value == pytest.approx(np.nanmean(value.reshape(24, 12), axis=1))
    # what comes late counts at once, before it is taken into the rollups
    await plant.write([(0, TODAY - 4 * DAY + HOUR + 1, 1000.0, 192)])
    found = await read(pool, plant.tags[:1], TODAY - 4 * DAY, TODAY - 3 * DAY, "max", "1h")
    assert np.flatnonzero(found.value == 1000.0).tolist() == [1]


async def test_where_samples_and_fine_levels_are_gone_for_good_the_coarser_ones_are_shown(
    pool: Pool, database: str, tmp_path: Path
) -> None:
    steady(database)
    plant = await history(pool, 8, 60)
    retention.set_group(database, "default", archive=False, days={"raw": 3, "1m": 3, "10m": 3, "1h": 6, "6h": 6})
    # of the other group everything is kept
    retention.set_group(database, "kept", patterns=("b/f",), archive=False)
    await Archiver(pool).run()
    gone, kept = plant.tags
    old = TODAY - 5 * DAY

    def hourly(start: int, end: int, width: int = HOUR) -> set[int]:
        """Of each bucket the first, last, smallest and greatest sample."""
        wanted: set[int] = set()
        for lo in range(start // width * width, end, width):
            ts, value = of(plant, gone, lo, lo + width)
            wanted |= {int(at) for at in (ts[0], ts[-1], ts[value.argmin()], ts[value.argmax()]) if start <= at < end}
        return wanted

    async def check(start: int, end: int, wanted: set[int], points: int = 2000) -> None:
        found = await read(pool, plant.tags, start, end, "auto", points=points)
        mine = found.take(found.tag_id == gone.tag_id)
        assert set(mine.ts.tolist()) == wanted
        assert len(mine) == len(wanted)
        assert all(plant.model[gone.tag_id, int(ts)] == (value.tobytes(), 192, None) for ts, value in zip(mine.ts, mine.value, strict=True))
        other = found.take(found.tag_id == kept.tag_id)
        # as it is without the other
        alone = await read(pool, [kept], start, end, "auto", points=points)
        assert (other.ts == alone.ts).all()
        assert len(other)

    # a day; a part of one, by samples and by minutes; and by hours and days
    await check(old, old + DAY, hourly(old, old + DAY))
    await check(old + 7 * HOUR + 10 * MINUTE, old + 9 * HOUR, hourly(old + 7 * HOUR + 10 * MINUTE, old + 9 * HOUR))
    await check(TODAY - 8 * DAY, TODAY - 6 * DAY, hourly(TODAY - 8 * DAY, TODAY - 6 * DAY, DAY), points=4000)
    # over the end of what is lost: from there on the samples, as they are many, or all of them
    lost = TODAY - 3 * DAY
    ts, _ = of(plant, gone, lost, lost + HOUR)
    await check(lost - 2 * HOUR, lost + HOUR, hourly(lost - 2 * HOUR, lost) | set(ts.tolist()))

    async def average(start: int, end: int, interval: str | None, mode: Mode = "avg") -> tuple[Any, Any]:
        found = await read(pool, [gone], start, end, mode, interval)
        return found.value, found.quality

    for first, last, interval in (
        (old, old + DAY, "1h"),
        (old + HOUR, old + 3 * HOUR, "1h"),
        (old, old + 2 * DAY, "1d"),
        (TODAY - 8 * DAY, old, "1d"),
    ):
        width = WIDTHS[interval]
        value, quality = await average(first, last, interval)
        wanted = [of(plant, gone, lo, lo + width)[1].mean() for lo in range(first, last, width)]
        assert value == pytest.approx(wanted)
        assert (quality == 192).all()
        counts, _ = await average(first, last, interval, "count")
        assert (counts == width // MINUTE).all()
        twa, quality = await average(first, last, interval, "twa")
        assert np.isfinite(twa).all()
        assert (quality > 0).all()
    # narrower than what is left, or across it: nothing
    for first, last, interval in ((old, old + DAY, "10m"), (old, old + DAY, "90m"), (TODAY - 8 * DAY, TODAY - 7 * DAY, "1h")):
        for mode in ("avg", "count", "twa", "percent_good", "stddev"):
            value, quality = await average(first, last, interval, mode)  # type: ignore[arg-type]
            assert np.isnan(value).all(), (interval, mode)
            assert (quality == 0).all()
    # of a day a part of which is not known, not the rest either
    value, _ = await average(old + 30 * MINUTE, old + 2 * DAY, "1d")
    assert np.isnan(value).tolist() == [True, False]
    value, quality = await average(lost - 2 * HOUR, lost + 2 * HOUR, "10m")
    assert np.isnan(value).tolist() == [True] * 12 + [False] * 12
    # what rollups do not tell comes from samples, as long as there are any
    await plant.write([(0, lost + HOUR + 30 * MINUTE + n, 1.0, 64) for n in range(3)])
    value, _ = await average(lost - HOUR, lost + 3 * HOUR, "1h", "percent_good")
    assert np.isfinite(value).all()
    # what was before the first is not known
    assert (value[1:] < 100).tolist() == [False, True, False]
    value, _ = await average(lost - 2 * DAY, lost + DAY, "1h", "max")
    assert value == pytest.approx([of(plant, gone, lo, lo + HOUR)[1].max() for lo in range(lost - 2 * DAY, lost + DAY, HOUR)])


async def test_what_was_archived_before_a_group_had_no_archive_any_more_is_read(pool: Pool, database: str, tmp_path: Path) -> None:
    steady(database)
    plant = await history(pool, 7, 600)
    retention.set_group(database, "default", archive=True, days={"raw": 5})
    await Archiver(pool, str(tmp_path)).run()
    retention.set_group(database, "default", archive=False, days={"raw": 3, "1m": 3, "10m": 3, "1h": 3, "6h": 3})
    await Archiver(pool, str(tmp_path)).run()
    start, end = TODAY - 7 * DAY, TODAY - 2 * DAY
    archived, lost = TODAY - 5 * DAY, TODAY - 3 * DAY
    for tag in plant.tags:
        drawn = await read(pool, [tag], start, end, "auto")
        ts, _ = of(plant, tag, start, end)
        there = drawn.ts[(drawn.ts < archived) | (drawn.ts >= lost)]
        assert there.tolist() == ts[(ts < archived) | (ts >= lost)].tolist()
        # of days the first, last, smallest and greatest
        assert 2 * 2 <= len(drawn) - len(there) <= 2 * 4
        found = await read(pool, [tag], start, end, "count", "6h")
        assert found.value.tolist()[:8] == [36.0] * 8
        assert np.isnan(found.value[8:16]).all()
        assert found.value.tolist()[16:] == [36.0] * 4
        found = await read(pool, [tag], start, end, "avg", "1d")
        assert found.value == pytest.approx([of(plant, tag, lo, lo + DAY)[1].mean() for lo in range(start, end, DAY)])
