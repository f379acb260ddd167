"""What edge nodes should not send, and do: every message is answered, with samples that a worker can keep, with a fault, or both."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sparkplug_state import BOOLEAN, DATETIME, DOUBLE, FLOAT, INT8, INT32, INT64, MS, NOW, STRING, UINT8, UINT64, EdgeNode, rows

from historian.ingest.decode.checks import EARLIEST_US, LATEST_US
from historian.ingest.path_samples import PathSamples
from historian.ingest.sources.sparkplug_b_pb2 import Payload
from historian.ingest.sources.sparkplug_state import MAX_NODES, Message, Outcome, SparkplugState
from historian.schema.paths import path_fault


def taken(state: SparkplugState, message: Message) -> list[Outcome]:
    """As the source does it: fed, made columns of, and what is known of the nodes written down."""
    outcomes = state.feed(message)
    found = [row for outcome in outcomes for row in outcome.rows]
    if found:
        samples = PathSamples.of_rows(found)
        samples.to_record_batch()
        assert all(path_fault(path) is None for path in samples.paths)
        assert ((samples.ts >= EARLIEST_US) & (samples.ts < LATEST_US)).all()
        assert not np.isinf(samples.value).any()
    for key in state.changed:
        SparkplugState().restore(orjson.loads(orjson.dumps(state.keep(key))))
    return outcomes


def born(**metric: Any) -> list[Outcome]:
    payload = Payload(timestamp=MS)
    payload.metrics.add(name="m", **metric)
    payload.metrics.add(name="beside", datatype=DOUBLE, double_value=1.0)
    return taken(SparkplugState(), EdgeNode().message("NBIRTH", payload))


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        ({"datatype": STRING, "string_value": "a\0b"}, "NUL"),
        ({"datatype": STRING, "string_value": "x" * 2_000_000}, "bytes"),
        ({"datatype": STRING, "double_value": 1.0}, "is no text"),
        ({"datatype": DOUBLE, "string_value": "1"}, "is no number"),
        ({"datatype": FLOAT, "float_value": float("-inf")}, "infinite"),
        ({"datatype": INT32, "double_value": 1.5}, "integer's"),
        ({"datatype": INT32, "double_value": float("inf")}, "infinite"),
        ({"datatype": INT64, "long_value": 2**63}, "beyond"),
        ({"datatype": UINT8, "int_value": 300}, "does not have"),
        ({"datatype": UINT64, "long_value": 2**53 + 1}, "beyond"),
        ({"datatype": DATETIME, "long_value": 2**64 - 1}, "beyond"),
    ],
)
def test_a_value_that_its_tag_cannot_hold_is_a_bad_sample_and_told_and_the_rest_is_taken(metric: dict[str, Any], reason: str) -> None:
    (outcome,) = born(**metric)
    assert rows([outcome]) == [("plant/edge/m", MS * 1000, None, 0), ("plant/edge/beside", MS * 1000, 1.0, 192)]
    assert len(outcome.faults) == 1
    assert reason in outcome.faults[0]


@pytest.mark.parametrize("ms", [2**64 - 1, 2**63, LATEST_US // 1000])
def test_a_time_that_no_sample_can_have_is_told_and_the_rest_is_taken(ms: int) -> None:
    (outcome,) = born(datatype=DOUBLE, double_value=2.0, timestamp=ms)
    assert rows([outcome]) == [("plant/edge/beside", MS * 1000, 1.0, 192)]
    assert "outside 1970 to 2100" in outcome.faults[0]
    (whole,) = taken(SparkplugState(), EdgeNode().message("NBIRTH", _of_one(Payload(timestamp=ms))))
    assert (rows([whole]), len(whole.faults)) == ([], 1)


def _of_one(payload: Payload) -> Payload:
    payload.metrics.add(name="m", alias=1, datatype=DOUBLE, double_value=1.0)
    return payload


@pytest.mark.parametrize("where", ["name", "text", "unit", "about"])
def test_text_that_is_not_utf_8_is_answered_wherever_it_stands(where: str) -> None:
    payload = Payload(timestamp=MS, seq=0)
    metric = payload.metrics.add(name="nameXX", datatype=STRING, string_value="textXX")
    for key, value in (("engUnit", "unitXX"), ("description", "aboutXX")):
        metric.properties.keys.append(key)
        metric.properties.values.add(type=STRING, string_value=value)
    broken = payload.SerializeToString().replace(where.encode() + b"XX", where.encode() + b"\xff\xfe")
    (outcome,) = taken(SparkplugState(), Message("spBv1.0/plant/NBIRTH/edge", broken, NOW))
    assert bool(outcome.faults) == (where in ("name", "text"))
    assert len(outcome.rows) == (where != "name")


def test_an_alias_of_two_metrics_names_neither() -> None:
    state, node = SparkplugState(), EdgeNode()
    payload = _of_one(Payload(timestamp=MS))
    payload.metrics.add(name="n", alias=1, datatype=DOUBLE, double_value=2.0)
    (birth,) = taken(state, node.message("NBIRTH", payload))
    assert "alias 1" in birth.faults[0]
    (data,) = taken(state, node.data({1: 5.0}))
    assert (rows([data]), data.faults) == ([], ["alias 1 is that of two metrics"])
    # being born again would not help
    assert state.rebirths == []


def test_a_node_whose_births_do_not_help_is_asked_ever_more_seldom() -> None:
    state, node = SparkplugState(), EdgeNode()
    for _ in range(3600):
        node.arrival += 1_000_000
        if state.rebirths and state.rebirths.pop():
            taken(state, node.birth({"a": (1, DOUBLE, 1.0)}))
        taken(state, node.data({99: 1.0}))
    assert 3 <= state.counts["rebirth_requests"] <= 12


def test_a_tag_is_good_again_after_a_birth_that_brings_a_value_older_than_the_death() -> None:
    state, node = SparkplugState(), EdgeNode()
    taken(state, node.birth({"a": (1, DOUBLE, 1.0)}))
    ((_, died, value, _),) = rows(taken(state, node.death()))
    assert value is None
    again = rows(taken(state, node.birth({"a": (1, DOUBLE, 1.0)})))
    assert max(again, key=lambda row: row[1])[2:] == (1.0, 192)
    assert max(again, key=lambda row: row[1])[1] > died
    # a birth of what lives repeats nothing
    assert len(rows(taken(state, node.birth({"a": (1, DOUBLE, 1.0)})))) == 1


def test_a_death_is_later_than_samples_of_a_node_whose_clock_is_ahead() -> None:
    state, node = SparkplugState(), EdgeNode()
    taken(state, node.birth({"a": (1, DOUBLE, 1.0)}))
    ahead = NOW // 1000 + 60_000
    taken(state, node.data({1: 2.0}, ahead))
    assert rows(taken(state, node.death())) == [("plant/edge/a", ahead * 1000 + 1, None, 24)]


def test_a_death_that_waited_for_the_worker_over_its_restart_counts() -> None:
    state, node = SparkplugState(), EdgeNode()
    taken(state, node.birth({"a": (1, DOUBLE, 1.0)}))
    taken(state, node.birth({"b": (2, DOUBLE, 1.0)}, "drive"))
    next_life = SparkplugState()
    next_life.restore(orjson.loads(orjson.dumps(state.keep(("plant", "edge")))))
    dead = node.death()
    assert [(tag, value) for tag, _, value, _ in rows(taken(next_life, dead))] == [("plant/edge/a", None), ("plant/edge/drive/b", None)]
    assert rows(taken(next_life, dead)) == []


def test_a_metric_that_a_rebirth_does_not_have_is_stale_and_its_path_free() -> None:
    state, node = SparkplugState(), EdgeNode()
    taken(state, node.birth({"a+b": (1, DOUBLE, 1.0), "c": (2, DOUBLE, 1.0)}))
    (outcome,) = taken(state, node.birth({"a_b": (1, DOUBLE, 2.0)}))
    assert outcome.faults == []
    last = {tag: value for tag, ts, value, _ in sorted(rows([outcome]), key=lambda row: row[1])}
    assert last == {"plant/edge/c": None, "plant/edge/a_b": 2.0}


def test_the_nodes_that_are_known_are_bounded() -> None:
    state = SparkplugState()
    refused = [
        outcome for n in range(MAX_NODES + 5) for outcome in state.feed(Message(f"spBv1.0/g/NDEATH/{n}", b"", NOW)) if outcome.faults
    ]
    assert len(refused) == 5


#: payloads that parse, of whatever nodes could put into them
METRICS = st.fixed_dictionaries(
    {"datatype": st.integers(0, 40)},
    optional={
        "name": st.text(max_size=8),
        "alias": st.integers(0, 3),
        "timestamp": st.one_of(st.just(MS), st.integers(0, 2**64 - 1)),
        "is_null": st.booleans(),
        "is_historical": st.booleans(),
        "is_transient": st.booleans(),
    },
)
VALUES = st.one_of(
    st.tuples(st.just("int_value"), st.integers(0, 2**32 - 1)),
    st.tuples(st.just("long_value"), st.integers(0, 2**64 - 1)),
    st.tuples(st.just("float_value"), st.floats(width=32)),
    st.tuples(st.just("double_value"), st.floats()),
    st.tuples(st.just("boolean_value"), st.booleans()),
    st.tuples(st.just("string_value"), st.text(max_size=5)),
    st.tuples(st.just("bytes_value"), st.binary(max_size=5)),
)
PROPERTIES = st.lists(
    st.tuples(
        st.sampled_from(["Quality", "engUnit", "engLow", "engHigh", "description"]),
        VALUES.filter(lambda value: value[0] != "bytes_value"),
    ),
    max_size=4,
)
MESSAGES = st.tuples(
    st.sampled_from(["NBIRTH/e", "DBIRTH/e/d", "NDATA/e", "DDATA/e/d", "NDEATH/e", "DDEATH/e/d"]),
    st.lists(st.tuples(METRICS, VALUES, PROPERTIES), max_size=4),
    st.one_of(st.none(), st.just(MS), st.integers(0, 2**64 - 1)),
    st.one_of(st.none(), st.integers(0, 300), st.integers(0, 2**64 - 1)),
)


@settings(max_examples=300, deadline=None)
@given(messages=st.lists(MESSAGES, max_size=6))
def test_whatever_is_in_a_payload_becomes_samples_that_can_be_kept_or_is_told(messages: list[Any]) -> None:
    state = SparkplugState()
    for topic, metrics, timestamp, seq in messages:
        payload = Payload()
        for fields, (form, value), properties in metrics:
            metric = payload.metrics.add(**fields)
            setattr(metric, form, value)
            for key, (shape, content) in properties:
                metric.properties.keys.append(key)
                setattr(metric.properties.values.add(), shape, content)
        if timestamp is not None:
            payload.timestamp = timestamp
        if seq is not None:
            payload.seq = seq
        taken(state, Message(f"spBv1.0/g/{topic}", payload.SerializeToString(), NOW))


def test_signed_integers_of_either_form_are_read_alike() -> None:
    for raw in (0xFF, 0xFFFFFFFF):
        (outcome,) = born(datatype=INT8, int_value=raw)
        assert rows([outcome])[0][2] == -1.0
    (outcome,) = born(datatype=BOOLEAN, int_value=1)
    assert rows([outcome])[0][2] == 1.0
