"""Leases of producers: held by one, across processes, over restarts of the database."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import psycopg
import pytest

from historian.embedded import EmbeddedDatabase
from historian.ingest.leases import Leases
from historian.schema.connection import Pool
from historian.schema.errors import BadInput, Conflict, Unavailable


@asynccontextmanager
async def leases(source: Pool | str) -> AsyncIterator[Leases]:
    made = Leases(source)
    try:
        yield made
    finally:
        await made.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def end_keepers(dsn: str) -> None:
    """As a network that breaks, or an administrator."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
        await conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'historian leases' AND datname = current_database()"
        )


async def holder(pool: Pool) -> int | None:
    """The PostgreSQL process that has the lease of this test's database."""
    pid: int | None = await pool.fetchval(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    return pid


async def test_a_name_is_held_by_one_at_a_time_and_the_refusal_says_by_whom_and_since_when(database: str) -> None:
    async with leases(database) as here:
        before = time.strftime("%Y-%m-%dT%H:", time.gmtime())
        first = await here.acquire("mill", "one", "10.0.0.7")
        with pytest.raises(Conflict, match=rf"'mill' is connected already: 10\.0\.0\.7 since {before}"):
            await here.acquire("mill", "two")
        other = await here.acquire("kiln", "two")
        await first.release()
        again = await here.acquire("mill", "two")
        assert [lease.held.is_set() for lease in (first, other, again)] == [False, True, True]
        assert first.lost.is_set()
        assert len(here) == 2


async def test_a_name_is_held_across_processes_and_free_once_it_is_released(database: str) -> None:
    async with leases(database) as here, leases(database) as there:
        lease = await here.acquire("mill", "one")
        with pytest.raises(Conflict, match=r"historian leases at .* since 2\d{3}-"):
            await there.acquire("mill", "two")
        await lease.release()
        await lease.release()
        assert (await there.acquire("mill", "two")).held.is_set()


async def test_the_same_instance_takes_over_at_once_here_and_from_another_process(database: str) -> None:
    instance = str(uuid.uuid4())
    async with leases(database) as here, leases(database) as there:
        first = await here.acquire("mill", instance)
        second = await here.acquire("mill", instance)
        assert (first.lost.is_set(), second.held.is_set()) == (True, True)
        await first.release()  # of no consequence: it is the second's
        with pytest.raises(Conflict, match="connected again"):
            await first.wait_held()
        third = await there.acquire("mill", instance)
        async with asyncio.timeout(5):
            await second.lost.wait()
        assert third.held.is_set()
        await until(lambda: len(here) == 0)
        with pytest.raises(Conflict):
            await here.acquire("mill", "another")


async def test_a_lost_keeper_is_replaced_and_its_leases_are_held_again(database: str, pool: Pool) -> None:
    async with leases(database) as here, leases(database) as there:
        lease = await here.acquire("mill", "one")
        was = await holder(pool)
        await end_keepers(database)
        async with asyncio.timeout(20):
            while await holder(pool) in (was, None):
                await asyncio.sleep(0.01)
            await lease.wait_held()
        assert not lease.lost.is_set()
        with pytest.raises(Conflict):
            await there.acquire("mill", "two")


async def test_a_lease_that_another_took_while_the_keeper_was_away_is_lost(database: str) -> None:
    conn = await asyncpg.connect(database)
    async with leases(database) as here:
        lease = await here.acquire("mill", "one")
        # who waits for the lock has it in the instant in which the keeper dies
        key = await conn.fetchval("SELECT classid::int8 << 32 | objid::int8 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1")
        waiting = asyncio.create_task(conn.execute("SELECT pg_advisory_lock($1::int8)", key))
        await end_keepers(database)
        async with asyncio.timeout(10):
            await waiting
            await lease.lost.wait()
        with pytest.raises(Conflict, match="is connected already"):
            await lease.wait_held()
        await conn.close()
        assert (await here.acquire("mill", "one")).held.is_set()


async def test_a_caller_that_goes_away_leaves_no_lock_behind(database: str) -> None:
    async with leases(database) as here, leases(database) as there:
        asking = asyncio.create_task(here.acquire("mill", "one"))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(10):
            while True:
                try:
                    await there.acquire("mill", "two")
                    break
                except Conflict:
                    continue


async def test_a_pool_will_do_and_gets_its_connection_back(pool: Pool) -> None:
    async with leases(pool) as here:
        lease = await here.acquire("mill", "one")
        assert lease.held.is_set()
        assert pool.get_size() - pool.get_idle_size() == 1
    assert pool.get_size() - pool.get_idle_size() == 0
    assert await holder(pool) is None


async def test_names_are_checked_and_a_database_that_is_away_is_said_to_be() -> None:
    async with leases("postgresql://nobody@127.0.0.1:1/none") as here:
        with pytest.raises(BadInput):
            await here.acquire("", "one")
        with pytest.raises(Unavailable):
            await here.acquire("mill", "one")


async def test_leases_outlive_a_restart_of_postgresql(short_tmp: Path) -> None:
    embedded = EmbeddedDatabase(short_tmp / "leases")
    await asyncio.to_thread(embedded.start)
    try:
        async with leases(embedded.dsn) as here:
            held = [await here.acquire(f"mill {n}", "one") for n in range(20)]
            await asyncio.to_thread(embedded.stop)
            await until(lambda: not any(lease.held.is_set() for lease in held))
            await asyncio.to_thread(embedded.start)
            async with asyncio.timeout(20):
                for lease in held:
                    await lease.wait_held()
            assert len(here) == 20
    finally:
        await asyncio.to_thread(embedded.stop)
