"""What an expression can do: operators and functions, on Arrow columns in which null is a value that is not known.

Null in, null out, unless a function says otherwise. What is no finite number, as of a division by zero, is null too: never an error, and never an infinity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from historian.query.expressions.tree import Use
from historian.schema.samples import Int16s

#: a pa.Array or, of a constant, a pa.Scalar; pyarrow has no types to say so
Values: TypeAlias = Any
Compute = Callable[..., Values]

_NULL = pa.scalar(None, pa.float64())

#: functions of a tag, and how the tag stands in them
USES: Mapping[str, Use] = {"last": "last", "interp": "interp", "good": "good", "quality": "quality"}


@dataclass(frozen=True, slots=True)
class Column:
    """`value`: float64, null where nothing is known; `quality`: int16, which says nothing where the value is null. A constant is a scalar, of quality 255."""

    value: Values
    quality: Int16s | np.int16

    def known(self) -> Values:
        return pc.is_valid(self.value)


Merge = Callable[[Sequence[Column]], Column]


@dataclass(frozen=True, slots=True)
class Function:
    """`merge` is what makes a column of columns. `named`: called by its name, unlike an operator."""

    fewest: int
    most: int
    merge: Merge
    named: bool = True

    def takes(self) -> str:
        if self.fewest == self.most:
            return f"{self.fewest} argument{'' if self.fewest == 1 else 's'}"
        return f"{self.fewest} or more arguments" if self.most > 10 else f"{self.fewest} to {self.most} arguments"


def _lowest(columns: Sequence[Column]) -> Int16s | np.int16:
    quality = columns[0].quality
    for column in columns[1:]:
        quality = np.minimum(quality, column.quality)
    return quality


def _finite(value: Values) -> Values:
    # is_finite of null is null, which if_else hands on
    return pc.if_else(pc.is_finite(value), value, _NULL)


def _plain(compute: Compute, fewest: int, most: int | None = None, *, named: bool = True, finite: bool = False) -> Function:
    """A function of known values alone. `finite`: of finite numbers it makes no other; else what lies beyond all numbers is not known."""

    def merge(columns: Sequence[Column]) -> Column:
        value = compute(*(column.value for column in columns))
        return Column(value if finite else _finite(value), _lowest(columns))

    return Function(fewest, fewest if most is None else most, merge, named)


def _truth(value: Values) -> Values:
    return pc.not_equal(value, 0.0)


def _number(truth: Values) -> Values:
    return truth.cast(pa.float64())


def _compared(compare: Compute) -> Function:
    return _plain(lambda left, right: _number(compare(left, right)), 2, named=False, finite=True)


def _by_numpy(function: Callable[..., Any]) -> Compute:
    """What Arrow has no function for. Null is NaN there."""

    def compute(*values: Values) -> Values:
        arrays = [
            np.float64(np.nan if value.as_py() is None else value.as_py())
            if isinstance(value, pa.Scalar)
            else value.to_numpy(zero_copy_only=False)
            for value in values
        ]
        with np.errstate(all="ignore"):
            result = function(*arrays)
        return pa.array(result) if isinstance(result, np.ndarray) else pa.scalar(float(result), pa.float64())

    return compute


def _round(value: Values, digits: pa.Scalar | None = None) -> Values:
    return pc.round(value, ndigits=0 if digits is None else int(digits.as_py()), round_mode="half_towards_infinity")


def _clamp(value: Values, low: Values, high: Values) -> Values:
    return pc.min_element_wise(pc.max_element_wise(value, low, skip_nulls=False), high, skip_nulls=False)


def _if(columns: Sequence[Column]) -> Column:
    """Of the branch that is taken alone it matters whether it is known, and how good it is."""
    condition, yes, no = columns
    truth = _truth(condition.value)
    taken = np.asarray(truth.to_numpy(zero_copy_only=False) if isinstance(truth, pa.Array) else truth.as_py()) == True  # noqa: E712 - null is neither
    quality = np.minimum(condition.quality, np.where(taken, yes.quality, no.quality).astype(np.int16))
    return Column(pc.if_else(truth, yes.value, no.value), quality)


def _coalesce(columns: Sequence[Column]) -> Column:
    """The first that is known, with its quality."""
    found = columns[0]
    for column in columns[1:]:
        known = found.known()
        at = np.asarray(known.to_numpy(zero_copy_only=False) if isinstance(known, pa.Array) else known.as_py())
        quality = np.where(at, found.quality, column.quality).astype(np.int16)
        found = Column(pc.coalesce(found.value, column.value), quality if quality.ndim else np.int16(quality))
    return found


_MANY = 1000

FUNCTIONS: Mapping[str, Function] = {
    "+": _plain(pc.add, 2, named=False),
    "-": _plain(pc.subtract, 2, named=False),
    "*": _plain(pc.multiply, 2, named=False),
    "/": _plain(pc.divide, 2, named=False),
    "%": _plain(_by_numpy(np.mod), 2, named=False),
    "**": _plain(pc.power, 2, named=False),
    "negative": _plain(pc.negate, 1, named=False, finite=True),
    "<": _compared(pc.less),
    "<=": _compared(pc.less_equal),
    ">": _compared(pc.greater),
    ">=": _compared(pc.greater_equal),
    "==": _compared(pc.equal),
    "!=": _compared(pc.not_equal),
    "and": _plain(lambda left, right: _number(pc.and_(_truth(left), _truth(right))), 2, named=False, finite=True),
    "or": _plain(lambda left, right: _number(pc.or_(_truth(left), _truth(right))), 2, named=False, finite=True),
    "not": _plain(lambda value: _number(pc.invert(_truth(value))), 1, named=False, finite=True),
    "abs": _plain(pc.abs, 1, finite=True),
    "sign": _plain(lambda value: pc.sign(value).cast(pa.float64()), 1, finite=True),
    "floor": _plain(pc.floor, 1, finite=True),
    "ceil": _plain(pc.ceil, 1, finite=True),
    "round": _plain(_round, 1, 2),
    "sqrt": _plain(pc.sqrt, 1),
    "exp": _plain(_by_numpy(np.exp), 1),
    "ln": _plain(pc.ln, 1),
    "log10": _plain(pc.log10, 1),
    "sin": _plain(pc.sin, 1, finite=True),
    "cos": _plain(pc.cos, 1, finite=True),
    "tan": _plain(pc.tan, 1),
    "min": _plain(lambda *values: pc.min_element_wise(*values, skip_nulls=False), 2, _MANY, finite=True),
    "max": _plain(lambda *values: pc.max_element_wise(*values, skip_nulls=False), 2, _MANY, finite=True),
    "clamp": _plain(_clamp, 3, finite=True),
    "if": Function(3, 3, _if),
    "coalesce": Function(2, _MANY, _coalesce),
}
