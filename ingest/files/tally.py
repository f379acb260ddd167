"""What the values of each tag of a file are, gathered in one pass over it: numbers, true and false, or text, the same over the whole file.

A column that mixes numbers and words is refused rather than guessed at, and so are decimal marks that could be something else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa

from historian.ingest.files.cells import ALL_FORMS, BOOL, COMMA, INFINITE, NUMBER, POINT, TEXT, Forms
from historian.ingest.files.faults import FaultyRow
from historian.schema.samples import Int64s

Type = Literal["number", "bool", "text"]
TYPES: tuple[Type, ...] = ("number", "bool", "text")
#: 1.234,5 and 1'234: a number for those who wrote it
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:([.,'’ \u00a0\u202f])\d{3})(?:\1\d{3})*(?:[.,]\d*)?")


@dataclass(slots=True)
class Tally:
    """What the values of each tag are: the sum of their forms, and where each form was first seen. It grows with the tags."""

    forms: Forms = field(default_factory=lambda: np.zeros(64, np.uint8))
    seen: dict[tuple[int, int], tuple[int, str]] = field(default_factory=dict)

    def add(self, tag: int, forms: Forms, column: pa.Array, first_row: int, rows: Int64s | None = None) -> None:
        """Forms of some values of one tag; `rows` are their positions, if they are not all of the column."""
        if tag >= len(self.forms):
            self.forms = np.concatenate([self.forms, np.zeros(max(tag + 1, len(self.forms)), np.uint8)])
        known = int(self.forms[tag])
        found = int(np.bitwise_or.reduce(forms)) if len(forms) else 0
        if not found & ~known:
            return
        self.forms[tag] = known | found
        for form in ALL_FORMS:
            if form & found & ~known:
                position = int(np.argmax(forms == form))
                row = position if rows is None else int(rows[position])
                self.seen[tag, form] = (first_row + row, str(column[row].as_py())[:60])

    def types(self, names: Sequence[str], what: str, decimal: str, texts: Sequence[str]) -> list[Type]:
        """The type of each tag. Raises FaultyRow for values that do not go together; there the tags are called by these names, `what` is column or tag.

        `texts` are text, whatever they look like.
        """
        types: list[Type] = []
        wrong = COMMA if decimal == "." else POINT
        for tag, found in enumerate(self._bits(len(names))):
            name = names[tag]
            if found & INFINITE and not found & TEXT:
                row, shown = self.seen[tag, INFINITE]
                raise FaultyRow(
                    row, f"{what} {name!r} is {shown}, and no sample can be infinite; say --null {shown} if that stands for no value"
                )
            if found & wrong and not found & TEXT:
                row, shown = self.seen[tag, wrong]
                raise FaultyRow(
                    row,
                    f"{what} {name!r} is {shown!r}: is that a decimal {'comma' if wrong == COMMA else 'point'}? Then say --decimal '{'.' if decimal == ',' else ','}'",
                )
            if found & TEXT and name not in texts and _GROUPED.fullmatch(self.seen[tag, TEXT][1].strip()):
                row, shown = self.seen[tag, TEXT]
                raise FaultyRow(
                    row,
                    f"{what} {name!r} is {shown!r}: numbers with marks between their thousands are not read; write them without,"
                    f" or say --text {name!r} if it is text",
                )
            if found & TEXT and found & (NUMBER | INFINITE):
                row, shown = self.seen[tag, TEXT]
                raise FaultyRow(
                    row,
                    f"{what} {name!r} is {shown!r}, and a number elsewhere; say --null {shown!r} if that stands for no value,"
                    f" or --text {name!r} if the {what} is text",
                )
            if found & BOOL and found & NUMBER:
                row, shown = self.seen[tag, BOOL]
                raise FaultyRow(row, f"{what} {name!r} is {shown}, and a number elsewhere; say --text {name!r} if it is text")
            types.append("text" if found & TEXT else "bool" if found & BOOL else "number")
        return types

    def decimal(self) -> str | None:
        """The decimal mark: a comma where there are such numbers and none with a point. None if there are both."""
        found = [bits for bits in self._bits(len(self.forms)) if not bits & TEXT]
        commas, points = (any(bits & form for bits in found) for form in (COMMA, POINT))
        return None if commas and points else "," if commas else "."

    def first(self, form: int) -> tuple[int, str]:
        """Row and text of a value of that form, in a tag that is no text."""
        return min(seen for (tag, other), seen in self.seen.items() if other == form and not self.forms[tag] & TEXT)

    def any(self, form: int, other: int) -> bool:
        """Whether values of some tag are of both forms."""
        return bool((((self.forms & form) > 0) & ((self.forms & other) > 0)).any())

    def _bits(self, count: int) -> list[int]:
        return [int(bits) for bits in self.forms[:count]]
