"""A calculated pen as samples come: which of its rows are new, and which have changed.

Promise. Whoever has the pen as of a database snapshot, and takes every row from then on, a later one in place of an earlier one with its timestamp, has what a
range query gives.

How. The newest samples of the tags are kept. A sample changes the pen from its timestamp to the tag's next sample and, where the tag is interpolated, from the
sample before: a tag's value is held behind its newest sample, and becomes a line once the next has come. What of that lies among the samples kept is calculated
from them. What lies before them, as for a sample that comes late, is named, for the caller to read from the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

import numpy as np

from historian.query.boundaries import samples_before
from historian.query.expressions.evaluation import evaluated
from historian.query.expressions.pens import CalculatedPen
from historian.query.expressions.series import Series, union
from historian.query.raw import read_raw
from historian.query.times import EARLIEST, LATEST
from historian.schema.connection import Connection
from historian.schema.samples import Bools, Int64s, Samples, concat

#: samples that are kept for one pen, of all its tags; half of them go when there are more
_KEPT = 16_384

#: [start, end), µs
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Stale:
    """Where a pen has changed and is to be read from the database. `open`: and further back, to behind the samples before `start`, which are not known here."""

    start: int
    end: int
    open: bool


class LivePen:
    """The newest stretch of a calculated pen. `load` it, then `apply` what is committed, in its order."""

    def __init__(self, pen: CalculatedPen) -> None:
        self.pen = pen
        self._series = {tag.tag_id: Series.empty() for tag in pen.tags}
        #: from here on all samples are kept, and of each tag the last one up to here too
        self._since = EARLIEST
        self._rows = Series.empty()

    @property
    def until(self) -> int:
        """Behind the last row that is known, µs."""
        return max(self._since, int(self._rows.ts[-1]) if len(self._rows) else EARLIEST) + 1

    async def load(self, conn: Connection, now: int) -> None:
        """Begin with what the transaction open on `conn` sees; `now` in µs."""
        tags = self.pen.tags
        newest = await samples_before(conn, tags, LATEST + 1)
        self._since = int(newest.ts.max(initial=EARLIEST))
        if self._since > now:
            # timestamps that lie ahead, as of a clock that is wrong, do not make everything else late
            ahead: list[Samples] = []
            async with aclosing(read_raw(conn, tags, now, LATEST + 1, _KEPT // 2 + 1)) as chunks:
                async for chunk in chunks:
                    ahead.append(chunk)
            if sum(map(len, ahead)) <= _KEPT // 2:
                self._since = now
                newest = concat([await samples_before(conn, tags, now), *ahead])
        self._series = {tag.tag_id: _of_tag(newest, tag.tag_id) for tag in tags}
        self._rows = Series.empty()
        await self._calculate(self._timestamps())

    async def apply(self, samples: Samples) -> tuple[Samples, list[Stale]]:
        """Take in samples of the tags; of equal (tag_id, ts) the last stands.

        Returns the rows that are new or have changed, and where the pen has changed before those that it keeps.
        """
        touched: list[Stale] = []
        for tag_id, kept in self._series.items():
            new = _of_tag(samples, tag_id)
            if len(new):
                touched += self._touched(kept, new, interpolated=tag_id in self.pen.interpolated)
                self._series[tag_id] = kept.merged(new)
        at = self._timestamps()
        within = np.zeros(len(at), np.bool_)
        for span in touched:
            within |= (at >= span.start) & (at < span.end)
        changed = await self._calculate(at[within])
        before = [(span.open, span.start, min(span.end, self._since)) for span in touched if span.start < self._since]
        self._trim()
        rows = Samples(np.full(len(changed), self.pen.tag_id, np.int32), changed.ts, changed.value, changed.quality)
        return rows, [
            Stale(start, end, open_)
            for open_ in (False, True)
            for start, end in _merged([(start, end) for is_open, start, end in before if is_open is open_])
        ]

    def _touched(self, kept: Series, new: Series, *, interpolated: bool) -> list[Stale]:
        """Where new samples of a tag change what the tag is. Those that are neighbours of each other make one span."""
        following = np.searchsorted(kept.ts, new.ts, side="right")
        runs = np.flatnonzero(np.append(True, following[1:] != following[:-1]))
        spans: list[Stale] = []
        for first, last in zip(runs, np.append(runs[1:], len(new)) - 1, strict=True):
            start = int(new.ts[first])
            at = int(following[last])
            end = int(kept.ts[at]) if at < len(kept) else LATEST + 1
            is_open = False
            if interpolated:
                before = int(np.searchsorted(kept.ts, start, side="left")) - 1
                if before >= 0:
                    start = int(kept.ts[before]) + 1
                else:
                    is_open = start < self._since
            spans.append(Stale(start, end, is_open))
        return spans

    async def _calculate(self, at: Int64s) -> Series:
        """Evaluate the pen at these timestamps. Returns the rows that are not what they were."""
        if not len(at):
            return Series.empty()
        value, quality = await evaluated(self.pen.expression, partial(self.pen.column, series=self._series, instants=at), len(at))
        found = Series(at, value, quality)
        known = np.minimum(np.searchsorted(self._rows.ts, at), max(len(self._rows) - 1, 0))
        same: Bools = np.zeros(len(at), np.bool_)
        if len(self._rows):
            old = self._rows.value[known]
            same = (
                (self._rows.ts[known] == at) & (self._rows.quality[known] == quality) & ((old == value) | (np.isnan(old) & np.isnan(value)))
            )
        self._rows = self._rows.merged(found)
        return Series(at[~same], value[~same], quality[~same])

    def _timestamps(self) -> Int64s:
        """Of the pen's rows among the samples kept."""
        stamps = union([series.ts for tag_id, series in self._series.items() if tag_id in self.pen.drivers])
        return stamps[stamps >= self._since]

    def _trim(self) -> None:
        if sum(map(len, self._series.values())) > _KEPT:
            stamps = np.sort(np.concatenate([series.ts for series in self._series.values()]))
            self._since = max(self._since, int(stamps[-_KEPT // 2]))
        for tag_id, series in self._series.items():
            last = int(np.searchsorted(series.ts, self._since, side="right")) - 1
            if last > 0:
                self._series[tag_id] = series.slice(last)
        self._rows = self._rows.slice(int(np.searchsorted(self._rows.ts, self._since, side="left")))


async def reach(conn: Connection, pen: CalculatedPen, instant: int) -> int:
    """How far back the pen changes if its tags change from `instant` on: to behind the last samples before it of those tags that are interpolated."""
    tags = [tag for tag in pen.tags if tag.tag_id in pen.interpolated]
    before = await samples_before(conn, tags, instant)
    return min(instant, int(before.ts.min(initial=instant)) + 1)


def _of_tag(samples: Samples, tag_id: int) -> Series:
    """Its samples in order, of equal timestamps the last."""
    mine = np.flatnonzero(samples.tag_id == tag_id)
    return Series.empty().merged(Series.of(samples.take(mine))) if len(mine) else Series.empty()


def _merged(spans: Sequence[Span]) -> list[Span]:
    """The same time in as few spans as can be, in order."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        elif start < end:
            merged.append((start, end))
    return merged
