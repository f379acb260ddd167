"""The limits of a tag: where its value becomes a warning (low, high) and an alarm (low low, high high)."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

#: kinds whose values have limits
LIMITED = frozenset({"float", "int"})


class Limits(NamedTuple):
    """All are optional, in the unit of the tag, and named as its fields."""

    low_low_limit: float | None = None
    low_limit: float | None = None
    high_limit: float | None = None
    high_high_limit: float | None = None

    def fault(self) -> str | None:
        """What is wrong with them; None if nothing is. Those that are given rise, or are equal."""
        given = [(name.removesuffix("_limit"), limit) for name, limit in zip(LIMITS, self, strict=True) if limit is not None]
        for (below, lower), (above, upper) in pairwise(given):
            if lower > upper:
                return f"{below} {lower:g} is above {above} {upper:g}: limits rise from low_low over low and high to high_high"
        return None


#: the fields of a tag, from the lowest to the highest
LIMITS = Limits._fields
