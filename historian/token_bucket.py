"""Token buckets: how often something may be done, in the long run and at once."""

from __future__ import annotations

import time


class TokenBucket:
    """Something may be done `a_second` times a second in the long run, and `burst_s` seconds' worth of it, once at least, at once."""

    __slots__ = ("_a_second", "_at", "_left", "_most")

    def __init__(self, a_second: float, burst_s: float) -> None:
        self._a_second = a_second
        self._most = max(1.0, a_second * burst_s)
        self._left = self._most
        self._at = time.monotonic()

    def take(self) -> float:
        """Count one more. Returns 0, or in how many seconds it may be; then it does not count."""
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._at) * self._a_second)
        self._at = now
        if self._left < 1:
            return (1 - self._left) / self._a_second
        self._left -= 1
        return 0.0
