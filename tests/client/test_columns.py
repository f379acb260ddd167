"""Data in all the forms that a notebook has become the batches of a write, each row where it belongs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from historian.client.columns import Part, parts
from historian.schema.errors import BadInput, BadSamples, Fault

T0 = 1_767_225_600_000_000
AT = datetime(2026, 1, 1, tzinfo=UTC)
Row = tuple[str, int, Any, int]


def rows_of(batches: list[Part]) -> list[Row]:
    """(tag, µs, value, quality) of all rows, a missing quality told as 192."""
    rows: list[Row] = []
    for part in batches:
        table = pa.ipc.open_stream(part.body()).read_all()
        assert len(table) == len(part.rows)
        quality = table.column("quality").to_pylist() if "quality" in table.column_names else [192] * len(table)
        rows += zip(
            table.column("tag").to_pylist(),
            table.column("ts").cast(pa.int64()).to_pylist(),
            table.column("value").to_pylist(),
            quality,
            strict=True,
        )
    return rows


LONG = [("a/x", T0, 1.5, 192), ("a/y", T0 + 1, 2.5, 0)]


@pytest.mark.parametrize(
    "data",
    [
        [{"tag": "a/x", "ts": AT, "value": 1.5}, {"tag": "a/y", "ts": T0 + 1, "value": 2.5, "quality": 0}],
        [
            {"tag": "a/x", "ts": "2026-01-01T01:00:00+01:00", "value": np.float64(1.5)},
            {"tag": "a/y", "ts": "2026-01-01T00:00:00.000001Z", "value": 2.5, "quality": 0},
        ],
        {"tag": ["a/x", "a/y"], "ts": [AT, AT + timedelta(microseconds=1)], "value": [1.5, 2.5], "quality": [192, 0]},
        {"tag": ["a/x", "a/y"], "ts": np.array([T0, T0 + 1]), "value": np.array([1.5, 2.5]), "quality": np.array([192, 0])},
        pd.DataFrame(
            {"tag": ["a/x", "a/y"], "ts": pd.to_datetime([T0, T0 + 1], unit="us", utc=True), "value": [1.5, 2.5], "quality": [192, 0]}
        ),
        pd.DataFrame(
            {"tag": pd.Categorical(["a/x", "a/y"]), "value": np.array([1.5, 2.5], np.float32), "quality": [192, 0]},
            index=pd.to_datetime([T0, T0 + 1], unit="us", utc=True).tz_convert("Europe/Vienna"),
        ),
        pa.table({"tag": ["a/x", "a/y"], "ts": [T0, T0 + 1], "value": [1.5, 2.5], "quality": [192, 0]}),
        pa.record_batch(
            {
                "tag": pa.array(["a/x", "a/y"]).dictionary_encode(),
                "ts": pa.array([T0 * 1000, (T0 + 1) * 1000 + 999], pa.timestamp("ns", "Asia/Tokyo")),
                "value": [1.5, 2.5],
                "quality": [192, 0],
            }
        ),
    ],
    ids=["dicts", "dicts-text-times", "dict-of-lists", "dict-of-arrays", "frame", "frame-indexed", "table", "batch"],
)
def test_long_data_of_any_form(data: Any) -> None:
    assert rows_of(list(parts(data))) == LONG


WIDE = [("a/x", T0, 1.5, 192), ("a/y", T0, 2.5, 192), ("a/x", T0 + 1, 3.5, 192)]


@pytest.mark.parametrize(
    "data",
    [
        pd.DataFrame({"a/x": [1.5, 3.5], "a/y": [2.5, np.nan]}, index=pd.to_datetime([T0, T0 + 1], unit="us", utc=True)),
        pd.DataFrame({"ts": pd.to_datetime([T0, T0 + 1], unit="us", utc=True), "a/x": [1.5, 3.5], "a/y": [2.5, None]}),
        pa.table({"ts": [T0, T0 + 1], "a/x": [1.5, 3.5], "a/y": [2.5, None]}),
        {"ts": [T0, T0 + 1], "a/x": [1.5, 3.5], "a/y": [2.5, float("nan")]},
    ],
    ids=["frame", "frame-ts", "table", "dict"],
)
def test_wide_data_of_any_form(data: Any) -> None:
    assert rows_of(list(parts(data))) == WIDE


def test_a_series_is_a_wide_frame_of_one_tag() -> None:
    series = pd.Series([1, 2], index=pd.to_datetime([T0, T0 + 1], unit="us", utc=True), name="a/count")
    assert rows_of(list(parts(series))) == [("a/count", T0, 1, 192), ("a/count", T0 + 1, 2, 192)]


def test_a_tag_of_its_own_for_all_rows() -> None:
    assert rows_of(list(parts({"tag": "a/x", "ts": [T0, T0 + 1], "value": [1.0, 2.0]}))) == [
        ("a/x", T0, 1.0, 192),
        ("a/x", T0 + 1, 2.0, 192),
    ]


def test_each_batch_has_one_type_of_value() -> None:
    data = [
        {"tag": "f", "ts": T0, "value": 1},
        {"tag": "t", "ts": T0, "value": "running"},
        {"tag": "f", "ts": T0 + 1, "value": 2.5},
        {"tag": "i", "ts": T0, "value": 7},
        {"tag": "b", "ts": T0, "value": True},
        {"tag": "f", "ts": T0 + 2, "value": None},
        {"tag": "t", "ts": T0 + 1, "value": None},
    ]
    made = list(parts(data))
    assert [part.table.schema.field("value").type for part in made] == [pa.float64(), pa.string(), pa.int64(), pa.bool_()]
    assert [part.rows.tolist() for part in made] == [[0, 2, 5], [1, 6], [3], [4]]
    assert rows_of(made)[:3] == [("f", T0, 1.0, 192), ("f", T0 + 1, 2.5, 192), ("f", T0 + 2, None, 0)]
    assert rows_of(made)[4] == ("t", T0 + 1, None, 0)


def test_wide_columns_keep_their_types() -> None:
    frame = pd.DataFrame(
        {"x": [1.5, 2.5], "n": [1, 2], "on": [True, False], "phase": ["idle", None]},
        index=pd.to_datetime([T0, T0 + 1], unit="us", utc=True),
    )
    types = {part.table.column("tag")[0].as_py(): part.table.schema.field("value").type for part in parts(frame)}
    assert types == {"x": pa.float64(), "n": pa.int64(), "on": pa.bool_(), "phase": pa.string()}
    assert ("phase", T0 + 1, None, 0) not in rows_of(list(parts(frame)))


def test_a_long_sample_without_a_value_is_a_bad_one() -> None:
    table = pa.table({"tag": ["a", "a", "a"], "ts": [T0, T0 + 1, T0 + 2], "value": [1.0, None, float("nan")]})
    assert [row[3] for row in rows_of(list(parts(table)))] == [192, 0, 0]


def test_the_text_column_of_a_range_goes_along() -> None:
    table = pa.table(
        {"tag": ["a", "t", "t"], "ts": [T0, T0, T0 + 1], "value": [1.0, None, None], "text": [None, "idle", None], "tag_id": [1, 2, 2]}
    )
    (part,) = parts(table)
    assert part.table.column_names == ["tag", "ts", "value", "quality", "text"]
    assert part.table.column("text").to_pylist() == [None, "idle", None]
    assert part.table.column("quality").to_pylist() == [192, 192, 0]


@given(n=st.integers(0, 50), columns=st.integers(1, 7), batch_rows=st.integers(1, 40))
def test_splitting_loses_nothing_and_is_always_the_same(n: int, columns: int, batch_rows: int) -> None:
    wide = {"ts": [T0 + i for i in range(n)]} | {f"c{c}": [float(i * 10 + c) for i in range(n)] for c in range(columns)}
    made = list(parts(wide, batch_rows))
    assert rows_of(made) == [(f"c{c}", T0 + i, float(i * 10 + c), 192) for i in range(n) for c in range(columns)]
    assert all(len(part.table) <= max(batch_rows, columns) for part in made)
    assert [part.body() for part in made] == [part.body() for part in parts(wide, batch_rows)]

    long = pa.table({"tag": ["a"] * n, "ts": [T0 + i for i in range(n)], "value": [float(i) for i in range(n)]}) if n else []
    cut = list(parts(long, batch_rows))
    assert [row[1] for row in rows_of(cut)] == [T0 + i for i in range(n)]
    assert [int(row) for part in cut for row in part.rows] == list(range(n))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (5, "cannot write a int"),
        ("a/b 1", "cannot write a str"),
        ({"tag": ["a"], "value": [1.0]}, "row 0: ts: is missing"),
        (pa.table({"tag": ["a"], "value": [1.0]}), "no column ts"),
        (pa.table({"tag": ["a"], "ts": [T0]}), "no column value"),
        (pa.table({"ts": [T0], "value": [1.0]}), "no column tag"),
        (pa.table({"tag": ["a"], "ts": [T0], "value": [1.0], "qualty": [1]}), "no such column: qualty"),
        (pa.table({"tag": [1], "ts": [T0], "value": [1.0]}), "column tag is text"),
        (pa.table({"tag": ["a"], "ts": [1.5], "value": [1.0]}), "integer microseconds"),
        (pa.table({"tag": ["a"], "ts": ["yesterday"], "value": [1.0]}), "RFC 3339"),
        (pa.table({"tag": ["a"], "ts": [T0], "value": [[1.0]]}), "numbers, truth values or text"),
        (pa.table({"tag": ["a"], "ts": [T0], "value": [1.0], "quality": [70_000]}), "column quality"),
        (pd.DataFrame({"tag": ["a"], "ts": [datetime(2026, 1, 1)], "value": [1.0]}), "no time zone"),  # noqa: DTZ001
        (pd.DataFrame({"a": [1.0]}), "neither a column ts nor a DatetimeIndex"),
        (pd.DataFrame({"tag": ["a"], "value": [1.0]}), "neither a column ts nor a DatetimeIndex"),
        (pd.DataFrame({0: [1.0]}, index=pd.to_datetime([T0], unit="us", utc=True)), "named by tag paths"),
        (pd.DataFrame({"a": [1.0, "x"]}, index=pd.to_datetime([T0, T0 + 1], unit="us", utc=True)), "values of several types"),
        ({"ts": [T0], "a": [1.0, 2.0]}, "different lengths: 1, 2"),
    ],
)
def test_what_has_no_such_form_is_refused_in_words(data: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        list(parts(data))


@pytest.mark.parametrize(
    ("second", "column", "says"),
    [
        ({"tag": "a", "ts": datetime(2026, 1, 1), "value": 1.0}, "ts", "no time zone"),  # noqa: DTZ001
        ({"tag": "a", "ts": "soon", "value": 1.0}, "ts", "no time"),
        ({"tag": "a", "ts": 1.5, "value": 1.0}, "ts", "integer microseconds"),
        ({"tag": "a", "ts": T0, "value": [1]}, "value", "is a number"),
        ({"tag": "a", "ts": T0, "value": "on"}, "value", "both text and numbers"),
        ({"tag": "a", "ts": T0, "valu": 1.0}, "valu", "no such field"),
        ({"ts": T0, "value": 1.0}, "tag", "is missing"),
    ],
)
def test_a_faulty_dict_is_named_with_its_row(second: dict[str, Any], column: str, says: str) -> None:
    good = {"tag": "a", "ts": datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5))), "value": 2.0}
    with pytest.raises(BadSamples, match=says) as refused:
        list(parts([good, second]))
    assert refused.value.faults[0].column == column
    assert refused.value.faults[0].row in ((0, 1) if "both" in says else (1,))


def test_faults_of_the_server_are_told_by_the_callers_rows_and_columns() -> None:
    wide = list(parts({"ts": [T0, T0 + 1], "a/x": [1.5, 3.5], "a/y": [None, 4.5]}))
    moved = wide[0].relocated(BadSamples([Fault(2, "value", "is infinite"), Fault(1, "ts", "is in the future")], 5))
    assert moved.faults == (Fault(1, "a/y", "is infinite"), Fault(1, "ts", "is in the future"))
    assert moved.count == 5
    later = list(parts(pa.table({"tag": ["a"] * 5, "ts": [T0 + i for i in range(5)], "value": [1.0] * 5}), 2))[2]
    assert later.relocated(BadSamples([Fault(0, "tag", "has a +")])).faults == (Fault(4, "tag", "has a +"),)
