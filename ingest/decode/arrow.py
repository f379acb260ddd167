"""Arrow bodies: an IPC stream with `tag` (utf8 or dictionary) or `tag_id` (int32), `ts`, `value`, and optional `quality`; also `text`, as in the results of a query.

A body is not trusted: what it would unpack to is known before anything is unpacked (`ipc_sizes.py`, `_plain`), and offsets and indices are checked before they are
used.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from historian.ingest.decode.columns import BOOL, NOTHING, NUMBER, TEXT, Columns, Faults
from historian.ingest.decode.ipc_sizes import check_sizes
from historian.ingest.decode.limits import DecodeLimits
from historian.schema.errors import BadInput, TooLarge
from historian.schema.samples import MAX_INT, Bools, Floats, Int64s

_COLUMNS = ("tag", "tag_id", "ts", "value", "quality", "text")
_PER_US = {"s": 1_000_000, "ms": 1000, "us": 1}
#: beyond these seconds µs overflow; both lie far outside of what is accepted
_FAR_S = 2**62 // 1_000_000


def parse(body: bytes | memoryview, limits: DecodeLimits) -> Columns:
    """Columns of a body. Raises BadInput and TooLarge; faults of rows are in the columns."""
    check_sizes(memoryview(body), limits)
    try:
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            _check_schema(reader.schema)
            batches = []
            for batch in reader:
                batch.validate(full=True)
                batches.append(batch)
            table = _joined(batches, reader.schema)
    except (pa.ArrowException, OSError, ValueError, UnicodeDecodeError) as error:
        raise BadInput(f"the body is no sound Arrow IPC stream: {str(error).splitlines()[0][:300]}") from None
    faults = Faults()
    if "tag" in table.column_names:
        paths, tag = _tags(_one(table.column("tag")), limits)
        faults.add_all(tag < 0, "tag", "is null")
    else:
        paths, tag = None, _ids(_one(table.column("tag_id")), faults)
    number, form, text, inexact = _values(_one(table.column("value")), limits)
    if "text" in table.column_names:
        text = _plain(_one(table.column("text")), limits)
        form[_valid(text)] = TEXT
    quality = _integers(_one(table.column("quality"))) if "quality" in table.column_names else None
    return Columns(paths, tag, _stamps(_one(table.column("ts")), faults), number, form, text, quality, inexact, faults)


def unpacked_size(body: bytes | memoryview, limits: DecodeLimits) -> int:
    """At most so many bytes a body becomes: a small one may be large once it is unpacked. Raises BadInput and TooLarge."""
    size = check_sizes(memoryview(body), limits)
    try:
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            repeats = any(field.name in ("value", "text") and _repeats(field.type) for field in reader.schema)
    except (pa.ArrowException, OSError, ValueError):
        return size  # `parse` says what is wrong
    return limits.max_decoded if repeats else size


def _repeats(kind: pa.DataType) -> bool:
    """Whether rows can share their bytes."""
    return bool(pa.types.is_dictionary(kind) or pa.types.is_string_view(kind))


def _check_schema(schema: pa.Schema) -> None:
    for name in schema.names:
        if name not in _COLUMNS:
            raise BadInput(f"unknown column {name[:80]!r}; there are {', '.join(_COLUMNS)}")
        if schema.names.count(name) > 1:
            raise BadInput(f"column {name} is there twice")
    if ("tag" in schema.names) == ("tag_id" in schema.names):
        raise BadInput("name the tags in one column: tag (utf8) or tag_id (int32)")
    for name in ("ts", "value"):
        if name not in schema.names:
            raise BadInput(f"there is no column {name}")
    types = {field.name: field.type for field in schema}
    wanted = {
        "tag": ("utf8, or a dictionary of it", _is_text),
        "tag_id": ("int32", pa.types.is_integer),
        "ts": ("a timestamp, or int64 µs since 1970", lambda t: pa.types.is_timestamp(t) or t == pa.int64()),
        "value": ("float64, or another number, bool or utf8", _is_value),
        "quality": ("int16", pa.types.is_integer),
        "text": ("utf8", lambda t: _is_text(t) or pa.types.is_null(t)),
    }
    for name, found in types.items():
        text, fits = wanted[name]
        if not fits(found):
            raise BadInput(f"column {name} is {text}, not {found}")


def _joined(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """All batches as one. Each may bring a dictionary of its own, and all of them together more entries than the indices of one can tell apart."""
    if len(batches) > 1:
        for n, field in enumerate(schema):
            if pa.types.is_dictionary(field.type) and field.type.index_type != pa.int32():
                schema = schema.set(n, pa.field(field.name, pa.dictionary(pa.int32(), field.type.value_type)))
                batches = [batch.set_column(n, field.name, _wide(batch.column(n))) for batch in batches]
    return pa.Table.from_batches(batches, schema).combine_chunks()


def _wide(array: pa.DictionaryArray) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(array.indices.cast(pa.int32()), array.dictionary)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_value(kind: pa.DataType) -> bool:
    is_number = pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)
    return bool(is_number or pa.types.is_boolean(kind) or pa.types.is_null(kind) or _is_text(kind))


def _one(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _valid(array: pa.Array) -> Bools:
    return np.asarray(array.is_valid().to_numpy(zero_copy_only=False))


def _plain(array: pa.Array, limits: DecodeLimits) -> pa.StringArray:
    """As utf8. Entries of a dictionary, and views, may stand for the same bytes any number of times: what they come to is known first. Raises TooLarge."""
    if pa.types.is_dictionary(array.type):
        entries = _plain(array.dictionary, limits)
        _check_text_size(pc.sum(pc.binary_length(entries).take(array.indices)).as_py() or 0, limits)
        return pa.DictionaryArray.from_arrays(array.indices, entries).dictionary_decode()
    if pa.types.is_string_view(array.type):
        # a view is 16 bytes, of which the first four are the length
        lengths = np.frombuffer(array.buffers()[1], np.int32)[4 * array.offset : 4 * (array.offset + len(array)) : 4]
        _check_text_size(int(lengths.sum(where=_valid(array), dtype=np.int64)), limits)
    return array.cast(pa.string())


def _check_text_size(size: int, limits: DecodeLimits) -> None:
    if size > limits.max_decoded:
        raise TooLarge(f"texts that unpack to {size} bytes; at most {limits.max_decoded}: send them in parts, each with a seq of its own")


def _tags(column: pa.Array, limits: DecodeLimits) -> tuple[list[str], np.ndarray]:
    if pa.types.is_dictionary(column.type):
        indices, entries = column.indices, _plain(column.dictionary, limits)
    else:
        encoded = _plain(column, limits).dictionary_encode()
        indices, entries = encoded.indices, encoded.dictionary
    codes = indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    paths: list[str | None] = entries.to_pylist()
    # a dictionary may have entries that no row uses, twice the same, or null
    used, inverse = np.unique(codes, return_inverse=True)
    distinct: dict[str, int] = {}
    positions = []
    for code in used.tolist():
        path = paths[code] if code >= 0 else None
        positions.append(-1 if path is None else distinct.setdefault(path, len(distinct)))
    return list(distinct), np.array(positions, np.int32)[inverse] if len(codes) else np.empty(0, np.int32)


def _integers(array: pa.Array) -> Int64s:
    """-1 where there is none; what does not fit is -2."""
    if pa.types.is_uint64(array.type):
        largest = pa.scalar(2**31, pa.uint64())
        array = pc.if_else(pc.less(array, largest), array, largest)
    found = np.asarray(array.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)).copy()
    found[(found == -1) & _valid(array)] = -2
    return found


def _ids(array: pa.Array, faults: Faults) -> np.ndarray:
    ids = _integers(array)
    wrong = (ids < 0) | (ids >= 2**31)
    faults.add_all(wrong, "tag_id", "is null, or no tag_id")
    return np.where(wrong, -1, ids).astype(np.int32)


def _stamps(array: pa.Array, faults: Faults) -> Int64s:
    if array.null_count:
        faults.add_all(~_valid(array), "ts", "is null")
    us: Int64s = np.asarray(array.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False))
    if pa.types.is_timestamp(array.type) and array.type.unit != "us":
        if array.type.unit == "ns":
            return us // 1000
        factor = _PER_US[array.type.unit]
        far = _FAR_S * (1_000_000 // factor)
        return np.clip(us, -far, far) * factor
    return us


def _values(array: pa.Array, limits: DecodeLimits) -> tuple[Floats, np.ndarray, pa.Array | None, Bools | None]:
    kind = array.type
    form = np.full(len(array), NUMBER, np.uint8)
    nothing = np.full(len(array), np.nan)
    if _is_text(kind):
        text = _plain(array, limits)
        form[:] = TEXT
        form[~_valid(text)] = NOTHING
        return nothing, form, text, None
    if pa.types.is_null(kind):
        form[:] = NOTHING
        return nothing, form, None, None
    inexact: Bools | None = None
    if pa.types.is_boolean(kind):
        form[:] = BOOL
        number = array.cast(pa.uint8()).cast(pa.float64())
    elif pa.types.is_integer(kind):
        number = array.cast(pa.float64(), safe=False)
        if kind.bit_width == 64:
            as_float = np.asarray(number.fill_null(0).to_numpy(zero_copy_only=False))
            if (np.abs(as_float) >= MAX_INT).any():
                exact = array.fill_null(0).to_numpy(zero_copy_only=False)
                # comparing the float with the integer itself would round the integer first
                with np.errstate(invalid="ignore"):
                    inexact = np.where(np.abs(as_float) < 2**63, as_float.astype(exact.dtype) != exact, True) & (
                        np.abs(as_float) >= MAX_INT
                    )
    elif pa.types.is_decimal(kind):
        # by way of its text, to the nearest float64: a cast divides by the power of ten, which rounds twice
        number = array.cast(pa.string()).cast(pa.float64())
    else:
        number = array.cast(pa.float64(), safe=False)
    if array.null_count:
        form[~_valid(array)] = NOTHING
        number = number.fill_null(float("nan"))
    return np.asarray(number.to_numpy(zero_copy_only=False)), form, None, inexact
