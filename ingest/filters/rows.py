"""What a filter sees of one tag: its samples as tuples, in the order of their times."""

from __future__ import annotations

from typing import Final

#: time (µs), value, quality, number of the message it came with, position in the batch at hand (-1: from an earlier one), and whether it may be left out at all: a
#: number of no bad quality, of a tag that is not stepped
Row = tuple[int, float, int, int, int, bool]

TS: Final = 0
VALUE: Final = 1
QUALITY: Final = 2
MESSAGE: Final = 3
INDEX: Final = 4
PLAIN: Final = 5


def kept_over(row: Row) -> Row:
    """The same row when its batch is gone."""
    return (row[TS], row[VALUE], row[QUALITY], row[MESSAGE], -1, row[PLAIN])
