"""The two storage engines behind one contract: TimescaleDB, and plain PostgreSQL with partitions by month.

Which one a database has is found out from the server when the schema is made, and recorded with it. Only this module, the migrations and the
partitions know the difference.
"""

from __future__ import annotations

from typing import Literal, LiteralString

import psycopg

from historian.schema.errors import SchemaError

Engine = Literal["timescale", "plain"]

EXTENSION: LiteralString = "CREATE EXTENSION IF NOT EXISTS timescaledb"

#: the first TimescaleDB whose columnstore, policies and direct compress we use as they are now
OLDEST_TIMESCALE = (2, 20)
#: the first PostgreSQL with the COPY and partition behaviour that we rely on
OLDEST_POSTGRES = 160000


def find_engine(conn: psycopg.Connection[tuple[object, ...]]) -> tuple[Engine, bool]:
    """The engine of a server on which no schema stands yet, and whether its extension is still to be created; changes nothing.

    Raises SchemaError, saying what to do, for a server that is too old.
    """
    if conn.info.server_version < OLDEST_POSTGRES:
        raise SchemaError(f"this server is PostgreSQL {conn.info.server_version // 10000}; 16 or newer is needed")
    available = conn.execute("SELECT default_version, installed_version FROM pg_available_extensions WHERE name = 'timescaledb'").fetchone()
    if available is None:
        return "plain", False
    version = str(available[1] or available[0])
    if tuple(int(part) for part in version.split("-")[0].split(".")[:2]) < OLDEST_TIMESCALE:
        raise SchemaError(
            f"TimescaleDB {version} is too old; {'.'.join(map(str, OLDEST_TIMESCALE))} or newer is needed: ALTER EXTENSION timescaledb UPDATE"
        )
    return "timescale", available[1] is None


def prepare_engine(conn: psycopg.Connection[tuple[object, ...]]) -> Engine:
    """Find the engine of a server on which no schema stands yet, and create TimescaleDB's extension where it is available.

    Raises SchemaError, saying what to do, for a server that is too old or whose TimescaleDB cannot be loaded.
    """
    engine, missing = find_engine(conn)
    if missing:
        try:
            conn.execute(EXTENSION)
        except psycopg.Error as error:
            detail = str(error).strip().splitlines()[0]
            raise SchemaError(
                f"this server has TimescaleDB, but it cannot be created in the database: {detail}. "
                "Put timescaledb into shared_preload_libraries and restart the server, or let a superuser run: CREATE EXTENSION timescaledb"
            ) from error
    if engine == "plain":
        return engine
    row = conn.execute("SELECT current_setting('timescaledb.license', true)").fetchone()
    if row is not None and row[0] not in (None, "timescale"):
        raise SchemaError(
            f"TimescaleDB runs under the licence {row[0]!r}, which has no columnstore; set timescaledb.license = 'timescale' on the server"
        )
    return engine


def extension_version(conn: psycopg.Connection[tuple[object, ...]]) -> str | None:
    """The version of TimescaleDB in this database, or None."""
    row = conn.execute("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
    return str(row[0]) if row else None
