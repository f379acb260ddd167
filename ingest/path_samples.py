"""Samples whose tags are named by their paths: what an ingest worker handles, who knows no catalogue and may run where no database can be reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from historian.schema.samples import TIMESTAMP, Floats, Int16s, Int32s, Int64s

#: as a worker keeps and sends them; POST /v1/write and /v1/ingest take it
SCHEMA = pa.schema(
    [
        pa.field("tag", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("ts", TIMESTAMP, nullable=False),
        pa.field("value", pa.float64()),
        pa.field("quality", pa.int16(), nullable=False),
        pa.field("text", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class PathSamples:
    """Columns of equal length n, in the order in which they came.

    paths    the tags, each once; some may have no row
    tag      int32[n], positions in `paths`
    ts       int64[n], microseconds since 1970-01-01 UTC
    value    float64[n], NaN where there is none: a bad sample without value, or a text sample
    quality  int16[n], 0..255
    text     pa.StringArray[n], null for samples that are no text; None if there is no text at all
    """

    paths: Sequence[str]
    tag: Int32s
    ts: Int64s
    value: Floats
    quality: Int16s
    text: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.tag)

    @property
    def nbytes(self) -> int:
        """Bytes that the columns hold in memory, without the paths."""
        columns = self.tag.nbytes + self.ts.nbytes + self.value.nbytes + self.quality.nbytes
        return columns + (self.text.nbytes if self.text is not None else 0)

    def take(self, index: npt.NDArray[Any]) -> PathSamples:
        """The rows at these positions, or where this mask is true; `paths` stay as they are."""
        text = None
        if self.text is not None:
            text = self.text.take(pa.array(np.flatnonzero(index) if index.dtype == np.bool_ else index))
            if text.null_count == len(text):
                text = None
        return PathSamples(self.paths, self.tag[index], self.ts[index], self.value[index], self.quality[index], text)

    def compact(self) -> PathSamples:
        """The same rows, with only the paths that they have: a path that is sent becomes a tag."""
        used, codes = np.unique(self.tag, return_inverse=True)
        if len(used) == len(self.paths):
            return self
        paths = [self.paths[n] for n in used.tolist()]
        return PathSamples(paths, codes.astype(np.int32), self.ts, self.value, self.quality, self.text)

    def to_record_batch(self) -> pa.RecordBatch:
        """As Arrow, in SCHEMA; only the paths that have rows."""
        compact = self.compact()
        indices = pa.array(np.ascontiguousarray(compact.tag, np.int32))
        columns = [
            pa.DictionaryArray.from_arrays(indices, pa.array(list(compact.paths), pa.string())),
            pa.Array.from_buffers(TIMESTAMP, len(self), [None, pa.py_buffer(np.ascontiguousarray(self.ts))]),
            pa.array(self.value),
            pa.array(self.quality),
            self.text if self.text is not None else pa.nulls(len(self), pa.string()),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)

    @classmethod
    def from_record_batch(cls, batch: pa.RecordBatch) -> PathSamples:
        """From a batch in SCHEMA."""
        tag, text = batch.column("tag"), batch.column("text")
        return cls(
            tag.dictionary.to_pylist(),
            tag.indices.to_numpy(zero_copy_only=False),
            batch.column("ts").cast(pa.int64()).to_numpy(zero_copy_only=False),
            batch.column("value").fill_null(float("nan")).to_numpy(zero_copy_only=False),
            batch.column("quality").to_numpy(zero_copy_only=False),
            None if text.null_count == len(text) else text,
        )

    @classmethod
    def of_rows(cls, rows: Sequence[Mapping[str, Any]]) -> PathSamples:
        """From dicts with tag, ts (µs), value (a number or None), quality and perhaps text: for sources whose messages carry few samples."""
        codes: dict[str, int] = {}
        tag = np.fromiter((codes.setdefault(row["tag"], len(codes)) for row in rows), np.int32, len(rows))
        text = [row.get("text") for row in rows]
        return cls(
            list(codes),
            tag,
            np.fromiter((row["ts"] for row in rows), np.int64, len(rows)),
            np.fromiter((np.nan if row["value"] is None else row["value"] for row in rows), np.float64, len(rows)),
            np.fromiter((row["quality"] for row in rows), np.int16, len(rows)),
            pa.array(text, pa.string()) if any(t is not None for t in text) else None,
        )


def concat(parts: Sequence[PathSamples]) -> PathSamples:
    """All rows of the parts, in their order."""
    if len(parts) == 1:
        return parts[0]
    codes: dict[str, int] = {}
    tags: list[Int32s] = []
    for part in parts:
        own = np.fromiter((codes.setdefault(path, len(codes)) for path in part.paths), np.int32, len(part.paths))
        tags.append(own[part.tag] if len(part) else np.empty(0, np.int32))
    text = None
    if any(part.text is not None for part in parts):
        text = pa.concat_arrays([part.text if part.text is not None else pa.nulls(len(part), pa.string()) for part in parts])
    return PathSamples(
        list(codes),
        np.concatenate([np.empty(0, np.int32), *tags]),
        np.concatenate([np.empty(0, np.int64), *(part.ts for part in parts)]),
        np.concatenate([np.empty(0, np.float64), *(part.value for part in parts)]),
        np.concatenate([np.empty(0, np.int16), *(part.quality for part in parts)]),
        text,
    )
