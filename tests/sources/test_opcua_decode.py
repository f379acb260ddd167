"""OPC UA's data values as columns: the same as asyncua reads them, whatever their encodings."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

asyncua = pytest.importorskip("asyncua")
from asyncua import ua  # noqa: E402
from asyncua.ua.ua_binary import struct_to_binary  # noqa: E402

from historian.ingest.sources.opcua_decode import (  # noqa: E402
    NO_TIME,
    NO_VALUE,
    TEXTS,
    UNHOLDABLE,
    decode_values,
    to_datetime,
)
from historian.ingest.sources.opcua_messages import decode_history, decode_publish  # noqa: E402

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
T = ua.VariantType
INTEGERS = {
    T.SByte: (8, 1),
    T.Byte: (8, 0),
    T.Int16: (16, 1),
    T.UInt16: (16, 0),
    T.Int32: (32, 1),
    T.UInt32: (32, 0),
    T.Int64: (64, 1),
    T.UInt64: (64, 0),
}


def _integers(kind: ua.VariantType) -> st.SearchStrategy[ua.Variant]:
    bits, signed = INTEGERS[kind]
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.builds(lambda number: ua.Variant(number, kind), st.integers(low, high))


TIMES = st.datetimes(datetime(1601, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants them so
NUMBERS = st.one_of(
    st.builds(lambda x: ua.Variant(x, T.Double), st.floats()),
    st.builds(lambda x: ua.Variant(x, T.Float), st.floats(width=32)),
    st.builds(lambda x: ua.Variant(x, T.Boolean), st.booleans()),
    *(_integers(kind) for kind in INTEGERS),
)
OTHERS = st.one_of(
    st.builds(lambda x: ua.Variant(x, T.String), st.text(st.characters(exclude_categories=["Cs"]))),
    st.builds(
        lambda x: ua.Variant(ua.LocalizedText(x, "en"), T.LocalizedText), st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
    ),
    st.builds(lambda x: ua.Variant(x, T.DateTime), TIMES),
    st.builds(lambda x: ua.Variant(UUID(int=x), T.Guid), st.integers(0, 2**128 - 1)),
    st.builds(lambda x: ua.Variant(x, T.Double, is_array=True), st.lists(st.floats(), max_size=4)),
    st.builds(lambda x: ua.Variant(x, T.ByteString), st.binary()),
    st.builds(lambda: ua.Variant(ua.Range(1.0, 2.0), T.ExtensionObject)),
    st.just(ua.Variant(None, T.Null)),
    st.just(ua.Variant(None, T.String)),
)
DATA_VALUES = st.builds(
    lambda value, status, source, server, pico: ua.DataValue(
        value,
        None if status is None else ua.StatusCode(status),
        source,
        server,
        # asyncua writes source picoseconds after the server timestamp, against part 6, 5.2.2.17: they have a test of their own
        pico if source is not None and server is None else None,
        pico if server is not None else None,
    ),
    st.one_of(st.none(), NUMBERS, OTHERS),
    st.one_of(st.none(), st.integers(0, 2**32 - 1)),
    st.one_of(st.none(), TIMES),
    st.one_of(st.none(), TIMES),
    st.one_of(st.none(), st.integers(0, 9999)),
)


def _us(at: datetime | None) -> int:
    return NO_TIME if at is None else (at - EPOCH) // timedelta(microseconds=1)


def _check(found: object, each: ua.DataValue, row: int) -> None:
    values = found
    assert values.source[row] == _us(each.SourceTimestamp)  # type: ignore[attr-defined]
    assert values.server[row] == _us(each.ServerTimestamp)  # type: ignore[attr-defined]
    assert values.status[row] == (0 if each.StatusCode is None else each.StatusCode.value)  # type: ignore[attr-defined]
    kind, number = values.type[row], values.value[row]  # type: ignore[attr-defined]
    text = values.other.get(row)  # type: ignore[attr-defined]
    variant = each.Value
    if variant is None or variant.Value is None:
        assert kind == NO_VALUE
        assert math.isnan(number)
    elif variant.is_array or variant.VariantType in (T.ByteString, T.ExtensionObject):
        assert kind == UNHOLDABLE
        assert text
        assert math.isnan(number)
    elif variant.VariantType.value in TEXTS:
        assert kind == variant.VariantType.value
        expected = variant.Value.Text if variant.VariantType is T.LocalizedText else variant.Value
        assert text == (expected.isoformat() if isinstance(expected, datetime) else str(expected))
    else:
        assert kind == variant.VariantType.value
        exact = variant.VariantType not in INTEGERS or abs(variant.Value) <= 2**53
        assert bool(values.inexact[row]) is not exact  # type: ignore[attr-defined]
        if not math.isnan(variant.Value):
            assert number == float(variant.Value)
        else:
            assert math.isnan(number)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), DATA_VALUES), max_size=30), st.integers(0, 2**32 - 1))
def test_a_publish_response_is_read_as_asyncua_wrote_it(items: list[tuple[int, ua.DataValue]], sequence: int) -> None:
    notification = ua.DataChangeNotification(MonitoredItems=[ua.MonitoredItemNotification(handle, value) for handle, value in items])
    parameters = ua.PublishResult(7, [1, 2], True, ua.NotificationMessage(sequence, EPOCH, [notification]), [ua.StatusCode(0)], [])
    data = b"header" + struct_to_binary(parameters)
    publish = decode_publish(data, 6)
    assert (publish.subscription, publish.more, publish.sequence, publish.status) == (7, True, sequence, None)
    assert publish.notifications
    assert sum(len(values) for values in publish.values) == len(items)
    for row, (handle, value) in enumerate(items):
        assert publish.values[0].handle[row] == handle
        _check(publish.values[0], value, row)


@given(st.lists(DATA_VALUES, max_size=30), st.one_of(st.none(), st.binary(min_size=1)))
def test_a_history_is_read_as_asyncua_wrote_it(items: list[ua.DataValue], continuation: bytes | None) -> None:
    result = ua.HistoryReadResult(ua.StatusCode(0x00A60000), continuation, ua.HistoryData(items))
    none = ua.HistoryReadResult(ua.StatusCode(ua.StatusCodes.BadNodeIdUnknown), None, None)
    data = b"\2\0\0\0" + struct_to_binary(result) + struct_to_binary(none)
    first, second = decode_history(data, 0)
    assert (first.status, first.continuation) == (0x00A60000, continuation)
    assert first.values is not None
    assert (first.values.handle == -1).all()
    assert len(first.values) == len(items)
    for row, value in enumerate(items):
        _check(first.values, value, row)
    assert (second.status, second.continuation, second.values) == (ua.StatusCodes.BadNodeIdUnknown, None, None)


@given(st.lists(DATA_VALUES, min_size=1, max_size=5), st.data())
def test_what_is_cut_short_or_garbled_is_an_error_and_nothing_worse(items: list[ua.DataValue], data: st.DataObject) -> None:
    whole = b"".join(struct_to_binary(item) for item in items)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ua.UaError):
        decode_values(whole[:cut], 0, len(items), handles=False)
    garbled = bytearray(whole)
    garbled[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        values, _ = decode_values(bytes(garbled), 0, len(items), handles=False)
    except ua.UaError:
        return
    assert len(values) == len(items)


def test_a_status_change_is_told() -> None:
    change = ua.StatusChangeNotification(ua.StatusCode(ua.StatusCodes.BadTimeout))
    publish = decode_publish(struct_to_binary(ua.PublishResult(1, [], False, ua.NotificationMessage(1, EPOCH, [change]), [], [])), 0)
    assert publish.status == ua.StatusCodes.BadTimeout
    assert publish.values == []


def test_picoseconds_are_passed_over_where_the_standard_has_them() -> None:
    ticks = struct.pack("<q", 116_444_736_000_000_000 + 10)
    data = bytes([0x01 | 0x04 | 0x08 | 0x10 | 0x20, 3, 42]) + ticks + b"\x11\x11" + ticks + b"\x22\x22"
    values, end = decode_values(data + b"\1\1\1", 0, 2, handles=False)
    assert end == len(data) + 3
    assert values.value.tolist() == [42, 1]
    assert values.source.tolist() == [1, NO_TIME]
    assert values.server.tolist() == [1, NO_TIME]


@given(TIMES)
def test_times_go_there_and_back(at: datetime) -> None:
    assert to_datetime(_us(at)) == at
