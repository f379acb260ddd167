"""The value of tags at instants: of each tag a row for each instant, whatever lies between its samples; and raw samples with what bounds them.

What the value at an instant is (docs/instants.md has it as a table):

    a sample stands there         the sample itself, bad or not
    the newest one before is bad  none
    held tags                     that of the newest sample before, with its quality
    other tags                    on the line to the next sample, with the lower quality of the two; held, if that one is bad: the line ends there
    ... behind the newest sample  held, uncertain at best: nobody knows yet where the line goes
    before the first sample       none

None is NaN (for text null) of quality 0. Held are text, bool, digital and int, whose values so stay what they are, and tags with `step`.

Of all samples it takes those next to an instant only: for each gap between two instants the first and the last in it. They are looked up, or picked out of the stream of
all samples, whichever is less work by the distance that samples are found to have. Either way memory is bounded by the instants, and tags are done some at a time.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from historian.query.boundaries import first_and_last_samples, newest_samples, oldest_samples, samples_before, samples_from
from historian.query.interval import Interval
from historian.query.range_query import RangeQuery
from historian.query.raw import read_raw
from historian.schema.catalogue import STEPPED, Tag
from historian.schema.connection import Connection
from historian.schema.copy_binary import MAX_ROWS
from historian.schema.errors import BadInput, TooLarge
from historian.schema.samples import BAD, UNCERTAIN, Bools, Int16s, Int64s, Samples, concat

#: instants of a query, and values in all (instants x tags)
MAX_INSTANTS = 1_000_000
MAX_VALUES = 50_000_000

# values that are made at a time: instants x tags of a group; a tag at least
_GROUP_VALUES = 262_144

# What it takes, µs, to look up both samples of a gap, for each gap and for each gap of a tag, and to read a sample. Of TimescaleDB: plain PostgreSQL looks up five times
# as quickly, so that there the stream is taken a little too often.
_GAP_US = 1_000.0
_LOOK_UP_US = 150.0
_READ_US = 0.5
_UNKNOWN_DISTANCE_US = 1_000_000

_SHORTEST_US = {"us": 1, "day": 82_800_000_000, "week": 601_200_000_000, "month": 2_415_600_000_000, "year": 31_532_400_000_000}

_Positions = npt.NDArray[np.intp]


def is_held(tag: Tag) -> bool:
    """Whether the value at an instant is that of the sample before, and not on the line to the next one."""
    return tag.step or tag.kind in STEPPED


async def read_last(conn: Connection, query: RangeQuery) -> AsyncGenerator[Samples, None]:
    """The newest sample of each tag in [start, end), of any quality."""
    for tags in _by_kind(query.tags):
        for part in (await newest_samples(conn, tags, query.start, query.end)).pieces(MAX_ROWS):
            yield part


def instants_of(query: RangeQuery) -> Int64s:
    """The instants that a query asks for (µs), ascending: those given; else the edges of its interval in [start, end); else `points`, evenly spaced from start on.

    Raises TooLarge for more than MAX_INSTANTS, or MAX_VALUES for all tags.
    """
    if query.at:
        instants = np.unique(np.array(query.at, np.int64))
    elif query.mode == "at":
        raise BadInput("mode at wants instants: at=TIME, once for each")
    elif query.start >= query.end:
        instants = np.empty(0, np.int64)
    elif query.interval is not None:
        _check(_edges_at_most(query.interval, query.start, query.end), len(query.tags))
        edges = query.interval.edges(query.start, query.end)
        instants = edges[(edges >= query.start) & (edges < query.end)]
    else:
        _check(query.points, len(query.tags))
        # whole numbers, since so many microseconds times so many points may be beyond int64
        instants = np.unique(np.array([query.start + n * (query.end - query.start) // query.points for n in range(query.points)], np.int64))
    _check(len(instants), len(query.tags))
    return instants


def _edges_at_most(interval: Interval, start: int, end: int) -> int:
    return (end - start) // (_SHORTEST_US[interval.unit] * interval.count)


def _check(instants: int, tags: int) -> None:
    if instants > MAX_INSTANTS:
        raise TooLarge(f"{instants} instants; at most {MAX_INSTANTS} a query: take a longer interval, or a shorter span at a time")
    if instants * tags > MAX_VALUES:
        raise TooLarge(
            f"{instants} instants of {tags} tags are {instants * tags} values; at most {MAX_VALUES} a query: "
            "take a longer interval, or fewer tags or a shorter span at a time"
        )


async def read_instants(conn: Connection, query: RangeQuery) -> AsyncGenerator[Samples, None]:
    """Each tag's value at each instant of the query (`instants_of`), a row for each whether there is a value or not; 1 to MAX_ROWS rows a chunk.

    In the transaction that is open on `conn`, as historian.query.raw. Raises TooLarge, and the driver's errors: wrap it in `translated()`.
    """
    instants = instants_of(query)
    if not len(instants):
        return
    for tags in _by_kind(query.tags):
        size = max(_GROUP_VALUES // len(instants), 1)
        for start in range(0, len(tags), size):
            group = tags[start : start + size]
            for part in values_at(group, instants, await neighbours_of(conn, group, instants)).pieces(MAX_ROWS):
                yield part


async def read_bounded(conn: Connection, query: RangeQuery) -> AsyncGenerator[Samples, None]:
    """Raw samples and what bounds them; otherwise as `read_raw`.

    `outside`       each tag's newest sample before start, and the first at or after end
    `interpolated`  its value at start and at end, where there is one; a sample that stands there comes itself
    """
    if query.start > query.end:
        return
    for tags in _by_kind(query.tags):
        if query.bounds == "outside":
            bounds = [await samples_before(conn, tags, query.start), await samples_from(conn, tags, query.end)]
        else:
            bounds = [await _bound(conn, tags, query.start, inside=query.end > query.start)]
            if query.end > query.start:
                bounds.append(await _bound(conn, tags, query.end, inside=False))
        waiting = _ordered(concat(bounds))
        limit = None if query.limit is None else query.limit + 1
        async with aclosing(read_raw(conn, tags, query.start, query.end, limit)) as chunks:
            async for chunk in chunks:
                # what stands before the last row of the chunk goes with it, the rest waits: more of the last tag may come
                tag_id, ts = chunk.tag_id[-1], chunk.ts[-1]
                due = int(np.count_nonzero((waiting.tag_id < tag_id) | ((waiting.tag_id == tag_id) & (waiting.ts < ts))))
                if due:
                    chunk = _ordered(concat([waiting.slice(0, due), chunk]))
                    waiting = waiting.slice(due, len(waiting))
                for part in chunk.pieces(MAX_ROWS):
                    yield part
        for part in waiting.pieces(MAX_ROWS):
            yield part


async def _bound(conn: Connection, tags: Sequence[Tag], instant: int, *, inside: bool) -> Samples:
    """The values at an instant, of the tags that have one. `inside`: samples that stand there come anyhow."""
    instants = np.array([instant], np.int64)
    neighbours = await neighbours_of(conn, tags, instants)
    values = values_at(tags, instants, neighbours)
    there = np.isin(values.tag_id, neighbours.tag_id[neighbours.ts == instant])
    return values.take(~there & (values.quality >= UNCERTAIN) if inside else there | (values.quality >= UNCERTAIN))


async def neighbours_of(conn: Connection, tags: Sequence[Tag], instants: Int64s) -> Samples:
    """The samples next to these instants, and maybe others; ordered by (tag_id, ts)."""
    first, last = int(instants[0]), int(instants[-1])
    before = await samples_before(conn, tags, first + 1)
    inside: list[Samples] = []
    newest = before
    if len(instants) > 1:
        later = await newest_samples(conn, tags, first + 1, last + 1)
        if len(later):
            newest = concat([later, before.take(~np.isin(before.tag_id, later.tag_id))])
            inside = await _inside(conn, tags, instants, before, later)
    # the end of a line that begins before the last instant, or at it
    open_ids = set(newest.tag_id[~is_bad(newest) & (newest.ts != last)].tolist())
    after = await samples_from(conn, [tag for tag in tags if not is_held(tag) and tag.tag_id in open_ids], last + 1)
    return _ordered(concat([before, *inside, after]))


async def _inside(conn: Connection, tags: Sequence[Tag], instants: Int64s, before: Samples, newest: Samples) -> list[Samples]:
    """Of the samples behind the first instant and up to the last those that are next to one. `before`: the newest up to the first one, `newest`: up to the last."""
    first, last = int(instants[0]), int(instants[-1])
    have = set(newest.tag_id.tolist())
    busy = [tag for tag in tags if tag.tag_id in have]
    gaps = len(instants) - 1
    if await _expected_samples(conn, busy, first, before, newest) * _READ_US > gaps * (_GAP_US + _LOOK_UP_US * len(busy)):
        return [part async for part in first_and_last_samples(conn, busy, instants)]
    found = []
    async with aclosing(read_raw(conn, busy, first + 1, last + 1)) as chunks:
        async for chunk in chunks:
            found.append(_next_to(chunk, instants))
    return found


async def _expected_samples(conn: Connection, tags: Sequence[Tag], first: int, before: Samples, newest: Samples) -> float:
    """How many samples these tags have in all behind `first`, up to the newest of each: as if all lay as close as two neighbours do, the closer ones of two pairs."""
    oldest = await oldest_samples(conn, tags, first + 1, int(newest.ts.max()) + 1)
    middle = (int(oldest.ts.min()) + int(newest.ts.max())) // 2
    low = await newest_samples(conn, tags, first + 1, middle)
    high = await oldest_samples(conn, tags, middle, int(newest.ts.max()) + 1)
    # nobody knows how far those are that have neither pair
    distance = np.full(len(oldest), _UNKNOWN_DISTANCE_US, np.int64)
    seen = np.zeros(len(oldest), np.bool_)
    for left, right in ((before, oldest), (low, high)):
        both, in_left, in_right = np.intersect1d(left.tag_id, right.tag_id, return_indices=True)
        which = np.searchsorted(oldest.tag_id, both)
        found = np.maximum(right.ts[in_right] - left.ts[in_left], 1)
        distance[which] = np.where(seen[which], np.minimum(distance[which], found), found)
        seen[which] = True
    return float(((newest.ts - oldest.ts) / distance).sum())


def _next_to(samples: Samples, instants: Int64s) -> Samples:
    """The first and the last of the samples in each gap between instants; of samples ordered by (tag_id, ts)."""
    gap = np.searchsorted(instants, samples.ts)
    new = (samples.tag_id[1:] != samples.tag_id[:-1]) | (gap[1:] != gap[:-1])
    kept = np.ones(len(samples), np.bool_)
    kept[1:-1] = new[:-1] | new[1:]
    return samples.take(kept)


def values_at(tags: Sequence[Tag], instants: Int64s, samples: Samples) -> Samples:
    """The value of each tag at each instant, from samples among which are those next to them; ordered by (tag_id, ts). The tags are all text tags, or none is."""
    tags = sorted({tag.tag_id: tag for tag in tags}.values(), key=lambda tag: tag.tag_id)
    ids = np.array([tag.tag_id for tag in tags], np.int32)
    n, m = len(tags), len(instants)
    tag_id, ts = np.repeat(ids, m), np.tile(instants, n)
    value, quality = np.full(n * m, np.nan), np.full(n * m, BAD, np.int16)
    if not len(samples):
        return Samples(tag_id, ts, value, quality)
    # a sample's place among all tags' instants: behind so many of its tag's
    place = np.searchsorted(ids, samples.tag_id).astype(np.int64) * (m + 1) + np.searchsorted(instants, samples.ts)
    wanted = np.repeat(np.arange(n, dtype=np.int64) * (m + 1), m) + np.tile(np.arange(m, dtype=np.int64), n)
    at: _Positions = np.searchsorted(place, wanted, side="right") - 1
    has = at >= 0
    at = np.maximum(at, 0)
    has &= samples.tag_id[at] == tag_id
    bad = is_bad(samples)
    exact = has & (samples.ts[at] == ts)
    given = exact | (has & ~bad[at])
    quality[given] = samples.quality[at[given]]
    if samples.text is not None or tags[0].kind == "text":
        taken = samples.text_or_nulls().take(pa.array(at, mask=~given))
        return Samples(tag_id, ts, value, quality, taken if taken.null_count < len(taken) else None)
    value[given] = samples.value[at[given]]
    line = given & ~exact & np.repeat(np.array([not is_held(tag) for tag in tags], np.bool_), m)
    _draw_lines(np.flatnonzero(line), at[line], samples, bad, ts, value, quality)
    return Samples(tag_id, ts, value, quality)


def _draw_lines(
    rows: _Positions, at: _Positions, samples: Samples, bad: Bools, ts: Int64s, value: npt.NDArray[np.float64], quality: Int16s
) -> None:
    """Put values on the line from the sample `at` to the next one, in `rows` that hold the former's."""
    after = np.minimum(at + 1, len(samples) - 1)
    goes_on = (after > at) & (samples.tag_id[after] == samples.tag_id[at])
    quality[rows[~goes_on]] = np.minimum(quality[rows[~goes_on]], UNCERTAIN)
    goes_on &= ~bad[after]
    rows, at, after = rows[goes_on], at[goes_on], after[goes_on]
    a, b = samples.value[at], samples.value[after]
    part = (ts[rows] - samples.ts[at]) / (samples.ts[after] - samples.ts[at])
    with np.errstate(over="ignore", invalid="ignore"):
        on_line = a + (b - a) * part
    # the distance of two numbers may be beyond all numbers
    on_line = np.where(np.isfinite(on_line), on_line, a * (1 - part) + b * part)
    value[rows] = np.clip(on_line, np.minimum(a, b), np.maximum(a, b))
    quality[rows] = np.minimum(samples.quality[at], samples.quality[after])


def is_bad(samples: Samples) -> Bools:
    """Which samples have no value that counts: of bad quality, or without number or text."""
    bad: Bools = samples.quality < UNCERTAIN
    missing = np.isnan(samples.value)
    if samples.text is not None:
        missing &= samples.text.is_null().to_numpy(zero_copy_only=False)
    return bad | missing


def _by_kind(tags: Sequence[Tag]) -> Iterator[list[Tag]]:
    """Numeric tags, then text tags, each in the order of tag_id and once."""
    known = sorted({tag.tag_id: tag for tag in tags}.values(), key=lambda tag: tag.tag_id)
    for group in ([tag for tag in known if tag.kind != "text"], [tag for tag in known if tag.kind == "text"]):
        if group:
            yield group


def _ordered(samples: Samples) -> Samples:
    """By (tag_id, ts), each sample once."""
    order = np.lexsort((samples.ts, samples.tag_id))
    tag_id, ts = samples.tag_id[order], samples.ts[order]
    once = np.ones(len(order), np.bool_)
    once[1:] = (tag_id[1:] != tag_id[:-1]) | (ts[1:] != ts[:-1])
    return samples.take(order[once])
