"""Sparkplug's data types as values and kinds of tags."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from historian.ingest.sources.mqtt_values import MAX_TEXT
from historian.schema.catalogue import Kind
from historian.schema.samples import BAD, GOOD, MAX_INT, MAX_QUALITY, UNCERTAIN

if TYPE_CHECKING:
    from historian.ingest.sources.sparkplug_b_pb2 import Payload

_SIGNED = {1: 8, 2: 16, 3: 32, 4: 64}
_UNSIGNED = {5: 8, 6: 16, 7: 32, 8: 64}
_FLOATS = frozenset({9, 10})
_BOOLEAN = 11
_DATE_TIME = 13
_TEXTS = frozenset({12, 14, 15})

#: what a type is called in messages to people
NAMES = {16: "DataSet", 17: "Bytes", 18: "File", 19: "Template", 20: "PropertySet", 21: "PropertySetList"} | dict.fromkeys(
    range(22, 35), "array"
)

#: of those that a tag can hold
TYPES = dict(
    enumerate(
        [
            "Int8",
            "Int16",
            "Int32",
            "Int64",
            "UInt8",
            "UInt16",
            "UInt32",
            "UInt64",
            "Float",
            "Double",
            "Boolean",
            "String",
            "DateTime",
            "Text",
            "UUID",
        ],
        start=1,
    )
)
_FLOAT, _UINT32 = 9, 7
_MAX_FLOAT = 3.4028234663852886e38

#: OPC: bad, communication failure
STALE = 24
_STALE_PROPERTY = 500


def kind_of(datatype: int) -> Kind | None:
    """The kind of tag for a data type; None for what no tag can hold (arrays, data sets, templates, bytes)."""
    if datatype in _SIGNED or datatype in _UNSIGNED or datatype == _DATE_TIME:
        return "int"
    if datatype in _FLOATS:
        return "float"
    if datatype == _BOOLEAN:
        return "bool"
    return "text" if datatype in _TEXTS else None


def value_of(metric: Payload.Metric | Payload.PropertyValue, datatype: int) -> float | str | None:
    """A number, true and false as 1 and 0, or text; None where there is none. Raises ValueError for what its tag cannot hold: an integer that float64 does not have,
    an infinity, a text that cannot be kept, another form of value than the type says."""
    if metric.is_null:
        return None
    form = metric.WhichOneof("value")
    if form is None:
        return None
    if datatype in _TEXTS:
        if form != "string_value":
            raise ValueError(f"its value is no text but {form}")
        return _text(metric.string_value)
    if form not in ("int_value", "long_value", "float_value", "double_value", "boolean_value"):
        raise ValueError(f"its value is no number but {form}")
    number = getattr(metric, form)
    if datatype == _BOOLEAN:
        return 1.0 if number else 0.0
    if math.isinf(number):
        raise ValueError("its value is infinite")
    if datatype in _FLOATS:
        return float(number)
    whole = int(number) if number == number else 0
    if whole != number:
        raise ValueError(f"its value is {number}, and its type is an integer's")
    bits = _SIGNED.get(datatype)
    if bits is not None and form in ("int_value", "long_value"):
        # signed integers travel in unsigned fields, of 32 or 64 bits, in two's complement
        width = 32 if form == "int_value" else 64
        whole &= (1 << width) - 1
        if width > bits:
            whole &= (1 << bits) - 1
            width = bits
        if whole >> (width - 1):
            whole -= 1 << width
    elif bits is None and whole >> _UNSIGNED.get(datatype, 64):
        raise ValueError(f"its value is {whole}, which its type does not have")
    if abs(whole) > MAX_INT:
        raise ValueError(f"{whole} lies beyond ±2^53, where float64 is no longer exact")
    return float(whole)


def put_value(metric: Payload.Metric, datatype: int, value: bool | float | str) -> None:
    """Set the value of a metric that is sent, in the field of its type. Raises ValueError for a value that the type does not have."""
    name = TYPES.get(datatype, f"data type {datatype}")
    if datatype in _TEXTS:
        if not isinstance(value, str):
            raise ValueError(f"the metric is a {name}, and {value!r} is no text")
        metric.string_value = value
        return
    if isinstance(value, str):
        raise ValueError(f"the metric is a {name}, and {value[:40]!r} is no number")
    if datatype == _BOOLEAN:
        metric.boolean_value = bool(value)
    elif datatype in _FLOATS:
        if datatype == _FLOAT and abs(value) > _MAX_FLOAT:
            raise ValueError(f"the metric is a {name}, which does not have {value:g}")
        setattr(metric, "float_value" if datatype == _FLOAT else "double_value", float(value))
    else:
        whole = int(value)
        signed = _SIGNED.get(datatype)
        bits = signed or _UNSIGNED.get(datatype, 64)
        low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
        if whole != value or not low <= whole <= high:
            raise ValueError(f"the metric is a {name}: it takes whole numbers from {low} to {high}, not {value!r}")
        # negative ones in two's complement; UInt32 and what is longer in the long field, as Tahu has it
        if bits == 64 or datatype == _UINT32:
            metric.long_value = whole & ((1 << 64) - 1)
        else:
            metric.int_value = whole & ((1 << 32) - 1)


def quality_of(metric: Payload.Metric, value: float | str | None) -> int:
    """OPC-style: of the property `Quality` if there is one (192 good, 0 bad, 500 stale), else good where there is a value."""
    given = GOOD
    if metric.HasField("properties"):
        for key, found in zip(metric.properties.keys, metric.properties.values, strict=False):
            if key.lower() == "quality" and found.WhichOneof("value") in ("int_value", "long_value"):
                number = found.int_value or found.long_value
                given = STALE if number == _STALE_PROPERTY else int(number) if number <= MAX_QUALITY else BAD
    if value is None or value != value:
        return given if given < UNCERTAIN else BAD
    return given


def _text(text: str | bytes) -> str:
    # protobuf gives what is not UTF-8 as it came
    if isinstance(text, bytes):
        raise ValueError("its text is not UTF-8")
    if "\x00" in text:
        raise ValueError("its text has a NUL character, which the database cannot keep")
    if len(text) > MAX_TEXT // 4 and len(text.encode()) > MAX_TEXT:
        raise ValueError(f"its text has more than {MAX_TEXT} bytes")
    return text
