"""Binary data frames of the stream protocol, version 1 (docs/protocol.md): the one module that server and Python client share for them.

A frame is a 16-byte header and a payload. The payloads of one subscription, uncompressed and concatenated, are one Arrow IPC stream: `FrameWriter` makes it,
`FrameReader` takes it apart. Neither is safe for use by several threads at once.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pyarrow as pa
import zstandard
from typing_extensions import Buffer

from historian.schema.errors import BadInput
from historian.stream.compression import MAX_REFERENCE, compress

VERSION = 1

# subprotocols, as in Sec-WebSocket-Protocol
ARROW = "historian.v1.arrow"
JSON = "historian.v1.json"

# flags
ZSTD = 1  # the payload is one zstd frame
BACKFILL = 2
LAST = 4  # of its subscription
SCHEMA = 8  # the payload begins with the Arrow schema message
KEEP = 16  # the uncompressed payload is the dictionary of those that refer to it, until the next with this flag
REFERS = 32  # the zstd frame has the kept payload as its dictionary, as raw content
_FLAGS = ZSTD | BACKFILL | LAST | SCHEMA | KEEP | REFERS

#: version u8, flags u8, subscription u16, sequence u32, cursor u64
_HEADER = struct.Struct("<BBHIQ")
HEADER_SIZE = _HEADER.size

#: cursors are exact in JavaScript up to here
MAX_CURSOR = 2**53

#: Arrow's end-of-stream mark: a continuation, and a message of length 0
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"

#: bytes of an uncompressed payload at most: a frame has at most 65 536 rows, and what a hostile one pretends to have is not allocated
MAX_PAYLOAD = 256 << 20


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """`sequence` counts 0, 1, 2 … in a subscription and wraps at 2^32; `cursor` is where to go on behind this frame, 0 as long as that cannot be said."""

    flags: int
    subscription: int
    sequence: int
    cursor: int

    @property
    def backfill(self) -> bool:
        return bool(self.flags & BACKFILL)

    @property
    def last(self) -> bool:
        return bool(self.flags & LAST)


def pack(header: FrameHeader) -> bytes:
    """The 16 bytes. Raises BadInput for a field that does not fit."""
    if header.flags & ~_FLAGS:
        raise BadInput(f"a frame has no flags {header.flags & ~_FLAGS:#x}")
    try:
        return _HEADER.pack(VERSION, header.flags, header.subscription, header.sequence, header.cursor)
    except struct.error as error:
        raise BadInput(f"frame header {header}: {error}") from None


def unpack(frame: Buffer) -> FrameHeader:
    """The header of a frame. Raises BadInput for one that is too short, of another version, or with flags that this version does not know."""
    view = memoryview(frame)
    if view.nbytes < HEADER_SIZE:
        raise BadInput(f"a data frame has a header of {HEADER_SIZE} bytes; this one has {view.nbytes} bytes in all")
    version, flags, subscription, sequence, cursor = _HEADER.unpack_from(view)
    if version != VERSION:
        raise BadInput(f"data frame of version {version}; this program knows version {VERSION}")
    if flags & ~_FLAGS:
        raise BadInput(f"data frame with unknown flags {flags & ~_FLAGS:#x}")
    return FrameHeader(flags, subscription, sequence, cursor)


def payload(frame: Buffer, *, max_size: int = MAX_PAYLOAD, kept: bytes | None = None) -> memoryview | bytes:
    """The uncompressed payload of a frame, without a copy if it is not compressed; `kept` is that of the last frame with KEEP.

    Raises BadInput if it is damaged, would have more than `max_size` bytes, or refers to what was not kept.
    """
    flags = unpack(frame).flags
    body = memoryview(frame)[HEADER_SIZE:]
    dictionary = None
    if flags & REFERS:
        if kept is None or not flags & ZSTD:
            raise BadInput(f"data frame that refers to an earlier one, {'without zstd' if kept is not None else 'and none was to be kept'}")
        dictionary = zstandard.ZstdCompressionDict(kept, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    if not flags & ZSTD:
        if body.nbytes > max_size:
            raise BadInput(f"data frame with a payload of {body.nbytes} bytes; at most {max_size}")
        return body
    try:
        size = zstandard.frame_content_size(body)
        # one that states no size (-1) would be given a buffer of max_output_size, whatever is in it
        if not 0 <= size <= max_size:
            raise BadInput(f"data frame with a zstd payload that states {size} bytes; 0 to {max_size} are taken")
        unpacked: bytes = zstandard.ZstdDecompressor(dict_data=dictionary).decompress(body, allow_extra_data=False)
        return unpacked
    except zstandard.ZstdError as error:
        raise BadInput(f"data frame with a damaged zstd payload: {error}") from None


class FrameWriter:
    """Makes the data frames of one subscription, in their order. `zstd`: the client takes compressed payloads; they are, where that makes them smaller."""

    def __init__(self, subscription: int, schema: pa.Schema, *, zstd: bool = False) -> None:
        self._subscription = subscription
        self._schema = schema
        self._sequence = 0
        self._schema_sent = False
        self._zstd = zstd

    def frame(self, batch: pa.RecordBatch, *, cursor: int, backfill: bool = False, last: bool = False) -> bytes:
        """The next frame, with the rows of a batch in the schema of the subscription; a batch without rows adds none."""
        return self.of_message(batch.serialize() if batch.num_rows else b"", cursor=cursor, backfill=backfill, last=last)

    def of_message(self, message: Buffer, *, cursor: int, backfill: bool = False, last: bool = False) -> bytes:
        """The next frame, of an encapsulated record batch message, or of none."""
        flags = (BACKFILL if backfill else 0) | (LAST if last else 0)
        parts: list[Buffer] = []
        if not self._schema_sent:
            self._schema_sent = True
            flags |= SCHEMA
            parts.append(self._schema.serialize())
        parts.append(message)
        if last:
            parts.append(END_OF_STREAM)
        body = b"".join(parts)
        smaller = compress(body) if self._zstd else None
        if smaller is not None:
            body = smaller
            flags |= ZSTD
        return self.of_payload(body, flags, cursor=cursor)

    @property
    def begun(self) -> bool:
        """Whether the schema has been sent: then payloads that are made elsewhere may follow."""
        return self._schema_sent

    def of_payload(self, body: bytes, flags: int, *, cursor: int) -> bytes:
        """The next frame, of a payload as it is; `flags` say what it is."""
        # as `pack`, which looks at flags of others
        header = _HEADER.pack(VERSION, flags, self._subscription, self._sequence, cursor)
        self._sequence = (self._sequence + 1) & 0xFFFF_FFFF
        return header + body


class FrameReader:
    """Takes the data frames of one subscription, in their order, back to record batches. `schema` is known from the first frame on."""

    def __init__(self) -> None:
        self.schema: pa.Schema | None = None
        self._sequence = 0
        self._kept: bytes | None = None

    def read(self, frame: Buffer) -> tuple[FrameHeader, list[pa.RecordBatch]]:
        """A frame's header and batches. Raises BadInput for a frame out of sequence, or one that is no Arrow IPC."""
        header = unpack(frame)
        if header.sequence != self._sequence:
            raise BadInput(f"data frame {header.sequence} of subscription {header.subscription}, where {self._sequence} was due")
        self._sequence = (self._sequence + 1) & 0xFFFF_FFFF
        name = f"data frame {header.sequence} of subscription {header.subscription}"
        if (self.schema is None) != bool(header.flags & SCHEMA):
            raise BadInput(f"{name} brings no schema, and none came before" if self.schema is None else f"{name} brings a second schema")
        body = payload(frame, kept=self._kept)
        if header.flags & KEEP:
            if len(body) > MAX_REFERENCE:
                raise BadInput(f"{name} is to be kept and has {len(body)} bytes; at most {MAX_REFERENCE}")
            self._kept = bytes(body)
        source = pa.BufferReader(pa.py_buffer(body))
        batches: list[pa.RecordBatch] = []
        ended = False
        try:
            if self.schema is None:
                self.schema = pa.ipc.read_schema(pa.ipc.read_message(source))
            while not ended and source.tell() < source.size():
                message = _next_message(source)
                if message is None:
                    ended = True
                else:
                    batches.append(pa.ipc.read_record_batch(message, self.schema))
        except (pa.ArrowException, EOFError, OSError) as error:
            raise BadInput(f"{name} is no Arrow IPC: {error}") from None
        if ended != header.last or source.tell() < source.size():
            raise BadInput(f"{name} is cut off, or goes on behind the end of its stream")
        return header, batches


def _next_message(source: pa.BufferReader) -> pa.Message | None:
    """The next encapsulated message, or None at the end-of-stream mark."""
    try:
        return pa.ipc.read_message(source)
    except EOFError:
        return None
