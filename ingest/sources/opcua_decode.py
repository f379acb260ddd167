"""OPC UA's binary data values as columns.

asyncua makes some ten Python objects of every value, which bounds a client at a few ten thousand values a second. Here numbers are found by one pass over their
encodings and taken out with numpy, a group of equal encoding at a time; only texts, and what no tag can hold, become objects.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
from asyncua.common.utils import Buffer, NotEnoughData
from asyncua.ua.ua_binary import variant_from_binary
from asyncua.ua.uaerrors import UaError

from historian.ingest.sources.opcua_quality import UInt32s
from historian.schema.samples import MAX_INT, Bools, Floats, Int64s

#: 100 ns ticks from 1601-01-01, where OPC UA's time begins, to 1970-01-01
EPOCH_TICKS = 116_444_736_000_000_000
_FILETIME = datetime(1601, 1, 1, tzinfo=UTC)
#: 9999-12-31: what stands for the end of time
_LAST_TICKS = 2_650_467_743_990_000_000

#: what a value came as: a built-in type of OPC UA, or one of these
NO_VALUE = 0
UNHOLDABLE = 255

BOOLEAN, FLOAT, DOUBLE = 1, 10, 11
STRING, DATE_TIME, GUID, XML, QUALIFIED_NAME, LOCALIZED_TEXT = 12, 13, 14, 16, 20, 21
#: types that become text
TEXTS = frozenset({STRING, DATE_TIME, GUID, XML, QUALIFIED_NAME, LOCALIZED_TEXT})
#: types that become a number, as numpy reads them
NUMBERS = {1: "u1", 2: "i1", 3: "u1", 4: "<i2", 5: "<u2", 6: "<i4", 7: "<u4", 8: "<i8", 9: "<u8", 10: "<f4", 11: "<f8"}

# the mask byte of a data value
_VALUE, _STATUS, _SOURCE, _SERVER, _SOURCE_PICO, _SERVER_PICO = 1, 2, 4, 8, 16, 32


def _sizes() -> list[int]:
    """Bytes of a data value by its mask and, where it has a value, the type byte after it (as one little-endian number); 0 where that does not say it."""
    table = [0] * 65536
    for mask in range(64):
        rest = 1 + sum(size for bit, size in ((_STATUS, 4), (_SOURCE, 8), (_SERVER, 8), (_SOURCE_PICO, 2), (_SERVER_PICO, 2)) if mask & bit)
        for kind in range(256):
            if not mask & _VALUE:
                table[mask | kind << 8] = rest
            elif kind in NUMBERS:
                table[mask | kind << 8] = rest + 1 + np.dtype(NUMBERS[kind]).itemsize
            elif kind == 0:
                table[mask] = rest + 1
    return table


_SIZES = _sizes()
_INT32 = struct.Struct("<i")


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """Data values in the order in which they came, as columns of length n.

    handle   int64[n], the client handle of the monitored item; -1 in a history
    value    float64[n], NaN where there is no number
    status   uint32[n]
    source   int64[n], µs since 1970 of the source timestamp, floor; NO_TIME where there is none
    server   int64[n], the same of the server timestamp
    type     uint8[n], built-in type; NO_VALUE; UNHOLDABLE for arrays, structures and other things that are neither number nor text
    inexact  bool[n], true for integers beyond ±2^53, whose value is the nearest float64
    other    by row: the text of a text; for UNHOLDABLE what it is, in words
    """

    handle: Int64s
    value: Floats
    status: UInt32s
    source: Int64s
    server: Int64s
    type: npt.NDArray[np.uint8]
    inexact: Bools
    other: dict[int, str]

    def __len__(self) -> int:
        return len(self.value)


NO_TIME = -(2**62)


def decode_values(data: bytes, position: int, count: int, *, handles: bool) -> tuple[Values, int]:
    """`count` data values from `position` on, each with a client handle before it if `handles` says so. Returns them and the position after them.

    Raises ua.UaError for what is no such encoding.
    """
    prefix = 4 if handles else 0
    starts: list[int] = []
    codes: list[int] = []
    odd: list[tuple[int, int, int, int, str]] = []
    sizes, add_start, add_code = _SIZES, starts.append, codes.append
    # a mask without value may be the last byte
    padded = data + b"\0"
    try:
        for row in range(count):
            start = position + prefix
            code = padded[start] | padded[start + 1] << 8
            size = sizes[code]
            if size:
                add_start(start)
                add_code(code)
                position = start + size
            else:
                kind, text, after, end = _odd_value(data, start)
                add_start(after)
                # what is left of it is as of a data value without a value, whose mask stands just before
                add_code(-1 - padded[start])
                odd.append((row, start, kind, end, text))
                position = end
    except (IndexError, struct.error, NotEnoughData) as error:
        raise UaError(f"a data value is cut short: {error}") from None
    if position > len(data):
        raise UaError("a data value is cut short")
    return _columns(data, np.array(starts, np.int64), np.array(codes, np.int64), odd, prefix), position


def _odd_value(data: bytes, start: int) -> tuple[int, str, int, int]:
    """A data value whose value has no fixed size: its type, its text (or what it is, in words), the position after the value and the one after all."""
    mask, encoding = data[start], data[start + 1]
    if mask > 63:
        raise UaError(f"a data value of an unknown encoding, {mask:#x}")
    position = start + 2
    if encoding == STRING:
        kind = STRING
        (length,) = _INT32.unpack_from(data, position)
        position += 4 + max(length, 0)
        text = data[position - length : position].decode(errors="replace") if length > 0 else ""
        if length < 0:
            kind, text = NO_VALUE, ""
    else:
        buffer = Buffer(data, start + 1)
        try:
            variant = variant_from_binary(buffer)
        except (NotEnoughData, struct.error):
            raise
        except Exception as error:
            raise UaError(f"a value that cannot be decoded: {type(error).__name__}: {error}") from None
        position = buffer.cur_pos
        kind, text = _described(variant, encoding)
    end = position + (_SIZES[mask & ~_VALUE] - 1)
    return kind, text, position, end


def _described(variant: Any, encoding: int) -> tuple[int, str]:
    value, kind = variant.Value, encoding & 63
    if encoding & 0x80:
        return UNHOLDABLE, f"an array of {variant.VariantType.name}"
    if value is None:
        return NO_VALUE, ""
    if kind == DATE_TIME:
        return kind, value.astimezone(UTC).isoformat() if value.tzinfo else value.replace(tzinfo=UTC).isoformat()
    if kind == LOCALIZED_TEXT:
        return (kind, value.Text) if value.Text is not None else (NO_VALUE, "")
    if kind == QUALIFIED_NAME:
        return (kind, value.Name) if value.Name is not None else (NO_VALUE, "")
    if kind in (GUID, XML) and isinstance(value, str | UUID):
        return kind, str(value)
    if kind == XML:
        text = getattr(value, "Value", None)
        return (kind, text) if isinstance(text, str) else (UNHOLDABLE, "an XmlElement")
    if kind == 22:
        return UNHOLDABLE, f"a structure ({getattr(value, 'TypeId', type(value).__name__)})"
    return UNHOLDABLE, f"a {variant.VariantType.name}"


def _columns(data: bytes, starts: Int64s, codes: Int64s, odd: list[tuple[int, int, int, int, str]], prefix: int) -> Values:
    n = len(starts)
    raw = np.frombuffer(data, np.uint8)
    handle = np.full(n, -1, np.int64)
    value = np.full(n, np.nan)
    status = np.zeros(n, np.uint32)
    source, server = np.full(n, NO_TIME), np.full(n, NO_TIME)
    kinds = np.zeros(n, np.uint8)
    inexact = np.zeros(n, np.bool_)
    other: dict[int, str] = {}

    def field(at: Int64s, form: str) -> npt.NDArray[Any]:
        size = np.dtype(form).itemsize
        found: npt.NDArray[Any] = raw[at[:, None] + np.arange(size)].reshape(-1).view(form)
        return found

    where = starts.copy()
    for row, start, kind, _, text in odd:
        where[row] = start
        kinds[row] = kind
        if kind != NO_VALUE:
            other[row] = text
    if prefix and n:
        handle[:] = field(where - 4, "<u4")
    # a mask without value may have any byte after it
    known = np.where((codes >= 0) & (codes & _VALUE == 0), codes & 0xFF, codes)
    for code in np.unique(known).tolist():
        rows: Any = slice(None) if len(known) and (known == code).all() else np.flatnonzero(known == code)
        at = starts[rows]
        if code < 0:
            mask = -1 - code
        else:
            mask = code & 0xFF
            at = at + 1
            if mask & _VALUE:
                kind = code >> 8
                kinds[rows] = kind
                at = at + 1
                if kind:
                    numbers = field(at, NUMBERS[kind])
                    at = at + numbers.itemsize
                    if kind == 8:
                        inexact[rows] = (numbers > MAX_INT) | (numbers < -MAX_INT)
                    elif kind == 9:
                        inexact[rows] = numbers > MAX_INT
                    value[rows] = numbers != 0 if kind == BOOLEAN else numbers
        if mask & _STATUS:
            status[rows] = field(at, "<u4")
            at = at + 4
        if mask & _SOURCE:
            source[rows] = _microseconds(field(at, "<i8"))
            at = at + 8
        if mask & _SOURCE_PICO:
            at = at + 2
        if mask & _SERVER:
            server[rows] = _microseconds(field(at, "<i8"))
    return Values(handle, value, status, source, server, kinds, inexact, other)


def _microseconds(ticks: Int64s) -> Int64s:
    # 0 and the end of time stand for no time
    return np.where((ticks <= 0) | (ticks >= _LAST_TICKS), NO_TIME, (ticks - EPOCH_TICKS) // 10)


def to_datetime(us: int) -> datetime:
    """As asyncua takes it."""
    return _FILETIME + timedelta(microseconds=us + EPOCH_TICKS // 10)
