"""Calculated pens: an expression with a name, its tags found in the catalogue, described as a tag is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from historian.query.expressions.faults import BadExpression
from historian.query.expressions.functions import Column
from historian.query.expressions.parser import Expression, parse
from historian.query.expressions.series import Series
from historian.query.expressions.tree import Call, Node, Number, Reference
from historian.query.instants import is_held
from historian.schema.catalogue import Catalogue, Tag
from historian.schema.errors import BadInput, UnknownTag
from historian.schema.paths import path_fault
from historian.schema.samples import Int64s

#: in one query or subscription
MAX_PENS = 64

#: a name, and the colon behind it: no quote, path or parenthesis comes before that
_NAMED = re.compile(r"""\s*([^:"'/()]{1,100}?)\s*:""")

#: functions whose value leaps
_LEAPING = frozenset({"<", "<=", ">", ">=", "==", "!=", "and", "or", "not", "sign", "floor", "ceil", "round"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CalculatedPen(Tag):
    """A tag that is not in the catalogue: its values are calculated. Its tag_id is negative; its path is its name, or its text where it has none."""

    expression: Expression
    arguments: Mapping[str, Tag] = field(repr=False)

    def row(self) -> dict[str, Any]:
        return Tag.row(self) | {"expression": self.expression.text}

    @property
    def tags(self) -> list[Tag]:
        """The tags that it is calculated from, by tag_id."""
        return sorted(self.arguments.values(), key=lambda tag: tag.tag_id)

    @property
    def drivers(self) -> frozenset[int]:
        """The tag_ids whose timestamps are the pen's: of its plain tags or, if it has none, of all of them."""
        plain = {self.arguments[r.path].tag_id for r in self.expression.references if r.use == "plain"}
        return frozenset(plain or {tag.tag_id for tag in self.arguments.values()})

    @property
    def interpolated(self) -> frozenset[int]:
        """The tag_ids of which the next sample too has a say in what the pen is between two."""
        return frozenset(
            self.arguments[r.path].tag_id
            for r in self.expression.references
            if r.use == "interp" or (r.use == "plain" and not is_held(self.arguments[r.path]))
        )

    def column(self, reference: Reference, series: Mapping[int, Series], instants: Int64s) -> Column:
        """What a tag of the expression is at these instants, given the samples of each tag_id."""
        tag = self.arguments[reference.path]
        return series[tag.tag_id].at(instants, reference.use, stepped=is_held(tag))


def parse_pen(text: str) -> tuple[str, Expression]:
    """Name and expression of `name: expression`, or of an expression alone, whose name is its text. Raises BadExpression, TooLarge."""
    named = _NAMED.match(text)
    if named is None:
        stripped = text.strip()
        return stripped, parse(stripped)
    name = named[1].strip()
    fault = "the name before the colon is empty" if not name else path_fault(name)
    if fault is not None:
        raise BadExpression(fault, text, 0)
    return name, parse(text[named.end() :].strip())


async def calculated(catalogue: Catalogue, texts: Sequence[str]) -> tuple[CalculatedPen, ...]:
    """The pens of these texts, each once: tag_ids -1, -2, …. Raises BadExpression, BadInput, and UnknownTag."""
    if not texts:
        return ()
    parsed: dict[str, Expression] = {}
    for text in texts:
        name, expression = parse_pen(text)
        if parsed.setdefault(name, expression) != expression:
            raise BadInput(f"two expressions are called {name[:100]!r}; a name stands for one")
        if len(parsed) > MAX_PENS:
            raise BadInput(f"more than {MAX_PENS} expressions at a time")
    paths = dict.fromkeys(path for expression in parsed.values() for path in expression.paths)
    tags = {tag.path: tag for tag in await catalogue.resolve(paths)}
    return tuple(_pen(-n, name, expression, tags) for n, (name, expression) in enumerate(parsed.items(), 1))


def _pen(tag_id: int, name: str, expression: Expression, tags: Mapping[str, Tag]) -> CalculatedPen:
    missing = [path for path in expression.paths if path not in tags]
    if missing:
        raise UnknownTag(missing)
    arguments = {path: tags[path] for path in expression.paths}
    for reference in expression.references:
        if arguments[reference.path].kind == "text":
            raise BadExpression(f"{reference.path} is a text tag, and text cannot be calculated with", expression.text, reference.at)
    return CalculatedPen(
        tag_id,
        name,
        "float",
        step=_steps(expression.tree, arguments),
        expression=expression,
        arguments=arguments,
        description=expression.text,
    )


def _steps(node: Node, arguments: Mapping[str, Tag]) -> bool:
    """Whether the value holds from sample to sample, and is not a line."""
    match node:
        case Number():
            return True
        case Reference(path, use):
            return use not in ("plain", "interp") or (use == "plain" and is_held(arguments[path]))
        case Call("if", (_, yes, no)):
            return _steps(yes, arguments) and _steps(no, arguments)
        case Call(name, operands):
            return name in _LEAPING or all(_steps(operand, arguments) for operand in operands)
