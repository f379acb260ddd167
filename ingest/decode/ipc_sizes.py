"""What an Arrow IPC stream would unpack to, told from its messages' headers before anything is unpacked.

A compressed buffer says its own unpacked size, and the reader allocates what it says; a batch says its length, and a column of nulls has no buffers at all.
So a body of a few hundred bytes can ask for terabytes. pyarrow shows neither before it reads; the headers are flatbuffers of a few fields
(Arrow's Message.fbs), which this module reads, and nothing else of them.
"""

from __future__ import annotations

import struct

from historian.ingest.decode.limits import DecodeLimits
from historian.schema.errors import BadInput, TooLarge

_CONTINUATION = 0xFFFFFFFF
_DICTIONARY_BATCH = 2
_V5 = 4  # of MetadataVersion: Arrow 1.0 and later
_RECORD_BATCH = 3
#: messages of a stream; each costs the reader some work
_MAX_MESSAGES = 10_000


def check_sizes(body: memoryview, limits: DecodeLimits) -> int:
    """The bytes that a body unpacks to. Raises TooLarge for more than the limits allow, BadInput for a body whose messages are damaged."""
    try:
        return _check(body, limits)
    except (struct.error, IndexError):
        raise BadInput("the body is no sound Arrow IPC stream: a message is damaged or cut off") from None


def _check(body: memoryview, limits: DecodeLimits) -> int:
    at, rows, unpacked, messages = 0, 0, 0, 0
    dictionaries: dict[int, int] = {}
    while at < len(body):
        messages += 1
        if messages > _MAX_MESSAGES:
            raise TooLarge(f"more than {_MAX_MESSAGES} record batches in a body; make them larger")
        (size,) = struct.unpack_from("<I", body, at)
        at += 4
        if size == _CONTINUATION:
            (size,) = struct.unpack_from("<I", body, at)
            at += 4
        if size == 0:
            break
        if size > len(body) - at:
            raise BadInput("the body is no sound Arrow IPC stream: it is cut off, or no Arrow at all")
        message = _Table(body[at : at + size])
        at += size
        kind = message.number(1, "<B")
        length = message.number(3, "<q")
        if not 0 <= length <= len(body) - at:
            raise BadInput("the body is no sound Arrow IPC stream: it is cut off")
        if message.number(0, "<h") < _V5 and message.has(4):
            # Arrow 0.17 named a compression there, and the reader obeys it still
            raise BadInput("the body is no sound Arrow IPC stream: a message of metadata version 4 has metadata of its own")
        header = message.table(2)
        dictionary = header if kind == _DICTIONARY_BATCH else None
        if dictionary is not None:
            header = dictionary.table(1)
        if kind in (_DICTIONARY_BATCH, _RECORD_BATCH) and header is not None:
            rows += header.number(0, "<q")
            held = _unpacked_size(header, body[at : at + length])
            if dictionary is not None:
                # a delta is joined to what came before it, in a copy of both
                number = dictionary.number(0, "<q")
                held += dictionaries.get(number, 0) if dictionary.number(2, "<?") else 0
                dictionaries[number] = held
            unpacked += held
            if rows > 2 * limits.max_samples:
                raise TooLarge(f"{rows} samples in a body; at most {limits.max_samples}: send it in parts, each with a seq of its own")
            if unpacked > limits.max_decoded:
                raise TooLarge(
                    f"a body that unpacks to {unpacked} bytes; at most {limits.max_decoded}: send it in parts, each with a seq of its own"
                )
        at += length
    return unpacked


def _unpacked_size(batch: _Table, data: memoryview) -> int:
    """Of one batch: the buffers' own sizes, where they are compressed (field 3)."""
    if not batch.has(3):
        return len(data)
    total = 0
    for offset, length in batch.structs(2, "<qq"):
        if length >= 8:
            if not 0 <= offset <= len(data) - length:
                raise BadInput("the body is no sound Arrow IPC stream: a buffer lies outside its batch")
            (size,) = struct.unpack_from("<q", data, offset)
            # -1: not compressed after all
            total += length if size < 0 else size
    return total


class _Table:
    """A flatbuffers table, by its fields' numbers."""

    def __init__(self, data: memoryview, at: int | None = None) -> None:
        self._data = data
        self._at = struct.unpack_from("<I", data, 0)[0] if at is None else at
        self._vtable = self._at - struct.unpack_from("<i", data, self._at)[0]
        if self._vtable < 0:
            raise IndexError
        self._fields = (struct.unpack_from("<H", data, self._vtable)[0] - 4) // 2

    def _field(self, number: int) -> int | None:
        if number >= self._fields:
            return None
        offset = struct.unpack_from("<H", self._data, self._vtable + 4 + 2 * number)[0]
        return self._at + offset if offset else None

    def has(self, number: int) -> bool:
        return self._field(number) is not None

    def number(self, number: int, form: str) -> int:
        at = self._field(number)
        return 0 if at is None else int(struct.unpack_from(form, self._data, at)[0])

    def table(self, number: int) -> _Table | None:
        at = self._field(number)
        return None if at is None else _Table(self._data, at + struct.unpack_from("<I", self._data, at)[0])

    def structs(self, number: int, form: str) -> list[tuple[int, ...]]:
        at = self._field(number)
        if at is None:
            return []
        at += struct.unpack_from("<I", self._data, at)[0]
        (count,) = struct.unpack_from("<I", self._data, at)
        size = struct.calcsize(form)
        if count * size > len(self._data) - at - 4:
            raise IndexError
        return [struct.unpack_from(form, self._data, at + 4 + n * size) for n in range(count)]
