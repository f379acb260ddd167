"""Checkpoints of an OPC UA source: never past a sample that is not safe, whatever settles when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from historian.ingest.sources.opcua_checkpoint import NEVER, Checkpoints, Track

SLOTS = 3


class Settling(RuleBasedStateMachine):
    """A source that hands over samples in the order of time, live and from histories, on connections that break, while they settle in any order.

    `exists` are the samples of each slot, and `safe` those that have settled: all that exist up to the checkpoint have to be safe.
    """

    def __init__(self) -> None:
        super().__init__()
        self.checkpoints = Checkpoints(Path("/nonexistent"))
        self.slots = self.checkpoints.slots([str(n) for n in range(SLOTS)])
        self.clock = 100
        self.exists: list[set[int]] = [set() for _ in range(SLOTS)]
        self.safe: list[set[int]] = [set() for _ in range(SLOTS)]
        self.under_way: list[tuple[int, list[int], Callable[[], None]]] = []
        self.connected = False
        self.starts = [NEVER] * SLOTS
        self.first = [True] * SLOTS
        self.newest = [NEVER] * SLOTS
        self.gaps: list[tuple[int, int, int, Track, Callable[[], None]]] = []
        #: a source knows nothing of what was before its first connection
        self.floor = [NEVER] * SLOTS

    def _hand_over(self, slot: int, stamps: list[int], track: Track) -> None:
        index = np.full(len(stamps), slot, np.int64)
        self.under_way.append((slot, stamps, track.add(index, np.array(stamps, np.int64))))

    @rule()
    def connect(self) -> None:
        self.starts = self.checkpoints.reconnect(self.slots, NEVER).tolist()
        self.connected, self.first, self.gaps = True, [True] * SLOTS, []

    @rule(slot=st.integers(0, SLOTS - 1), count=st.integers(1, 3))
    def happen_unseen(self, slot: int, count: int) -> None:
        """Samples that the subscription does not send: nobody is connected, or a queue overflows. The next that it sends says so."""
        for _ in range(count):
            self.clock += 1
            self.exists[slot].add(self.clock)

    @precondition(lambda self: self.connected)
    @rule(slot=st.integers(0, SLOTS - 1))
    def live(self, slot: int) -> None:
        before, end = self.newest[slot], self.clock + 1
        unseen = {ts for ts in self.exists[slot] if ts > before}
        self.clock += 1
        self.exists[slot].add(end)
        if self.first[slot]:
            self.first[slot] = False
            closer = self.checkpoints.closer(np.array([slot]))
            if self.starts[slot] == NEVER:
                self.checkpoints.begin(np.array([slot]), np.array([end]))
                closer()
                if self.floor[slot] == NEVER:
                    self.floor[slot] = end
            else:
                self.gaps.append((slot, self.starts[slot], end, self.checkpoints.filling(), closer))
        elif unseen:
            self.checkpoints.open_gap(slot)
            self.gaps.append((slot, before, end, self.checkpoints.passing(), self.checkpoints.closer(np.array([slot]))))
        self.newest[slot] = end
        self._hand_over(slot, [end], self.checkpoints.track)

    @precondition(lambda self: self.gaps)
    @rule(data=st.data())
    def fill(self, data: st.DataObject) -> None:
        """Some of a gap, or the rest of it."""
        number = data.draw(st.integers(0, len(self.gaps) - 1))
        slot, start, end, track, close = self.gaps.pop(number)
        stamps = sorted(ts for ts in self.exists[slot] if start <= ts <= end)
        cut = data.draw(st.integers(1, max(1, len(stamps))))
        if stamps[:cut]:
            self._hand_over(slot, stamps[:cut], track)
        if cut < len(stamps):
            self.gaps.append((slot, stamps[cut], end, track, close))
        else:
            track.finish(close)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        slot, stamps, settled = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        self.safe[slot] |= set(stamps)
        settled()

    @invariant()
    def all_before_the_checkpoint_is_safe(self) -> None:
        for slot, position in enumerate(self.checkpoints.positions().tolist()):
            missing = {ts for ts in self.exists[slot] if self.floor[slot] <= ts <= position} - self.safe[slot]
            assert not missing, (slot, position, missing)

    def teardown(self) -> None:
        """Once all is settled and filled, the checkpoint is at the newest sample."""
        if not self.connected:
            return
        while self.gaps:
            slot, start, end, track, close = self.gaps.pop()
            stamps = sorted(ts for ts in self.exists[slot] if start <= ts <= end)
            self._hand_over(slot, stamps, track)
            track.finish(close)
        while self.under_way:
            slot, stamps, settled = self.under_way.pop()
            self.safe[slot] |= set(stamps)
            settled()
        self.all_before_the_checkpoint_is_safe()
        positions = self.checkpoints.positions().tolist()
        for slot in range(SLOTS):
            if not self.first[slot]:
                assert positions[slot] == self.newest[slot]


TestSettling = Settling.TestCase
TestSettling.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


def test_checkpoints_outlive_the_process_and_are_written_when_they_have_moved(tmp_path: Path) -> None:
    first = Checkpoints(tmp_path)
    slots = first.slots(["a/b", "c"])
    assert first.content() is None
    first.reconnect(slots, NEVER)
    first.closer(slots)()
    first.track.add(slots[:1], np.array([1_750_000_000_000_001]))()
    content = first.content()
    assert content is not None
    assert first.content() is None
    first.write(content)
    again = Checkpoints(tmp_path)
    # a tag that is not asked for keeps its checkpoint
    slots = again.slots(["c", "a/b"])
    assert again.positions()[slots].tolist() == [NEVER, 1_750_000_000_000_001]
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"nodes": 3}', b"\xff"])
def test_a_checkpoint_that_cannot_be_read_is_told_and_none(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "checkpoint.json").write_bytes(content)
    assert len(Checkpoints(tmp_path).positions()) == 0
    assert "cannot be read" in caplog.text
