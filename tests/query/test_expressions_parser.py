"""Expressions as text: what they mean, what is refused and where, and that nothing else comes of any text."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from historian.query.expressions.evaluation import evaluate
from historian.query.expressions.faults import BadExpression
from historian.query.expressions.functions import FUNCTIONS, USES, Column
from historian.query.expressions.parser import MAX_NODES, MAX_TAGS, Expression, parse
from historian.query.expressions.pens import parse_pen
from historian.query.expressions.tokens import MAX_LENGTH
from historian.schema.errors import BadInput

#: of the one row that the tests here calculate with
VALUES = {"a/x": 7.0, "a/y": 2.0, "a/x-1": 50.0, "a/x/2": 60.0, "one": 1.0, "a b/c+d": 3.0, "n/null": None, "1st/x": 4.0}


def value_of(text: str) -> float | None:
    """What an expression gives with VALUES."""
    value, quality = evaluate(parse(text), lambda r: Column(pa.array([VALUES[r.path]], pa.float64()), np.array([192], np.int16)), 1)
    assert np.isnan(value[0]) == (quality[0] == 0)
    return None if np.isnan(value[0]) else float(value[0])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a/x + a/y * 2", 11),
        ("(a/x + a/y) * 2", 18),
        ("a/x - a/y - 1", 4),
        ("a/x / a/y", 3.5),
        ("a/x/2", 60),
        ("a/x / 2", 3.5),
        ("(a/x)/2", 3.5),
        ("14/a/x", 2),
        ("a/x-1", 50),
        ("a/x - 1", 6),
        ("a/x*a/y", 14),
        ("'one' + 1", 2),
        ('"1st/x" * 2', 8),
        ("-a/y ** 2", -4),
        ("(-a/y) ** 2", 4),
        ("2 ** 3 ** a/y", 512),
        ("2 ** -a/y", 0.25),
        ("a/x % a/y", 1),
        ("-a/x % 4", 1),
        ("+a/x", 7),
        ("a/x > a/y", 1),
        ("a/x <= a/y", 0),
        ("a/x == 7 and a/y != 7", 1),
        ("not a/x == 7 or a/y", 1),
        ("not (a/x == 7 or a/y)", 0),
        ("a/x > 1 and a/y < 1 or 5", 1),
        ("if(a/x > 5, a/x, n/null)", 7),
        ("if(a/x < 5, a/x, n/null)", None),
        ("if(n/null, a/x, a/y)", None),
        ("coalesce(n/null, a/x)", 7),
        ("coalesce(n/null, n/null, 3)", 3),
        ("n/null + 1", None),
        ("max(a/x, a/y, 30)", 30),
        ("min(a/x, n/null)", None),
        ("clamp(a/x, 0, 5)", 5),
        ("round(a/x / 3, 2)", 2.33),
        ("round(-a/x / 2)", -4),
        ("round(a/x * 100, -2)", 700),
        ("sqrt(a/y + 2)", 2),
        ("ln(exp(a/y))", 2),
        ("log10(a/x * 0 + 1e3)", 3),
        ("abs(-a/x) + sign(-a/x) + floor(a/x / 2) + ceil(a/x / 2)", 13),
        ("sin(a/x * 0) + cos(a/x * 0) + tan(a/x * 0)", 1),
        # beyond all numbers is not known, and no error
        ("a/x / 0", None),
        ("0 / (a/x - a/x)", None),
        ("a/x % 0", None),
        ("sqrt(-a/x)", None),
        ("ln(0 * a/x)", None),
        ("exp(a/x * 1000)", None),
        ("1e308 * a/x", None),
        ("coalesce(a/x / 0, -1)", -1),
        ("(-a/x) ** 0.5", None),
    ],
)
def test_what_an_expression_means(text: str, value: float | None) -> None:
    assert value_of(text) == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("", 1, "empty"),
        ("2 * 3", 1, "no tag"),
        ("flow * 2", 1, "'flow' is no function"),
        ("a/x +", 6, "missing at the end"),
        ("a/x a/y", 5, "an operator is missing"),
        ("(a/x", 1, "not closed"),
        ("a/x)", 4, "closes nothing"),
        ("* a/x", 1, "nothing before it"),
        ("a/x = 2", 5, "=="),
        ("a/x && a/y", 5, "and, or, not"),
        ("a/x ^ 2", 5, r"\*\*"),
        ("1 < a/x < 3", 9, "do not follow"),
        ("site/+/x", 1, "no wildcards"),
        ("site/#", 1, "no wildcards"),
        ('"site/+/x"', 1, "wildcards"),
        ('"a/x', 1, "not closed"),
        ("a//x", 1, "no function"),
        ("1st/x", 1, "quoted"),
        ("max(a/x)", 1, "2 or more arguments"),
        ("if(a/x, 1)", 1, "3 arguments, and 2"),
        ("max a/x", 1, r"max\(…\)"),
        ("last(2)", 6, "takes one tag"),
        ("last(a/x + 1)", 5, "one tag"),
        ("round(a/x, a/y)", 1, "whole number"),
        ("round(a/x, 2, 3)", 1, "1 to 2 arguments"),
        ("__import__('os/x')", 1, "no function"),
        ("a/x.__class__ + (1).real", 20, "nothing before|meaning|operator is missing"),
        ("open('etc/passwd')", 1, "no function"),
        ("lambda: 1", 7, "meaning|function"),
        ("negative(a/x)", 1, "no function"),
        ("1e999 * a/x", 1, "beyond"),
        ("a/x; a/y", 4, "meaning"),
        ("a/x\x00", 4, "meaning"),
    ],
)
def test_what_is_refused_and_where(text: str, column: int, words: str) -> None:
    with pytest.raises(BadExpression, match=words) as caught:
        parse(text)
    assert caught.value.column == column
    # the caret stands below the fault
    shown, caret = str(caught.value).split("\n")[1:]
    assert text == "" or len(shown) >= len(caret) - 1
    assert caught.value.document()["type"] == "urn:historian:problem:bad-expression"


@pytest.mark.parametrize(
    "text",
    [
        "a/x" + " " * MAX_LENGTH,
        "+".join(f"a/{n} " for n in range(MAX_TAGS + 1)),
        "max(" + ",".join(["a/x"] * MAX_NODES) + ")",
        "(" * 1000 + "a/x" + ")" * 1000,
        "-" * 1000 + "a/x",
        "abs(" * 900 + "a/x",
        "a/x" + "+1" * 1500,
        "2" + "**2" * 1000,
        "not " * 900 + "a/x",
        "a/x ü" + "ü" * 2040,
    ],
    ids=["length", "tags", "nodes", "parentheses", "signs", "functions", "height", "powers", "not", "bytes"],
)
def test_abuse_is_refused_at_once(text: str) -> None:
    begun = time.process_time()
    with pytest.raises(BadInput):
        parse(text)
    assert time.process_time() - begun < 1


def test_what_is_within_the_limits_can_be_evaluated() -> None:
    text = " + ".join(["a/x"] * 140)
    assert value_of(text) == 7 * 140
    assert value_of("(" * 35 + "a/x" + ")" * 35) == 7
    assert value_of("max(" + ",".join(["a/x"] * 490) + ")") == 7
    assert len(parse("+".join(f"a/{n} " for n in range(MAX_TAGS))).paths) == MAX_TAGS


@pytest.mark.parametrize(
    ("text", "name", "expression"),
    [
        ("power: a/x * 2", "power", "a/x * 2"),
        (" pump η [%] :a/x", "pump η [%]", "a/x"),
        ("a/x * 2 ", "a/x * 2", "a/x * 2"),
        ("'a:b/x' * 2", "'a:b/x' * 2", "'a:b/x' * 2"),
    ],
)
def test_a_name_before_a_colon(text: str, name: str, expression: str) -> None:
    found, parsed = parse_pen(text)
    assert (found, parsed.text) == (name, expression)


@pytest.mark.parametrize("text", [": a/x", "a\x07b: a/x", "x + y: a/x", "power:"])
def test_a_faulty_name(text: str) -> None:
    with pytest.raises(BadInput):
        parse_pen(text)


def test_the_page_tells_of_every_function() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "expressions.md").read_text(encoding="utf-8")
    named = [*USES, *(name for name, function in FUNCTIONS.items() if function.named)]
    assert [name for name in named if f"`{name}(" not in page and f"`{name}`" not in page] == []


WORDS = st.sampled_from(
    [
        *FUNCTIONS,
        *USES,
        "a/b",
        "'c d/e'",
        '"f"',
        "(",
        ")",
        ",",
        ":",
        "1",
        "2.5e3",
        ".5",
        " ",
        "\t",
        "é/ü",
        "#",
        "+",
        "'",
        '"',
        "$",
        "\ud800",
        "x",
    ]
)


@given(st.one_of(st.text(max_size=200), st.lists(WORDS, max_size=60).map(" ".join), st.lists(WORDS, max_size=60).map("".join)))
def test_any_text_is_an_expression_or_bad_input(text: str) -> None:
    try:
        _, expression = parse_pen(text)
    except BadInput:
        return
    assert isinstance(expression, Expression)
    assert expression.paths
    value, quality = evaluate(expression, lambda _: Column(pa.array([1.5, None, -2.0]), np.array([192, 0, 64], np.int16)), 3)
    assert ((quality == 0) == np.isnan(value)).all()
    assert np.isfinite(value[quality > 0]).all()
