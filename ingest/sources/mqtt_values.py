"""Values, times and qualities as JSON payloads have them: one at a time for messages of few samples, a column at a time for arrays.

Nothing here raises for what a payload says: each function gives the faults beside the good values, in words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from historian.ingest.decode.checks import EARLIEST_US, LATEST_US
from historian.ingest.decode.limits import DecodeLimits
from historian.ingest.sources.topics import MISSING, TopicRule, Unit
from historian.schema.samples import BAD, GOOD, MAX_QUALITY, UNCERTAIN, Floats, Int16s, Int64s

#: number (NaN if none) and text (None if none)
Value = tuple[float, str | None]

MAX_TEXT = DecodeLimits().max_text
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
_NAN = math.nan
_PER_UNIT = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
_TRUE = frozenset({"true", "on", "yes"})
_FALSE = frozenset({"false", "off", "no"})
#: times 2^43: below it, an integer of the unit becomes µs without overflow
_SAFE = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000}
_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]*)?")
_NUMERIC = frozenset({"float", "int", "bool", "digital"})


class Fault(Exception):
    """Why one value is none. Never leaves the decoder."""


def value_of(rule: TopicRule, raw: Any) -> Value:
    """One sample's value. null is NaN, true 1, false 0. Raises Fault."""
    if raw is True or raw is False:
        return (float(raw), None) if rule.kind != "text" else (_NAN, str(raw).lower())
    if isinstance(raw, float | int):
        try:
            number = float(raw)
        except OverflowError:
            number = math.inf
        if math.isinf(number):
            raise Fault("is infinite; no sample can be")
        return (number, None) if rule.kind != "text" or number != number else (_NAN, str(raw))
    if raw is None:
        return _NAN, None
    if isinstance(raw, str):
        return _text_of(rule, raw)
    if raw is MISSING:
        raise Fault("is not in the payload")
    raise Fault("is an object or an array, not a value")


def _text_of(rule: TopicRule, raw: str) -> Value:
    if rule.kind in _NUMERIC:
        if raw in rule.codes:
            return rule.codes[raw], None
        word = raw.strip().lower()
        if rule.kind == "bool" and (word in _TRUE or word in _FALSE):
            return float(word in _TRUE), None
        try:
            number = float(word)
        except ValueError:
            raise Fault(f"is {raw[:80]!r}, and the rule says kind {rule.kind}") from None
        if math.isinf(number):
            raise Fault("is infinite; no sample can be")
        return number, None
    if "\x00" in raw:
        raise Fault("has a NUL character, which the database cannot keep")
    if len(raw) > MAX_TEXT // 4:
        size = len(raw.encode(errors="replace"))
        if size > MAX_TEXT:
            raise Fault(f"is text of {size} bytes; at most {MAX_TEXT}")
    if not raw.isascii():
        try:
            raw.encode()
        except UnicodeEncodeError:
            raise Fault("is text that has no UTF-8 form") from None
    return _NAN, raw


def values_of(rule: TopicRule, raw: Sequence[Any]) -> tuple[Floats, list[str | None] | None, dict[int, str]]:
    """A column of values: numbers, texts (None if there are none), and faults by row."""
    kinds = set(map(type, raw))
    if rule.kind != "text" and kinds <= {float, int, bool, type(None)}:
        try:
            number = np.array(raw, np.float64)
        except OverflowError:
            number = None
        if number is not None and not np.isinf(number).any():
            return number, None, {}
    numbers = np.full(len(raw), _NAN)
    texts: list[str | None] = [None] * len(raw)
    faults: dict[int, str] = {}
    for n, one in enumerate(raw):
        try:
            numbers[n], texts[n] = value_of(rule, one)
        except Fault as fault:
            faults[n] = str(fault)
    return numbers, texts if any(text is not None for text in texts) else None, faults


def time_of(raw: Any, unit: Unit) -> int:
    """Microseconds since 1970. Raises Fault."""
    if isinstance(raw, str):
        us = _time_in_text(raw, unit)
    elif isinstance(raw, bool) or not isinstance(raw, int | float):
        raise Fault("is not in the payload" if raw is MISSING else f"is no time: {type(raw).__name__}")
    elif unit == "iso":
        raise Fault("is a number, and the rule says iso")
    elif isinstance(raw, float):
        us = _time_in_float(raw, unit)
    else:
        us = _time_in_int(raw, unit)
    if not EARLIEST_US <= us < LATEST_US:
        raise Fault(f"{str(raw)[:40]} lies outside 1970 to 2100")
    return us


def _time_in_int(raw: int, unit: Unit) -> int:
    if unit == "auto":
        unit = _magnitude(raw)
    return raw * 1_000_000 if unit == "s" else raw * 1000 if unit == "ms" else raw if unit == "us" else raw // 1000


def _time_in_float(raw: float, unit: Unit) -> int:
    if not math.isfinite(raw):
        raise Fault(f"{raw} is no time")
    return round(raw * _PER_UNIT[_magnitude(raw) if unit == "auto" else unit])


def _time_in_text(raw: str, unit: Unit) -> int:
    text = raw.strip()[:64]
    try:
        if unit != "iso" and _NUMBER.fullmatch(text):
            return _time_in_float(float(text), unit) if "." in text else _time_in_int(int(text), unit)
        moment = datetime.fromisoformat(text)
        # what has no offset is UTC
        return ((moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)) - _EPOCH) // _US
    except (ValueError, OverflowError):
        raise Fault(f"{raw[:40]!r} is no time; one looks like 2026-01-01T12:00:00.5Z") from None


def _magnitude(number: float) -> Unit:
    """The unit in which a number is a time of this age: they are a thousand apart, and 1973 to 5138 is clear in each."""
    number = abs(number)
    return "s" if number < 1e11 else "ms" if number < 1e14 else "us" if number < 1e17 else "ns"


def times_of(raw: Sequence[Any], unit: Unit) -> tuple[Int64s, dict[int, str]]:
    """A column of times, µs since 1970, and faults by row."""
    kinds = set(map(type, raw))
    us: Int64s | None = None
    if kinds == {int} and unit != "iso":
        try:
            numbers = np.array(raw, np.int64)
        except OverflowError:
            numbers = None
        if numbers is not None:
            least, most = int(numbers.min()), int(numbers.max())
            exact = unit if unit != "auto" else _magnitude(most)
            # others are looked at one by one: mixed units, before 1970, or so far off that they overflow
            if least >= 0 and most < 2**43 * _SAFE[exact] and (unit != "auto" or _magnitude(least) == exact):
                us = numbers // 1000 if exact == "ns" else numbers * {"s": 1_000_000, "ms": 1000, "us": 1}[exact]
    elif kinds == {str}:
        try:
            us = pa.array(raw, pa.string()).cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy(zero_copy_only=False)
        except (pa.ArrowInvalid, UnicodeEncodeError):
            us = None
    if us is not None and int(us.min()) >= EARLIEST_US and int(us.max()) < LATEST_US:
        return us, {}
    us = np.zeros(len(raw), np.int64)
    faults: dict[int, str] = {}
    for n, one in enumerate(raw):
        try:
            us[n] = time_of(one, unit)
        except Fault as fault:
            faults[n] = str(fault)
    return us, faults


def quality_of(rule: TopicRule, raw: Any, empty: bool) -> int:
    """0 to 255. A sample without a value is bad whatever it claims. Raises Fault."""
    if raw is None or raw is MISSING:
        return BAD if empty else GOOD
    if isinstance(raw, bool):
        quality = rule.quality_map.get(str(raw).lower(), GOOD if raw else BAD)
    elif isinstance(raw, int | float):
        if isinstance(raw, float) and not raw.is_integer():
            raise Fault(f"is {raw}; a quality is a whole number, 0 to {MAX_QUALITY}")
        quality = rule.quality_map.get(str(int(raw)), int(raw))
    elif isinstance(raw, str):
        known = rule.quality_words.get(raw.lower())
        if known is None:
            if not (raw.isascii() and raw.isdecimal() and len(raw) <= 3):
                raise Fault(f"is {raw[:40]!r}, which quality_map does not have")
            known = int(raw)
        quality = known
    else:
        raise Fault("is an object or an array, not a quality")
    if not 0 <= quality <= MAX_QUALITY:
        raise Fault(f"is {quality}; a quality is 0 to {MAX_QUALITY}")
    return BAD if empty and quality >= UNCERTAIN else quality


def qualities_of(rule: TopicRule, raw: Sequence[Any] | None, empty: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[Int16s, dict[int, str]]:
    """A column of qualities, and faults by row; None if the rows have none of their own."""
    if raw is None:
        return np.where(empty, BAD, GOOD).astype(np.int16), {}
    faults: dict[int, str] = {}
    quality = np.zeros(len(raw), np.int16)
    # a handful of different ones, whatever the length
    known: dict[tuple[type, Any, bool], int] = {}
    for n, (one, nothing) in enumerate(zip(raw, empty.tolist(), strict=True)):
        try:
            key = (type(one), one if not isinstance(one, dict | list) else None, nothing)
            if key not in known:
                known[key] = quality_of(rule, one, nothing)
            quality[n] = known[key]
        except Fault as fault:
            faults[n] = str(fault)
    return quality, faults
