"""Sparklines: a line of blocks for each tag, its least, greatest and last value beside it, and a time axis below, as wide as the terminal.

A block stands for the mean of what is known in its stretch of time. Where a stretch has no sample, the line goes on (held for stepped tags, straight for others) if
the samples on both sides are good for it; before the first sample, behind a bad one, and for text there is nothing.

Memory is bounded by the number of tags: batches are added up as they come, in FINE stretches, from which a line of any width is made once everything is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from historian.cli.rows import common_levels, shown_value, tags_of
from historian.schema.catalogue import STEPPED, Tag
from historian.schema.errors import BadInput
from historian.schema.samples import UNCERTAIN, Floats, Int64s

BLOCKS = "▁▂▃▄▅▆▇█"
#: where the terminal's encoding has no blocks
PLAIN_BLOCKS = "_.-=+*%#"

#: stretches of time in which samples are added up: no terminal is wider
FINE = 480
#: nobody looks at more, and each takes 20 kB
MAX_TAGS = 1000

_SHORTEST = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_NONE, _KNOWN, _BAD = range(3)


class Sums:
    """What is known of one tag in each stretch."""

    __slots__ = ("count", "first", "greatest", "last", "last_value", "least", "newest", "text", "total")

    def __init__(self) -> None:
        self.count = np.zeros(FINE, np.int64)
        self.total = np.zeros(FINE)
        #: the last known value
        self.last_value = np.full(FINE, np.nan)
        #: whether the first and the last sample are known, bad, or not there
        self.first: npt.NDArray[np.int8] = np.zeros(FINE, np.int8)
        self.last: npt.NDArray[np.int8] = np.zeros(FINE, np.int8)
        self.least = np.inf
        self.greatest = -np.inf
        self.newest = np.nan
        self.text: str | None = None

    def add(self, place: Int64s, value: Floats, known: npt.NDArray[np.bool_]) -> None:
        """Samples in order of time; `place` is the stretch of each."""
        state = np.where(known, _KNOWN, _BAD).astype(np.int8)
        begins = np.flatnonzero(np.concatenate(([True], place[1:] != place[:-1])))
        at = place[begins]
        fresh = self.last[at] == _NONE
        self.first[at[fresh]] = state[begins[fresh]]
        self.last[at] = state[np.append(begins[1:], len(place)) - 1]
        if known.any():
            place, value = place[known], value[known]
            self.count += np.bincount(place, minlength=FINE)
            self.total += np.bincount(place, weights=value, minlength=FINE)
            # of several at one place the last assignment stays
            self.last_value[place] = value
            self.least, self.greatest = min(self.least, float(value.min())), max(self.greatest, float(value.max()))
            self.newest = float(value[-1])


class Sparklines:
    """Takes the batches of one result, of samples in [start, end) (µs)."""

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self._sums: dict[str, Sums] = {}
        self._tags: Sequence[Tag] = ()

    def add(self, batch: pa.RecordBatch) -> None:
        """Raises BadInput if there are more than MAX_TAGS tags."""
        self._tags = tags_of(batch.schema)
        if len(self._tags) > MAX_TAGS:
            raise BadInput(f"{len(self._tags)} sparklines; at most {MAX_TAGS} at a time")
        if not batch.num_rows:
            return
        by_id = {tag.tag_id: tag for tag in self._tags}
        ids = batch.column("tag_id").to_numpy()
        ts = batch.column("ts").cast(pa.int64()).to_numpy()
        # what lies at the edges of the span or beyond, as boundary values do, counts for the stretch there
        place = np.clip((ts - self.start) * FINE // max(self.end - self.start, 1), 0, FINE - 1)
        value = batch.column("value").to_numpy()
        quality = batch.column("quality").to_numpy()
        begins = np.flatnonzero(np.concatenate(([True], ids[1:] != ids[:-1])))
        for lo, hi in zip(begins.tolist(), [*begins[1:].tolist(), len(ids)], strict=True):
            tag = by_id[int(ids[lo])]
            sums = self._sums.setdefault(tag.path, Sums())
            text = tag.kind == "text"
            known = (quality[lo:hi] >= UNCERTAIN) & (text | ~np.isnan(value[lo:hi]))
            if text:
                sums.add(place[lo:hi], np.zeros(hi - lo), known)
                if known.any():
                    sums.text = batch.column("text")[lo + int(np.flatnonzero(known)[-1])].as_py()
            else:
                sums.add(place[lo:hi], value[lo:hi], known)

    def lines(self, width: int, zone: tzinfo, *, blocks: str = BLOCKS) -> list[Line]:
        """As wide as `width` at most, where that is not less than anything can be shown in."""
        if not self._tags:
            return []
        prefix = common_levels([tag.path for tag in self._tags])
        figures = [self._figures(tag) for tag in self._tags]
        widths = [max(map(len, column)) for column in zip(*figures, ("min", "max", "last"), strict=True)]
        names = [tag.path[len(prefix) :] for tag in self._tags]
        name_width = min(max(map(len, names)), max(width // 4, 12))
        columns = min(max(width - name_width - sum(widths) - 2 * 4, _SHORTEST), FINE)
        lines = [Line(prefix, "", "")] if prefix else []
        lines.append(Line("".ljust(name_width), " " * columns, _joined(("min", "max", "last"), widths), heading=True))
        for tag, name, of_tag in zip(self._tags, names, figures, strict=True):
            short = name if len(name) <= name_width else "…" + name[1 - name_width :]
            lines.append(Line(short.ljust(name_width), self._spark(tag, columns, blocks), _joined(of_tag, widths)))
        lines.append(Line("".ljust(name_width), _axis(self.start, self.end, columns, zone), "", heading=True))
        return lines

    def _figures(self, tag: Tag) -> tuple[str, str, str]:
        sums = self._sums.get(tag.path)
        if sums is None or not sums.count.any():
            return ("", "", "–")
        if tag.kind == "text":
            return ("", "", (sums.text or "")[:24])
        last = shown_value(tag, sums.newest, digits=5)
        unit = f" {tag.unit}" if tag.unit else ""
        if tag.kind in ("bool", "digital"):
            return ("", "", last + unit)
        return (shown_value(tag, sums.least, digits=5), shown_value(tag, sums.greatest, digits=5), last + unit)

    def _spark(self, tag: Tag, columns: int, blocks: str) -> str:
        sums = self._sums.get(tag.path)
        if sums is None:
            return " " * columns
        if tag.kind == "text":
            there = np.add.reduceat(sums.count, np.arange(columns) * FINE // columns) > 0
            return "".join(blocks[0] if dot else " " for dot in there)
        value = _filled(sums, columns, stepped=tag.step or tag.kind in STEPPED)
        known = ~np.isnan(value)
        if not known.any():
            return " " * columns
        least, greatest = value[known].min(), value[known].max()
        # half of it: the difference of two such numbers may be beyond all numbers; and what rounding makes of a constant is no height
        height = greatest / 2 - least / 2
        share = (value / 2 - least / 2) / height if height > 1e-12 * max(abs(greatest), abs(least)) else np.full(columns, 0.5)
        level = np.minimum(np.where(known, share, 0) * len(blocks), len(blocks) - 1).astype(int)
        return "".join(blocks[n] if there else " " for n, there in zip(level.tolist(), known.tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the picture, in its three columns."""

    name: str
    spark: str
    figures: str
    heading: bool = False

    def __str__(self) -> str:
        return f"{self.name}  {self.spark}  {self.figures}".rstrip()


def _filled(sums: Sums, columns: int, *, stepped: bool) -> Floats:
    """For each column the mean of what is known in it, or what the line between its neighbours has there; NaN where there is no line."""
    starts = np.arange(columns) * FINE // columns
    ends = np.append(starts[1:], FINE)
    count = np.add.reduceat(sums.count, starts)
    total = np.add.reduceat(sums.total, starts)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    there = np.flatnonzero(sums.last != _NONE)
    if not len(there):
        return mean
    # of the stretches that have samples: the last one before each column that has none, and the first one behind it
    behind = np.searchsorted(there, starts)
    for column in np.flatnonzero(~np.isin(np.arange(columns), np.searchsorted(ends, there, side="right"))).tolist():
        following = int(behind[column])
        if following == 0 or sums.last[there[following - 1]] == _BAD:
            continue
        before = there[following - 1]
        held = float(sums.last_value[before])
        if stepped or (following < len(there) and sums.first[there[following]] == _BAD):
            mean[column] = held
        elif following < len(there):
            after = there[following]
            share = ((starts[column] + ends[column]) / 2 - before) / (after - before)
            mean[column] = held * (1 - share) + float(sums.total[after] / sums.count[after]) * share
    return mean


def _joined(figures: Sequence[str], widths: Sequence[int]) -> str:
    least, greatest, last = figures
    # the unit stands behind the last one: digits below each other count for less than units
    return f"{least.rjust(widths[0])}  {greatest.rjust(widths[1])}  {last.ljust(widths[2])}"


def _axis(start: int, end: int, columns: int, zone: tzinfo) -> str:
    """When the line begins and ends, and, where there is room, what is half-way."""
    span = end - start
    form = "%H:%M:%S" if span < 600_000_000 else "%m-%d %H:%M" if span <= 90 * 86_400_000_000 else "%Y-%m-%d"
    first, half, last = ((_EPOCH + timedelta(microseconds=us)).astimezone(zone).strftime(form) for us in (start, start + span // 2, end))
    if columns >= 3 * len(first) + 4:
        left = (columns - len(half)) // 2
        return first.ljust(left) + half + last.rjust(columns - left - len(half))
    return f"{first}{last.rjust(columns - len(first))}" if columns > 2 * len(first) else first[:columns].ljust(columns)
