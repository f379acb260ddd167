"""Migrations: applied once, in order, whole, whoever applies them and whatever interrupts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from urllib.parse import quote

import psycopg
import pytest
from databases import with_database

from historian.schema.engine import Engine
from historian.schema.errors import SchemaError, Unavailable
from historian.schema.migrate import migrations, require_current, status, upgrade

_UPGRADE = """
import os, signal, sys
from historian.schema.migrate import upgrade
def on_step(name):
    if name.startswith(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
print(len(upgrade(sys.argv[1], on_step=on_step)))
"""


def upgrading(dsn: str, *, die_at: str = "none") -> subprocess.Popen[str]:
    """A process that upgrades, prints how many migrations it applied, and may die before one of them."""
    return subprocess.Popen([sys.executable, "-P", "-c", _UPGRADE, dsn, die_at], stdout=subprocess.PIPE, text=True)


def tables(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as conn:
        rows = conn.execute("SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('historian') AND relkind IN ('r', 'p')")
        return {row[0] for row in rows}


def test_from_nothing_to_the_newest(empty_database: str, engine: Engine) -> None:
    before = status(empty_database)
    known = [f"{m.number:04d}_{m.name}" for m in migrations(engine)]
    assert (before.version, before.engine, list(before.pending)) == (None, None, known)
    seen: list[str] = []
    assert upgrade(empty_database, on_step=seen.append) == known
    assert seen == known
    after = status(empty_database)
    assert (after.version, after.latest, after.engine, after.pending) == (len(known), len(known), engine, ())
    assert {"tag", "snapshot", "sample", "ledger", "ledger_content"} <= tables(empty_database)
    assert require_current(empty_database) == after
    assert (after.extension_version is not None) == (engine == "timescale")
    assert int(after.server_version.split(".")[0]) >= 16


def test_looking_changes_nothing(empty_database: str) -> None:
    status(empty_database)
    with pytest.raises(SchemaError, match="historian db init"):
        require_current(empty_database)
    assert tables(empty_database) == set()


def test_a_second_time_does_nothing(database: str) -> None:
    assert upgrade(database) == []


def test_several_processes_at_once_apply_each_migration_once(empty_database: str) -> None:
    processes = [upgrading(empty_database) for _ in range(4)]
    applied = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert sorted(applied) == [0, 0, 0, status(empty_database).latest]


def test_interrupted_it_goes_on_where_it_stopped(empty_database: str) -> None:
    def interrupt(name: str) -> None:
        if name.startswith("0003"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upgrade(empty_database, on_step=interrupt)
    found = status(empty_database)
    assert found.version == 2
    with pytest.raises(SchemaError, match="historian db upgrade"):
        require_current(empty_database)
    assert upgrade(empty_database) == list(found.pending)
    assert status(empty_database).pending == ()


def test_killed_it_goes_on_where_it_stopped(empty_database: str) -> None:
    process = upgrading(empty_database, die_at="0004")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert status(empty_database).version == 3
    upgrade(empty_database)
    assert status(empty_database).pending == ()


def test_a_migration_that_fails_is_undone_whole(empty_database: str) -> None:
    def in_the_way(name: str) -> None:
        if name.startswith("0004"):
            with psycopg.connect(empty_database) as conn:
                # the second table of that migration
                conn.execute("CREATE TABLE historian.ledger_content ()")

    with pytest.raises(SchemaError, match="0004_ledger failed and was undone"):
        upgrade(empty_database, on_step=in_the_way)
    assert status(empty_database).version == 3
    assert "ledger" not in tables(empty_database)
    with psycopg.connect(empty_database) as conn:
        conn.execute("DROP TABLE historian.ledger_content")
    upgrade(empty_database)
    assert status(empty_database).pending == ()


def test_a_newer_schema_is_refused_and_left_alone(database: str, database_as_owner: str) -> None:
    newer = status(database).latest + 1
    with psycopg.connect(database_as_owner) as conn:
        conn.execute(
            "INSERT INTO historian.migration (number, name, engine) SELECT %s, 'future', max(engine) FROM historian.migration", [newer]
        )
    for refused in (status, upgrade, require_current):
        with pytest.raises(SchemaError, match=f"schema version {newer}, this program knows {newer - 1}: install a newer historian"):
            refused(database)  # type: ignore[operator]


def test_a_server_that_is_away() -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        status("postgresql://nobody@127.0.0.1:1/none")


def test_a_database_that_is_not_there(postgres: str) -> None:
    with pytest.raises(Unavailable, match="does not exist"):
        status(with_database(postgres, "historian_test_none"))


def test_a_role_without_the_right_is_told(empty_database: str) -> None:
    role = f"historian_test_reader_{os.getpid()}"
    with psycopg.connect(empty_database, autocommit=True) as conn:
        try:
            conn.execute(f"CREATE ROLE {role}")
        except psycopg.errors.InsufficientPrivilege:
            pytest.skip("this role may not make roles")
        try:
            separator = "&" if "?" in empty_database else "?"
            with pytest.raises(SchemaError, match=r"role lacks a right|cannot be created"):
                upgrade(f"{empty_database}{separator}options={quote(f'-c role={role}')}")
        finally:
            conn.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize("engine_name", ["plain", "timescale"])
def test_both_engines_have_every_number(engine_name: Engine) -> None:
    found = migrations(engine_name)
    assert [m.number for m in found] == list(range(1, len(found) + 1))
    # what is for one engine alone is in its form only
    text = "\n".join(m.sql for m in found)
    assert ("PARTITION BY RANGE (ts)" in text.replace("--@plain PARTITION", "")) == (engine_name == "plain")
    assert ("create_hypertable" in text) == (engine_name == "timescale")


def test_dates_in_the_samples_table_are_found_by_an_index(database: str) -> None:
    with psycopg.connect(database) as conn:
        rows = conn.execute("SELECT indexdef FROM pg_indexes WHERE schemaname = 'historian' AND tablename = 'sample'").fetchall()
    assert any("(tag_id, ts)" in row[0] and "UNIQUE" not in row[0] for row in rows)
