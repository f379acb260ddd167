"""JSON bodies: `{"samples": [{"tag": "a/b", "ts": "2026-01-01T00:00:00Z", "value": 1.5, "quality": 192}]}`; ts also as integer µs, quality optional.

The parser makes Python objects, a few for each sample; they become columns in passes that run in C. Only a body with faults is looked at row by row.
"""

from __future__ import annotations

from itertools import repeat
from operator import itemgetter
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from historian.ingest.decode.columns import BOOL, NOTHING, NUMBER, OTHER, TEXT, Columns, Faults, Forms
from historian.ingest.decode.limits import DecodeLimits
from historian.ingest.decode.stamps import parse_stamps
from historian.schema.errors import BadInput, TooLarge
from historian.schema.samples import MAX_INT, Bools, Floats, Int32s, Int64s

_FIELDS = frozenset({"tag", "ts", "value", "quality"})
_ABSENT = object()


def parse(body: bytes | memoryview, limits: DecodeLimits) -> Columns:
    """Columns of a body. Raises BadInput and TooLarge; faults of rows are in the columns."""
    whole = bytes(body)
    # a body with fewer bytes need not be counted
    if len(whole) > 2 * limits.max_samples and (
        whole.count(b"{") + whole.count(b"[") > 2 * limits.max_samples + 64 or whole.count(b",") > 8 * limits.max_samples
    ):
        # the parser would make them all before anybody could look at them
        raise TooLarge(f"the body has more objects than {limits.max_samples} samples can be; send it in parts, each with a seq of its own")
    try:
        document = orjson.loads(whole)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"the body is no JSON: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("samples"), list):
        raise BadInput('the body is an object with a list: {"samples": [{"tag": …, "ts": …, "value": …}]}')
    if len(document) > 1:
        raise BadInput(f"unknown field {next(name for name in document if name != 'samples')[:80]!r} beside samples")
    rows = document["samples"]
    if len(rows) > limits.max_samples:
        raise TooLarge(f"{len(rows)} samples in a body; at most {limits.max_samples}: send it in parts, each with a seq of its own")
    faults = Faults()
    if not rows:
        return Columns([], np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0), np.empty(0, np.uint8), faults=faults)
    try:
        tags, stamps, values = (list(map(itemgetter(name), rows)) for name in ("tag", "ts", "value"))
        qualities = _optional(rows)
    except (KeyError, TypeError):  # TypeError: a row that is no object
        tags, stamps, values, qualities = _row_by_row(rows, faults)
    paths, tag = _tags(tags, faults)
    number, form, text, inexact = _values(values, faults)
    return Columns(paths, tag, _stamps(stamps, faults), number, form, text, _qualities(qualities, faults), inexact, faults)


def _optional(rows: list[Any]) -> list[Any] | None:
    """The qualities of rows that are known to have all other fields; None if no row has one. Raises KeyError for a row with unknown fields."""
    lengths = set(map(len, rows))
    if lengths == {3}:
        return None
    if lengths == {4}:
        return list(map(itemgetter("quality"), rows))
    if lengths != {3, 4} or not set().union(*rows) <= _FIELDS:
        raise KeyError
    return [row.get("quality") for row in rows]


def _row_by_row(rows: list[Any], faults: Faults) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """The columns of rows of which some have no or other fields; what is missing becomes _ABSENT, which is no further fault."""
    columns: tuple[list[Any], list[Any], list[Any], list[Any]] = ([], [], [], [])
    for n, row in enumerate(rows):
        if not isinstance(row, dict):
            faults.add(n, "samples", f"a sample is an object, not {_type_name(row)}")
            for column in columns[:3]:
                column.append(_ABSENT)
            columns[3].append(None)
            continue
        for name in row:
            if name not in _FIELDS:
                faults.add(n, name[:80], "is no field of a sample; there are tag, ts, value, quality")
        for column, name in zip(columns, ("tag", "ts", "value"), strict=False):
            if name not in row:
                faults.add(n, name, "is missing")
            column.append(row.get(name, _ABSENT))
        columns[3].append(row.get("quality"))
    return columns


def _tags(tags: list[Any], faults: Faults) -> tuple[list[str], Int32s]:
    texts = _texts(tags)
    if texts is not None:
        encoded = texts.dictionary_encode()
        return encoded.dictionary.to_pylist(), np.asarray(encoded.indices.to_numpy(zero_copy_only=False))
    for n, tag in enumerate(tags):
        if type(tag) is not str:
            if tag is not _ABSENT:
                faults.add(n, "tag", f"a tag path is text, not {_type_name(tag)}")
            tags[n] = None
    positions: dict[str | None, int] = {None: -1}
    paths = [path for path in dict.fromkeys(tags) if path is not None]
    positions.update(zip(paths, range(len(paths)), strict=True))
    return paths, np.fromiter(map(positions.__getitem__, tags), np.int32, len(tags))


def _texts(values: list[Any]) -> pa.StringArray | None:
    """None if they are not all texts. (Asking pyarrow is quicker than looking at the types first.)"""
    try:
        texts = pa.array(values, pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
        return None
    return None if texts.null_count else texts


def _stamps(stamps: list[Any], faults: Faults) -> Int64s:
    written = _texts(stamps)
    if written is not None:
        us, good = parse_stamps(written)
        if good.all():
            return us
    elif set(map(type, stamps)) == {int}:
        try:
            return np.array(stamps, np.int64)
        except OverflowError:
            pass
    us = np.zeros(len(stamps), np.int64)
    texts = [n for n, stamp in enumerate(stamps) if type(stamp) is str]
    if texts:
        found, good = _parsed([stamps[n] for n in texts])
        us[texts] = found
        for n in np.flatnonzero(~good).tolist():
            faults.add(texts[n], "ts", f"{stamps[texts[n]][:40]!r} is no RFC 3339 time")
    for n, stamp in enumerate(stamps):
        if type(stamp) is int:
            if -(2**62) < stamp < 2**62:
                us[n] = stamp
            else:
                faults.add(n, "ts", f"{stamp} µs lies outside 1970 to 2100")
        elif type(stamp) is not str and stamp is not _ABSENT:
            faults.add(n, "ts", f"a time is RFC 3339 text or integer µs, not {_type_name(stamp)}")
    return us


def _parsed(texts: list[str]) -> tuple[Int64s, Bools]:
    try:
        return parse_stamps(pa.array(texts, pa.string()))
    except UnicodeEncodeError:  # lone surrogates: no time has them
        return parse_stamps(pa.array([text.encode("utf-8", "replace").decode() for text in texts], pa.string()))


def _values(values: list[Any], faults: Faults) -> tuple[Floats, Forms, pa.Array | None, Bools | None]:
    count = len(values)
    types = set(map(type, values))
    if types <= {float, int}:
        number = np.array(values, np.float64)
        return number, np.full(count, NUMBER, np.uint8), None, _inexact(values, number) if int in types else None
    form = np.fromiter(map(_FORM.get, map(type, values), repeat(OTHER)), np.uint8, count)
    is_number = (form == NUMBER) | (form == BOOL)
    number = np.full(count, np.nan)
    number[is_number] = np.array([value for value in values if type(value) in _NUMBERS], np.float64)
    for n in np.flatnonzero(form == OTHER).tolist():
        if values[n] is not _ABSENT:
            faults.add(n, "value", f"a value is a number, true, false, text or null, not {_type_name(values[n])}")
    text = None
    if str in types:
        try:
            text = pa.array([value if type(value) is str else None for value in values], pa.string())
        except UnicodeEncodeError:
            text = pa.array([_storable(n, value, faults) for n, value in enumerate(values)], pa.string())
    return number, form, text, _inexact(values, number) if int in types else None


_NUMBERS = frozenset({int, float, bool})
_FORM: dict[type, int] = {type(None): NOTHING, int: NUMBER, float: NUMBER, bool: BOOL, str: TEXT}


def _storable(row: int, value: Any, faults: Faults) -> str | None:
    if type(value) is not str:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        faults.add(row, "value", "has a lone surrogate, which is no text")
        return ""
    return value


def _inexact(values: list[Any], number: Floats) -> Bools | None:
    with np.errstate(invalid="ignore"):
        large = np.flatnonzero(np.abs(number) >= MAX_INT)
    if not len(large):
        return None
    inexact = np.zeros(len(values), np.bool_)
    for n in large.tolist():
        inexact[n] = type(values[n]) is int and int(number[n]) != values[n]
    return inexact


def _qualities(qualities: list[Any] | None, faults: Faults) -> Int64s | None:
    if qualities is None:
        return None
    types = set(map(type, qualities))
    if types == {int}:
        try:
            found = np.array(qualities, np.int64)
        except OverflowError:
            found = np.array([max(-9, min(quality, 10**6)) for quality in qualities], np.int64)
        # -1 means none; one that is given as such is as wrong as -2
        found[found == -1] = -2
        return found
    found = np.full(len(qualities), -1, np.int64)
    for n, quality in enumerate(qualities):
        if type(quality) is int:
            found[n] = -2 if quality < 0 else min(quality, 10**6)
        elif quality is not None:
            faults.add(n, "quality", f"a quality is an integer, not {_type_name(quality)}")
    return found


def _type_name(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null", int: "a number", float: "a number"}
    return names.get(type(value), "something else")
