"""What subscriptions share is what each would have made for itself: the same rows, and byte for byte the same frames."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from historian.schema.catalogue import Kind, Tag
from historian.schema.ledger import Notice
from historian.schema.samples import Samples, arrow_schema, concat
from historian.stream.coalesce import coalesce
from historian.stream.encoder import Compression, EventEncoder
from historian.stream.entry import Entry
from historian.stream.events import Data, Subscribed
from historian.stream.fanout import FanOut
from historian.stream.frames import KEEP, FrameReader, FrameWriter, payload, unpack
from historian.stream.hub import Hub
from historian.stream.record_batches import record_batch
from historian.stream.tag_filter import TagFilter
from historian.stream.tick import Tick

KINDS: tuple[Kind, ...] = ("float", "int", "bool", "text")
TAGS = tuple(Tag(n, f"plant/line{n % 3}/t{n}", KINDS[n % 4]) for n in range(1, 13))

# the keys of one commit: each once
keys = st.sets(st.tuples(st.integers(1, 12), st.integers(0, 40)), min_size=1, max_size=60)
commits = st.lists(st.tuples(keys, st.integers(0, 2**32 - 1)), min_size=1, max_size=6)
tag_sets = st.lists(st.sets(st.integers(1, 12), min_size=1, max_size=12), min_size=1, max_size=6)


def commit(keys: set[tuple[int, int]], seed: int) -> Samples:
    """Sorted by (tag_id, ts), as notices are; values of every kind, some of them NaN."""
    rng = np.random.default_rng(seed)
    tag_id, ts = (np.array(column) for column in zip(*sorted(keys), strict=True))
    texts = [f"state {n}" if n % 4 == 3 else None for n in tag_id.tolist()]
    value = np.where(rng.random(len(ts)) < 0.1, np.nan, np.round(rng.normal(50, 20, len(ts)), 2))
    value[tag_id % 4 == 3] = np.nan
    value[tag_id % 4 == 2] = 1.0
    return Samples(
        tag_id.astype(np.int32),
        1_767_225_600_000_000 + ts.astype(np.int64) * 20_000,
        value,
        rng.choice([0, 64, 192], len(ts)).astype(np.int16),
        pa.array(texts, pa.string()) if any(texts) else None,
    )


def chosen(ids: set[int]) -> tuple[Tag, ...]:
    return tuple(tag for tag in TAGS if tag.tag_id in ids)


def rows(samples: Samples) -> list[tuple[int, int, int, int, str | None]]:
    columns = (samples.tag_id.tolist(), samples.ts.tolist(), samples.value.view(np.int64).tolist(), samples.quality.tolist())
    return list(zip(*columns, samples.text_or_nulls().to_pylist(), strict=True))


class Member:
    """Keeps what it is offered."""

    def __init__(self) -> None:
        self.ticks: list[Tick] = []

    def offer(self, tick: Tick) -> None:
        self.ticks.append(tick)


@given(st.integers(1, 5000), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_a_record_batch_is_byte_for_byte_what_arrow_makes(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = Samples(
        rng.integers(-(2**31), 2**31, count, dtype=np.int32),
        rng.integers(-(2**62), 2**62, count, dtype=np.int64),
        rng.integers(0, 2**64, count, dtype=np.uint64).view(np.float64),
        rng.integers(0, 256, count).astype(np.int16),
    )
    schema = arrow_schema(TAGS[:1])
    assert record_batch(samples, schema) == samples.to_record_batch(schema).serialize().to_pybytes()
    # with a text column, and of rows that do not lie together
    every_other = samples.take(np.arange(0, count, 2))
    with_text = arrow_schema(TAGS)
    for one, of in ((every_other, schema), (samples, with_text), (samples.slice(count // 2, count), schema)):
        expected = one.to_record_batch(of).serialize().to_pybytes() if len(one) else b""
        assert record_batch(one, of) == expected


@given(commits, tag_sets)
@settings(max_examples=60, deadline=None)
def test_everybody_is_offered_the_rows_of_his_tags_and_the_silent_nothing(given_commits: list, sets: list[set[int]]) -> None:
    fan_out = FanOut()
    members = [Member() for _ in sets]
    for member, ids in zip(members, sets, strict=True):
        fan_out.add(member, chosen(ids))
    stands = [commit(*one) for one in given_commits]
    for n, samples in enumerate(stands):
        fan_out.deliver([Entry(n + 1, Notice(n, n, samples))])
    for member, ids in zip(members, sets, strict=True):
        expected = [rows(found) for samples in stands if len(found := TagFilter(chosen(ids)).pick(samples))]
        assert [rows(tick.samples) for tick in member.ticks] == expected
        # others of the same tags have the very same
        same = [other for other, other_ids in zip(members, sets, strict=True) if other_ids == ids]
        assert all([id(tick) for tick in other.ticks] == [id(tick) for tick in member.ticks] for other in same)
    for member in members:
        fan_out.remove(member)
    fan_out.deliver([Entry(100, Notice(100, 100, stands[0]))])
    assert len(fan_out) == 0
    assert all(tick.cursor < 100 for member in members for tick in member.ticks)


@given(commits)
@settings(max_examples=60, deadline=None)
def test_of_what_is_joined_the_last_write_of_each_sample_stands(given_commits: list) -> None:
    parts = [commit(*one) for one in given_commits]
    expected = {row[:2]: row for part in parts for row in rows(part)}
    found = rows(coalesce(parts))
    assert len(found) == len(expected)
    assert {row[:2]: row for row in found} == expected


@pytest.mark.parametrize("compression", [None, "zstd", "zstd-dict"])
@given(given_commits=commits, ids=st.sets(st.integers(1, 12), min_size=1, max_size=12), comes=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_shared_frames_are_those_that_each_would_make(
    compression: Compression | None, given_commits: list, ids: set[int], comes: int
) -> None:
    """Of two subscriptions of the same tags, one from the beginning, the other from a later tick on."""
    tags = chosen(ids)
    schema = arrow_schema(tags)
    fan_out, member = FanOut(), Member()
    fan_out.add(member, tags)
    for n, one in enumerate(given_commits):
        fan_out.deliver([Entry(n + 1, Notice(n, n, commit(*one)))])
    for first in (0, comes):
        encoder = EventEncoder(7, binary=True, compression=compression)
        encoder.encode(Subscribed(tags))
        separate = FrameWriter(7, schema, zstd=compression == "zstd")
        reader, kept = FrameReader(), None
        for tick in member.ticks[first:]:
            frame = encoder.encode(Data(tick.samples, tick.cursor, backfill=False, tick=tick))
            assert isinstance(frame, bytes)
            own = separate.frame(tick.samples.to_record_batch(schema), cursor=tick.cursor)
            if compression != "zstd-dict":
                assert frame == own
            header, batches = reader.read(frame)
            unpacked = bytes(payload(frame, kept=kept))
            kept = unpacked if header.flags & KEEP else kept
            # uncompressed they are the same, whoever came when
            assert unpacked == bytes(payload(own))
            assert unpack(frame).cursor == tick.cursor
            assert rows(concat([Samples.from_record_batch(batch) for batch in batches])) == rows(tick.samples)


@given(given_commits=commits, ids=st.sets(st.integers(1, 12), min_size=1, max_size=12))
@settings(max_examples=30, deadline=None)
def test_shared_json_is_what_each_would_write(given_commits: list, ids: set[int]) -> None:
    tags = chosen(ids)
    fan_out, member = FanOut(), Member()
    fan_out.add(member, tags)
    for n, one in enumerate(given_commits):
        fan_out.deliver([Entry(n + 1, Notice(n, n, commit(*one)))])
    shared, separate = EventEncoder(7, binary=False), EventEncoder(7, binary=False)
    for encoder in (shared, separate):
        encoder.encode(Subscribed(tags))
    for tick in member.ticks:
        message = shared.encode(Data(tick.samples, tick.cursor, backfill=False, tick=tick))
        assert message == separate.encode(Data(tick.samples, tick.cursor, backfill=False))
        assert len(json.loads(message)["samples"]) == len(tick.samples)


async def test_commits_that_come_close_together_go_out_together_and_none_is_left_behind() -> None:
    hub, member = Hub(), Member()
    hub.follow(member, TAGS)
    for n in range(20):
        hub.publish(Notice(n, n, commit({(1, n), (2, n % 3)}, n)))
    assert len(member.ticks) < 20
    # whoever asks for the place on the bus, or comes new, has all before it delivered
    late = Member()
    hub.follow(late, TAGS)
    assert [entry.notice.xid for tick in member.ticks for entry in tick.entries] == list(range(20))
    assert not late.ticks
    found = {row[:2]: row for tick in member.ticks for row in rows(tick.samples)}
    assert found == {row[:2]: row for n in range(20) for row in rows(commit({(1, n), (2, n % 3)}, n))}


async def test_the_last_of_commits_that_came_together_is_delivered_by_itself() -> None:
    hub, all_there = Hub(), asyncio.Event()
    there: list[int] = []

    class Waiting:
        def offer(self, tick: Tick) -> None:
            there.extend(entry.notice.xid for entry in tick.entries)
            if 2 in there:
                all_there.set()

    waiting = Waiting()
    hub.follow(waiting, TAGS)
    for n in range(3):
        hub.publish(Notice(n, n, commit({(1, n)}, n)))
    async with asyncio.timeout(10):
        await all_there.wait()
    assert there == [0, 1, 2]
