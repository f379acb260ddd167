"""Upgrades that are killed, that wait for others, and that are printed for somebody else to run."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import psycopg
import pytest
from catalogs import catalogs
from processes import command, environment, run

from historian.schema.engine import Engine
from historian.schema.errors import SchemaError, Unavailable
from historian.schema.lock_wait import TRY_S
from historian.schema.migrate import dry_run, migrations, status, upgrade
from historian.schema.statements import split

#: steps of both engines
STEPS = range(1, min(len(migrations("plain")), len(migrations("timescale"))) + 1)

_UPGRADE = """
import sys
from historian.schema.migrate import upgrade
print("begins", flush=True)
upgrade(sys.argv[1])
"""


def upgrading(dsn: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("db", "upgrade", "--dsn", dsn), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@contextmanager
def holding(dsn: str, lock: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A session, of a running server as far as anybody can tell, that has a lock while the context is open."""
    with psycopg.connect(dsn, application_name="historian write") as conn:
        conn.execute(lock)
        yield conn
        conn.rollback()


#: every step records itself there, when its work is done
RECORD = "LOCK TABLE historian.migration IN SHARE MODE"


def wait_until_blocked(dsn: str, holder: psycopg.Connection[tuple[object, ...]]) -> int:
    """Returns the process of a migration that waits for the holder."""
    deadline = time.monotonic() + 60
    with psycopg.connect(dsn, autocommit=True) as conn:
        while time.monotonic() < deadline:
            row = conn.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'historian migrations' AND %s = ANY(pg_blocking_pids(pid))",
                [holder.info.backend_pid],
            ).fetchone()
            if row is not None:
                assert isinstance(row[0], int)
                return row[0]
            time.sleep(0.01)
    raise AssertionError("no migration waits")


def assert_as_new(dsn: str, new: str) -> None:
    assert status(dsn).pending == ()
    assert catalogs(dsn) == catalogs(new)


@pytest.mark.parametrize("step", STEPS)
def test_killed_when_its_work_is_done_and_not_recorded(empty_database: str, database_as_owner: str, step: int) -> None:
    if step > 1:
        upgrade(empty_database, to=step - 1)
    else:
        with psycopg.connect(empty_database) as conn:
            conn.execute("CREATE SCHEMA historian")
            conn.execute(
                "CREATE TABLE historian.migration (number int PRIMARY KEY, name text NOT NULL, engine text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
    process = subprocess.Popen([sys.executable, "-P", "-c", _UPGRADE, empty_database], stdout=subprocess.DEVNULL)
    with holding(empty_database, RECORD) as holder:
        wait_until_blocked(empty_database, holder)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert (status(empty_database).version or 0) == step - 1
    # what the killed one left on the server, it waits for
    upgrade(empty_database)
    assert_as_new(empty_database, database_as_owner)


def test_killed_again_and_again_at_any_moment(empty_database: str, database_as_owner: str) -> None:
    killed = 0
    for after_ms in range(0, 400, 20):
        process = subprocess.Popen([sys.executable, "-P", "-c", _UPGRADE, empty_database], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        try:
            process.wait(after_ms / 1000)
        except subprocess.TimeoutExpired:
            process.kill()
            killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
    assert killed
    upgrade(empty_database)
    assert_as_new(empty_database, database_as_owner)


def test_a_killed_one_leaves_no_session_that_holds_on_to_its_locks(empty_database: str) -> None:
    upgrade(empty_database, to=1)
    process = upgrading(empty_database)
    with holding(empty_database, RECORD) as holder:
        left = wait_until_blocked(empty_database, holder)
        process.kill()
        process.communicate()
        deadline = time.monotonic() + 30
        with psycopg.connect(empty_database, autocommit=True) as conn:
            # while the lock that it waited for is still held
            while conn.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [left]).fetchone() is not None:
                assert time.monotonic() < deadline
                time.sleep(0.05)


def test_of_two_at_once_one_waits_and_has_nothing_to_do(empty_database: str, engine: Engine) -> None:
    upgrade(empty_database, to=1)
    with holding(empty_database, RECORD) as holder:
        first = upgrading(empty_database)
        ahead = wait_until_blocked(empty_database, holder)
        second = upgrading(empty_database)
        assert second.stderr is not None
        # told whom it waits for
        assert second.stderr.readline().startswith(f"waiting for process {ahead} (historian migrations of ")
    said, wrong = first.communicate(timeout=60)
    assert first.returncode == 0, wrong
    assert f"{len(migrations(engine)) - 1} migrations applied" in said
    said, wrong = second.communicate(timeout=60)
    assert second.returncode == 0, wrong
    assert "nothing to do" in said
    assert "applying" not in said


def test_a_lock_that_is_not_let_go_is_told_and_changes_nothing(empty_database: str) -> None:
    upgrade(empty_database, to=2)
    with holding(empty_database, RECORD) as holder:
        refused = run("db", "upgrade", "--dsn", empty_database, "--lock-wait", "3")
        assert refused.returncode == 1
        who = f"process {holder.info.backend_pid} (historian write of "
        assert f"waiting for {who}" in refused.stderr
        assert f"waited 3 s for a lock held by {who}" in refused.stderr.replace("\n", " ")
        assert "run this again" in refused.stderr
        assert status(empty_database).version == 2
    again = run("db", "upgrade", "--dsn", empty_database)
    assert again.returncode == 0, again.stderr
    assert status(empty_database).pending == ()


@pytest.fixture
def add_migration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], int]:
    """Adds a file to the migrations of this installation, for this process; returns its number."""
    shutil.copytree(str(resources.files("historian.schema").joinpath("sql")), tmp_path / "sql")
    monkeypatch.setattr(resources, "files", lambda _: tmp_path)

    def add(text: str) -> int:
        number = max(int(path.name[:4]) for path in (tmp_path / "sql").glob("[0-9]*.sql")) + 1
        (tmp_path / "sql" / f"{number:04d}_new.sql").write_text(text)
        return number

    return add


def test_readers_come_through_while_a_step_waits(database: str, database_as_owner: str, add_migration: Callable[[str], int]) -> None:
    number = add_migration("ALTER TABLE historian.tag ADD COLUMN more int;")
    failures: list[Exception] = []

    def work() -> None:
        try:
            upgrade(database_as_owner)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    with holding(database_as_owner, "SELECT FROM historian.tag") as holder:
        thread.start()
        wait_until_blocked(database_as_owner, holder)
        with psycopg.connect(database, autocommit=True) as reader:
            # each of them stands behind the migration, which gives way
            for _ in range(3):
                began = time.monotonic()
                reader.execute("SELECT FROM historian.tag")
                assert time.monotonic() - began < 5 * TRY_S
        assert thread.is_alive()
    thread.join(60)
    assert not thread.is_alive()
    assert failures == []
    assert status(database_as_owner).version == number


NO_TRANSACTION = """--@no-transaction
-- a semicolon in a comment; and one in 'quotes;'
CREATE TABLE IF NOT EXISTS historian.extra (n int, t text DEFAULT ';');
VACUUM historian.tag;
CREATE OR REPLACE FUNCTION historian.extra() RETURNS int LANGUAGE plpgsql AS $body$ BEGIN RETURN 1; END $body$;
INSERT INTO historian.extra SELECT 1 WHERE NOT EXISTS (SELECT FROM historian.extra) -- the last; word
"""


def test_a_migration_without_a_transaction_is_recorded_when_all_of_it_is_done(
    empty_database: str, add_migration: Callable[[str], int]
) -> None:
    upgrade(empty_database)
    number = add_migration(NO_TRANSACTION)
    # VACUUM waits
    with (
        holding(empty_database, "LOCK TABLE historian.tag IN SHARE UPDATE EXCLUSIVE MODE"),
        pytest.raises(Unavailable, match="_new waited"),
    ):
        upgrade(empty_database, patience_s=0.1)
    assert status(empty_database).version == number - 1
    with psycopg.connect(empty_database) as conn:
        assert conn.execute("SELECT count(*) FROM historian.extra").fetchone() == (0,)
        assert conn.execute("SELECT to_regprocedure('historian.extra()')").fetchone() == (None,)
    assert upgrade(empty_database) == [f"{number:04d}_new"]
    with psycopg.connect(empty_database) as conn:
        assert conn.execute("SELECT n, t, historian.extra() FROM historian.extra").fetchall() == [(1, ";", 1)]


def test_a_migration_without_a_transaction_that_fails_is_begun_again(empty_database: str, add_migration: Callable[[str], int]) -> None:
    upgrade(empty_database)
    number = add_migration(NO_TRANSACTION)
    with psycopg.connect(empty_database) as conn:
        conn.execute("CREATE TABLE historian.extra (n int PRIMARY KEY, t text NOT NULL)")
    with pytest.raises(SchemaError, match="_new failed and is begun again the next time"):
        upgrade(empty_database)
    assert status(empty_database).version == number - 1


def as_psycopg(script: str, dsn: str) -> None:
    """Run a script for psql statement by statement."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        for statement in split(script.replace("\\set ON_ERROR_STOP on", "")):
            conn.execute(statement)


def as_psql(script: str, dsn: str) -> None:
    psql = shutil.which("psql")
    if psql is None:
        pytest.skip("there is no psql here")
    done = subprocess.run([psql, "--no-psqlrc", "--quiet", "--file", "-", dsn], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("execute", [as_psycopg, as_psql])
@pytest.mark.parametrize("version", [0, *STEPS[:-1]])
def test_what_a_dry_run_prints_does_what_an_upgrade_does(
    empty_database: str, database_as_owner: str, version: int, execute: Callable[[str, str], None]
) -> None:
    if version:
        upgrade(empty_database, to=version)
    before = status(empty_database)
    script = dry_run(empty_database)
    # looking changed nothing
    assert status(empty_database) == before
    execute(script, empty_database)
    assert_as_new(empty_database, database_as_owner)
    assert dry_run(empty_database) == ""


def test_a_script_that_was_printed_for_another_version_is_stopped_before_it_does_anything(empty_database: str) -> None:
    upgrade(empty_database, to=2)
    script = dry_run(empty_database)
    upgrade(empty_database, to=3)
    with pytest.raises(psycopg.errors.RaiseException, match="print it anew"):
        as_psycopg(script, empty_database)
    assert status(empty_database).version == 3


def test_a_script_has_the_statements_of_a_migration_without_a_transaction_outside_of_one(
    empty_database: str, add_migration: Callable[[str], int]
) -> None:
    upgrade(empty_database)
    add_migration(NO_TRANSACTION)
    as_psycopg(dry_run(empty_database), empty_database)
    assert status(empty_database).pending == ()
    with psycopg.connect(empty_database) as conn:
        assert conn.execute("SELECT n, t, historian.extra() FROM historian.extra").fetchall() == [(1, ";", 1)]


def test_a_dry_run_waits_for_no_upgrade(empty_database: str) -> None:
    upgrade(empty_database, to=2)
    with holding(empty_database, "SELECT pg_advisory_lock(hashtext('historian.migrate'))"):
        printed = run("db", "upgrade", "--dry-run", "--dsn", empty_database, timeout=30)
    assert printed.returncode == 0, printed.stderr
    assert "CREATE TABLE historian.ledger (" in printed.stdout
    assert "CREATE TABLE historian.tag (" not in printed.stdout
    assert "VALUES (4, 'ledger'" in printed.stdout
    assert status(empty_database).version == 2


def test_a_dry_run_makes_no_embedded_database(tmp_path: Path) -> None:
    printed = run("db", "init", "--dry-run", "--data-dir", tmp_path / "none")
    assert printed.returncode == 0, printed.stderr
    assert "PARTITION BY RANGE (ts)" in printed.stdout.replace("--@plain ", "")
    assert not (tmp_path / "none").exists()


def test_a_database_that_cannot_be_written_is_told(empty_database: str) -> None:
    separator = "&" if "?" in empty_database else "?"
    with pytest.raises(SchemaError, match="read-only"):
        upgrade(f"{empty_database}{separator}options=-c%20default_transaction_read_only%3Don")
