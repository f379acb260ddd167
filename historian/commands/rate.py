"""How often somebody may command: token buckets, by who it is."""

from __future__ import annotations

from collections import OrderedDict

from historian.schema.errors import Busy
from historian.token_bucket import TokenBucket

#: so many seconds' worth may come at once
BURST_S = 5.0
#: whoever was not heard of for longest is forgotten first: their bucket is full again by then, or nearly
_KNOWN = 10_000


class Rate:
    """Each of many may do something `a_second` times a second in the long run."""

    def __init__(self, a_second: float, burst_s: float = BURST_S) -> None:
        self._a_second = a_second
        self._burst_s = burst_s
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, who: str) -> float:
        """Count one more of this one. Returns 0, or in how many seconds it may be."""
        bucket = self._buckets.pop(who, None) or TokenBucket(self._a_second, self._burst_s)
        self._buckets[who] = bucket
        if len(self._buckets) > _KNOWN:
            self._buckets.popitem(last=False)
        return bucket.take()

    def count(self, who: str) -> None:
        """As `take`, but raises Busy."""
        wait = self.take(who)
        if wait:
            raise Busy(
                f"more than {self._a_second:g} commands a second from {who or 'this client'}; this one was not looked at: send fewer",
                retry_after=wait,
            )
