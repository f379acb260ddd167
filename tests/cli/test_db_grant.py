"""`historian db grant`: what it says, and what it refuses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from databases import as_role, make_role
from processes import Serve, run
from psycopg import sql

from historian.embedded import EmbeddedDatabase
from historian.schema.migrate import upgrade


@pytest.fixture
def role(postgres: str) -> Iterator[str]:
    """A role of this test's own. To be asked for before databases."""
    name = f"historian_test_grant_{os.getpid()}"
    make_role(postgres, name)
    yield name
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


def test_a_server_runs_with_it(role: str, empty_database: str, serve: Serve) -> None:
    upgrade(empty_database)
    restricted = as_role(empty_database, role)
    before = run("db", "status", "--dsn", restricted)
    assert before.returncode == 1
    assert "let its owner run: historian db grant" in before.stderr

    for _ in range(2):
        granted = run("db", "grant", role, "--dsn", empty_database)
        assert granted.returncode == 0, granted.stderr
        assert f"role {role} can read and write all data in " in granted.stdout
        assert "neither drop, alter, truncate nor create" in granted.stdout
        assert granted.stderr == ""

    server = serve(dsn=restricted)
    stored = run("tags", "set", "a/b", "--unit", "°C", "--url", server.url)
    assert stored.returncode == 0, stored.stderr
    assert server.stop() == 0
    assert run("db", "status", "--dsn", restricted).returncode == 0


def test_a_reader(role: str, empty_database: str) -> None:
    upgrade(empty_database)
    granted = run("db", "grant", role, "--read-only", "--dsn", empty_database)
    assert granted.returncode == 0, granted.stderr
    assert f"role {role} can read all data in " in granted.stdout
    with psycopg.connect(as_role(empty_database, role)) as conn:
        assert conn.execute("SELECT count(*) FROM historian.samples").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("DELETE FROM historian.tag")


def test_rights_beyond_ours_are_told(role: str, empty_database: str) -> None:
    upgrade(empty_database)
    with psycopg.connect(empty_database) as conn:
        conn.execute("GRANT TRUNCATE ON historian.sample TO PUBLIC")
    granted = run("db", "grant", role, "--dsn", empty_database)
    assert granted.returncode == 0, granted.stderr
    assert "warning: it also has TRUNCATE on historian.sample, through PUBLIC or a role that it is a member of" in granted.stderr


def test_what_would_protect_nothing_is_refused(role: str, empty_database: str) -> None:
    upgrade(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as conn:
        superuser = conn.info.user
    refused = run("db", "grant", superuser, "--dsn", empty_database)
    assert refused.returncode == 1
    assert "protects nothing" in refused.stderr
    unknown = run("db", "grant", "nobody_of_this_name", "--dsn", empty_database)
    assert unknown.returncode == 1
    assert "CREATE ROLE nobody_of_this_name LOGIN" in unknown.stderr


def test_in_an_embedded_database(short_tmp: Path) -> None:
    data_dir = short_tmp / "granted"
    assert run("db", "init", "--data-dir", data_dir).returncode == 0
    embedded = EmbeddedDatabase(data_dir)
    embedded.start()
    try:
        make_role(embedded.dsn, "analyst")
        granted = run("db", "grant", "analyst", "--read-only", "--data-dir", data_dir)
        assert granted.returncode == 0, granted.stderr
        with psycopg.connect(as_role(embedded.dsn, "analyst")) as conn:
            assert conn.execute("SELECT count(*) FROM historian.current").fetchone() == (0,)
    finally:
        embedded.stop()


def test_help_has_examples() -> None:
    shown = run("db", "grant", "--help")
    assert shown.returncode == 0
    assert "historian db grant analyst --read-only --dsn" in " ".join(shown.stdout.split())
