"""Intervals: where buckets begin, checked against pandas in zones whose clocks are changed."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from historian.query.interval import MAX_BUCKETS, Interval, parse_origin, parse_zone
from historian.schema.errors import BadInput, TooLarge

ZONES = [
    "UTC",
    "Europe/Amsterdam",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Asia/Kolkata",
    "Africa/Casablanca",
    "Pacific/Apia",
]
HOUR = 3_600_000_000


def us(text: str, zone: str = "UTC") -> int:
    return int(pd.Timestamp(text, tz=zone).value // 1000)


def edges(interval: str, zone: str, start: str, end: str, origin: str = "00:00") -> list[str]:
    """The edges as the clocks of the zone show them, for a span in its times."""
    found = Interval.parse(interval, parse_zone(zone), parse_origin(origin)).edges(us(start, zone), us(end, zone))
    return [moment.strftime("%m-%d %H:%M%z") for moment in pd.to_datetime(found, unit="us", utc=True).tz_convert(zone)]


def test_a_day_in_which_the_clock_is_changed_has_23_or_25_hours() -> None:
    for start, end, hours in (("2026-03-29", "2026-03-30", 23), ("2026-10-25", "2026-10-26", 25)):
        zone = "Europe/Amsterdam"
        days = Interval.parse("1d", parse_zone(zone)).edges(us(start, zone), us(end, zone))
        assert np.diff(days).tolist() == [hours * HOUR]
        by_the_hour = Interval.parse("1h", parse_zone(zone)).edges(us(start, zone), us(end, zone))
        # each is an hour: of those that the clock shows twice there are two, and none of those that it passes over
        assert np.diff(by_the_hour).tolist() == [HOUR] * hours


def test_shifts_begin_at_the_same_time_of_day_all_year_round() -> None:
    assert edges("8h", "Europe/Amsterdam", "2026-03-28 22:00", "2026-03-29 22:00", "06:00") == [
        "03-28 22:00+0100",
        "03-29 06:00+0200",
        "03-29 14:00+0200",
        "03-29 22:00+0200",
    ]
    zone = parse_zone("Europe/Amsterdam")
    for night, hours in (("2026-03-28 22:00", 7), ("2026-10-24 22:00", 9), ("2026-06-01 22:00", 8)):
        start = us(night, zone.key)
        shifts = Interval.parse("8h", zone, parse_origin("06:00")).edges(start, start + HOUR)
        assert np.diff(shifts).tolist() == [hours * HOUR]


def test_a_plant_day_begins_at_its_origin() -> None:
    assert edges("1d", "Europe/Amsterdam", "2026-03-28 12:00", "2026-03-30 06:00", "06:00") == [
        "03-28 06:00+0100",
        "03-29 06:00+0200",
        "03-30 06:00+0200",
    ]
    # before six it is yesterday's
    assert edges("1d", "Europe/Amsterdam", "2026-03-28 05:59", "2026-03-28 06:00", "06:00") == ["03-27 06:00+0100", "03-28 06:00+0100"]


def test_half_an_hour_is_put_back_on_lord_howe() -> None:
    zone = "Australia/Lord_Howe"
    # 2026-04-05: 02:00 is followed by 01:30
    assert edges("30m", zone, "2026-04-05 01:00", "2026-04-05 02:30") == [
        "04-05 01:00+1100",
        "04-05 01:30+1100",
        "04-05 01:30+1030",
        "04-05 02:00+1030",
        "04-05 02:30+1030",
    ]
    hours = Interval.parse("1h", parse_zone(zone)).edges(us("2026-04-05", zone), us("2026-04-06", zone))
    assert sorted(set(np.diff(hours).tolist())) == [HOUR, HOUR + HOUR // 2]
    # 2026-10-04: 02:00 is followed by 02:30
    assert edges("1h", zone, "2026-10-04 01:00", "2026-10-04 03:00") == ["10-04 01:00+1030", "10-04 02:30+1100", "10-04 03:00+1100"]


def test_a_midnight_that_the_clock_passes_over_is_when_it_does() -> None:
    # Brazil's summer began at midnight
    assert edges("1d", "America/Sao_Paulo", "2018-11-03", "2018-11-05") == ["11-03 00:00-0300", "11-04 01:00-0200", "11-05 00:00-0200"]
    # and Samoa has had no 30th of December
    assert edges("1d", "Pacific/Apia", "2011-12-29", "2012-01-01") == ["12-29 00:00-1000", "12-31 00:00+1400", "01-01 00:00+1400"]


def test_weeks_begin_on_mondays_quarters_in_january_and_decades_in_1970() -> None:
    assert edges("1w", "Europe/Amsterdam", "2026-03-25", "2026-04-01") == ["03-23 00:00+0100", "03-30 00:00+0200", "04-06 00:00+0200"]
    assert edges("3mo", "America/St_Johns", "2026-02-10", "2026-07-01") == ["01-01 00:00-0330", "04-01 00:00-0230", "07-01 00:00-0230"]
    assert edges("10y", "Australia/Lord_Howe", "2026-06-01", "2026-06-02") == ["01-01 00:00+1100", "01-01 00:00+1100"]


def test_intervals_that_do_not_divide_a_day_are_counted_from_1970_in_any_zone() -> None:
    for text in ("7h", "36h", "50m"):
        zoned, plain = (
            Interval.parse(text, parse_zone(zone)).edges(us("2026-03-28"), us("2026-03-31")) for zone in ("Europe/Amsterdam", "UTC")
        )
        assert zoned.tolist() == plain.tolist()
        assert len(set(np.diff(plain).tolist())) == 1


@settings(deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    day=st.integers(0, 20_000),
    days=st.integers(1, 400),
    unit=st.sampled_from([("1d", "D"), ("1w", "W-MON"), ("1mo", "MS"), ("1y", "YS"), ("3mo", "QS")]),
    origin=st.sampled_from(["00:00", "06:00", "02:30", "22:00"]),
)
@example("Europe/Amsterdam", 20_540, 3, ("1d", "D"), "00:00")
def test_the_calendar_is_that_of_pandas(zone: str, day: int, days: int, unit: tuple[str, str], origin: str) -> None:
    """Its dates, taken for times of the zone, are the edges."""
    first = pd.Timestamp(1970, 1, 3).to_pydatetime() + timedelta(days=day)
    hours = pd.Timedelta(microseconds=parse_origin(origin))
    dates = pd.date_range(first - timedelta(days=500), first + timedelta(days=days + 500), freq=unit[1]) + hours
    expected = dates.tz_localize(zone, ambiguous=np.ones(len(dates), np.bool_), nonexistent="shift_forward").tz_convert("UTC")
    wanted = np.unique(expected.as_unit("us").asi8)
    start, end = us(first.isoformat(), zone), us((first + timedelta(days=days)).isoformat(), zone)
    wanted = wanted[np.searchsorted(wanted, start, "right") - 1 : np.searchsorted(wanted, end) + 1]
    found = Interval.parse(unit[0], ZoneInfo(zone), parse_origin(origin)).edges(start, end)
    assert found.tolist() == wanted.tolist()


@settings(deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    text=st.sampled_from(["15m", "30m", "1h", "6h", "8h", "12h", "7h", "90m", "1d", "2d", "1w", "2w", "1mo", "5mo", "1y", "3y"]),
    origin=st.sampled_from(["00:00", "06:00", "02:30"]),
    start=st.integers(0, 4_000_000_000),
    lengths=st.lists(st.integers(1, 20_000_000), min_size=2, max_size=4),
)
def test_edges_are_the_same_whatever_the_span(zone: str, text: str, origin: str, start: int, lengths: list[int]) -> None:
    interval = Interval.parse(text, ZoneInfo(zone), parse_origin(origin))
    cuts = (np.cumsum([start, *lengths]) * 1_000_000).tolist()
    whole = interval.edges(cuts[0], cuts[-1])
    assert (np.diff(whole) > 0).all()
    assert whole[0] <= cuts[0] < whole[1]
    assert whole[-2] < cuts[-1] <= whole[-1]
    pieces = [interval.edges(a, b) for a, b in pairwise(cuts)]
    assert np.unique(np.concatenate(pieces)).tolist() == whole.tolist()
    # however long, a bucket of the wall clock begins at one of its times, or when the clock is changed
    if interval.follows_wall_clock:
        shown = pd.to_datetime(whole, unit="us", utc=True).tz_convert(zone).tz_localize(None).as_unit("us").asi8
        odd = whole[(shown - interval.origin_us) % interval.count != 0]
        offsets = [
            [ZoneInfo(zone).utcoffset(datetime.fromtimestamp(edge / 1e6 + d, ZoneInfo(zone))) for d in (-1, 0)] for edge in odd.tolist()
        ]
        assert all(before != after for before, after in offsets)


def test_intervals_that_would_be_too_many_or_too_long_are_refused() -> None:
    with pytest.raises(TooLarge, match="longer"):
        Interval.parse("1us", parse_zone("UTC")).edges(0, MAX_BUCKETS + 1)
    assert len(Interval.parse("1us", parse_zone("UTC")).edges(0, MAX_BUCKETS)) == MAX_BUCKETS + 1
    for text in ("999999999999999h", "200y", "100000d"):
        with pytest.raises(BadInput, match="longer than all time"):
            Interval.parse(text, parse_zone("UTC"))
