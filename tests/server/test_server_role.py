"""A server whose role can neither drop, alter, truncate nor create: it does all that a server does.

The whole suite runs so with HISTORIAN_TEST_RESTRICTED=1; this is the part that every run has.
"""

from __future__ import annotations

import asyncio

import asyncpg
import numpy as np
import pandas as pd
import psycopg
import pytest
from databases import as_server_role

from historian.client import AsyncClient
from historian.schema.connection import open_pool
from historian.schema.engine import Engine
from historian.schema.migrate import upgrade
from historian.server.maintenance import Maintenance
from historian.server.run import serving
from historian.settings import Settings


def frame(start: str, seconds: int, value: float, tags: int = 3) -> pd.DataFrame:
    """A value a second of each tag."""
    ts = pd.date_range(start, periods=seconds, freq="s", tz="UTC")
    return pd.DataFrame({"tag": np.repeat([f"mill/{n}" for n in range(tags)], seconds), "ts": np.tile(ts, tags), "value": value})


async def test_it_writes_reads_streams_and_keeps_house(empty_database: str, engine: Engine) -> None:
    upgrade(empty_database)
    dsn = as_server_role(empty_database)
    async with serving(dsn, Settings(port=0)) as server, AsyncClient(server.url) as client:
        await client.define([{"path": "mill/0", "unit": "°C"}, {"path": "mill/text", "kind": "text"}])
        # bulk, straight into the columnstore where there is one: twice, so that the second finds the chunk as the first left it
        for start in ("2026-03-02T00:00:00", "2026-03-02T12:00:00"):
            assert (await client.write(frame(start, 20_000, 1.5))).samples == 60_000
        # months and chunks that nobody has made ahead, far past and far future
        for start in ("1970-01-31T23:59:58", "2031-01-31T23:59:58"):
            await client.write(frame(start, 4, 2.5))
        if engine == "timescale":
            with psycopg.connect(empty_database) as owner:
                owner.execute("SELECT compress_chunk(c, if_not_compressed => true) FROM show_chunks('historian.sample') c")
        # corrections, late and out of order, into what was converted; and again, which counts once
        for _ in range(2):
            await client.write(frame("2026-03-02T11:59:50", 20, 9.5), producer="lab", seq=1)
        await client.write(
            pd.DataFrame({"tag": ["mill/text"], "ts": [pd.Timestamp("2026-03-02", tz="UTC")], "text": ["läuft"]}).rename(
                columns={"text": "value"}
            )
        )
        async with client.ingest("mill") as ingest:
            await ingest.write(frame("2026-03-03T00:00:00", 100, 3.5))
        assert await client.committed("mill") == [(0, 0)]

        found = await client.range("mill/1", "1970-01-01", "2099-01-01")
        values = found.column("value").to_pandas()
        assert values.value_counts().to_dict() == {1.5: 40_000 - 10, 9.5: 20, 2.5: 8, 3.5: 100}
        assert (await client.snapshot("mill/#")).num_rows == 4

        await Maintenance(server.services.writer._pool, server.services.catalogue, content_kept_s=0).upkeep()
    pool = await open_pool(dsn, size=1)
    assert await pool.fetchval("SELECT count(*) FROM historian.ledger_content") == 0
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await pool.execute("DROP TABLE historian.sample")
    pool.terminate()


async def test_two_servers_of_it_hear_of_each_other(empty_database: str) -> None:
    """The doorbell, the sweep and the leases."""
    upgrade(empty_database)
    dsn = as_server_role(empty_database)
    async with (
        serving(dsn, Settings(port=0)) as one,
        serving(dsn, Settings(port=0)) as other,
        AsyncClient(one.url) as writes,
        AsyncClient(other.url) as reads,
        writes.ingest("mill") as ingest,
    ):
        await ingest.write(frame("2026-03-03T00:00:00", 10, 3.5))
        await ingest.flush()
        async with asyncio.timeout(30):
            while not (await reads.snapshot("mill/#")).num_rows:
                await asyncio.sleep(0.05)
        async with asyncio.timeout(30):
            while not other.services.sweep.found:
                await asyncio.sleep(0.05)
