"""The columns that every format is brought to before the rules look at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from historian.schema.errors import BadSamples, Fault
from historian.schema.samples import Bools, Floats, Int32s, Int64s

Forms = npt.NDArray[np.uint8]

# what a value is, in the body
NOTHING: Final = 0  # null, or an empty cell
NUMBER: Final = 1
BOOL: Final = 2
TEXT: Final = 3
OTHER: Final = 4  # has been named as a fault already


class Faults:
    """Collects what is wrong: the first ones by row, and how many there are."""

    def __init__(self) -> None:
        self._found: list[Fault] = []
        self.count = 0

    def add(self, row: int, column: str, detail: str) -> None:
        self.count += 1
        self._found.append(Fault(row, column, detail))
        if len(self._found) > 4 * BadSamples.SHOWN:
            self._trim()

    def add_all(self, rows: Bools | npt.NDArray[np.intp], column: str, details: Sequence[str] | str) -> None:
        """A fault for each row of a mask, or of positions; `details` is one text for all, or one for each of the first SHOWN."""
        positions = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        shown = positions[: BadSamples.SHOWN].tolist()
        for n, row in enumerate(shown):
            self.add(row, column, details if isinstance(details, str) else details[n])
        self.count += len(positions) - len(shown)

    def _trim(self) -> None:
        self._found.sort(key=lambda fault: fault.row)
        del self._found[BadSamples.SHOWN :]

    def raise_if_any(self) -> None:
        if self.count:
            self._trim()
            raise BadSamples(self._found, self.count)


@dataclass(slots=True)
class Columns:
    """n rows of a body; what is wrong with them is in `faults` as far as it is known yet.

    paths     the distinct tag paths, if the body names tags by path
    tag       int32[n]: the position in `paths`, or the tag_id; -1 where there is none (named as a fault)
    ts        int64[n], µs; what stands in a faulty row does not matter
    number    float64[n]: of NUMBER and BOOL rows; NaN in the others
    inexact   bool[n]: an integer whose value float64 does not have; None if there is none
    form      uint8[n]: NOTHING, NUMBER, BOOL, TEXT, OTHER
    text      pa.StringArray[n], or None: of TEXT rows; in CSV of all that have something, since the kind of the tag says whether `12` is a number
    quality   int64[n], -1 where none is given; None if there is none at all
    """

    paths: list[str] | None
    tag: Int32s
    ts: Int64s
    number: Floats
    form: Forms
    text: pa.Array | None = None
    quality: Int64s | None = None
    inexact: Bools | None = None
    faults: Faults = field(default_factory=Faults)

    def __len__(self) -> int:
        return len(self.tag)
