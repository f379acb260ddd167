"""The live bus: each commit once, in an order in which the last one to arrive is the one that stands."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from historian.schema.ledger import Notice
from historian.schema.samples import Samples
from historian.stream.hub import Entry, Hub


class Listener:
    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def offer(self, entry: Entry) -> None:
        self.entries.append(entry)


def notice(xid: int, position: int, keys: set[tuple[int, int]]) -> Notice:
    rows = sorted(keys)
    return Notice(
        xid,
        position,
        Samples(
            np.array([key[0] for key in rows], np.int32),
            np.array([key[1] for key in rows], np.int64),
            np.full(len(rows), float(position)),
            np.full(len(rows), 192, np.int16),
        ),
    )


def applied(entries: list[Entry]) -> dict[tuple[int, int], float]:
    found: dict[tuple[int, int], float] = {}
    for entry in entries:
        s = entry.notice.samples
        found.update(zip(zip(s.tag_id.tolist(), s.ts.tolist(), strict=True), s.value.tolist(), strict=True))
    return found


KEYS = st.sets(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=8)


@given(contents=st.lists(KEYS, min_size=1, max_size=12), seed=st.integers(), repeats=st.lists(st.integers(0, 11), max_size=6))
def test_in_whatever_order_notices_come_the_last_commit_of_each_key_is_seen_last(
    contents: list[set[tuple[int, int]]], seed: int, repeats: list[int]
) -> None:
    notices = [notice(100 + n, n, keys) for n, keys in enumerate(contents)]
    expected: dict[tuple[int, int], float] = {}
    for one in notices:
        expected.update(dict.fromkeys(zip(one.samples.tag_id.tolist(), one.samples.ts.tolist(), strict=True), float(one.position)))
    coming = [*notices, *(notices[n] for n in repeats if n < len(notices))]
    random.Random(seed).shuffle(coming)
    hub, listener = Hub(), Listener()
    hub.attach(listener)
    for one in coming:
        hub.publish(one)
    assert applied(listener.entries) == expected
    assert [entry.notice.xid for entry in listener.entries] == list(dict.fromkeys(one.xid for one in coming)), "each once"


def test_what_is_below_the_watermark_is_not_handed_on() -> None:
    hub, listener = Hub(), Listener()
    hub.attach(listener)
    hub.publish(notice(10, 1, {(1, 1)}))
    hub.raise_watermark(11)
    hub.publish(notice(10, 1, {(1, 1)}))
    hub.publish(notice(9, 0, {(1, 1)}))
    assert [entry.notice.xid for entry in listener.entries] == [10]
    assert hub.counts.repeated == 2


def test_a_cursor_goes_on_behind_its_entry_as_long_as_all_is_retained() -> None:
    hub = Hub(retain_bytes=0)
    before = hub.cursor
    for n in range(Hub.MIN_RETAINED):
        hub.publish(notice(n, n, {(1, n)}))
    assert [entry.notice.xid for entry in hub.since(before) or []] == list(range(Hub.MIN_RETAINED))
    middle = hub.cursor
    assert list(hub.since(middle) or []) == []
    hub.publish(notice(1000, 1000, {(1, 0)}))
    assert hub.since(before) is None, "the first one is forgotten"
    assert [entry.notice.xid for entry in hub.since(middle) or []] == [1000]
    assert hub.since(hub.cursor + 1) is None, "a cursor of the future is none of this hub's"


def test_large_notices_are_not_retained_beyond_the_bound() -> None:
    hub = Hub(retain_bytes=1000)
    hub.MIN_RETAINED_BYTES = 50_000
    before = hub.cursor
    for n in range(Hub.MIN_RETAINED):
        hub.publish(notice(n, n, {(1, ts) for ts in range(1000)}))
        assert hub.retained_bytes <= 50_000
    assert hub.since(before) is None
    assert hub.since(hub.cursor - 1) is not None


def test_a_cursor_of_another_hub_is_none_of_this_ones() -> None:
    """Workers start in the same instant and hand on the same notices: a stream that comes back to another one must not be told that it goes on."""
    hubs = [Hub(retain_bytes=1 << 30) for _ in range(4)]
    given = []
    for hub in hubs:
        cursors = [hub.cursor]
        for n in range(3_000):
            hub.publish(notice(n, n, {(1, n)}))
            cursors.append(hub.cursor)
        given.append(cursors)
    for hub, own in zip(hubs, given, strict=True):
        assert all(hub.since(cursor) is not None for cursor in own[:: len(own) // 10])
        for cursors in given:
            assert cursors is own or all(hub.since(cursor) is None for cursor in cursors)
        assert max(own) < 2**53, "exact in JavaScript"
