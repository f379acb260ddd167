"""The decimal form of a value: an int8 mantissa and a power of ten, wherever `mantissa / 10**scale` gives the same float64 back.

Sensors and PLCs send decimals, and the columnstore keeps a walk of small integers in a sixth of what it needs for float64.
Dividing is exact: both operands are exact in binary (|mantissa| < 2**53, 10**scale <= 10**22), so IEEE 754 rounds the quotient to the float64
nearest to the decimal, which is what reading that decimal gives. Multiplying by 0.01 is not: it rebuilds only 84 % of 2-decimal values.
"""

from __future__ import annotations

import numpy as np

from historian.schema.samples import Bools, Floats, Int16s, Int32s, Int64s

#: finer decimals than this stay floats: they are noise, and their mantissas compress no better than the float
MAX_SCALE = 12
POWERS: Floats = np.array([float(10**n) for n in range(23)])
#: |mantissa| stays below 2**53, so that it is exact as a float64
_LIMIT = float(2**53)


def decimal_scales(value: Floats) -> Int16s:
    """The smallest scale that rebuilds each value bit by bit; -1 where none does (NaN, -0.0, noisy floats)."""
    scales = np.full(len(value), -1, np.int16)
    pending = np.flatnonzero(np.isfinite(value) & ~((value == 0) & np.signbit(value)))
    left = value[pending]
    for scale in range(MAX_SCALE + 1):
        if not len(pending):
            break
        with np.errstate(over="ignore"):
            mantissa = np.rint(left * POWERS[scale])
        fits = (mantissa / POWERS[scale] == left) & (np.abs(mantissa) < _LIMIT)
        scales[pending[fits]] = scale
        pending, left = pending[~fits], left[~fits]
    return scales


class DecimalForm:
    """Chooses one scale per tag and batch, and remembers it, since a tag's resolution seldom changes.

    A remembered scale only grows: a constant scale compresses best, and a coarser value fits a finer scale.
    Not safe for use by several threads at once.
    """

    def __init__(self) -> None:
        self._scale: Int16s = np.zeros(1024, np.int16)

    def encode(self, tag_id: Int32s, value: Floats) -> tuple[Bools, Int16s, Int64s]:
        """(is_decimal bool[n], scale int16[n], mantissa int64[n]) of rows that are sorted by tag_id; scale and mantissa are 0 where not decimal."""
        n = len(tag_id)
        if not n:
            return np.zeros(0, np.bool_), np.zeros(0, np.int16), np.zeros(0, np.int64)
        starts = np.flatnonzero(np.concatenate(([True], tag_id[1:] != tag_id[:-1])))
        tags = tag_id[starts]
        highest = int(tags[-1])
        if highest >= len(self._scale):
            self._scale = np.concatenate((self._scale, np.zeros(highest + 1024 - len(self._scale), np.int16)))
        lengths = np.diff(np.append(starts, n))
        scale = np.repeat(self._scale[tags], lengths)
        finite = np.isfinite(value) & ~((value == 0) & np.signbit(value))
        with np.errstate(over="ignore", invalid="ignore"):
            mantissa = np.rint(value * POWERS[scale])
            fits = finite & (mantissa / POWERS[scale] == value) & (np.abs(mantissa) < _LIMIT)
        misfit = np.flatnonzero(finite & ~fits)
        if len(misfit):
            # raise the scale of the tags that need it, then those that fit at the new one are decimal too
            wanted = decimal_scales(value[misfit])
            raised = self._scale.copy()
            np.maximum.at(raised, tag_id[misfit], wanted)
            self._scale = raised
            scale = np.repeat(self._scale[tags], lengths)
            with np.errstate(over="ignore", invalid="ignore"):
                mantissa = np.rint(value * POWERS[scale])
                fits = finite & (mantissa / POWERS[scale] == value) & (np.abs(mantissa) < _LIMIT)
            # a value that fits its own small scale but overflows the tag's grown one
            late = misfit[(wanted >= 0) & ~fits[misfit]]
            own = wanted[(wanted >= 0) & ~fits[misfit]]
            scale[late] = own
            mantissa[late] = np.rint(value[late] * POWERS[own])
            fits[late] = True
        return fits, np.where(fits, scale, 0).astype(np.int16), np.where(fits, mantissa, 0.0).astype(np.int64)


def decode(mantissa: Int64s, scale: Int16s) -> Floats:
    """The float64 values of decimals."""
    result: Floats = mantissa / POWERS[scale]
    return result
