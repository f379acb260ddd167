"""Cells of text as values, a column at a time: which of them are numbers, true or false, text, or nothing at all.

Nothing is an empty cell, `nan`, `null`, and the words that the user adds. Numbers come out as the float64 that is nearest to what is written, as Python's `float` does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from historian.schema.samples import Bools

Forms = npt.NDArray[np.uint8]

# what a cell can be; a column is the sum of its cells
NOTHING = 1
INTEGER = 2
POINT = 4  # 1.5
COMMA = 8  # 1,5
BOOL = 16
TEXT = 32
INFINITE = 64
NUMBER = INTEGER | POINT | COMMA
ALL_FORMS = (NOTHING, INTEGER, POINT, COMMA, BOOL, TEXT, INFINITE)

_INTEGER = r"^[+-]?\d+([eE][+-]?\d+)?$"
_POINT = r"^[+-]?(\d+\.\d*|\.\d+)([eE][+-]?\d+)?$"
_COMMA = r"^[+-]?(\d+,\d*|,\d+)([eE][+-]?\d+)?$"
_INFINITY = r"^[+-]?(?i:inf|infinity)$"
_BOOL = r"^(?i:true|false)$"
_NOTHING = ("", "nan", "-nan", "+nan", "null")


class Cells:
    """Reads the cells of one file. `decimal` is "." or ","."""

    def __init__(self, nulls: Sequence[str], decimal: str = ".") -> None:
        self.decimal = decimal
        self._nulls = pa.array([*_NOTHING, *(word.strip().lower() for word in nulls)], pa.string())

    def forms(self, cells: pa.StringArray) -> Forms:
        """What each cell is; a comma in a number is told from a point, whatever `decimal` says."""
        quick = _cast(cells)
        if quick is not None:
            number = quick.fill_null(float("nan")).to_numpy(zero_copy_only=False)
            any_point = pc.any(pc.match_substring(cells, "."), min_count=0).as_py()
            forms = np.full(len(cells), POINT if any_point else INTEGER, np.uint8)
            forms[np.isnan(number)] = NOTHING
            forms[np.isinf(number)] = INFINITE
            return forms
        trimmed = pc.utf8_trim_whitespace(cells)
        forms = np.full(len(cells), TEXT, np.uint8)
        for form, pattern in ((COMMA, _COMMA), (POINT, _POINT), (INTEGER, _INTEGER), (INFINITE, _INFINITY), (BOOL, _BOOL)):
            forms[_mask(pc.match_substring_regex(trimmed, pattern))] = form
        forms[self._is_nothing(cells, trimmed)] = NOTHING
        written = np.flatnonzero(forms & NUMBER)
        if len(written):
            # 1e400
            texts = pc.replace_substring(_plain(trimmed.take(pa.array(written))), ",", ".")
            forms[written[np.isinf(pc.cast(texts, pa.float64()).to_numpy(zero_copy_only=False))]] = INFINITE
        return forms

    def numbers(self, cells: pa.StringArray) -> pa.DoubleArray:
        """float64, null for no value, of cells that are numbers or nothing."""
        quick = _cast(cells)
        if quick is None:
            trimmed = pc.utf8_trim_whitespace(cells)
            nothing = pa.array(self._is_nothing(cells, trimmed))
            if self.decimal == ",":
                trimmed = pc.replace_substring(trimmed, ",", ".")
            quick = pc.cast(_plain(pc.if_else(nothing, pa.scalar(None, pa.string()), trimmed)), pa.float64())
        return pc.if_else(pc.is_nan(quick), pa.scalar(None, pa.float64()), quick)

    def bools(self, cells: pa.StringArray) -> pa.BooleanArray:
        """Null for no value, of cells that are true, false or nothing."""
        trimmed = pc.utf8_trim_whitespace(cells)
        nothing = pa.array(self._is_nothing(cells, trimmed))
        return pc.if_else(nothing, pa.scalar(None, pa.bool_()), pc.match_substring_regex(trimmed, "^[tT]"))

    def texts(self, cells: pa.StringArray) -> pa.StringArray:
        """The cells as they stand, null for no value."""
        nothing = pa.array(self._is_nothing(cells, pc.utf8_trim_whitespace(cells)))
        return pc.if_else(nothing, pa.scalar(None, pa.string()), cells)

    def _is_nothing(self, cells: pa.StringArray, trimmed: pa.StringArray) -> Bools:
        missing = _mask(pc.is_null(cells))
        return missing | _mask(pc.is_in(pc.utf8_lower(trimmed), value_set=self._nulls))


def _cast(cells: pa.StringArray) -> pa.DoubleArray | None:
    """As float64 if every cell that is not null is one, written plainly."""
    try:
        return pc.cast(cells, pa.float64())
    except pa.ArrowInvalid:
        return None


def _plain(texts: pa.StringArray) -> pa.StringArray:
    """Without a leading +, which Arrow does not read."""
    return pc.utf8_ltrim(texts, "+")


def _mask(found: pa.BooleanArray) -> Bools:
    return np.asarray(found.fill_null(False).to_numpy(zero_copy_only=False))
