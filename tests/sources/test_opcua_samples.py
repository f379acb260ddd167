"""Data values of OPC UA as samples: times, bad values, and what a tag cannot hold."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("asyncua")
import numpy as np
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from historian.ingest.sources.opcua_decode import decode_values
from historian.ingest.sources.opcua_nodes import FoundNode
from historian.ingest.sources.opcua_samples import NodeTable, Taken
from historian.schema.catalogue import Kind, TagDefinition

T0 = 1_750_000_000_000_000
T = ua.VariantType
KINDS: tuple[Kind | None, ...] = ("float", "int", "bool", "digital", "text", None)


def _table(*kinds: Kind | None) -> NodeTable:
    return NodeTable(
        [
            FoundNode(f"t/{n}", None, ua.NodeId(n + 1, 2), "", kind, (), False, TagDefinition(path=f"t/{n}", kind=kind))
            for n, kind in enumerate(kinds)
        ]
    )


def _at(us: int | None) -> datetime | None:
    return None if us is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


def _taken(table: NodeTable, rows: list[tuple[int, ua.Variant, int, int | None, int | None]], arrival: int | None = T0) -> Taken:
    items = [ua.DataValue(value, ua.StatusCode(status), _at(source), _at(server)) for _, value, status, source, server in rows]
    values, _ = decode_values(b"".join(struct_to_binary(item) for item in items), 0, len(items), handles=False)
    return table.take(values, np.array([row[0] for row in rows], np.int64), arrival)


def _rows(taken: Taken) -> list[tuple[str, int, Any, int]]:
    samples = taken.samples
    texts = samples.text.to_pylist() if samples.text is not None else [None] * len(samples)
    values = [
        text if text is not None else None if math.isnan(value) else value
        for text, value in zip(texts, samples.value.tolist(), strict=True)
    ]
    paths = [samples.paths[n] for n in samples.tag.tolist()]
    return list(zip(paths, samples.ts.tolist(), values, samples.quality.tolist(), strict=True))


def test_the_source_timestamp_counts_then_the_server_timestamp_then_the_arrival() -> None:
    one = ua.Variant(1.0, T.Double)
    rows = [(0, one, 0, T0 + 1, T0 + 2), (0, one, 0, None, T0 + 3), (0, one, 0, None, None)]
    assert [ts for _, ts, _, _ in _rows(_taken(_table("float"), rows, T0 + 9))] == [T0 + 1, T0 + 3, T0 + 9]
    # a history without any time is no history
    assert [ts for _, ts, _, _ in _rows(_taken(_table("float"), rows, None))] == [T0 + 1, T0 + 3]


def test_a_value_under_a_bad_status_is_kept_and_no_value_is_never_good() -> None:
    rows = [
        (0, ua.Variant(7.0, T.Double), ua.StatusCodes.BadSensorFailure, T0, None),
        (0, ua.Variant(math.nan, T.Double), 0, T0 + 1, None),
        (0, ua.Variant(), ua.StatusCodes.UncertainLastUsableValue, T0 + 2, None),
        (1, ua.Variant(), 0, T0 + 3, None),
        (1, ua.Variant("", T.String), 0, T0 + 4, None),
        (0, ua.Variant(), ua.StatusCodes.BadNoCommunication, T0 + 5, None),
    ]
    assert _rows(_taken(_table("float", "text"), rows)) == [
        ("t/0", T0, 7.0, 16),
        ("t/0", T0 + 1, None, 0),
        ("t/0", T0 + 2, None, 0),
        ("t/1", T0 + 3, None, 0),
        ("t/1", T0 + 4, "", 192),
        ("t/0", T0 + 5, None, 24),
    ]


VARIANTS = st.one_of(
    st.builds(lambda x: ua.Variant(x, T.Double), st.floats()),
    st.builds(lambda x: ua.Variant(x, T.Int64), st.integers(-(2**63), 2**63 - 1)),
    st.builds(lambda x: ua.Variant(x, T.Boolean), st.booleans()),
    st.builds(lambda x: ua.Variant(x, T.String), st.text(st.characters(exclude_categories=["Cs"]), max_size=5)),
    st.builds(lambda x: ua.Variant(x, T.Float, is_array=True), st.lists(st.floats(width=32), max_size=3)),
    st.just(ua.Variant()),
)


@given(
    st.lists(
        st.tuples(
            st.integers(0, len(KINDS) - 1), VARIANTS, st.sampled_from([0, 0x40000000, 0x80000000]), st.integers(T0, T0 + 100), st.none()
        ),
        max_size=20,
    )
)
def test_every_value_becomes_a_sample_that_its_tag_can_hold_or_is_refused_by_name(
    rows: list[tuple[int, ua.Variant, int, int | None, int | None]],
) -> None:
    taken = _taken(_table(*KINDS), rows)
    kept = _rows(taken)
    assert taken.node.tolist() == [int(path[2:]) for path, _, _, _ in kept]
    beyond = [n for n, value, *_ in rows if KINDS[n] == "int" and value.VariantType is T.Int64 and abs(value.Value) > 2**53]
    # a large integer is both: refused by name, and a bad sample
    assert len(kept) + sum(count for _, count in taken.refused.values()) == len(rows) + len(beyond)
    for path, _, value, quality in kept:
        kind = KINDS[int(path[2:])]
        assert kind is not None
        if value is None:
            assert quality < 64
        else:
            assert isinstance(value, str) is (kind == "text")
    for number, (reason, _) in taken.refused.items():
        assert "hold" in reason or "2^53" in reason
        assert 0 <= number < len(KINDS)
