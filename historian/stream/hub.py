"""The live bus inside one process: takes notices of commits from writers and from the ledger sweep, and hands each on once, in one order.

Promise. Every transaction that commits while the hub is open is handed to every subscriber attached at that time, once. Of two transactions that
wrote the same (tag, ts), what arrives last at a subscriber is what the later one wrote.

How. `position` orders the commits of any tag (the writer draws it under the tags' locks). A notice that arrives behind one with a higher position is
freed of the samples that the other has overwritten: they are history that no longer stands.

Subscriptions are offered what comes of their tags, all who have the same tags the same `Tick` (fanout.py).

The hub belongs to one event loop; `publish` is called in it and never blocks. Who stops: first the writers, then the sweep, then the hub.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from historian.schema.catalogue import Tag
from historian.schema.ledger import Notice
from historian.schema.samples import Bools, Samples
from historian.stream.entry import Entry
from historian.stream.fanout import FanOut, Follower, Member

__all__ = ["FIRST_CURSORS", "Entry", "Hub", "HubCounts", "Subscriber"]

#: Each hub counts its cursors from a place that it draws by lot, so that none takes a cursor of another for its own: of another worker or server, or of its former
#: life. It would skip samples silently. What it retains is at most some 2**20 places of 2**52. No clock can promise as much: hubs start in the same instant, and one that
#: hands on many notices overtakes the clock. Twice as far, cursors are still exact in JavaScript.
FIRST_CURSORS = 2**52

#: commits that come closer than this together go to subscriptions together: their work is bounded, however many and small the commits are
_PACE_S = 0.010
#: of more samples than this there is no need to wait for others
_MANY_ROWS = 1 << 16


class Subscriber(Protocol):
    """Who is attached to the hub for all that is committed."""

    def offer(self, entry: Entry) -> None:
        """Take what was committed; must neither block nor raise."""


@dataclass(slots=True)
class HubCounts:
    """What went over the bus since it was made."""

    notices: int = 0
    samples: int = 0
    repeated: int = 0
    reordered: int = 0


class Hub:
    """Hands each notice to all subscribers, and retains the last ones for streams that resume.

    `retain_bytes` bounds what is retained, beyond a floor of `MIN_RETAINED` notices, or of `MIN_RETAINED_BYTES` if they are large: by what is retained, late
    notices are put in order, and no writer is behind others by as much as that.
    """

    MIN_RETAINED = 64
    MIN_RETAINED_BYTES = 32 << 20

    def __init__(self, *, retain_bytes: int = 32 << 20) -> None:
        self._subscribers: dict[int, Subscriber] = {}
        self._fan_out = FanOut()
        #: for those that follow tags; in order, and all that has not been delivered
        self._pending: list[Entry] = []
        self._pending_rows = 0
        self._delivered_at = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._retained: deque[Entry] = deque()
        self._retained_bytes = 0
        self._retain_bytes = retain_bytes
        self._highest = -1
        #: xids handed on, as far as they are not below the watermark
        self._passed: set[int] = set()
        self._watermark = 0
        self._cursor = 1 + secrets.randbelow(FIRST_CURSORS)
        self._forgotten = self._cursor
        self.counts = HubCounts()

    @property
    def cursor(self) -> int:
        """The place of the newest notice."""
        return self._cursor

    @property
    def watermark(self) -> int:
        """Every transaction below this xid has been handed on, or never will be."""
        return self._watermark

    @property
    def retained_bytes(self) -> int:
        return self._retained_bytes

    def __len__(self) -> int:
        return len(self._subscribers) + len(self._fan_out)

    def follow(self, member: Member, tags: Sequence[Tag], *, text: bool | None = None) -> None:
        """Offer it what is published of these tags from now on; of these instead, if it follows others. `unfollow` ends it.

        `text`: whether its samples have a text column; None: as the tags have it.
        """
        self.deliver()
        self._fan_out.add(member, tags, text=text)

    def follow_with_new(self, follower: Follower, tags: Sequence[Tag], *, text: bool | None = None) -> None:
        """As `follow`; before samples of tags come that it may not know, it is asked about these."""
        self.deliver()
        self._fan_out.add_follower(follower, tags, text=text)

    def follow_all(self, follower: Follower) -> None:
        """Offer it all that is published from now on, instead of what it follows."""
        self.deliver()
        self._fan_out.add_to_all(follower)

    def unfollow(self, member: Member) -> None:
        self._fan_out.remove(member)

    def attach(self, subscriber: Subscriber) -> None:
        self._subscribers[id(subscriber)] = subscriber

    def detach(self, subscriber: Subscriber) -> None:
        self._subscribers.pop(id(subscriber), None)

    def has_passed(self, xid: int) -> bool:
        """Whether the transaction need not, or must not, be handed on any more."""
        return xid < self._watermark or xid in self._passed

    def raise_watermark(self, xmin: int) -> None:
        """Say that everything committed below xmin has been handed on: the sweep knows."""
        if xmin > self._watermark:
            self._watermark = xmin
            self._passed = {xid for xid in self._passed if xid >= xmin}

    def publish(self, notice: Notice) -> None:
        """Hand on what a transaction committed, unless that has been done."""
        if self.has_passed(notice.xid):
            self.counts.repeated += 1
            return
        self._passed.add(notice.xid)
        if notice.position < self._highest:
            notice = self._without_overwritten(notice)
        self._highest = max(self._highest, notice.position)
        self._cursor += 1
        entry = Entry(self._cursor, notice)
        self.counts.notices += 1
        self.counts.samples += len(notice.samples)
        self._retain(entry)
        for subscriber in list(self._subscribers.values()):
            subscriber.offer(entry)
        self._hand_on(entry)

    def deliver(self) -> None:
        """Offer all that has been published to those that follow tags, now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        entries, self._pending, self._pending_rows = self._pending, [], 0
        if entries:
            self._delivered_at = time.monotonic()
            self._fan_out.deliver(entries)

    def _hand_on(self, entry: Entry) -> None:
        if not len(self._fan_out) or not len(entry.notice.samples):
            return
        self._pending.append(entry)
        self._pending_rows += len(entry.notice.samples)
        wait = self._delivered_at + _PACE_S - time.monotonic()
        if wait <= 0 or self._pending_rows > _MANY_ROWS:
            self.deliver()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait, self.deliver)

    def since(self, cursor: int) -> Iterable[Entry] | None:
        """The entries behind a cursor, or None if not all of them are retained, or the cursor is none of this hub's."""
        if not self._forgotten <= cursor <= self._cursor:
            return None
        return [entry for entry in self._retained if entry.cursor > cursor]

    def _retain(self, entry: Entry) -> None:
        self._retained.append(entry)
        self._retained_bytes += entry.notice.samples.nbytes
        most = max(self._retain_bytes, self.MIN_RETAINED_BYTES)
        while self._retained_bytes > self._retain_bytes and (len(self._retained) > self.MIN_RETAINED or self._retained_bytes > most):
            gone = self._retained.popleft()
            self._retained_bytes -= gone.notice.samples.nbytes
            self._forgotten = gone.cursor

    def _without_overwritten(self, notice: Notice) -> Notice:
        """The notice less what later transactions, handed on already, wrote at the same (tag, ts).

        Those that could have are still retained: the sweep hands a commit on within about a second.
        """
        self.counts.reordered += 1
        keep = np.ones(len(notice.samples), np.bool_)
        for entry in self._retained:
            if entry.notice.position > notice.position:
                keep &= ~_standing_in(notice.samples, entry.notice.samples)
        return notice if keep.all() else Notice(notice.xid, notice.position, notice.samples.take(keep))


def _standing_in(samples: Samples, other: Samples) -> Bools:
    """Which rows have a (tag_id, ts) that the other has too; both are sorted by it."""
    found = np.zeros(len(samples), np.bool_)
    common = np.intersect1d(samples.tag_id, other.tag_id)
    for tag_id in common.tolist():
        mine = slice(*np.searchsorted(samples.tag_id, [tag_id, tag_id + 1]))
        theirs = slice(*np.searchsorted(other.tag_id, [tag_id, tag_id + 1]))
        found[mine] = np.isin(samples.ts[mine], other.ts[theirs], assume_unique=True)
    return found
