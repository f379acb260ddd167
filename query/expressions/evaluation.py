"""An expression's values at instants, given the samples of its tags."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from historian.query.expressions.functions import FUNCTIONS, Column
from historian.query.expressions.parser import Expression
from historian.query.expressions.tree import Call, Node, Number, Reference
from historian.schema.samples import GOOD, MAX_QUALITY, Floats, Int16s

#: operations × rows that are calculated in the event loop, some 5 ms; more of them go to a thread, in which Arrow works without the interpreter's lock
_AT_ONCE = 1_000_000


def evaluate(expression: Expression, column: Callable[[Reference], Column], rows: int) -> tuple[Floats, Int16s]:
    """`rows` values and qualities. `column` gives those of a tag.

    The quality is the lowest of what went into the value, 192 at most. Where the value is not known it is NaN, and the quality 0.
    """
    result = _of(expression.tree, column, {})
    if isinstance(result.value, pa.Scalar):
        constant = result.value.as_py()
        value = np.full(rows, np.nan if constant is None else constant)
    else:
        value = result.value.to_numpy(zero_copy_only=False)
    quality = np.where(np.isnan(value), 0, np.minimum(result.quality, GOOD)).astype(np.int16)
    return value, quality


def _of(node: Node, column: Callable[[Reference], Column], known: dict[Reference, Column]) -> Column:
    # no function within another that calls itself: that would be a circle, and keep the columns until the garbage collector comes
    match node:
        case Number(value):
            return Column(pa.scalar(value), np.int16(MAX_QUALITY))
        case Reference():
            if node not in known:
                known[node] = column(node)
            return known[node]
        case Call(name, arguments):
            return FUNCTIONS[name].merge([_of(argument, column, known) for argument in arguments])


async def evaluated(expression: Expression, column: Callable[[Reference], Column], rows: int) -> tuple[Floats, Int16s]:
    """As `evaluate`, without keeping the event loop from all else for long."""
    if expression.nodes * rows <= _AT_ONCE:
        return evaluate(expression, column, rows)
    return await asyncio.to_thread(evaluate, expression, column, rows)
