"""Times in files: the forms that are recognised, local times and the two nights a year on which they are not what they seem."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from historian.ingest.files import FileOptions, examine
from historian.ingest.files.faults import FaultyRow
from historian.ingest.files.times import times_of
from historian.ingest.files.zones import zone
from historian.schema.errors import BadInput


def us(text: str) -> int:
    """µs of an ISO time, UTC where it has no offset."""
    return _us(datetime.fromisoformat(text))


def _us(at: datetime) -> int:
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def parsed(values: list[object], time_format: str | None = None, tz: str | None = None, kind: pa.DataType | None = None) -> list[int]:
    column = pa.array(values, kind)
    found: list[int] = times_of([column], time_format, tz).parse(column, 0)[0].tolist()
    return found


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-03-01 12:00:05", "2026-03-01T12:00:05"),
        ("2026-03-01T12:00:05.25", "2026-03-01T12:00:05.250"),
        ("2026-03-01 12:00:05,25", "2026-03-01T12:00:05.250"),
        ("2026-03-01T12:00:05.123456789Z", "2026-03-01T12:00:05.123456"),
        ("2026-03-01T12:00:05+01:00", "2026-03-01T11:00:05"),
        ("2026-03-01T12:00:05-0330", "2026-03-01T15:30:05"),
        ("2026-03-01T12:00", "2026-03-01T12:00"),
        ("2026-03-01", "2026-03-01"),
        ("20260301T120005Z", "2026-03-01T12:00:05"),
        ("20260301120005", "2026-03-01T12:00:05"),
        ("2026/03/01 12:00:05", "2026-03-01T12:00:05"),
        ("1.3.2026 12:00", "2026-03-01T12:00"),
        ("01.03.26 12:00:05.5", "2026-03-01T12:00:05.500"),
        ("13/3/2026 12:00:05", "2026-03-13T12:00:05"),
        ("3/13/2026 12:00:05 AM", "2026-03-13T00:00:05"),
        ("3/13/2026 12:00 PM", "2026-03-13T12:00"),
        ("3/13/2026 1:00:05 p.m.", "2026-03-13T13:00:05"),
        ("1772366405", "2026-03-01T12:00:05"),
        ("1772366405.25", "2026-03-01T12:00:05.250"),
        ("1772366405250", "2026-03-01T12:00:05.250"),
        ("1772366405250001", "2026-03-01T12:00:05.250001"),
        ("1772366405250001999", "2026-03-01T12:00:05.250001"),
        ("  2026-03-01 12:00:05 ", "2026-03-01T12:00:05"),
    ],
)
def test_forms_are_recognised(written: str, meant: str) -> None:
    assert parsed([written]) == [us(meant)]


@pytest.mark.parametrize(
    ("written", "time_format", "meant"),
    [
        ("03/04/2026 05:06", "%d/%m/%Y %H:%M", "2026-04-03T05:06"),
        ("03/04/2026 05:06", "%m/%d/%Y %H:%M", "2026-03-04T05:06"),
        ("03/04/2026 05:06", "day/month/year", "2026-04-03T05:06"),
        ("09-Mar-26 11:14:34.5 PM", "%d-%b-%y %I:%M:%S.%f %p", "2026-03-09T23:14:34.500"),
        ("at 2026-03-01 12:00:05+0100!", "at %F %T%z!", "2026-03-01T11:00:05"),
        ("5", "s", "1970-01-01T00:00:05"),
        ("5", "ms", "1970-01-01T00:00:00.005"),
    ],
)
def test_forms_that_are_given(written: str, time_format: str, meant: str) -> None:
    assert parsed([written], time_format) == [us(meant)]


def test_typed_columns() -> None:
    at = datetime(2026, 7, 1, 12, 0, 5)  # noqa: DTZ001 - local on purpose
    for unit in ("s", "ms", "us", "ns"):
        assert parsed([at], kind=pa.timestamp(unit)) == [us("2026-07-01T12:00:05")]
        assert parsed([at], tz="Europe/Berlin", kind=pa.timestamp(unit)) == [us("2026-07-01T10:00:05")]
        assert parsed([at], tz="Europe/Berlin", kind=pa.timestamp(unit, "UTC")) == [us("2026-07-01T12:00:05")]
    assert parsed([at.date()], kind=pa.date32()) == [us("2026-07-01")]
    assert parsed([1772366405250], kind=pa.int64()) == [us("2026-03-01T12:00:05.250")]
    assert parsed([1772366405.25], kind=pa.float64()) == [us("2026-03-01T12:00:05.250")]


def test_one_day_above_12_settles_day_and_month_however_late_it_comes() -> None:
    parts = [pa.array(["03/04/2026 00:00"] * 3), pa.array(["04/04/2026 00:00"]), pa.array(["13/04/2026 00:00"])]
    times = times_of(parts, None, None)
    assert times.parse(parts[0], 0)[0].tolist() == [us("2026-04-03")] * 3
    month_first = times_of([*parts[:2], pa.array(["04/13/2026 00:00"])], None, None)
    assert month_first.parse(parts[0], 0)[0].tolist() == [us("2026-03-04")] * 3


def test_day_and_month_that_nothing_settles_are_asked_for() -> None:
    with pytest.raises(BadInput, match="--time-format"):
        parsed(["03/04/2026 05:06", "12/12/2026 05:06"])


def test_numbers_of_no_likely_unit_are_asked_for() -> None:
    with pytest.raises(BadInput, match="--time-format s, ms, us or ns"):
        parsed(["1", "2"])


@pytest.mark.parametrize(
    ("values", "row", "words"),
    [
        (["2026-03-01 00:00", "yesterday"], 1, "'yesterday' is not of the form 'iso'"),
        (["yesterday"], 0, "no time that is recognised"),
        (["2026-03-01 00:00", "2026-02-29 00:00"], 1, "does not exist: no such day"),
        (["2026-03-01 00:00", "2026-03-01 24:00"], 1, "does not exist"),
        (["2026-03-01 00:00", "2026-13-01 00:00"], 1, "does not exist"),
        (["2026-03-01 00:00", None], 1, "has no time"),
        (["2026-03-01 00:00", "2100-01-01 00:00"], 1, "outside 1970 to 2100"),
        (["1.1.2026 00:00", "1.1.1969 00:00"], 1, "outside 1970 to 2100"),
    ],
)
def test_what_is_no_time_is_named_with_its_row(values: list[object], row: int, words: str) -> None:
    with pytest.raises(FaultyRow, match=words) as raised:
        parsed(values)
    assert raised.value.row == row


@pytest.mark.parametrize(("unit", "shown"), [("ns", "1938-04-24 22:13:19.999999999"), ("s", "out of range")])
def test_a_typed_time_that_no_datetime_can_be_is_named_too(unit: str, shown: str) -> None:
    beyond = -1_000_000_000_000_000_001 if unit == "ns" else 1_000_000_000_000
    with pytest.raises(FaultyRow, match="outside 1970 to 2100") as raised:
        parsed([0, beyond], kind=pa.timestamp(unit))
    assert raised.value.row == 1
    assert shown in str(raised.value)


@pytest.mark.parametrize("given", ["%Y-%m %H", "%Y-%m-%d %Q", "%Y-%Y-%m-%d", "%Y-%m-%d %I"])
def test_formats_that_make_no_time_are_refused(given: str) -> None:
    with pytest.raises(BadInput, match="--time-format"):
        parsed(["2026-03-01"], given)


def test_zones_that_there_are_not() -> None:
    for name in ("Europe/Nowhere", "+25:00", "", "../etc/passwd"):
        with pytest.raises(BadInput, match=r"zone"):
            parsed(["2026-03-01 00:00"], tz=name)


def test_a_fixed_offset_is_a_zone() -> None:
    assert parsed(["2026-03-29 02:30", "2026-10-25 02:30"], tz="+01:00") == [us("2026-03-29T01:30"), us("2026-10-25T01:30")]


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(
        ["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "Asia/Kathmandu", "UTC"]
    ),
    at=st.datetimes(datetime(1971, 1, 1), datetime(2099, 12, 1)),  # noqa: DTZ001 - local on purpose
)
def test_local_times_become_what_zoneinfo_says(name: str, at: datetime) -> None:
    rules = ZoneInfo(name)
    first, second = (_us(at.replace(tzinfo=rules, fold=fold)) for fold in (0, 1))
    round_trip = at.replace(tzinfo=rules).astimezone(UTC).astimezone(rules).replace(tzinfo=None)
    utc, missing, twice = zone(name).to_utc(np.array([_us(at)]))
    assert bool(missing[0]) == (round_trip != at)
    assert bool(twice[0]) == (first != second and round_trip == at)
    if first == second:
        assert utc[0] == first


# ── in files: the row is named


def csv_of(tmp_path: Path, *times: str) -> Path:
    path = tmp_path / "a.csv"
    path.write_text("time,x\n" + "".join(f"{time},{n}\n" for n, time in enumerate(times)))
    return path


def test_a_local_time_that_does_not_exist_is_named_with_its_line(tmp_path: Path) -> None:
    path = csv_of(tmp_path, "2026-03-29 01:59:59", "2026-03-29 02:30:00", "2026-03-29 03:00:00")
    with pytest.raises(BadInput, match=r"a\.csv, line 3: .*02:30:00.* does not exist.*Europe/Berlin"):
        examine(path, FileOptions(tz="Europe/Berlin"))


def test_a_local_time_that_is_ambiguous_is_named_with_its_line(tmp_path: Path) -> None:
    path = csv_of(tmp_path, "2026-10-25 01:59:59", "2026-10-25 03:00:00", "2026-10-25 02:30:00")
    with pytest.raises(BadInput, match=r"a\.csv, line 4: .*02:30:00.* is ambiguous.*Europe/Berlin"):
        examine(path, FileOptions(tz="Europe/Berlin"))


def test_in_parquet_the_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    times = [datetime(2026, 3, 29, 1, 59), datetime(2026, 3, 29, 2, 30)]  # noqa: DTZ001 - local on purpose
    pq.write_table(pa.table({"time": pa.array(times, pa.timestamp("us")), "x": [1.0, 2.0]}), path)
    with pytest.raises(BadInput, match=r"a\.parquet, row 2: .*02:30:00.* does not exist"):
        examine(path, FileOptions(tz="Europe/Berlin"))


def test_the_hours_around_the_change_are_good(tmp_path: Path) -> None:
    path = csv_of(tmp_path, "2026-03-29 01:59:59", "2026-03-29 03:00:00", "2026-10-25 01:59:59", "2026-10-25 03:00:00")
    (chunk,) = examine(path, FileOptions(tz="Europe/Berlin")).chunks()
    meant = ["2026-03-29T00:59:59", "2026-03-29T01:00", "2026-10-24T23:59:59", "2026-10-25T02:00"]
    assert chunk.samples.column("ts").cast(pa.int64()).to_pylist() == [us(text) for text in meant]


def test_an_offset_in_the_file_counts_more_than_the_zone(tmp_path: Path) -> None:
    path = csv_of(tmp_path, "2026-10-25 02:30:00+02:00", "2026-10-25 02:30:00+01:00")
    (chunk,) = examine(path, FileOptions(tz="Europe/Berlin")).chunks()
    assert chunk.samples.column("ts").cast(pa.int64()).to_pylist() == [us("2026-10-25T00:30"), us("2026-10-25T01:30")]
