"""Parameters of requests, in the address or in a form: known ones only, so that a misspelt one is answered and not passed over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import MultiDict, MultiMapping

from historian.schema.errors import BadInput, UnsupportedMediaType
from historian.server.body import read_body

FORM = "application/x-www-form-urlencoded"
#: of a form: ten thousand tags with long paths
_LONGEST_FORM = 4 << 20
_MOST_FIELDS = 200_000


async def given_in(request: web.Request) -> MultiMapping[str]:
    """What a GET has in its address, or a POST in its form: an address with thousands of tags would be too long.

    Raises BadInput, TooLarge, UnsupportedMediaType, Busy.
    """
    if request.method != "POST":
        return request.query
    if request.content_type != FORM:
        raise UnsupportedMediaType(f"content type {request.content_type[:80]!r}; the parameters of a POST come as {FORM}")
    if request.query:
        raise BadInput("parameters in the address of a POST; all of them belong into its form")
    async with read_body(request, _LONGEST_FORM) as body:
        try:
            text = body.decode("ascii")
            return MultiDict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS))
        except ValueError as error:
            raise BadInput(f"the form cannot be read: {error}") from None


def parameters(given: MultiMapping[str], *, one: Sequence[str], many: Sequence[str] = ()) -> dict[str, str]:
    """The parameters that are given once at most. Raises BadInput for one that is not known, or is there twice."""
    found: dict[str, str] = {}
    for name, value in given.items():
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
