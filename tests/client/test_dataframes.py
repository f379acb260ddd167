"""Results as DataFrames: what is in which cell, of which type, at which time, and what is told of the tags."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from historian.client import AsyncClient
from historian.client.frames import Shape
from historian.client.ranges import RangeOptions, range_parameters
from historian.client.results import Labels
from historian.schema.catalogue import Tag
from historian.schema.errors import BadInput
from historian.schema.samples import Samples, arrow_schema
from historian.server.run import Server

US = 1_767_225_600_000_000
TEMPERATURE = Tag(5, "a/temperature", "float", unit="°C", description="In the reactor")
COUNT = Tag(2, "a/count", "int")
ON = Tag(9, "a/on", "bool", step=True)
PUMP = Tag(7, "a/pump", "digital", step=True, states={"0": "stopped", "1": "running"})
PHASE = Tag(3, "a/phase", "text", step=True)
TAGS = (TEMPERATURE, COUNT, ON, PUMP, PHASE)

Row = tuple[Tag, int, float, int, str | None]


def table_of(rows: list[Row], tags: tuple[Tag, ...] = TAGS) -> pa.Table:
    """As the client has it: numbers before texts, by tag and time."""
    rows = sorted(rows, key=lambda row: (row[0].kind == "text", row[0].tag_id, row[1]))
    schema = arrow_schema(tags, text=any(row[4] is not None for row in rows) or any(tag.kind == "text" for tag in tags))
    samples = Samples(
        np.array([row[0].tag_id for row in rows], np.int32),
        np.array([US + row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64),
        np.array([row[3] for row in rows], np.int16),
        pa.array([row[4] for row in rows], pa.string()),
    )
    labels = Labels(schema)
    half = len(rows) // 2
    return pa.Table.from_batches(
        [labels.add(samples.slice(*cut).to_record_batch(schema)) for cut in ((0, half), (half, len(rows)))], schema=labels.schema
    )


NAN = float("nan")
ROWS: list[Row] = [
    (TEMPERATURE, 0, 20.5, 192, None),
    (TEMPERATURE, 1, NAN, 0, None),
    (TEMPERATURE, 2, 99.0, 8, None),
    (TEMPERATURE, 3, 21.5, 64, None),
    (COUNT, 1, 2.0**53, 192, None),
    (COUNT, 2, NAN, 0, None),
    (ON, 0, 1.0, 192, None),
    (ON, 3, 0.0, 192, None),
    (PUMP, 0, 1.0, 192, None),
    (PUMP, 2, 5.0, 192, None),
    (PUMP, 3, NAN, 0, None),
    (PHASE, 2, NAN, 192, "grinding"),
    (PHASE, 3, NAN, 8, "?"),
]


def test_wide_has_a_column_for_each_tag_of_the_type_that_its_kind_has() -> None:
    frame = Shape().frame(table_of(ROWS))
    assert list(frame.columns) == [tag.path for tag in TAGS]
    assert frame.columns.name == "tag"
    assert frame.index.name == "ts"
    assert list(frame.index) == [pd.Timestamp("2026-01-01", tz="UTC") + timedelta(microseconds=n) for n in range(4)]
    # a bad sample is a missing value, also where it carries a number; an uncertain one is none
    np.testing.assert_array_equal(frame["a/temperature"].to_numpy(), [20.5, NAN, NAN, 21.5])
    assert frame["a/count"].dtype == "Int64"
    assert frame["a/count"].tolist() == [pd.NA, 2**53, pd.NA, pd.NA]
    assert frame["a/on"].dtype == "boolean"
    assert frame["a/on"].tolist() == [True, pd.NA, pd.NA, False]
    # the states in the order of their codes, and a code without one is not lost
    assert list(frame["a/pump"].cat.categories) == ["stopped", "running", "5"]
    assert frame["a/pump"].astype(object).where(frame["a/pump"].notna(), None).tolist() == ["running", None, "5", None]
    assert frame["a/phase"].dtype == "string"
    assert frame["a/phase"].fillna("–").tolist() == ["–", "–", "grinding", "–"]


def test_digital_tags_as_codes() -> None:
    frame = Shape(states=False).frame(table_of(ROWS))
    assert frame["a/pump"].tolist() == [1, pd.NA, 5, pd.NA]
    assert "state" not in Shape(wide=False, states=False).frame(table_of(ROWS)).columns


def test_what_lies_between_integers_is_no_integer() -> None:
    frame = Shape().frame(table_of([(COUNT, 0, 1.0, 192, None), (COUNT, 1, 1.5, 192, None)], (COUNT,)))
    assert frame["a/count"].tolist() == [1.0, 1.5]


def test_wide_with_qualities() -> None:
    frame = Shape(quality=True).frame(table_of(ROWS))
    assert list(frame.columns[:2]) == [("a/temperature", "value"), ("a/temperature", "quality")]
    assert frame["a/temperature", "quality"].tolist() == [192, 0, 8, 64]
    assert frame["a/pump", "quality"].tolist() == [192, pd.NA, 192, 0]
    with pytest.raises(BadInput, match="wide form"):
        Shape(wide=False, quality=True).asked()


def test_long_has_a_row_for_each_sample_as_it_is() -> None:
    frame = Shape(wide=False).frame(table_of(ROWS))
    assert list(frame.columns) == ["tag", "value", "quality", "text", "state"]
    assert len(frame) == len(ROWS)
    temperature = frame[frame["tag"] == "a/temperature"]
    np.testing.assert_array_equal(temperature["value"], [20.5, NAN, 99.0, 21.5])
    assert temperature["quality"].tolist() == [192, 0, 8, 64]
    assert frame[frame["tag"] == "a/pump"]["state"].astype(object).fillna("–").tolist() == ["running", "5", "–"]
    assert frame[frame["tag"] == "a/phase"]["text"].tolist() == ["grinding", "?"]
    assert frame.index.dtype == "datetime64[us, UTC]"


@pytest.mark.parametrize("zone", ["Europe/Amsterdam", ZoneInfo("Europe/Amsterdam")])
def test_the_index_is_in_the_zone(zone: str | ZoneInfo) -> None:
    for wide in (True, False):
        frame = Shape(wide=wide, options=RangeOptions(tz=zone)).frame(table_of(ROWS))
        assert str(frame.index.tz) == "Europe/Amsterdam"
        assert frame.index[0].hour == 1
    with pytest.raises(BadInput, match="no time zone"):
        Shape(options=RangeOptions(tz="Mars/Olympus")).frame(table_of(ROWS))


def test_attrs_tell_what_the_catalogue_knows(tmp_path: object) -> None:
    frame = Shape(options=RangeOptions(mode="avg", interval="1h", tz="Europe/Amsterdam")).frame(table_of(ROWS))
    assert frame.attrs == {
        "units": {"a/temperature": "°C"},
        "descriptions": {"a/temperature": "In the reactor"},
        "kinds": {"a/temperature": "float", "a/count": "int", "a/on": "bool", "a/pump": "digital", "a/phase": "text"},
        "states": {"a/pump": {"0": "stopped", "1": "running"}},
        "mode": "avg",
        "interval": "1h",
        "tz": "Europe/Amsterdam",
    }
    frame.to_parquet(f"{tmp_path}/x.parquet")
    again = pd.read_parquet(f"{tmp_path}/x.parquet")
    assert again.attrs == frame.attrs
    assert str(again.index.tz) == "Europe/Amsterdam"


@pytest.mark.parametrize("mode", ["duration", "transitions"])
def test_durations_are_by_state(mode: str) -> None:
    rows: list[Row] = [
        (PUMP, 0, 40.0, 192, "running"),
        (PUMP, 0, 20.0, 192, "stopped"),
        (PUMP, 60, 60.0, 192, "running"),
        (ON, 60, 60.0, 192, "true"),
    ]
    options = RangeOptions(mode=mode)  # type: ignore[typeddict-item]
    frame = Shape(options=options).frame(table_of(rows, (PUMP, ON)))
    assert frame.columns.names == ["tag", "state"]
    assert frame["a/pump", "running"].tolist() == [40.0, 60.0]
    assert frame["a/pump", "stopped"].tolist() == [20.0, 0.0]
    np.testing.assert_array_equal(frame["a/on", "true"], [NAN, 60.0])
    long = Shape(wide=False, options=options).frame(table_of(rows, (PUMP, ON)))
    assert list(long.columns) == ["tag", "value", "quality", "state"]
    assert long["state"].tolist() == ["running", "stopped", "running", "true"]
    assert Shape(options=options).frame(table_of([], (PUMP,))).shape == (0, 0)


def test_of_nothing_there_are_frames_too() -> None:
    frame = Shape().frame(table_of([]))
    assert frame.shape == (0, 5)
    assert str(frame.index.tz) == "UTC"
    assert Shape(wide=False).frame(table_of([])).shape == (0, 5)
    for shape in (Shape(), Shape(quality=True), Shape(wide=False)):
        assert len(shape.frame(table_of([], ()))) == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from([TEMPERATURE, COUNT, Tag(1, "a/x", "float")]),
            st.integers(0, 12),
            st.integers(0, 9),
            st.sampled_from([192, 64, 0]),
        ),
        unique_by=lambda row: row[:2],
        max_size=40,
    )
)
def test_every_sample_is_in_its_cell(rows: list[tuple[Tag, int, int, int]]) -> None:
    tags = (TEMPERATURE, COUNT, Tag(1, "a/x", "float"))
    frame = Shape(quality=True).frame(table_of([(tag, ts, float(value), quality, None) for tag, ts, value, quality in rows], tags))
    assert len(frame) == len({row[1] for row in rows})
    assert frame.index.is_monotonic_increasing
    by_cell = {(tag.path, US + ts): (value, quality) for tag, ts, value, quality in rows}
    for ts, row in frame.iterrows():
        for tag in tags:
            value, quality = by_cell.get((tag.path, ts.value // 1000), (NAN, None))  # type: ignore[attr-defined]
            found = row[tag.path, "value"]
            assert (pd.isna(found) and (quality is None or quality < 64)) or found == value
            assert row[tag.path, "quality"] == quality or (quality is None and pd.isna(row[tag.path, "quality"]))


def test_a_frame_that_would_be_far_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("historian.client.frames.MAX_CELLS", 19)
    with pytest.raises(BadInput, match="4 rows of 5 tags"):
        Shape().frame(table_of(ROWS))


def test_a_million_samples_are_wide_at_once() -> None:
    tags = tuple(Tag(n + 1, f"a/{n}", "float") for n in range(10))
    count = 100_000
    schema = arrow_schema(tags)
    samples = Samples(
        np.repeat(np.arange(1, 11, dtype=np.int32), count),
        # no two tags at the same time
        (np.arange(count) * 1_000_000 + np.arange(10)[:, np.newaxis]).ravel(),
        np.arange(count * 10) / 4,
        np.full(count * 10, 192, np.int16),
    )
    table = pa.Table.from_batches([Labels(schema).add(samples.to_record_batch(schema))])
    took = []
    for _ in range(3):
        begun = time.perf_counter()
        frame = Shape().frame(table)
        took.append(time.perf_counter() - begun)
    assert frame.shape == (count * 10, 10)
    # 0.2 to 0.4 s; an object a sample takes ten times that
    assert min(took) < 2.0


def test_what_is_asked_is_written_down() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    assert range_parameters(
        [TEMPERATURE, "b/#"],
        begin,
        US + 1,
        {"mode": "avg", "interval": timedelta(minutes=15), "tz": ZoneInfo("Asia/Tokyo"), "origin": "06:00"},
    ) == [
        ("tag", "a/temperature"),
        ("tag", "b/#"),
        ("start", US),
        ("end", US + 1),
        ("mode", "avg"),
        ("points", 2000),
        ("interval", "900000000us"),
        ("tz", "Asia/Tokyo"),
        ("origin", "06:00"),
    ]
    for instants in ([begin], pd.DatetimeIndex([begin]), begin):
        assert range_parameters("a", None, "now", {"mode": "at", "at": instants, "limit": 3})[-2:] == [("at", US), ("limit", 3)]
    assert ("origin", "06:30:00") in range_parameters("a", 0, 1, {"origin": timedelta(hours=6.5)})
    assert ("origin", "06:30:00") in range_parameters("a", 0, 1, {"origin": datetime(2026, 1, 1, 6, 30, tzinfo=UTC).time()})
    assert ("bounds", "outside") in range_parameters("a", 0, 1, {"bounds": "outside"})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "no start"),
        ({"at": []}, "no start"),
        ({"at": [datetime(2026, 1, 1)]}, "no time zone"),  # noqa: DTZ001
        ({"at": 1, "interval": timedelta(0)}, "positive timedelta"),
        ({"at": 1, "interval": 60}, "positive timedelta"),
        ({"at": 1, "tz": datetime.now().astimezone().tzinfo}, "no name"),
        ({"at": 1, "origin": timedelta(days=1)}, "less than a day"),
        ({"at": 1, "origin": timedelta(microseconds=1)}, "whole seconds"),
    ],
)
def test_what_cannot_be_written_down_is_refused(options: RangeOptions, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        range_parameters("a", None, "now", options)


async def test_frames_from_a_server(server: Server) -> None:
    async with AsyncClient(server.url) as client:
        await client.define(
            [{"path": "a/temperature", "unit": "°C"}, {"path": "a/pump", "kind": "digital", "states": {"0": "stopped", "1": "running"}}]
        )
        index = pd.date_range("2026-03-29", periods=600, freq="min", tz="Europe/Amsterdam", name="ts")
        written = pd.DataFrame({"a/temperature": np.arange(600) / 4, "a/pump": np.arange(600) // 60 % 2}, index=index)
        await client.write(written)
        span = ("2026-03-28T23:00:00Z", "2026-03-29T23:00:00Z")
        frame = await client.frame(["a/temperature", "a/pump"], *span, tz="Europe/Amsterdam")
        assert (frame.index == index).all()
        assert frame.index[120].isoformat() == "2026-03-29T03:00:00+02:00"
        np.testing.assert_array_equal(frame["a/temperature"], written["a/temperature"])
        assert frame["a/pump"].value_counts().to_dict() == {"stopped": 300, "running": 300}
        assert frame.attrs["units"] == {"a/temperature": "°C"}
        long = await client.frame("a/#", *span, wide=False, limit=700)
        assert len(long) == 700
        with pytest.raises(BadInput, match="go with interval"):
            await client.frame("a/#", *span, origin="06:00")
        with pytest.raises(BadInput, match="mode is raw"):
            await client.frame("a/#", *span, mode="median")  # type: ignore[arg-type]
