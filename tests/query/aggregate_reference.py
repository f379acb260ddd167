"""What every mode ought to give for one tag, from its samples: plainly, a bucket at a time."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from historian.query.states import state_name
from historian.schema.catalogue import STEPPED, Tag


@dataclass(frozen=True, slots=True)
class Row:
    """A sample, or a row of a result: of a text tag `value` is text, and None where there is none. `state`: of a result's row."""

    ts: int
    value: float | str | None
    quality: int
    state: str | None = None

    @property
    def known(self) -> bool:
        return self.quality >= 64 and self.value is not None


def expected(mode: str, tag: Tag, rows: Sequence[Row], starts: Sequence[int], edges: Sequence[int], now: int) -> list[Row]:
    """`rows`: all samples of the tag, by time. Buckets [edges[i], edges[i + 1]), whose rows have `starts`."""
    return [
        Row(start, *found)
        for start, (begin, end) in zip(starts, itertools.pairwise(edges), strict=True)
        for found in _bucket(mode, tag, rows, begin, end, now)
    ]


_Found = tuple[float | str | None, int, str | None]


def _bucket(mode: str, tag: Tag, rows: Sequence[Row], begin: int, end: int, now: int) -> list[_Found]:
    inside = [row for row in rows if begin <= row.ts < end]
    known = [row for row in inside if row.known]
    quality = 192 if all(row.known and row.quality >= 192 for row in inside) else 64
    match mode:
        case "count":
            return [(float(len(known)), quality, None)]
        case "twa" | "integral" | "percent_good":
            return [_of_line(mode, tag, rows, begin, end, now)]
        case "duration":
            return _durations(tag, rows, begin, end, now)
        case "transitions":
            return _transitions(tag, rows, begin, end, now, quality)
    if not known:
        return [(None, 0, None)]
    if mode in ("first", "last"):
        return [(known[0 if mode == "first" else -1].value, quality, None)]
    if tag.kind == "text":
        return [(None, 0, None)]
    numbers = [float(row.value or 0) for row in known]
    if mode == "stddev":
        if len(numbers) < 2:
            return [(None, 0, None)]
        mean = math.fsum(numbers) / len(numbers)
        return [(math.sqrt(math.fsum((n - mean) ** 2 for n in numbers) / (len(numbers) - 1)), quality, None)]
    value = {
        "avg": lambda: math.fsum(numbers) / len(numbers),
        "sum": lambda: math.fsum(numbers),
        "min": lambda: min(numbers),
        "max": lambda: max(numbers),
        "range": lambda: max(numbers) - min(numbers),
        "delta": lambda: numbers[-1] - numbers[0],
        "total": lambda: _total(tag, [float(row.value or 0) for row in rows if row.known and row.ts < begin][-1:] + numbers),
    }[mode]()
    return [(value, quality, None)]


def _total(tag: Tag, numbers: Sequence[float]) -> float:
    low, high = tag.low or 0.0, tag.high
    total = []
    for a, b in itertools.pairwise(numbers):
        if b >= a:
            total.append(b - a)
            continue
        total.append(max(b - low, 0))
        if high is not None and high - (high - low) / 10 <= a <= high and b <= low + (high - low) / 10:
            total.append(high - a + (1 if tag.kind == "int" else 0))
    return math.fsum(total)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Between two samples, or an edge and one: `left` the sample that holds, `right` the next one, if there is one."""

    begin: int
    end: int
    left: Row | None
    right: Row | None

    @property
    def seconds(self) -> float:
        return (self.end - self.begin) / 1e6


def _pieces(rows: Sequence[Row], begin: int, end: int, now: int) -> list[_Piece]:
    """Of all time in the bucket that is past, or known to be followed by a sample."""
    cuts = [begin, *(row.ts for row in rows if begin < row.ts < end), end]
    pieces = []
    for a, b in itertools.pairwise(cuts):
        left = [row for row in rows if row.ts <= a][-1:]
        right = [row for row in rows if row.ts > a][:1]
        until = b if right else min(b, now)
        if until > a:
            pieces.append(_Piece(a, until, left[0] if left else None, right[0] if right else None))
    return pieces


def _of_line(mode: str, tag: Tag, rows: Sequence[Row], begin: int, end: int, now: int) -> _Found:
    pieces = _pieces(rows, begin, end, now)
    if mode == "percent_good":
        elapsed = math.fsum(piece.seconds for piece in pieces)
        good = math.fsum(piece.seconds for piece in pieces if piece.left and piece.left.known and piece.left.quality >= 192)
        return (100 * good / elapsed, 192, None) if elapsed else (None, 0, None)
    areas, known_s, sure = [], 0.0, all(row.known and row.quality >= 192 for row in rows if begin <= row.ts < end)
    for piece in pieces:
        left, right = piece.left, piece.right
        if left is None or not left.known:
            sure = False
            continue
        sure &= left.quality >= 192
        a = b = float(left.value or 0)
        if right is not None and right.known and not (tag.step or tag.kind in STEPPED):
            sure &= right.quality >= 192
            slope = (float(right.value or 0) - a) / (right.ts - left.ts)
            a, b = a + slope * (piece.begin - left.ts), a + slope * (piece.end - left.ts)
        areas.append((a / 2 + b / 2) * piece.seconds)
        known_s += piece.seconds
    if not known_s:
        return None, 0, None
    area = math.fsum(areas)
    return area / known_s if mode == "twa" else area, 192 if sure else 64, None


def _state(tag: Tag, row: Row) -> tuple[float | str, str]:
    """What it is ordered by, and its name."""
    if isinstance(row.value, str):
        return row.value, row.value
    return row.value or 0.0, state_name(tag, int(row.value or 0))


def _durations(tag: Tag, rows: Sequence[Row], begin: int, end: int, now: int) -> list[_Found]:
    pieces = _pieces(rows, begin, end, now)
    seconds: Counter[tuple[float | str, str]] = Counter()
    doubtful = set()
    for piece in pieces:
        if piece.left is not None and piece.left.known:
            state = _state(tag, piece.left)
            seconds[state] += piece.end - piece.begin
            if piece.left.quality < 192:
                doubtful.add(state)
    whole = sum(seconds.values()) == sum(piece.end - piece.begin for piece in pieces)
    found: list[_Found] = [(us / 1e6, 192 if whole and s not in doubtful else 64, s[1]) for s, us in sorted(seconds.items())]
    return found or [(None, 0, None)]


def _transitions(tag: Tag, rows: Sequence[Row], begin: int, end: int, now: int, quality: int) -> list[_Found]:
    counts: Counter[tuple[float | str, str]] = Counter()
    known = [row for row in rows if row.known]
    for before, row in itertools.pairwise(known):
        if begin <= row.ts < end and row.value != before.value:
            counts[_state(tag, row)] += 1
    if counts:
        return [(float(n), quality, state[1]) for state, n in sorted(counts.items())]
    told = bool(known) and known[0].ts < end and (begin <= now or any(row.ts >= begin for row in rows))
    return [(0.0, quality, None)] if told else [(None, 0, None)]
