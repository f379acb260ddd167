"""Times: what is read, what is refused, and that what is written is read back."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from historian.query.times import LATEST, format_time, parse_time
from historian.schema.errors import BadInput

NOW = 1_767_225_600_123_456  # 2026-01-01T00:00:00.123456Z
MIDNIGHT = 1_767_225_600_000_000
HOUR = 3_600_000_000


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("2026-01-01T00:00:00Z", MIDNIGHT),
        ("2026-01-01t00:00:00z", MIDNIGHT),
        ("2026-01-01T00:00:00.123456Z", NOW),
        ("2026-01-01T00:00:00.123456999Z", NOW),
        ("2026-01-01T00:00:00.5+01:00", MIDNIGHT + 500_000 - HOUR),
        ("2026-01-01T05:30:00+05:30", MIDNIGHT),
        ("2025-12-31T19:00:00-05:00", MIDNIGHT),
        ("2026-01-01T00:00:00-00:00", MIDNIGHT),
        ("2026-01-01T00:00:00", MIDNIGHT),
        ("2026-01-01 01:00", MIDNIGHT + HOUR),
        ("2026-01-01", MIDNIGHT),
        (" 2026-01-01 ", MIDNIGHT),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
        ("1767225600123456", NOW),
        (NOW, NOW),
        (0, 0),
        ("now", NOW),
        ("now-1h", NOW - HOUR),
        ("now+2m", NOW + 120_000_000),
        ("-90s", NOW - 90_000_000),
        ("-15m", NOW - 900_000_000),
        ("-1h", NOW - HOUR),
        ("-7d", NOW - 7 * 24 * HOUR),
        ("-1w", NOW - 7 * 24 * HOUR),
        ("1970-01-01", 0),
        ("2100-01-01", LATEST),
    ],
)
def test_a_time_is_read(text: str | int, us: int) -> None:
    assert parse_time(text, NOW) == us


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "1h",
        "-1y",
        "now-",
        "nowish",
        "2026-01-01T",
        "2026-13-01",
        "2026-02-29T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:61:00Z",
        "2026-01-01T00:00:61Z",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00+0100",
        "2026-1-1",
        "1969-12-31T23:59:59.999999Z",
        "2100-01-01T00:00:00.000001Z",
        "1970-01-01T00:00:00+01:00",
        "-99999999d",
        "-1",
        "1e9",
        pytest.param("9" * 100_000, id="100000 digits"),
        "٢٠٢٦-٠١-٠١",
        -1,
        2**80,
        pytest.param(10**5000, id="5000 digits"),
        True,
    ],
)
def test_what_is_no_time_or_out_of_range_is_refused_and_named(text: str | int) -> None:
    with pytest.raises(BadInput) as refused:
        parse_time(text, NOW)
    message = str(refused.value)
    assert len(message) < 300
    if isinstance(text, str) and text.isascii() and len(text) < 50:
        assert text in message


def test_a_plus_that_became_a_space_is_explained() -> None:
    with pytest.raises(BadInput, match="%2B"):
        parse_time("2026-01-01T00:00:00 01:00", NOW)


@given(us=st.integers(0, LATEST))
def test_what_is_written_is_read_back(us: int) -> None:
    text = format_time(us)
    assert parse_time(text, NOW) == us
    assert text == datetime.fromtimestamp(us // 1_000_000, UTC).replace(microsecond=us % 1_000_000).isoformat().replace("+00:00", "Z")


def test_a_fraction_is_written_only_where_there_is_one() -> None:
    assert format_time(MIDNIGHT) == "2026-01-01T00:00:00Z"
    assert format_time(MIDNIGHT + 1) == "2026-01-01T00:00:00.000001Z"
    assert format_time(MIDNIGHT + 500_000) == "2026-01-01T00:00:00.500000Z"
