"""Arrow bodies: an IPC stream with `tag` (utf8 or dictionary) or `tag_id` (int32), `ts`, `value`, and optional `quality`; also `text`, as in the results of a query.

A body is not trusted: what it would unpack to is known before anything is unpacked (`ipc_sizes.py`), and offsets and indices are checked before they are used.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from historian.ingest.decode.columns import BOOL, NOTHING, NUMBER, TEXT, Columns, Faults
from historian.ingest.decode.ipc_sizes import check_sizes
from historian.ingest.decode.limits import DecodeLimits
from historian.schema.errors import BadInput
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
            table = pa.Table.from_batches(batches, reader.schema).combine_chunks()
    except (pa.ArrowException, OSError, ValueError, UnicodeDecodeError) as error:
        raise BadInput(f"the body is no sound Arrow IPC stream: {str(error).splitlines()[0][:300]}") from None
    faults = Faults()
    if "tag" in table.column_names:
        paths, tag = _tags(table.column("tag"))
        faults.add_all(tag < 0, "tag", "is null")
    else:
        paths, tag = None, _ids(_one(table.column("tag_id")), faults)
    number, form, text, inexact = _values(_one(table.column("value")))
    if "text" in table.column_names:
        text = _one(table.column("text")).cast(pa.string())
        form[_valid(text)] = TEXT
    quality = _integers(_one(table.column("quality"))) if "quality" in table.column_names else None
    return Columns(paths, tag, _stamps(_one(table.column("ts")), faults), number, form, text, quality, inexact, faults)


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


def _tags(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
        if not pa.types.is_string(column.type.value_type):
            column = column.cast(pa.dictionary(pa.int32(), pa.string()))
        encoded = _one(column)
    else:
        encoded = _one(column).cast(pa.string()).dictionary_encode()
    codes = encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    paths: list[str | None] = encoded.dictionary.to_pylist()
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
        array = pc.if_else(pc.less(array, 2**31), array, pa.scalar(2**31, pa.uint64()))
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


def _values(array: pa.Array) -> tuple[Floats, np.ndarray, pa.Array | None, Bools | None]:
    kind = array.type
    form = np.full(len(array), NUMBER, np.uint8)
    nothing = np.full(len(array), np.nan)
    if _is_text(kind):
        text = array.cast(pa.string())
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
    else:
        number = array.cast(pa.float64(), safe=False)
    if array.null_count:
        form[~_valid(array)] = NOTHING
        number = number.fill_null(float("nan"))
    return np.asarray(number.to_numpy(zero_copy_only=False)), form, None, inexact
