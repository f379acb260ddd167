"""Samples exactly as the database has them: the decimal form, or the float64 bit by bit, or text. This is what goes into the archive, and comes back from it.

In Arrow and Parquet, of numbers: `tag_id int32, ts timestamp[us, UTC], quality int16, scale int16, mantissa int64, value float64`, where exactly one of mantissa
and value is not null and value = mantissa / 10^scale; of text tags: `tag_id, ts, quality, text`, where a null text is a bad sample without one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from typing_extensions import Buffer

from historian.schema import copy_binary, decimals
from historian.schema.connection import PG_EPOCH_US
from historian.schema.copy_binary import MAX_ROWS, TextDecoder
from historian.schema.errors import HistorianError
from historian.schema.samples import TIMESTAMP, Bools, Floats, Int16s, Int32s, Int64s, Samples

Form = Literal["number", "text"]

_KEYS = [
    pa.field("tag_id", pa.int32(), nullable=False),
    pa.field("ts", TIMESTAMP, nullable=False),
    pa.field("quality", pa.int16(), nullable=False),
]
SCHEMAS: dict[Form, pa.Schema] = {
    "number": pa.schema(
        [*_KEYS, pa.field("scale", pa.int16(), nullable=False), pa.field("mantissa", pa.int64()), pa.field("value", pa.float64())]
    ),
    "text": pa.schema([*_KEYS, pa.field("text", pa.string())]),
}

_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER = b"\xff\xff"
#: a row of NUMERIC_SELECT is always as long: see historian.schema.copy_binary
_ROW = np.dtype(
    {
        "names": ["n", "tag_id", "scale", "quality", "ts", "mantissa_size", "mantissa", "value"],
        "formats": [">i2", ">i4", ">i2", ">i2", ">i8", ">i4", ">i8", ">u8"],
        "offsets": [0, 6, 14, 20, 26, 34, 38, 42],
        "itemsize": 50,
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """Columns of equal length. Of numbers `scale`, `mantissa`, `value` and `is_float` (which of the two counts) are there, of texts `text`.

    tag_id int32, ts int64 (µs since 1970), quality int16, scale int16, mantissa int64, value float64, is_float bool, text pa.StringArray
    """

    tag_id: Int32s
    ts: Int64s
    quality: Int16s
    scale: Int16s | None = None
    mantissa: Int64s | None = None
    value: Floats | None = None
    is_float: Bools | None = None
    text: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.tag_id)

    @property
    def form(self) -> Form:
        return "number" if self.text is None else "text"

    @classmethod
    def empty(cls, form: Form) -> Stored:
        return cls.from_table(SCHEMAS[form].empty_table())

    def take(self, index: npt.NDArray[Any]) -> Stored:
        """The rows at these positions, or where this mask is true."""
        positions = np.flatnonzero(index) if index.dtype == np.bool_ else index
        if self.text is not None:
            return Stored(self.tag_id[index], self.ts[index], self.quality[index], text=self.text.take(pa.array(positions)))
        assert self.scale is not None and self.mantissa is not None and self.value is not None and self.is_float is not None  # noqa: PT018
        return Stored(
            self.tag_id[index],
            self.ts[index],
            self.quality[index],
            self.scale[index],
            self.mantissa[index],
            self.value[index],
            self.is_float[index],
        )

    def to_batch(self) -> pa.RecordBatch:
        """As Arrow, in the schema of its form."""
        columns = [
            pa.array(self.tag_id),
            pa.Array.from_buffers(TIMESTAMP, len(self), [None, pa.py_buffer(np.ascontiguousarray(self.ts))]),
            pa.array(self.quality),
        ]
        if self.text is not None:
            return pa.RecordBatch.from_arrays([*columns, self.text], schema=SCHEMAS["text"])
        assert self.is_float is not None
        columns += [pa.array(self.scale), pa.array(self.mantissa, mask=self.is_float), pa.array(self.value, mask=~self.is_float)]
        return pa.RecordBatch.from_arrays(columns, schema=SCHEMAS["number"])

    @classmethod
    def from_table(cls, table: pa.Table | pa.RecordBatch) -> Stored:
        """From Arrow, in the schema of its form."""

        def column(name: str) -> pa.Array:
            found = table.column(name)
            return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found

        def whole(array: pa.Array) -> npt.NDArray[Any]:
            # of a chunked array without chunks, combine_chunks makes one too
            values: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
            return values

        keys = (whole(column("tag_id")), whole(column("ts").cast(pa.int64())), whole(column("quality")))
        if "text" in table.schema.names:
            return cls(*keys, text=column("text"))
        value, mantissa = column("value"), column("mantissa")
        is_float = whole(mantissa.is_null())
        # the bits under a null are nobody's
        return cls(*keys, whole(column("scale")), whole(mantissa.fill_null(0)), whole(value.fill_null(0.0)), is_float)

    def samples(self) -> Samples:
        """As they are read: numbers as float64."""
        if self.text is not None:
            text = self.text if self.text.null_count < len(self.text) else None
            return Samples(self.tag_id, self.ts, np.full(len(self), np.nan), self.quality, text)
        assert self.mantissa is not None and self.scale is not None and self.value is not None and self.is_float is not None  # noqa: PT018
        value = decimals.decode(self.mantissa, self.scale)
        value[self.is_float] = self.value[self.is_float]
        return Samples(self.tag_id, self.ts, value, self.quality)

    def copies(self) -> Iterator[tuple[Sequence[str], object]]:
        """Columns and binary COPY data that bring the rows back into historian.sample, for each form that some of them have."""
        if self.text is not None:
            there = self.text.is_valid().to_numpy(zero_copy_only=False)
            if there.any():
                some = self.take(there)
                yield copy_binary.TEXT_COLUMNS, copy_binary.encode_texts(some.tag_id, some.quality, some.ts, some.text)
            if not there.all():
                rest = self.take(~there)
                yield copy_binary.FLOAT_COLUMNS, copy_binary.encode_floats(rest.tag_id, rest.quality, rest.ts, np.full(len(rest), np.nan))
            return
        assert self.is_float is not None
        if not self.is_float.all():
            some = self.take(~self.is_float)
            assert some.scale is not None and some.mantissa is not None  # noqa: PT018
            yield copy_binary.DECIMAL_COLUMNS, copy_binary.encode_decimals(some.tag_id, some.scale, some.quality, some.ts, some.mantissa)
        if self.is_float.any():
            rest = self.take(self.is_float)
            assert rest.value is not None
            yield copy_binary.FLOAT_COLUMNS, copy_binary.encode_floats(rest.tag_id, rest.quality, rest.ts, rest.value)


def concat_stored(parts: Sequence[Stored]) -> Stored:
    """All rows of the parts, of which there is at least one, in their order."""
    return parts[0] if len(parts) == 1 else Stored.from_table(pa.Table.from_batches([part.to_batch() for part in parts]))


class ContentHash:
    """A checksum of rows, in their order, however they are cut into pieces: SHA-256 of each column, and of all these."""

    def __init__(self) -> None:
        self._columns = [hashlib.sha256() for _ in range(7)]
        self.rows = 0

    def add(self, stored: Stored) -> None:
        self.rows += len(stored)
        columns: list[Any] = [stored.tag_id, stored.ts, stored.quality]
        if stored.text is not None:
            # texts one after the other, with their lengths; -1 where there is none
            text = stored.text
            sizes = np.where(text.is_null().to_numpy(zero_copy_only=False), -1, _lengths(text)).astype(np.int32)
            columns += [sizes, b"".join(piece.encode() for piece in text.to_pylist() if piece is not None)]
        else:
            columns += [stored.scale, stored.mantissa, stored.value, stored.is_float]
        for digest, column in zip(self._columns, columns, strict=False):
            digest.update(column if isinstance(column, bytes) else np.ascontiguousarray(column).data)

    def hexdigest(self) -> str:
        return hashlib.sha256(b"".join(digest.digest() for digest in self._columns)).hexdigest()


def _lengths(text: pa.Array) -> npt.NDArray[Any]:
    import pyarrow.compute as pc

    sizes: npt.NDArray[Any] = pc.binary_length(text).fill_null(0).to_numpy(zero_copy_only=False)
    return sizes


class StoredNumbers:
    """Decodes a COPY of NUMERIC_SELECT, and leaves decimals as they are."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._begun = False

    def feed(self, data: Buffer) -> Iterator[Stored]:
        """Take in a piece of the stream; chunks of MAX_ROWS rows as they fill up. Raises HistorianError if the stream is damaged."""
        self._buffer += memoryview(data)
        if not self._begun and len(self._buffer) >= len(_HEADER):
            if not self._buffer.startswith(_HEADER):
                raise HistorianError("the database's binary COPY does not begin with its signature")
            del self._buffer[: len(_HEADER)]
            self._begun = True
        full = MAX_ROWS * _ROW.itemsize
        while self._begun and len(self._buffer) > full + len(_TRAILER):
            yield self._decode(bytes(self._buffer[:full]))
            del self._buffer[:full]

    def finish(self) -> Stored:
        """The rows that did not fill a chunk. Raises HistorianError if the stream is damaged or has not come to its end."""
        end = len(self._buffer) - len(_TRAILER)
        if not self._begun or end < 0 or end % _ROW.itemsize or self._buffer[end:] != _TRAILER:
            raise HistorianError("the database's binary COPY ended too early")
        data = bytes(self._buffer[:end])
        self._buffer.clear()
        return self._decode(data)

    @staticmethod
    def _decode(data: bytes) -> Stored:
        rows = np.frombuffer(data, _ROW)
        is_float = rows["mantissa_size"] == -1
        if not ((rows["n"] == 6).all() and (is_float | (rows["mantissa_size"] == 8)).all()):
            raise HistorianError("the database's binary COPY has a row that is neither a decimal nor a float")
        # as integers, so that NaN keeps its bits
        value = np.where(is_float, rows["value"], 0).astype(np.uint64).view(np.float64)
        return Stored(
            rows["tag_id"].astype(np.int32),
            rows["ts"].astype(np.int64) + PG_EPOCH_US,
            rows["quality"].astype(np.int16),
            np.where(is_float, 0, rows["scale"]).astype(np.int16),
            np.where(is_float, 0, rows["mantissa"]).astype(np.int64),
            value,
            is_float,
        )


class StoredTexts:
    """Decodes a COPY of TEXT_SELECT."""

    def __init__(self) -> None:
        self._decoder = TextDecoder()

    def feed(self, data: Buffer) -> Iterator[Stored]:
        """Take in a piece of the stream. Raises HistorianError if the stream is damaged."""
        for samples in self._decoder.feed(data):
            yield _texts(samples)

    def finish(self) -> Stored:
        """The last rows. Raises HistorianError if the stream is damaged or has not come to its end."""
        return _texts(self._decoder.finish())


def _texts(samples: Samples) -> Stored:
    text = samples.text if samples.text is not None else pa.nulls(len(samples), pa.string())
    return Stored(samples.tag_id, samples.ts, samples.quality, text=text)
