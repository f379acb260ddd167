"""The answers of an OPC UA server that carry data values: PublishResponse and HistoryReadResponse."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from asyncua import ua
from asyncua.common.utils import Buffer, NotEnoughData
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import nodeid_from_binary
from asyncua.ua.uaerrors import UaError

from historian.ingest.sources.opcua_decode import Values, decode_values

_INT32 = struct.Struct("<i")
_UINT32 = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Publish:
    """One answer to a publish request. `sequence` counts messages with notifications; `more` if the server has more ready; `status` of a subscription that has ended."""

    subscription: int
    sequence: int
    more: bool
    notifications: bool
    values: list[Values]
    status: int | None


class _Reader:
    """Reads OPC UA's binary encoding where no data values are."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position

    def uint32(self) -> int:
        (number,) = _UINT32.unpack_from(self.data, self.position)
        self.position += 4
        return int(number)

    def int32(self) -> int:
        (number,) = _INT32.unpack_from(self.data, self.position)
        self.position += 4
        return int(number)

    def byte(self) -> int:
        self.position += 1
        return self.data[self.position - 1]

    def skip(self, size: int) -> None:
        self.position += size

    def byte_string(self) -> bytes | None:
        length = self.int32()
        if length < 0:
            return None
        self.position += length
        if self.position > len(self.data):
            raise UaError("a byte string is cut short")
        return self.data[self.position - length : self.position]

    def node_id(self) -> ua.NodeId:
        buffer = Buffer(self.data, self.position)
        found = nodeid_from_binary(buffer)
        self.position = buffer.cur_pos
        return found

    def object(self) -> tuple[int, int]:
        """The head of an extension object: the number of its encoding in OPC UA's own namespace (0 if it is of another) and the position after it."""
        kind = self.node_id()
        number = kind.Identifier if kind.NamespaceIndex == 0 and isinstance(kind.Identifier, int) else 0
        if self.byte() == 0:
            return 0, self.position
        length = self.int32()
        if length < 0 or self.position + length > len(self.data):
            raise UaError("an extension object is cut short")
        return number, self.position + length


_DATA_CHANGE = ObjectIds.DataChangeNotification_Encoding_DefaultBinary
_STATUS_CHANGE = ObjectIds.StatusChangeNotification_Encoding_DefaultBinary
_HISTORY_DATA = ObjectIds.HistoryData_Encoding_DefaultBinary


def decode_publish(data: bytes, position: int) -> Publish:
    """The parameters of a PublishResponse, from `position` (after its header) on. Raises ua.UaError for what is none."""
    reader = _Reader(data, position)
    try:
        subscription = reader.uint32()
        reader.skip(4 * max(0, reader.int32()))
        more = reader.byte() != 0
        sequence = reader.uint32()
        reader.skip(8)
        count = max(0, reader.int32())
        values: list[Values] = []
        status = None
        for _ in range(count):
            kind, end = reader.object()
            if kind == _DATA_CHANGE:
                items = max(0, reader.int32())
                if items:
                    found, _ = decode_values(data[:end], reader.position, items, handles=True)
                    values.append(found)
            elif kind == _STATUS_CHANGE:
                status = reader.uint32()
            reader.position = end
    except (IndexError, struct.error, NotEnoughData) as error:
        raise UaError(f"a publish response is cut short: {error}") from None
    return Publish(subscription, sequence, more, count > 0, values, status)


@dataclass(frozen=True, slots=True)
class History:
    """What one node answered to a HistoryRead; `continuation` if there is more."""

    status: int
    continuation: bytes | None
    values: Values | None


def decode_history(data: bytes, position: int) -> list[History]:
    """The results of a HistoryReadResponse, from `position` (after its header) on. Raises ua.UaError for what is none."""
    reader = _Reader(data, position)
    results = []
    try:
        for _ in range(max(0, reader.int32())):
            status = reader.uint32()
            continuation = reader.byte_string() or None
            kind, end = reader.object()
            values = None
            if kind == _HISTORY_DATA:
                count = max(0, reader.int32())
                values, _ = decode_values(data[:end], reader.position, count, handles=False)
            reader.position = end
            results.append(History(status, continuation, values))
    except (IndexError, struct.error, NotEnoughData) as error:
        raise UaError(f"a history response is cut short: {error}") from None
    return results
