"""Samples as columns: what travels between a decoder, the writer, the live bus and the results of a query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

if TYPE_CHECKING:
    from historian.schema.catalogue import Tag

GOOD = 192
UNCERTAIN = 64  # 64..191
BAD = 0  # 0..63
MAX_QUALITY = 255

#: integers beyond this are not exact in a float64
MAX_INT = 2**53

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Int16s = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

TIMESTAMP = pa.timestamp("us", tz="UTC")
_FIELDS = [
    pa.field("tag_id", pa.int32(), nullable=False),
    pa.field("ts", TIMESTAMP, nullable=False),
    pa.field("value", pa.float64()),
    pa.field("quality", pa.int16(), nullable=False),
]
TAGS_KEY = b"historian.tags"


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Columns of equal length n.

    tag_id   int32[n]
    ts       int64[n], microseconds since 1970-01-01 UTC
    value    float64[n], NaN where there is none: a bad sample without value, or a text sample
    quality  int16[n]
    text     pa.StringArray[n], null for samples of tags that are not text; None if there is no text at all
    """

    tag_id: Int32s
    ts: Int64s
    value: Floats
    quality: Int16s
    text: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.tag_id)

    @property
    def nbytes(self) -> int:
        """Bytes that the columns hold in memory."""
        return (
            self.tag_id.nbytes
            + self.ts.nbytes
            + self.value.nbytes
            + self.quality.nbytes
            + (self.text.nbytes if self.text is not None else 0)
        )

    @classmethod
    def empty(cls) -> Samples:
        return cls(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.int16))

    def take(self, index: npt.NDArray[Any]) -> Samples:
        """The rows at these positions, or where this mask is true."""
        text = None
        if self.text is not None:
            positions = np.flatnonzero(index) if index.dtype == np.bool_ else index
            text = self.text.take(pa.array(positions))
            if text.null_count == len(text):
                text = None
        return Samples(self.tag_id[index], self.ts[index], self.value[index], self.quality[index], text)

    def slice(self, start: int, stop: int) -> Samples:
        """Rows [start, stop), without a copy."""
        text = self.text.slice(start, stop - start) if self.text is not None else None
        return Samples(self.tag_id[start:stop], self.ts[start:stop], self.value[start:stop], self.quality[start:stop], text)

    def pieces(self, rows: int) -> Iterator[Samples]:
        """All rows in their order, at most so many at a time, without a copy."""
        for start in range(0, len(self), rows):
            yield self.slice(start, min(start + rows, len(self)))

    def text_or_nulls(self) -> pa.Array:
        """The text column, all null if there is none."""
        return self.text if self.text is not None else pa.nulls(len(self), pa.string())

    def to_record_batch(self, schema: pa.Schema) -> pa.RecordBatch:
        """As Arrow, in `arrow_schema(...)`; no copy of the numbers. NaN stays NaN: bit-exact, and readers need no null mask."""
        columns = [
            pa.array(self.tag_id),
            pa.Array.from_buffers(TIMESTAMP, len(self), [None, pa.py_buffer(np.ascontiguousarray(self.ts))]),
            pa.array(self.value),
            pa.array(self.quality),
        ]
        if "text" in schema.names:
            columns.append(self.text_or_nulls())
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    @classmethod
    def from_record_batch(cls, batch: pa.RecordBatch) -> Samples:
        """From a batch in `arrow_schema(...)`."""
        value = batch.column("value")
        if value.null_count:
            value = value.fill_null(float("nan"))
        text = batch.column("text") if "text" in batch.schema.names else None
        if text is not None and text.null_count == len(text):
            text = None
        return cls(
            batch.column("tag_id").to_numpy(zero_copy_only=False),
            batch.column("ts").cast(pa.int64()).to_numpy(zero_copy_only=False),
            value.to_numpy(zero_copy_only=False),
            batch.column("quality").to_numpy(zero_copy_only=False),
            text,
        )


def concat(parts: Sequence[Samples]) -> Samples:
    """All rows of the parts, in their order."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Samples.empty()
    text = None
    if any(p.text is not None for p in parts):
        text = pa.concat_arrays([p.text_or_nulls() for p in parts])
    return Samples(
        np.concatenate([p.tag_id for p in parts]),
        np.concatenate([p.ts for p in parts]),
        np.concatenate([p.value for p in parts]),
        np.concatenate([p.quality for p in parts]),
        text,
    )


def last_writes(tag_id: Int32s, ts: Int64s) -> npt.NDArray[np.intp]:
    """Positions of rows by (tag_id, ts); of those with the same the one that comes last."""
    # stable: rows with the same key stay in the order in which they came
    order = np.lexsort((ts, tag_id))
    tag_id, ts = tag_id[order], ts[order]
    last: npt.NDArray[np.intp] = order[np.append((tag_id[1:] != tag_id[:-1]) | (ts[1:] != ts[:-1]), True)[: len(order)]]
    return last


def arrow_schema(tags: Sequence[Tag], *, text: bool | None = None) -> pa.Schema:
    """`tag_id int32, ts timestamp[us, UTC], value float64, quality int16[, text utf8]`, the tags' catalogue rows as JSON in the metadata.

    `text` says whether there is a text column; by default there is one if a tag is a text tag.
    """
    with_text = any(t.kind == "text" for t in tags) if text is None else text
    fields = [*_FIELDS, pa.field("text", pa.string())] if with_text else _FIELDS
    # orjson: for thousands of tags the standard library takes longer than the database until the first sample
    return pa.schema(fields, metadata={TAGS_KEY: orjson.dumps([t.row() for t in tags])})
