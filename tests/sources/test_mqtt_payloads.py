"""Payloads of every form become samples, or a reason why not; never an exception."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("aiomqtt")
from historian.ingest.sources.mqtt_payloads import Decoded, decode, joined
from historian.ingest.sources.topics import TopicRule
from historian.schema.paths import path_fault

NOW = 1_750_000_000_000_000
T0 = 1_767_225_600_000_000
SECOND = 1_000_000


def decoded(payload: object, /, **rule: Any) -> Decoded:
    """What a payload comes to; what is not bytes is sent as JSON."""
    return decode(
        TopicRule.model_validate({"topic": "site/#"} | rule), "a/b", payload if isinstance(payload, bytes) else orjson.dumps(payload), NOW
    )


def rows(out: Decoded) -> list[tuple[str, int, object, int]]:
    samples = joined([out.rows, *out.parts])
    texts = samples.text.to_pylist() if samples.text is not None else [None] * len(samples)
    values = [
        text if text is not None else None if math.isnan(value) else value
        for text, value in zip(texts, samples.value.tolist(), strict=True)
    ]
    return list(zip([samples.paths[n] for n in samples.tag.tolist()], samples.ts.tolist(), values, samples.quality.tolist(), strict=True))


@pytest.mark.parametrize(
    ("payload", "value", "quality"),
    [
        (b"21.5", 21.5, 192),
        (b" +7 ", 7.0, 192),
        (b"-1e3", -1000.0, 192),
        (b"true", 1.0, 192),
        (b"FALSE", 0.0, 192),
        (b"null", None, 0),
        (b"NaN", None, 0),
        (b'"21.5"', "21.5", 192),
        (b"RUNNING", "RUNNING", 192),
        ("läuft".encode(), "läuft", 192),
        (b"1_000", "1_000", 192),
    ],
)
def test_a_bare_value_is_a_sample_at_its_arrival(payload: bytes, value: object, quality: int) -> None:
    out = decoded(payload)
    assert rows(out) == [("a/b", NOW, value, quality)]
    assert (out.by_arrival, out.faults) == (True, [])


@pytest.mark.parametrize(
    "payload", [b"Infinity", b"-inf", b"1e999", b'{"value":Infinity}', b'{"value":1e999}', b"\xff\xfe", b"{", b"[1,", b'{"value":[1]}']
)
def test_what_is_no_value_is_a_reason(payload: bytes) -> None:
    out = decoded(payload)
    assert rows(out) == []
    assert out.reason


def test_nan_of_a_program_that_does_not_know_json_is_a_bad_sample() -> None:
    assert rows(decoded(b'{"value": NaN, "ts": 1767225600}')) == [("a/b", T0, None, 0)]


@pytest.mark.parametrize(
    ("stamp", "unit", "us"),
    [
        ("2026-01-01T00:00:00Z", "auto", T0),
        ("2026-01-01T01:00:00.123456789+01:00", "iso", T0 + 123456),
        ("2026-01-01 00:00:00", "auto", T0),
        (1767225600, "auto", T0),
        (1767225600.25, "auto", T0 + 250_000),
        ("1767225600.25", "auto", T0 + 250_000),
        (1767225600123, "auto", T0 + 123_000),
        (1767225600123456, "auto", T0 + 123_456),
        (1767225600123456789, "auto", T0 + 123_456),
        (1767225600, "s", T0),
        (5000, "ms", 5 * SECOND),
        (1767225600123456.0, "us", T0 + 123_456),
        ("1767225600000000999", "ns", T0),
    ],
)
def test_timestamps_in_every_unit_alone_and_in_arrays(stamp: object, unit: str, us: int) -> None:
    rule = {"timestamp": "$.t", "timestamp_unit": unit}
    assert rows(decoded({"t": stamp, "value": 1}, **rule)) == [("a/b", us, 1.0, 192)]
    assert rows(decoded([{"t": stamp, "value": n} for n in range(3)], **rule)) == [("a/b", us, float(n), 192) for n in range(3)]


@pytest.mark.parametrize(
    "stamp",
    ["yesterday", "", None, True, [], -1, 1e300, 10**30, 2**63 - 1, -(2**63), "9" * 50, "1" * 39 + ".x", "2026-02-30", "2101-01-01"],
)
@pytest.mark.parametrize("unit", ["auto", "iso", "s", "ms", "us"])
def test_what_is_no_time_is_a_reason_alone_and_in_arrays(stamp: object, unit: str) -> None:
    rule = {"timestamp": "$.t", "timestamp_unit": unit}
    payload = json.dumps({"t": stamp, "value": 1}).encode()
    assert (rows(decoded(payload, **rule)), "timestamp" in decoded(payload, **rule).reason) == ([], True)
    mixed = decoded(b"[" + payload + b',{"t":"2026-01-01T00:00:00Z","value":2}]', **rule)
    assert (rows(mixed), "item 0: timestamp" in mixed.reason) == ([("a/b", T0, 2.0, 192)], True)


def test_an_object_with_a_value_is_one_sample_and_without_one_all_its_leaves() -> None:
    assert rows(decoded({"timestamp": 1767225600, "value": 5, "unit": "bar"})) == [("a/b", T0, 5.0, 192)]
    out = decoded({"ts": 1767225600, "quality": 80, "temp": 20.5, "motor": {"on": True, "mode": "auto", "amps": [1, None]}})
    assert rows(out) == [
        ("a/b/temp", T0, 20.5, 80),
        ("a/b/motor/on", T0, 1.0, 80),
        ("a/b/motor/mode", T0, "auto", 80),
        ("a/b/motor/amps/0", T0, 1.0, 80),
        ("a/b/motor/amps/1", T0, None, 0),
    ]
    assert out.bools == ["a/b/motor/on"]


def test_selected_fields_include_and_exclude_leaves_by_their_path() -> None:
    payload = {"time": 1767225600, "value": 1, "m": {"a": 2, "b": 3, "c": {"d": 4}}, "x": 5}
    assert [row[0] for row in rows(decoded(payload, fields="all"))] == ["a/b/value", "a/b/m/a", "a/b/m/b", "a/b/m/c/d", "a/b/x"]
    assert [row[0] for row in rows(decoded(payload, fields="all", include=["m/+", "x"], exclude=["m/b"]))] == ["a/b/m/a", "a/b/x"]
    assert "no value" in decoded(payload, fields="all", include=["nothing"]).reason


def test_a_leaf_that_is_wrong_does_not_take_the_others_with_it() -> None:
    out = decoded({"ts": 1767225600, "good": 1, "": 2, "a/+": 3, "nul": "\x00", "long": "x" * 70_000})
    assert rows(out) == [("a/b/good", T0, 1.0, 192)]
    assert out.fault_count == 4
    assert "its other 1 samples were taken" in out.reason


@pytest.mark.parametrize(
    ("quality", "mapped", "given", "without_value"),
    [
        (192, {}, 192, 0),
        (10, {}, 10, 10),
        ("GOOD", {}, 192, 0),
        ("Bad", {}, 0, 0),
        (True, {}, 192, 0),
        (False, {}, 0, 0),
        ("ok", {"OK": 200}, 200, 0),
        (1, {"1": 24}, 24, 24),
        ("80", {}, 80, 0),
    ],
)
def test_qualities_by_number_word_and_map_alone_and_in_arrays(
    quality: object, mapped: dict[str, int], given: int, without_value: int
) -> None:
    rule = {"quality": "q", "quality_map": mapped}
    for value, expected in ((1.0, given), (None, without_value)):
        one = {"ts": 1767225600, "value": value, "q": quality}
        assert rows(decoded(one, **rule)) == [("a/b", T0, value, expected)]
        assert rows(decoded([one, one], **rule)) == [("a/b", T0, value, expected)] * 2


@pytest.mark.parametrize("quality", ["fine", 256, -1, 1.5, [], {}])
def test_a_quality_that_is_none_is_a_reason_alone_and_in_arrays(quality: object) -> None:
    one = {"ts": 1767225600, "value": 1, "quality": quality}
    for payload in (one, [one]):
        out = decoded(payload)
        assert rows(out) == []
        assert "quality" in out.reason


def test_arrays_of_objects_pairs_and_plain_values() -> None:
    objects = [{"time": 1767225600 + n, "v": n / 2} for n in range(3)]
    expected = [("a/b", T0 + n * SECOND, n / 2, 192) for n in range(3)]
    assert rows(decoded(objects, value="v")) == expected
    assert rows(decoded({"asset": "x", "samples": objects}, value="v", items="$.samples")) == expected
    assert rows(decoded([[item["time"], item["v"]] for item in objects])) == expected
    assert rows(decoded({"ts": 1767225602, "v": [0, 0.5, 1]}, items="v", interval_s=1)) == expected
    assert rows(decoded([0, 0.5], interval_s=0.5)) == [("a/b", NOW - 500_000, 0.0, 192), ("a/b", NOW, 0.5, 192)]


def test_plain_values_that_would_begin_before_1970_are_a_reason() -> None:
    assert "before 1970" in decoded(list(range(100)), interval_s=86400 * 366).reason


def test_an_array_of_objects_with_several_values_gives_each_its_tag() -> None:
    out = decoded([{"ts": 1767225600 + n, "x": n, "y": {"z": -n}} for n in range(2)])
    assert rows(out) == [
        ("a/b/x", T0, 0.0, 192),
        ("a/b/y/z", T0, 0.0, 192),
        ("a/b/x", T0 + SECOND, 1.0, 192),
        ("a/b/y/z", T0 + SECOND, -1.0, 192),
    ]


def test_an_item_that_is_wrong_is_left_out_and_told_by_its_number() -> None:
    out = decoded([{"ts": 1767225600, "value": 1}, {"ts": 1767225601}, {"ts": "x", "value": 3}, {"ts": 1767225603, "value": "text"}])
    assert rows(out) == [("a/b", T0, 1.0, 192), ("a/b", T0 + 3 * SECOND, "text", 192)]
    assert "item 1: value: is not in the payload" in out.reason
    assert "item 2: timestamp" in out.reason


@pytest.mark.parametrize("payload", [[], [1, 2], [{"value": 1}, {"value": 2}], [[1, 2, 3]], [1, [2]], [{"ts": 1, "value": 2}, 3]])
def test_arrays_that_are_no_series_are_a_reason(payload: object) -> None:
    out = decoded(payload)
    assert rows(out) == []
    assert out.reason


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        ("float", "21.5", 21.5),
        ("bool", "on", 1.0),
        ("bool", "OFF", 0.0),
        ("digital", "open", 3.0),
        ("digital", 3, 3.0),
        ("text", 5, "5"),
        ("text", True, "true"),
        ("int", "nan", None),
    ],
)
def test_values_follow_the_kind_that_the_rule_gives(kind: str, raw: object, value: object) -> None:
    rule: dict[str, Any] = {"kind": kind} | ({"states": {"3": "open"}} if kind == "digital" else {})
    one = {"ts": 1767225600, "value": raw}
    assert [row[2] for row in rows(decoded(one, **rule))] == [value]
    assert [row[2] for row in rows(decoded([one], **rule))] == [value]


def test_depth_and_breadth_are_bounded() -> None:
    deep: Any = 1
    for _ in range(200):
        deep = {"x": deep}
    assert "nested" in decoded(deep).reason
    assert "more than 10000" in decoded({str(n): n for n in range(10_001)}).reason
    assert decoded(b"[" * 100_000).reason


_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([T0, "2026-01-01T00:00:00Z", "good", "NaN"])
)
_KEYS = st.sampled_from(["value", "ts", "time", "timestamp", "quality", "a", "b/c", "+", "", "samples"]) | st.text(max_size=3)
_JSON = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=12)
_RULES = st.sampled_from(
    [
        {},
        {"payload": "value"},
        {"payload": "object"},
        {"payload": "array", "interval_s": 0.1},
        {"interval_s": 1e-6},
        {"items": "samples", "interval_s": 2},
        {"value": "a", "timestamp": "arrival"},
        {"fields": "all", "include": ["+"], "exclude": ["a"]},
        {"quality": "quality", "quality_map": {"good": 200}},
        {"timestamp": "ts", "timestamp_unit": "ms", "kind": "float"},
        {"kind": "text"},
        {"kind": "digital", "states": {"1": "good"}},
    ]
)


@given(_RULES, _JSON)
@example({}, [{"ts": -(2**63), "value": 1}])
@example({"timestamp": "ts", "timestamp_unit": "ms"}, [{"ts": 2**63 - 1, "value": 1}])
def test_any_json_is_samples_or_a_reason_and_never_an_exception(rule: dict[str, Any], document: object) -> None:
    _check(decoded(json.dumps(document).encode(), **rule))


@given(_RULES, st.binary(max_size=30))
def test_any_bytes_are_samples_or_a_reason_and_never_an_exception(rule: dict[str, Any], payload: bytes) -> None:
    _check(decoded(payload, **rule))


def _check(out: Decoded) -> None:
    """What the database will take."""
    samples = joined([out.rows, *out.parts])
    assert len(samples) or out.faults
    assert (out.fault_count > 0) == bool(out.reason)
    assert all(path_fault(path) is None for path in samples.paths)
    assert not np.isinf(samples.value).any()
    text = (
        np.zeros(len(samples), np.bool_)
        if samples.text is None
        else np.array([one is not None for one in samples.text.to_pylist()], np.bool_)
    )
    assert (samples.quality[np.isnan(samples.value) & ~text] < 64).all()
    assert ((samples.quality >= 0) & (samples.quality <= 255)).all()
    assert (samples.ts >= 0).all() or not len(samples)
