"""Status codes of OPC UA as qualities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from historian.ingest.sources.opcua_quality import QUALITIES, overflowed, qualities, quality

ua = pytest.importorskip("asyncua").ua

STATUS = st.one_of(
    st.integers(0, 2**32 - 1),
    st.builds(lambda code, info: code << 16 | info, st.sampled_from(sorted(QUALITIES)), st.integers(0, 2**16 - 1)),
)


@given(st.lists(STATUS, max_size=50))
def test_a_status_keeps_its_severity_and_a_column_is_what_its_codes_are(codes: list[int]) -> None:
    found = qualities(np.array(codes, np.uint32))
    assert found.dtype == np.int16
    assert found.tolist() == [quality(code) for code in codes]
    for code, each in zip(codes, found.tolist(), strict=True):
        low, high = {0: (192, 255), 1: (64, 127), 2: (0, 63), 3: (0, 63)}[code >> 30]
        assert low <= each <= high


@given(st.sampled_from(sorted(QUALITIES)), st.integers(0, 3), st.integers(0, 127), st.booleans())
def test_limit_bits_are_kept_and_the_other_info_bits_change_nothing(code: int, limit: int, rest: int, overflow: bool) -> None:
    status = code << 16 | 0x400 | limit << 8 | rest | (0x80 if overflow else 0)
    assert quality(status) == QUALITIES[code] | limit
    assert overflowed(np.array([status], np.uint32)).tolist() == [overflow]
    # without the info type of a data value, these bits say something else
    assert quality(status & ~0xC00) == QUALITIES[code]
    assert not overflowed(np.array([status & ~0xC00], np.uint32)).any()


def test_named_codes_have_the_qualities_that_the_documentation_promises() -> None:
    promised = {
        "Good": 192,
        "GoodClamped": 192,
        "GoodLocalOverride": 216,
        "Uncertain": 64,
        "UncertainInitialValue": 64,
        "UncertainSubstituteValue": 64,
        "UncertainLastUsableValue": 68,
        "UncertainNoCommunicationLastUsableValue": 68,
        "UncertainSensorNotAccurate": 80,
        "UncertainSensorCalibration": 80,
        "UncertainEngineeringUnitsExceeded": 84,
        "UncertainSubNormal": 88,
        "Bad": 0,
        "BadUnexpectedError": 0,
        "BadConfigurationError": 4,
        "BadNodeIdUnknown": 4,
        "BadNotConnected": 8,
        "BadDeviceFailure": 12,
        "BadSensorFailure": 16,
        "BadNoCommunication": 24,
        "BadCommunicationError": 24,
        "BadTimeout": 24,
        "BadOutOfService": 28,
        "BadShutdown": 28,
        "BadWaitingForInitialData": 32,
    }
    assert {name: quality(getattr(ua.StatusCodes, name)) for name in promised} == promised
