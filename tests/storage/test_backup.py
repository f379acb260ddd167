"""`historian db backup` and `restore`: what was acknowledged is there, and nothing else passes for a backup."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpclient
import psycopg
import pytest
from plant import stored, write
from processes import Serve, command, environment, run

from historian.embedded import EmbeddedDatabase, running_dsn
from historian.schema.errors import BadInput, Conflict
from historian.storage.backup import read_backup, take_backup


@pytest.fixture
def places(short_tmp: Path) -> Iterator[Path]:
    """A directory for databases and backups; none runs in `places / "data"` after the test."""
    path = Path(tempfile.mkdtemp(prefix="b", dir=short_tmp))
    path.chmod(0o755)
    yield path
    for data in ("data", "new"):
        if running_dsn(path / data) is not None:
            embedded = EmbeddedDatabase(path / data)
            embedded.start()
            embedded.stop()


@pytest.fixture
async def running(places: Path) -> Iterator[str]:  # type: ignore[misc]
    """The DSN of a database in `places / "data"` with two months in it, which runs in this process."""
    embedded = EmbeddedDatabase(places / "data")
    embedded.start()
    await write(embedded.dsn, range(2))
    yield embedded.dsn
    embedded.stop()


def ignored(_: object) -> None: ...


def in_new(path: Path) -> dict[str, list[tuple[object, ...]]]:
    embedded = EmbeddedDatabase(path)
    embedded.start()
    try:
        return stored(embedded.dsn)
    finally:
        embedded.stop()


def test_a_backup_under_load_has_all_that_was_acknowledged_before_it_began(places: Path, serve: Serve) -> None:
    server = serve(data_dir=places / "data")
    acknowledged: list[int] = []
    done = threading.Event()

    def produce() -> None:
        seq = 0
        while not done.is_set():
            samples = [{"tag": f"load/{n}", "ts": 1_767_225_600_000_000 + seq * 1000, "value": seq + n / 8} for n in range(50)]
            status, _ = httpclient.post(
                f"{server.url}/v1/write", {"samples": samples}, {"Historian-Producer": "load", "Historian-Seq": str(seq)}
            )
            assert status == 200
            acknowledged.append(seq)
            seq += 1

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        deadline = time.monotonic() + 60
        while len(acknowledged) < 20:
            assert producer.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        before = len(acknowledged)
        made = run("db", "backup", places / "backup", "--data-dir", places / "data")
        during = len(acknowledged)
    finally:
        done.set()
        producer.join()
    assert made.returncode == 0, made.stderr
    assert "checked" in made.stdout
    assert during > before, "nothing was written meanwhile"
    server.stop()

    restored = run("db", "restore", places / "backup", "--data-dir", places / "new")
    assert restored.returncode == 0, restored.stderr
    assert f"historian serve --data-dir {places / 'new'}" in restored.stdout
    found = in_new(places / "new")
    seqs = [row[1] for row in found["ledger"]]
    # whole batches, up to one of them, each once
    assert seqs == list(range(len(seqs)))
    assert before <= len(seqs) <= len(acknowledged)
    assert len(found["sample"]) == 50 * len(seqs)
    assert len({(row[0], row[1]) for row in found["sample"]}) == len(found["sample"])

    # and a server on it knows which batches it has, and takes those that it has not
    again = serve(data_dir=places / "new")
    for seq, replayed in ((before - 1, "true"), (len(seqs), None)):
        samples = [{"tag": f"load/{n}", "ts": 1_767_225_600_000_000 + seq * 1000, "value": seq + n / 8} for n in range(50)]
        headers = {"Historian-Producer": "load", "Historian-Seq": str(seq)}
        assert httpclient.post(f"{again.url}/v1/write", {"samples": samples}, headers) == (200, replayed)
    again.stop()


def test_every_bit_comes_back_as_root_and_as_another_user(places: Path) -> None:
    directories = [places / name for name in (["root", "nobody"] if os.geteuid() == 0 else ["me"])]
    for directory in directories:
        directory.mkdir()
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(places / "nobody", nobody.pw_uid, nobody.pw_gid)
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("backup_as.py"), *directories],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["the same"] * len(directories)


async def test_a_damaged_file_is_found_and_named(places: Path, running: str) -> None:
    take_backup(running, places / "data", places / "backup", ignored, ignored)
    (victim,) = [path for path in (places / "backup/pgdata/base").rglob("*") if path.is_file() and path.name == relation(running)]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    (places / "backup/pgdata/global/pg_control").rename(places / "kept")
    refused = run("db", "restore", places / "backup", "--data-dir", places / "new")
    assert refused.returncode == 1
    assert "is damaged" in refused.stderr
    assert f"{victim.parent.name}/{victim.name}" in refused.stderr
    assert "global/pg_control" in refused.stderr
    assert not (places / "new/pgdata").exists()


def relation(dsn: str) -> str:
    with psycopg.connect(dsn) as conn:
        conn.execute("SELECT")
        row = conn.execute("SELECT pg_relation_filenode('historian.tag'::regclass)").fetchone()
        assert row is not None
        return str(row[0])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
async def test_an_interrupted_backup_leaves_nothing_that_looks_like_one(places: Path, running: str, how: signal.Signals) -> None:
    (places / "backups").mkdir()
    process = subprocess.Popen(  # noqa: ASYNC220 - the loop has nothing to do
        command("db", "backup", places / "backups", "--data-dir", places / "data"),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: any((places / "backups").glob(".*/pgdata/base")), process)
    process.send_signal(how)
    said = process.communicate()[1]
    # what a killed one started may run to its end: it has no description all the same
    assert run("db", "backup", "--list", places / "backups").stdout.startswith("no backups in")
    for left in (places / "backups").iterdir():
        assert how == signal.SIGKILL, said
        refused = run("db", "restore", left, "--data-dir", places / "new")
        assert refused.returncode == 1
        assert "interrupted backup" in refused.stderr
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "nothing of the backup is kept" in said
    # the next one tidies up
    made = run("db", "backup", places / "backups", "--data-dir", places / "data")
    assert made.returncode == 0, made.stderr
    (one,) = (places / "backups").iterdir()
    assert read_backup(one).tags == 6


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def test_nothing_is_written_over(places: Path, running: str) -> None:
    backup = take_backup(running, places / "data", places / "backup", ignored, ignored)
    assert json.loads((places / "backup/historian-backup.json").read_text())["schema_version"] == backup.schema_version
    with pytest.raises(Conflict, match="is a backup already"):
        take_backup(running, places / "data", places / "backup", ignored, ignored)
    with pytest.raises(Conflict, match="is in the database itself"):
        take_backup(running, places / "data", places / "data/pgdata/backup", ignored, ignored)
    (places / "new").mkdir()
    (places / "new/mine").touch()
    refused = run("db", "restore", places / "backup", "--data-dir", places / "new")
    assert (refused.returncode, "has 'mine' in it" in refused.stderr) == (1, True)
    onto = run("db", "restore", places / "backup", "--data-dir", places / "data")
    assert (onto.returncode, "has a database in it" in onto.stderr) == (1, True)
    assert stored(running)["tag"]


async def test_what_is_no_backup_is_said(places: Path, running: str) -> None:
    (places / "backups").mkdir()
    made = take_backup(running, places / "data", places / "backups", ignored, ignored)
    (places / "file").touch()
    (places / "empty").mkdir()
    for path, said in (
        (places / "nowhere", "there is no"),
        (places / "file", "is a file"),
        (places / "empty", "is no backup"),
        (places / "data", "is a data directory, not a backup"),
        (places / "backups", f"name one of them, the newest is {made.path}"),
    ):
        with pytest.raises(BadInput, match=said):
            read_backup(path)
    (made.path / "historian-backup.json").write_text("{}")
    with pytest.raises(BadInput, match="cannot be read"):
        read_backup(made.path)
    shutil.rmtree(made.path)
    assert run("db", "backup", "--list", places / "backups").stdout.startswith("no backups")


def test_a_server_of_ones_own_has_tools_of_its_own(places: Path) -> None:
    for arguments in (("backup", places / "x"), ("restore", places / "x")):
        said = run("db", *arguments, "--dsn", "postgresql://u:geheim@db.example/plant")
        assert said.returncode == 1
        assert "pgBackRest" in said.stderr
        assert "docs/backup.md" in said.stderr
        assert "geheim" not in said.stderr
    nothing = run("db", "backup", places / "x", "--data-dir", places / "none")
    assert (nothing.returncode, "there is no database in" in nothing.stderr) == (1, True)
    assert not (places / "none").exists()
