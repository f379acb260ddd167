"""Connections: integers for timestamps, and our errors for the driver's."""

from __future__ import annotations

import asyncio
import io

import asyncpg
import psycopg
import pytest
from databases import with_database

from historian.schema import connection
from historian.schema.connection import Pool, connect, open_pool, translated
from historian.schema.errors import HistorianError, SchemaError, Unavailable


async def test_timestamps_are_microseconds(pool: Pool) -> None:
    row = await pool.fetchrow("SELECT '2026-01-01T00:00:00.000001Z'::timestamptz AS a, '1969-12-31T23:59:59Z'::timestamptz AS b")
    assert (row["a"], row["b"]) == (1_767_225_600_000_001, -1_000_000)
    assert await pool.fetchval("SELECT $1::timestamptz::text", -1_000_000) == "1969-12-31 23:59:59+00"
    assert await pool.fetchval("SELECT $1::timestamptz[]", [0, 1]) == [0, 1]


async def test_a_server_that_is_away() -> None:
    with pytest.raises(Unavailable, match="away"):
        await open_pool("postgresql://nobody@127.0.0.1:1/none", size=1)


async def test_a_database_that_is_not_there(postgres: str) -> None:
    with pytest.raises(Unavailable, match="refuses"):
        await connect(with_database(postgres, "historian_test_none"))


async def test_a_schema_that_is_not_there(empty_database: str) -> None:
    conn = await connect(empty_database)
    try:
        with pytest.raises(SchemaError, match="historian db upgrade"), translated():
            await conn.fetch("SELECT * FROM historian.tag")
    finally:
        await conn.close()


async def test_a_connection_cut_by_the_server(database: str, pool: Pool) -> None:
    conn = await connect(database)
    pid = await conn.fetchval("SELECT pg_backend_pid()")
    await pool.execute("SELECT pg_terminate_backend($1, 5000)", pid)
    with pytest.raises(Unavailable), translated():
        await conn.fetchval("SELECT 1")
    with pytest.raises(Unavailable), translated():
        await conn.fetchval("SELECT 1")


@pytest.mark.parametrize("turns", range(5))
async def test_a_connection_that_the_server_ends_between_two_operations_of_a_transaction(database: str, turns: int) -> None:
    stateless = await open_pool(database, size=1, stateless=True)

    async def ended_by_the_server() -> None:
        async with stateless.acquire() as conn, conn.transaction():
            pid = await conn.fetchval("SELECT pg_backend_pid()")
            # without a turn of the event loop: what the server says waits in the socket, and is read in the turns that follow
            with psycopg.connect(database) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            for _ in range(turns):
                await asyncio.sleep(0)
            await conn.copy_to_table("snapshot", schema_name="historian", source=io.BytesIO(b""), format="binary")

    try:
        with pytest.raises(Unavailable), translated():
            await ended_by_the_server()
        assert await stateless.fetchval("SELECT 1") == 1
    finally:
        stateless.terminate()


async def test_a_query_beyond_its_time_limit(database: str) -> None:
    limited = await open_pool(database, size=1, statement_timeout_s=0.05)
    try:
        with pytest.raises(Unavailable, match="time limit"), translated():
            await limited.fetchval("SELECT pg_sleep(10)")
    finally:
        await limited.close()


async def test_our_own_errors_and_faults_of_ours_pass(pool: Pool) -> None:
    error = HistorianError("as it is")
    with pytest.raises(HistorianError) as caught, translated():
        raise error
    assert caught.value is error
    with pytest.raises(asyncpg.PostgresSyntaxError), translated():
        await pool.fetch("SELEKT 1")


async def test_a_cancelled_statement_that_does_not_end_takes_its_connection_with_it(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_CANCELLED_S", 0.1)
    pool = await open_pool(database, size=1)
    loop = asyncio.get_running_loop()
    try:
        async with pool.acquire() as conn:
            # as asyncpg (0.32) has it where the answer came in the same turn: nobody completes the second one
            of_driver = conn._con
            await of_driver._cancel(loop.create_future(), loop.create_future())
            assert of_driver.is_closed()
        assert await pool.fetchval("SELECT 1") == 1
    finally:
        pool.terminate()
