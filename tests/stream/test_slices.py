"""Where what follows a position may be cut: the parts hold each transaction once, and none comes before one that its tags' later commits depend on."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from historian.schema.cursors import Following
from historian.schema.visibility import VisibilitySnapshot
from historian.stream import slices
from historian.stream.slices import cuts


@st.composite
def snapshots(draw: st.DrawFn) -> tuple[VisibilitySnapshot, VisibilitySnapshot]:
    """An older and a newer snapshot of one database: what one has finished, the other has too."""
    first, second = draw(st.integers(5, 30)), draw(st.integers(0, 30))
    old_running = draw(st.sets(st.integers(1, first - 1)))
    still = {xid for xid in old_running if draw(st.booleans())}
    started = draw(st.sets(st.integers(first, first + second)))
    new_running = {xid for xid in still | started if xid < first + second}
    return snapshot(first, old_running), snapshot(first + second, new_running)


def snapshot(xmax: int, running: set[int]) -> VisibilitySnapshot:
    return VisibilitySnapshot(min(running, default=xmax), xmax, frozenset(running))


@given(snapshots(), st.integers(1, 70))
def test_a_place_on_the_way_has_what_is_below_it_and_no_more(pair: tuple[VisibilitySnapshot, VisibilitySnapshot], xid: int) -> None:
    old, new = pair
    assert new.covers(old)
    between = old.up_to(xid, new)
    assert VisibilitySnapshot.parse(str(between)) == between
    assert between.covers(old)
    assert new.covers(between)
    for each in range(1, 80):
        assert between.sees(each) == (old.sees(each) or (new.sees(each) and each < xid)), each


@given(snapshots())
def test_covers_is_what_it_says(pair: tuple[VisibilitySnapshot, VisibilitySnapshot]) -> None:
    old, new = pair
    assert old.covers(new) == (old.xmax >= new.xmax and all(old.sees(xid) for xid in range(1, 80) if new.sees(xid)))


@given(st.permutations(range(12)), st.booleans())
def test_behind_a_cut_all_positions_are_higher(positions: list[int], whole: bool) -> None:
    found = [Following(xid, position, 1) for xid, position in enumerate(positions)]
    ends = cuts(found, whole=whole)
    for end in range(1, len(found) + 1):
        safe = max(positions[:end]) < min(positions[end:], default=99)
        assert (end in ends) == (safe and whole), end


def test_what_has_not_been_looked_at_is_left_room_for() -> None:
    found = [Following(xid, xid, 1) for xid in range(slices.LOOKED_AT)]
    assert max(cuts(found, whole=False)) == slices.LOOKED_AT - slices.AHEAD
    # one that took long has a low xid and a high position
    chance = random.Random(3)
    late = [Following(each.xid, each.position + (slices.LOOKED_AT if each.xid == 100 else 0), chance.randrange(9)) for each in found]
    assert max(cuts(late, whole=False)) == 100
