"""What a caller wants written, in any of the forms that a notebook has, as the Arrow batches that `POST /v1/write` takes.

Long: a row a sample, columns `tag` (or `tag_id`), `ts`, `value`, and perhaps `quality`, and `text` for the values of text tags, as in the result of a
range. Wide: a row an instant, a column a tag; an empty cell or NaN is no sample there, whereas in the long form it is a bad one. Rows of one tag stay
in their order, and the same data always gives the same batches, so that numbering them makes sense.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import time_ns
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from historian.client.times import as_us
from historian.query.times import parse_time
from historian.schema.errors import BadInput, BadSamples, Fault
from historian.schema.samples import BAD, GOOD, TIMESTAMP

#: pandas.DataFrame or Series, pyarrow.Table or RecordBatch, a sequence of mappings, or a mapping of columns
Data: TypeAlias = Any

#: 3 MB of Arrow: one transaction of the server, well below its limits
BATCH_ROWS = 50_000

_LONG = ("tag", "tag_id", "ts", "value", "quality", "text")
_TAG_TYPE = pa.dictionary(pa.int32(), pa.string())
_LONG_HINT = "samples have the columns tag, ts, value, and quality if they like; or, without tag and value, ts and a column for each tag"
_Rows: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """One batch to be sent, and the row of the caller's data that each of its rows comes from. `wide`: its columns were tags."""

    table: pa.Table
    rows: _Rows
    wide: bool = False

    def body(self) -> bytes:
        """As an Arrow IPC stream."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.table.schema) as writer:
            writer.write_table(self.table)
        body: bytes = sink.getvalue().to_pybytes()
        return body

    def relocated(self, error: BadSamples) -> BadSamples:
        """The server's faults, with the rows (and columns) of the caller's data."""
        faults = []
        for fault in error.faults:
            inside = 0 <= fault.row < len(self.rows)
            row = int(self.rows[fault.row]) if inside else fault.row
            column = str(self.table.column("tag")[fault.row]) if inside and self.wide and fault.column == "value" else fault.column
            faults.append(Fault(row, column, fault.detail))
        return BadSamples(faults, error.count)


def parts(data: Data, batch_rows: int = BATCH_ROWS) -> Iterator[Part]:
    """The batches to send, each of one type of value. Raises BadInput, before the first of them, for data that have none of these forms."""
    if isinstance(data, pa.RecordBatch):
        data = pa.Table.from_batches([data])
    if isinstance(data, pa.Table):
        return _of_table(data, batch_rows)
    if isinstance(data, Mapping):
        return _of_columns(data, batch_rows)
    if type(data).__module__.partition(".")[0] == "pandas":
        return _of_table(_of_pandas(data), batch_rows)
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return _of_records(data, batch_rows)
    raise BadInput(f"cannot write a {type(data).__name__}: give a DataFrame, an Arrow table, a list of dicts, or a dict of columns")


def _of_table(table: pa.Table, batch_rows: int) -> Iterator[Part]:
    names = table.column_names
    if len(set(names)) < len(names):
        raise BadInput("two columns have the same name")
    if "ts" not in names:
        raise BadInput(f"there is no column ts; {_LONG_HINT}")
    if {"tag", "tag_id", "value"}.isdisjoint(names):
        return _wide(table, batch_rows)
    if "value" not in names or ("tag" not in names and "tag_id" not in names):
        raise BadInput(f"there is no column {'value' if 'value' not in names else 'tag'}; {_LONG_HINT}")
    unknown = [name for name in names if name not in _LONG]
    if unknown:
        raise BadInput(f"no such column: {', '.join(unknown[:5])}; {_LONG_HINT}")
    return _long(table, batch_rows)


def _long(table: pa.Table, batch_rows: int) -> Iterator[Part]:
    named = "tag" in table.column_names
    name = "tag" if named else "tag_id"
    tag = _one(table.column(name))
    columns = {name: _as(tag, _TAG_TYPE if named else pa.int32(), name), "ts": _times(_one(table.column("ts")))}
    value = _values(_one(table.column("value")), "value")
    quality = _as(_one(table.column("quality")), pa.int16(), "quality") if "quality" in table.column_names else None
    text = _as(_one(table.column("text")), pa.string(), "text") if "text" in table.column_names else None
    if text is not None and text.null_count < len(text):
        # as in the result of a range: the value of a text tag
        columns |= {"value": value, "quality": _qualities(value, quality, text), "text": text}
    else:
        columns |= {"value": value, "quality": _qualities(value, quality)}
    return _sliced(pa.table(columns), np.arange(len(value)), batch_rows)


def _wide(table: pa.Table, batch_rows: int) -> Iterator[Part]:
    ts = _times(_one(table.column("ts")))
    paths = [name for name in table.column_names if name != "ts"]
    by_type: dict[pa.DataType, list[tuple[str, pa.Array]]] = {}
    for path in paths:
        column = _values(_one(table.column(path)), path)
        by_type.setdefault(column.type, []).append((path, column))

    def generate() -> Iterator[Part]:
        step = max(1, batch_rows // max(1, len(paths)))
        for start in range(0, len(ts), step):
            n = min(step, len(ts) - start)
            for columns in by_type.values():
                # a row after the other, as the caller has them
                order = np.arange(n * len(columns)).reshape(len(columns), n).T.ravel()
                value = pa.concat_arrays([column.slice(start, n) for _, column in columns]).take(pa.array(order))
                tag = pa.DictionaryArray.from_arrays(
                    pa.array(np.tile(np.arange(len(columns), dtype=np.int32), n)), pa.array([path for path, _ in columns], pa.string())
                )
                rows = np.repeat(np.arange(start, start + n), len(columns))
                there = _present(value)
                index = np.flatnonzero(there)
                if not len(index):
                    continue
                keep = pa.array(index)
                whole = pa.table({"tag": tag, "ts": ts.take(pa.array(rows)), "value": value}).take(keep)
                yield Part(whole, rows[index], wide=True)

    return generate()


def _sliced(table: pa.Table, rows: _Rows, batch_rows: int) -> Iterator[Part]:
    for start in range(0, len(table), batch_rows):
        yield Part(table.slice(start, batch_rows), rows[start : start + batch_rows])


def _of_columns(columns: Mapping[str, Any], batch_rows: int) -> Iterator[Part]:
    listed = all(isinstance(column, list | tuple | range | str) for column in columns.values())
    lengths = {len(column) for name, column in columns.items() if not isinstance(column, str)}
    if len(lengths) > 1:
        raise BadInput(f"the columns have different lengths: {', '.join(map(str, sorted(lengths)))}")
    n = lengths.pop() if lengths else 0
    full = {str(name): [column] * n if isinstance(column, str) else column for name, column in columns.items()}
    if listed and "value" in full:
        return _of_records([dict(zip(full, row, strict=True)) for row in zip(*full.values(), strict=True)], batch_rows)
    arrays = {}
    for name, column in full.items():
        if name == "ts" and isinstance(column, list | tuple | range) and not any(isinstance(time, str) for time in column):
            arrays[name] = _from_us([as_us(time) for time in column])
        else:
            arrays[name] = _array(column, name)
    return _of_table(pa.table(arrays), batch_rows)


def _of_records(records: Sequence[Mapping[str, Any]], batch_rows: int) -> Iterator[Part]:
    """By the type of each tag's values: text, else float, int or bool."""
    kinds: dict[object, set[type]] = {}
    for row, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise BadInput(f"row {row}: a sample is a dict, not {type(record).__name__}")
        unknown = [name for name in record if name not in _LONG or name == "text"]
        if unknown:
            raise BadSamples([Fault(row, str(unknown[0]), f"no such field; {_LONG_HINT}")])
        missing = [name for name in ("ts", "value") if name not in record]
        if missing or ("tag" not in record and "tag_id" not in record):
            raise BadSamples([Fault(row, (*missing, "tag")[0], "is missing")])
        value = record["value"]
        kinds.setdefault(record.get("tag", record.get("tag_id")), set()).add(_python_type(row, value))
    groups: dict[type, list[int]] = {}
    for row, record in enumerate(records):
        tag = record.get("tag", record.get("tag_id"))
        types = kinds[tag] - {type(None)}
        if str in types and len(types) > 1:
            raise BadSamples([Fault(row, "value", f"tag {tag!r} has both text and numbers")])
        groups.setdefault(next((t for t in (str, float, int, bool) if t in types), float), []).append(row)
    if len({"tag" in record for record in records}) > 1:
        raise BadInput("either all samples have a tag, or all have a tag_id")

    def generate() -> Iterator[Part]:
        for kind, rows in groups.items():
            for start in range(0, len(rows), batch_rows):
                chosen = rows[start : start + batch_rows]
                yield Part(_record_table([records[row] for row in chosen], kind, chosen), np.array(chosen, np.int64))

    return generate()


def _record_table(records: Sequence[Mapping[str, Any]], kind: type, rows: Sequence[int]) -> pa.Table:
    arrow = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}[kind]
    name = "tag" if "tag" in records[0] else "tag_id"
    tag = _as(_array([record[name] for record in records], name), _TAG_TYPE if name == "tag" else pa.int32(), name)
    times = []
    now = time_ns() // 1000
    for row, record in zip(rows, records, strict=True):
        try:
            times.append(parse_time(record["ts"], now) if isinstance(record["ts"], str) else as_us(record["ts"]))
        except BadInput as error:
            raise BadSamples([Fault(row, "ts", str(error))]) from None
    values = [record["value"] for record in records]
    try:
        value = pa.array([None if v is None else kind(v) for v in values], arrow)
    except (pa.ArrowException, OverflowError):
        raise BadInput(f"a whole number is beyond 64 bits: {max(values, key=lambda v: abs(v or 0))}") from None
    quality = _array([record.get("quality") for record in records], "quality")
    return pa.table({name: tag, "ts": _from_us(times), "value": value, "quality": _qualities(value, _as(quality, pa.int16(), "quality"))})


def _python_type(row: int, value: object) -> type:
    if value is None or isinstance(value, str):
        return str if isinstance(value, str) else type(None)
    if isinstance(value, bool | np.bool_):
        return bool
    if isinstance(value, int | np.integer):
        return int
    if isinstance(value, float | np.floating):
        return float
    raise BadSamples([Fault(row, "value", f"is a number, a truth value, text or None, not {type(value).__name__}")])


def _of_pandas(data: Any) -> pa.Table:
    frame = data.to_frame() if hasattr(data, "to_frame") and not hasattr(data, "columns") else data
    if not hasattr(frame, "columns"):
        raise BadInput(f"cannot write a pandas {type(data).__name__}: give a DataFrame")
    if not all(isinstance(column, str) for column in frame.columns):
        raise BadInput("the columns of a DataFrame are named by tag paths, or by tag, ts, value, quality")
    indexed = "ts" not in frame.columns
    if indexed and frame.index.dtype.kind != "M":
        raise BadInput(f"the DataFrame has neither a column ts nor a DatetimeIndex; {_LONG_HINT}")
    try:
        return pa.Table.from_pandas(frame.rename_axis("ts") if indexed else frame, preserve_index=indexed).replace_schema_metadata()
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise BadInput(f"a column of the DataFrame has values of several types: {error}") from None


def _array(column: Any, name: str) -> pa.Array:
    try:
        made = pa.array(column)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"column {name}: {error}") from None
    return _one(made)


def _one(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """In one piece and not dictionary-encoded."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return column.cast(column.type.value_type) if pt.is_dictionary(column.type) else column


def _as(column: pa.Array, wanted: pa.DataType, name: str) -> pa.Array:
    try:
        if pt.is_dictionary(wanted):
            # strings only: a number is no tag path
            if not (pt.is_string(column.type) or pt.is_large_string(column.type) or pt.is_null(column.type)):
                raise BadInput(f"column {name} is text, not {column.type}")
            return column.cast(wanted.value_type).dictionary_encode()
        return column.cast(wanted)
    except pa.ArrowException as error:
        raise BadInput(f"column {name}: {error}") from None


def _from_us(times: Iterable[int]) -> pa.Array:
    try:
        return pa.array(np.array(list(times), np.int64)).cast(TIMESTAMP)
    except OverflowError:
        raise BadInput("a time in microseconds is beyond 64 bits") from None


def _times(column: pa.Array) -> pa.Array:
    if pt.is_timestamp(column.type):
        if column.type.tz is None:
            raise BadInput("the times in ts have no time zone: in pandas, .tz_localize('UTC') or the zone that they are in")
        # cuts nanoseconds off
        return column.cast(TIMESTAMP, safe=False)
    if pt.is_integer(column.type):
        return _as(_as(column, pa.int64(), "ts"), TIMESTAMP, "ts")
    if pt.is_string(column.type) or pt.is_large_string(column.type):
        try:
            return column.cast(TIMESTAMP)
        except pa.ArrowException as error:
            raise BadInput(f"ts is text, but not RFC 3339 with a zone, as in 2026-01-01T00:00:00Z: {error}") from None
    raise BadInput(f"ts has timestamps with a zone, integer microseconds since 1970 UTC, or RFC 3339 text, not {column.type}")


def _values(column: pa.Array, name: str) -> pa.Array:
    kind = column.type
    if pt.is_boolean(kind) or pt.is_string(kind):
        return column
    if pt.is_large_string(kind) or pt.is_string_view(kind):
        return column.cast(pa.string())
    if pt.is_integer(kind):
        return _as(column, pa.int64(), name)
    if pt.is_floating(kind) or pt.is_decimal(kind) or pt.is_null(kind):
        return column.cast(pa.float64())
    raise BadInput(f"column {name} has numbers, truth values or text, not {kind}")


def _present(value: pa.Array) -> npt.NDArray[np.bool_]:
    there: npt.NDArray[np.bool_] = value.is_valid().to_numpy(zero_copy_only=False)
    if pt.is_floating(value.type):
        there &= ~np.isnan(value.fill_null(np.nan).to_numpy(zero_copy_only=False))
    return there


def _qualities(value: pa.Array, quality: pa.Array | None, text: pa.Array | None = None) -> pa.Array:
    """As given; where none is, good, or bad if there is no value."""
    there = _present(value)
    if text is not None:
        there |= text.is_valid().to_numpy(zero_copy_only=False)
    default = pa.array(np.where(there, GOOD, BAD).astype(np.int16))
    return default if quality is None else pc.coalesce(quality, default)
