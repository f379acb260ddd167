"""What the producers of the proofs produce: samples whose values follow from their tag and time, so that the database can be compared with all that there should be.

Sample number n of a production is of tag n % TAGS, and STEP_US later than that tag's sample before it. Nothing here needs the historian: producers and tests share it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: 2026-01-01
START_US = 1_767_225_600_000_000
STEP_US = 100_000


def values(tag: Int64s, ts: Int64s) -> Floats:
    """float64[n] of tag numbers and µs: decimals of three places, and every seventh with all its bits in use."""
    mixed = (tag * 7919 + (ts // 1000) * 104_729) % 1_000_003
    return np.where(mixed % 7 == 0, np.sin(mixed.astype(np.float64)), mixed / 1000.0)


@dataclass(frozen=True, slots=True)
class Production:
    """`samples` in all, of `tags` tags named `<prefix>/t000`…; `start_us` is the time of the first."""

    prefix: str
    samples: int
    tags: int = 100
    start_us: int = START_US
    step_us: int = STEP_US

    @property
    def paths(self) -> list[str]:
        return [f"{self.prefix}/t{n:03d}" for n in range(self.tags)]

    def numbers(self, first: int, last: int) -> tuple[Int64s, Int64s, Floats]:
        """Tag numbers, µs and values of samples [first, last)."""
        n = np.arange(first, min(last, self.samples), dtype=np.int64)
        tag = n % self.tags
        ts = self.start_us + n // self.tags * self.step_us
        return tag, ts, values(tag, ts)

    def of_tag(self, tag: int, first: int, last: int) -> tuple[Int64s, Int64s, Floats]:
        """The same of one tag's samples [first, last), counted from 0 for each tag."""
        ts = self.start_us + np.arange(first, last, dtype=np.int64) * self.step_us
        numbers = np.full(len(ts), tag, np.int64)
        return numbers, ts, values(numbers, ts)
