"""Timestamps written as text, a column at a time: RFC 3339, UTC where there is no offset, or integer microseconds since 1970."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from historian.schema.samples import Bools, Int64s

_UTC = pa.timestamp("us", tz="UTC")

_SHAPE = (
    r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"([Tt ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,18})?)?([Zz]|[+-]([01]\d|2[0-3]):?[0-5]\d)?)?$"
)
_DAYS = np.array([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def parse_stamps(texts: pa.StringArray) -> tuple[Int64s, Bools]:
    """Microseconds since 1970, and which of them are good; a null is not. Digits beyond the microsecond are cut off."""
    if not texts.null_count:
        try:
            # what programs write: one pass
            return _numbers(pc.cast(texts, _UTC)), np.ones(len(texts), np.bool_)
        except pa.ArrowInvalid:
            pass
    stripped = pc.utf8_trim_whitespace(texts)
    integers = _mask(pc.match_substring_regex(stripped, r"^-?\d{1,18}$"))
    shaped = _mask(pc.match_substring_regex(stripped, _SHAPE))
    us = np.zeros(len(texts), np.int64)
    if integers.any():
        us[integers] = pc.cast(stripped.filter(pa.array(integers)), pa.int64()).to_numpy(zero_copy_only=False)
    if shaped.any():
        some = stripped.filter(pa.array(shaped))
        good = _real_days(some)
        some = some.filter(pa.array(good))
        some = pc.replace_substring_regex(some, r"(\.\d{6})\d+", r"\1")
        some = pc.replace_substring_regex(some, r"^(\d{4}-\d\d-\d\d)$", r"\1T00:00Z")
        some = pc.replace_substring_regex(some, r"(:\d\d(?:\.\d+)?)$", r"\1Z")
        # the last rule took the offset of "+01:00" for a time: give it back
        some = pc.replace_substring_regex(some, r"([+-]\d\d:\d\d)Z$", r"\1")
        some = pc.utf8_upper(some)
        shaped[shaped] = good
        us[shaped] = _numbers(pc.cast(some, _UTC))
    return us, integers | shaped


def _real_days(texts: pa.StringArray) -> Bools:
    """Whether the month has the day."""
    year, month, day = (
        pc.cast(pc.utf8_slice_codeunits(texts, start, stop), pa.int64()).to_numpy(zero_copy_only=False)
        for start, stop in ((0, 4), (5, 7), (8, 10))
    )
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    return np.asarray((day <= _DAYS[month]) & ~((month == 2) & (day == 29) & ~leap), np.bool_)


def _numbers(stamps: pa.TimestampArray) -> Int64s:
    return np.asarray(pc.cast(stamps, pa.int64()).to_numpy(zero_copy_only=False))


def _mask(found: pa.BooleanArray) -> Bools:
    return np.asarray(found.fill_null(False).to_numpy(zero_copy_only=False))
