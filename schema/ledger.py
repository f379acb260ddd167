"""The ledger: who wrote what, once; and what each transaction wrote, as it goes onto the live bus."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pyarrow as pa

from historian.schema.errors import BadInput
from historian.schema.paths import MAX_BYTES
from historian.schema.samples import Samples, arrow_schema

#: PostgreSQL's NOTIFY channel on which a writer rings after its commit: other processes look into the ledger then, and not only at their next sweep
DOORBELL = "historian_committed"
#: stands behind the ringer's name where all that it rings for went over the bus between servers too: whoever is on it need not look at once
RELAYED = " relayed"

MAX_SEQ = 2**63 - 1

#: producers of writes that name none begin so; nobody can send such a batch again, so their ledger rows are soon removed
ANONYMOUS = "anonymous:"


@dataclass(frozen=True, slots=True)
class Batch:
    """The unit of commit, known by (producer, seq): samples that are stored all or none, and once."""

    producer: str
    seq: int
    samples: Samples


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a producer is told once its batch is on disk. `replayed`: it had been committed before, and nothing was written now."""

    producer: str
    seq: int
    samples: int
    xid: int
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """What one committed transaction wrote, for the live bus.

    Of two transactions that wrote the same tag, the later to commit has the higher `position`. `samples` are sorted by (tag_id, ts), each key once.
    """

    xid: int
    position: int
    samples: Samples


def check_producer(producer: str) -> str:
    """The name itself: 1 to 512 bytes, no control character. Raises BadInput."""
    if not producer or len(producer.encode("utf-8", "replace")) > MAX_BYTES or not producer.isprintable():
        raise BadInput(f"a producer's name has 1 to {MAX_BYTES} bytes and only printable characters, unlike {producer[:40]!r}")
    return producer


def check_seq(seq: int) -> int:
    """The number itself: 0 to 2**63 - 1. Raises BadInput."""
    if not 0 <= seq <= MAX_SEQ:
        raise BadInput(f"a batch's seq is 0 to {MAX_SEQ}, not {seq}")
    return seq


def digest(samples: Samples) -> bytes:
    """16 bytes that tell the content of a batch: equal for the same rows in the same order."""
    state = hashlib.blake2b(digest_size=16)
    for column in (samples.tag_id, samples.ts, samples.value, samples.quality):
        state.update(column.tobytes())
    if samples.text is not None and samples.text.null_count < len(samples):
        for text in samples.text.to_pylist():
            encoded = b"\xff" if text is None else text.encode() + b"\xfe"  # neither byte occurs in UTF-8
            state.update(encoded)
    return state.digest()


_OPTIONS = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1))


def encode_content(samples: Samples) -> bytes:
    """The columns as a zstd-compressed Arrow IPC stream."""
    schema = arrow_schema((), text=samples.text is not None)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=_OPTIONS) as writer:
        writer.write_batch(samples.to_record_batch(schema))
    content: bytes = sink.getvalue().to_pybytes()
    return content


def decode_content(content: bytes) -> Samples:
    """The columns that `encode_content` wrote."""
    with pa.ipc.open_stream(content) as reader:
        return Samples.from_record_batch(reader.read_next_batch())
