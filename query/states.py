"""States: how long a tag was in each, and how often it went into each, bucket by bucket.

A state is the value of a digital, bool or int tag, or a text. It holds from a sample to the next one, as every value of such a tag does: up to a bad sample, and from
there to the next one no state is known; the newest up to now.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from historian.query.boundaries import samples_before, samples_from
from historian.query.cells import Cells
from historian.query.counters import known_before
from historian.query.raw import read_raw
from historian.schema.catalogue import Tag
from historian.schema.connection import Connection
from historian.schema.errors import TooLarge
from historian.schema.samples import GOOD, UNCERTAIN, Bools, Floats, Int64s, Samples, concat

#: rows of cells and states that are worked on at a time: an int that is no state has as many as samples
MAX_STATE_ROWS = 1_000_000
# so many are collected before those of the same cell and state are added up
_ADD_UP_ROWS = 1 << 17


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Columns: amount (µs, or transitions) of each cell and state; and how many of what it was made of are not good."""

    cell: Int64s
    state: Int64s
    amount: Int64s
    doubtful: Int64s

    def __len__(self) -> int:
        return len(self.cell)


class _Collected:
    """Adds up what comes for the same cell and state."""

    def __init__(self) -> None:
        self._parts: list[_Rows] = []
        self._rows = 0
        self._add_up_at = _ADD_UP_ROWS

    def add(self, rows: _Rows) -> None:
        self._parts.append(_added_up([rows]))
        self._rows += len(self._parts[-1])
        if self._rows >= self._add_up_at:
            self._parts = [self.result()]
            self._rows = len(self._parts[0])
            if self._rows > MAX_STATE_ROWS:
                raise TooLarge(
                    f"more than {MAX_STATE_ROWS} rows of states at a time: make the span shorter, or ask for fewer tags; is it a tag with states?"
                )
            self._add_up_at = self._rows + _ADD_UP_ROWS

    def result(self) -> _Rows:
        """Ordered by cell and state, each once."""
        return _added_up(self._parts)


def _added_up(parts: Sequence[_Rows]) -> _Rows:
    cell, state, amount, doubtful = (
        np.concatenate([getattr(part, name) for part in parts] or [np.empty(0, np.int64)]) for name in _Rows.__slots__
    )
    if not len(cell):
        return _Rows(cell, state, amount, doubtful)
    order = np.lexsort((state, cell))
    cell, state = cell[order], state[order]
    starts = np.flatnonzero(np.concatenate(([True], (cell[1:] != cell[:-1]) | (state[1:] != state[:-1]))))
    return _Rows(cell[starts], state[starts], np.add.reduceat(amount[order], starts), np.add.reduceat(doubtful[order], starts))


class _States:
    """Numbers for the states of some tags: of numeric tags their codes, of text tags made up as they come."""

    def __init__(self, cells: Cells) -> None:
        self._tags = cells.tags
        self._texts: dict[str, int] | None = {} if cells.text else None

    def of(self, samples: Samples) -> Int64s:
        if self._texts is None:
            # what is bad has none
            return np.nan_to_num(samples.value).astype(np.int64)
        coded = samples.text_or_nulls().dictionary_encode()
        known = [self._texts.setdefault(text, len(self._texts)) for text in coded.dictionary.to_pylist()]
        numbers: Int64s = np.array([*known, -1])[coded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)]
        return numbers

    def named(self, tag: Int64s, state: Int64s) -> pa.Array:
        """The names of these states of the tags at these places."""
        pairs, place = np.unique(np.stack((tag, state)), axis=1, return_inverse=True)
        texts = list(self._texts or ())
        names = [texts[s] if self._texts is not None else state_name(self._tags[t], s) for t, s in pairs.T.tolist()]
        return pa.array(names, pa.string()).take(pa.array(place.ravel()))

    def rank(self, state: Int64s) -> Int64s:
        """What states are ordered by: their codes, or as texts are."""
        if self._texts is None:
            return state
        order = sorted(self._texts)
        rank = np.empty(len(order), np.int64)
        rank[[self._texts[text] for text in order]] = np.arange(len(order))
        return rank[state]


def state_name(tag: Tag, code: int) -> str:
    """What a state is called: by the states of the tag, else its code; `true` and `false` of a bool."""
    if tag.kind == "bool":
        return "true" if code else "false"
    return (tag.states or {}).get(str(code), str(code))


async def read_durations(conn: Connection, cells: Cells, now: int) -> Samples:
    """A row for each cell and state that the tag was in: for how many seconds; the state is the text. Ordered by cell, then by code or text.

    Quality is 192 where the state comes from good samples, and all of the cell's time up to now is known; 64 where not. A cell of which nothing is known
    has one row with NaN, no text and quality 0.
    """
    states = _States(cells)
    before = await samples_before(conn, cells.tags, cells.start)
    after = await samples_from(conn, cells.tags, cells.end)
    n = len(cells.starts)
    # up to where the newest sample of each tag is held
    limit = np.full(len(cells.tags), min(cells.end, now))
    limit[np.searchsorted(cells.tag_ids, after.tag_id)] = cells.end
    # what lies behind that, and behind its newest sample, is not there yet
    past = limit.copy()
    collected = _Collected()
    async with aclosing(_with_neighbours(conn, cells, before)) as runs:
        async for samples, more in runs:
            tag = np.searchsorted(cells.tag_ids, samples.tag_id)
            end = np.append(samples.ts[1:], 0)
            last = np.append(tag[1:] != tag[:-1], not more)
            end[last] = limit[tag[last]]
            np.maximum.at(past, tag, samples.ts)
            begin, end = np.maximum(samples.ts, cells.start), np.minimum(end, cells.end)
            some = _known(samples) & (end > begin)
            collected.add(_cut(cells, tag[some], begin[some], end[some], states.of(samples)[some], samples.quality[some] < GOOD))
    rows = collected.result()
    known = np.zeros(len(cells), np.int64)
    np.add.at(known, rows.cell, rows.amount)
    elapsed = np.minimum(np.repeat(past, n), np.tile(cells.edges[1:], len(cells.tags))) - np.tile(cells.edges[:-1], len(cells.tags))
    quality = np.where((rows.doubtful == 0) & (known == elapsed)[rows.cell], GOOD, UNCERTAIN)
    return _rows(cells, states, rows, rows.amount / 1e6, quality, known > 0, None)


async def read_transitions(conn: Connection, cells: Cells, now: int) -> Samples:
    """A row for each cell and state that the tag went into: how often; the state is the text. Ordered by cell, then by code or text.

    A tag goes into a state with a sample whose value is another than that of the last one before it that is not bad. Quality is 192 where all samples in the
    cell are good, 64 where not. A cell without transitions has one row without text: 0, or NaN and quality 0 where no sample tells, in it or before it.
    """
    states = _States(cells)
    before = await known_before(conn, cells.tags, cells.start)
    after = await samples_from(conn, cells.tags, cells.end)
    n = len(cells.starts)
    collected = _Collected()
    counts, good = np.zeros(len(cells), np.int64), np.zeros(len(cells), np.int64)
    # the first sample of each tag that tells something, and the last
    first = np.full(len(cells.tags), np.iinfo(np.int64).max)
    newest = np.full(len(cells.tags), now)
    newest[np.searchsorted(cells.tag_ids, after.tag_id)] = cells.end
    held: Samples = Samples.empty()
    async with aclosing(_with_neighbours(conn, cells, before)) as runs:
        async for samples, more in runs:
            inside = (samples.ts >= cells.start) & (np.arange(len(samples)) < len(samples) - more)
            cell = cells.of(samples.tag_id[inside], samples.ts[inside])
            counts += np.bincount(cell, minlength=len(cells))
            good += np.bincount(cell[samples.quality[inside] >= GOOD], minlength=len(cells))
            known = concat([held, samples.take(_known(samples) & (np.arange(len(samples)) < len(samples) - more))])
            if not len(known):
                continue
            tag, state = np.searchsorted(cells.tag_ids, known.tag_id), states.of(known)
            np.minimum.at(first, tag, known.ts)
            np.maximum.at(newest, tag, known.ts)
            entered = np.flatnonzero((tag[1:] == tag[:-1]) & (state[1:] != state[:-1])) + 1
            ones, zeros = np.ones(len(entered), np.int64), np.zeros(len(entered), np.int64)
            collected.add(_Rows(cells.of(known.tag_id[entered], known.ts[entered]), state[entered], ones, zeros))
            held = known.slice(len(known) - 1, len(known))
    rows = collected.result()
    some = np.zeros(len(cells), np.bool_)
    some[rows.cell] = True
    quality = np.where(good == counts, GOOD, UNCERTAIN)
    begin, end = np.tile(cells.edges[:-1], len(cells.tags)), np.tile(cells.edges[1:], len(cells.tags))
    told = (np.repeat(first, n) < end) & (np.repeat(newest, n) >= begin)
    return _rows(cells, states, rows, rows.amount.astype(np.float64), quality[rows.cell], some, np.where(told, quality, 0))


def _known(samples: Samples) -> Bools:
    there = ~np.isnan(samples.value) if samples.text is None else samples.text.is_valid().to_numpy(zero_copy_only=False)
    known: Bools = (samples.quality >= UNCERTAIN) & there
    return known


async def _with_neighbours(conn: Connection, cells: Cells, before: Samples) -> AsyncGenerator[tuple[Samples, bool], None]:
    """The samples of the cells, those before them among them, ordered by (tag_id, ts); and whether the last one comes again, as the first of the next."""
    held = Samples.empty()
    async with aclosing(read_raw(conn, cells.tags, cells.start, cells.end)) as chunks:
        async for chunk in chunks:
            passed = before.tag_id <= chunk.tag_id[-1]
            rows = concat([held, before.take(passed), chunk])
            before = before.take(~passed)
            rows = rows.take(np.lexsort((rows.ts, rows.tag_id)))
            yield rows, True
            held = rows.slice(len(rows) - 1, len(rows))
    rows = concat([held, before])
    if len(rows):
        yield rows, False


def _cut(cells: Cells, tag: Int64s, begin: Int64s, end: Int64s, state: Int64s, doubtful: Bools) -> _Rows:
    """Stretches of states, cut at the edges."""
    first, last = cells.bucket_of(begin), np.searchsorted(cells.edges, end, "left") - 1
    pieces = last - first + 1
    which = np.repeat(np.arange(len(tag)), pieces)
    bucket = np.arange(len(which)) - np.repeat(np.cumsum(pieces) - pieces, pieces) + first[which]
    amount = np.minimum(end[which], cells.edges[bucket + 1]) - np.maximum(begin[which], cells.edges[bucket])
    return _Rows(tag[which] * len(cells.starts) + bucket, state[which], amount, doubtful[which].astype(np.int64))


def _rows(cells: Cells, states: _States, rows: _Rows, value: Floats, quality: Int64s, some: Bools, zero_quality: Int64s | None) -> Samples:
    """Of each cell its rows; of a cell without any, one without a state: of the value 0, or NaN."""
    empty = np.flatnonzero(~some)
    cell = np.concatenate((rows.cell, empty))
    rank = np.concatenate((states.rank(rows.state), np.zeros(len(empty), np.int64)))
    order = np.lexsort((rank, cell))
    text = pa.concat_arrays([states.named(rows.cell // len(cells.starts), rows.state), pa.nulls(len(empty), pa.string())])
    if zero_quality is None:
        nothing, of_nothing = np.full(len(empty), np.nan), np.zeros(len(empty), np.int64)
    else:
        of_nothing = zero_quality[empty]
        nothing = np.where(of_nothing > 0, 0.0, np.nan)
    made = cells.rows(cell, np.concatenate((value, nothing)), np.concatenate((quality, of_nothing)), text)
    return made.take(order)
