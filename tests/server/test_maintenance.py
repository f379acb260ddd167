"""The server's upkeep of its database: partitions ahead, old content of the ledger and spent rows away, news of the catalogue."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from historian.schema.catalogue import Catalogue
from historian.schema.connection import Pool
from historian.schema.engine import Engine
from historian.server.maintenance import Maintenance
from historian.server.run import Server

_CONTENT = "INSERT INTO historian.ledger_content (xid, position, committed_at, content) VALUES ($1::text::xid8, $2, now() - $3::float8 * interval '1 second', '')"
_LEDGER = "INSERT INTO historian.ledger (producer, seq, digest, samples, committed_at) VALUES ($1, 0, '', 1, now() - $2::float8 * interval '1 second')"


async def test_old_content_goes_and_young_content_stays(pool: Pool, catalogue: Catalogue) -> None:
    await pool.execute(_CONTENT, "3", 1, 700.0)
    await pool.execute(_CONTENT, "4", 2, 500.0)
    await Maintenance(pool, catalogue, content_kept_s=600).upkeep()
    assert [row["position"] for row in await pool.fetch("SELECT position FROM historian.ledger_content")] == [2]


async def test_only_ledger_rows_that_nobody_can_ask_for_go(pool: Pool, catalogue: Catalogue) -> None:
    """A producer that named itself may send a batch again after years: its rows stay."""
    for producer, age_s in (("anonymous:1", 7200.0), ("anonymous:2", 60.0), ("anonymous", 1e8), ("anonymous;", 1e8), ("press 7", 1e8)):
        await pool.execute(_LEDGER, producer, age_s)
    await Maintenance(pool, catalogue, content_kept_s=600).upkeep()
    rows = await pool.fetch('SELECT producer FROM historian.ledger ORDER BY producer COLLATE "C"')
    assert [row["producer"] for row in rows] == ["anonymous", "anonymous:2", "anonymous;", "press 7"]


async def test_partitions_are_made_ahead(pool: Pool, catalogue: Catalogue, engine: Engine) -> None:
    if engine != "plain":
        pytest.skip("TimescaleDB makes its chunks itself")
    await Maintenance(pool, catalogue, content_kept_s=600).upkeep()
    names = {
        row["relname"]
        for row in await pool.fetch(
            "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'historian.sample'::regclass"
        )
    }
    now = datetime.now(UTC)
    following = (now.year + now.month // 12, now.month % 12 + 1)
    assert {f"sample_{now:%Y_%m}", f"sample_{following[0]}_{following[1]:02}"} <= names


async def test_a_tag_that_another_process_made_is_heard_of(server: Server, pool: Pool) -> None:
    before = server.services.catalogue.revision
    await Catalogue(pool).ensure({"other/process": "float"})
    async with asyncio.timeout(20):
        while server.services.catalogue.revision == before:
            await asyncio.sleep(0.05)
    assert server.services.catalogue.get("other/process") is not None
