"""How often somebody may command: token buckets, by who it is."""

from __future__ import annotations

import time
from collections import OrderedDict

from historian.schema.errors import Busy

#: so many seconds' worth may come at once
BURST_S = 5.0
#: whoever was not heard of for longest is forgotten first: their bucket is full again by then, or nearly
_KNOWN = 10_000


class Rate:
    """Each of many may do something `a_second` times a second in the long run."""

    def __init__(self, a_second: float, burst_s: float = BURST_S) -> None:
        self._a_second = a_second
        self._most = max(1.0, a_second * burst_s)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, who: str) -> float:
        """Count one more of this one. Returns 0, or in how many seconds it may be."""
        now = time.monotonic()
        left, at = self._left.pop(who, (self._most, now))
        left = min(self._most, left + (now - at) * self._a_second)
        allowed = left >= 1
        self._left[who] = (left - allowed, now)
        if len(self._left) > _KNOWN:
            self._left.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self._a_second

    def count(self, who: str) -> None:
        """As `take`, but raises Busy."""
        wait = self.take(who)
        if wait:
            raise Busy(
                f"more than {self._a_second:g} commands a second from {who or 'this client'}; this one was not looked at: send fewer",
                retry_after=wait,
            )
