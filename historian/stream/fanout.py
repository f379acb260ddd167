"""Who wants what of a commit: subscriptions by the tags that they have, so that one costs nothing while its tags are silent, and those with the same tags cost one pick.

A plant writes the same tags again and again. Which of its rows go to whom is found out once for each sequence of tag_ids, and remembered until the set of
subscriptions changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from historian.schema.catalogue import Tag
from historian.schema.samples import Int32s, Samples
from historian.stream.coalesce import coalesce
from historian.stream.entry import Entry
from historian.stream.tick import References, Tick

#: a set of more tags is not in the index, but looked at for each new sequence of tag_ids: an index of thousands of broad sets would have millions of places
_INDEXED_TAGS = 256
#: bytes of remembered sequences, with the rows that they have for whom
_REMEMBERED_BYTES = 16 << 20

_Rows = npt.NDArray[np.intp]


class Member(Protocol):
    """A subscription."""

    def offer(self, tick: Tick) -> None:
        """Take what was committed of its tags; must neither block nor raise."""


class Follower(Member, Protocol):
    """A subscription that may come to have more tags."""

    def meet(self, samples: Samples) -> bool:
        """These come, of tags some of which it has not been asked about: it may follow others than before when this returns. False: ask again about these tags."""

    def offer_all(self, entries: Sequence[Entry]) -> None:
        """Take what was committed, whatever it is of; must neither block nor raise."""


class _Group:
    """The subscriptions of one set of tags."""

    __slots__ = ("_wanted", "ids", "key", "members", "references")

    def __init__(self, key: object, ids: npt.NDArray[np.int64]) -> None:
        self.key = key
        self.ids = ids
        self.members: dict[int, Member] = {}
        self.references = References()
        # one look-up a row; the last place stands for all ids beyond
        self._wanted = np.zeros(int(ids.max(initial=0)) + 2, np.bool_)
        self._wanted[ids] = True

    def rows(self, tag_id: Int32s) -> _Rows:
        return np.flatnonzero(self._wanted[np.minimum(tag_id, len(self._wanted) - 1)])


class FanOut:
    """Hands ticks to subscriptions. Belongs to the hub, and to its event loop."""

    def __init__(self) -> None:
        self._groups: dict[object, _Group] = {}
        self._group_of: dict[int, _Group] = {}
        self._by_tag: dict[int, dict[object, _Group]] = {}
        self._broad: dict[object, _Group] = {}
        #: for a sequence of tag_ids, as bytes, the groups that want some, and the rows of each; None: all
        self._remembered: dict[bytes, list[tuple[_Group, _Rows | None]]] = {}
        self._remembered_bytes = 0
        #: those that are asked about tags that come for the first time since one of them was added, and by tag_id which have come
        self._followers: dict[int, Follower] = {}
        self._met = np.zeros(1, np.bool_)
        #: those that are offered everything
        self._all: dict[int, Follower] = {}

    def __len__(self) -> int:
        return len(self._group_of) + len(self._all)

    def add(self, member: Member, tags: Sequence[Tag], *, text: bool | None = None) -> None:
        """From now on it is offered what is committed of these tags; called again for one that is here, of these instead. `text`: whether it has a text column."""
        self.remove(member)
        # of the same path and kind: for JSON, which names them
        key = (text, *((tag.tag_id, tag.path, tag.kind) for tag in tags))
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(key, np.array([tag.tag_id for tag in tags], np.int64))
            for place in self._places(group):
                place[key] = group
            self._forget()
        group.members[id(member)] = member
        self._group_of[id(member)] = group

    def add_follower(self, follower: Follower, tags: Sequence[Tag], *, text: bool | None = None) -> None:
        """As `add`, and it is asked about tags that it does not know."""
        self.add(follower, tags, text=text)
        self._followers[id(follower)] = follower
        self._met = np.zeros(1, np.bool_)

    def add_to_all(self, follower: Follower) -> None:
        """From now on it is offered all that is committed."""
        self.remove(follower)
        self._all[id(follower)] = follower

    def remove(self, member: Member) -> None:
        self._followers.pop(id(member), None)
        self._all.pop(id(member), None)
        group = self._group_of.pop(id(member), None)
        if group is None:
            return
        del group.members[id(member)]
        if group.members:
            return
        del self._groups[group.key]
        for place in self._places(group):
            del place[group.key]
        if len(group.ids) <= _INDEXED_TAGS:
            for tag_id in group.ids.tolist():
                if not self._by_tag[tag_id]:
                    del self._by_tag[tag_id]
        self._forget()

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Offer what these entries bring, one at least of which has samples, to all who want some of it."""
        if not len(self):
            return
        samples = coalesce([entry.notice.samples for entry in entries])
        first_ts, last_ts = int(samples.ts.min()), int(samples.ts.max())
        if self._followers:
            self._meet(samples)
        for group, rows in self._wanting(samples.tag_id):
            tick = Tick(entries, samples if rows is None else samples.take(rows), first_ts, last_ts, group.references)
            for member in tuple(group.members.values()):
                member.offer(tick)
        for follower in tuple(self._all.values()):
            follower.offer_all(entries)

    def _meet(self, samples: Samples) -> None:
        """Ask the followers about tags that come for the first time."""
        strange = ~self._met[np.minimum(samples.tag_id, len(self._met) - 1)]
        if not strange.any():
            return
        samples = samples.take(strange)
        met = [follower.meet(samples) for follower in tuple(self._followers.values())]
        if not all(met):
            return
        highest = int(samples.tag_id.max())
        if highest >= len(self._met) - 1:
            # the last place stands for all ids beyond
            wider = np.zeros(2 * highest + 2, np.bool_)
            wider[: len(self._met)] = self._met
            self._met = wider
        self._met[samples.tag_id] = True

    def _places(self, group: _Group) -> Iterator[dict[object, _Group]]:
        """Where the group is to be found."""
        if len(group.ids) > _INDEXED_TAGS:
            yield self._broad
        else:
            for tag_id in dict.fromkeys(group.ids.tolist()):
                yield self._by_tag.setdefault(tag_id, {})

    def _wanting(self, tag_id: Int32s) -> list[tuple[_Group, _Rows | None]]:
        key = tag_id.tobytes()
        found = self._remembered.get(key)
        if found is not None:
            return found
        groups = dict(self._broad)
        for one in np.unique(tag_id).tolist():
            groups.update(self._by_tag.get(one, {}))
        found = []
        size = len(key)
        for group in groups.values():
            rows = group.rows(tag_id)
            if len(rows) == len(tag_id):
                found.append((group, None))
            elif len(rows):
                found.append((group, rows))
                size += rows.nbytes
        if self._remembered_bytes + size > _REMEMBERED_BYTES:
            self._forget()
        if size <= _REMEMBERED_BYTES:
            self._remembered[key] = found
            self._remembered_bytes += size
        return found

    def _forget(self) -> None:
        self._remembered.clear()
        self._remembered_bytes = 0
