"""Which values a command may write to a tag: of its kind, in its range, one of its states."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from historian.schema.catalogue import Tag
from historian.schema.errors import BadInput
from historian.schema.samples import MAX_INT

MAX_TEXT_BYTES = 4096


class ValueRefused(BadInput):
    """The tag does not take this value."""

    problem = "value-refused"
    title = "Value refused"
    status = 422


@dataclass(frozen=True, slots=True)
class Checked:
    """A value as the tag has it: `number` and `text` as a sample's columns, `plain` as JSON."""

    number: float
    text: str | None
    plain: bool | int | float | str


def check_value(tag: Tag, value: Any) -> Checked:
    """The value for the tag. Of a digital tag a code or the name of a state, of a tag of kind bool also 0 and 1. Raises ValueRefused, which says what it takes."""
    if tag.kind == "text":
        return _text(tag, value)
    if tag.kind == "bool":
        if not isinstance(value, bool) and not (isinstance(value, int | float) and value in (0, 1)):
            raise ValueRefused(f"tag {tag.path!r} is of kind bool: it takes true or false, not {_shown(value)}")
        return Checked(float(value), None, bool(value))
    if tag.kind == "digital":
        return _digital(tag, value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueRefused(f"tag {tag.path!r} is of kind {tag.kind}: it takes a number, not {_shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueRefused(f"tag {tag.path!r} takes finite numbers, not {_shown(value)}")
    if tag.kind == "int" and (number != int(number) or abs(number) > MAX_INT):
        raise ValueRefused(f"tag {tag.path!r} is of kind int: it takes whole numbers within ±2^53, not {_shown(value)}")
    if (tag.low is not None and number < tag.low) or (tag.high is not None and number > tag.high):
        low, high = ("…" if end is None else f"{end:g}" for end in (tag.low, tag.high))
        raise ValueRefused(f"{_shown(value)} lies outside the range of tag {tag.path!r}, which is {low} to {high}{_unit(tag)}")
    return Checked(number, None, int(number) if tag.kind == "int" else number)


def _digital(tag: Tag, value: Any) -> Checked:
    code = tag.state_code(value) if isinstance(value, str) else value
    if isinstance(code, float) and code.is_integer():
        code = int(code)
    if not isinstance(code, int) or isinstance(code, bool) or abs(code) >= 2**31 or (tag.states and str(code) not in tag.states):
        known = ", ".join(f"{code} {name}" for code, name in list((tag.states or {}).items())[:20])
        raise ValueRefused(
            f"{_shown(value)} is no state of tag {tag.path!r}; "
            + (f"its states are {known}{', …' if len(tag.states or {}) > 20 else ''}" if known else "it takes a code, a whole number")
        )
    return Checked(float(code), None, code)


def _text(tag: Tag, value: Any) -> Checked:
    if not isinstance(value, str):
        raise ValueRefused(f"tag {tag.path!r} is of kind text: it takes text, not {_shown(value)}")
    size = len(value.encode("utf-8", "replace"))
    if size > MAX_TEXT_BYTES or "\x00" in value:
        raise ValueRefused(f"a text that is written has at most {MAX_TEXT_BYTES} bytes and no NUL; this one has {size} bytes")
    return Checked(math.nan, value, value)


def _unit(tag: Tag) -> str:
    return f" {tag.unit}" if tag.unit else ""


def _shown(value: Any) -> str:
    return {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else repr(value)[:60]
