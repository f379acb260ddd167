"""Counters: how much a number that only grows has grown, whatever happened to it in between.

A counter that shows less than before has begun anew, from `low` of its tag (0 where there is none). Where the tag has a `high` too, and the counter went from the
top tenth of its range to the lowest, it has rolled over instead: then what was left to the top counts too, and, for an int, the step from `high` to `low`.

What a counter grew by between two samples counts at the later one. Bad samples are passed over: the next one that is not bad tells what was missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

import numpy as np

from historian.query import archive
from historian.query.boundaries import samples_before
from historian.query.cells import Cells
from historian.query.raw import copy, read_raw
from historian.query.times import EARLIEST, format_time
from historian.schema.catalogue import Tag
from historian.schema.connection import Connection
from historian.schema.copy_binary import NUMERIC_SELECT, TEXT_SELECT, NumericDecoder, TextDecoder
from historian.schema.samples import GOOD, UNCERTAIN, Floats, Int64s, Samples, concat

# how far the archive is gone back through at first
_STRETCH_US = 3_600_000_000

# this part of the range, from either end
_NEAR = 0.1


class _Rules:
    """How the counters of some tags begin anew."""

    def __init__(self, tags: Sequence[Tag]) -> None:
        self._low = np.array([tag.low if tag.low is not None else 0.0 for tag in tags])
        self._high = np.array([tag.high if tag.high is not None else np.nan for tag in tags])
        self._over = np.array([1.0 if tag.kind == "int" else 0.0 for tag in tags])

    def growth(self, tag: Int64s, before: Floats, value: Floats) -> Floats:
        """From each value to the next one of the same tag (by its place among the tags); 0 where there is none before."""
        low, high = self._low[tag], self._high[tag]
        near = _NEAR * (high - low)
        rolled = (before >= high - near) & (before <= high) & (value <= low + near)
        grown = value - before
        with np.errstate(invalid="ignore"):
            grown = np.where(grown < 0, np.maximum(value - low, 0) + np.where(rolled, high - before + self._over[tag], 0.0), grown)
        return np.where(np.isnan(before), 0.0, grown)


async def read_totals(conn: Connection, cells: Cells) -> Samples:
    """A row of each cell of numeric tags: by how much the counter grew from the last sample before it that is not bad to the last one in it.

    Quality is 192 where all samples in it are good, 64 where not; NaN and 0 where none is better than bad.
    """
    rules = _Rules(cells.tags)
    ids = cells.tag_ids
    newest = np.full(len(ids), np.nan)
    before = await known_before(conn, cells.tags, cells.start)
    newest[np.searchsorted(ids, before.tag_id)] = before.value
    total = np.zeros(len(cells))
    counts, good, known_counts = (np.zeros(len(cells), np.int64) for _ in range(3))
    async with aclosing(read_raw(conn, cells.tags, cells.start, cells.end)) as chunks:
        async for samples in chunks:
            cell = cells.of(samples.tag_id, samples.ts)
            counts += np.bincount(cell, minlength=len(cells))
            good += np.bincount(cell[samples.quality >= GOOD], minlength=len(cells))
            known = (samples.quality >= UNCERTAIN) & ~np.isnan(samples.value)
            if not known.any():
                continue
            cell, value = cell[known], samples.value[known]
            known_counts += np.bincount(cell, minlength=len(cells))
            tag = cell // len(cells.starts)
            begins = np.concatenate(([True], tag[1:] != tag[:-1]))
            preceding = np.concatenate(([np.nan], value[:-1]))
            preceding[begins] = newest[tag[begins]]
            ends = np.concatenate((begins[1:], [True]))
            newest[tag[ends]] = value[ends]
            runs = np.flatnonzero(np.concatenate(([True], cell[1:] != cell[:-1])))
            total[cell[runs]] += np.add.reduceat(rules.growth(tag, preceding, value), runs)
    return cells.every_row(np.where(known_counts > 0, total, np.nan), np.where(good == counts, GOOD, UNCERTAIN))


async def known_before(conn: Connection, tags: Sequence[Tag], instant: int) -> Samples:
    """Of each tag, all of text or none, the newest sample before `instant` (µs) that is not bad, if there is one; in the order of tag_id."""
    newest = await samples_before(conn, tags, instant)
    bad = newest.quality < UNCERTAIN
    if not bad.any():
        return newest
    text = tags[0].kind == "text"
    decoder = TextDecoder() if text else NumericDecoder(int(bad.sum()))
    # one and the same time for all, and a constant: of others the columnstore makes nothing
    ids = ",".join(str(tag_id) for tag_id in newest.tag_id[bad].tolist())
    sql = (
        f"SELECT s.* FROM unnest('{{{ids}}}'::int4[]) AS k (id) CROSS JOIN LATERAL ("  # noqa: S608
        f"SELECT {TEXT_SELECT if text else NUMERIC_SELECT} FROM historian.sample "
        f"WHERE tag_id = k.id AND ts < '{format_time(instant)}' AND quality >= {UNCERTAIN} ORDER BY ts DESC LIMIT 1) AS s"
    )
    async with aclosing(copy(conn, sql, decoder)) as chunks:
        older = [chunk async for chunk in chunks]
    found = await _known_in_archive(conn, [tag for tag in tags if tag.tag_id in set(newest.tag_id[bad].tolist())], concat(older), instant)
    samples = concat([newest.take(~bad), found])
    return samples.take(np.argsort(samples.tag_id, kind="stable"))


async def _known_in_archive(conn: Connection, tags: Sequence[Tag], found: Samples, instant: int) -> Samples:
    """The same of these tags, given what was `found` of them in the database: the archive may have newer ones. It is gone back through in stretches."""
    parts = (await archive.look(conn, EARLIEST, instant)).of("text" if tags[0].kind == "text" else "number")
    if not parts:
        return found
    lowest, high = min(part.first_ts for part in parts), min(max(part.last_ts for part in parts) + 1, instant)
    known = dict(zip(found.tag_id.tolist(), found.ts.tolist(), strict=True))
    width = _STRETCH_US
    while high > lowest and (left := [tag for tag in tags if known.get(tag.tag_id, lowest) < high]):
        low = max(high - width, lowest)
        async with aclosing(read_raw(conn, left, low, high)) as chunks:
            async for chunk in chunks:
                chunk = chunk.take(chunk.quality >= UNCERTAIN)
                last = chunk.take(np.flatnonzero(np.append(chunk.tag_id[1:] != chunk.tag_id[:-1], True))[: len(chunk)])
                known |= dict(zip(last.tag_id.tolist(), last.ts.tolist(), strict=True))
                found = concat([found.take(~np.isin(found.tag_id, last.tag_id)), last])
        # of those that are known by now, nothing older is wanted
        tags = [tag for tag in left if known.get(tag.tag_id, lowest - 1) < low]
        high, width = low, 8 * width
    return found
