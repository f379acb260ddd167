"""Samples as lines and files: what `query` and `tail` write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, BinaryIO, Protocol

import orjson
import pyarrow as pa

from historian.client import results
from historian.client.results import TagList
from historian.query.formats import CSV, ROW_GROUP_ROWS
from historian.query.times import format_time
from historian.schema.catalogue import Tag
from historian.schema.errors import BadInput
from historian.schema.samples import TAGS_KEY, UNCERTAIN, Samples

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Row:
    """A sample as it is shown; `value` is None where there is none."""

    tag: str
    ts: int
    value: float | int | bool | str | None
    quality: int
    #: the value with its unit, or the name of its state
    shown: str
    #: what the value is about: the state, in a duration
    state: str | None = None

    @property
    def time(self) -> str:
        """RFC 3339 in UTC."""
        return format_time(self.ts)


def rows_of(batch: pa.RecordBatch) -> Iterator[Row]:
    """The samples of a batch in the client's columns."""
    tags = {tag.path: tag for tag in tags_of(batch.schema)}
    text = batch.column("text").to_pylist() if "text" in batch.schema.names else [None] * batch.num_rows
    times = batch.column("ts").cast(pa.int64()).to_pylist()
    columns = (batch.column(name).to_pylist() for name in ("tag", "value", "quality"))
    for path, value, quality, ts, word in zip(*columns, times, text, strict=True):
        tag = tags[path]
        given: float | int | bool | str | None = value_of(tag, word if tag.kind == "text" else value)
        shown = "–" if given is None else shown_value(tag, given)
        state = word if tag.kind != "text" else None
        yield Row(path, ts, given, quality, f"{shown} {tag.unit}" if tag.unit and given is not None else shown, state)


def value_of(tag: Tag, value: float | str | None) -> float | int | bool | str | None:
    """A value as its kind has it, None for NaN. What lies between the integers of a tag stays what it is."""
    if value is None or isinstance(value, str):
        return value
    if value != value:
        return None
    if tag.kind == "bool" and value in (0, 1):
        return bool(value)
    return int(value) if tag.kind in ("int", "digital") and value.is_integer() else value


def shown_value(tag: Tag, value: float | int | bool | str, *, digits: int = 12) -> str:
    """A value in as many digits, with the name of its state if it has one; without its unit."""
    if isinstance(value, str):
        return value
    given = value_of(tag, float(value))
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, int) and tag.kind == "digital":
        state = (tag.states or {}).get(str(given))
        return f"{given} {state}" if state else f"{given}"
    return f"{given}" if isinstance(given, int) else f"{given:.{digits}g}"


_known: tuple[bytes, TagList] = (b"[]", TagList())


def tags_of(schema: pa.Schema) -> TagList:
    """The tags that the schema's metadata tells of; the same object for batches of the same result."""
    global _known
    rows = (schema.metadata or {}).get(TAGS_KEY, b"[]")
    if _known[0] != rows:
        _known = (rows, results.tags_of(schema))
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
    """A JSON object a line: `{"tag", "ts", "value", "quality"}`, and `state` where the value is about one."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink

    def write(self, batch: pa.RecordBatch) -> None:
        self._sink.write(b"".join(orjson.dumps(_object(row)) + b"\n" for row in rows_of(batch)))

    def finish(self) -> None:
        pass


def _object(row: Row) -> dict[str, object]:
    known: dict[str, object] = {"tag": row.tag, "ts": row.time, "value": row.value, "quality": row.quality}
    return known if row.state is None else known | {"state": row.state}


class Csv:
    """`tag,ts,value,quality`, and `state` where rows are about states: byte for byte as the server's CSV, and as `historian import` reads it."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._known: object = None
        self._started = False

    def write(self, batch: pa.RecordBatch) -> None:
        tags = tags_of(batch.schema)
        if tags is not self._known:
            # a text that is not of a text tag names the state that a row is about
            by_state = "text" in batch.schema.names and all(tag.kind != "text" for tag in tags)
            self._known, self._encoder = tags, CSV.encoder(tags, state=by_state)
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
    "ndjson": JsonLines,
    "csv": Csv,
    "arrow": ArrowStream,
    "parquet": Parquet,
}


def writer_of(form: str, sink: BinaryIO) -> Writer:
    """A writer of `json` or `ndjson`, `csv`, `arrow` or `parquet`."""
    return _WRITERS[form](sink)


def shown_time(us: int, zone: tzinfo) -> str:
    """For people: `2026-01-01 00:00:00`, in a zone, with as many digits of a second as it has."""
    shown = (_EPOCH + timedelta(microseconds=us)).astimezone(zone).replace(tzinfo=None).isoformat(sep=" ")
    return shown.rstrip("0") if "." in shown else shown


def common_levels(paths: Sequence[str]) -> str:
    """The levels that all paths begin with, up to and with a slash: said once, above what has the rest of them. Of a single path all but the last."""
    first, *others = [path.split("/")[:-1] for path in paths] or [[]]
    common = 0
    while common < len(first) and all(levels[common : common + 1] == [first[common]] for levels in others):
        common += 1
    return "".join(f"{level}/" for level in first[:common])
