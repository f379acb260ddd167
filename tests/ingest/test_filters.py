"""Filters: what is left out can be rebuilt within the tag's deviation, nothing that matters is left out, and every row is accounted for, over crashes too."""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from historian.ingest.filters.chain import Filters, Kept
from historian.ingest.filters.rules import FilterRules
from historian.ingest.path_samples import PathSamples, concat
from historian.schema.catalogue import TagDefinition

START = 1_767_225_600_000_000
S = 1_000_000
TAGS = ("a/x", "a/y")

EXCEPTION, COMPRESSION = 1.0, 0.75
RULES = {
    "deadband": {"match": "a/#", "exception_deviation": EXCEPTION, "exception_max_s": 60},
    "swinging-door": {"match": "a/#", "compression_deviation": COMPRESSION, "compression_max_s": 60},
    "both": {"match": "a/#", "exception_deviation": EXCEPTION, "exception_max_s": 60, "compression_deviation": COMPRESSION, "compression_max_s": 60},
}  # fmt: skip
#: off by how much, joined by straight lines
LINEAR = {"deadband": 2 * EXCEPTION, "swinging-door": COMPRESSION, "both": COMPRESSION + 2 * EXCEPTION}


@dataclass(frozen=True)
class Sample:
    tag: int
    ts: int
    value: float
    quality: int

    @property
    def plain(self) -> bool:
        return bool(np.isfinite(self.value)) and self.quality >= 64


def of(samples: Sequence[Sample]) -> PathSamples:
    return PathSamples(
        TAGS,
        np.array([s.tag for s in samples], np.int32),
        np.array([s.ts for s in samples], np.int64),
        np.array([s.value for s in samples], np.float64),
        np.array([s.quality for s in samples], np.int16),
    )


def rows_of(samples: PathSamples) -> list[Sample]:
    codes = [TAGS.index(path) for path in samples.paths]
    columns = (samples.tag.tolist(), samples.ts.tolist(), samples.value.tolist(), samples.quality.tolist())
    return [Sample(codes[tag], ts, value, quality) for tag, ts, value, quality in zip(*columns, strict=True)]


def filters(method: str, **options: Any) -> Filters:
    return Filters(FilterRules.from_toml([RULES[method]]), clock=lambda: START, **options)


def walk(ts: Sequence[float], values: Sequence[float], qualities: Sequence[int] | int = 192, tag: str = "a/x") -> PathSamples:
    n = len(values)
    quality = np.full(n, qualities, np.int16) if isinstance(qualities, int) else np.array(qualities, np.int16)
    return PathSamples(
        [tag], np.zeros(n, np.int32), np.array([START + round(t * S) for t in ts], np.int64), np.array(values, float), quality
    )


def kept_values(kept: Kept) -> list[float]:
    return kept.samples.value.tolist()


# ── histories: messages of one or several rows of two tags, each tag in the order of its times

steps = st.one_of(
    st.floats(-0.6, 0.6).map(lambda step: ("step", step)),
    st.floats(-3, 3).map(lambda step: ("step", step)),
    st.floats(-500, 500).map(lambda value: ("spike", value)),
    st.sampled_from([("bad", 3.0), ("nan", 0.0), ("uncertain", 0.0), ("infinite", 0.0)]),
)
pauses = st.one_of(st.integers(1, 3 * S), st.integers(1, 200), st.integers(50 * S, 130 * S))


@st.composite
def histories(draw: st.DrawFn, rows: st.SearchStrategy[int]) -> list[list[Sample]]:
    now, level, messages = START, [0.0, 100.0], []
    for _ in range(draw(st.integers(1, 60))):
        message = []
        for _ in range(draw(rows)):
            tag = draw(st.integers(0, 1))
            now += draw(pauses)
            kind, number = draw(steps)
            quality, value = 192, level[tag]
            if kind == "step":
                level[tag] = value = value + number
            elif kind == "spike":
                value += number
            elif kind == "bad":
                quality, value = 4, value + number
            elif kind == "nan":
                quality, value = 0, np.nan
            elif kind == "uncertain":
                quality = 64
            else:
                value = np.inf
            message.append(Sample(tag, now, value, quality))
        messages.append(message)
    return messages


def off(kept: Sequence[Sample], came: Sequence[Sample], *, held: bool) -> float:
    """By how much what is rebuilt misses the samples that came in, at worst. A bad sample ends the line; a sample that stands between no two kept ones fails."""
    by_tag: dict[int, dict[int, Sample]] = defaultdict(dict)
    for sample in kept:
        by_tag[sample.tag][sample.ts] = sample
    worst = 0.0
    for sample in came:
        stored = by_tag[sample.tag]
        if sample.ts in stored:
            there = stored[sample.ts]
            assert (there.value, there.quality) == (sample.value, sample.quality) or not sample.plain
            continue
        assert sample.plain, f"{sample} was left out"
        times = sorted(stored)
        after = bisect.bisect(times, sample.ts)
        assert 0 < after < len(times), f"{sample} is beyond what was kept"
        first, then = stored[times[after - 1]], stored[times[after]]
        assert first.plain
        assert then.plain
        assert first.quality == sample.quality == then.quality
        share = (sample.ts - first.ts) / (then.ts - first.ts)
        worst = max(worst, abs(first.value + (0 if held else share) * (then.value - first.value) - sample.value))
    return worst


@pytest.mark.parametrize("method", RULES)
@given(messages=histories(st.integers(1, 4)), data=st.data())
def test_no_rebuilt_value_is_off_by_more_than_the_deviation(method: str, messages: list[list[Sample]], data: st.DataObject) -> None:
    filter_ = filters(method)
    kept: list[Sample] = []
    settled: Counter[int] = Counter()
    n = 0
    while n < len(messages):
        several = data.draw(st.integers(1, 8))
        part = messages[n : n + several]
        numbers = np.repeat(np.arange(n, n + len(part)), [len(message) for message in part])
        answer = filter_.apply(of([sample for message in part for sample in message]), numbers)
        settled.update([*answer.message.tolist(), *answer.released.tolist()])
        kept += rows_of(answer.samples)
        n += several
    assert sum(settled.values()) + filter_.counts.held == sum(map(len, messages))
    answer = filter_.flush()
    settled.update([*answer.message.tolist(), *answer.released.tolist()])
    kept += rows_of(answer.samples)
    assert settled == {number: len(message) for number, message in enumerate(messages)}
    assert filter_.counts.held == 0
    came = [sample for message in messages for sample in message]
    assert len(kept) <= len(came)
    assert filter_.counts.sent == len(kept)
    assert off(kept, came, held=False) <= LINEAR[method] + 1e-9
    if method == "deadband":
        assert off(kept, came, held=True) <= EXCEPTION + 1e-9
    for tag in (0, 1):
        times = [sample.ts for sample in kept if sample.tag == tag]
        assert times == sorted(times)
        all_times = [sample.ts for sample in came if sample.tag == tag]
        for first, then in pairwise(times):
            if then - first > 60 * S:
                assert not any(first < ts < then for ts in all_times)


class Origin:
    """A broker: it delivers messages, again after a crash if they were not settled, and a database that has what was committed."""

    def __init__(self, method: str, messages: list[list[Sample]]) -> None:
        self.method = method
        self.messages = messages
        self.stored: list[Sample] = []
        self.settled = [0] * len(messages)
        self.acknowledged: set[int] = set()
        self.delivered = 0
        self.start([])

    def start(self, again: list[int]) -> None:
        self.queue = again + list(range(self.delivered, len(self.messages)))
        self.filter = filters(self.method, warm_up=len(again) if any(len(self.messages[n]) > 1 for n in again) else 0)
        self.count = Counter[int]()
        #: sent, and perhaps lost with the process
        self.under_way: list[Kept] = []
        #: as the worker numbers them
        self.numbers: list[int] = []

    def deliver(self, several: int) -> None:
        part, self.queue = self.queue[:several], self.queue[several:]
        self.delivered = max([self.delivered, *(n + 1 for n in part)])
        if not part:
            return
        first = len(self.numbers)
        self.numbers += part
        rows = np.repeat(np.arange(first, first + len(part)), [len(self.messages[n]) for n in part])
        answer = self.filter.apply(of([sample for n in part for sample in self.messages[n]]), rows)
        self.count.update(answer.released.tolist())
        self.under_way.append(answer)

    def commit(self, which: int) -> None:
        if which < len(self.under_way):
            answer = self.under_way.pop(which)
            self.stored += rows_of(answer.samples)
            self.count.update(answer.message.tolist())

    def acknowledge(self) -> None:
        for number, n in enumerate(self.numbers):
            if self.count[number] == len(self.messages[n]):
                self.acknowledged.add(n)

    def crash(self) -> None:
        self.start([n for n in range(self.delivered) if n not in self.acknowledged])

    def end(self) -> None:
        self.deliver(len(self.messages))
        self.under_way.append(self.filter.flush())
        while self.under_way:
            self.commit(0)


@pytest.mark.parametrize("method", RULES)
@given(messages=histories(st.integers(1, 4)), data=st.data())
def test_messages_delivered_again_after_a_crash_leave_nothing_off_by_more_than_twice_the_deviation(
    method: str, messages: list[list[Sample]], data: st.DataObject
) -> None:
    origin = Origin(method, messages)
    for _ in range(data.draw(st.integers(1, 40))):
        does = data.draw(st.sampled_from(["deliver", "deliver", "commit", "commit", "acknowledge", "crash"]))
        if does == "deliver":
            origin.deliver(data.draw(st.integers(1, 6)))
        elif does == "commit":
            origin.commit(data.draw(st.integers(0, 2)))
        elif does == "acknowledge":
            origin.acknowledge()
        else:
            origin.crash()
    origin.end()
    came = [sample for message in messages for sample in message]
    assert off(origin.stored, came, held=False) <= 2 * LINEAR[method] + 1e-9
    if method == "deadband":
        assert off(origin.stored, came, held=True) <= 2 * EXCEPTION + 1e-9


@pytest.mark.parametrize("method", RULES)
@given(messages=histories(st.just(1)), data=st.data())
def test_a_crash_costs_nothing_where_each_sample_is_a_message_and_settled_ones_do_not_come_again(
    method: str, messages: list[list[Sample]], data: st.DataObject
) -> None:
    origin = Origin(method, messages)
    while origin.queue:
        origin.deliver(data.draw(st.integers(1, 6)))
        origin.commit(0)
        origin.acknowledge()
        if data.draw(st.booleans()):
            origin.crash()
    origin.end()
    came = [sample for message in messages for sample in message]
    assert off(origin.stored, came, held=False) <= LINEAR[method] + 1e-9


def test_a_line_of_the_next_life_does_not_cross_what_the_last_one_sent() -> None:
    def at(second: int, *values: float) -> list[Sample]:
        return [Sample(tag, START + second * S, value, 192) for tag, value in enumerate(values)]

    # the second message waits for the other tag, and comes again
    origin = Origin("swinging-door", [at(0, 0, 0), at(1, 0, 0), at(2, 0), at(8, 100), at(9, 0), at(20, 0)])
    for _ in range(5):
        origin.deliver(1)
        origin.commit(0)
    origin.acknowledge()
    origin.crash()
    assert origin.queue == [1, 4, 5]
    origin.end()
    assert Sample(0, START + 9 * S, 0, 192) in origin.stored


# ── examples


def test_the_deadband_sends_what_leaves_it_and_the_one_before() -> None:
    filter_ = filters("deadband")
    answer = filter_.apply(walk(range(7), [0, 0.5, -0.5, 0.9, 1.1, 1.2, 1.3]), np.arange(7))
    assert kept_values(answer) == [0, 0.9, 1.1]
    assert answer.message.tolist() == [0, 3, 4]
    assert answer.released.tolist() == [1, 2, 5]
    assert filter_.counts.held == 1
    assert kept_values(filter_.flush()) == [1.3]


def test_the_swinging_door_keeps_the_ends_of_a_ramp() -> None:
    filter_ = filters("swinging-door")
    answer = filter_.apply(walk(range(41), [*range(21), *range(19, -1, -1)]), 0)
    assert kept_values(answer) == [0, 20]
    assert kept_values(filter_.flush()) == [0]


def test_a_held_row_is_sent_with_the_message_that_it_came_with() -> None:
    filter_ = filters("deadband")
    filter_.apply(walk([0, 1], [0, 0.5]), np.array([7, 8]))
    answer = filter_.apply(concat([walk([2], [99], tag="b/z"), walk([3], [9])]), np.array([9, 10]))
    assert answer.samples.ts.tolist() == [START + S, START + 2 * S, START + 3 * S]
    assert answer.message.tolist() == [8, 9, 10]
    assert [answer.samples.paths[code] for code in answer.samples.tag.tolist()] == ["a/x", "b/z", "a/x"]


def test_tags_without_a_rule_pass_without_a_copy() -> None:
    filter_ = filters("both")
    samples = walk(range(100), [0.0] * 100, tag="b/x")
    assert filter_.apply(samples, 0).samples is samples
    assert filter_.counts.taken == 0


def test_text_passes_and_stays_with_its_samples() -> None:
    filter_ = filters("deadband")
    numbers, words = walk([0, 1, 2], [0, 0, 0]), walk([3, 4], [np.nan, np.nan])
    words = PathSamples(words.paths, words.tag, words.ts, words.value, words.quality, pa.array(["on", "on"]))
    filter_.apply(numbers, 0)
    answer = filter_.apply(words, 1)
    assert answer.samples.ts.tolist() == [START + 2 * S, START + 3 * S, START + 4 * S]
    assert answer.samples.text is not None
    assert answer.samples.text.to_pylist() == [None, "on", "on"]


def test_stepped_tags_are_not_filtered() -> None:
    filter_ = filters("both")
    filter_.define([TagDefinition(path="a/x", kind="bool"), TagDefinition(path="a/y", kind="float")])
    assert len(filter_.apply(walk(range(10), [1.0] * 10), 0).samples) == 10
    assert len(filter_.apply(walk(range(10), [1.0] * 10, tag="a/y"), 0).samples) == 1


@pytest.mark.parametrize("method", RULES)
def test_a_late_row_passes_and_what_follows_is_as_without_it(method: str) -> None:
    plain, disturbed = filters(method), filters(method)
    values = [0, 0.1, 0.2, 0.2, 0.1, 5, 5, 5, 9, 0]
    kept, late = [], []
    for n, value in enumerate(values):
        kept += rows_of(plain.apply(walk([n], [value]), n).samples)
        late += rows_of(disturbed.apply(walk([n], [value]), n).samples)
        answer = disturbed.apply(walk([n - 0.5], [77]), 100 + n)
        assert kept_values(answer) == [77]
        assert answer.message.tolist() == [100 + n]
    assert [sample for sample in late if sample.value != 77] == kept


@pytest.mark.parametrize("method", RULES)
def test_a_correction_of_the_newest_passes_after_what_it_replaces(method: str) -> None:
    filter_ = filters(method)
    filter_.apply(walk([0, 1], [0, 0.5]), np.array([0, 1]))
    answer = filter_.apply(walk([1, 2], [0.25, 0.25]), np.array([2, 3]))
    assert kept_values(answer) == [0.5, 0.25]
    assert answer.message.tolist() == [1, 2]
    assert answer.released.tolist() == []
    assert filter_.counts.held == 1


@pytest.mark.parametrize("method", RULES)
def test_a_held_row_is_due_when_nothing_was_sent_for_the_maximum_interval(method: str) -> None:
    filter_ = filters(method)
    filter_.apply(walk([0, 1], [0, 0.5]), np.array([4, 5]))
    assert len(filter_.due(START + 59 * S).samples) == 0
    answer = filter_.due(START + 60 * S)
    assert kept_values(answer) == [0.5]
    assert answer.message.tolist() == [5]
    assert filter_.counts.held == 0
    assert len(filter_.due(START + 500 * S).samples) == 0


def test_a_held_row_is_due_although_the_clock_was_put_back() -> None:
    filter_ = filters("deadband")
    filter_.apply(walk([0, 1], [0, 0.5]), np.array([4, 5]))
    assert len(filter_.due(START - 3600 * S).samples) == 0
    assert kept_values(filter_.due(START - 3540 * S)) == [0.5]


def test_the_first_messages_pass_while_they_may_be_repeated() -> None:
    filter_ = filters("deadband", warm_up=3)
    # message 2 comes in two parts
    parts = [filter_.apply(walk([n], [0.0]), message) for n, message in enumerate([0, 1, 2, 2, 3, 4, 5])]
    assert [len(part.samples) for part in parts] == [1, 1, 1, 1, 1, 0, 0]


def test_values_at_the_end_of_the_range_of_floats_are_kept() -> None:
    filter_ = filters("swinging-door")
    values = [-1.7e308, 1.7e308, -1.7e308, 1.7e308]
    assert kept_values(filter_.apply(walk(range(4), values), 0)) + kept_values(filter_.flush()) == values


def test_deviation_nought_leaves_out_repeats_only() -> None:
    filter_ = Filters(FilterRules.from_toml([{"match": "a/x", "method": "deadband", "deviation": 0}]))
    answer = filter_.apply(walk(range(8), [1, 1, 1, 0, 0, 0, 1, 0]), 0)
    assert kept_values(answer) == [1, 1, 0, 0, 1, 0]
