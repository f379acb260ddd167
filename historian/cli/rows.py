"""Samples as lines and files: what `query` and `tail` write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import orjson
import pyarrow as pa

from historian.client.results import Labels, TagList
from historian.query.formats import CSV, ROW_GROUP_ROWS
from historian.query.times import format_time
from historian.schema.errors import BadInput
from historian.schema.samples import TAGS_KEY, UNCERTAIN, Samples


@dataclass(frozen=True, slots=True)
class Row:
    """A sample as it is shown; `value` is None where there is none."""

    tag: str
    time: str
    value: float | int | bool | str | None
    quality: int
    #: the value with its unit, or the name of its state
    shown: str


def rows_of(batch: pa.RecordBatch) -> Iterator[Row]:
    """The samples of a batch in the client's columns."""
    tags = {tag.path: tag for tag in tags_of(batch.schema)}
    text = batch.column("text").to_pylist() if "text" in batch.schema.names else [None] * batch.num_rows
    times = batch.column("ts").cast(pa.int64()).to_pylist()
    columns = (batch.column(name).to_pylist() for name in ("tag", "value", "quality"))
    for path, value, quality, ts, word in zip(*columns, times, text, strict=True):
        tag = tags[path]
        given: float | int | bool | str | None = word if tag.kind == "text" else value
        if given is None or given != given:
            given, shown = None, "–"
        elif tag.kind in ("int", "digital"):
            given = int(given)
            state = (tag.states or {}).get(str(given))
            shown = f"{given} {state}" if state else f"{given}"
        elif tag.kind == "bool":
            given = bool(given)
            shown = "true" if given else "false"
        else:
            shown = str(given) if isinstance(given, str) else f"{given:.12g}"
        yield Row(path, format_time(ts), given, quality, f"{shown} {tag.unit}" if tag.unit and given is not None else shown)


_known: tuple[bytes, TagList] = (b"[]", TagList())


def tags_of(schema: pa.Schema) -> TagList:
    """The tags that the schema's metadata tells of; the same object for batches of the same result."""
    global _known
    rows = (schema.metadata or {}).get(TAGS_KEY, b"[]")
    if _known[0] != rows:
        _known = (rows, Labels(schema).tags)
    return _known[1]


def quality_word(quality: int) -> str:
    """In a word, with the code where that says more."""
    if quality >= 192:
        return "good" if quality == 192 else f"good ({quality})"
    return f"{'uncertain' if quality >= UNCERTAIN else 'bad'} ({quality})"


class Writer(Protocol):
    """Writes batches in one format."""

    def write(self, batch: pa.RecordBatch) -> None: ...

    def finish(self) -> None: ...


class JsonLines:
    """A JSON object a line: `{"tag", "ts", "value", "quality"}`."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink

    def write(self, batch: pa.RecordBatch) -> None:
        lines = (orjson.dumps({"tag": row.tag, "ts": row.time, "value": row.value, "quality": row.quality}) for row in rows_of(batch))
        self._sink.write(b"".join(line + b"\n" for line in lines))

    def finish(self) -> None:
        pass


class Csv:
    """`tag,ts,value,quality`, byte for byte as the server's CSV, and as `historian import` reads it."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._known: object = None
        self._started = False

    def write(self, batch: pa.RecordBatch) -> None:
        tags = tags_of(batch.schema)
        if tags is not self._known:
            self._known, self._encoder = tags, CSV.encoder(tags)
        if not self._started:
            self._started = True
            self._sink.write(self._encoder.start())
        self._sink.write(self._encoder.write(Samples.from_record_batch(batch)))

    def finish(self) -> None:
        pass


class ArrowStream:
    """An Arrow IPC stream."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._writer: Any = None
        self._schema: pa.Schema | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        if self._schema is None:
            self._schema = batch.schema
            self._writer = pa.ipc.new_stream(self._sink, self._schema)
        elif not batch.schema.equals(self._schema):
            raise BadInput("the tags that the wildcards match have changed, and an Arrow stream has one schema: start again")
        self._writer.write_batch(batch)

    def finish(self) -> None:
        if self._writer is not None:
            self._writer.close()


class Parquet:
    """A Parquet file, zstd."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._writer: Any = None
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        # a row group for each small batch would make a large and slow file
        self._waiting.append(batch)
        self._rows += batch.num_rows
        if self._rows >= ROW_GROUP_ROWS:
            self._write_group()

    def finish(self) -> None:
        if self._waiting:
            self._write_group()
        if self._writer is not None:
            self._writer.close()

    def _write_group(self) -> None:
        import pyarrow.parquet as pq

        group = pa.Table.from_batches(self._waiting)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._sink, group.schema, compression="zstd")
        self._writer.write_table(group, row_group_size=max(1, len(group)))
        self._waiting, self._rows = [], 0


_WRITERS: dict[str, type[JsonLines] | type[Csv] | type[ArrowStream] | type[Parquet]] = {
    "json": JsonLines,
    "csv": Csv,
    "arrow": ArrowStream,
    "parquet": Parquet,
}


def writer_of(form: str, sink: BinaryIO) -> Writer:
    """A writer of `json`, `csv`, `arrow` or `parquet`."""
    return _WRITERS[form](sink)
