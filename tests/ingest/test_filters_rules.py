"""Rules of filters: the first that matches, and faults said with their table and key."""

from __future__ import annotations

from typing import Any

import pytest

from historian.ingest.filters.rules import DEFAULT_MAX_S, FilterRules, Stage
from historian.schema.errors import BadInput


def test_the_first_rule_that_matches_is_the_one() -> None:
    rules = FilterRules.from_toml(
        [
            {"match": ["a/b/state", "a/+/mode"], "method": "none"},
            {"match": "a/b/#", "method": "deadband", "deviation": 1, "max_interval_s": 5},
            {"match": "a/b/flow", "method": "deadband", "deviation": 2},
            {"match": "a/#", "method": "swinging-door", "deviation": 3},
        ]
    )
    assert rules.of("a/b/state") is None
    assert rules.of("a/c/mode") is None
    assert rules.of("z") is None
    flow, other = rules.of("a/b/flow"), rules.of("a/c/flow")
    assert flow is not None
    assert (flow.exception, flow.compression) == (Stage(1, 5_000_000), None)
    assert other is not None
    assert (other.exception, other.compression) == (None, Stage(3, round(DEFAULT_MAX_S * 1e6)))


def test_both_stages_and_percentages_of_the_range() -> None:
    rules = FilterRules.from_toml(
        [{"match": "a", "range": [-50, 150], "exception_deviation_percent": 0.5, "exception_max_s": 10, "compression_deviation": 2}]
    )
    rule = rules.of("a")
    assert rule is not None
    assert rule.exception == Stage(1.0, 10_000_000)
    assert rule.compression == Stage(2, 600_000_000)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"match": "a"}, "has neither a method nor a deviation"),
        ({"method": "deadband", "deviation": 1}, "match: Field required"),
        ({"match": [], "method": "none"}, "match names no tag"),
        ({"match": "a//b", "method": "none"}, "empty level"),
        ({"match": "a/#/b", "method": "none"}, "match: "),
        ({"match": "a", "method": "deadband"}, "needs deviation or deviation_percent, and not both"),
        ({"match": "a", "method": "deadband", "deviation": 1, "deviation_percent": 1}, "not both"),
        ({"match": "a", "method": "deadband", "deviation": -1}, "deviation: "),
        ({"match": "a", "method": "deadband", "deviation": float("nan")}, "deviation: "),
        ({"match": "a", "method": "deadband", "deviation_percent": 1}, "needs range"),
        ({"match": "a", "method": "deadband", "deviation_percent": 1, "range": [5, 5]}, "range is"),
        ({"match": "a", "method": "deadband", "deviation": 1, "max_interval_s": 0}, "max_interval_s: "),
        ({"match": "a", "method": "deadbnad", "deviation": 1}, "method: "),
        ({"match": "a", "deviation": 1}, "need a method"),
        ({"match": "a", "method": "none", "deviation": 1}, "no deviation"),
        ({"match": "a", "method": "deadband", "deviation": 1, "compression_deviation": 1}, "say one or the other"),
        ({"match": "a", "compression_max_s": 1}, "needs compression_deviation"),
        ({"match": "a", "method": "deadband", "deviation": 1, "deadband": 2}, "deadband: "),
    ],
)
def test_a_faulty_rule_is_told_with_its_table_and_key(table: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as caught:
        FilterRules.from_toml([{"match": "z", "method": "none"}, table])
    assert str(caught.value).startswith("[[filter]] 2: ")
    assert said in str(caught.value)
