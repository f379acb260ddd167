"""PostgreSQL's binary COPY format for samples, built and taken apart with numpy: no Python object a row in either direction.

Layout (PostgreSQL 18 manual, COPY, "Binary Format"): a signature, flags and an empty extension; for each row the number of its columns (int16) and for each
column its length in bytes (int32; -1 is NULL) and its big-endian content; -1 (int16) at the end. timestamptz is int64 microseconds since 2000-01-01.

What the encoders return goes to asyncpg's `copy_to_table(source=…, format="binary")`; what its `copy_from_query(output=…, format="binary")` hands over, in
chunks cut anywhere, goes to the decoders.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import Buffer

from historian.schema import decimals
from historian.schema.connection import PG_EPOCH_US
from historian.schema.errors import HistorianError
from historian.schema.samples import Floats, Int16s, Int32s, Int64s, Samples

#: columns of historian.sample, in the order in which the encoders write them
DECIMAL_COLUMNS = ("tag_id", "scale", "quality", "ts", "mantissa")
FLOAT_COLUMNS = ("tag_id", "quality", "ts", "value")
TEXT_COLUMNS = ("tag_id", "quality", "ts", "text")

#: what the decoders expect to be selected
NUMERIC_SELECT = "tag_id, scale, quality, ts, mantissa, value"
TEXT_SELECT = "tag_id, quality, ts, text"

#: rows of a decoded chunk at most: what has come since then waits in the socket's buffer, so that the database need not stand still while a chunk is decoded, and the
#: columns fit into the processor's cache (1 M rows: 0.96 s, and 1.24 s in chunks of 65 536)
MAX_ROWS = 16_384

#: what asyncpg takes for a source: a buffer (but no bytes: those it takes for a path), or an asynchronous iterator of them
Source = memoryview | AsyncIterator[memoryview]

_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER = b"\xff\xff"

# about 750 kB of rows: one message to the server, and small enough for the processor's cache
_CHUNK_ROWS = 16_384
_CHUNK_BYTES = 1 << 20

_Bytes = npt.NDArray[np.uint8]


def _row(*columns: tuple[str, str]) -> np.dtype[np.void]:
    """The layout of a row: `columns` are names and big-endian types; `n` is the number of columns, `<name>_size` stands before each."""
    fields: list[tuple[str, str]] = [("n", ">i2")]
    for name, kind in columns:
        fields += [(f"{name}_size", ">i4"), (name, kind)]
    return np.dtype(fields)


def _template(row: np.dtype[np.void], rows: int) -> npt.NDArray[np.void]:
    """Rows with all the constants in place: copying them is quicker than setting them one column after the other."""
    template = np.zeros(rows, row)
    names = [name for name in row.names or () if f"{name}_size" in (row.names or ())]
    template["n"] = len(names)
    for name in names:
        template[f"{name}_size"] = row[name].itemsize
    return template


_DECIMAL = _template(_row(("tag_id", ">i4"), ("scale", ">i2"), ("quality", ">i2"), ("ts", ">i8"), ("mantissa", ">i8")), _CHUNK_ROWS)
_FLOAT = _template(_row(("tag_id", ">i4"), ("quality", ">i2"), ("ts", ">i8"), ("value", ">f8")), _CHUNK_ROWS)

# a row of text up to where the text begins
_TEXT_HEAD = np.dtype([*_row(("tag_id", ">i4"), ("quality", ">i2"), ("ts", ">i8")).descr, ("text_size", ">i4")])


def encode_decimals(tag_id: Int32s, scale: Int16s, quality: Int16s, ts: Int64s, mantissa: Int64s) -> Source:
    """A COPY of DECIMAL_COLUMNS; `ts` in µs since 1970. The columns must not change until it has been read."""
    columns: dict[str, npt.NDArray[Any]] = {"tag_id": tag_id, "scale": scale, "quality": quality, "ts": ts, "mantissa": mantissa}
    return _fixed_rows(_DECIMAL, columns)


def encode_floats(tag_id: Int32s, quality: Int16s, ts: Int64s, value: Floats) -> Source:
    """A COPY of FLOAT_COLUMNS; `ts` in µs since 1970. Every bit of a value arrives, NaN's too. The columns must not change until it has been read."""
    return _fixed_rows(_FLOAT, {"tag_id": tag_id, "quality": quality, "ts": ts, "value": value})


def _fixed_rows(template: npt.NDArray[np.void], columns: dict[str, npt.NDArray[Any]]) -> Source:
    n = len(columns["ts"])

    def chunk(start: int, stop: int) -> memoryview:
        head = _HEADER if start == 0 else b""
        tail = _TRAILER if stop == n else b""
        size = (stop - start) * template.itemsize
        out = np.empty(len(head) + size + len(tail), np.uint8)
        out[: len(head)] = np.frombuffer(head, np.uint8)
        out[len(head) + size :] = np.frombuffer(tail, np.uint8)
        rows = out[len(head) : len(head) + size].view(template.dtype)
        rows[:] = template[: stop - start]
        for name, column in columns.items():
            part = column[start:stop]
            rows[name] = part - PG_EPOCH_US if name == "ts" else part
        return out.data

    if n <= _CHUNK_ROWS:
        return chunk(0, n)
    return _chunks(chunk, [*range(0, n, _CHUNK_ROWS), n])


async def _chunks(chunk: Callable[[int, int], memoryview], cuts: list[int]) -> AsyncIterator[memoryview]:
    for start, stop in pairwise(cuts):
        yield chunk(start, stop)


def encode_texts(tag_id: Int32s, quality: Int16s, ts: Int64s, text: pa.Array) -> Source:
    """A COPY of TEXT_COLUMNS; `ts` in µs since 1970; no text is null or has a NUL. The columns must not change until it has been read."""
    n = len(tag_id)
    size = pc.binary_length(text).to_numpy(zero_copy_only=False) if n else np.zeros(0, np.int32)

    def chunk(start: int, stop: int) -> memoryview:
        heads = np.zeros(stop - start, _TEXT_HEAD)
        heads["n"] = len(TEXT_COLUMNS)
        for name, column in (("tag_id", tag_id), ("quality", quality), ("ts", ts - PG_EPOCH_US)):
            heads[f"{name}_size"] = _TEXT_HEAD[name].itemsize
            heads[name] = column[start:stop]
        heads["text_size"] = size[start:stop]
        ends = np.arange(len(heads) + 1, dtype=np.int64) * _TEXT_HEAD.itemsize
        head = pa.Array.from_buffers(pa.large_binary(), len(heads), [None, pa.py_buffer(ends), pa.py_buffer(heads)])
        tail = text.slice(start, stop - start).cast(pa.large_binary())
        joined = pc.binary_join_element_wise(head, tail, pa.scalar(b"", pa.large_binary()))
        rows = joined.buffers()[2] if len(joined) else b""
        length = len(heads) * _TEXT_HEAD.itemsize + int(size[start:stop].sum())
        return memoryview(bytearray().join((_HEADER if start == 0 else b"", memoryview(rows)[:length], _TRAILER if stop == n else b"")))

    # a chunk ends with the row that fills it
    full = np.cumsum(size.astype(np.int64) + _TEXT_HEAD.itemsize) // _CHUNK_BYTES
    cuts = [0, *(np.flatnonzero(np.diff(full)) + 1).tolist(), n]
    if len(cuts) == 2:
        return chunk(0, n)
    return _chunks(chunk, cuts)


def _damaged(what: str) -> HistorianError:
    return HistorianError(f"the database's binary COPY {what}")


class _Header:
    """Takes the header off a stream that comes in pieces."""

    def __init__(self) -> None:
        self._seen = b""

    def strip(self, data: memoryview) -> memoryview:
        """What of this piece lies behind the header. Raises HistorianError for another header."""
        missing = len(_HEADER) - len(self._seen)
        if not missing:
            return data
        self._seen += bytes(data[:missing])
        if not _HEADER.startswith(self._seen):
            raise _damaged("does not begin with its signature")
        return data[missing:]

    @property
    def complete(self) -> bool:
        return len(self._seen) == len(_HEADER)


# A numeric row has exactly one of mantissa and value, and so always the same length. Read as if both were there, with the two cases laid over each other:
#   mantissa_size = 8,  mantissa (8 bytes),  value_size = -1
#   mantissa_size = -1, value_size = 8,      value (8 bytes)
_NUMERIC = np.dtype(
    {
        "names": ["n", "tag_id", "scale", "quality", "ts", "mantissa_size", "mantissa", "no_value_size", "value_size", "value"],
        "formats": [">i2", ">i4", ">i2", ">i2", ">i8", ">i4", ">i8", ">i4", ">i4", ">f8"],
        "offsets": [0, 6, 14, 20, 26, 34, 38, 46, 38, 42],
        "itemsize": 50,
    }
)


class NumericDecoder:
    """Decodes a COPY of NUMERIC_SELECT, in which every row has a mantissa or a value and no row has both.

    Chunks have `max_rows` rows; the first `first_rows`, and those that follow twice as many as the one before, so that who waits for the first need not for many.
    """

    def __init__(self, max_rows: int = MAX_ROWS, first_rows: int | None = None) -> None:
        self._header = _Header()
        self._buffer = np.empty(max_rows * _NUMERIC.itemsize, np.uint8)
        self._view = self._buffer.data
        self._filled = 0
        self._full = min(first_rows or max_rows, max_rows) * _NUMERIC.itemsize

    def feed(self, data: Buffer) -> Iterator[Samples]:
        """Take in a piece of the stream; chunks as they fill up. Raises HistorianError if the stream is damaged."""
        piece = self._header.strip(memoryview(data))
        while len(piece):
            taken = min(len(piece), self._full - self._filled)
            self._view[self._filled : self._filled + taken] = piece[:taken]
            self._filled += taken
            piece = piece[taken:]
            if self._filled == self._full:
                self._filled = 0
                decoded = self._decode(self._buffer[: self._full])
                self._full = min(2 * self._full, len(self._view))
                yield decoded

    def finish(self) -> Samples:
        """The rows that did not fill a chunk. Raises HistorianError if the stream is damaged or has not come to its end."""
        end = self._filled - len(_TRAILER)
        if not self._header.complete or end < 0 or end % _NUMERIC.itemsize or self._view[end : self._filled] != _TRAILER:
            raise _damaged("ended too early")
        self._filled = 0
        return self._decode(self._buffer[:end])

    @staticmethod
    def _decode(data: _Bytes) -> Samples:
        rows = data.view(_NUMERIC)
        is_float = rows["mantissa_size"] == -1
        all_float, any_float = is_float.all(), is_float.any()
        sizes = rows["value_size"] if all_float else rows["mantissa_size"]
        framed = (
            np.where(is_float, rows["value_size"] == 8, (rows["mantissa_size"] == 8) & (rows["no_value_size"] == -1))
            if any_float and not all_float
            else sizes == 8
        )
        if not (framed.all() and (rows["n"] == 6).all()):
            raise _damaged("has a row that is neither a decimal nor a float")
        if all_float:
            value = rows["value"].astype(np.float64)
        else:
            value = decimals.decode(rows["mantissa"].astype(np.int64), rows["scale"].astype(np.int16))
            if any_float:
                value[is_float] = rows["value"][is_float]
        ts = rows["ts"].astype(np.int64)
        ts += PG_EPOCH_US
        return Samples(rows["tag_id"].astype(np.int32), ts, value, rows["quality"].astype(np.int16))


class FixedRows:
    """Decodes a COPY of columns of fixed lengths that are never NULL, to structured arrays of at most MAX_ROWS rows. Times stay as they come: µs since 2000."""

    def __init__(self, columns: Sequence[tuple[str, str]], max_rows: int = MAX_ROWS) -> None:
        """`columns`: names and big-endian types."""
        self._header = _Header()
        self._row = _row(*columns)
        self._columns = len(columns)
        self._last = f"{columns[-1][0]}_size"
        self._full = max_rows * self._row.itemsize
        self._buffer = bytearray()

    def feed(self, data: Buffer) -> Iterator[npt.NDArray[np.void]]:
        """Take in a piece of the stream. Raises HistorianError if the stream is damaged."""
        self._buffer += self._header.strip(memoryview(data))
        while len(self._buffer) >= self._full + len(_TRAILER):
            full, self._buffer = self._buffer, self._buffer[self._full :]
            yield self._decode(full, self._full)

    def finish(self) -> npt.NDArray[np.void]:
        """The last rows. Raises HistorianError if the stream is damaged or has not come to its end."""
        end = len(self._buffer) - len(_TRAILER)
        if not self._header.complete or end < 0 or end % self._row.itemsize or self._buffer[end:] != _TRAILER:
            raise _damaged("ended too early")
        return self._decode(self._buffer, end)

    def _decode(self, data: bytearray, end: int) -> npt.NDArray[np.void]:
        """The rows before `end`. They keep the buffer, which must not be changed any more."""
        rows = np.frombuffer(data, self._row, end // self._row.itemsize)
        # a NULL, or another length, shifts all that follows
        if not ((rows["n"] == self._columns).all() and (rows[self._last] == self._row[self._last[:-5]].itemsize).all()):
            raise _damaged("has a NULL, or a column of another length, where there is none")
        return rows


class TextDecoder:
    """Decodes a COPY of TEXT_SELECT; a null text is a bad sample without one.

    Row starts are found for all rows at once by what every row begins with. It begins with a zero byte, which no text has, and going through the places where
    it could begin inside a row's head shows that it does not fit at any. That the rows found lie end to end is checked all the same.

    The first rows are decoded when there are `first_bytes` of them, and then twice as many each time, up to some 1 MB.
    """

    def __init__(self, first_bytes: int = _CHUNK_BYTES) -> None:
        self._header = _Header()
        self._buffer = bytearray()
        self._step = min(first_bytes, _CHUNK_BYTES)
        self._decode_at = self._step

    def feed(self, data: Buffer) -> Iterator[Samples]:
        """Take in a piece of the stream; chunks of at most MAX_ROWS rows, some 1 MB each or a single row. Raises HistorianError if the stream is damaged."""
        self._buffer += self._header.strip(memoryview(data))
        if len(self._buffer) < self._decode_at:
            return
        samples, end = self._decode(bytes(self._buffer))
        del self._buffer[:end]
        # a text of many MB is not searched again with every piece
        self._step = min(2 * self._step, _CHUNK_BYTES)
        self._decode_at = self._step + 2 * len(self._buffer)
        yield from samples.pieces(MAX_ROWS)

    def finish(self) -> Samples:
        """The last rows. Raises HistorianError if the stream is damaged or has not come to its end."""
        samples, end = self._decode(bytes(self._buffer))
        if not self._header.complete or self._buffer[end:] != _TRAILER:
            raise _damaged("ended too early")
        self._buffer.clear()
        return samples

    @staticmethod
    def _decode(data: bytes) -> tuple[Samples, int]:
        """The complete rows, and where they end."""
        starts = _row_starts(data)
        # a view of the row head at every place: fancy indexing then reads a field of all rows
        n = len(starts)
        place = starts[:, None] + np.arange(_TEXT_HEAD.itemsize)
        heads = np.frombuffer(data, np.uint8)[place].reshape(-1).view(_TEXT_HEAD)
        is_null = heads["text_size"] == -1
        ends = starts + _TEXT_HEAD.itemsize + np.where(is_null, 0, heads["text_size"])
        if n and ends[-1] > len(data):
            n -= 1
            starts, ends, heads, is_null = starts[:n], ends[:n], heads[:n], is_null[:n]
        if n and (starts[0] != 0 or (starts[1:] != ends[:-1]).any()):
            raise _damaged("has a row of text that does not begin where the one before ends")
        if not n:
            return Samples.empty(), 0
        # heads and texts in turn, of which the texts are taken
        cuts = np.empty(2 * n + 1, np.int64)
        cuts[0:-1:2] = starts
        cuts[1::2] = starts + _TEXT_HEAD.itemsize
        cuts[-1] = ends[-1]
        pieces = pa.Array.from_buffers(pa.large_string(), 2 * n, [None, pa.py_buffer(cuts), pa.py_buffer(data)])
        text = pieces.take(pa.array(np.arange(1, 2 * n, 2), mask=is_null)).cast(pa.string())
        samples = Samples(
            heads["tag_id"].astype(np.int32),
            heads["ts"].astype(np.int64) + PG_EPOCH_US,
            np.full(n, np.nan),
            heads["quality"].astype(np.int16),
            text if text.null_count < n else None,
        )
        return samples, int(ends[-1])


# how a row of text begins, as offset and byte: the number of columns, and the lengths of those before the text
_ROW_MARK = [*enumerate(b"\x00\x04\x00\x00\x00\x04"), *enumerate(b"\x00\x00\x00\x02", 10), *enumerate(b"\x00\x00\x00\x08", 16)]


def _row_starts(data: bytes) -> Int64s:
    """Where rows begin whose head is there to its end."""
    octets = np.frombuffer(data, np.uint8)
    searched = max(len(octets) - _TEXT_HEAD.itemsize + 1, 0)
    (first, a), (second, b), *others = _ROW_MARK
    found = np.flatnonzero((octets[first : first + searched] == a) & (octets[second : second + searched] == b))
    for offset, octet in others:
        found = found[octets[found + offset] == octet]
    return found
