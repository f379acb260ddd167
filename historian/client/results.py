"""Results as the client gives them: Arrow columns with the tags' paths beside their numbers.

Columns: `tag` dictionary<int32, utf8>, `ts` timestamp[us, UTC], `value` float64, `quality` int16, `text` utf8 if a tag of the result is a text tag, `tag_id` int32.
The catalogue rows of the tags stand in the schema metadata, key `historian.tags`, as JSON.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa

from historian.schema.catalogue import Tag
from historian.schema.errors import BadInput
from historian.schema.samples import TAGS_KEY

_TAG_FIELDS = frozenset(field.name for field in fields(Tag))
_TAG_TYPE = pa.dictionary(pa.int32(), pa.string())

#: an encapsulated message has this at most; what a hostile server pretends to send is not allocated
_MAX_MESSAGE = 1 << 30


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was written: all of it is on disk. The batches have the seqs `seq` … `next_seq - 1`; `replayed` of them had been committed before."""

    producer: str
    seq: int
    batches: int
    samples: int
    replayed: int = 0

    @property
    def next_seq(self) -> int:
        """Where the producer goes on."""
        return self.seq + self.batches


def tag_of(row: Mapping[str, Any]) -> Tag:
    """A tag from its catalogue row; fields of a newer server are passed over."""
    return Tag(**{name: value for name, value in row.items() if name in _TAG_FIELDS})


class TagList(list[Tag]):
    """Tags by path; `to_pandas()` gives a frame with a row for each."""

    def to_pandas(self) -> Any:
        """A DataFrame indexed by path."""
        import pandas as pd

        return pd.DataFrame([tag.row() for tag in self], columns=[field.name for field in fields(Tag)]).set_index("path")


def tags_of(schema: pa.Schema) -> TagList:
    """The tags that a schema's metadata tells of."""
    return TagList(tag_of(row) for row in json.loads((schema.metadata or {}).get(TAGS_KEY, b"[]")))


class Labels:
    """Adds the `tag` column to the batches of one result or stream."""

    def __init__(self, schema: pa.Schema) -> None:
        self.tags = tags_of(schema)
        self._index()
        names = [name for name in schema.names if name != "tag_id"]
        self._names = [*names, "tag_id"]
        self.schema = pa.schema(
            [pa.field("tag", _TAG_TYPE, nullable=False), *(schema.field(name) for name in self._names)], metadata=schema.metadata
        )

    def tell(self, tags: Iterable[Tag]) -> None:
        """Know these tags too."""
        self.tags = TagList({tag.tag_id: tag for tag in [*self.tags, *tags]}.values())
        self._index()

    def _index(self) -> None:
        by_id = sorted(self.tags, key=lambda tag: tag.tag_id)
        self._ids = np.array([tag.tag_id for tag in by_id], np.int32)
        self._paths = pa.array([tag.path for tag in by_id], pa.string())

    def add(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch in `schema`. Raises BadInput for a tag that neither the schema's metadata nor `tell` has told of."""
        ids = batch.column("tag_id").to_numpy()
        index = np.searchsorted(self._ids, ids).astype(np.int32)
        if len(ids) and (not len(self._ids) or (self._ids[np.minimum(index, len(self._ids) - 1)] != ids).any()):
            raise BadInput("the server sent samples of a tag that it had not told of")
        tag = pa.DictionaryArray.from_arrays(pa.array(index), self._paths)
        return pa.RecordBatch.from_arrays([tag, *(batch.column(name) for name in self._names)], schema=self.schema)


class ArrowDecoder:
    """Takes an Arrow IPC stream apart as its bytes arrive; holds one incomplete message at most. `schema` is known once its message has come."""

    def __init__(self) -> None:
        self.schema: pa.Schema | None = None
        self.ended = False
        self._held = bytearray()

    def feed(self, data: bytes) -> list[pa.RecordBatch]:
        """The batches that these bytes complete. Raises BadInput if they are no Arrow IPC stream."""
        self._held += data
        batches: list[pa.RecordBatch] = []
        start = 0
        held = self._held
        try:
            while not self.ended and (size := _message_size(held, start)) is not None:
                if size == 0:
                    self.ended = True
                    start += 8
                    break
                message = pa.ipc.read_message(pa.py_buffer(bytes(held[start : start + size])))
                start += size
                if self.schema is None:
                    self.schema = pa.ipc.read_schema(message)
                else:
                    batches.append(pa.ipc.read_record_batch(message, self.schema))
        except (pa.ArrowException, EOFError, OSError, struct.error) as error:
            raise BadInput(f"the answer is no Arrow IPC stream: {error}") from None
        del held[:start]
        return batches


def _message_size(data: bytearray, start: int) -> int | None:
    """Bytes of the encapsulated message at `start`, 0 for the end of the stream, None as long as too little of it is there.

    Its length is the prefix, the metadata, and the body, whose length stands in the metadata: field 3 of a flatbuffer table (Arrow's Message.fbs).
    """
    if len(data) < start + 8:
        return None
    continuation, metadata = struct.unpack_from("<Ii", data, start)
    if continuation != 0xFFFFFFFF or not 0 <= metadata <= _MAX_MESSAGE:
        raise BadInput("the answer is no Arrow IPC stream")
    if metadata == 0:
        return 0
    if len(data) < start + 8 + metadata:
        return None
    root = start + 8
    table = root + int(struct.unpack_from("<I", data, root)[0])
    vtable = table - int(struct.unpack_from("<i", data, table)[0])
    entries = int(struct.unpack_from("<H", data, vtable)[0])
    offset = int(struct.unpack_from("<H", data, vtable + 4 + 2 * 3)[0]) if entries > 4 + 2 * 3 else 0
    body = int(struct.unpack_from("<q", data, table + offset)[0]) if offset else 0
    if not 0 <= body <= _MAX_MESSAGE:
        raise BadInput(f"the answer has an Arrow message of {body} bytes")
    size = 8 + metadata + body
    return size if len(data) >= start + size else None
