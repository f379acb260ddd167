"""What people see who come with SQL."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from historian.ingest.writer import Writer
from historian.schema.catalogue import Catalogue, TagDefinition
from historian.schema.connection import Pool
from historian.schema.ledger import Batch
from historian.schema.samples import Samples

START = 1_767_225_600_000_000  # 2026-01-01


async def write(pool: Pool, catalogue: Catalogue) -> None:
    await catalogue.define(
        [
            TagDefinition(path="a/t", unit="°C", description="Vorlauf"),
            TagDefinition(path="a/phase", kind="text"),
            TagDefinition(path="a/idle"),
        ]
    )
    t, phase = (tag.tag_id for tag in await catalogue.resolve(["a/t", "a/phase"]))
    samples = Samples(
        np.array([t, t, t, phase], np.int32),
        np.array([START, START + 1, START + 2, START], np.int64),
        np.array([20.25, np.pi, np.nan, np.nan]),
        np.array([192, 64, 0, 192], np.int16),
        pa.array([None, None, None, "heizen"], pa.string()),
    )
    await Writer(pool).write([Batch("test", 0, samples)])


async def test_samples_by_path_as_numbers(pool: Pool, catalogue: Catalogue) -> None:
    await write(pool, catalogue)
    rows = await pool.fetch("SELECT tag, ts, value, quality, text FROM historian.samples ORDER BY tag, ts")
    assert [(row["tag"], row["ts"] - START, row["quality"], row["text"]) for row in rows] == [
        ("a/phase", 0, 192, "heizen"),
        ("a/t", 0, 192, None),
        ("a/t", 1, 64, None),
        ("a/t", 2, 0, None),
    ]
    assert [row["value"] for row in rows[:3]] == [None, 20.25, np.pi]
    assert np.isnan(rows[3]["value"])


async def test_the_newest_sample_of_every_tag(pool: Pool, catalogue: Catalogue) -> None:
    await write(pool, catalogue)
    rows = await pool.fetch("SELECT tag, ts, quality, text, unit, description FROM historian.current ORDER BY tag")
    assert [(row["tag"], row["ts"] - START, row["quality"], row["text"], row["unit"], row["description"]) for row in rows] == [
        ("a/phase", 0, 192, "heizen", None, None),
        ("a/t", 2, 0, None, "°C", "Vorlauf"),
    ]


async def test_a_condition_on_the_path_reaches_the_index(pool: Pool, catalogue: Catalogue) -> None:
    """The view must not be something that reads all samples to find one tag's."""
    await write(pool, catalogue)
    async with pool.acquire() as conn, conn.transaction():
        # few rows are scanned whatever the index: ask whether it can be used
        await conn.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
        plan = await conn.fetch(
            "EXPLAIN SELECT value FROM historian.samples WHERE tag = 'a/t' AND ts >= '2026-01-01' AND ts < '2026-01-02'"
        )
    text = "\n".join(row[0] for row in plan)
    assert "tag_path_key" in text
    assert "(tag_id = t.tag_id)" in text
