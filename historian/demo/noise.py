"""Random numbers of the simulated plant."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


class Noise:
    """Standard normal and uniform numbers, drawn in blocks: one by one they would cost more than the physics."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._normal: Iterator[float] = iter(())
        self._uniform: Iterator[float] = iter(())

    def normal(self) -> float:
        for number in self._normal:
            return number
        self._normal = iter(self._rng.standard_normal(4096).tolist())
        return next(self._normal)

    def uniform(self) -> float:
        for number in self._uniform:
            return number
        self._uniform = iter(self._rng.random(4096).tolist())
        return next(self._uniform)

    def happens(self, mean_s: float, dt: float) -> bool:
        """Whether something that comes every `mean_s` seconds on average comes in the next `dt`."""
        return self.uniform() < dt / mean_s
