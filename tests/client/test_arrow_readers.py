"""DuckDB and polars read the client's tables where they lie: nothing is copied."""

from __future__ import annotations

import itertools

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from historian.client import AsyncClient
from historian.client.results import Labels
from historian.schema.catalogue import Tag
from historian.schema.samples import Samples, arrow_schema
from historian.server.run import Server

US = 1_767_225_600_000_000
COLUMNS = ("ts", "value", "quality", "tag_id")


@pytest.fixture
async def table(server: Server) -> pa.Table:
    async with AsyncClient(server.url) as client:
        for tag in ("a/x", "a/y"):
            await client.write({"tag": [tag] * 5000, "ts": US + np.arange(5000) * 1_000_000, "value": np.arange(5000) / 4})
        return await client.range("a/#", US, US + 86_400_000_000)


def addresses(column: pa.ChunkedArray) -> list[int]:
    return [chunk.buffers()[1].address + chunk.offset * chunk.type.bit_width // 8 for chunk in column.chunks]


@pytest.mark.parametrize("combined", [False, True])
def test_polars_has_the_very_same_memory(table: pa.Table, combined: bool) -> None:
    if combined:
        table = table.combine_chunks()
    frame = pl.from_arrow(table, rechunk=False)
    assert isinstance(frame, pl.DataFrame)
    assert frame.shape == (10_000, 5)
    for name in COLUMNS:
        theirs = [addresses(pa.chunked_array([chunk.to_arrow()]))[0] for chunk in frame[name].get_chunks()]
        assert theirs == addresses(table.column(name)), name
    assert frame.schema["ts"] == pl.Datetime("us", "UTC")
    assert frame["tag"].cast(pl.String).unique().sort().to_list() == ["a/x", "a/y"]
    assert frame["value"].sum() == 2 * sum(range(5000)) / 4


def million() -> pa.Table:
    tags = [Tag(1, "a/x", "float")]
    schema = arrow_schema(tags)
    count = 1_000_000
    samples = Samples(np.full(count, 1, np.int32), US + np.arange(count), np.arange(count) / 4, np.full(count, 192, np.int16))
    return pa.Table.from_batches(
        [Labels(schema).add(samples.slice(n, n + 100_000).to_record_batch(schema)) for n in range(0, count, 100_000)]
    )


def test_duckdb_reads_the_table_by_its_name_and_holds_none_of_it(table: pa.Table) -> None:
    samples = table
    with duckdb.connect() as db:
        # DuckDB finds the variable by its name
        rows = db.sql("SELECT tag, count(*), max(value) FROM samples WHERE quality >= 192 GROUP BY tag ORDER BY tag").fetchall()
        assert rows == [("a/x", 5000, 1249.75), ("a/y", 5000, 1249.75)]
        samples = million()
        # 26 MB, of which it may not have a quarter
        db.execute("SET memory_limit = '6MB'; SET temp_directory = ''; SET threads = 1")
        assert db.sql("SELECT count(*), max(value), sum(quality) FROM samples").fetchall() == [(1_000_000, 249_999.75, 192_000_000)]
        with pytest.raises(duckdb.OutOfMemoryException):
            db.execute("CREATE TABLE copied AS SELECT tag, ts, value + random() AS value, random() AS noise FROM samples")
    assert len(samples) == 1_000_000


async def test_more_than_memory_holds_goes_through_duckdb_batch_by_batch(server: Server, table: pa.Table) -> None:
    import asyncio

    from historian.client import Client

    def counted() -> object:
        with Client(server.url) as client, duckdb.connect() as db:
            batches = client.range_batches("a/#", US, US + 86_400_000_000)
            first = next(batches)
            reader = pa.RecordBatchReader.from_batches(first.schema, itertools.chain([first], batches))
            db.register("samples", reader)
            return db.sql("SELECT count(*), count(DISTINCT tag) FROM samples").fetchall()

    assert await asyncio.to_thread(counted) == [(10_000, 2)]
