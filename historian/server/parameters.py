"""Query parameters: known ones only, so that a misspelt one is answered and not passed over."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aiohttp import web

from historian.schema.errors import BadInput


def parameters(request: web.Request, *, one: Sequence[str], many: Sequence[str] = ()) -> dict[str, str]:
    """The parameters that are given once at most. Raises BadInput for one that is not known, or is there twice."""
    found: dict[str, str] = {}
    for name, value in request.query.items():
        if name in many:
            continue
        if name not in one:
            raise BadInput(f"no such parameter: {name[:40]!r}; there are {', '.join([*many, *one])}")
        if name in found:
            raise BadInput(f"{name} is given twice")
        found[name] = value
    return found


def integer(text: str, name: str, lowest: int, highest: int) -> int:
    """A whole number in [lowest, highest]. Raises BadInput."""
    try:
        number = int(text[:20])
    except ValueError:
        number = lowest - 1
    if not lowest <= number <= highest:
        raise BadInput(f"{name} is a whole number from {lowest} to {highest}, not {text[:40]!r}")
    return number


def number(text: str, name: str, lowest: float, highest: float) -> float:
    """A number in [lowest, highest]. Raises BadInput."""
    try:
        found = float(text[:40])
    except ValueError:
        found = math.nan
    if not lowest <= found <= highest:
        raise BadInput(f"{name} is a number from {lowest:g} to {highest:g}, not {text[:40]!r}")
    return found
