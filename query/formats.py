"""The formats in which samples leave: Arrow IPC stream, JSON, NDJSON, CSV, Parquet; each an encoder that takes samples as they come and gives bytes as they are ready.

Times are RFC 3339 in UTC in JSON, NDJSON and CSV. Values there are numbers, integers for tags of kind int and digital, `true` and `false` for bool, text for text;
a bad sample without a value has `null` in JSON and NDJSON, and an empty field in CSV. Rows of states have the state's name in a last column, `state`; in Arrow and
Parquet it is the text. The text forms are put together from columns of strings, at some five times
the rate of a dict for each sample and orjson.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from typing_extensions import Buffer

from historian.schema.catalogue import Tag
from historian.schema.errors import BadInput, NotAcceptable
from historian.schema.samples import MAX_INT, Floats, Samples, arrow_schema, concat

#: rows of a Parquet row group: what is held back before bytes come out, some 6 MB
ROW_GROUP_ROWS = 262_144

#: fewer samples than this, as in most live frames, are quicker written as objects (40: 30 µs, not 150; 400: 290 µs, not 200 to 400)
FEW = 200

_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"


class Encoder(Protocol):
    """Call `start` once, `write` any number of times, `finish` once; the bytes, one after the other, are the document."""

    def start(self) -> bytes: ...

    def write(self, samples: Samples) -> bytes: ...

    def finish(self, cursor: str = "") -> bytes:
        """`cursor` of the next page, if there is one: JSON has a place for it."""
        ...


@dataclass(frozen=True, slots=True)
class Format:
    """One format: its name in `format=`, its media type with parameters, and what makes an encoder for samples of some tags; `state=True`: for rows of their states.

    `rows`   so many at a time are written in some 4 ms
    `slow`   writing holds no lock of the interpreter for most of its time, and takes long: better done in a thread
    `fault`  a problem document as a row, where the format has a place for it: behind what came before a fault
    """

    name: str
    content_type: str
    encoder: Callable[..., Encoder]
    rows: int = 1 << 16
    slow: bool = False
    fault: Callable[[Mapping[str, Any]], bytes] = lambda _: b""

    @property
    def media_type(self) -> str:
        return self.content_type.partition(";")[0]


class _ArrowEncoder:
    """`tag_id int32, ts timestamp[us, UTC], value float64, quality int16[, text utf8]`, the catalogue rows in the schema's metadata."""

    def __init__(self, tags: Sequence[Tag], *, state: bool = False) -> None:
        self._schema = arrow_schema(tags, text=True if state else None)

    def start(self) -> bytes:
        schema: bytes = self._schema.serialize().to_pybytes()
        return schema

    def write(self, samples: Samples) -> bytes:
        batch: bytes = samples.to_record_batch(self._schema).serialize().to_pybytes() if len(samples) else b""
        return batch

    def finish(self, cursor: str = "") -> bytes:
        return _END_OF_STREAM


class Sink:
    """A file for Arrow's and Parquet's writers, in a `pyarrow.PythonFile`; they ask for no more than this. What was written since the last look is taken out."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self.closed = False

    def write(self, data: Buffer) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._size += len(part)
        return len(part)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def drain(self) -> bytes:
        written = b"".join(self._parts)
        self._parts.clear()
        return written


class _ParquetEncoder:
    """The Arrow columns, zstd, in row groups of ROW_GROUP_ROWS."""

    def __init__(self, tags: Sequence[Tag], *, state: bool = False) -> None:
        self._schema = arrow_schema(tags, text=True if state else None)
        self._sink = Sink()
        self._waiting: list[Samples] = []
        self._rows = 0
        self._writer = pq.ParquetWriter(pa.PythonFile(self._sink, mode="w"), self._schema, compression="zstd", compression_level=1)

    def start(self) -> bytes:
        return self._sink.drain()

    def write(self, samples: Samples) -> bytes:
        self._waiting.append(samples)
        self._rows += len(samples)
        if self._rows >= ROW_GROUP_ROWS:
            self._write_group()
        return self._sink.drain()

    def finish(self, cursor: str = "") -> bytes:
        if self._rows:
            self._write_group()
        self._writer.close()
        return self._sink.drain()

    def _write_group(self) -> None:
        table = pa.Table.from_batches([concat(self._waiting).to_record_batch(self._schema)])
        self._writer.write_table(table, row_group_size=len(table))
        self._waiting, self._rows = [], 0


class _JsonEncoder:
    """`{"samples":[{"tag":…,"ts":…,"value":…,"quality":…},…]}`, and `"next":CURSOR` behind the samples where a next page follows."""

    def __init__(self, tags: Sequence[Tag], *, state: bool = False) -> None:
        self._tags = {tag.tag_id: tag for tag in tags}
        self._state = state
        self._first = True

    def start(self) -> bytes:
        return b'{"samples":['

    def write(self, samples: Samples) -> bytes:
        if not len(samples):
            return b""
        comma = b"" if self._first else b","
        self._first = False
        return comma + json_samples(samples, self._tags, state=self._state)

    def finish(self, cursor: str = "") -> bytes:
        return b'],"next":"%b"}\n' % cursor.encode() if cursor else b"]}\n"


class _CsvEncoder:
    """`tag,ts,value,quality`, RFC 4180 with newlines for line ends; every text is quoted, so that an empty one is told from none."""

    def __init__(self, tags: Sequence[Tag], *, state: bool = False) -> None:
        self._tags = {tag.tag_id: tag for tag in tags}
        self._state = state

    def start(self) -> bytes:
        return b"tag,ts,value,quality,state\n" if self._state else b"tag,ts,value,quality\n"

    def write(self, samples: Samples) -> bytes:
        if not len(samples):
            return b""
        tag = _of_tags(samples, self._tags, lambda tag: _csv_field(tag.path) + ",")
        ts = _elements(_without(_dumped(samples.ts.view("M8[us]")), b'"'))
        values = _values(samples, self._tags, _CSV)
        if self._state:
            return _joined(tag, ts, values, _QUALITY_FIELDS.take(pa.array(samples.quality)), _texts(samples.text_or_nulls(), _CSV, "\n"))
        return _joined(tag, ts, values, _QUALITY_LINES.take(pa.array(samples.quality)))

    def finish(self, cursor: str = "") -> bytes:
        return b""


class _NdjsonEncoder:
    """`{"tag":…,"ts":…,"value":…,"quality":…}` and a newline for each sample."""

    def __init__(self, tags: Sequence[Tag], *, state: bool = False) -> None:
        self._tags = {tag.tag_id: tag for tag in tags}
        self._state = state

    def start(self) -> bytes:
        return b""

    def write(self, samples: Samples) -> bytes:
        if len(samples) < FEW:
            return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in _objects(samples, self._tags, state=self._state))
        return _json_rows(samples, self._tags, "\n", state=self._state)

    def finish(self, cursor: str = "") -> bytes:
        return b""


JSON = Format("json", "application/json", _JsonEncoder, rows=4096)
ARROW = Format("arrow", "application/vnd.apache.arrow.stream", _ArrowEncoder)
NDJSON = Format(
    "ndjson", "application/x-ndjson", _NdjsonEncoder, rows=4096, fault=lambda document: orjson.dumps({"error": document}) + b"\n"
)
CSV = Format("csv", "text/csv; charset=utf-8; header=present", _CsvEncoder, rows=4096)
PARQUET = Format("parquet", "application/vnd.apache.parquet", _ParquetEncoder, slow=True)

#: in the order in which one is chosen where the client leaves it to us
FORMATS = (JSON, ARROW, CSV, PARQUET, NDJSON)


def by_name(name: str) -> Format:
    """The format that `format=` names. Raises BadInput."""
    for form in FORMATS:
        if form.name == name:
            return form
    raise BadInput(f"format is {', '.join(form.name for form in FORMATS)}, not {name[:40]!r}")


def choose(accept: str | None) -> Format:
    """The format that an Accept header prefers (RFC 9110, section 12.5.1); JSON where there is none or it leaves the choice to us. Raises NotAcceptable.

    Of formats with the same weight the one that is named most exactly is taken, then the one named first.
    """
    if accept is None or not accept.strip():
        return JSON
    ranges = [_media_range(text) for text in accept.split(",") if text.strip()]
    best: tuple[tuple[float, int, int], Format] | None = None
    for form in FORMATS:
        kind = form.media_type.partition("/")[0]
        matches = [
            (("*/*", f"{kind}/*", form.media_type).index(media), -n, weight)
            for n, (media, weight) in enumerate(ranges)
            if media in ("*/*", f"{kind}/*", form.media_type)
        ]
        if not matches:
            continue
        # the most exact of the ranges that match says what the format weighs
        exactness, place, weight = max(matches)
        rank = (weight, exactness, place)
        if weight > 0 and (best is None or rank > best[0]):
            best = rank, form
    if best is None:
        known = ", ".join(form.media_type for form in FORMATS)
        raise NotAcceptable(f"none of {accept[:200]!r} can be written; there are {known}")
    return best[1]


def _media_range(text: str) -> tuple[str, float]:
    media, *parameters = (part.strip().lower() for part in text.split(";"))
    weight = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                weight = 0.0
    return media, weight if 0 <= weight <= 1 else 0.0


def json_samples(samples: Samples, tags: Mapping[int, Tag], *, state: bool = False) -> bytes:
    """`{"tag":…,"ts":…,"value":…,"quality":…}`, and with states `"state":…`, for each sample, joined by commas. `tags` has the tag of every sample."""
    if len(samples) < FEW:
        return orjson.dumps(_objects(samples, tags, state=state))[1:-1]
    return _json_rows(samples, tags, ",", state=state)[:-1]


def _json_rows(samples: Samples, tags: Mapping[int, Tag], end: Literal[",", "\n"], *, state: bool) -> bytes:
    """The objects of samples, each with this behind it."""
    head = _of_tags(samples, tags, lambda tag: f'{{"tag":{orjson.dumps(tag.path).decode()},"ts":')
    ts = _elements(_dumped(samples.ts.view("M8[us]")))
    columns = [head, ts, _VALUE_KEY, _values(samples, tags, _JSON)]
    if state:
        columns += [_QUALITY_STATES.take(pa.array(samples.quality)), _texts(samples.text_or_nulls(), _JSON, "}" + end)]
    else:
        columns.append(_QUALITY_OBJECTS[end].take(pa.array(samples.quality)))
    return _joined(*columns)


def _objects(samples: Samples, tags: Mapping[int, Tag], *, state: bool) -> list[dict[str, object]]:
    times = orjson.loads(_dump(samples.ts.view("M8[us]")))
    texts = samples.text.to_pylist() if samples.text is not None else [None] * len(samples)
    columns = (samples.tag_id.tolist(), times, samples.value.tolist(), samples.quality.tolist(), texts)
    rows = ((tags[tag_id], ts, value, quality, text) for tag_id, ts, value, quality, text in zip(*columns, strict=True))
    if state:
        return [
            {"tag": tag.path, "ts": ts, "value": _object(tag, value, None), "quality": quality, "state": text}
            for tag, ts, value, quality, text in rows
        ]
    return [{"tag": tag.path, "ts": ts, "value": _object(tag, value, text), "quality": quality} for tag, ts, value, quality, text in rows]


def _object(tag: Tag, value: float, text: str | None) -> object:
    if tag.kind == "text":
        return text
    if value != value:
        return None
    if tag.kind == "bool":
        return value != 0
    return int(value) if tag.kind in ("int", "digital") and value.is_integer() and abs(value) <= MAX_INT else value


# Columns of strings. Numbers and times are written by orjson, a whole array in one call; what it wrote is cut at the commas, and each string keeps its comma.

_Octets = npt.NDArray[np.uint8]

_VALUE_KEY = pa.scalar('"value":')
_QUALITY_OBJECTS = {end: pa.array([f'"quality":{quality}}}{end}' for quality in range(256)]) for end in (",", "\n")}
_QUALITY_STATES = pa.array([f'"quality":{quality},"state":' for quality in range(256)])
_QUALITY_FIELDS = pa.array([f"{quality}," for quality in range(256)])
_QUALITY_LINES = pa.array([f"{quality}\n" for quality in range(256)])

_FLOAT, _INT, _BOOL, _TEXT = range(4)
_FORMS = {"float": _FLOAT, "int": _INT, "digital": _INT, "bool": _BOOL, "text": _TEXT}


@dataclass(frozen=True, slots=True)
class _Style:
    """How one of the two text formats writes a value that is missing, and a text."""

    missing: str
    text: Callable[[str], str]


def _csv_field(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text


_JSON = _Style("null", lambda text: orjson.dumps(text).decode())
_CSV = _Style("", lambda text: '"' + text.replace('"', '""') + '"')


def _dump(values: npt.NDArray[Any]) -> bytes:
    return orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z)


def _dumped(values: npt.NDArray[Any]) -> _Octets:
    """A JSON array, without the brackets, and a comma at its end."""
    octets = np.frombuffer(bytearray(_dump(values)), np.uint8)
    octets[-1] = ord(",")
    return octets[1:]


def _without(octets: _Octets, characters: bytes) -> _Octets:
    kept = np.ones(256, np.bool_)
    kept[np.frombuffer(characters, np.uint8)] = False
    return octets[kept[octets]]


def _elements(octets: _Octets) -> pa.Array:
    """The strings up to and with each comma."""
    ends = np.flatnonzero(octets == ord(",")) + 1
    offsets = np.concatenate(([0], ends)).astype(np.int32)
    return pa.Array.from_buffers(pa.string(), len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(octets))])


def _joined(*columns: pa.Array | pa.Scalar) -> bytes:
    """The strings of each row one after the other, and row after row."""
    rows = pc.binary_join_element_wise(*columns, pa.scalar(""))
    offsets = np.frombuffer(rows.buffers()[1], np.int32)
    data: bytes = rows.buffers()[2].slice(0, int(offsets[len(rows)])).to_pybytes()
    return data


def _of_tags(samples: Samples, tags: Mapping[int, Tag], string: Callable[[Tag], str]) -> pa.Array:
    """For each sample a string made of its tag: once for each run of samples of the same tag."""
    runs = np.flatnonzero(np.concatenate(([True], samples.tag_id[1:] != samples.tag_id[:-1])))
    strings = pa.array([string(tags[tag_id]) for tag_id in samples.tag_id[runs].tolist()], pa.string())
    if len(runs) == len(samples):
        return strings
    return strings.take(pa.array(np.repeat(np.arange(len(runs)), np.diff(np.append(runs, len(samples))))))


def _values(samples: Samples, tags: Mapping[int, Tag], style: _Style) -> pa.Array:
    """For each sample its value, and a comma."""
    runs = np.flatnonzero(np.concatenate(([True], samples.tag_id[1:] != samples.tag_id[:-1])))
    of_run = np.array([_FORMS[tags[tag_id].kind] for tag_id in samples.tag_id[runs].tolist()], np.int8)
    form = np.repeat(of_run, np.diff(np.append(runs, len(samples))))
    value = samples.value
    exact = np.isfinite(value) & (np.abs(value) <= MAX_INT) & (np.rint(value) == value)
    # an integer that is missing is written as a float is, and so would be a fraction
    form[(form == _INT) & ~exact] = _FLOAT
    parts: list[pa.Array] = []
    places = []
    for which in np.unique(form).tolist():
        at = np.flatnonzero(form == which)
        places.append(at)
        if which == _TEXT:
            parts.append(_texts(samples.text_or_nulls().take(pa.array(at)), style))
        elif which == _BOOL:
            code = np.where(np.isnan(value[at]), 2, value[at] != 0)
            parts.append(pa.array(["false,", "true,", style.missing + ","]).take(pa.array(code)))
        else:
            parts.append(_numbers(value[at].astype(np.int64) if which == _INT else value[at], style))
    if len(parts) == 1:
        return parts[0]
    return pa.concat_arrays(parts).take(pa.array(np.argsort(np.concatenate(places))))


def _numbers(value: npt.NDArray[np.int64] | Floats, style: _Style) -> pa.Array:
    octets = _dumped(value)
    # orjson writes NaN as null, whose letters occur in no number
    return _elements(octets if style.missing == "null" else _without(octets, b"nul"))


def _texts(text: pa.Array, style: _Style, after: str = ",") -> pa.Array:
    """Texts repeat: each is escaped once for all samples that have it."""
    coded = text.dictionary_encode()
    strings = [*(style.text(string) + after for string in coded.dictionary.to_pylist()), style.missing + after]
    return pa.array(strings, pa.string()).take(coded.indices.fill_null(len(strings) - 1))
