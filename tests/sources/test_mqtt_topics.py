"""Rules: which topics they are for, what tags come of them, and what is wrong with a rule."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

pytest.importorskip("aiomqtt")
from historian.ingest.sources.mqtt import MqttConfig
from historian.ingest.sources.mqtt_connection import without_covered
from historian.ingest.sources.topics import MISSING, TopicRule, Topics, filter_regex, select, selector


@pytest.mark.parametrize(
    ("pattern", "topic", "groups"),
    [
        ("a/b", "a/b", ()),
        ("a/+/c", "a/b/c", ("b",)),
        ("a/+/c", "a//c", ("",)),
        ("a/#", "a", (None,)),
        ("a/#", "a/b/c", ("b/c",)),
        ("+/#", "a/b/c", ("a", "b/c")),
        ("#", "a/b", ("a/b",)),
        ("#", "$SYS/uptime", None),
        ("+/uptime", "$SYS/uptime", None),
        ("$SYS/#", "$SYS/uptime", ("uptime",)),
        ("a/+", "a/b/c", None),
        ("a/+", "a", None),
        ("a.c", "abc", None),
    ],
)
def test_topic_filters_mean_what_mqtt_says(pattern: str, topic: str, groups: tuple[str | None, ...] | None) -> None:
    match = filter_regex(pattern).fullmatch(topic)
    assert (match.groups() if match is not None else None) == groups


@pytest.mark.parametrize("pattern", ["", "a/#/b", "a/b#", "a+/b", "a\x00", "$share/g", "$share//a"])
def test_a_rule_with_a_faulty_topic_filter_is_refused(pattern: str) -> None:
    with pytest.raises(ValidationError):
        TopicRule(topic=pattern)


@pytest.mark.parametrize(
    ("tag", "topic", "path"),
    [
        ("{topic}", "site/a/line1/x/y", "site/a/line1/x/y"),
        ("plant/{1}/{2}", "site/a/line1/x/y", "plant/a/x/y"),
        ("plant/{2}", "site/a/line1", "plant"),
        ("fixed", "site/a/line1/x", "fixed"),
    ],
)
def test_the_tag_is_made_of_the_topic_and_of_what_the_wildcards_stood_for(tag: str, topic: str, path: str) -> None:
    mapped = Topics([TopicRule(topic="site/+/line1/#", tag=tag)]).map(topic)
    assert (mapped.path, mapped.fault) == (path, None)


def test_a_topic_that_makes_no_tag_path_has_the_reason() -> None:
    topics = Topics([TopicRule(topic="site/#")])
    assert "empty level" in str(topics.map("site//x").fault)
    assert "control character" in str(topics.map("site/\udcff").fault)
    assert "no rule" in str(topics.map("other").fault)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"tag": "x/{3}"}, "{3}"),
        ({"tag": "x/{1"}, "brace"),
        ({"value": "$.v", "fields": "all"}, "one of the two"),
        ({"payload": "value", "value": "$.v"}, "bare value"),
        ({"payload": "object", "items": "$.v"}, "items"),
        ({"value": "a..b"}, "not understood"),
        ({"timestamp": "$.a[x]"}, "not understood"),
        ({"quality_map": {"ok": 192}}, "without quality"),
        ({"quality": "q", "quality_map": {"ok": 256}}, "255"),
        ({"states": {"0": "off"}}, "digital"),
        ({"kind": "digital", "states": {"x": "off"}}, "no integer"),
        ({"interval_s": 0}, "greater"),
        ({"include": ["a/#/b"]}, "# stands only at the end"),
        ({"colour": "red"}, "Extra"),
    ],
)
def test_what_is_wrong_with_a_rule_is_said_when_it_is_read(rule: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TopicRule.model_validate({"topic": "site/+/#"} | rule)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("$", ()),
        ("value", ("value",)),
        ("$.a.b", ("a", "b")),
        ("a[0].b", ("a", 0, "b")),
        ("$[2]", (2,)),
        ("$['a.b'].c", ("a.b", "c")),
        ('$["x"]', ("x",)),
    ],
)
def test_selectors(text: str, steps: tuple[str | int, ...]) -> None:
    assert selector(text) == steps


def test_a_selector_finds_what_is_there_and_only_that() -> None:
    document = {"a": [{"b": None}], "0": 1}
    assert select(document, selector("a[0].b")) is None
    for missing in ("a[1]", "b", "a.b", "[0]", "a[0].b.c"):
        assert select(document, selector(missing)) is MISSING


def test_subscriptions_that_another_includes_are_left_out() -> None:
    assert without_covered(["a/b", "a/#", "a/+/c", "a/b", "+/b", "a"]) == ["a/#", "+/b"]
    assert without_covered(["a/+", "a/b", "a/#"]) == ["a/#"]
    assert without_covered(["a/+", "+/b"]) == ["a/+", "+/b"]


_LEVELS = st.lists(st.sampled_from(["a", "b", "+"]), min_size=1, max_size=4)


@given(
    st.lists(st.builds(lambda levels, tail: "/".join([*levels, *tail]), _LEVELS, st.sampled_from([[], ["#"]])), min_size=1, max_size=6),
    st.lists(st.sampled_from("abc"), min_size=1, max_size=5),
)
def test_what_any_subscription_matches_one_of_those_left_matches(filters: list[str], levels: list[str]) -> None:
    topic = "/".join(levels)
    left = without_covered(filters)
    assert set(left) <= set(filters)
    assert any(filter_regex(f).fullmatch(topic) for f in left) == any(filter_regex(f).fullmatch(topic) for f in filters)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"rule": []}, "neither a"),
        ({"client_id": ""}, "at least 1"),
        ({"password": "x"}, "without a username"),
        ({"username": "u", "password": "x", "password_file": "y"}, "either"),
        ({"tls": {"cert": "x"}}, "cert and key"),
        ({"protocol": "3"}, "'3.1.1' or '5'"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_said_when_it_is_read(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        MqttConfig.model_validate({"client_id": "w", "rule": [{"topic": "a"}]} | table)
    assert said in str(caught.value)


def test_a_password_is_not_shown() -> None:
    config = MqttConfig.model_validate({"client_id": "w", "rule": [{"topic": "a"}], "username": "u", "password": "hunter2"})
    assert "hunter2" not in repr(config) + str(config.model_dump())
    assert config.secret() == "hunter2"
