"""The files of a spool: a header, then records one after the other, each a batch as a zstd-compressed Arrow stream under a checksum.

    file    "HSPOOL\\r\\n" | version u16 | 0 u16 | id 16 bytes | CRC-32 of these                                        32 bytes, little-endian
    record  magic 8 bytes | length u32 | rows u32 | seq i64 | first i64 | last i64 | at i64 | check u32 | crc u32      56 bytes, then the payload

`length` is that of the payload; first and last are the oldest and newest time among its samples and `at` is when it was appended, all in microseconds since 1970.
`check` is the CRC-32 of the fields before it; `crc` that of all before it and of the payload. Each record begins with the magic, so that a reader finds the next
whole one behind bytes that are damaged.

Promise. Only what passes both checksums is ever given as a record, wherever the file was cut and whatever has become of its bytes.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from historian.ingest.path_samples import SCHEMA, PathSamples
from historian.schema.errors import SchemaError, TooLarge

SUFFIX = ".spool"
VERSION = 1
FILE_MAGIC = b"HSPOOL\r\n"
#: no text and no Arrow begins like it; both kinds of line end, so that a transfer as text shows
RECORD_MAGIC = b"\xf5HSr\r\n\x1a\xa7"
#: of one payload: far above any batch of a worker
MAX_PAYLOAD = 256 << 20

_FILE = struct.Struct("<8sHH16s")
_CRC = struct.Struct("<I")
_RECORD = struct.Struct("<8sIIqqqq")
HEADER_SIZE = _FILE.size + _CRC.size
RECORD_SIZE = _RECORD.size + 2 * _CRC.size
_BLOCK = 4096
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="zstd")


class Unreadable(Exception):
    """A record that is damaged, in words. It never leaves this package."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A whole record: where it stands (`size` bytes with its header) and what its header says."""

    offset: int
    size: int
    rows: int
    seq: int
    first_us: int
    last_us: int
    at_us: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that are no whole record, before one that is, or at the end of the file (`tail`).

    batches   (seq, rows) of the records in it whose header can still be read
    complete  a tail that is as long as its header says: not cut off, but changed
    """

    offset: int
    size: int
    batches: tuple[tuple[int, int], ...] = ()
    tail: bool = False
    complete: bool = False


def path_of(directory: Path, ordinal: int) -> Path:
    """Where the segment of that number stands."""
    return directory / f"{ordinal:010d}{SUFFIX}"


def list_segments(directory: Path) -> list[tuple[int, Path]]:
    """(ordinal, path) of those in the directory, in the order in which they were made."""
    found = [(int(path.stem), path) for path in directory.glob(f"*{SUFFIX}") if path.stem.isascii() and path.stem.isdigit()]
    return sorted(found)


def file_header(identity: bytes) -> bytes:
    head = _FILE.pack(FILE_MAGIC, VERSION, 0, identity)
    return head + _CRC.pack(zlib.crc32(head))


def identity_of(data: bytes | memoryview) -> bytes | None:
    """The id of the file that begins so; None if its header is not whole. Raises SchemaError for a version that this program does not know."""
    if len(data) < HEADER_SIZE or _CRC.unpack_from(data, _FILE.size)[0] != zlib.crc32(data[: _FILE.size]):
        return None
    magic, version, _, identity = _FILE.unpack_from(data)
    if magic != FILE_MAGIC:
        return None
    if version != VERSION:
        raise SchemaError(f"the spool was written by a newer historian (its format is {version}, this one knows {VERSION})")
    return bytes(identity)


def encode(seq: int, samples: PathSamples, at_us: int) -> tuple[bytes, pa.Buffer]:
    """Header and payload of a record, to be written one after the other. Raises TooLarge."""
    samples = _without_unused_paths(samples)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA, options=_COMPRESSED) as writer:
        writer.write_batch(samples.to_record_batch())
    payload = sink.getvalue()
    if payload.size > MAX_PAYLOAD:
        raise TooLarge(f"a batch of {payload.size} bytes is beyond the {MAX_PAYLOAD} that a spool takes")
    first, last = (int(samples.ts.min()), int(samples.ts.max())) if len(samples) else (at_us, at_us)
    head = _RECORD.pack(RECORD_MAGIC, payload.size, len(samples), seq, first, last, at_us)
    head += _CRC.pack(zlib.crc32(head))
    return head + _CRC.pack(zlib.crc32(memoryview(payload), zlib.crc32(head))), payload


def decode(record: bytes | memoryview) -> tuple[int, PathSamples]:
    """Seq and samples of a record as it stands in the file. Raises Unreadable."""
    entry = _entry(record, 0)
    if entry is None or entry.size != len(record):
        raise Unreadable("its checksum is wrong")
    try:
        with pa.ipc.open_stream(pa.py_buffer(memoryview(record)[RECORD_SIZE:])) as reader:
            if not reader.schema.equals(SCHEMA):
                raise Unreadable("its columns are others than those of a batch")
            table = reader.read_all()
            batches = table.to_batches()
    except (pa.ArrowException, OSError) as error:
        raise Unreadable(f"its Arrow stream cannot be read: {str(error).splitlines()[0]}") from error
    samples = PathSamples.from_record_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], schema=SCHEMA))
    if len(samples) != entry.rows or len(batches) > 1:
        raise Unreadable(f"it holds {table.num_rows} samples instead of {entry.rows}")
    return entry.seq, samples


def read_file(path: Path) -> bytes:
    """All bytes of a segment; blocks that the disk cannot read any more are zeros, and so damaged. Raises OSError if it cannot be opened."""
    with path.open("rb", buffering=0) as file:
        try:
            return file.read()
        except OSError:
            size = os.fstat(file.fileno()).st_size
            out = io.BytesIO()
            for offset in range(0, size, _BLOCK):
                want = min(_BLOCK, size - offset)
                try:
                    block = os.pread(file.fileno(), want, offset)
                except OSError:
                    block = b""
                out.write(block.ljust(want, b"\0"))
            return out.getvalue()


def scan(data: bytes) -> Iterator[Entry | Damage]:
    """What a segment holds, in the order of its bytes. Only the last thing can be a tail. Raises SchemaError as `identity_of` does."""
    view = memoryview(data)
    position = HEADER_SIZE if identity_of(view) is not None else 0
    while position < len(data):
        entry = _entry(view, position)
        if entry is not None:
            yield entry
            position += entry.size
            continue
        begin = position
        batches: list[tuple[int, int]] = []
        complete = False
        found = None
        at = begin
        while found is None and at >= 0:
            head = _head(view, at)
            if head is not None:
                batches.append((head.seq, head.rows))
                complete = complete or at + head.size <= len(data)
            at = data.find(RECORD_MAGIC, at + 1)
            found = _entry(view, at) if at >= 0 else None
        position = found.offset if found is not None else len(data)
        yield Damage(begin, position - begin, tuple(batches), tail=found is None, complete=found is None and complete)


def _head(view: bytes | memoryview, offset: int) -> Entry | None:
    """What stands in a record's header there, if it is a whole one."""
    if len(view) - offset < RECORD_SIZE:
        return None
    magic, length, rows, seq, first, last, at = _RECORD.unpack_from(view, offset)
    if magic != RECORD_MAGIC or length > MAX_PAYLOAD:
        return None
    if _CRC.unpack_from(view, offset + _RECORD.size)[0] != zlib.crc32(view[offset : offset + _RECORD.size]):
        return None
    return Entry(offset, RECORD_SIZE + length, rows, seq, first, last, at)


def _entry(view: bytes | memoryview, offset: int) -> Entry | None:
    """The whole record there, if there is one."""
    head = _head(view, offset)
    if head is None or offset + head.size > len(view):
        return None
    before = zlib.crc32(view[offset : offset + RECORD_SIZE - _CRC.size])
    crc = zlib.crc32(view[offset + RECORD_SIZE : offset + head.size], before)
    return head if crc == _CRC.unpack_from(view, offset + RECORD_SIZE - _CRC.size)[0] else None


def _without_unused_paths(samples: PathSamples) -> PathSamples:
    """A few rows taken out of a large batch would carry all its paths to disk."""
    if len(samples.paths) <= len(samples):
        return samples
    used, tag = np.unique(samples.tag, return_inverse=True)
    paths = [samples.paths[n] for n in used.tolist()]
    return PathSamples(paths, tag.astype(np.int32), samples.ts, samples.value, samples.quality, samples.text)
