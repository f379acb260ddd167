"""The words of an expression.

    number     2  2.5  .5  1e-3
    path       a/b/flow: levels joined by / without blanks. A level is letters, digits and _ . - ~ $ @ &; the first begins with a letter or _
    quoted     "a b/c+d" or 'a b/c': any path, in quotes; a doubled quote stands for one
    name       flow, max, and: a function or an operator, never a tag
    operator   + - * / % ** < <= > >= == != ( ) ,

So `a/b/2` and `a/b-1` are paths, as tags are called like that. Whoever divides or subtracts writes blanks: `a/b / 2`, `a/b - 1`; `(a/b)/2` and `2/a/b` are divisions too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from historian.query.expressions.faults import BadExpression
from historian.schema.paths import path_fault

MAX_LENGTH = 4096

NO_WILDCARDS = "no wildcards in an expression: it names each tag by its path"

Kind = Literal["number", "path", "name", "operator", "end"]


@dataclass(frozen=True, slots=True)
class Token:
    """`text` is what it says: of a quoted path that is the path. `at` counts characters from 0."""

    kind: Kind
    text: str
    at: int


_TOKEN = re.compile(
    r"""(?P<blank>\s+)
    |(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    |(?P<path>[^\W\d][\w.~$@&-]*(?:/[\w.~$@&-]+)+)
    |(?P<name>[^\W\d]\w*)
    |(?P<quoted>"(?:[^"]|"")*"|'(?:[^']|'')*')
    |(?P<operator>\*\*|<=|>=|==|!=|[-+*/%<>(),])""",
    re.VERBOSE,
)


def tokens(text: str) -> Iterator[Token]:
    """The words one after the other, and at the end one of kind `end`. Raises BadExpression."""
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise BadExpression(_unknown(text[at]), text, at)
        kind, found = match.lastgroup, match[0]
        if kind == "quoted":
            found = found[1:-1].replace(found[0] * 2, found[0])
        if kind in ("path", "quoted"):
            fault = path_fault(found)
            if fault is not None:
                raise BadExpression(fault, text, at)
            yield Token("path", found, at)
        elif kind == "number":
            if match.end() < len(text) and (text[match.end()].isalnum() or text[match.end()] == "_"):
                raise BadExpression(
                    'a number ends where a letter begins; a path that begins with a digit is quoted, as in "1st/flow"', text, at
                )
            yield Token("number", found, at)
        elif kind == "name":
            yield Token("name", found, at)
        elif kind == "operator":
            yield Token("operator", found, at)
        at = match.end()
    yield Token("end", "", len(text))


def _unknown(character: str) -> str:
    if character in "\"'":
        return "this quote is not closed"
    if character == "#":
        return NO_WILDCARDS
    if character == "=":
        return "= is no operator; == asks whether two values are equal"
    if character in "&|!":
        return f"{character} is no operator; there are and, or, not"
    if character == "^":
        return "^ is no operator; ** raises to a power"
    return f'{character!r} has no meaning here; a path with it is quoted, as in "a/b{character if character.isprintable() else ""}c"'
