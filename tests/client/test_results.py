"""Answers taken apart: Arrow streams that arrive in any pieces, and the column of tag paths."""

from __future__ import annotations

import contextlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from historian.client.results import ArrowDecoder, Labels, Receipt, TagList, tag_of
from historian.schema.catalogue import Tag
from historian.schema.errors import BadInput
from historian.schema.samples import Samples, arrow_schema

TAGS = (Tag(7, "a/seven", "float", unit="bar"), Tag(3, "a/three", "text", step=True))
SCHEMA = arrow_schema(TAGS)


def batch(ids: list[int]) -> pa.RecordBatch:
    n = len(ids)
    return Samples(
        np.array(ids, np.int32), np.arange(n, dtype=np.int64), np.arange(n) / 4, np.full(n, 192, np.int16), pa.array(["x"] * n, pa.string())
    ).to_record_batch(SCHEMA)


def stream_of(batches: list[pa.RecordBatch]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        for one in batches:
            writer.write_batch(one)
    return sink.getvalue().to_pybytes()


@given(sizes=st.lists(st.integers(0, 200), max_size=5), pieces=st.lists(st.integers(1, 3000), min_size=1, max_size=30))
def test_a_stream_is_read_in_whatever_pieces_it_comes(sizes: list[int], pieces: list[int]) -> None:
    sent = [batch([7] * size) for size in sizes]
    data = stream_of(sent)
    decoder = ArrowDecoder()
    read: list[pa.RecordBatch] = []
    place = n = 0
    while place < len(data):
        size = pieces[n % len(pieces)]
        assert not decoder.ended
        read += decoder.feed(data[place : place + size])
        place += size
        n += 1
    assert decoder.ended
    assert decoder.schema.equals(SCHEMA, check_metadata=True)
    assert read == sent


def test_a_batch_is_given_as_soon_as_its_last_byte_is_there() -> None:
    one = batch([7, 3])
    data = SCHEMA.serialize().to_pybytes() + one.serialize().to_pybytes()
    decoder = ArrowDecoder()
    assert decoder.feed(data[:-1]) == []
    assert decoder.feed(data[-1:]) == [one]


@pytest.mark.parametrize(
    "data", [b"<html><body>", b"{}" * 8, b"\xff\xff\xff\xff\x10\x00\x00\x00" + b"\xee" * 16, b"\xff\xff\xff\xff\x00\x00\x00\x80"]
)
def test_what_is_no_arrow_stream_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        ArrowDecoder().feed(data)


@given(st.binary(min_size=8, max_size=400))
def test_noise_is_waited_for_or_refused(data: bytes) -> None:
    decoder = ArrowDecoder()
    with contextlib.suppress(BadInput):
        assert decoder.feed(b"\xff\xff\xff\xff" + data) == []


def test_labels_add_the_paths() -> None:
    labels = Labels(SCHEMA)
    labelled = labels.add(batch([3, 7, 7, 3]))
    assert labelled.schema.names == ["tag", "ts", "value", "quality", "text", "tag_id"]
    assert labelled.schema.equals(labels.schema, check_metadata=True)
    assert labelled.schema.field("tag").type == pa.dictionary(pa.int32(), pa.string())
    assert labelled.column("tag").to_pylist() == ["a/three", "a/seven", "a/seven", "a/three"]
    assert labels.add(batch([])).num_rows == 0
    frame = pa.Table.from_batches([labelled, labels.add(batch([7]))]).to_pandas()
    assert frame["tag"].astype(str).tolist() == ["a/three", "a/seven", "a/seven", "a/three", "a/seven"]


def test_samples_of_a_tag_that_was_not_told_of_are_refused() -> None:
    for stranger in (1, 5, 9):
        with pytest.raises(BadInput, match="a tag that it had not told of"):
            Labels(SCHEMA).add(batch([7, stranger]))
    with pytest.raises(BadInput, match="a tag that it had not told of"):
        Labels(arrow_schema((), text=True)).add(batch([7]))


def test_a_tag_is_read_from_its_row_whatever_a_newer_server_adds() -> None:
    assert tag_of({**TAGS[0].row(), "colour": "red"}) == TAGS[0]


def test_a_tag_list_is_a_frame_by_path() -> None:
    frame = TagList(TAGS).to_pandas()
    assert frame.loc["a/seven", "unit"] == "bar"
    assert frame["tag_id"].tolist() == [7, 3]
    assert TagList().to_pandas().empty


def test_a_receipt_says_where_the_producer_goes_on() -> None:
    assert Receipt("p", 5, 3, 100).next_seq == 8
