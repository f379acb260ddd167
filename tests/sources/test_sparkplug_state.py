"""Sparkplug's rules, message by message: names only within births, nothing guessed, nothing raised."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from historian.ingest.sources.sparkplug_b_pb2 import Payload
from historian.ingest.sources.sparkplug_state import MAX_HELD, Message, Outcome, SparkplugState
from historian.ingest.sources.sparkplug_types import put_value, value_of

MS = 1_767_225_600_000
NOW = MS * 1000 + 5_000_000

INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, FLOAT, DOUBLE, BOOLEAN, STRING, DATETIME, TEXT, UUID, DATASET, BYTES = range(
    1, 18
)


class EdgeNode:
    """Makes the messages of one node and its devices, with running sequence numbers."""

    def __init__(self, group: str = "plant", name: str = "edge") -> None:
        self.group, self.name = group, name
        self.seq = -1
        self.bd_seq = 0
        self.arrival = NOW

    def message(self, kind: str, payload: Payload, device: str | None = None, *, counted: bool = True, dup: bool = False) -> Message:
        if counted:
            self.seq = 0 if kind == "NBIRTH" else (self.seq + 1) % 256
            payload.seq = self.seq
        self.arrival += 1000
        topic = "/".join(filter(None, ("spBv1.0", self.group, kind, self.name, device)))
        return Message(topic, payload.SerializeToString(), self.arrival, dup)

    def birth(self, metrics: dict[str, tuple[int, int, float]], device: str | None = None) -> Message:
        """Of name: (alias, datatype, value)."""
        payload = Payload(timestamp=MS)
        if device is None:
            payload.metrics.add(name="bdSeq", datatype=UINT64, long_value=self.bd_seq)
            payload.metrics.add(name="Node Control/Rebirth", datatype=BOOLEAN, boolean_value=False)
        for name, (alias, datatype, value) in metrics.items():
            payload.metrics.add(name=name, alias=alias, datatype=datatype, timestamp=MS, double_value=value)
        return self.message("NBIRTH" if device is None else "DBIRTH", payload, device)

    def data(self, values: dict[int, float], ms: int = MS + 1000, device: str | None = None) -> Message:
        payload = Payload(timestamp=ms)
        for alias, value in values.items():
            payload.metrics.add(alias=alias, double_value=value)
        return self.message("NDATA" if device is None else "DDATA", payload, device)

    def death(self) -> Message:
        payload = Payload(timestamp=1)
        payload.metrics.add(name="bdSeq", datatype=UINT64, long_value=self.bd_seq)
        return self.message("NDEATH", payload, counted=False)


def rows(outcomes: list[Outcome]) -> list[tuple[str, int, Any, int]]:
    return [(row["tag"], row["ts"], row.get("text", row["value"]), row["quality"]) for outcome in outcomes for row in outcome.rows]


def test_a_birth_names_what_data_bring_by_alias() -> None:
    state, node = SparkplugState(), EdgeNode()
    born = state.feed(node.birth({"Line/Temp": (1, DOUBLE, 20.5), "Line/Flow": (2, FLOAT, 3.0)}))
    assert rows(born) == [("plant/edge/Line/Temp", MS * 1000, 20.5, 192), ("plant/edge/Line/Flow", MS * 1000, 3.0, 192)]
    assert {d.path: d.kind for d in born[0].definitions} == {"plant/edge/Line/Temp": "float", "plant/edge/Line/Flow": "float"}
    assert rows(state.feed(node.birth({"Speed": (3, INT32, 7.0)}, "drive"))) == [("plant/edge/drive/Speed", MS * 1000, 7.0, 192)]
    assert rows(state.feed(node.data({2: 4.0}))) == [("plant/edge/Line/Flow", (MS + 1000) * 1000, 4.0, 192)]
    assert rows(state.feed(node.data({3: 8.0}, device="drive"))) == [("plant/edge/drive/Speed", (MS + 1000) * 1000, 8.0, 192)]
    assert state.rebirths == []


@pytest.mark.parametrize(
    ("datatype", "field", "given_value", "expected"),
    [
        (INT8, "int_value", 0xFF, -1.0),
        (INT8, "int_value", 0xFFFFFFFE, -2.0),
        (INT16, "int_value", 0x8000, -32768.0),
        (INT32, "int_value", 0xFFFFFFFF, -1.0),
        (INT32, "long_value", 0xFFFFFFFFFFFFFFFF, -1.0),
        (INT64, "long_value", 2**64 - 5, -5.0),
        (INT64, "long_value", 2**53, 2.0**53),
        (UINT8, "int_value", 255, 255.0),
        (UINT32, "int_value", 2**32 - 1, 2.0**32 - 1),
        (UINT32, "long_value", 2**32 - 1, 2.0**32 - 1),
        (UINT64, "long_value", 12, 12.0),
        (FLOAT, "float_value", 0.5, 0.5),
        (DOUBLE, "double_value", 0.1, 0.1),
        (BOOLEAN, "boolean_value", True, 1.0),
        (DATETIME, "long_value", MS, float(MS)),
        (STRING, "string_value", "läuft", "läuft"),
        (TEXT, "string_value", "", ""),
        (UUID, "string_value", "123e4567", "123e4567"),
    ],
)
def test_every_data_type_is_read_as_it_is_meant(datatype: int, field: str, given_value: Any, expected: Any) -> None:
    state, node = SparkplugState(), EdgeNode()
    payload = Payload(timestamp=MS)
    payload.metrics.add(name="m", datatype=datatype, **{field: given_value})
    outcomes = state.feed(node.message("NBIRTH", payload))
    assert rows(outcomes) == [("plant/edge/m", MS * 1000, expected, 192)]


def test_what_no_tag_can_hold_is_told_at_the_birth_and_the_rest_is_taken() -> None:
    state, node = SparkplugState(), EdgeNode()
    payload = Payload(timestamp=MS)
    payload.metrics.add(name="blob", alias=1, datatype=BYTES, bytes_value=b"x")
    payload.metrics.add(name="table", alias=2, datatype=DATASET).dataset_value.num_of_columns = 2
    payload.metrics.add(name="far", alias=3, datatype=INT64, long_value=2**60)
    payload.metrics.add(name="good", alias=4, datatype=DOUBLE, double_value=1.0)
    payload.metrics.add(name="odd#na+me", alias=5, datatype=DOUBLE, double_value=2.0)
    payload.metrics.add(name="odd_na_me", alias=6, datatype=DOUBLE, double_value=3.0)
    payload.metrics.add(name="inf", alias=7, datatype=DOUBLE, double_value=float("inf"))
    (outcome,) = state.feed(node.message("NBIRTH", payload))
    assert rows([outcome]) == [
        ("plant/edge/far", MS * 1000, None, 0),
        ("plant/edge/good", MS * 1000, 1.0, 192),
        ("plant/edge/odd_na_me", MS * 1000, 2.0, 192),
        ("plant/edge/inf", MS * 1000, None, 0),
    ]
    text = "; ".join(outcome.faults)
    for part in ("'blob': a Bytes", "'table': a DataSet", "beyond ±2^53", "is that of metric 'odd#na+me'", "infinite"):
        assert part in text
    # at data it is not told again
    assert state.feed(node.data({1: 1.0, 4: 5.0}))[0].faults == []


def test_quality_nulls_times_and_transient_metrics() -> None:
    state, node = SparkplugState(), EdgeNode()
    state.feed(node.birth({"a": (1, DOUBLE, 1.0)}))
    payload = Payload(timestamp=MS + 5)
    payload.metrics.add(alias=1, is_null=True)
    for quality in (500, 0, 192, 68):
        metric = payload.metrics.add(alias=1, timestamp=MS + 10 + quality, double_value=2.0)
        metric.properties.keys.append("Quality")
        metric.properties.values.add(type=3, int_value=quality)
    payload.metrics.add(alias=1, is_transient=True, double_value=9.0)
    payload.metrics.add(alias=1, is_historical=True, timestamp=MS - 60_000, double_value=8.0)
    assert rows(state.feed(node.message("NDATA", payload))) == [
        ("plant/edge/a", (MS + 5) * 1000, None, 0),
        ("plant/edge/a", (MS + 510) * 1000, 2.0, 24),
        ("plant/edge/a", (MS + 10) * 1000, 2.0, 0),
        ("plant/edge/a", (MS + 202) * 1000, 2.0, 192),
        ("plant/edge/a", (MS + 78) * 1000, 2.0, 68),
        ("plant/edge/a", (MS - 60_000) * 1000, 8.0, 192),
    ]
    assert state.counts["transient"] == 1


def test_a_death_makes_everything_stale_and_an_old_will_does_not() -> None:
    state, node = SparkplugState(), EdgeNode()
    state.feed(node.birth({"a": (1, DOUBLE, 1.0)}))
    state.feed(node.birth({"b": (2, DOUBLE, 1.0)}, "drive"))
    node.bd_seq = 1
    old = EdgeNode()
    state.feed(node.birth({"a": (1, DOUBLE, 1.0)}))
    state.feed(node.birth({"b": (2, DOUBLE, 1.0)}, "drive"))
    assert rows(state.feed(old.death())) == []
    dead = node.death()
    assert rows(state.feed(dead)) == [("plant/edge/a", dead.arrival_us, None, 24), ("plant/edge/drive/b", dead.arrival_us, None, 24)]
    # and once
    assert rows(state.feed(dead)) == []


def test_a_device_dies_alone() -> None:
    state, node = SparkplugState(), EdgeNode()
    state.feed(node.birth({"a": (1, DOUBLE, 1.0)}))
    state.feed(node.birth({"b": (2, DOUBLE, 1.0)}, "drive"))
    assert rows(state.feed(node.message("DDEATH", Payload(timestamp=MS + 7), "drive"))) == [
        ("plant/edge/drive/b", (MS + 7) * 1000, None, 24)
    ]
    assert rows(state.feed(node.data({1: 5.0}))) == [("plant/edge/a", (MS + 1000) * 1000, 5.0, 192)]


def test_data_before_any_birth_ask_for_one_and_are_refused_when_it_comes() -> None:
    state, node = SparkplugState(), EdgeNode()
    early = node.data({1: 1.0})
    assert state.feed(early) == []
    assert state.rebirths == [("plant", "edge")]
    outcomes = state.feed(node.birth({"a": (1, DOUBLE, 2.0)}))
    # what alias 1 was before this birth, nobody knows
    assert (outcomes[0].message, bool(outcomes[0].faults)) == (early, True)
    assert rows(outcomes) == [("plant/edge/a", MS * 1000, 2.0, 192)]


def test_after_a_gap_data_wait_for_the_rebirth_and_are_kept_if_it_means_the_same() -> None:
    state, node = SparkplugState(), EdgeNode()
    state.feed(node.birth({"a": (1, DOUBLE, 1.0)}))
    node.data({1: 2.0})  # lost
    waiting = node.data({1: 3.0}, MS + 2000)
    assert state.feed(waiting) == []
    assert state.rebirths == [("plant", "edge")]
    outcomes = state.feed(node.birth({"a": (1, DOUBLE, 4.0)}))
    assert rows(outcomes) == [("plant/edge/a", (MS + 2000) * 1000, 3.0, 192), ("plant/edge/a", MS * 1000, 4.0, 192)]
    assert outcomes[0].message is waiting


def test_after_a_gap_data_are_refused_if_the_rebirth_means_something_else() -> None:
    for other_session in (False, True):
        state, node = SparkplugState(), EdgeNode()
        state.feed(node.birth({"a": (1, DOUBLE, 1.0)}))
        node.data({1: 2.0})  # lost
        state.feed(node.data({1: 3.0}))
        node.bd_seq += other_session
        outcomes = state.feed(node.birth({"b" if not other_session else "a": (1, DOUBLE, 4.0)}))
        assert len(outcomes[0].faults) == 1
        # beside the birth's own value, the metric that it does not have any more is stale
        assert [(tag, value) for tag, _, value, _ in rows(outcomes) if value is not None] == [
            ("plant/edge/a" if other_session else "plant/edge/b", 4.0)
        ]


def test_what_is_delivered_a_second_time_is_no_gap() -> None:
    state, node = SparkplugState(), EdgeNode()
    state.feed(node.birth({"a": (1, DOUBLE, 1.0)}))
    sent = [node.data({1: float(n)}, MS + n) for n in range(5)]
    for message in sent:
        state.feed(message)
    for message in sent[2:]:
        again = Message(message.topic, message.payload, message.arrival_us, True)
        assert len(rows(state.feed(again))) == 1
    assert len(rows(state.feed(node.data({1: 9.0})))) == 1
    assert state.rebirths == []


@pytest.mark.parametrize("restarted", [False, True])
def test_data_of_the_session_before_that_come_again_are_not_read_with_the_aliases_of_this_one(restarted: bool) -> None:
    state, node = SparkplugState(), EdgeNode()
    state.feed(node.birth({"a": (1, DOUBLE, 1.0)}))
    old = node.data({1: 100.0}, MS - 1)
    state.feed(old)
    node.bd_seq += 1
    birth = node.birth({"b": (1, DOUBLE, 2.0)})
    state.feed(birth)
    new = node.data({1: 200.0})
    state.feed(new)
    # the connection, or the worker, goes before the broker has the acknowledgements
    if restarted:
        kept, state = state.keep(("plant", "edge")), SparkplugState()
        state.restore(kept)
    else:
        state.distrust()
    found: list[Outcome] = []
    for message in (old, new, birth):
        arrival = node.arrival + 1000 if restarted else message.arrival_us
        found += state.feed(Message(message.topic, message.payload, arrival, True))
    assert {(tag, value) for tag, _, value, _ in rows(found) if value is not None} == {("plant/edge/b", 200.0), ("plant/edge/b", 2.0)}
    assert [outcome.faults for outcome in found if outcome.faults] == [["it comes again, and may be of the session before"]]


def test_what_waits_too_long_for_a_birth_is_refused_until_one_comes() -> None:
    state, node = SparkplugState(), EdgeNode()
    state.feed(node.data({1: 1.0}))
    assert state.wait(60, 60) == []
    assert len(state.wait(1, 60)) == 1
    assert state.counts["held"] == 0
    assert len(state.feed(node.data({1: 2.0}))[0].faults) == 1
    state.feed(node.birth({"a": (1, DOUBLE, 1.0)}))
    assert len(rows(state.feed(node.data({1: 3.0})))) == 1


def test_a_restart_keeps_the_births_and_waits_for_the_next() -> None:
    state, node = SparkplugState(), EdgeNode()
    state.feed(node.birth({"a": (1, DOUBLE, 1.0)}))
    state.feed(node.birth({"b": (2, DOUBLE, 1.0)}, "drive"))
    next_life = SparkplugState()
    next_life.restore(state.keep(("plant", "edge")))
    one, two = node.data({1: 5.0}), node.data({2: 6.0}, device="drive")
    assert next_life.feed(one) == next_life.feed(two) == []
    assert rows(next_life.feed(node.birth({"a": (1, DOUBLE, 7.0)})))[0] == ("plant/edge/a", (MS + 1000) * 1000, 5.0, 192)
    assert rows(next_life.feed(node.birth({"b": (2, DOUBLE, 8.0)}, "drive")))[0] == ("plant/edge/drive/b", (MS + 1000) * 1000, 6.0, 192)


def test_what_waits_is_bounded_and_what_is_beyond_is_refused_not_dropped() -> None:
    state, node = SparkplugState(), EdgeNode()
    refused = [outcome for _ in range(MAX_HELD + 10) for outcome in state.feed(node.data({1: 1.0}))]
    assert len(refused) == 10
    assert all("more wait than can be held" in outcome.faults[0] for outcome in refused)
    assert state.counts["held"] == MAX_HELD


def test_rebirths_are_not_asked_for_again_and_again() -> None:
    state, node = SparkplugState(), EdgeNode()
    for _ in range(100):
        state.feed(node.data({1: 1.0}))
    assert state.rebirths == [("plant", "edge")]
    node.arrival += 11_000_000
    state.feed(node.data({1: 1.0}))
    assert len(state.rebirths) == 2


@given(
    payload=st.binary(max_size=200),
    topic=st.sampled_from(["NBIRTH/e", "NDATA/e", "DBIRTH/e/d", "DDATA/e/d", "NDEATH/e", "DDEATH/e/d", "X/e", "", "NDATA"]),
)
def test_any_bytes_are_answered(payload: bytes, topic: str) -> None:
    state = SparkplugState()
    state.feed(EdgeNode("g", "e").birth({"a": (1, DOUBLE, 1.0)}))
    state.feed(Message(f"spBv1.0/g/{topic}", payload, NOW))


#: what happens at a node: a birth with one of two meanings of its aliases, in this session or a new one; data; and whether the message is lost
STEPS = st.lists(
    st.tuples(st.sampled_from(["birth", "data", "death", "restart", "again"]), st.booleans(), st.booleans(), st.integers(1, 2)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(steps=STEPS)
def test_no_loss_of_messages_ever_gives_a_sample_another_metrics_name(steps: list[tuple[str, bool, bool, int]]) -> None:
    """The value says which metric it is of: 100 and more for `a`, 200 and more for `b`. In one session an alias keeps its meaning, as the specification has it."""
    state, node = SparkplugState(), EdgeNode()
    meaning = {1: 100, 2: 200}
    born = False
    sent: list[Message] = []
    # births with QoS 0 are lost and never come again; with QoS 1 they may come again, and none is lost
    come_again = not any(what == "birth" and lost for what, lost, _, _ in steps)

    def check(message: Message) -> None:
        for tag, _, value, _ in rows(state.feed(message)):
            if value is not None:
                assert tag == ("plant/edge/a" if value < 200 else "plant/edge/b")

    for count, (what, lost, other, alias) in enumerate(steps):
        if what == "birth":
            if other or not born:
                node.bd_seq = (node.bd_seq + 1) % 256
                meaning = {1: 200, 2: 100} if other else {1: 100, 2: 200}
            born = True
            names = {100: "a", 200: "b"}
            message = node.birth({names[base]: (number, DOUBLE, float(base)) for number, base in meaning.items()})
        elif what == "data" and born:
            message = node.data({alias: float(meaning[alias] + count)}, MS + count)
        elif what == "death":
            message, born = node.death(), False
        elif what == "restart":
            kept = state.keep(("plant", "edge")) if ("plant", "edge") in state._nodes else None
            state = SparkplugState()
            if kept is not None:
                state.restore(kept)
            sent = []
            continue
        elif what == "again":
            # the connection broke before the broker had the acknowledgements of the last few
            state.distrust()
            for message in sent[-4 * alias :]:
                check(Message(message.topic, message.payload, message.arrival_us, True))
            continue
        else:
            continue
        if lost:
            # as messages are: with their connection
            state.distrust()
            continue
        if come_again or what != "birth":
            sent.append(message)
        check(message)
    # after a rebirth that arrives everything flows
    node.bd_seq = (node.bd_seq + 1) % 256
    state.feed(node.birth({"a": (1, DOUBLE, 100.0), "b": (2, DOUBLE, 200.0)}))
    assert rows(state.feed(node.data({2: 201.0}))) == [("plant/edge/b", (MS + 1000) * 1000, 201.0, 192)]


RANGES = {
    1: (-(2**7), 2**7 - 1),
    2: (-(2**15), 2**15 - 1),
    3: (-(2**31), 2**31 - 1),
    4: (-(2**53), 2**53),
    5: (0, 255),
    6: (0, 65535),
    7: (0, 2**32 - 1),
    8: (0, 2**53),
    13: (0, 2**53),
}


@given(st.sampled_from(sorted(RANGES)), st.integers(-(2**53), 2**53))
def test_an_integer_that_is_sent_is_what_is_read_or_is_refused(datatype: int, number: int) -> None:
    low, high = RANGES[datatype]
    metric = Payload.Metric(datatype=datatype)
    if low <= number <= high:
        put_value(metric, datatype, number)
        assert value_of(Payload.Metric.FromString(metric.SerializeToString()), datatype) == number
    else:
        with pytest.raises(ValueError, match="whole numbers"):
            put_value(metric, datatype, number)


def test_other_values_that_are_sent() -> None:
    for datatype, value in ((9, 0.5), (10, 0.1), (11, True), (11, False), (12, "ü"), (14, "")):
        metric = Payload.Metric(datatype=datatype)
        put_value(metric, datatype, value)
        assert value_of(Payload.Metric.FromString(metric.SerializeToString()), datatype) == value
    for datatype, wrong in ((9, 1e39), (10, "x"), (12, 1.0), (3, 1.5)):
        with pytest.raises(ValueError, match="the metric is a"):
            put_value(Payload.Metric(), datatype, wrong)
