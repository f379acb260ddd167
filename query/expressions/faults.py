"""What is wrong with an expression, shown at the place where it is."""

from __future__ import annotations

from historian.schema.errors import BadInput

#: characters of the expression that are shown on either side of the fault
_AROUND = 30


class BadExpression(BadInput):
    """An expression that cannot be understood or is beyond the limits. `column` counts characters from 1."""

    problem = "bad-expression"
    title = "Bad expression"

    def __init__(self, detail: str, text: str, at: int) -> None:
        self.column = at + 1
        super().__init__(f"column {self.column}: {detail}\n{_excerpt(text, at)}")


def _excerpt(text: str, at: int) -> str:
    """The expression around the fault, and below it a caret."""
    start, end = max(0, at - _AROUND), min(len(text), at + _AROUND)
    # a tab or a line break would move the caret
    shown = "".join(c if c.isprintable() else " " for c in text[start:end])
    before, after = "…" if start else "", "…" if end < len(text) else ""
    return f"  {before}{shown}{after}\n  {' ' * (len(before) + at - start)}^"
