"""OPC UA status codes as qualities.

The quality keeps what OPC has always said in this byte: two bits of severity, four of cause, two of limit. A status code of OPC UA says the same and more; what has no
counterpart becomes the plain quality of its severity, so a bad status never turns into a good or an uncertain sample, nor the other way round.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from historian.schema.samples import BAD, GOOD, UNCERTAIN, Bools, Int16s

UInt32s = npt.NDArray[np.uint32]

BAD_CONFIGURATION = 4
BAD_NOT_CONNECTED = 8
BAD_DEVICE_FAILURE = 12
BAD_SENSOR_FAILURE = 16
BAD_COMMUNICATION = 24
BAD_OUT_OF_SERVICE = 28
BAD_WAITING = 32
UNCERTAIN_LAST_USABLE = 68
UNCERTAIN_SENSOR = 80
UNCERTAIN_RANGE = 84
UNCERTAIN_SUBNORMAL = 88
GOOD_LOCAL_OVERRIDE = 216

#: the upper 16 bits of a status code → its quality; docs/ingest/opcua.md has the table with the names
QUALITIES: MappingProxyType[int, int] = MappingProxyType(
    {
        0x8089: BAD_CONFIGURATION,  # BadConfigurationError
        0x8034: BAD_CONFIGURATION,  # BadNodeIdUnknown
        0x8033: BAD_CONFIGURATION,  # BadNodeIdInvalid
        0x808A: BAD_NOT_CONNECTED,  # BadNotConnected
        0x800D: BAD_NOT_CONNECTED,  # BadServerNotConnected
        0x808B: BAD_DEVICE_FAILURE,  # BadDeviceFailure
        0x808C: BAD_SENSOR_FAILURE,  # BadSensorFailure
        0x8005: BAD_COMMUNICATION,  # BadCommunicationError
        0x8031: BAD_COMMUNICATION,  # BadNoCommunication
        0x800A: BAD_COMMUNICATION,  # BadTimeout
        0x80AD: BAD_COMMUNICATION,  # BadDisconnect
        0x808D: BAD_OUT_OF_SERVICE,  # BadOutOfService
        0x800C: BAD_OUT_OF_SERVICE,  # BadShutdown
        0x800E: BAD_OUT_OF_SERVICE,  # BadServerHalted
        0x8032: BAD_WAITING,  # BadWaitingForInitialData
        0x408F: UNCERTAIN_LAST_USABLE,  # UncertainNoCommunicationLastUsableValue
        0x4090: UNCERTAIN_LAST_USABLE,  # UncertainLastUsableValue
        0x4093: UNCERTAIN_SENSOR,  # UncertainSensorNotAccurate
        0x420A: UNCERTAIN_SENSOR,  # UncertainSensorCalibration
        0x4094: UNCERTAIN_RANGE,  # UncertainEngineeringUnitsExceeded
        0x40F2: UNCERTAIN_RANGE,  # UncertainOverRange
        0x40F3: UNCERTAIN_RANGE,  # UncertainUnderRange
        0x4095: UNCERTAIN_SUBNORMAL,  # UncertainSubNormal
        0x40A4: UNCERTAIN_SUBNORMAL,  # UncertainDataSubNormal
        0x0096: GOOD_LOCAL_OVERRIDE,  # GoodLocalOverride
    }
)

# OPC UA part 4, 7.39: the info bits belong to a data value if bits 10 and 11 are 01; then bits 8 and 9 are the limit, bit 7 the overflow of its queue
_INFO_TYPE, _INFO_DATA_VALUE = 0x0C00, 0x0400
_LIMIT_SHIFT, _OVERFLOW = 8, 0x0080


def qualities(status: UInt32s) -> Int16s:
    """The quality of each status code, int16[n]."""
    if not status.any():
        return np.full(len(status), GOOD, np.int16)
    codes, inverse = np.unique(status, return_inverse=True)
    return np.fromiter((quality(code) for code in codes.tolist()), np.int16, len(codes))[inverse.reshape(-1)]


def quality(status: int) -> int:
    """The quality of one status code, 0..255."""
    # severity 11 is reserved: bad, as everything that cannot be trusted
    plain = (GOOD, UNCERTAIN, BAD, BAD)[status >> 30 & 3]
    found = QUALITIES.get(status >> 16, plain)
    limit = status >> _LIMIT_SHIFT & 3 if status & _INFO_TYPE == _INFO_DATA_VALUE else 0
    return found | limit


def overflowed(status: UInt32s) -> Bools:
    """Where the server says that its queue has lost samples next to this one, bool[n]."""
    said: Bools = (status & (_INFO_TYPE | _OVERFLOW)) == (_INFO_DATA_VALUE | _OVERFLOW)
    return said
