"""The tree of an expression: what is calculated from what. Values; evaluation is in a module of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: how a tag stands in an expression. `plain`: held if it is stepped, else interpolated; it brings its timestamps. The others bring none, unless no tag is plain.
Use = Literal["plain", "last", "interp", "good", "quality"]


@dataclass(frozen=True, slots=True)
class Number:
    value: float


@dataclass(frozen=True, slots=True)
class Reference:
    """A tag. `at`: where in the text it stands."""

    path: str
    use: Use
    at: int


@dataclass(frozen=True, slots=True)
class Call:
    """An operator or function of `functions.FUNCTIONS`, by its name there."""

    name: str
    arguments: tuple[Node, ...]


Node = Number | Reference | Call
