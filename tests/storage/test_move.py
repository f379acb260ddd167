"""`historian db move`: the same samples on another server, whatever happens on the way."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpclient
import psycopg
import pytest
from databases import drop_database, with_database
from plant import KINDS, MONTH, START, month, stored, write
from processes import Serve, command, environment, run
from psycopg import sql

from historian.embedded import EmbeddedDatabase
from historian.ingest.writer import Writer
from historian.schema.connection import open_pool
from historian.schema.errors import Conflict, Unavailable
from historian.schema.ledger import Batch
from historian.storage import move_tables
from historian.storage.move import Database, Moved, move
from historian.storage.move_target import Mismatch

MONTHS = 14


@pytest.fixture
def data_dir(short_tmp: Path) -> Iterator[Path]:
    """A directory for an embedded database, which is stopped after the test if a killed command left it running."""
    path = Path(tempfile.mkdtemp(prefix="m", dir=short_tmp))
    yield path
    embedded = EmbeddedDatabase(path)
    embedded.start()
    embedded.stop()


@pytest.fixture
def other_database(postgres: str) -> Iterator[str]:
    """One more empty database on the same server."""
    name = f"historian_test_{os.getpid()}_other"
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield with_database(postgres, name)
    drop_database(postgres, name)


class Silent:
    """Shows nothing; calls `on_phase` when a phase begins."""

    def __init__(self, on_phase: Callable[[str], None] = lambda name: None) -> None:
        self._on_phase = on_phase
        self.notes: list[str] = []

    def phase(self, name: str, total: int, done: int = 0) -> None:
        self._on_phase(name)

    def advance(self, done: int) -> None: ...

    def fraction(self, done: float) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)


async def moved(source: str, target: str, report: Silent | None = None) -> Moved:
    return await move(Database(source, "the source"), Database(target, "the target"), report or Silent())


def fill(data_dir: Path, numbers: range, **how: int) -> dict[str, list[tuple[object, ...]]]:
    """An embedded database with these months in it, stopped again. Returns what is stored."""
    embedded = EmbeddedDatabase(data_dir)
    embedded.start()
    try:
        asyncio.run(write(embedded.dsn, numbers, **how))
        return stored(embedded.dsn)
    finally:
        embedded.stop()


def test_every_table_of_the_schema_is_known_to_the_move(database: str) -> None:
    with psycopg.connect(database) as conn:
        tables = {
            row[0]
            for row in conn.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = 'historian'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"
            )
        }
        assert tables - move_tables.known() == set(), "say in move_tables.py what a move does with them"
        for copied in (*move_tables.WHOLE, move_tables.LEDGER):
            columns = {
                row[0]
                for row in conn.execute(
                    "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
                    [f"historian.{copied.name}"],
                )
            }
            # a transaction id means something in its own database only
            assert columns - {"xid"} == set(copied.columns)
            assert len(copied.hashed) == len(copied.columns)
        sequences = {
            row[0] for row in conn.execute("SELECT relname FROM pg_class WHERE relnamespace = 'historian'::regnamespace AND relkind = 'S'")
        }
        assert {f"historian.{name}" for name in sequences if not name.startswith(("rollup_", "archive_"))} == set(move_tables.SEQUENCES)


def test_an_embedded_database_moves_with_everything_in_it(data_dir: Path, empty_database: str) -> None:
    before = fill(data_dir, range(MONTHS))
    done = run("db", "move", "--data-dir", data_dir, "--to", empty_database)
    assert done.returncode == 0, done.stderr
    assert f"moved {len(before['sample']):,} samples of {len(KINDS)} tags and {MONTHS + 1} batches" in done.stdout
    assert "checksums are the same" in done.stdout
    assert stored(empty_database) == before
    with psycopg.connect(empty_database) as conn:
        # what comes next is numbered behind what came along
        assert conn.execute("SELECT nextval('historian.tag_tag_id_seq') > max(tag_id) FROM historian.tag").fetchone() == (True,)
        assert conn.execute("SELECT sum(count) FROM historian.rollup_1d").fetchone() == (len(before["sample"]),)
        assert conn.execute("SELECT to_regprocedure('historian.move_gate()')").fetchone() == (None,)

    again = run("db", "move", "--data-dir", data_dir, "--to", empty_database)
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout
    assert stored(empty_database) == before


def test_ctrl_c_says_that_the_same_command_goes_on(data_dir: Path, empty_database: str) -> None:
    before = fill(data_dir, range(MONTHS))
    process = subprocess.Popen(
        command("db", "move", "--data-dir", data_dir, "--to", empty_database),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: slices_in(empty_database) >= 2, process)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 130, said
    assert "the same command goes on" in said
    assert "Traceback" not in said
    left = run("db", "move", "--data-dir", data_dir, "--to", empty_database)
    assert left.returncode == 0, left.stderr
    assert "of them earlier" in left.stdout
    assert stored(empty_database) == before


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_move_that_is_killed_goes_on_and_doubles_nothing(data_dir: Path, empty_database: str, seed: int) -> None:
    before = fill(data_dir, range(MONTHS), seed=seed)
    rng = random.Random(seed)
    for slices in sorted(rng.sample(range(1, MONTHS), 3)):
        process = subprocess.Popen(
            command("db", "move", "--data-dir", data_dir, "--to", empty_database),
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            wait_until(lambda n=slices: slices_in(empty_database) >= n, process)
            time.sleep(rng.random() * 0.01)  # somewhere in the next one
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
    left = run("db", "move", "--data-dir", data_dir, "--to", empty_database)
    assert left.returncode == 0, left.stderr
    assert stored(empty_database) == before


def slices_in(dsn: str) -> int:
    with psycopg.connect(dsn) as conn:
        if conn.execute("SELECT to_regclass('historian.move_slice')").fetchone() == (None,):
            return 0
        row = conn.execute("SELECT count(*) FROM historian.move_slice").fetchone()
        assert row is not None
        return int(row[0])


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_server_on_the_target_serves_the_same_and_knows_what_was_sent(
    data_dir: Path, empty_database: str, serve: Serve, database: str
) -> None:
    fill(data_dir, range(2))
    at = [("tag", path) for path in KINDS] + [("start", "1970-01-01"), ("end", "2100-01-01"), ("mode", "raw")]
    sent = {"samples": [{"tag": "plant/decimal", "ts": "2025-01-01T00:00:00Z", "value": 7.25}]}
    headers = {"Historian-Producer": "line 1", "Historian-Seq": "5"}
    answers = []
    for where in ({"data_dir": data_dir}, {"dsn": empty_database}):
        if "dsn" in where:
            done = run("db", "move", "--data-dir", data_dir, "--to", empty_database)
            assert done.returncode == 0, done.stderr
        server = serve(**where)  # type: ignore[arg-type]
        status, replayed = httpclient.post(f"{server.url}/v1/write", sent, headers)
        assert (status, replayed) == (200, "true" if "dsn" in where else None)
        answers.append(httpclient.get(f"{server.url}/v1/range", at, accept="application/vnd.apache.arrow.stream"))
        answers.append(httpclient.get(f"{server.url}/v1/snapshot", [], accept="application/json"))
        server.stop()
    assert answers[:2] == answers[2:]
    assert len(answers[0]) > 10_000


async def test_a_move_between_two_databases_of_a_server(database: str, other_database: str) -> None:
    await write(database, range(3))
    result = await moved(database, other_database)
    assert (result.samples, result.before, result.batches) == (3 * 40 * len(KINDS) + 2, 0, 4)
    assert stored(other_database) == stored(database)


async def test_what_was_written_to_the_source_between_two_runs_comes_along(database: str, other_database: str) -> None:
    await write(database, range(4))

    class Interrupted(Exception): ...

    def interrupt(name: str) -> None:
        if name == "Verifying":
            raise Interrupted

    with pytest.raises(Interrupted):
        await moved(database, other_database, Silent(interrupt))
    # into months that were moved already, and behind; and some is gone
    await write(database, range(2, 6), seed=2, producer="late")
    with psycopg.connect(database) as conn:
        conn.execute("DELETE FROM historian.sample WHERE ts >= %s AND ts < %s", [at(0), at(1)])
    report = Silent()
    result = await moved(database, other_database, report)
    assert result.before
    assert "changed in the source" in report.notes[0]
    assert stored(other_database) == stored(database)


def at(number: int) -> object:
    import datetime

    return datetime.datetime.fromtimestamp((START + number * MONTH) / 1e6, datetime.UTC)


@pytest.mark.parametrize(
    "late",
    [
        "INSERT INTO historian.ledger (producer, seq, digest, samples) VALUES ('late', 1, 'x', 1)",
        "INSERT INTO historian.command (tag, value, client, requested_at, outcome) VALUES ('a', '1.50', 'x', now(), 'refused')",
    ],
    ids=["batch", "command"],
)
async def test_a_source_that_is_written_to_is_found_out(database: str, other_database: str, late: str) -> None:
    await write(database, range(2))

    def meanwhile(name: str) -> None:
        if name == "Moving":
            with psycopg.connect(database) as conn:
                conn.execute(late)

    with pytest.raises(Conflict, match="written to while it was moved"):
        await moved(database, other_database, Silent(meanwhile))
    await moved(database, other_database)
    assert stored(other_database) == stored(database)
    commands = "SELECT command_id, tag, value::text, outcome FROM historian.command"
    with psycopg.connect(database) as source, psycopg.connect(other_database) as target:
        assert target.execute(commands).fetchall() == source.execute(commands).fetchall()


async def test_nobody_else_writes_into_a_target_before_the_move_is_done(database: str, other_database: str) -> None:
    await write(database, range(2))
    refusals: list[str] = []

    async def write_to_target() -> None:
        pool = await open_pool(other_database, size=2, name="historian tests")
        try:
            with pytest.raises(Unavailable, match="a move into this database is not finished") as refused:
                await Writer(pool).write([Batch("somebody", 1, month(1, 1, [42], 1))])
            refusals.append(str(refused.value))
        finally:
            pool.terminate()

    def meanwhile(name: str) -> None:
        if name == "Verifying":
            # in a loop of its own: the move stands until the answer is there
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, write_to_target()).result()

    await moved(database, other_database, Silent(meanwhile))
    assert len(refusals) == 1
    assert stored(other_database) == stored(database)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM historian.sample WHERE (tag_id, ts) = (SELECT tag_id, ts FROM historian.sample WHERE ts > '2024-02-15' LIMIT 1)",
        "UPDATE historian.sample SET quality = 191 WHERE (tag_id, ts) = (SELECT tag_id, ts FROM historian.sample WHERE ts > '2024-02-15' LIMIT 1)",
        "UPDATE historian.sample SET value = 0.0 WHERE value = 0.0 AND float8send(value) = float8send('-0.0')",
    ],
)
async def test_a_difference_is_found_named_and_mended_by_the_next_run(database: str, other_database: str, damage: str) -> None:
    await write(database, range(3))
    with psycopg.connect(database) as conn:
        assert (
            conn.execute("SELECT FROM historian.sample WHERE float8send(value) = float8send('-0.0') AND ts > '2024-01-01'").fetchone()
            is not None
        )

    def harm(name: str) -> None:
        if name == "Verifying":
            with psycopg.connect(other_database) as conn:
                assert conn.execute(damage).rowcount

    with pytest.raises(Mismatch, match=r"the slice \[(1970|2024)-0.*run the same command"):
        await moved(database, other_database, Silent(harm))
    for _ in range(5):
        # a run for each slice that is not as it should be
        try:
            await moved(database, other_database)
            break
        except Mismatch:
            continue
    assert stored(other_database) == stored(database)


async def test_samples_of_another_origin_are_found(database: str, other_database: str) -> None:
    await write(database, range(2))

    def harm(name: str) -> None:
        if name == "Verifying":
            with psycopg.connect(other_database) as conn:
                conn.execute(
                    "INSERT INTO historian.sample (tag_id, quality, ts, mantissa) "
                    "SELECT 42, 192, max(ts) + interval '1 hour', 1 FROM historian.sample WHERE ts < '2099-01-01'"
                )

    with pytest.raises(Mismatch, match=r"1 samples after 2024-.* that are not in the source"):
        await moved(database, other_database, Silent(harm))


async def test_a_target_that_holds_anything_else_is_refused_and_left_alone(database: str, other_database: str) -> None:
    await write(database, range(1))
    await write(other_database, range(1), seed=3)
    before = stored(other_database)
    with pytest.raises(Conflict, match="has 6 tags of its own already"):
        await moved(database, other_database)
    assert stored(other_database) == before
    with psycopg.connect(other_database) as conn:
        assert conn.execute("SELECT to_regclass('historian.move')").fetchone() == (None,)


async def test_a_target_of_another_move_and_the_source_itself_are_refused(database: str, other_database: str) -> None:
    await write(database, range(1))
    await moved(database, other_database)
    with pytest.raises(Conflict, match="are the same database"):
        await moved(other_database, other_database)
    with psycopg.connect(other_database) as conn:
        conn.execute("UPDATE historian.move SET source = 'another'")
    with pytest.raises(Conflict, match="a move from another database, the source, into the target was made"):
        await moved(database, other_database)


def test_a_source_in_use_is_refused(data_dir: Path, empty_database: str) -> None:
    fill(data_dir, range(1))
    embedded = EmbeddedDatabase(data_dir)
    embedded.start()
    try:
        refused = run("db", "move", "--data-dir", data_dir, "--to", empty_database)
    finally:
        embedded.stop()
    assert refused.returncode == 1
    assert "stop it first" in refused.stderr
    with psycopg.connect(empty_database) as conn:
        assert conn.execute("SELECT to_regclass('historian.sample')").fetchone() == (None,)


def test_what_cannot_be_moved_is_said_without_secrets(short_tmp: Path, tmp_path: Path) -> None:
    nothing = run("db", "move", "--data-dir", tmp_path / "none", "--to", "postgresql://u:geheim@127.0.0.1:1/x")
    assert (nothing.returncode, "there is no database in" in nothing.stderr) == (1, True)
    unread = run("db", "move", "--data-dir", tmp_path, "--to", "geheim")
    assert (unread.returncode, "--to is not of the form" in unread.stderr) == (1, True)
    away = run("db", "move", "--dsn", "postgresql://u:geheim@127.0.0.1:1/x", "--to", "postgresql://u:geheim@127.0.0.1:1/y")
    assert (away.returncode, "cannot be reached" in away.stderr) == (1, True)
    for said in (nothing, unread, away):
        assert "geheim" not in said.stdout + said.stderr
        assert "Traceback" not in said.stderr
