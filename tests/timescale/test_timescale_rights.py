"""Rights on TimescaleDB: a server's role reads and writes, and can neither drop nor alter what it uses, chunks and rollups included."""

from __future__ import annotations

import psycopg
import pytest
from databases import SERVER_ROLE, as_server_role
from rollup_reference import Row
from timescale_samples import connected, convert, delete, insert_rows, new_tags, refresh, stored

from historian.schema.rights import Rights, grant

START = 1_767_225_600_000_000  # 2026-01-01


def test_a_server_s_role_writes_and_reads_and_can_neither_drop_nor_alter(timescale: str) -> None:
    server = as_server_role(timescale)
    # a second time it changes nothing, and nothing is missing
    assert grant(timescale, SERVER_ROLE) == Rights((), ())
    with connected(server) as conn:
        (tag,) = new_tags(conn, "p/a")
        rows = [Row(tag, START + n * 60_000_000, n / 4, 192) for n in range(100)]
        insert_rows(conn, rows)
    with connected(timescale) as conn:
        ((chunk,),) = conn.execute(
            "SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks WHERE hypertable_name = 'sample'"
        ).fetchall()
        convert(conn, chunk)
        refresh(conn)
    with connected(server) as conn:
        # late, corrected and deleted, in the chunk that the owner has converted
        assert delete(conn, [(tag, row.ts) for row in rows[:10]]) == 10
        insert_rows(conn, rows[:5])
        assert stored(conn) == [*rows[:5], *rows[10:]]
        for level in ("1m", "10m", "1h", "6h", "1d"):
            assert conn.execute(f"SELECT sum(count) FROM historian.rollups_{level}".encode()).fetchone() is not None
        for statement in (
            "DROP TABLE historian.sample",
            "TRUNCATE historian.sample",
            "ALTER TABLE historian.sample ADD x int",
            f"DROP TABLE {chunk}",
            "SELECT drop_chunks('historian.sample', now())",
            f"SELECT decompress_chunk('{chunk}')",
            "DROP MATERIALIZED VIEW historian.rollup_1m",
            "CREATE TABLE historian.mine (n int)",
            "DELETE FROM historian.migration",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(statement.encode())
        assert len(stored(conn)) == 95
