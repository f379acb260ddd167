"""From the text of an expression to its tree: precedence climbing (Pratt, 1973), no names but those of FUNCTIONS, everything bounded.

From what binds least:  or · and · not · < <= > >= == != · + - · * / % · - (sign) · ** (to the right: 2 ** 3 ** 2 is 2 ** 9, and -2 ** 2 is -4)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from historian.query.expressions.faults import BadExpression
from historian.query.expressions.functions import FUNCTIONS, USES
from historian.query.expressions.tokens import MAX_LENGTH, NO_WILDCARDS, Token, tokens
from historian.query.expressions.tree import Call, Node, Number, Reference
from historian.schema.errors import TooLarge

MAX_TAGS = 100
MAX_NODES = 500
#: parentheses, signs and functions within each other
MAX_NESTING = 40
#: operations one upon the other, as in a + b + c + …: what evaluating recurses into
MAX_HEIGHT = 150

#: operator: (how strongly it binds, its name in FUNCTIONS)
_BINARY = {
    "or": (1, "or"),
    "and": (2, "and"),
    **{operator: (4, operator) for operator in ("<", "<=", ">", ">=", "==", "!=")},
    "+": (5, "+"),
    "-": (5, "-"),
    "*": (6, "*"),
    "/": (6, "/"),
    "%": (6, "%"),
    "**": (8, "**"),
}
_NOT, _COMPARED, _SIGN, _POWER = 3, 4, 7, 8


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that was understood. `references`: its tags, each use of each once, in the order of the text."""

    text: str
    tree: Node
    references: tuple[Reference, ...]
    nodes: int

    @property
    def paths(self) -> tuple[str, ...]:
        """Its tags, each once."""
        return tuple(dict.fromkeys(reference.path for reference in self.references))


def parse(text: str) -> Expression:
    """Raises BadExpression, with the place of the fault, and TooLarge."""
    if len(text) > MAX_LENGTH or len(text.encode(errors="replace")) > MAX_LENGTH:
        raise TooLarge(f"an expression of {len(text)} characters; at most {MAX_LENGTH} bytes")
    parser = _Parser(text)
    tree = parser.whole()
    if not parser.references:
        raise BadExpression("there is no tag in it; a tag is named by its path, which has a / or is quoted", text, 0)
    return Expression(text, tree, tuple(parser.references.values()), parser.nodes)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._token = next(self._tokens)
        self._nesting = 0
        self._heights: dict[int, int] = {}
        self.nodes = 0
        self.references: dict[tuple[str, str], Reference] = {}
        self._paths: set[str] = set()

    def whole(self) -> Node:
        if self._over():
            raise self._fault("an expression is not empty")
        node, _ = self._expression(0)
        if not self._over():
            raise self._fault(self._surplus())
        return node

    # -- each gives a node and its height

    def _expression(self, least: int) -> tuple[Node, int]:
        """What binds at least as strongly as `least`."""
        self._enter()
        left, height = self._operand()
        while True:
            token = self._token
            binds, name = _BINARY.get(token.text, (0, "")) if token.kind in ("operator", "name") else (0, "")
            if not name or binds < max(least, 1):
                break
            self._advance()
            right, right_height = self._expression(binds if binds == _POWER else binds + 1)
            left, height = self._call(name, (left, right), max(height, right_height), token)
            if binds == _COMPARED and self._token.kind == "operator" and _BINARY.get(self._token.text, (0, ""))[0] == _COMPARED:
                raise self._fault("comparisons do not follow one another; join them with and")
        self._nesting -= 1
        return left, height

    def _operand(self) -> tuple[Node, int]:
        token = self._token
        if token.kind == "number":
            self._advance()
            value = float(token.text)
            if not math.isfinite(value):
                raise BadExpression("this number is beyond all floats", self._text, token.at)
            return self._count(Number(value), token), 1
        if token.kind == "path":
            self._advance()
            return self._reference(token, "plain"), 1
        if token.kind == "name" and token.text == "not":
            self._advance()
            operand, height = self._expression(_NOT)
            return self._call("not", (operand,), height, token)
        if token.kind == "name":
            self._advance()
            return self._function(token)
        if token.kind == "operator" and token.text in "+-":
            self._advance()
            operand, height = self._expression(_SIGN)
            return (operand, height) if token.text == "+" else self._call("negative", (operand,), height, token)
        if token.kind == "operator" and token.text == "(":
            self._advance()
            inner = self._expression(0)
            self._expect(")", "this parenthesis is not closed", token)
            return inner
        if token.kind == "end":
            raise self._fault("something is missing at the end: a tag, a number, a function or a parenthesis")
        raise self._fault(f"{token.text} has nothing before it: a tag, a number, a function or a parenthesis is missing here")

    def _function(self, name: Token) -> tuple[Node, int]:
        if self._token.text != "(" or self._token.kind != "operator":
            if name.text in ("and", "or"):
                raise BadExpression(f"{name.text} has nothing before it", self._text, name.at)
            if self._text.startswith(("/+", "/#"), name.at + len(name.text)):
                raise BadExpression(NO_WILDCARDS, self._text, name.at)
            hint = f"call it: {name.text}(…)" if name.text in FUNCTIONS or name.text in USES else _no_function(name.text)
            raise BadExpression(hint, self._text, name.at)
        opening = self._token
        self._advance()
        if name.text in USES:
            return self._tag_function(name, opening)
        function = FUNCTIONS.get(name.text)
        if function is None or not function.named:
            raise BadExpression(_no_function(name.text), self._text, name.at)
        arguments: list[Node] = []
        height = 0
        if not self._at(")"):
            while True:
                argument, its_height = self._expression(0)
                arguments.append(argument)
                height = max(height, its_height)
                if not self._at(","):
                    break
                self._advance()
        self._expect(")", f"the parenthesis of {name.text} is not closed, or a comma is missing", opening)
        if not function.fewest <= len(arguments) <= function.most:
            raise BadExpression(f"{name.text} takes {function.takes()}, and {len(arguments)} were given", self._text, name.at)
        if name.text == "round" and len(arguments) == 2:
            digits = arguments[1]
            if isinstance(digits, Call) and digits.name == "negative" and isinstance(digits.arguments[0], Number):
                digits = Number(-digits.arguments[0].value)
            if not isinstance(digits, Number) or not digits.value.is_integer() or abs(digits.value) > 15:
                raise BadExpression("round takes its digits as a whole number from -15 to 15, as in round(a/b, 2)", self._text, name.at)
            arguments[1] = digits
        return self._call(name.text, tuple(arguments), height, name)

    def _tag_function(self, name: Token, opening: Token) -> tuple[Node, int]:
        tag = self._token
        if tag.kind != "path":
            raise self._fault(f"{name.text} takes one tag, by its path, which has a / or is quoted")
        self._advance()
        self._expect(")", f"{name.text} takes one tag and nothing else", opening)
        return self._reference(tag, USES[name.text]), 1

    # -- bounds

    def _reference(self, token: Token, use: str) -> Node:
        self._paths.add(token.text)
        if len(self._paths) > MAX_TAGS:
            raise BadExpression(f"more than {MAX_TAGS} tags", self._text, token.at)
        reference = Reference(token.text, use, token.at)  # type: ignore[arg-type]
        self._count(reference, token)
        return self.references.setdefault((token.text, use), reference)

    def _call(self, name: str, arguments: tuple[Node, ...], height: int, token: Token) -> tuple[Node, int]:
        if height + 1 > MAX_HEIGHT:
            raise BadExpression(f"more than {MAX_HEIGHT} operations one upon the other", self._text, token.at)
        return self._count(Call(name, arguments), token), height + 1

    def _count(self, node: Node, token: Token) -> Node:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise BadExpression(f"more than {MAX_NODES} operations, numbers and tags", self._text, token.at)
        return node

    def _enter(self) -> None:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise self._fault(f"nested more than {MAX_NESTING} deep")

    # -- tokens

    def _advance(self) -> None:
        self._token = next(self._tokens)

    def _over(self) -> bool:
        return self._token.kind == "end"

    def _at(self, operator: str) -> bool:
        return self._token.kind == "operator" and self._token.text == operator

    def _expect(self, operator: str, otherwise: str, opening: Token) -> None:
        if not self._at(operator):
            raise (
                self._fault(self._surplus())
                if self._token.kind not in ("end", "operator")
                else BadExpression(otherwise, self._text, opening.at)
            )
        self._advance()

    def _surplus(self) -> str:
        token = self._token
        if token.text == ")":
            return "this parenthesis closes nothing"
        if token.text == ",":
            return "a comma stands between the arguments of a function only"
        if token.kind == "path" and token.text.startswith("/"):
            return "a path begins with a letter"
        return 'an operator is missing before this; a path with blanks is quoted, as in "a/b c"'

    def _fault(self, detail: str) -> BadExpression:
        return BadExpression(detail, self._text, self._token.at)


def _no_function(name: str) -> str:
    known = ", ".join(sorted([*USES, *(known for known, function in FUNCTIONS.items() if function.named)]))
    return f"{name[:40]!r} is no function, and no tag: a path has a / or is quoted. There are {known}"
