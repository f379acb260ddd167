"""Pauses between tries: longer each time, with jitter, so that a thousand workers do not come back in the same instant."""

from __future__ import annotations

import random


class Backoff:
    """`next()` gives the pause before the next try, in seconds: full jitter below a bound that doubles from `first` to `longest`; `reset()` after a success."""

    def __init__(self, first: float = 0.1, longest: float = 30.0) -> None:
        self._first = first
        self._longest = longest
        self._bound = first

    def next(self) -> float:
        # never under a half: a try at once after a failure rarely helps
        pause = self._bound * random.uniform(0.5, 1.0)
        self._bound = min(self._bound * 2, self._longest)
        return pause

    def reset(self) -> None:
        self._bound = self._first
