"""Data frames as docs/protocol.md has them: what is written is read back, and a damaged frame is refused in words."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from historian.client.results import tags_of
from historian.schema.catalogue import Tag
from historian.schema.errors import BadInput
from historian.schema.samples import Samples, arrow_schema, concat
from historian.stream.frames import (
    BACKFILL,
    END_OF_STREAM,
    HEADER_SIZE,
    LAST,
    MAX_CURSOR,
    SCHEMA,
    ZSTD,
    FrameHeader,
    FrameReader,
    FrameWriter,
    pack,
    payload,
    unpack,
)

TAGS = (Tag(1, "plant/line1/temperature", "float", unit="°C"), Tag(2, "plant/line1/phase", "text", step=True))
SCHEMA_OF_TAGS = arrow_schema(TAGS)

numbers = st.floats(allow_infinity=False, width=64)
texts = st.none() | st.text(max_size=20)
rows = st.tuples(st.sampled_from([1, 2]), st.integers(-(2**62), 2**62), numbers, st.integers(0, 255), texts)


def samples_of(given_rows: list[tuple[int, int, float, int, str | None]]) -> Samples:
    tag_id, ts, value, quality, text = zip(*given_rows, strict=True) if given_rows else ((),) * 5
    return Samples(
        np.array(tag_id, np.int32),
        np.array(ts, np.int64),
        np.array(value, np.float64),
        np.array(quality, np.int16),
        pa.array(text, pa.string()),
    )


def batch_of(given_rows: list[tuple[int, int, float, int, str | None]]) -> pa.RecordBatch:
    return samples_of(given_rows).to_record_batch(SCHEMA_OF_TAGS)


ONE = [(1, 1_767_225_600_000_000, 21.5, 192, None)]


def bits(samples: Samples) -> tuple[list[int], list[int], list[int], list[int], list[str | None]]:
    return (
        samples.tag_id.tolist(),
        samples.ts.tolist(),
        samples.value.view(np.int64).tolist(),
        samples.quality.tolist(),
        samples.text_or_nulls().to_pylist(),
    )


@given(
    pieces=st.lists(st.lists(rows, max_size=30), min_size=1, max_size=6),
    subscription=st.integers(0, 0xFFFF),
    cursor=st.integers(0, MAX_CURSOR),
    zstd=st.booleans(),
)
def test_the_payloads_of_a_subscription_are_one_arrow_stream(pieces: list, subscription: int, cursor: int, zstd: bool) -> None:
    writer = FrameWriter(subscription, SCHEMA_OF_TAGS, zstd=zstd)
    frames = [writer.frame(batch_of(piece), cursor=cursor, backfill=n == 0, last=n == len(pieces) - 1) for n, piece in enumerate(pieces)]

    with pa.ipc.open_stream(b"".join(payload(frame) for frame in frames)) as stream:
        assert stream.schema.equals(SCHEMA_OF_TAGS, check_metadata=True)
        streamed = concat([Samples.from_record_batch(batch) for batch in stream])

    reader = FrameReader()
    read: list[Samples] = [Samples.empty()]
    for n, frame in enumerate(frames):
        header, batches = reader.read(frame)
        assert (header.subscription, header.sequence, header.cursor) == (subscription, n, cursor)
        assert (header.backfill, header.last) == (n == 0, n == len(pieces) - 1)
        read += [Samples.from_record_batch(batch) for batch in batches]

    sent = bits(concat([samples_of(piece) for piece in pieces]))
    assert bits(streamed) == sent
    assert bits(concat(read)) == sent


@given(
    st.builds(
        FrameHeader,
        flags=st.integers(0, 63),
        subscription=st.integers(0, 0xFFFF),
        sequence=st.integers(0, 2**32 - 1),
        cursor=st.integers(0, 2**64 - 1),
    )
)
def test_a_header_is_read_as_it_was_written(header: FrameHeader) -> None:
    assert unpack(pack(header)) == header


def test_the_header_is_little_endian_as_in_the_protocol() -> None:
    packed = pack(FrameHeader(BACKFILL | SCHEMA, subscription=0x0102, sequence=0x03040506, cursor=0x0708090A0B0C0D))
    assert packed.hex(" ") == "01 0a 02 01 06 05 04 03 0d 0c 0b 0a 09 08 07 00"


@pytest.mark.parametrize(
    "header",
    [FrameHeader(64, 0, 0, 0), FrameHeader(0, 0x10000, 0, 0), FrameHeader(0, 0, 2**32, 0), FrameHeader(0, 0, 0, -1)],
)
def test_a_header_that_does_not_fit_is_refused(header: FrameHeader) -> None:
    with pytest.raises(BadInput):
        pack(header)


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (b"", "16 bytes"),
        (b"\x01" + bytes(14), "15 bytes"),
        (b"\x02" + bytes(15), "version 2"),
        (b"\x01\x90" + bytes(14), "flags 0x80"),
    ],
)
def test_a_header_of_another_version_or_too_short_is_refused(frame: bytes, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        unpack(frame)


@given(cut=st.integers(0, 10_000), zstd=st.booleans())
def test_a_cut_frame_is_refused(cut: int, zstd: bool) -> None:
    frame = FrameWriter(0, SCHEMA_OF_TAGS, zstd=zstd).frame(batch_of(ONE), cursor=1, last=True)
    with pytest.raises(BadInput):
        FrameReader().read(frame[: cut % len(frame)])


@given(position=st.integers(0, 10_000), byte=st.integers(0, 255), zstd=st.booleans())
def test_a_frame_with_a_changed_byte_is_read_or_refused(position: int, byte: int, zstd: bool) -> None:
    frame = bytearray(FrameWriter(0, SCHEMA_OF_TAGS, zstd=zstd).frame(batch_of(ONE), cursor=1, last=True))
    frame[position % len(frame)] = byte
    try:
        header, _ = FrameReader().read(frame)
    except BadInput:
        return
    assert header.sequence == 0


def test_a_frame_that_goes_on_behind_its_end_is_refused() -> None:
    frame = FrameWriter(0, SCHEMA_OF_TAGS).frame(batch_of(ONE), cursor=1, last=True)
    with pytest.raises(BadInput, match="end of its stream"):
        FrameReader().read(frame + END_OF_STREAM)


def test_an_end_of_stream_without_the_last_flag_is_refused() -> None:
    frame = FrameWriter(0, SCHEMA_OF_TAGS).frame(batch_of(ONE), cursor=1)
    with pytest.raises(BadInput, match="end of its stream"):
        FrameReader().read(frame + END_OF_STREAM)


def test_a_frame_out_of_sequence_is_refused() -> None:
    writer = FrameWriter(0, SCHEMA_OF_TAGS)
    first, _, third = (writer.frame(batch_of(ONE), cursor=n) for n in range(3))
    reader = FrameReader()
    reader.read(first)
    with pytest.raises(BadInput, match="where 1 was due"):
        reader.read(third)


def test_a_first_frame_without_schema_and_a_second_schema_are_refused() -> None:
    writer = FrameWriter(0, SCHEMA_OF_TAGS)
    writer.frame(batch_of(ONE), cursor=1)
    second = bytearray(writer.frame(batch_of(ONE), cursor=2))
    second[4] = 0
    with pytest.raises(BadInput, match="brings no schema"):
        FrameReader().read(second)
    reader = FrameReader()
    reader.read(FrameWriter(0, SCHEMA_OF_TAGS).frame(batch_of(ONE), cursor=1))
    again = bytearray(FrameWriter(0, SCHEMA_OF_TAGS).frame(batch_of(ONE), cursor=1))
    again[4] = 1
    with pytest.raises(BadInput, match="second schema"):
        reader.read(again)


def test_sequences_wrap_at_2_to_the_32() -> None:
    writer, reader = FrameWriter(0, SCHEMA_OF_TAGS), FrameReader()
    reader.read(writer.frame(batch_of(ONE), cursor=1))
    writer._sequence = reader._sequence = 2**32 - 1
    assert reader.read(writer.frame(batch_of(ONE), cursor=1))[0].sequence == 2**32 - 1
    assert reader.read(writer.frame(batch_of(ONE), cursor=1))[0].sequence == 0


def test_a_payload_is_compressed_only_where_that_makes_it_smaller() -> None:
    many = [(1, ts, 20.0, 192, None) for ts in range(1000)]
    frame = FrameWriter(0, SCHEMA_OF_TAGS, zstd=True).frame(batch_of(many), cursor=1)
    assert unpack(frame).flags & ZSTD
    assert len(frame) < len(payload(frame)) / 2
    writer = FrameWriter(0, SCHEMA_OF_TAGS, zstd=True)
    writer.frame(batch_of([]), cursor=1)
    assert not unpack(writer.frame(batch_of(ONE), cursor=1)).flags & ZSTD


def test_a_payload_that_unpacks_to_too_much_is_not_unpacked() -> None:
    head = pack(FrameHeader(ZSTD | SCHEMA, 0, 0, 0))
    with pytest.raises(BadInput, match="1048577 bytes"):
        payload(head + zstandard.ZstdCompressor().compress(bytes(2**20 + 1)), max_size=2**20)
    with pytest.raises(BadInput, match="states -1 bytes"):
        payload(head + zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100)))
    with pytest.raises(BadInput, match="at most 1000"):
        payload(pack(FrameHeader(SCHEMA, 0, 0, 0)) + bytes(1001), max_size=1000)


def test_an_uncompressed_payload_is_not_copied() -> None:
    frame = FrameWriter(0, SCHEMA_OF_TAGS).frame(batch_of(ONE), cursor=1)
    view = payload(frame)
    assert isinstance(view, memoryview)
    assert view.obj is frame


# Two frames of subscription 7, the test vectors of docs/protocol.md: any implementation must read them. Their first 16 bytes are the header.
FIRST = bytes.fromhex(
    """
    010a0700000000000000000000000000fffffffff00100001000000000000a000e000600050008000a000000000104001000000000000a000c00000004000800
    0a000000b800000004000000010000000c00000008000c00040008000800000088000000040000007b0000005b7b227461675f6964223a312c2270617468223a
    22612f62222c226b696e64223a22666c6f6174222c22756e6974223a6e756c6c2c226465736372697074696f6e223a6e756c6c2c226c6f77223a6e756c6c2c22
    68696768223a6e756c6c2c2273746570223a66616c73652c22737461746573223a6e756c6c7d5d000e000000686973746f7269616e2e74616773000004000000
    cc0000007c000000480000000400000054ffffff0000000210000000180000000400000000000000070000007175616c6974790044ffffff0000000110000000
    100014000800060007000c00000010001000000000000103100000001c00000004000000000000000500000076616c7565000600080006000600000000000200
    c4ffffff0000000a100000001c0000000400000000000000020000007473000008000c0006000800080000000000020004000000030000005554430010001400
    0800000007000c0000001000100000000000000210000000200000000400000000000000060000007461675f6964000008000c00080007000800000000000001
    2000000000000000ffffffff1801000014000000000000000c0016000600050008000c000c0000000003040018000000200000000000000000000a0018000c00
    040008000a0000009c00000010000000010000000000000000000000080000000000000000000000000000000000000000000000000000000400000000000000
    08000000000000000000000000000000080000000000000008000000000000001000000000000000000000000000000010000000000000000800000000000000
    18000000000000000000000000000000180000000000000002000000000000000000000004000000010000000000000000000000000000000100000000000000
    00000000000000000100000000000000000000000000000001000000000000000000000000000000010000000000000001402046484706000000000000803540
    c000000000000000
    """
)
SECOND = bytes.fromhex(
    """
    0104070001000000fda9f1d24d621000ffffffff1801000014000000000000000c0016000600050008000c000c00000000030400180000002000000000000000
    00000a0018000c00040008000a0000009c0000001000000001000000000000000000000008000000000000000000000000000000000000000000000000000000
    04000000000000000800000000000000000000000000000008000000000000000800000000000000100000000000000000000000000000001000000000000000
    08000000000000001800000000000000000000000000000018000000000000000200000000000000000000000400000001000000000000000000000000000000
    010000000000000000000000000000000100000000000000000000000000000001000000000000000000000000000000010000000000000040822f4648470600
    000000000000f87f0000000000000000ffffffff00000000
    """
)
VECTOR_TAGS = (Tag(1, "a/b", "float"),)


def test_the_vectors_of_the_protocol_are_read() -> None:
    reader = FrameReader()
    header, batches = reader.read(FIRST)
    assert header == FrameHeader(BACKFILL | SCHEMA, 7, 0, 0)
    assert reader.schema is not None
    assert reader.schema.equals(arrow_schema(VECTOR_TAGS))
    # of a server from before tags could be written: what its rows lack is as it is by default
    assert tags_of(reader.schema) == list(VECTOR_TAGS)
    first = Samples.from_record_batch(batches[0])
    assert bits(first)[:2] == ([1], [1_767_225_600_000_001])
    assert (first.value.tolist(), first.quality.tolist()) == ([21.5], [192])

    header, batches = reader.read(SECOND)
    assert header == FrameHeader(LAST, 7, 1, 4611686018427389)
    second = Samples.from_record_batch(batches[0])
    assert bits(second)[:2] == ([1], [1_767_225_601_000_000])
    assert np.isnan(second.value).tolist() == [True]
    assert second.quality.tolist() == [0]


def test_a_last_frame_without_rows_has_only_the_end_of_stream() -> None:
    schema = arrow_schema(VECTOR_TAGS)
    writer = FrameWriter(7, schema)
    writer.frame(Samples.empty().to_record_batch(schema), cursor=0, backfill=True)
    last = writer.frame(Samples.empty().to_record_batch(schema), cursor=9, last=True)
    assert unpack(last) == FrameHeader(LAST, 7, 1, 9)
    assert last[HEADER_SIZE:] == END_OF_STREAM
