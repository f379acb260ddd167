"""All filters of a worker: every batch goes through them on its way from the source to the wire.

Each filtered tag has up to two stages: exception reporting first, then compression of what that lets through. Samples are sent, left out for good because others
stand for them, or held back: at most one a stage, until the next sample of the tag, or the maximum interval, decides.

What is never left out: bad samples, values that are no finite number, text, a change of quality with the samples on either side of it, and every sample of a tag that
is known to be stepped (`define`): bool, digital, text.

Late samples (older than the newest of their tag) pass as they are, and change nothing for those that follow. A correction (another sample at the time of the newest)
passes as well, after the one that it replaces, and a new line begins with it.

The guarantee, for a tag whose samples come once and in order: each sample that came in, at its time, is off from what is rebuilt by no more than

    exception reporting alone   exception_deviation when each kept sample is held until the next; twice that when they are joined by straight lines
    compression alone           compression_deviation, joined by straight lines
    both                        compression_deviation + 2 × exception_deviation, joined by straight lines

A sample that is delivered again, after a crash or a lost connection, passes: it is then one more point of the rebuilt line, and those left out beside it may be
off by twice as much. So that the old line and the new one fit together after a crash, when the filters know nothing of what they left out, the first
`warm_up` messages pass as a whole: as many as may be delivered again, which is the number of messages that may be unsettled at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from historian.ingest.filters.deadband import Deadband
from historian.ingest.filters.rows import INDEX, MESSAGE, QUALITY, TS, VALUE, Row
from historian.ingest.filters.rules import FilterRule, FilterRules
from historian.ingest.filters.swinging_door import SwingingDoor
from historian.ingest.path_samples import PathSamples
from historian.schema.catalogue import STEPPED, TagDefinition
from historian.schema.samples import UNCERTAIN, Bools, Int32s, Int64s

#: tags that can be filtered at once; further ones pass as they are
MAX_TAGS = 200_000
_LEAST = -(2**63)


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What came of a call.

    samples    to send now, n rows; among them some held from earlier calls, before newer ones of the same tag
    message    int64[n], the number of the message that each came with
    released   int64[m], the message of each row that was left out for good, one entry a row
    """

    samples: PathSamples
    message: Int64s
    released: Int64s


@dataclass(slots=True, eq=False)
class FilterCounts:
    """Rows since the filters were made. `taken` counts those of tags with a rule: taken = sent + left_out + held."""

    taken: int = 0
    sent: int = 0
    left_out: int = 0
    held: int = 0


class _Tag:
    """The stages of one tag."""

    __slots__ = ("compression", "exception", "max_us", "newest", "path", "rule", "since", "stages")

    def __init__(self, path: str, rule: FilterRule) -> None:
        self.path = path
        self.rule = rule
        self.newest = _LEAST
        self.exception = Deadband(rule.exception) if rule.exception is not None else None
        self.compression = SwingingDoor(rule.compression) if rule.compression is not None else None
        self.stages = [stage for stage in (self.exception, self.compression) if stage is not None]
        #: by the worker's clock, µs: when each stage last sent something
        self.since = [0] * len(self.stages)
        self.max_us = [stage.max_us for stage in (rule.exception, rule.compression) if stage is not None]

    @property
    def held(self) -> int:
        return sum(stage.held is not None for stage in self.stages)

    def run(self, rows: Sequence[Row], dropped: list[int], now: int) -> list[Row]:
        """Rows newer than all before them, in order."""
        for n, stage in enumerate(self.stages):
            rows = stage.run(rows, dropped)
            if rows:
                self.since[n] = now
        return list(rows)

    def run_any(self, rows: Sequence[Row], dropped: list[int], now: int) -> list[Row]:
        """Rows in whatever order they came."""
        sent: list[Row] = []
        ordered: list[Row] = []
        for row in rows:
            if row[TS] > self.newest:
                ordered.append(row)
                self.newest = row[TS]
            elif row[TS] < self.newest:
                sent.append(row)
            else:
                sent += self.run(ordered, dropped, now)
                sent += self.flush(dropped, now)
                for stage in self.stages:
                    stage.forget()
                ordered = [row]
        return sent + self.run(ordered, dropped, now)

    def flush(self, dropped: list[int], now: int, *, due: bool = False) -> list[Row]:
        """Held rows: all of them, or those that have been held for their maximum interval."""
        rows: list[Row] = []
        for n, stage in enumerate(self.stages):
            rows = stage.run(rows, dropped) if rows else rows
            if now < self.since[n]:
                # the clock was put back
                self.since[n] = now
            if not due or now - self.since[n] >= self.max_us[n]:
                rows += stage.flush()
            if rows:
                self.since[n] = now
        return rows

    def end_batch(self) -> None:
        for stage in self.stages:
            stage.end_batch()


class Filters:
    """The filters of one worker; not for several threads at once.

    warm_up   messages at the start that pass as they are, because they may have been delivered before; see above
    clock     the worker's time in µs, as `due` is called with
    """

    def __init__(self, rules: FilterRules, *, warm_up: int = 0, clock: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self.counts = FilterCounts()
        self._rules = rules
        self._clock = clock
        self._warm_left = warm_up
        self._warm_through = _LEAST
        self._tags: dict[str, _Tag] = {}
        self._unfiltered: set[str] = set()
        self._stepped: set[str] = set()
        self._holding: dict[str, _Tag] = {}
        self._shortest_us = min((stage.max_us for rule in rules.rules for stage in (rule.exception, rule.compression) if stage), default=0)
        #: nothing is due before
        self._look_at = 0

    def define(self, tags: Sequence[TagDefinition]) -> None:
        """What a source says of its tags: those whose value holds until the next one are not filtered."""
        for tag in tags:
            if (tag.kind in STEPPED or tag.step) and self._rules.of(tag.path) is not None:
                if len(self._stepped) < MAX_TAGS:
                    self._stepped.add(tag.path)
            elif tag.kind is not None or tag.step is not None:
                self._stepped.discard(tag.path)

    def apply(self, samples: PathSamples, message: Int64s | int) -> Kept:
        """The samples of one or several messages, in the order in which they came; `message[n]` is the number of the message of row n, which grows."""
        messages = np.full(len(samples), message, np.int64) if isinstance(message, int) else message
        if not self._rules or not len(samples):
            return Kept(samples, messages, _none())
        filtered = [self._tag(path) for path in samples.paths]
        if not any(filtered):
            return Kept(samples, messages, _none())
        mine = np.array([tag is not None for tag in filtered])[samples.tag]
        index = np.flatnonzero(mine)
        plain = self._plain(samples, messages, index)
        dropped: list[int] = []
        earlier: list[tuple[int, Row]] = []
        keep = ~mine
        now = self._clock()
        for tag, code, rows, in_order in _groups(filtered, samples, messages, index, plain):
            before = tag.held
            if in_order and rows[0][TS] > tag.newest:
                tag.newest = rows[-1][TS]
                sent = tag.run(rows, dropped, now)
            else:
                sent = tag.run_any(rows, dropped, now)
            for row in sent:
                if row[INDEX] < 0:
                    earlier.append((code, row))
                else:
                    keep[row[INDEX]] = True
            tag.end_batch()
            self._count_held(tag, before, now)
        self.counts.taken += len(index)
        self.counts.left_out += len(dropped)
        self.counts.sent = self.counts.taken - self.counts.left_out - self.counts.held
        released = np.array(dropped, np.int64)
        if keep.all():
            kept, message_of = samples, messages
        else:
            kept, message_of = samples.take(keep), messages[keep]
        if earlier:
            held = _of_rows(samples.paths, [code for code, _ in earlier], [row for _, row in earlier])
            kept = _joined(held, kept)
            message_of = np.concatenate([np.fromiter((row[MESSAGE] for _, row in earlier), np.int64, len(earlier)), message_of])
        return Kept(kept, message_of, released)

    def due(self, now_us: int) -> Kept:
        """Held rows whose tag has sent nothing for its maximum interval, by the worker's clock. To be called every second or so; costs nothing when nothing is due."""
        if now_us < self._look_at - self._shortest_us:
            # the clock was put back
            self._look_at = now_us
        if not self._holding or now_us < self._look_at:
            return _nothing()
        return self._flush(now_us, due=True)

    def flush(self) -> Kept:
        """All held rows, for a clean stop; filtering may go on after it."""
        return self._flush(self._clock(), due=False) if self._holding else _nothing()

    def _flush(self, now: int, *, due: bool) -> Kept:
        dropped: list[int] = []
        paths: list[str] = []
        codes: list[int] = []
        sent: list[Row] = []
        self._look_at = now + self._shortest_us
        for tag in list(self._holding.values()):
            before = tag.held
            rows = tag.flush(dropped, now, due=due)
            if rows:
                codes += [len(paths)] * len(rows)
                paths.append(tag.path)
                sent += rows
            self._count_held(tag, before, now)
        self.counts.left_out += len(dropped)
        self.counts.sent = self.counts.taken - self.counts.left_out - self.counts.held
        message = np.fromiter((row[MESSAGE] for row in sent), np.int64, len(sent))
        return Kept(_of_rows(paths, codes, sent), message, np.array(dropped, np.int64))

    def _count_held(self, tag: _Tag, before: int, now: int) -> None:
        after = tag.held
        self.counts.held += after - before
        if after:
            self._holding[tag.path] = tag
            for n, stage in enumerate(tag.stages):
                if stage.held is not None:
                    self._look_at = min(self._look_at, max(now, tag.since[n] + tag.max_us[n]))
        else:
            self._holding.pop(tag.path, None)

    def _tag(self, path: str) -> _Tag | None:
        if path in self._unfiltered:
            return None
        tag = self._tags.get(path)
        if tag is None:
            rule = self._rules.of(path)
            if rule is None or len(self._tags) >= MAX_TAGS:
                if len(self._unfiltered) >= MAX_TAGS:
                    self._unfiltered.clear()
                self._unfiltered.add(path)
                return None
            tag = self._tags[path] = _Tag(path, rule)
        return tag

    def _plain(self, samples: PathSamples, messages: Int64s, index: Int64s) -> Bools:
        """Which of the rows at `index` may be left out or held at all."""
        plain = np.isfinite(samples.value[index]) & (samples.quality[index] >= UNCERTAIN)
        if samples.text is not None:
            plain &= np.asarray(samples.text.is_null().to_numpy(zero_copy_only=False))[index]
        if self._stepped:
            plain &= ~np.array([path in self._stepped for path in samples.paths])[samples.tag[index]]
        if self._warm_left:
            numbers = np.unique(messages[messages > self._warm_through])[: self._warm_left]
            if len(numbers):
                self._warm_through = int(numbers[-1])
                self._warm_left -= len(numbers)
        return plain & (messages[index] > self._warm_through)


def _groups(
    filtered: Sequence[_Tag | None], samples: PathSamples, messages: Int64s, index: Int64s, plain: Bools
) -> list[tuple[_Tag, int, list[Row], bool]]:
    """The rows at `index` by their tag, in the order in which they came, and whether that is the order of their times."""
    order = np.argsort(samples.tag[index], kind="stable")
    index, plain = index[order], plain[order]
    codes = samples.tag[index]
    ts = samples.ts[index]
    starts = np.flatnonzero(np.diff(codes, prepend=-1)).tolist()
    back = set(codes[1:][(ts[1:] <= ts[:-1]) & (codes[1:] == codes[:-1])].tolist())
    columns = (ts, samples.value[index], samples.quality[index], messages[index], index, plain)
    rows: list[Row] = list(zip(*(column.tolist() for column in columns), strict=True))
    found = []
    for start, end in zip(starts, [*starts[1:], len(index)], strict=True):
        code = int(codes[start])
        tag = filtered[code]
        assert tag is not None
        found.append((tag, code, rows[start:end], code not in back))
    return found


def _of_rows(paths: Sequence[str], codes: Sequence[int], rows: Sequence[Row]) -> PathSamples:
    n = len(rows)
    return PathSamples(
        paths,
        np.array(codes, np.int32),
        np.fromiter((row[TS] for row in rows), np.int64, n),
        np.fromiter((row[VALUE] for row in rows), np.float64, n),
        np.fromiter((row[QUALITY] for row in rows), np.int16, n),
    )


def _joined(first: PathSamples, then: PathSamples) -> PathSamples:
    """Of the same paths."""
    text = None if then.text is None else pa.concat_arrays([pa.nulls(len(first), pa.string()), then.text])
    tag: Int32s = np.concatenate([first.tag, then.tag])
    return PathSamples(
        then.paths,
        tag,
        np.concatenate([first.ts, then.ts]),
        np.concatenate([first.value, then.value]),
        np.concatenate([first.quality, then.quality]),
        text,
    )


def _none() -> Int64s:
    return np.empty(0, np.int64)


def _nothing() -> Kept:
    return Kept(_of_rows([], [], []), _none(), _none())
