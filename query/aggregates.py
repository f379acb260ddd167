"""Aggregates: one number for each bucket of each tag, made of the samples in it, or of the line that they draw through it.

What each mode gives, and of which samples, is said in docs/aggregates.md. There is a row for every bucket of every tag: NaN and quality 0 where there is nothing
to tell. Quality is 192 where all that a value was made of is good, else 64.

Tags are taken in groups, long rows of buckets in pieces, so that what is held at a time is some 10 MB. The pieces know nothing of each other: a query that is
cut at edges of its buckets gives what the whole gives.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Final

import numpy as np

from historian.query.boundaries import samples_before, samples_from
from historian.query.bucket_reader import read_buckets, unknown_buckets, with_all_qualities
from historian.query.buckets import Buckets
from historian.query.cells import Cells, cells_of
from historian.query.counters import read_totals
from historian.query.line import line_of
from historian.query.range_query import Mode, RangeQuery
from historian.query.rollups import lost_of
from historian.query.states import read_durations, read_transitions
from historian.query.texts import read_texts
from historian.schema.catalogue import Kind
from historian.schema.connection import Connection
from historian.schema.copy_binary import MAX_ROWS
from historian.schema.errors import BadInput
from historian.schema.samples import GOOD, UNCERTAIN, Bools, Floats, Samples, concat

_NUMBERS: Final[frozenset[Kind]] = frozenset({"float", "int", "bool", "digital"})
_STATES: Final[frozenset[Kind]] = frozenset({"int", "bool", "digital", "text"})

#: the modes of this module, and for which kinds they are
AGGREGATES: Final[dict[Mode, frozenset[Kind]]] = {
    **dict.fromkeys(("avg", "min", "max", "sum", "stddev", "range", "delta", "twa", "integral", "total"), _NUMBERS),
    **dict.fromkeys(("first", "last", "count", "percent_good"), _NUMBERS | {"text"}),
    **dict.fromkeys(("duration", "transitions"), _STATES),
}


def check_kinds(query: RangeQuery) -> None:
    """Raises BadInput where a mode of AGGREGATES is for none of the tags' kinds."""
    kinds = AGGREGATES[query.mode]
    if query.tags and query.start < query.end and all(tag.kind not in kinds for tag in query.tags):
        first = query.tags[0]
        raise BadInput(f"mode {query.mode} is for tags of kind {', '.join(sorted(kinds))}; {first.path} is of kind {first.kind}")


async def read_aggregates(conn: Connection, query: RangeQuery) -> AsyncGenerator[Samples, None]:
    """The rows of a mode of AGGREGATES: numeric tags first, then text tags, each ordered by (tag_id, ts), 1 to MAX_ROWS a chunk.

    Raises TooLarge for too many buckets; and the driver's errors: wrap it in `translated()`. Tags that the mode is not for have rows that tell nothing.
    """
    if query.start >= query.end or not query.tags:
        return
    # of the transaction: the same for all pieces
    now: int = await conn.fetchval("SELECT now()")
    for cells in cells_of(query):
        rows = await _read_fitting(conn, cells, query.mode, now)
        for start in range(0, len(rows), MAX_ROWS):
            yield rows.slice(start, min(start + MAX_ROWS, len(rows)))


async def _read_fitting(conn: Connection, cells: Cells, mode: Mode, now: int) -> Samples:
    """Of the tags that the mode is not for, rows that tell nothing: a wildcard may well match some."""
    fitting, others = (
        Cells([tag for tag in cells.tags if (tag.kind in AGGREGATES[mode]) == fits], cells.starts, cells.edges) for fits in (True, False)
    )
    if not others.tags:
        return await _read(conn, cells, mode, now)
    if not fitting.tags:
        return cells.nothing()
    rows = concat([await _read(conn, fitting, mode, now), others.nothing()])
    return rows.take(np.argsort(rows.tag_id, kind="stable"))


async def _read(conn: Connection, cells: Cells, mode: Mode, now: int) -> Samples:
    match mode:
        case "twa" | "integral" | "percent_good":
            return await _of_line(conn, cells, mode, now)
        case "total":
            return await read_totals(conn, cells)
        case "duration":
            return await read_durations(conn, cells, now)
        case "transitions":
            return await read_transitions(conn, cells, now)
        case "first" | "last" if cells.text:
            return await read_texts(conn, cells, first=mode == "first")
        case _:
            return await _of_samples(conn, cells, mode)


# Of the samples

_OF_SAMPLES: Final[dict[str, Callable[[Buckets], Floats]]] = {
    "avg": lambda b: b.sum / b.known_count,
    "sum": lambda b: b.sum,
    "min": lambda b: b.min,
    "max": lambda b: b.max,
    "first": lambda b: b.first,
    "last": lambda b: b.last,
    "range": lambda b: b.max - b.min,
    "delta": lambda b: b.last - b.first,
    # of a single sample there is none
    "stddev": lambda b: np.where(b.known_count > 1, np.sqrt(b.squares / (b.known_count - 1)), np.nan) if b.squares is not None else b.sum,
    "count": lambda b: b.known_count.astype(np.float64),
}


async def _of_samples(conn: Connection, cells: Cells, mode: str) -> Samples:
    lacking = _no_sum if mode in ("avg", "sum") else None
    lost = await lost_of(conn, cells.tags, cells.start, cells.end)
    buckets = await read_buckets(conn, cells.tags, cells.edges, squares=mode == "stddev", lacking=lacking, lost=lost)
    # a bucket without samples has none, and that is certain
    value = np.full(len(cells), 0.0 if mode == "count" else np.nan)
    quality = np.full(len(cells), GOOD, np.int16)
    at = cells.of(buckets.tag_id, buckets.start_ts)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        value[at] = _OF_SAMPLES[mode](buckets)
    quality[at] = np.where(buckets.good_count == buckets.count, GOOD, UNCERTAIN)
    if lost:
        value[unknown_buckets(cells.tags, cells.edges, lost, raw=mode == "stddev" or cells.text)] = np.nan
    return cells.every_row(value, quality)


def _no_sum(buckets: Buckets) -> Bools:
    return np.isnan(buckets.sum) & (buckets.known_count > 0)


# Of the line


async def _of_line(conn: Connection, cells: Cells, mode: str, now: int) -> Samples:
    before = await samples_before(conn, cells.tags, cells.start)
    after = await samples_from(conn, cells.tags, cells.end)
    lacking = _no_good_time if mode == "percent_good" else _no_area
    lost = await lost_of(conn, cells.tags, cells.start, cells.end)
    buckets = await read_buckets(conn, cells.tags, cells.edges, areas=True, lacking=lacking, lost=lost)
    line = line_of(cells, await with_all_qualities(conn, buckets, cells.edges), before, after, now)
    with np.errstate(divide="ignore", invalid="ignore"):
        if mode == "percent_good":
            # what is all good is so to the last digit
            value = np.where(line.sure, 100.0, np.minimum(100 * line.good_s / line.elapsed_s, 100))
            value, quality = np.where(line.elapsed_s > 0, value, np.nan), np.full(len(cells), GOOD)
        else:
            value = line.area / line.known_s if mode == "twa" else line.area
            value, quality = np.where(line.known_s > 0, value, np.nan), np.where(line.sure, GOOD, UNCERTAIN)
    if lost:
        value[unknown_buckets(cells.tags, cells.edges, lost, raw=cells.text)] = np.nan
    return cells.every_row(value, quality)


def _no_area(buckets: Buckets) -> Bools:
    return np.isnan(buckets.step_area) | np.isnan(buckets.linear_area)


def _no_good_time(buckets: Buckets) -> Bools:
    return np.isnan(buckets.good_s) if buckets.good_s is not None else np.zeros(len(buckets), np.bool_)
