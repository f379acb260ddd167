"""What the tests of this folder stand on: a TimescaleDB that takes statements of any size and errors of any kind, from clients one after the other, and never hangs."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import numpy as np
import psycopg
import pytest
from databases import as_role
from timescale_process import running


def test_a_client_finds_nothing_of_the_one_before_it(timescale: str) -> None:
    conn = psycopg.connect(timescale, autocommit=True)
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
    with psycopg.connect(timescale) as conn:
        assert conn.execute("SHOW timezone").fetchone() == ("UTC",)
        assert conn.execute("SELECT to_regclass('pg_temp.mine'), count(*) FROM public.kept").fetchone() == (None, 0)
        assert conn.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)
        assert conn.execute("SELECT count(*) FROM pg_prepared_statements WHERE name = 'mine'").fetchone() == (0,)


def test_a_client_is_who_it_says(timescale: str) -> None:
    with psycopg.connect(timescale) as conn:
        conn.execute("CREATE ROLE somebody")
    with psycopg.connect(as_role(timescale, "somebody")) as conn:
        assert conn.execute("SELECT session_user, current_user").fetchone() == ("somebody", "somebody")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("CREATE ROLE somebody_else")
    with pytest.raises(psycopg.OperationalError, match='role "nobody" does not exist'):
        psycopg.connect(as_role(timescale, "nobody"))
    with psycopg.connect(timescale) as conn:
        assert conn.execute("SELECT session_user").fetchone() == ("postgres",)


def test_a_second_client_at_once_is_refused(timescale: str) -> None:
    with psycopg.connect(timescale) as conn:
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            psycopg.connect(timescale)
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_messages_may_be_of_any_size(timescale: str) -> None:
    with psycopg.connect(timescale) as conn:
        # around the ends of its buffers, where what follows a message was lost or taken for its beginning
        for size in (*range(8_100, 8_200, 7), *range(16_300, 16_400, 7), 65_536, 1_000_000):
            text = "x" * size
            assert conn.execute("SELECT length(%s), %s", (text, text)).fetchone() == (size, text)
            assert conn.execute(f"SELECT length('{text}')".encode()).fetchone() == (size,)
        numbers = list(range(300_000))
        assert conn.execute("SELECT sum(n), count(*) FROM unnest(%s::int8[]) AS n", (numbers,)).fetchone() == (sum(numbers), len(numbers))


def test_errors_are_errors_and_no_end(timescale: str) -> None:
    with psycopg.connect(timescale, autocommit=True) as conn:
        for _ in range(20):
            with pytest.raises(psycopg.errors.SyntaxError):
                conn.execute("SELEC 1")
            with pytest.raises(psycopg.errors.UndefinedTable):
                conn.execute("SELECT * FROM absent WHERE n = %s", (1,))
            with pytest.raises(psycopg.errors.RaiseException):
                conn.execute("DO $$ BEGIN RAISE 'no'; END $$")
            with conn.transaction(), conn.pipeline():
                ends = [conn.execute("SELECT %s::int", (n,)) for n in range(30)]
            assert [end.fetchone() for end in ends] == [(n,) for n in range(30)]
            with pytest.raises(psycopg.errors.DivisionByZero), conn.pipeline():
                conn.cursor().executemany("SELECT 1 / %s", [(0,), (1,), (0,)])
            with conn.transaction():
                with pytest.raises(psycopg.errors.DivisionByZero), conn.transaction():
                    conn.execute("SELECT 1 / %s", (0,))
                assert conn.execute("SELECT 1").fetchone() == (1,)
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_copy_goes_out_but_not_in(timescale: str) -> None:
    make = "CREATE TEMP TABLE t AS SELECT n::int8, 'é' || n AS word, CASE WHEN n % 3 > 0 THEN n / 7.0::float8 END AS part FROM generate_series(1, 20000) AS n"
    with psycopg.connect(timescale) as conn:
        conn.execute(make)
        rows = conn.execute("SELECT * FROM t ORDER BY n").fetchall()
        for form in ("text", "binary"):
            with conn.cursor().copy(f"COPY (SELECT * FROM t ORDER BY n) TO STDOUT (FORMAT {form})".encode()) as copy:
                copy.set_types(["int8", "text", "float8"])
                assert list(copy.rows()) == rows
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="use INSERT"), conn.cursor().copy("COPY t FROM STDIN"):
            pass
        assert conn.execute("SELECT count(*) FROM t").fetchone() == (20_000,)


async def test_asyncpg_too(timescale: str) -> None:
    conn = await asyncpg.connect(timescale, server_settings={"application_name": "it's ours"})
    try:
        assert await conn.fetchval("SHOW application_name") == "it's ours"
        await conn.execute("CREATE TEMP TABLE t (n int8)")
        await conn.executemany("INSERT INTO t VALUES ($1)", [(n,) for n in range(500)])
        with pytest.raises(asyncpg.DivisionByZeroError):
            await conn.fetchval("SELECT $1 / 0", 1)
        chunks: list[bytes] = []

        async def take(data: bytes) -> None:
            chunks.append(data)

        await conn.copy_from_query("SELECT n FROM t ORDER BY n", output=take, format="binary")
        row = np.dtype([("columns", ">i2"), ("size", ">i4"), ("n", ">i8")])
        # after the header, before the trailer
        assert np.frombuffer(b"".join(chunks)[19:-2], row)["n"].tolist() == list(range(500))
        statement = await conn.prepare("SELECT n FROM t WHERE n >= $1 ORDER BY n")
        async with conn.transaction():
            assert [record["n"] async for record in statement.cursor(100, prefetch=50)] == list(range(100, 500))
    finally:
        await conn.close()


def test_what_was_dumped_is_what_the_next_one_starts_with_and_what_takes_too_long_ends_it(empty_dump: Path, tmp_path: Path) -> None:
    with running(tmp_path, empty_dump) as one:
        with psycopg.connect(one.dsn) as conn:
            conn.execute("CREATE TABLE public.t AS SELECT generate_series(1, 10000) AS n")
        one.dump(tmp_path / "dump.tar")
    with running(tmp_path, tmp_path / "dump.tar", deadline_s=3) as other:
        with psycopg.connect(other.dsn) as conn:
            assert conn.execute("SELECT count(*), sum(n) FROM public.t").fetchone() == (10_000, 50_005_000)
            with pytest.raises(psycopg.OperationalError, match="closed the connection"):
                conn.execute("SELECT count(*) FROM generate_series(1, 1000000000000) AS n WHERE n % 7 = 8")
        assert other.wait() == 1
        assert "more than 3 s for" in other.log
