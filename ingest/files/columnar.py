"""Parquet and Arrow IPC files as record batches, in bounded memory: columns of text come as utf8, those of numbers as float64, times and integers as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from historian.schema.errors import BadInput

_ROWS = 64 << 10


class ParquetSource:
    """One Parquet file."""

    def __init__(self, path: Path) -> None:
        """Raises BadInput."""
        self.path = path
        try:
            with pq.ParquetFile(path) as file:
                schema, self._count = file.schema_arrow, file.metadata.num_rows
        except (pa.ArrowException, OSError) as error:
            raise BadInput(f"is no sound Parquet file: {_line(error)}") from None
        self.names: Sequence[str] = _names(schema)
        self.fraction = 0.0

    def batches(self, columns: Sequence[int] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows, or these columns of them, in order. Raises BadInput."""
        seen = 0
        try:
            with pq.ParquetFile(self.path) as file:
                names = file.schema_arrow.names
                wanted = names if columns is None else [names[n] for n in columns]
                for batch in file.iter_batches(_ROWS, columns=wanted):
                    seen += len(batch)
                    self.fraction = seen / max(self._count, 1)
                    # in the order asked for, not that of the file
                    yield _simple(batch.select(wanted))
        except (pa.ArrowException, OSError) as error:
            raise BadInput(f"is no sound Parquet file: {_line(error)}") from None

    def where(self, row: int) -> str:
        return f"row {row + 1}"


class ArrowSource:
    """One Arrow IPC file or stream: the same to whoever has one."""

    def __init__(self, path: Path) -> None:
        """Raises BadInput."""
        self.path = path
        with path.open("rb") as file:
            self._is_file = file.read(6) == b"ARROW1"
        try:
            with pa.OSFile(str(path)) as raw, self._opened(raw) as reader:
                schema = reader.schema
        except (pa.ArrowException, OSError) as error:
            raise BadInput(f"is no sound Arrow file: {_line(error)}") from None
        self.names: Sequence[str] = _names(schema)
        self.fraction = 0.0

    def _opened(self, raw: pa.NativeFile) -> pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader:
        return pa.ipc.open_file(raw) if self._is_file else pa.ipc.open_stream(raw)

    def batches(self, columns: Sequence[int] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows, or these columns of them, in order. Raises BadInput."""
        size = max(self.path.stat().st_size, 1)
        try:
            with pa.OSFile(str(self.path)) as raw, self._opened(raw) as reader:
                found = (reader.get_batch(n) for n in range(reader.num_record_batches)) if self._is_file else iter(reader)
                for batch in found:
                    batch.validate(full=True)
                    self.fraction = raw.tell() / size
                    for start in range(0, len(batch), _ROWS):
                        part = batch.slice(start, _ROWS)
                        yield _simple(part if columns is None else part.select(list(columns)))
        except (pa.ArrowException, OSError) as error:
            raise BadInput(f"is no sound Arrow file: {_line(error)}") from None

    def where(self, row: int) -> str:
        return f"row {row + 1}"


def _names(schema: pa.Schema) -> list[str]:
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not (_is_text(kind) or _is_plain(kind)):
            raise BadInput(f"column {field.name!r} is of type {field.type}, which is no number, text, time, true or false")
    return [str(name).strip() for name in schema.names]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_plain(kind: pa.DataType) -> bool:
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return bool(is_number or pa.types.is_boolean(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_null(kind))


def _simple(batch: pa.RecordBatch) -> pa.RecordBatch:
    """By position: names may be the same, which is refused later."""
    columns = []
    for column in batch.columns:
        if pa.types.is_dictionary(column.type):
            entries = column.dictionary
            # there is no way from views
            column = pa.DictionaryArray.from_arrays(column.indices, entries.cast(pa.string()) if _is_text(entries.type) else entries)
            column = column.dictionary_decode()
        if _is_text(column.type) or pa.types.is_null(column.type):
            column = column.cast(pa.string())
        elif pa.types.is_decimal(column.type):
            # by way of its text: a division would round twice
            column = pc.cast(column.cast(pa.string()), pa.float64())
        elif pa.types.is_floating(column.type):
            column = column.cast(pa.float64())
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, [str(n) for n in range(len(columns))])


def _line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
