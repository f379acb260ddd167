"""Samples as columns, to Arrow and back without a change of a bit."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from historian.schema.catalogue import Tag
from historian.schema.ledger import decode_content, digest, encode_content
from historian.schema.samples import TAGS_KEY, TIMESTAMP, Samples, arrow_schema, concat

ROW = st.tuples(
    st.integers(1, 2**31 - 1),
    st.integers(-(2**62), 2**62),
    st.floats(width=64),
    st.integers(0, 255),
    st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)
ROWS = st.lists(ROW, max_size=20)
Row = tuple[int, int, float, int, str | None]


def samples_of(rows: list[Row], *, text: bool = True) -> Samples:
    return Samples(
        np.array([row[0] for row in rows], np.int32),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64),
        np.array([row[3] for row in rows], np.int16),
        pa.array([row[4] for row in rows], pa.string()) if text else None,
    )


def rows_of(samples: Samples) -> list[tuple[int, int, bytes, int, str | None]]:
    """Values as bytes: NaN and -0.0 count too."""
    values = [value.tobytes() for value in samples.value]
    return list(
        zip(
            samples.tag_id.tolist(), samples.ts.tolist(), values, samples.quality.tolist(), samples.text_or_nulls().to_pylist(), strict=True
        )
    )


@given(ROWS, st.booleans())
def test_to_arrow_and_back(rows: list[Row], text: bool) -> None:
    samples = samples_of(rows, text=text)
    batch = samples.to_record_batch(arrow_schema((), text=text))
    assert batch.schema.names == ["tag_id", "ts", "value", "quality"] + ["text"] * text
    assert batch.schema.field("ts").type == TIMESTAMP
    assert rows_of(Samples.from_record_batch(batch)) == rows_of(samples)


@given(ROWS)
def test_what_goes_onto_the_bus_comes_off_it(rows: list[Row]) -> None:
    samples = samples_of(rows)
    assert rows_of(decode_content(encode_content(samples))) == rows_of(samples)


@given(st.lists(ROWS, max_size=4))
def test_parts_are_joined_in_their_order(parts: list[list[Row]]) -> None:
    joined = concat([samples_of(rows, text=n % 2 == 0) for n, rows in enumerate(parts)])
    expected = [row if n % 2 == 0 else (*row[:4], None) for n, rows in enumerate(parts) for row in rows]
    assert rows_of(joined) == rows_of(samples_of(expected))


@given(ROWS, st.randoms(use_true_random=False))
def test_take_and_slice(rows: list[Row], random: object) -> None:
    samples = samples_of(rows)
    n = len(rows)
    mask = np.array([row[3] % 2 == 0 for row in rows], np.bool_)
    assert rows_of(samples.take(mask)) == [row for row, kept in zip(rows_of(samples), mask, strict=True) if kept]
    backwards = np.arange(n)[::-1]
    assert rows_of(samples.take(backwards)) == rows_of(samples)[::-1]
    assert rows_of(samples.slice(n // 3, n)) == rows_of(samples)[n // 3 :]


def test_null_values_in_arrow_are_nan() -> None:
    batch = pa.RecordBatch.from_pydict(
        {"tag_id": [1, 1], "ts": [0, 1], "value": [1.5, None], "quality": [192, 0]}, schema=arrow_schema((), text=False)
    )
    assert Samples.from_record_batch(batch).value.tolist()[0] == 1.5
    assert np.isnan(Samples.from_record_batch(batch).value[1])


def test_the_schema_carries_the_catalogue() -> None:
    tags = [Tag(7, "a/t", "float", "°C"), Tag(8, "a/phase", "text", step=True)]
    schema = arrow_schema(tags)
    assert schema.names[-1] == "text"
    assert json.loads(schema.metadata[TAGS_KEY]) == [tag.row() for tag in tags]
    assert "text" not in arrow_schema(tags[:1]).names


@given(ROWS.filter(bool), ROWS.filter(bool))
def test_batches_with_different_content_have_different_digests(rows: list[Row], others: list[Row]) -> None:
    same = rows_of(samples_of(rows)) == rows_of(samples_of(others))
    assert (digest(samples_of(rows)) == digest(samples_of(others))) == same


def test_a_text_column_without_text_is_none_to_the_digest() -> None:
    rows: list[Row] = [(1, 2, 3.0, 192, None)]
    assert digest(samples_of(rows, text=True)) == digest(samples_of(rows, text=False))


def test_text_is_divided_where_it_is_in_the_digest() -> None:
    def with_texts(*texts: str | None) -> Samples:
        return samples_of([(1, n, 0.0, 192, text) for n, text in enumerate(texts)])

    digests = {digest(with_texts(*texts)) for texts in [("ab", "c"), ("a", "bc"), ("abc", None), (None, "abc"), ("", "abc"), ("abc", "")]}
    assert len(digests) == 6
