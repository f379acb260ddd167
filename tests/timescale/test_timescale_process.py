"""What the tests of this folder stand on: a TimescaleDB that takes statements of any size, COPY in both directions, and clients one after the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import numpy as np
import psycopg
import pytest
from timescale_process import running


@pytest.fixture(scope="module")
def shared(empty_dump: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """DSN of a TimescaleDB for all tests of this module."""
    with running(tmp_path_factory.mktemp("timescale"), empty_dump) as process:
        yield process.dsn


def test_a_client_finds_nothing_of_the_one_before_it(shared: str) -> None:
    conn = psycopg.connect(shared, autocommit=True)
    conn.execute("SET timezone = 'Asia/Tokyo'")
    conn.execute("CREATE TEMP TABLE mine (n int)")
    conn.execute("SELECT pg_advisory_lock(7)")
    conn.execute("PREPARE mine AS SELECT 1")
    conn.execute("CREATE TABLE public.kept (n int)")
    conn.execute("BEGIN")
    conn.execute("INSERT INTO public.kept VALUES (1)")
    with pytest.raises(psycopg.errors.DivisionByZero):
        conn.execute("SELECT %s / 0", (1,))
    conn.close()
    with psycopg.connect(shared) as conn:
        assert conn.execute("SHOW timezone").fetchone() != ("Asia/Tokyo",)
        assert conn.execute("SELECT to_regclass('pg_temp.mine'), count(*) FROM public.kept").fetchone() == (None, 0)
        assert conn.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)
        assert conn.execute("SELECT count(*) FROM pg_prepared_statements WHERE name = 'mine'").fetchone() == (0,)


def test_the_next_client_waits_for_its_turn(shared: str) -> None:
    def ask() -> None:
        with psycopg.connect(shared) as conn:
            found.append(conn.execute("SELECT n FROM public.handed_on").fetchone())

    found: list[object] = []
    next_one = threading.Thread(target=ask)
    with psycopg.connect(shared) as conn:
        next_one.start()
        conn.execute("CREATE TABLE public.handed_on AS SELECT 42 AS n")
    next_one.join(60)
    assert found == [(42,)]


def test_a_statement_may_be_larger_than_what_a_socket_brings_at_once(shared: str) -> None:
    numbers = list(range(300_000))
    with psycopg.connect(shared) as conn:
        assert conn.execute("SELECT sum(n), count(*) FROM unnest(%s::int8[]) AS n", (numbers,)).fetchone() == (sum(numbers), len(numbers))
        text = "x" * 1_000_000
        # a simple query
        assert conn.execute(f"SELECT length('{text}')".encode()).fetchone() == (len(text),)


def test_copy_in_both_directions(shared: str) -> None:
    rows = [(n, f"é{n}", None if n % 3 else n / 7) for n in range(20_000)]
    with psycopg.connect(shared) as conn:
        conn.execute("CREATE TEMP TABLE t (n int8, word text, part float8)")
        for form in ("text", "binary"):
            with conn.cursor().copy(f"COPY t FROM STDIN (FORMAT {form})".encode()) as copy:
                copy.set_types(["int8", "text", "float8"])
                for row in rows:
                    copy.write_row(row)
            assert conn.execute("SELECT * FROM t ORDER BY n").fetchall() == rows
            with conn.cursor().copy(f"COPY (SELECT * FROM t ORDER BY n) TO STDOUT (FORMAT {form})".encode()) as copy:
                copy.set_types(["int8", "text", "float8"])
                assert list(copy.rows()) == rows
            conn.execute("TRUNCATE t")


def test_a_copy_that_fails_is_an_error_and_no_end(shared: str) -> None:
    with psycopg.connect(shared, autocommit=True) as conn:
        conn.execute("CREATE TABLE public.t (n int8 CHECK (n < 1000))")
        with pytest.raises(psycopg.errors.CheckViolation), conn.cursor().copy("COPY public.t FROM STDIN") as copy:
            copy.write("".join(f"{n}\n" for n in range(2000)))
        with pytest.raises(ZeroDivisionError), conn.cursor().copy("COPY public.t FROM STDIN") as copy:
            copy.write_row((1 / 0,))
        with pytest.raises(psycopg.errors.UndefinedTable), conn.cursor().copy("COPY public.absent FROM STDIN"):
            pass
        assert conn.execute("SELECT count(*) FROM public.t").fetchone() == (0,)


async def test_asyncpg_too(shared: str) -> None:
    conn = await asyncpg.connect(shared, server_settings={"application_name": "it's ours"})
    try:
        assert await conn.fetchval("SHOW application_name") == "it's ours"
        await conn.execute("CREATE TEMP TABLE t (n int8)")
        await conn.executemany("INSERT INTO t VALUES ($1)", [(n,) for n in range(100)])
        await conn.copy_records_to_table("t", records=[(n,) for n in range(100, 50_000)])
        with pytest.raises(asyncpg.DivisionByZeroError):
            await conn.fetchval("SELECT $1 / 0", 1)
        chunks: list[bytes] = []

        async def take(data: bytes) -> None:
            chunks.append(data)

        await conn.copy_from_query("SELECT n FROM t ORDER BY n", output=take, format="binary")
        row = np.dtype([("columns", ">i2"), ("size", ">i4"), ("n", ">i8")])
        # after the header, before the trailer
        assert np.frombuffer(b"".join(chunks)[19:-2], row)["n"].tolist() == list(range(50_000))
        # what a pool does with a connection that is given back
        await conn.reset()
        assert await conn.fetchval("SHOW application_name") == "it's ours"
        assert await conn.fetchval("SHOW search_path") == '"$user", public'
        statement = await conn.prepare("SELECT n FROM t WHERE n >= $1 ORDER BY n")
        async with conn.transaction():
            assert [record["n"] async for record in statement.cursor(49_000, prefetch=300)] == list(range(49_000, 50_000))
    finally:
        await conn.close()


def test_what_was_dumped_is_what_the_next_one_starts_with(empty_dump: Path, tmp_path: Path) -> None:
    with running(tmp_path, empty_dump) as one:
        with psycopg.connect(one.dsn) as conn:
            conn.execute("CREATE TABLE public.t AS SELECT generate_series(1, 10000) AS n")
        one.dump(tmp_path / "dump.tar")
    with running(tmp_path, tmp_path / "dump.tar") as other, psycopg.connect(other.dsn) as conn:
        assert conn.execute("SELECT count(*), sum(n) FROM public.t").fetchone() == (10_000, 50_005_000)
