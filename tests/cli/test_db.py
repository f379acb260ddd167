"""`historian db`: on the embedded database, beside a server that runs on it, and on any other server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from processes import run

from historian.embedded import EmbeddedDatabase, running_dsn
from historian.schema.engine import Engine
from historian.schema.migrate import migrations, status


@pytest.fixture
def data_dir(short_tmp: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory for an embedded database; none runs in it before and after the test."""
    path = short_tmp / request.node.name
    yield path
    assert running_dsn(path) is None


def test_from_nothing_to_a_database(data_dir: Path) -> None:
    latest = len(migrations("plain"))
    before = run("db", "status", "--json", "--data-dir", data_dir)
    assert before.returncode == 3, before.stderr
    found = json.loads(before.stdout)
    assert (found["schema_version"], found["latest_version"], len(found["pending"])) == (None, latest, latest)
    # looking has made nothing
    assert not data_dir.exists()

    refused = run("db", "upgrade", "--data-dir", data_dir)
    assert refused.returncode == 1
    assert "run: historian db init" in refused.stderr
    assert not data_dir.exists()

    made = run("db", "init", "--data-dir", data_dir)
    assert made.returncode == 0, made.stderr
    assert f"schema version {latest}" in made.stdout

    after = run("db", "status", "--data-dir", data_dir)
    assert after.returncode == 0, after.stderr
    assert f"{latest} of {latest}" in after.stdout
    assert "plain PostgreSQL" in after.stdout

    for repeated in ("init", "upgrade"):
        again = run("db", repeated, "--data-dir", data_dir)
        assert again.returncode == 0, again.stderr
        assert "nothing to do" in again.stdout


def test_beside_a_server_that_runs_on_it(data_dir: Path) -> None:
    embedded = EmbeddedDatabase(data_dir)
    embedded.start()
    try:
        assert run("db", "status", "--data-dir", data_dir).returncode == 3
        upgraded = run("db", "init", "--data-dir", data_dir)
        assert upgraded.returncode == 0, upgraded.stderr
        assert status(embedded.dsn).pending == ()
        found = json.loads(run("db", "status", "--json", "--data-dir", data_dir).stdout)
        assert found["engine"] == "plain"
        assert found["size_bytes"] > 1_000_000
        # the command did not stop it
        assert running_dsn(data_dir) == embedded.dsn
    finally:
        embedded.stop()


def test_on_another_server(empty_database: str, engine: Engine) -> None:
    latest = len(migrations(engine))
    assert run("db", "status", "--dsn", empty_database).returncode == 3
    made = run("db", "init", env={"HISTORIAN_DSN": empty_database})
    assert made.returncode == 0, made.stderr
    shown = run("db", "status", "--json", "--dsn", empty_database)
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    assert (found["engine"], found["schema_version"], found["pending"]) == (engine, latest, [])
    assert (found["extension_version"] is not None) == (engine == "timescale")


def test_an_older_schema_is_upgraded_when_asked_and_not_by_init(empty_database: str, engine: Engine) -> None:
    with psycopg.connect(empty_database) as conn:
        conn.execute("CREATE SCHEMA historian")
        conn.execute(
            "CREATE TABLE historian.migration (number int PRIMARY KEY, name text, engine text, applied_at timestamptz DEFAULT now())"
        )
        first = migrations(engine)[0]
        if engine == "timescale":
            conn.execute("CREATE EXTENSION timescaledb")
        conn.execute(first.sql)
        conn.execute("INSERT INTO historian.migration VALUES (1, %s, %s)", [first.name, engine])
    refused = run("db", "init", "--dsn", empty_database)
    assert refused.returncode == 1
    assert "historian db upgrade" in refused.stderr
    shown = run("db", "status", "--dsn", empty_database)
    assert shown.returncode == 3
    assert "0002_samples" in shown.stdout
    upgraded = run("db", "upgrade", "--dsn", empty_database)
    assert upgraded.returncode == 0, upgraded.stderr
    assert "applying 0002_samples" in upgraded.stdout
    assert status(empty_database).pending == ()


@pytest.mark.parametrize("command", ["init", "status", "upgrade"])
def test_a_newer_schema_is_refused(database: str, database_as_owner: str, command: str) -> None:
    with psycopg.connect(database_as_owner) as conn:
        conn.execute("INSERT INTO historian.migration (number, name, engine) SELECT 999, 'future', max(engine) FROM historian.migration")
    refused = run("db", command, "--dsn", database)
    assert refused.returncode == 1
    assert "install a newer historian" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://someone:s3cret@127.0.0.1:1/plant",
        "postgresql://someone:s3cret%@127.0.0.1:1/plant",
        "host=127.0.0.1 port=1 user=someone password=s3cret",
        "postgresql://someone:s3cret@127.0.0.1:1/plant?nonsense=s3cret",
        "s3cret",
    ],
)
def test_a_password_is_never_shown(dsn: str) -> None:
    refused = run("db", "status", "--dsn", dsn)
    assert refused.returncode == 1
    assert refused.stderr.startswith("historian: ")
    assert "s3cret" not in refused.stdout + refused.stderr


def test_the_password_of_a_server_that_answers_is_not_shown_either(database: str) -> None:
    separator = "&" if "?" in database else "?"
    shown = run("db", "status", "--dsn", f"{database}{separator}password=s3cret")
    assert shown.returncode == 0, shown.stderr
    assert "s3cret" not in shown.stdout + shown.stderr


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = run("db", "init", "--data-dir", tmp_path / "file")
    assert refused.returncode == 1
    assert "--data-dir" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_help_says_the_exit_codes() -> None:
    shown = run("db", "status", "--help")
    assert shown.returncode == 0
    assert "3 it is not there or not the newest" in " ".join(shown.stdout.split())
