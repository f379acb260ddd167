"""Frames and messages of the ingest protocol, version 1 (docs/protocol.md): the one module that server and Python client share for them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import zstandard
from typing_extensions import Buffer

from historian.schema.errors import BadInput, TooLarge
from historian.schema.ledger import MAX_SEQ

VERSION = 1

#: as in Sec-WebSocket-Protocol
SUBPROTOCOL = "historian.ingest.v1"

#: flag: the payload is one zstd frame, which states its content size
ZSTD = 1

# close codes
STOPPING = 1001
PROTOCOL_FAULT = 1002
#: and the HTTP status of the problem that was told before
PROBLEM = 4000

#: version u8, flags u8, reserved u16, reserved u32, seq u64
_HEADER = struct.Struct("<BBHIQ")
HEADER_SIZE = _HEADER.size


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """Of one batch."""

    flags: int
    seq: int


def pack(header: FrameHeader) -> bytes:
    """The 16 bytes."""
    return _HEADER.pack(VERSION, header.flags, 0, 0, header.seq)


def unpack(frame: Buffer) -> FrameHeader:
    """The header of a frame. Raises BadInput for one that is too short, of another version, or with anything that this version does not know."""
    view = memoryview(frame)
    if view.nbytes < HEADER_SIZE:
        raise BadInput(f"a frame has a header of {HEADER_SIZE} bytes; this one has {view.nbytes} bytes in all")
    version, flags, reserved, reserved_too, seq = _HEADER.unpack_from(view)
    if version != VERSION:
        raise BadInput(f"frame of version {version}; this program knows version {VERSION}")
    if flags & ~ZSTD or reserved or reserved_too:
        raise BadInput("frame with flags or reserved bytes that version 1 does not have")
    if seq > MAX_SEQ:
        raise BadInput(f"a batch's seq is 0 to {MAX_SEQ}, not {seq}")
    return FrameHeader(flags, seq)


def unpacked_size(frame: Buffer, header: FrameHeader, limit: int) -> int:
    """How many bytes the payload has once it is unpacked. Raises TooLarge beyond `limit`, BadInput if it does not say."""
    body = memoryview(frame)[HEADER_SIZE:]
    if not header.flags & ZSTD:
        size = body.nbytes
    else:
        try:
            size = zstandard.frame_content_size(body)
        except zstandard.ZstdError as error:
            raise BadInput(f"the payload is no zstd frame: {error}") from None
        if size < 0:
            raise BadInput("the payload's zstd frame does not state its content size")
    if size > limit:
        raise TooLarge(f"a batch of {size} bytes; at most {limit}: send it in parts, each with a seq of its own")
    return size


def payload(frame: Buffer, header: FrameHeader) -> memoryview | bytes:
    """The Arrow IPC stream, without a copy if it is not compressed; `unpacked_size` has been asked before. Raises BadInput if it is damaged."""
    body = memoryview(frame)[HEADER_SIZE:]
    if not header.flags & ZSTD:
        return body
    try:
        unpacked: bytes = zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
        return unpacked
    except zstandard.ZstdError as error:
        raise BadInput(f"the payload's zstd frame is damaged: {error}") from None


def ranges(seqs: Iterable[int]) -> list[list[int]]:
    """Numbers as inclusive ranges, in their order; each number once."""
    found: list[list[int]] = []
    for seq in sorted(set(seqs)):
        if found and seq == found[-1][1] + 1:
            found[-1][1] = seq
        else:
            found.append([seq, seq])
    return found
