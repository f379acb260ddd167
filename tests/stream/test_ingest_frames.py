"""Frames of the ingest protocol, by the test vector of docs/protocol.md and by what a hostile client may send."""

from __future__ import annotations

import re
import struct
from itertools import pairwise

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from processes import ROOT

from historian.schema.errors import BadInput, TooLarge
from historian.stream import ingest_frames as frames


def test_the_test_vector_of_the_page_is_read_as_it_says() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8").partition("# Ingest protocol")[2].partition("## Test vector")[2]
    found = re.search(r"```\n([0-9a-f\n]+)```", page)
    assert found is not None
    frame = bytes.fromhex(found[1].replace("\n", ""))
    header = frames.unpack(frame)
    assert header == frames.FrameHeader(0, 7)
    assert frames.pack(header) == frame[:16] == bytes.fromhex("01 00 0000 00000000 0700000000000000")
    with pa.ipc.open_stream(frames.payload(frame, header)) as reader:
        (row,) = reader.read_all().to_pylist()
    assert (row["tag"], row["ts"].isoformat(), row["value"]) == ("a/b", "2026-01-01T00:00:00.000001+00:00", 21.5)


@given(st.integers(0, 2**63 - 1), st.booleans())
def test_a_header_is_read_as_it_was_written(seq: int, zstd: bool) -> None:
    header = frames.FrameHeader(int(zstd), seq)
    assert frames.unpack(frames.pack(header) + b"payload") == header


@given(st.binary(max_size=40))
def test_no_bytes_but_those_of_a_header_are_taken_for_one(data: bytes) -> None:
    try:
        header = frames.unpack(data)
    except BadInput:
        return
    assert frames.pack(header) == data[:16]


@given(st.lists(st.integers(0, 60)))
def test_ranges_have_each_number_once_and_no_other(seqs: list[int]) -> None:
    found = frames.ranges(seqs)
    assert [n for first, last in found for n in range(first, last + 1)] == sorted(set(seqs))
    assert all(after[0] > before[1] + 1 for before, after in pairwise(found))


def test_what_a_payload_becomes_is_known_before_it_is_unpacked() -> None:
    header = frames.FrameHeader(frames.ZSTD, 0)
    bomb = frames.pack(header) + zstandard.compress(bytes(10_000_000))
    assert len(bomb) < 10_000
    with pytest.raises(TooLarge):
        frames.unpacked_size(bomb, header, 1_000_000)
    assert frames.unpacked_size(bomb, header, 10_000_000) == 10_000_000
    assert len(frames.payload(bomb, header)) == 10_000_000
    sizeless = frames.pack(header) + zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100))
    lying = bytearray(bomb)
    # the frame's content size, behind its magic number and descriptor
    at = lying.index(struct.pack("<I", 10_000_000))
    lying[at : at + 4] = struct.pack("<I", 100)
    for bad in (sizeless, frames.pack(header) + b"no zstd"):
        with pytest.raises(BadInput):
            frames.unpacked_size(bad, header, 1000)
    for bad in (bytes(lying), bomb[:-3], bomb + b"more"):
        with pytest.raises(BadInput):
            frames.payload(bad, header)
