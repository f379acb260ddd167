"""Files of a durable stream: whole ones only, each row once, and what the newest says is where to go on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from historian.client import parquet_sink
from historian.client.parquet_sink import GROUP_ROWS, ParquetSink
from historian.client.results import Labels
from historian.schema.catalogue import Tag
from historian.schema.errors import BadInput, Conflict
from historian.schema.samples import Samples, arrow_schema

LABELS = Labels(arrow_schema([Tag(1, "s/a", "float"), Tag(2, "s/text", "text")]))


def batch(first: int, rows: int) -> pa.RecordBatch:
    """Samples whose values count."""
    ts = np.arange(first, first + rows, dtype=np.int64)
    samples = Samples(np.ones(rows, np.int32), ts, ts.astype(np.float64), np.full(rows, 192, np.int16))
    return LABELS.add(samples.to_record_batch(arrow_schema(LABELS.tags)))


def values_in(directory: Path) -> list[float]:
    tables = [pq.read_table(path) for path in sorted(directory.glob("n-*.parquet"))]
    found = pa.concat_tables(tables) if tables else parquet_sink.SCHEMA.empty_table()
    assert found["row"].to_pylist() == list(range(len(found)))
    values: list[float] = found["value"].to_pylist()
    return values


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(["add", "add", "reached", "reached", "publish", "broken", "killed"]), max_size=40))
def test_whatever_is_killed_the_files_have_what_was_brought_once(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    """The stream here brings 0, 1, 2, …, and goes on from the position that it is given, as a server does."""
    directory = tmp_path_factory.mktemp("sink")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_sink, "GROUP_ROWS", 12)
        sink = ParquetSink(directory, "n")
        sent = 0
        for step in steps:
            if step == "add":
                sink.add(batch(sent, 5))
                sent += 5
            elif step == "reached":
                sink.reached(str(sent))
            elif step == "publish":
                sink.publish()
            elif step == "broken":
                sink.drop()
                sent = int(sink.position or 0)
            else:
                # the kernel lets go of the lock
                sink.close()
                sink = ParquetSink(directory, "n")
                sent = int(sink.position or 0)
        sink.reached(str(sent))
        sink.publish()
        assert values_in(directory) == list(range(sent))
        assert sink.published == str(sent)
        sink.close()
    assert not list(directory.glob(".*.partial"))


def test_more_than_fits_into_memory_before_a_position_is_in_no_file_until_then(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path, "n")
    sink.add(batch(0, 10))
    sink.reached("10")
    for start in range(0, 2 * GROUP_ROWS, GROUP_ROWS // 2):
        sink.add(batch(10 + start, GROUP_ROWS // 2))
    # what was whole is in a file, and cannot be lost with the rest
    assert (sink.published, len(values_in(tmp_path))) == ("10", 10)
    sink.drop()
    sink.add(batch(10, 3))
    sink.reached("13")
    sink.publish()
    assert values_in(tmp_path) == list(range(13))
    sink.close()


def test_a_position_without_rows_is_kept_in_a_file_without_rows(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path, "n")
    sink.reached("seam")
    sink.publish()
    sink.close()
    sink = ParquetSink(tmp_path, "n")
    assert (sink.position, values_in(tmp_path)) == ("seam", [])
    sink.publish()
    assert len(list(tmp_path.glob("*.parquet"))) == 1
    sink.close()


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    sink = ParquetSink(tmp_path, "n")
    with pytest.raises(Conflict, match="another process"):
        ParquetSink(tmp_path, "n")
    sink.close()
    path = tmp_path / "n-000000000007.parquet"
    path.write_bytes(b"no Parquet")
    with pytest.raises(BadInput, match="cannot be read"):
        ParquetSink(tmp_path, "n")
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(BadInput, match="no file of the cursor"):
        ParquetSink(tmp_path, "n")
