"""Times as callers give them, to the microsecond; and the address of the server."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from historian.client.address import Address, default_url
from historian.client.times import as_us, as_wire
from historian.schema.errors import BadInput


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2099, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001
def test_aware_datetimes_are_exact(local: datetime, minutes: int) -> None:
    aware = local.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    us = as_us(aware)
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us) == aware


def test_integers_and_timestamps() -> None:
    assert as_us(17) == 17
    assert as_us(np.int64(17)) == 17
    assert as_us(pd.Timestamp("2026-01-01T00:00:00.000001999Z")) == 1_767_225_600_000_001
    assert as_wire("-1h") == "-1h"
    assert as_wire(pd.Timestamp("2026-01-01", tz="Europe/Vienna")) == 1_767_222_000_000_000


@pytest.mark.parametrize("time", [datetime(2026, 1, 1), pd.Timestamp("2026-01-01")])  # noqa: DTZ001
def test_a_time_without_a_zone_is_refused(time: datetime) -> None:
    with pytest.raises(BadInput, match="no time zone"):
        as_us(time)


@pytest.mark.parametrize("time", [1.5, True, None, date(2026, 1, 1), np.datetime64("2026-01-01")])
def test_what_is_no_time_is_refused(time: object) -> None:
    with pytest.raises(BadInput, match="a time is"):
        as_us(time)


def test_the_address_is_what_is_given_or_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_url() == "http://127.0.0.1:8742"
    assert Address.of("plant.example:9000/", None) == Address("http://plant.example:9000")
    assert Address.of("https://plant.example/historian/", "t") == Address("https://plant.example/historian", "t")
    monkeypatch.setenv("HISTORIAN_URL", "http://[::1]:80")
    monkeypatch.setenv("HISTORIAN_TOKEN", "secret")
    found = Address.of(None, None)
    assert found == Address("http://[::1]:80", "secret")
    assert found.nearby
    assert "secret" not in repr(found)


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://host:99999", "http://host:0", "http://host/?a=1", "http://ho st"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadInput, match="no address"):
        Address.of(url, None)
