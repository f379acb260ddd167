"""Files become samples: layouts, delimiters, values and their types, chunks that are the same on every run, and faults with their line."""

from __future__ import annotations

import gzip
import io
import math
import struct
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from historian.ingest.files import Chunk, FileOptions, Plan, examine
from historian.schema.errors import BadInput

T0 = 1_767_225_600_000_000  # 2026-01-01
T = [f"2026-01-01 00:00:0{n}" for n in range(10)]
Sample = tuple[str, int, Any, int | None]


def written(tmp_path: Path, text: str | bytes, name: str = "a.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def samples_of(chunks: Sequence[Chunk]) -> list[Sample]:
    """(tag, second, value, quality) of all chunks, sorted by tag and time."""
    found: list[Sample] = []
    for chunk in chunks:
        batch = chunk.samples
        quality = batch.column("quality").to_pylist() if "quality" in batch.schema.names else [None] * len(batch)
        seconds = [(us - T0) // 1_000_000 for us in batch.column("ts").cast(pa.int64()).to_pylist()]
        found += zip(batch.column("tag").to_pylist(), seconds, batch.column("value").to_pylist(), quality, strict=True)
    return sorted(found, key=lambda sample: sample[:2])


def read(path: Path, **options: Any) -> list[Sample]:
    return samples_of(list(examine(path, FileOptions(**options)).chunks()))


def fault(path: Path, **options: Any) -> str:
    with pytest.raises(BadInput) as raised:
        examine(path, FileOptions(**options))
    return str(raised.value)


# ── layouts


def test_a_wide_file_has_a_tag_for_each_column(tmp_path: Path) -> None:
    path = written(tmp_path, f"datetime,Flow RateRMS,p\n{T[0]},1.5,2\n{T[1]},-3,\n")
    assert read(path, prefix="plant/{stem}") == [
        ("plant/a/Flow RateRMS", 0, 1.5, None),
        ("plant/a/Flow RateRMS", 1, -3.0, None),
        ("plant/a/p", 0, 2.0, None),
    ]


def test_a_long_file_has_a_sample_in_each_row(tmp_path: Path) -> None:
    path = written(
        tmp_path, f"Value;Tag Name;Time Stamp;Quality\n1.5;x/y;{T[0]};192\n;x/y;{T[1]};\nNaN;z;{T[1]};bad\n2;z;{T[2]};Uncertain\n"
    )
    assert read(path, prefix="p") == [
        ("p/x/y", 0, 1.5, 192),
        ("p/x/y", 1, None, None),
        ("p/z", 1, None, 0),
        ("p/z", 2, 2.0, 64),
    ]


def test_columns_of_a_long_file_that_mean_nothing_here_are_named(tmp_path: Path) -> None:
    plan = examine(written(tmp_path, f"tag,ts,value,unit\nx,{T[0]},1,bar\n"), FileOptions())
    assert plan.samples == 1
    assert plan.notes == ["left out: column unit"]


def test_the_layout_can_be_given(tmp_path: Path) -> None:
    path = written(tmp_path, f"ts,tag,value\n{T[0]},1,2\n")
    assert read(path) == [("1", 0, 2.0, None)]
    assert read(path, layout="wide") == [("tag", 0, 1.0, None), ("value", 0, 2.0, None)]
    assert "long file needs a column for the tag" in fault(written(tmp_path, f"ts,x\n{T[0]},1\n"), layout="long")


@pytest.mark.parametrize("name", ["ts", "Timestamp", "DATETIME", "date_time", "Time (UTC)", "Zeitstempel", "when it was"])
def test_the_time_column_is_recognised_by_name_or_by_what_is_in_it(tmp_path: Path, name: str) -> None:
    assert read(written(tmp_path, f"x,{name}\n1,{T[3]}\n")) == [("x", 3, 1.0, None)]


def test_a_time_column_that_is_not_recognised_is_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, f"from,to,x\n{T[0]},{T[1]},1\n")
    assert "--time-column" in fault(path)
    assert "'nowhere'" in fault(path, time_column="nowhere")
    assert "x" in {sample[0] for sample in read(path, time_column="From", texts=("to",))}


def test_unnamed_columns_are_left_out(tmp_path: Path) -> None:
    plan = examine(written(tmp_path, f",time,x,\n0,{T[0]},1,\n1,{T[1]},2,\n"), FileOptions())
    assert plan.tags == ["x"]
    assert "has no name" in plan.notes[0]


# ── names


def test_a_column_whose_name_cannot_be_a_level_is_refused(tmp_path: Path) -> None:
    for name in ("a+b", "no#1", "m3/h", "a\x07b"):
        found = fault(written(tmp_path, f"time,{name}\n{T[0]},1\n"), prefix="p")
        assert "cannot be a level" in found
        assert found.startswith(str(tmp_path / "a.csv"))


def test_without_a_prefix_names_of_columns_are_whole_paths(tmp_path: Path) -> None:
    assert read(written(tmp_path, f"time,line1/flow\n{T[0]},1\n")) == [("line1/flow", 0, 1.0, None)]


def test_a_bad_tag_in_a_long_file_is_named_with_its_line(tmp_path: Path) -> None:
    assert "line 3: tag path 'a+b' has a + or #" in fault(written(tmp_path, f"tag,ts,value\nx,{T[0]},1\na+b,{T[0]},1\n"))
    assert "line 3: has no tag" in fault(written(tmp_path, f"tag,ts,value\nx,{T[0]},1\n,{T[0]},1\n"))


def test_the_prefix_takes_parts_of_the_name(tmp_path: Path) -> None:
    (tmp_path / "day1").mkdir()
    path = tmp_path / "day1" / "pump.7.csv.gz"
    path.write_bytes(gzip.compress(f"time,x\n{T[0]},1\n".encode()))
    assert read(path, prefix="/{parent}/{stem}/") == [("day1/pump.7/x", 0, 1.0, None)]
    assert "{name} and {parent}" in fault(path, prefix="{nmae}")
    assert "cannot begin a tag" in fault(path, prefix="a//b")


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    assert "'x' is there twice" in fault(written(tmp_path, f"time,x,x\n{T[0]},1,2\n"))


# ── CSV


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_recognised(tmp_path: Path, delimiter: str) -> None:
    rows = [["time", "x, the first", "y|2"], [T[0], "1", "2"], [T[1], "3", "4"]]
    text = "\r\n".join(delimiter.join(f'"{cell}"' if delimiter in cell else cell for cell in row) for row in rows)
    assert read(written(tmp_path, text)) == [
        ("x, the first", 0, 1.0, None),
        ("x, the first", 1, 3.0, None),
        ("y|2", 0, 2.0, None),
        ("y|2", 1, 4.0, None),
    ]


def test_a_delimiter_can_be_given(tmp_path: Path) -> None:
    path = written(tmp_path, f"time:x\n{T[0].replace(':', '.')}:1\n")
    assert "--delimiter" in fault(path)
    assert read(path, delimiter=":", time_format="%Y-%m-%d %H.%M.%S") == [("x", 0, 1.0, None)]


def test_what_excel_puts_before_the_header(tmp_path: Path) -> None:
    assert read(written(tmp_path, f"sep=;\r\ntime;x\r\n{T[0]};1,5\r\n".encode("utf-8-sig"))) == [("x", 0, 1.5, None)]


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress], ids=["gz", "zst"])
def test_compressed_files(tmp_path: Path, compress: Any) -> None:
    path = tmp_path / f"a.csv.{'gz' if compress is gzip.compress else 'zst'}"
    path.write_bytes(compress(f"time,x\n{T[0]},1\n{T[1]},oops\n".encode()))
    assert "line 3" in fault(path)
    path.write_bytes(compress(f"time,x\n{T[0]},1\n".encode()))
    assert read(path) == [("x", 0, 1.0, None)]
    path.write_bytes(path.read_bytes()[:-6])
    assert "cannot be read" in fault(path) or "no CSV" in fault(path)


def test_encodings(tmp_path: Path) -> None:
    text = f"time;Temperatur °C\n{T[0]};1\n"
    assert "--encoding" in fault(written(tmp_path, text.encode("cp1252")))
    for data, encoding in ((text.encode("cp1252"), "cp1252"), (text.encode("utf-16"), None), (text.encode("utf-8-sig"), None)):
        assert read(written(tmp_path, data), encoding=encoding) == [("Temperatur °C", 0, 1.0, None)]
    assert "no encoding 'klingon'" in fault(written(tmp_path, text), encoding="klingon")


def test_bytes_that_are_no_text_far_into_the_file_are_refused(tmp_path: Path) -> None:
    rows = "".join(f"{T[0]},word\n" for _ in range(20_000))
    assert "--encoding" in fault(written(tmp_path, f"time,x\n{rows}".encode() + f"{T[1]},".encode() + b"\xb0\n"))


def test_a_row_with_too_few_cells_is_named_with_its_line(tmp_path: Path) -> None:
    text = f'time,x,"a\nb"\n\n{T[0]},1,"u\nv"\n{T[1]},1\n'
    assert "a.csv, line 6: has 2 cells, the header has 3" in fault(written(tmp_path, text))


def test_the_line_of_a_fault_counts_line_breaks_and_empty_lines(tmp_path: Path) -> None:
    text = f'time,note,x\n\n{T[0]},"two\nlines",1\n\n{T[1]},one,oops\n{T[2]},one,2\n'
    assert "a.csv, line 6: column 'x' is 'oops', and a number elsewhere" in fault(written(tmp_path, text))


@pytest.mark.parametrize(("data", "words"), [(b"", "is empty"), (b"hello", "--delimiter"), (b"a,b\x00\n", "NUL"), (b"\n\n", "no columns")])
def test_what_is_no_csv(tmp_path: Path, data: bytes, words: str) -> None:
    assert words in fault(written(tmp_path, data))


@pytest.mark.parametrize("cell", ['"1', '"two\nlines', '"say ""hi""', '"'])
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_quote_that_is_never_closed_does_not_take_in_the_rows_that_follow(tmp_path: Path, cell: str, end: str) -> None:
    rows = f'time,x\n{T[0]},"closed\n"\n\n{T[1]},{cell}\n{T[2]},2{end}'
    assert "line 5 has a quote that is never closed" in fault(written(tmp_path, rows))
    assert "line 5 has a quote that is never closed" in fault(written(tmp_path, gzip.compress(rows.encode()), "a.csv.gz"))


def test_a_last_cell_of_several_lines_is_good(tmp_path: Path) -> None:
    for end in ("", "\n"):
        path = written(tmp_path, f'time,x,y\n{T[0]},1,"two\nlines\n"{end}')
        assert read(path) == [("x", 0, 1.0, None), ("y", 0, "two\nlines\n", None)]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in fault(tmp_path / "a.csv")


def test_a_header_without_rows_is_a_file_without_samples(tmp_path: Path) -> None:
    for header in ("time,x\n", "time,x"):
        plan = examine(written(tmp_path, header), FileOptions())
        assert (plan.samples, plan.counts, list(plan.chunks())) == (0, [], [])
        assert plan.notes == ["has no rows"]


# ── values


def test_a_decimal_comma_is_recognised(tmp_path: Path) -> None:
    path = written(tmp_path, f"time;x;y;z\n{T[0]};1,5;7;-1,25e3\n{T[1]};,5;8;2\n")
    assert read(path) == [
        *(("x", 0, 1.5, None), ("x", 1, 0.5, None)),
        *(("y", 0, 7.0, None), ("y", 1, 8.0, None)),
        *(("z", 0, -1250.0, None), ("z", 1, 2.0, None)),
    ]


def test_both_decimal_marks_are_asked_about(tmp_path: Path) -> None:
    path = written(tmp_path, f"time;x;y\n{T[0]};1.5;2\n{T[1]};1;2,5\n")
    found = fault(path)
    assert "line 3: '2,5' has a comma, and '1.5' (line 2) a point" in found
    assert "--decimal" in found
    assert "--decimal" in fault(path, decimal=",")
    assert "--decimal" in fault(written(tmp_path, f'time,x\n{T[0]},"1,5"\n', "b.csv"))
    assert read(path, decimal=".", texts=("y",))[-1] == ("y", 1, "2,5", None)


def test_true_and_false_and_words(tmp_path: Path) -> None:
    path = written(tmp_path, f"time,on,phase,x\n{T[0]},true,mash,1\n{T[1]},FALSE,true,\n{T[2]},,null,2\n")
    plan = examine(path, FileOptions())
    chunks = list(plan.chunks())
    assert samples_of(chunks) == [
        *(("on", 0, True, None), ("on", 1, False, None)),
        *(("phase", 0, "mash", None), ("phase", 1, "true", None)),
        *(("x", 0, 1.0, None), ("x", 2, 2.0, None)),
    ]
    assert [(chunk.seq, plan.counts[chunk.seq], chunk.samples.schema.field("value").type) for chunk in chunks] == [
        (0, 2, pa.float64()),
        (1, 2, pa.bool_()),
        (2, 2, pa.string()),
    ]


def test_tags_of_a_long_file_have_types_of_their_own(tmp_path: Path) -> None:
    path = written(
        tmp_path, f"tag,ts,value\nx,{T[0]},1\nphase,{T[0]},mash\non,{T[0]},true\nx,{T[1]},\nphase,{T[1]},\non,{T[1]},\nempty,{T[1]},nan\n"
    )
    plan = examine(path, FileOptions())
    assert samples_of(list(plan.chunks())) == [
        ("empty", 1, None, None),
        *(("on", 0, True, None), ("on", 1, None, None)),
        *(("phase", 0, "mash", None), ("phase", 1, None, None)),
        *(("x", 0, 1.0, None), ("x", 1, None, None)),
    ]
    assert plan.counts == [3, 2, 2]


def test_numbers_and_words_in_one_column_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = written(tmp_path, f"time,x\n{T[0]},1\n{T[1]},I/O Timeout\n{T[2]},2\n")
    found = fault(path)
    assert "line 3: column 'x' is 'I/O Timeout', and a number elsewhere; say --null 'I/O Timeout'" in found
    assert "--text 'x'" in found
    assert read(path, nulls=("i/o timeout",)) == [("x", 0, 1.0, None), ("x", 2, 2.0, None)]
    assert [sample[2] for sample in read(path, texts=("x",))] == ["1", "I/O Timeout", "2"]
    long = written(tmp_path, f"tag,ts,value\nx,{T[0]},1\nx,{T[1]},true\n")
    assert "line 3: tag 'x' is true, and a number elsewhere" in fault(long)


@pytest.mark.parametrize("cell", ["1.234,5", "1'234.5", "-1 234 567", "1.234.567", "1\u00a0234,5"])
def test_numbers_with_marks_between_their_thousands_are_no_text(tmp_path: Path, cell: str) -> None:
    path = written(tmp_path, f"time;x\n{T[0]};{cell}\n")
    assert "marks between their thousands are not read" in fault(path)
    assert read(path, texts=("x",)) == [("x", 0, cell, None)]


@pytest.mark.parametrize("word", ["inf", "-Infinity", "1e400", "+inf"])
def test_infinity_is_refused(tmp_path: Path, word: str) -> None:
    assert f"line 3: column 'x' is {word}, and no sample can be infinite" in fault(written(tmp_path, f"time,x\n{T[0]},1\n{T[1]},{word}\n"))


@pytest.mark.parametrize("cell", ["nan", "NaN", "-nan", "null", "NULL", " ", "", '""'])
def test_cells_without_a_value(tmp_path: Path, cell: str) -> None:
    assert read(written(tmp_path, f"time,x\n{T[0]},1\n{T[1]},{cell}\n")) == [("x", 0, 1.0, None)]
    assert read(written(tmp_path, f"ts,tag,value\n{T[0]},x,1\n{T[1]},x,{cell}\n"))[1] == ("x", 1, None, None)


def test_qualities_that_are_none(tmp_path: Path) -> None:
    for quality, words in (("256", "quality '256' is none"), ("-1", "is none"), ("fine", "'fine' is none"), ("1.5", "is none")):
        found = fault(written(tmp_path, f"tag,ts,value,quality\nx,{T[0]},1,192\nx,{T[1]},1,{quality}\n"))
        assert "line 3" in found
        assert words in found
    assert "line 2: has no value, and quality 192" in fault(written(tmp_path, f"tag,ts,value,quality\nx,{T[0]},,good\n"))


def test_texts_that_the_database_cannot_keep_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    assert "line 3: has a text of more than" in fault(written(tmp_path, f"time,x\n{T[0]},a\n{T[1]},{'b' * 70_000}\n"))


NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda x: f"{x:.17e}"),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda x: f"{x:.20f}"),
    st.decimals(-(10**9), 10**9, allow_nan=False, places=5).map(str),
    st.integers(-(2**70), 2**70).map(str),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=30), st.booleans(), st.sampled_from([",", ";"]))
@example(["0.1", "1e23", "9007199254740993", "4.35", "2.2250738585072011e-308", "5e-324", "-0.0"], True, ",")
@example(["+1.5", "1."], False, ";")
def test_numbers_are_bit_for_bit_those_of_pandas(cells: list[str], with_blanks: bool, delimiter: str) -> None:
    pad = " " if with_blanks else ""
    text = f"time{delimiter}x\n" + "".join(f"{T0 + n}{delimiter}{pad}{cell}\n" for n, cell in enumerate(cells))
    with warnings.catch_warnings():
        # pandas 3 means to make it the default
        warnings.simplefilter("ignore")
        wanted = pd.read_csv(io.StringIO(text), sep=delimiter, float_precision="round_trip", dtype={"x": "float64"})["x"].to_list()
    with tempfile.TemporaryDirectory() as directory:
        path = written(Path(directory), text)
        found = [value for chunk in examine(path, FileOptions()).chunks() for value in chunk.samples.column("value").to_pylist()]
    assert struct.pack(f"{len(cells)}d", *found) == struct.pack(f"{len(cells)}d", *wanted)


# ── Parquet and Arrow


def columnar(tmp_path: Path, table: pa.Table) -> list[Path]:
    """The same table in every format."""
    paths = [tmp_path / f"a.{suffix}" for suffix in ("parquet", "arrow", "arrows", "feather")]
    pq.write_table(table, paths[0], row_group_size=2)
    with pa.ipc.new_file(str(paths[1]), table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    with pa.ipc.new_stream(str(paths[2]), table.schema) as stream:
        stream.write_table(table, max_chunksize=2)
    feather.write_feather(table, str(paths[3]), compression="zstd")
    return paths


def test_typed_wide_files(tmp_path: Path) -> None:
    times = pa.array([T0 * 1000, T0 * 1000 + 1_000_000_000, T0 * 1000 + 2_000_000_000], pa.timestamp("ns", "UTC"))
    table = pa.table(
        {
            "f32": pa.array([0.1, None, math.nan], pa.float32()),
            "at": times,
            "count": pa.array([1, 2, None], pa.int16()),
            "on": [True, None, False],
            "phase": pa.array(["a", "b", None]).dictionary_encode(),
            "price": pa.array(["1.10", None, "4.35"]).cast(pa.decimal128(9, 2)),
            "none": pa.nulls(3),
        }
    )
    for path in columnar(tmp_path, table):
        assert read(path, prefix="p") == [
            *(("p/count", 0, 1.0, None), ("p/count", 1, 2.0, None)),
            ("p/f32", 0, float(np.float32(0.1)), None),
            *(("p/on", 0, True, None), ("p/on", 2, False, None)),
            *(("p/phase", 0, "a", None), ("p/phase", 1, "b", None)),
            *(("p/price", 0, 1.1, None), ("p/price", 2, 4.35, None)),
        ]


def test_typed_long_files(tmp_path: Path) -> None:
    table = pa.table(
        {
            "value": [1.5, None, math.nan],
            "tag": pa.array(["x", "y", "x"]).dictionary_encode(),
            "ts": pa.array([T0, T0, T0 + 1_000_000], pa.timestamp("us")),
            "quality": pa.array([192, 0, None], pa.int16()),
        }
    )
    for path in columnar(tmp_path, table):
        assert read(path) == [("x", 0, 1.5, 192), ("x", 1, None, None), ("y", 0, None, 0)]


def test_columns_of_no_use_and_broken_files_are_refused(tmp_path: Path) -> None:
    times = pa.array([T0], pa.timestamp("us"))
    for path in columnar(tmp_path, pa.table({"ts": times, "x": [[1.0]]})):
        assert "column 'x' is of type list" in fault(path)
    for path in columnar(tmp_path, pa.table({"ts": times, "x": [math.inf]})):
        assert "row 1: column 'x' is inf" in fault(path)
    for path in columnar(tmp_path, pa.table({"ts": times, "x": [1.0]})):
        path.write_bytes(path.read_bytes()[:-20])
        if path.suffix != ".arrows":  # a stream is whole without its end mark
            assert "no sound" in fault(path)


# ── chunks


def many_rows(path: Path, rows: int, *, first_words: str = "") -> Path:
    at = pd.date_range("2026-01-01", periods=rows, freq="s")
    pd.DataFrame({"time": at, "x": np.arange(rows) / 4, "y": np.arange(rows)}).to_csv(path, index=False)
    return path


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> int:
    """Samples in a chunk."""
    monkeypatch.setattr("historian.ingest.files.plan.CHUNK_SAMPLES", 50_000)
    return 50_000


def test_chunks_are_the_same_however_the_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_chunks: int) -> None:
    path = many_rows(tmp_path / "a.csv", 60_001)
    plan = examine(path, FileOptions())
    chunks = list(plan.chunks())
    assert [chunk.seq for chunk in chunks] == [0, 1, 2]
    assert plan.counts == [len(chunk.samples) for chunk in chunks] == [small_chunks, small_chunks, 20_002]
    monkeypatch.setattr("historian.ingest.files.csv._BLOCK_BYTES", 70_000)
    again = examine(path, FileOptions())
    assert again.producer == plan.producer
    assert [chunk.samples for chunk in again.chunks()] == [chunk.samples for chunk in chunks]


@pytest.mark.usefixtures("small_chunks")
def test_chunks_that_are_done_are_skipped(tmp_path: Path) -> None:
    plan = examine(many_rows(tmp_path / "a.csv", 60_001), FileOptions())
    whole = list(plan.chunks())
    assert [chunk.samples for chunk in plan.chunks(lambda seq: seq == 1)] == [whole[0].samples, whole[2].samples]
    assert list(plan.chunks(lambda seq: True)) == []


@pytest.mark.usefixtures("small_chunks")
def test_a_chunk_without_samples_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [f"{T0 + n},{n if n < 10 or n > 119_990 else ''}\n" for n in range(120_000)]
    path.write_text("time,x\n" + "".join(rows))
    plan = examine(path, FileOptions())
    assert plan.counts == [10, 0, 9]
    assert [chunk.seq for chunk in plan.chunks()] == [0, 2]


def test_the_identity_is_the_content_and_what_becomes_of_it(tmp_path: Path) -> None:
    text = f"time;x\n{T[0]};1\n"
    first = written(tmp_path, text, "a.csv")
    same = written(tmp_path, text, "b.csv")

    def producer(path: Path, **options: Any) -> str:
        return examine(path, FileOptions(**options)).producer

    assert producer(first) == producer(same)
    assert producer(first).startswith("import:")
    # what is recognised may as well be given
    assert producer(first) == producer(first, delimiter=";", layout="wide", time_column="time", time_format="iso")
    different = [
        producer(first),
        producer(written(tmp_path, text.replace("1\n", "2\n"), "c.csv")),
        producer(first, prefix="p"),
        producer(first, tz="Europe/Berlin"),
        producer(first, texts=("x",)),
        producer(first, time_format="%Y-%d-%m %H:%M:%S"),
    ]
    assert len(set(different)) == len(different)
    assert producer(first, prefix="{stem}") != producer(same, prefix="{stem}")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(["x,0,1", "x,1,1"], False), (["x,0,1", "y,0,1"], False), (["x,1,1", "x,0,1"], True), (["x,1,1", "x,1,2"], True)],
)
def test_a_file_that_comes_back_to_earlier_times_wants_its_chunks_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[str], expected: bool
) -> None:
    monkeypatch.setattr("historian.ingest.files.plan.CHUNK_SAMPLES", 1)
    plan = examine(written(tmp_path, "tag,ts,value\n" + "\n".join(rows) + "\n"), FileOptions(time_format="s"))
    assert plan.in_order is expected


@pytest.mark.usefixtures("small_chunks")
def test_a_file_that_changes_in_between_is_not_sent(tmp_path: Path) -> None:
    path = many_rows(tmp_path / "a.csv", 60_001)
    chunks = examine(path, FileOptions()).chunks()
    next(chunks)
    with path.open("a") as file:
        file.write("2027-01-01 00:00:00,1,1\n")
    with pytest.raises(BadInput, match="has changed"):
        next(chunks)


MEASURE = """
import resource, sys
from pathlib import Path
from historian.ingest.files import FileOptions, examine
plan = examine(Path(sys.argv[1]), FileOptions())
assert sum(len(chunk.samples) for chunk in plan.chunks()) == plan.samples
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no rusage")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    block = many_rows(tmp_path / "block.csv", 100_000).read_bytes().partition(b"\n")[2]

    def peak(blocks: int) -> float:
        path = tmp_path / f"{blocks}.csv"
        with path.open("wb") as file:
            file.write(b"time,x,y\n")
            for _ in range(blocks):
                file.write(block)
        done = subprocess.run([sys.executable, "-P", "-c", MEASURE, path], capture_output=True, text=True, check=True)
        return int(done.stdout) / (1 << 10 if sys.platform != "darwin" else 1 << 20)

    small, large = peak(4), peak(24)  # 13 MB and 77 MB
    assert large < small + 40


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[float] = []
    plan: Plan = examine(many_rows(tmp_path / "a.csv", 120_000), FileOptions(), told.append)
    assert len(told) == len(plan.counts)
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)
