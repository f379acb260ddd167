"""A fault of one row, before anybody knows where in the file the row stands."""

from __future__ import annotations


class FaultyRow(Exception):
    """`row` counts the rows of data from 0. Whoever reads the file makes a BadInput of it, with the file and the line."""

    def __init__(self, row: int, detail: str) -> None:
        super().__init__(detail)
        self.row = row
        self.detail = detail
