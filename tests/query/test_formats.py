"""Formats: the same samples in each of them, read back by those formats' own readers."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from historian.query import formats
from historian.query.formats import FEW, FORMATS, Format, by_name, choose, json_samples
from historian.query.times import LATEST, format_time
from historian.schema.catalogue import Kind, Tag
from historian.schema.errors import BadInput, NotAcceptable
from historian.schema.samples import TAGS_KEY, Samples, concat

KINDS: list[Kind] = ["float", "int", "bool", "digital", "text", "float"]
TAGS = [Tag(n * 1_000 + 1, f'site/"a", é\\/t{n}', kind) for n, kind in enumerate(KINDS)]
BY_ID = {tag.tag_id: tag for tag in TAGS}

FLOATS = st.floats(allow_infinity=False, allow_nan=False)
VALUES = {
    "float": FLOATS,
    "int": st.integers(-(2**53), 2**53).map(float),
    "bool": st.sampled_from([0.0, 1.0]),
    "digital": st.integers(0, 100).map(float),
}


@st.composite
def sample_sets(draw: st.DrawFn) -> Samples:
    """Up to some 1 000 samples: a few, repeated, so that all ways of writing them are taken."""
    rows = draw(
        st.lists(
            st.sampled_from(TAGS).flatmap(
                lambda tag: st.tuples(
                    st.just(tag.tag_id),
                    st.integers(0, LATEST),
                    st.just(np.nan) if tag.kind == "text" else VALUES[tag.kind] | st.just(np.nan),
                    st.integers(0, 255),
                    st.none() | st.text(st.characters(exclude_categories=["Cs"])) if tag.kind == "text" else st.none(),
                )
            ),
            max_size=20,
        )
    )
    rows *= draw(st.sampled_from([1, FEW]))
    text = [row[4] for row in rows]
    return Samples(
        np.array([row[0] for row in rows], np.int32),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64),
        np.array([row[3] for row in rows], np.int16),
        pa.array(text, pa.string()) if any(t is not None for t in text) else None,
    )


def objects(samples: Samples) -> list[dict[str, object]]:
    """What the JSON is to say."""
    found: list[dict[str, object]] = []
    columns = (
        samples.tag_id.tolist(),
        samples.ts.tolist(),
        samples.value.tolist(),
        samples.quality.tolist(),
        samples.text_or_nulls().to_pylist(),
    )
    for tag_id, ts, number, quality, text in zip(*columns, strict=True):
        tag = BY_ID[tag_id]
        value: object = None if number != number else number
        if tag.kind == "text":
            value = text
        elif value is not None and tag.kind == "bool":
            value = bool(number)
        elif value is not None and tag.kind in ("int", "digital"):
            value = int(number)
        found.append({"tag": tag.path, "ts": format_time(ts), "value": value, "quality": quality})
    return found


def encoded(form: Format, samples: Samples, chunk: int) -> bytes:
    encoder = form.encoder(TAGS)
    parts = [encoder.start()]
    parts += [encoder.write(samples.slice(start, min(start + chunk, len(samples)))) for start in range(0, len(samples), chunk)]
    return b"".join([*parts, encoder.finish()])


def assert_same(found: Samples, expected: Samples) -> None:
    assert found.tag_id.tolist() == expected.tag_id.tolist()
    assert found.ts.tolist() == expected.ts.tolist()
    assert found.value.tobytes() == expected.value.tobytes()
    assert found.quality.tolist() == expected.quality.tolist()
    assert found.text_or_nulls().to_pylist() == expected.text_or_nulls().to_pylist()


CHUNKS = st.sampled_from([1, 7, 300, 100_000])


@settings(max_examples=60, deadline=None)
@given(samples=sample_sets())
def test_json_samples_say_what_the_samples_are(samples: Samples) -> None:
    found = json.loads(b"[" + json_samples(samples, BY_ID) + b"]")
    expected = objects(samples)
    assert found == expected
    # 1 and 1.0 and true are equal in Python, but not in JSON
    assert [type(row["value"]) for row in found] == [type(row["value"]) for row in expected]


@settings(max_examples=40, deadline=None)
@given(samples=sample_sets(), chunk=CHUNKS)
def test_json_is_one_document(samples: Samples, chunk: int) -> None:
    if len(samples) // chunk > 100:
        chunk = 100
    assert json.loads(encoded(formats.JSON, samples, chunk)) == {"samples": objects(samples)}


@settings(max_examples=40, deadline=None)
@given(samples=sample_sets(), chunk=CHUNKS)
def test_ndjson_is_a_line_a_sample(samples: Samples, chunk: int) -> None:
    chunk = max(chunk, len(samples) // 100)
    lines = encoded(formats.NDJSON, samples, chunk).split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line) for line in lines] == objects(samples)


def test_a_page_of_json_names_the_next() -> None:
    encoder = formats.JSON.encoder(TAGS)
    assert json.loads(encoder.start() + encoder.finish("abc-_1")) == {"samples": [], "next": "abc-_1"}


@settings(max_examples=40, deadline=None)
@given(samples=sample_sets(), chunk=CHUNKS)
def test_csv_is_read_back_by_a_csv_reader(samples: Samples, chunk: int) -> None:
    chunk = max(chunk, len(samples) // 100)
    text = encoded(formats.CSV, samples, chunk).decode()
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert header == ["tag", "ts", "value", "quality"]
    expected = objects(samples)
    assert [(row[0], row[1], int(row[3])) for row in rows] == [(e["tag"], e["ts"], e["quality"]) for e in expected]
    for row, want in zip(rows, expected, strict=True):
        value = want["value"]
        if value is None:
            assert row[2] == ""
        elif isinstance(value, bool):
            assert row[2] == str(value).lower()
        elif isinstance(value, str):
            assert row[2] == value
        else:
            assert type(value)(row[2]) == value


def test_csv_tells_an_empty_text_from_none() -> None:
    samples = Samples(
        np.full(2, 4001, np.int32), np.zeros(2, np.int64), np.full(2, np.nan), np.array([192, 0], np.int16), pa.array(["", None])
    )
    assert encoded(formats.CSV, samples, 10).decode().splitlines()[1:] == [
        '"site/""a"", é\\/t4",1970-01-01T00:00:00Z,"",192',
        '"site/""a"", é\\/t4",1970-01-01T00:00:00Z,,0',
    ]


@settings(max_examples=40, deadline=None)
@given(samples=sample_sets(), chunk=CHUNKS)
def test_arrow_and_parquet_keep_every_bit(samples: Samples, chunk: int) -> None:
    chunk = max(chunk, len(samples) // 100)
    with pa.ipc.open_stream(encoded(formats.ARROW, samples, chunk)) as reader:
        table = reader.read_all()
    for found in (table, pq.read_table(io.BytesIO(encoded(formats.PARQUET, samples, chunk)))):
        assert str(found.schema.remove_metadata()).replace(" not null", "").split("\n") == [
            "tag_id: int32",
            "ts: timestamp[us, tz=UTC]",
            "value: double",
            "quality: int16",
            "text: string",
        ]
        assert [row["path"] for row in json.loads(found.schema.metadata[TAGS_KEY])] == [tag.path for tag in TAGS]
        assert_same(concat([Samples.from_record_batch(batch) for batch in found.to_batches()]), samples)


def test_parquet_comes_out_as_its_row_groups_are_full() -> None:
    n = formats.ROW_GROUP_ROWS // 2
    rng = np.random.default_rng(1)
    encoder = formats.PARQUET.encoder(TAGS[:1])
    parts, sizes = [encoder.start()], []
    written = []
    for k in range(5):
        samples = Samples(
            np.full(n, 1, np.int32), np.arange(k * n, (k + 1) * n, dtype=np.int64), rng.normal(size=n), np.full(n, 192, np.int16)
        )
        written.append(samples)
        parts.append(encoder.write(samples))
        sizes.append(len(parts[-1]))
    parts.append(encoder.finish())
    assert [size > 500_000 for size in sizes] == [False, True, False, True, False]
    document = io.BytesIO(b"".join(parts))
    assert [pq.ParquetFile(document).metadata.row_group(k).num_rows for k in range(3)] == [2 * n, 2 * n, n]
    table = pq.read_table(document)
    assert "text" not in table.schema.names
    assert table.column("value").to_numpy().tobytes() == concat(written).value.tobytes()


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_no_samples_are_a_document_too(form: Format) -> None:
    document = encoded(form, Samples.empty(), 10)
    match form.name:
        case "json":
            assert json.loads(document) == {"samples": []}
        case "ndjson":
            assert document == b""
        case "csv":
            assert document == b"tag,ts,value,quality\n"
        case "arrow":
            assert pa.ipc.open_stream(document).read_all().num_rows == 0
        case _:
            assert pq.read_table(io.BytesIO(document)).num_rows == 0


def test_times_are_readable_by_others() -> None:
    samples = Samples(np.array([1, 1], np.int32), np.array([0, 1_767_225_600_123_456], np.int64), np.zeros(2), np.full(2, 192, np.int16))
    times = [row["ts"] for row in json.loads(b"[" + json_samples(samples, BY_ID) + b"]")]
    assert times == ["1970-01-01T00:00:00Z", "2026-01-01T00:00:00.123456Z"]
    assert [datetime.fromisoformat(time).timestamp() for time in times] == [0, 1_767_225_600.123456]


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        (None, "json"),
        ("", "json"),
        ("*/*", "json"),
        ("application/*", "json"),
        ("text/*", "csv"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "json"),
        ("application/vnd.apache.arrow.stream", "arrow"),
        ("Application/VND.Apache.Parquet", "parquet"),
        ("application/vnd.apache.arrow.stream, */*", "arrow"),
        ("*/*, text/csv", "csv"),
        ("text/csv;q=0.5, application/json;q=0.4", "csv"),
        ("text/csv;q=0.4, application/json;q=0.5", "json"),
        ("text/csv, application/vnd.apache.parquet", "csv"),
        ("application/vnd.apache.parquet, text/csv", "parquet"),
        ("application/json;q=0, */*", "arrow"),
        ("text/csv; charset=utf-8; q=0.9, image/png", "csv"),
        ("*/*;q=0.1, text/csv;q=0.05", "json"),
        ("application/x-ndjson", "ndjson"),
    ],
)
def test_the_format_is_what_the_client_likes_best(accept: str | None, name: str) -> None:
    assert choose(accept).name == name


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", ";", "csv", "text/csv;q=high", "*/*;q=0", "," * 50 + "a"])
def test_what_cannot_be_written_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="application/json"):
        choose(accept)


def test_formats_have_names() -> None:
    assert [by_name(name).name for name in ("arrow", "json", "csv", "parquet", "ndjson")] == ["arrow", "json", "csv", "parquet", "ndjson"]
    with pytest.raises(BadInput, match="xml"):
        by_name("xml")
