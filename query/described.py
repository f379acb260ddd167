"""How the tags of a result are described: by what a mode made of their values, not by what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from historian.query.range_query import Bounds, Mode
from historian.schema.catalogue import Kind, Tag
from historian.schema.limits import Limits

#: modes whose rows are of a state each, named by their text
WITH_STATES: frozenset[Mode] = frozenset({"duration", "transitions"})

# the values are the tag's own, or between them
_FRACTIONS: frozenset[Mode] = frozenset({"avg", "twa"})
# as great as what they are made of, but in no range of the tag's
_AMOUNTS: frozenset[Mode] = frozenset({"sum", "range", "delta", "total", "stddev"})


def described(tags: Sequence[Tag], mode: Mode, bounds: Bounds = "inside") -> tuple[Tag, ...]:
    """The tags with the kind, the unit, the range and the limits of what `mode` gives of them.

    Averages are floats, whatever was measured, and so is what lies on the line between two integers; counts are of kind int and have no
    unit; an integral is in unit·s, a duration in s, `percent_good` in %.
    """
    between = mode in ("at", "interpolated") or (mode == "raw" and bounds == "interpolated")
    return tuple(_between(tag) if between else _described(tag, mode) for tag in tags)


def _between(tag: Tag) -> Tag:
    return replace(tag, kind="float") if tag.kind == "int" and not tag.step else tag


def _described(tag: Tag, mode: Mode) -> Tag:
    if mode in _FRACTIONS:
        return _number(tag, "float", tag.unit, ranged=True)
    if mode in _AMOUNTS:
        return _number(tag, "int" if tag.kind in ("int", "bool") and mode != "stddev" else "float", tag.unit)
    match mode:
        case "count" | "transitions":
            return _number(tag, "int", None)
        case "percent_good":
            return replace(_number(tag, "float", "%"), low=0.0, high=100.0)
        case "integral":
            return _number(tag, "float", f"{tag.unit}·s" if tag.unit else "s")
        case "duration":
            return _number(tag, "float", "s")
        case _:
            return tag


def _number(tag: Tag, kind: Kind, unit: str | None, *, ranged: bool = False) -> Tag:
    described = replace(tag, kind=kind, unit=unit, step=False, states=None)
    return described if ranged else replace(described, low=None, high=None, **Limits()._asdict())
