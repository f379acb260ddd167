"""Bodies become samples: the same ones from every format, bit by bit; hostile ones are refused before they cost anything."""

from __future__ import annotations

import csv
import io
import json
import math
import struct
import time
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from historian.ingest.decode import DecodeLimits, decode
from historian.schema.catalogue import Catalogue, Kind, TagDefinition
from historian.schema.errors import BadInput, BadSamples, TooLarge
from historian.schema.samples import Samples

ARROW, JSON, CSV = "application/vnd.apache.arrow.stream", "application/json", "text/csv"
TS = 1_767_225_600_000_000
LIMITS = DecodeLimits()
Row = tuple[str, int, Any, int | None]


def arrow_body(*, batches: int = 1, options: pa.ipc.IpcWriteOptions | None = None, **columns: Any) -> bytes:
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=options) as stream:
        stream.write_table(table, max_chunksize=max(1, -(-table.num_rows // batches)))
    return bytes(sink.getvalue().to_pybytes())


def as_arrow(rows: list[Row], batches: int) -> bytes:
    return arrow_body(
        batches=batches,
        tag=pa.array([row[0] for row in rows]).dictionary_encode(),
        ts=pa.array([row[1] for row in rows], pa.timestamp("us", tz="UTC")),
        value=pa.array([row[2] for row in rows], pa.float64()),
        quality=pa.array([row[3] for row in rows], pa.int16()),
    )


def as_json(rows: list[Row], iso: bool) -> bytes:
    samples = []
    for tag, ts, value, quality in rows:
        stamp = str(np.datetime64(ts, "us")) + "Z" if iso else ts
        sample = {"tag": tag, "ts": stamp, "value": value}
        samples.append(sample if quality is None else sample | {"quality": quality})
    return json.dumps({"samples": samples}).encode()


def as_csv(rows: list[Row], iso: bool) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["ts", "tag", "quality", "value"])
    for tag, ts, value, quality in rows:
        stamp = str(np.datetime64(ts, "us")) if iso else ts
        writer.writerow([stamp, tag, "" if quality is None else quality, "" if value is None else repr(value)])
    return out.getvalue().encode()


def plain(samples: Samples) -> list[tuple[int, int, bytes, int]]:
    # NaN has many patterns, and all mean the same
    value = np.where(np.isnan(samples.value), np.nan, samples.value)
    return list(zip(samples.tag_id.tolist(), samples.ts.tolist(), (v.tobytes() for v in value), samples.quality.tolist(), strict=True))


VALUES = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**53), 2**53), st.none())
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["d/a", "d/ü/b", 'd/c "quoted", with comma']),
        st.integers(0, 4_102_444_799_999_999),
        VALUES,
        st.one_of(st.none(), st.integers(0, 255)),
    ).map(lambda row: row if row[2] is not None or row[3] is None else (row[0], row[1], None, row[3] % 64)),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, batches=st.integers(1, 4), iso=st.booleans())
async def test_the_same_rows_in_any_format_are_the_same_samples(catalogue: Catalogue, rows: list[Row], batches: int, iso: bool) -> None:
    expected = [
        (
            path,
            ts,
            np.float64(np.nan if value is None else value).tobytes(),
            quality if quality is not None else 0 if value is None else 192,
        )
        for path, ts, value, quality in rows
    ]
    for body, kind in ((as_arrow(rows, batches), ARROW), (as_json(rows, iso), JSON), (as_csv(rows, iso), CSV)):
        samples = await decode(body, kind, catalogue, LIMITS)
        assert samples.text is None or samples.text.null_count == len(samples)
        paths = [catalogue.by_id(tag_id).path for tag_id in samples.tag_id.tolist()]
        assert [(path, *row[1:]) for path, row in zip(paths, plain(samples), strict=True)] == expected, kind


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (pa.array([1.5]), "float"),
        (pa.array([1]), "float"),
        (pa.array([True]), "bool"),
        (pa.array(["x"]), "text"),
        (pa.array([None]), "float"),
    ],
)
async def test_tags_that_are_made_have_the_kind_of_their_values(catalogue: Catalogue, value: pa.Array, kind: Kind) -> None:
    await decode(arrow_body(tag=["made/a"], ts=pa.array([TS], pa.timestamp("us", tz="UTC")), value=value), ARROW, catalogue, LIMITS)
    assert catalogue.get("made/a").kind == kind


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("tz", [None, "UTC", "Europe/Berlin"])
async def test_timestamps_of_any_unit_and_zone(catalogue: Catalogue, unit: str, tz: str | None) -> None:
    factor = {"s": 1_000_000, "ms": 1000, "us": 1, "ns": 1 / 1000}[unit]
    body = arrow_body(tag=["u/a"], ts=pa.array([int(TS / factor)], pa.timestamp(unit, tz=tz)), value=[1.0])
    assert (await decode(body, ARROW, catalogue, LIMITS)).ts.tolist() == [TS]


@pytest.mark.parametrize("unit", ["s", "ms"])
async def test_a_timestamp_that_would_overflow_is_a_fault(catalogue: Catalogue, unit: str) -> None:
    body = arrow_body(tag=["u/a"] * 2, ts=pa.array([1, 2**63 - 1], pa.timestamp(unit)), value=[1.0, 2.0])
    with pytest.raises(BadSamples) as caught:
        await decode(body, ARROW, catalogue, LIMITS)
    assert [(fault.row, fault.column) for fault in caught.value.faults] == [(1, "ts")]


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("2026-01-01T00:00:00Z", TS),
        ("2026-01-01T00:00:00", TS),
        ("2026-01-01 00:00:00.5", TS + 500_000),
        ("2026-01-01T01:00:00.000001+01:00", TS + 1),
        ("2026-01-01T00:00:00.123456789Z", TS + 123_456),
        ("2026-01-01", TS),
        ("2026-01-01T00:00", TS),
        ("2025-12-31t19:00:00-05:00", TS),
        ("2028-02-29T00:00:00z", 1_835_395_200_000_000),
        (str(TS), TS),
    ],
)
async def test_timestamps_as_people_write_them(catalogue: Catalogue, text: str, us: int) -> None:
    # beside one that only the slow way reads
    for other in ("2026-01-01T00:00:00Z", "2026-01-01"):
        body = json.dumps({"samples": [{"tag": "t/a", "ts": stamp, "value": 1} for stamp in (other, text)]}).encode()
        assert (await decode(body, JSON, catalogue, LIMITS)).ts.tolist() == [TS, us]


@pytest.mark.parametrize(
    "text",
    ["2026-13-01T00:00:00Z", "2026-02-29", "2026-04-31", "2026-01-01T24:00:00Z", "01.02.2026", "", "now", "2026-01-01T00:00:00+25:00"],
)
async def test_timestamps_that_are_none(catalogue: Catalogue, text: str) -> None:
    for kind, body in (
        (JSON, json.dumps({"samples": [{"tag": "t/a", "ts": TS, "value": 1}, {"tag": "t/a", "ts": text, "value": 1}]}).encode()),
        (CSV, f"tag,ts,value\nt/a,{TS},1\nt/a,{text},1\n".encode()),
    ):
        with pytest.raises(BadSamples) as caught:
            await decode(body, kind, catalogue, LIMITS)
        assert [(fault.row, fault.column) for fault in caught.value.faults] == [(1, "ts")]


async def test_csv_cells_are_read_as_the_kind_of_their_tag(catalogue: Catalogue) -> None:
    await catalogue.define(
        [
            TagDefinition(path="c/text", kind="text"),
            TagDefinition(path="c/bool", kind="bool"),
            TagDefinition(path="c/state", kind="digital", states={"0": "off", "7": "on"}),
            TagDefinition(path="c/float", kind="float"),
        ]
    )
    cells = [
        ("c/text", "4711"),
        ("c/text", '""'),
        ("c/text", ""),
        ("c/bool", "TRUE"),
        ("c/bool", "0"),
        ("c/state", "on"),
        ("c/state", "3"),
        ("c/float", "nan"),
        ("c/float", "+1e3"),
    ]
    body = "\n".join(["tag,ts,value", *(f"{tag},{TS + n},{cell}" for n, (tag, cell) in enumerate(cells)), ""]).encode()
    samples = await decode(body, CSV, catalogue, LIMITS)
    assert samples.text is not None
    assert samples.text.to_pylist() == ["4711", "", None, *[None] * 6]
    assert [None if math.isnan(value) else value for value in samples.value.tolist()] == [None, None, None, 1, 0, 7, 3, None, 1000]
    assert samples.quality.tolist() == [192, 192, 0, 192, 192, 192, 192, 0, 192]


async def test_integers_that_float64_does_not_have(catalogue: Catalogue) -> None:
    await catalogue.define([TagDefinition(path="i/int", kind="int"), TagDefinition(path="i/float", kind="float")])
    for number in (2**53 + 1, -(2**53) - 1, 2**63 - 1):
        for kind, body in (
            (JSON, json.dumps({"samples": [{"tag": "i/int", "ts": TS, "value": number}]}).encode()),
            (CSV, f"tag,ts,value\ni/int,{TS},{number}\n".encode()),
            (ARROW, arrow_body(tag=["i/int"], ts=pa.array([TS], pa.timestamp("us")), value=pa.array([number], pa.int64()))),
        ):
            with pytest.raises(BadSamples, match="2\\^53"):
                await decode(body, kind, catalogue, LIMITS)
    body = arrow_body(tag=["i/int"] * 2, ts=pa.array([TS, TS + 1], pa.timestamp("us")), value=pa.array([2**53, -(2**53)], pa.int64()))
    assert (await decode(body, ARROW, catalogue, LIMITS)).value.tolist() == [2**53, -(2**53)]


async def test_rows_of_csv_with_too_few_cells_are_named(catalogue: Catalogue) -> None:
    body = f"tag,ts,value\na/b,{TS},1\na/b,{TS}\na/b,{TS},3\na/b,{TS},4,5,6\n".encode()
    with pytest.raises(BadSamples) as caught:
        await decode(body, CSV, catalogue, LIMITS)
    assert [fault.row for fault in caught.value.faults] == [1, 3]


@pytest.mark.parametrize("cell", ['"x', '"two\nlines', '"say ""hi""', '"'])
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
async def test_a_quote_that_is_never_closed_does_not_take_in_the_rows_that_follow(catalogue: Catalogue, cell: str, end: str) -> None:
    body = f'tag,ts,value\nq/a,{TS},"closed\n"\nq/a,{TS + 1},{cell}\nq/a,{TS + 2},z{end}'.encode()
    with pytest.raises(BadSamples, match="never closed") as caught:
        await decode(body, CSV, catalogue, LIMITS)
    assert [fault.row for fault in caught.value.faults] == [1]


async def test_a_last_cell_of_several_lines_is_good(catalogue: Catalogue) -> None:
    for cell in ("two\nlines", 'ends "so"\n', "\n", "\n\n", '"\n"\n', ',"\n', '\n,"\n,"\n'):
        for end in ("", "\n", "\r\n", "\n\n"):
            quoted = cell.replace('"', '""')
            samples = await decode(f'tag,ts,value\nq/a,{TS},"{quoted}"{end}'.encode(), CSV, catalogue, LIMITS)
            assert samples.text is not None
            assert samples.text.to_pylist() == [cell]


async def test_tags_are_not_made_where_the_server_makes_none(catalogue: Catalogue) -> None:
    body = json.dumps({"samples": [{"tag": "no/tag", "ts": TS, "value": 1}]}).encode()
    with pytest.raises(BadSamples, match="makes none"):
        await decode(body, JSON, catalogue, DecodeLimits(create_tags=False))
    assert catalogue.get("no/tag") is None


async def test_an_empty_batch_is_good(catalogue: Catalogue) -> None:
    empty = pa.array([], pa.timestamp("us", tz="UTC"))
    bodies = [
        (b'{"samples":[]}', JSON),
        (b"tag,ts,value\n", CSV),
        (arrow_body(tag=pa.array([], pa.string()), ts=empty, value=pa.array([], pa.float64())), ARROW),
    ]
    for body, kind in bodies:
        assert len(await decode(body, kind, catalogue, LIMITS)) == 0


async def test_too_many_samples_are_refused(catalogue: Catalogue) -> None:
    limits = DecodeLimits(max_samples=10)
    rows: list[Row] = [("m/a", TS + n, 1.0, None) for n in range(11)]
    for body, kind in ((as_arrow(rows, 1), ARROW), (as_json(rows, True), JSON), (as_csv(rows, True), CSV)):
        with pytest.raises(TooLarge):
            await decode(body, kind, catalogue, limits)


async def test_compressed_arrow_is_read_and_a_bomb_is_not(catalogue: Catalogue) -> None:
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    count = 10_000
    ts = pa.array(np.arange(TS, TS + count), pa.timestamp("us", tz="UTC"))
    good = arrow_body(options=options, tag=["z/a"] * count, ts=ts, value=np.zeros(count))
    assert len(await decode(good, ARROW, catalogue, LIMITS)) == count
    with pytest.raises(TooLarge, match="unpacks"):
        await decode(good, ARROW, catalogue, DecodeLimits(max_decoded=100_000))
    # a buffer that claims a petabyte: refused by its claim, not by the attempt
    claims = struct.pack("<q", count * 8)
    assert claims in good
    with pytest.raises(TooLarge, match="unpacks"):
        await decode(good.replace(claims, struct.pack("<q", 1 << 50)), ARROW, catalogue, LIMITS)


def views_of_one_text(text: bytes, count: int) -> pa.Array:
    """All of them of the same bytes: pyarrow writes a view as it is."""
    _, view, content = pa.array([text.decode()], pa.string_view()).buffers()
    return pa.Array.from_buffers(pa.string_view(), count, [None, pa.py_buffer(view.to_pybytes()[:16] * count), content])


@pytest.mark.parametrize("column", ["tag", "value"])
@pytest.mark.parametrize("form", ["dictionary", "views"])
async def test_texts_that_share_their_bytes_are_no_bomb(catalogue: Catalogue, column: str, form: str) -> None:
    """20 000 times the same 60 000 bytes: 20 kB to send, and 1.2 GB to hold."""
    count, text = 20_000, "x" * 60_000
    same = pa.array(np.zeros(count, np.int8))
    texts = views_of_one_text(text.encode(), count) if form == "views" else pa.DictionaryArray.from_arrays(same, [text])
    ts = pa.array(np.arange(TS, TS + count), pa.timestamp("us", tz="UTC"))
    columns = {"tag": pa.array(["b/text"] * count).dictionary_encode(), "value": np.zeros(count)} | {column: texts}
    body = arrow_body(options=pa.ipc.IpcWriteOptions(compression="zstd"), ts=ts, **columns)
    assert len(body) < 100_000
    before = pa.total_allocated_bytes()
    if (column, form) == ("tag", "dictionary"):
        # each path is looked at once
        with pytest.raises(BadSamples):
            await decode(body, ARROW, catalogue, LIMITS)
    else:
        with pytest.raises(TooLarge, match="1200000000 bytes"):
            await decode(body, ARROW, catalogue, LIMITS)
    assert pa.total_allocated_bytes() - before < 10 << 20


TEXT_TYPES = [pa.string(), pa.large_string(), pa.string_view()]


@pytest.mark.parametrize("kind", [*TEXT_TYPES, *(pa.dictionary(pa.int8(), kind) for kind in TEXT_TYPES)], ids=str)
async def test_texts_of_any_arrow_type(catalogue: Catalogue, kind: pa.DataType) -> None:
    def texts(*values: str | None) -> pa.Array:
        if not pa.types.is_dictionary(kind):
            return pa.array(values, kind)
        entries = [value for value in values if value is not None]
        indices = [None if value is None else entries.index(value) for value in values]
        return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int8()), pa.array(entries, kind.value_type))

    ts = pa.array([TS, TS + 1, TS + 2], pa.timestamp("us"))
    body = arrow_body(tag=texts("k/a", "k/b", "k/a"), ts=ts, value=texts("off", None, "a state that is longer than a view"))
    samples = await decode(body, ARROW, catalogue, LIMITS)
    assert [catalogue.by_id(tag_id).path for tag_id in samples.tag_id.tolist()] == ["k/a", "k/b", "k/a"]
    assert samples.text is not None
    assert samples.text.to_pylist() == ["off", None, "a state that is longer than a view"]
    assert samples.quality.tolist() == [192, 0, 192]


@pytest.mark.parametrize("entries", TEXT_TYPES, ids=str)
async def test_batches_with_dictionaries_of_their_own(catalogue: Catalogue, entries: pa.DataType) -> None:
    """Together they have more entries than the indices can tell apart."""
    sink = pa.BufferOutputStream()
    paths = [[f"own/{batch}/{n}" for n in range(100)] for batch in range(3)]
    ts = pa.array(np.arange(TS, TS + 100), pa.timestamp("us"))
    batches = [
        pa.record_batch(
            {
                "tag": pa.DictionaryArray.from_arrays(pa.array(range(100), pa.int8()), pa.array(some, entries)),
                "ts": ts,
                "value": np.zeros(100),
            }
        )
        for some in paths
    ]
    with pa.ipc.new_stream(sink, batches[0].schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    samples = await decode(sink.getvalue().to_pybytes(), ARROW, catalogue, LIMITS)
    assert [catalogue.by_id(tag_id).path for tag_id in samples.tag_id.tolist()] == [path for some in paths for path in some]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mantissas=st.lists(st.integers(-(10**18) + 1, 10**18 - 1), min_size=1, max_size=30), scale=st.integers(0, 18))
async def test_decimals_are_the_nearest_float64(catalogue: Catalogue, mantissas: list[int], scale: int) -> None:
    decimals = [Decimal(mantissa).scaleb(-scale) for mantissa in mantissas]
    ts = pa.array(np.arange(TS, TS + len(decimals)), pa.timestamp("us"))
    body = arrow_body(tag=["d/e"] * len(decimals), ts=ts, value=pa.array(decimals, pa.decimal128(38, scale)))
    assert (await decode(body, ARROW, catalogue, LIMITS)).value.tolist() == [float(number) for number in decimals]


async def test_unsigned_integers_beyond_all_others_are_faults(catalogue: Catalogue) -> None:
    most = pa.array([2**64 - 1], pa.uint64())
    ts = pa.array([TS], pa.timestamp("us"))
    for column, body in (
        ("quality", arrow_body(tag=["u/a"], ts=ts, value=[1.0], quality=most)),
        ("tag_id", arrow_body(tag_id=most, ts=ts, value=[1.0])),
    ):
        with pytest.raises(BadSamples) as caught:
            await decode(body, ARROW, catalogue, LIMITS)
        assert [(fault.row, fault.column) for fault in caught.value.faults] == [(0, column)]


async def test_a_column_of_nulls_without_end_is_refused(catalogue: Catalogue) -> None:
    """Nulls need no bytes: the length alone is a claim. It stands in the batch's header, and in each column's node."""
    body = arrow_body(tag=pa.nulls(77_777, pa.null()).cast(pa.string()), ts=pa.nulls(77_777, pa.timestamp("us")), value=pa.nulls(77_777))
    claimed = body.replace(struct.pack("<q", 77_777), struct.pack("<q", 2**40))
    assert claimed != body
    with pytest.raises(TooLarge):
        await decode(claimed, ARROW, catalogue, LIMITS)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_a_damaged_arrow_body_is_refused_or_read_but_never_worse(catalogue: Catalogue, data: st.DataObject) -> None:
    """Bytes are changed at random: pyarrow must not be led outside of the body, nor made to allocate what it claims."""
    rows: list[Row] = [(f"x/{n % 3}", TS + n, n / 4, 192) for n in range(50)]
    body = bytearray(as_arrow(rows, 2))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at] = data.draw(st.integers(0, 255))
    try:
        samples = await decode(bytes(body), ARROW, catalogue, DecodeLimits(create_tags=False))
    except BadInput:
        return
    assert len(samples) <= 200


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")), st.just(b"{}")),
    kind=st.sampled_from([ARROW, JSON, CSV]),
)
async def test_any_bytes_are_answered(catalogue: Catalogue, body: bytes, kind: str) -> None:
    try:
        samples = await decode(body, kind, catalogue, LIMITS)
    except BadInput:
        return
    # a header alone is a good body
    assert len(samples) == 0


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
JSON_ROWS = st.one_of(JSON_VALUES, st.fixed_dictionaries({}, optional=dict.fromkeys(("tag", "ts", "value", "quality", "x"), JSON_VALUES)))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(JSON_ROWS, max_size=6))
async def test_any_json_rows_are_read_or_named(catalogue: Catalogue, rows: list[Any]) -> None:
    try:
        samples = await decode(json.dumps({"samples": rows}).encode(), JSON, catalogue, DecodeLimits(create_tags=False))
    except BadInput as error:
        named = [fault.row for fault in error.faults] if isinstance(error, BadSamples) else []
    else:
        named = []
        assert len(samples) == len(rows)
    assert all(0 <= row < len(rows) for row in named)


async def test_blanks_in_a_csv_header_do_not_matter(catalogue: Catalogue) -> None:
    samples = await decode(f"tag, ts ,value\r\nh/a,{TS},1.5\r\n".encode(), CSV, catalogue, LIMITS)
    assert samples.value.tolist() == [1.5]


async def test_json_of_more_objects_than_samples_is_refused_before_it_is_built(catalogue: Catalogue) -> None:
    for body in (b'{"samples":[' + b"[]," * 100 + b"[]]}", b'{"samples":[],"x":[' + b"{}," * 100 + b"{}]}"):
        with pytest.raises(TooLarge):
            await decode(body, JSON, catalogue, DecodeLimits(max_samples=10))


async def test_a_body_makes_only_so_many_tags(catalogue: Catalogue) -> None:
    rows: list[Row] = [(f"n/{n}", TS, 1.0, None) for n in range(11)]
    for body, kind in ((as_arrow(rows, 1), ARROW), (as_json(rows, True), JSON), (as_csv(rows, True), CSV)):
        with pytest.raises(TooLarge, match="define them first"):
            await decode(body, kind, catalogue, DecodeLimits(max_new_tags=10))


async def test_dictionaries_that_grow_by_deltas_count_each_copy(catalogue: Catalogue) -> None:
    kind = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema({"tag": kind, "ts": pa.timestamp("us"), "value": pa.float64()})
    sink = pa.BufferOutputStream()
    paths: list[str] = []
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)) as stream:
        for n in range(30):
            paths += [f"delta/{n}/{m}{'x' * 200}" for m in range(50)]
            tag = pa.DictionaryArray.from_arrays(pa.array([len(paths) - 1], pa.int32()), pa.array(paths))
            stream.write_batch(pa.record_batch([tag, pa.array([TS + n], pa.timestamp("us")), pa.array([1.0])], schema=schema))
    body = sink.getvalue().to_pybytes()
    assert len(await decode(body, ARROW, catalogue, LIMITS)) == 30
    # 30 × 50 paths of some 200 bytes are 0.3 MB; the copies are 5 MB
    with pytest.raises(TooLarge, match="unpacks"):
        await decode(body, ARROW, catalogue, DecodeLimits(max_decoded=2 << 20))


async def test_a_clock_that_is_years_off_is_told_by_row(catalogue: Catalogue) -> None:
    now = time.time_ns() // 1000
    year = 365 * 86_400_000_000
    rows: list[Row] = [
        ("w/a", now, 1.0, None),
        ("w/a", now - 2 * year, 1.0, None),
        ("w/b", now + 3 * year, 1.0, None),
        ("w/b", now - 1000, 1.0, None),
    ]
    limits = DecodeLimits(max_past_s=86_400.0, max_future_s=60.0)
    for body, kind in ((as_arrow(rows, 1), ARROW), (as_json(rows, False), JSON), (as_csv(rows, True), CSV)):
        with pytest.raises(BadSamples) as refused:
            await decode(body, kind, catalogue, limits)
        assert [(fault.row, fault.column) for fault in refused.value.faults] == [(1, "ts"), (2, "ts")]
        assert "behind the server's clock, beyond its max_past_s of 86400 s" in refused.value.faults[0].detail
        assert "ahead of the server's clock, beyond its max_future_s of 60 s" in refused.value.faults[1].detail
        # and no tag was made
        assert catalogue.get("w/a") is None
    assert (
        len(await decode(as_arrow(rows, 1), ARROW, catalogue, DecodeLimits(max_past_s=3 * 365 * 86_400.0, max_future_s=4 * 365 * 86_400.0)))
        == 4
    )
