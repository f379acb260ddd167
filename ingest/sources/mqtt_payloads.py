"""What a message says, by its rule: samples, and what of it is wrong. No payload raises.

A payload of few samples becomes rows, which the source makes columns of together with those of other messages; an array becomes columns at once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from historian.ingest.path_samples import PathSamples, concat
from historian.ingest.sources.mqtt_values import Fault, qualities_of, quality_of, time_of, times_of, value_of, values_of
from historian.ingest.sources.topics import MISSING, Selector, TopicRule, select
from historian.schema.paths import path_fault

#: path, µs, value, quality, text
Row = tuple[str, int, float, int, str | None]

#: samples of one message
MAX_SAMPLES = 1_000_000
#: leaves of one object
MAX_LEAVES = 10_000
_DEPTH = 32
_TIMES = ("timestamp", "ts", "time")
_SHOWN = 10
_DOCUMENT_STARTS = frozenset(b'{["0123456789-tfn \t\r\n')


@dataclass(slots=True)
class Decoded:
    """`rows` or `parts`, not both; `bools` are the paths whose values were true or false. `faults`: what was not taken, the first few in words, of `fault_count`.

    `by_arrival`: whether a sample has the time of arrival, for want of another.
    """

    rows: list[Row] = field(default_factory=list)
    parts: list[PathSamples] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    fault_count: int = 0
    bools: list[str] = field(default_factory=list)
    by_arrival: bool = False

    def fault(self, what: str) -> None:
        self.fault_count += 1
        if len(self.faults) < _SHOWN:
            self.faults.append(what)

    @property
    def reason(self) -> str:
        """Why the message is in the dead-letter file; empty if nothing is wrong."""
        if not self.faults:
            return ""
        more = f"; and {self.fault_count - len(self.faults)} more" if self.fault_count > len(self.faults) else ""
        kept = len(self.rows) + sum(map(len, self.parts))
        return "; ".join(self.faults) + more + (f" (its other {kept} samples were taken)" if kept else "")


def decode(rule: TopicRule, path: str, payload: bytes, arrival_us: int) -> Decoded:
    """The samples of one message for the tag `path`, or the tags below it."""
    out = Decoded()
    try:
        document = _document(rule, payload)
        form = rule.payload
        if form == "auto":
            form = "array" if rule.items is not None or isinstance(document, list) else "object" if isinstance(document, dict) else "value"
        if form == "array":
            _array(rule, path, document, arrival_us, out)
        elif form == "object":
            if not isinstance(document, dict):
                raise Fault("the payload is no JSON object")
            _object(rule, path, document, arrival_us, out)
        else:
            if isinstance(document, dict | list):
                raise Fault("the payload is an object or an array, and the rule says it is a bare value")
            if rule.value_at or rule.fields or rule.time_at or rule.quality_at:
                raise Fault("the payload is a bare value, without the fields that the rule selects")
            out.by_arrival = True
            _sample(rule, path, document, MISSING, arrival_us, out)
    except Fault as fault:
        out.fault(str(fault))
    except RecursionError:
        out.fault("the payload is nested too deep")
    return out


def columns(rows: Sequence[Row]) -> PathSamples:
    """Rows as columns."""
    paths, ts, value, quality, text = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    codes: dict[str, int] = {}
    tag = np.fromiter((codes.setdefault(path, len(codes)) for path in paths), np.int32, len(rows))
    return PathSamples(
        list(codes),
        tag,
        np.array(ts, np.int64),
        np.array(value, np.float64),
        np.array(quality, np.int16),
        pa.array(text, pa.string()) if any(one is not None for one in text) else None,
    )


def _document(rule: TopicRule, payload: bytes) -> Any:
    bare = rule.payload in ("auto", "value") and rule.items is None
    if not bare or (payload and payload[0] in _DOCUMENT_STARTS):
        try:
            return orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            fault = str(error)
        # what Python and JavaScript programs write of a sensor that gives nothing
        if b"NaN" in payload or b"Infinity" in payload:
            try:
                return json.loads(payload)
            except (ValueError, RecursionError):
                pass
        if not bare or payload.lstrip()[:1] in (b"{", b"["):
            raise Fault(f"the payload is no JSON: {fault}")
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        raise Fault("the payload is neither JSON nor UTF-8 text") from None
    return _bare(text)


def _bare(text: str) -> Any:
    """A value that is no JSON: `+1.5`, `.5`, `NaN`, `TRUE`, or text."""
    word = text.strip().lower()
    if word in ("true", "false"):
        return word == "true"
    if word in ("", "null"):
        return None
    # Python's own underscores are no numbers to anybody else
    if "_" not in word:
        try:
            return float(word)
        except ValueError:
            pass
    return text


def _object(rule: TopicRule, path: str, document: dict[str, Any], arrival_us: int, out: Decoded) -> None:
    """The samples of one object: its value, or all its leaves."""
    ts, time_key = _time(rule, document, arrival_us, out)
    quality_at = rule.quality_at or (("quality",) if "quality" in document else None)
    quality = select(document, quality_at) if quality_at is not None else MISSING
    if rule.quality_at is not None and quality is MISSING:
        raise Fault(f"quality {rule.quality} is not in the payload")
    value_at = rule.value_at if rule.value_at is not None else ("value",) if rule.fields is None and "value" in document else None
    if value_at is not None:
        raw = select(document, value_at)
        if raw is MISSING:
            raise Fault(f"value {rule.value} is not in the payload")
        _sample(rule, path, raw, quality, ts, out)
        return
    leaves = 0
    for below, raw in _leaves(document, (time_key, quality_at), ()):
        if rule.wanted is not None and not _wanted(rule, below):
            continue
        leaves += 1
        if leaves > MAX_LEAVES:
            raise Fault(f"the payload has more than {MAX_LEAVES} values")
        _sample(rule, f"{path}/{below}", raw, quality, ts, out, below)
    if not leaves:
        raise Fault("the payload has no value that the rule takes")


def _sample(rule: TopicRule, path: str, raw: Any, quality: Any, ts: int, out: Decoded, below: str | None = None) -> None:
    """One row, or what is wrong with it."""
    try:
        if below is not None:
            wrong = path_fault(path)
            if wrong is not None:
                raise Fault(wrong)
        value, text = value_of(rule, raw)
        row = (path, ts, value, quality_of(rule, quality, text is None and math.isnan(value)), text)
    except Fault as fault:
        out.fault(f"{below if below is not None else 'value'}: {fault}")
        return
    out.rows.append(row)
    if raw is True or raw is False:
        out.bools.append(path)


def _time(rule: TopicRule, document: dict[str, Any], arrival_us: int, out: Decoded) -> tuple[int, Selector | None]:
    """The time of an object, and where it was. Raises Fault."""
    at = rule.time_at
    if at is None and rule.timestamp is None:
        at = next(((key,) for key in _TIMES if key in document), None)
    if at is None:
        out.by_arrival = True
        return arrival_us, None
    try:
        return time_of(select(document, at), rule.timestamp_unit), at
    except Fault as fault:
        raise Fault(f"timestamp: {fault}") from None


def _leaves(document: Any, without: tuple[Selector | None, ...], at: Selector) -> Iterator[tuple[str, Any]]:
    """Every value of an object, with its keys joined by `/`."""
    if len(at) > _DEPTH:
        raise Fault(f"the payload is nested deeper than {_DEPTH}")
    for key, value in document.items() if isinstance(document, dict) else enumerate(document):
        here = (*at, key)
        if here in without:
            continue
        if isinstance(value, dict | list):
            yield from _leaves(value, without, here)
        else:
            yield "/".join(map(str, here)), value


def _wanted(rule: TopicRule, below: str) -> bool:
    assert rule.wanted is not None
    included, excluded = rule.wanted
    return included.fullmatch(below) is not None and (excluded is None or excluded.fullmatch(below) is None)


def _array(rule: TopicRule, path: str, document: Any, arrival_us: int, out: Decoded) -> None:
    """The samples of an array: of objects, of pairs of time and value, or of plain values."""
    end_us, by_arrival = arrival_us, True
    items = document
    if rule.items_at is not None:
        items = select(document, rule.items_at)
        if items is MISSING:
            raise Fault(f"items {rule.items} is not in the payload")
    if not isinstance(items, list):
        raise Fault("the payload is no JSON array")
    if len(items) > MAX_SAMPLES:
        raise Fault(f"the array has {len(items)} items; at most {MAX_SAMPLES}")
    if not items:
        raise Fault("the array is empty")
    kinds = set(map(type, items))
    if kinds == {dict}:
        _objects(rule, path, items, arrival_us, out)
    elif kinds == {list}:
        if {len(item) for item in items} != {2}:
            raise Fault("the array's items are not all pairs of time and value")
        times, values = zip(*items, strict=True)
        _columns(rule, path, *times_of(times, rule.timestamp_unit), values, None, out)
    elif kinds & {dict, list}:
        raise Fault("the array mixes objects, arrays and plain values")
    else:
        if rule.interval_s is None:
            raise Fault("the array has plain values, and the rule no interval_s between them")
        if isinstance(document, dict):
            end_us, key = _time(rule, document, arrival_us, out)
            by_arrival = key is None
        elif rule.time_at is not None:
            raise Fault(f"timestamp {rule.timestamp} is not in the payload")
        out.by_arrival = by_arrival
        if (len(items) - 1) * rule.interval_s * 1e6 > end_us:
            raise Fault(f"{len(items)} values, {rule.interval_s} s apart, begin before 1970")
        back = np.rint(np.arange(len(items) - 1, -1, -1) * (rule.interval_s * 1e6)).astype(np.int64)
        _columns(rule, path, end_us - back, {}, items, None, out)


def _objects(rule: TopicRule, path: str, items: list[dict[str, Any]], arrival_us: int, out: Decoded) -> None:
    """The samples of an array of objects: by columns where each has one value, else object by object."""
    first = items[0]
    time_at = rule.time_at or (next(((key,) for key in _TIMES if key in first), None) if rule.timestamp is None else None)
    if time_at is None:
        raise Fault("the array's objects have no time of their own: with the time of arrival they would be one sample")
    value_at = rule.value_at if rule.value_at is not None else ("value",) if rule.fields is None and "value" in first else None
    if value_at is None:
        for n, item in enumerate(items):
            if len(out.rows) > MAX_SAMPLES:
                raise Fault(f"the payload has more than {MAX_SAMPLES} values")
            try:
                _object(rule, path, item, arrival_us, out)
            except Fault as fault:
                out.fault(f"item {n}: {fault}")
        return
    quality_at = rule.quality_at or (("quality",) if any("quality" in item for item in items) else None)
    times, faults = times_of(_column(items, time_at), rule.timestamp_unit)
    _columns(rule, path, times, faults, _column(items, value_at), _column(items, quality_at) if quality_at is not None else None, out)


def _column(items: list[dict[str, Any]], at: Selector) -> list[Any]:
    if len(at) == 1:
        key = str(at[0])
        return [item.get(key, MISSING) for item in items]
    return [select(item, at) for item in items]


def _columns(
    rule: TopicRule,
    path: str,
    ts: np.ndarray[Any, np.dtype[np.int64]],
    time_faults: dict[int, str],
    raw: Sequence[Any],
    qualities: Sequence[Any] | None,
    out: Decoded,
) -> None:
    """One tag's samples; rows with a fault are left out, and told."""
    value, text, value_faults = values_of(rule, raw)
    empty = np.isnan(value)
    if text is not None:
        empty &= np.array([one is None for one in text], np.bool_)
    quality, quality_faults = qualities_of(rule, qualities, empty)
    faults = [("timestamp", time_faults), ("value", value_faults), ("quality", quality_faults)]
    for name, found in faults:
        for n, fault in found.items():
            out.fault(f"item {n}: {name}: {fault}")
    good = np.ones(len(value), np.bool_)
    good[[n for _, found in faults for n in found]] = False
    samples = PathSamples(
        (path,), np.zeros(len(value), np.int32), ts, value, quality, pa.array(text, pa.string()) if text is not None else None
    )
    out.parts.append(samples if good.all() else samples.take(good))
    if set(map(type, raw)) <= {bool, type(None)}:
        out.bools.append(path)


def joined(parts: Sequence[PathSamples | list[Row]]) -> PathSamples:
    """Rows and columns of several messages, in their order, as columns."""
    return concat([part if isinstance(part, PathSamples) else columns(part) for part in parts])
