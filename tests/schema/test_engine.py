"""The engine is found out from the server, and what it needs is checked at the door."""

from __future__ import annotations

import psycopg
import pytest

from historian.schema import engine as engine_module
from historian.schema.engine import Engine, extension_version, prepare_engine
from historian.schema.errors import SchemaError
from historian.schema.migrate import status


def test_it_is_found_out_and_recorded(database: str, engine: Engine) -> None:
    assert status(database).engine == engine
    with psycopg.connect(database, autocommit=True) as conn:
        assert prepare_engine(conn) == engine
        assert (extension_version(conn) is not None) == (engine == "timescale")


def test_a_server_that_is_too_old_is_refused(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "OLDEST_POSTGRES", 990000)
    with psycopg.connect(empty_database, autocommit=True) as conn, pytest.raises(SchemaError, match="16 or newer is needed"):
        prepare_engine(conn)


def test_a_timescaledb_that_is_too_old_is_refused(empty_database: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    if engine != "timescale":
        pytest.skip("this server has no TimescaleDB")
    monkeypatch.setattr(engine_module, "OLDEST_TIMESCALE", (99, 0))
    with psycopg.connect(empty_database, autocommit=True) as conn, pytest.raises(SchemaError, match=r"99\.0 or newer is needed"):
        prepare_engine(conn)


def test_samples_lie_in_what_the_engine_has_for_them(database: str, engine: Engine) -> None:
    with psycopg.connect(database) as conn:
        if engine == "plain":
            assert conn.execute("SELECT relkind FROM pg_class WHERE oid = 'historian.sample'::regclass").fetchone() == ("p",)
        else:
            row = conn.execute(
                "SELECT compression_enabled FROM timescaledb_information.hypertables WHERE hypertable_schema = 'historian' AND hypertable_name = 'sample'"
            ).fetchone()
            assert row == (True,)
            row = conn.execute(
                "SELECT count(*) FROM timescaledb_information.jobs WHERE proc_schema = 'historian' AND proc_name = 'tend_chunks' AND scheduled"
            ).fetchone()
            assert row == (1,)
