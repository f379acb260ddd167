"""The embedded database through the lives and deaths of its processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from owners import Owner

from historian.embedded import EmbeddedDatabase, default_data_dir, running_dsn
from historian.schema.errors import Conflict, SchemaError, Unavailable

Own = Callable[[Path], Owner]


#: for root, PostgreSQL runs as a service user; for any other user, as that user
as_each_user = pytest.mark.parametrize("user", ["root", "nobody"] if os.geteuid() == 0 else [None], indirect=True)


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str | None:
    """Who runs the embedded database: not root, unless a test is parametrized to it. None is whoever runs the tests."""
    name: str | None = getattr(request, "param", "nobody" if os.geteuid() == 0 else None)
    return name


@pytest.fixture
def place(user: str | None) -> Iterator[Path]:
    """A directory of that user's."""
    path = Path(tempfile.mkdtemp(prefix="historian-tests-"))
    path.chmod(0o755)
    if user is not None:
        shutil.chown(path, user)
    yield path
    for run in path.rglob("run"):
        # with a long path it is a link to a directory elsewhere
        shutil.rmtree(run.resolve(), ignore_errors=True)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def own(user: str | None, place: Path) -> Iterator[Own]:
    """Starts an owner of a directory in `place`, as that user."""
    owners: list[Owner] = []

    def start(directory: Path) -> Owner:
        owners.append(Owner(directory, user))
        return owners[-1]

    yield start
    for owner in owners:
        owner.close()


def execute(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        cursor = conn.execute(query)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def answers(dsn: str) -> bool:
    try:
        execute(dsn, "SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


@as_each_user
def test_it_starts_in_time_and_keeps_its_data(own: Own, place: Path) -> None:
    first = own(place / "data").started()
    execute(first.dsn, "CREATE TABLE kept AS SELECT 42 AS n")
    first.stop()
    assert not psutil.pid_exists(first.postgres_pid)
    second = own(place / "data").started()
    assert execute(second.dsn, "SELECT n FROM kept") == [(42,)]
    assert first.seconds < 10
    assert second.seconds < 3


@as_each_user
def test_postgresql_never_runs_as_root_and_only_on_its_socket(own: Own, place: Path) -> None:
    owner = own(place / "data").started()
    postgres = psutil.Process(owner.postgres_pid)
    assert postgres.uids().effective != 0
    assert [c for c in postgres.net_connections() if c.family in (socket.AF_INET, socket.AF_INET6)] == []
    assert (place / "data" / "run").stat().st_mode & 0o077 == 0
    assert (place / "data" / "pgdata").stat().st_mode & 0o077 == 0


def test_it_is_set_up_to_keep_what_it_acknowledges(own: Own, place: Path) -> None:
    owner = own(place / "data").started()
    wanted = {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "max_wal_size": "4GB",
        "jit": "off",
    }
    assert {name: execute(owner.dsn, f"SHOW {name}")[0][0] for name in wanted} == wanted
    assert execute(owner.dsn, "SELECT datlocprovider, datlocale FROM pg_database WHERE datname = current_database()") == [("b", "C.UTF-8")]


def test_settings_of_the_user_win_over_ours(own: Own, place: Path) -> None:
    own(place / "data").started().stop()
    with (place / "data" / "pgdata" / "postgresql.conf").open("a") as conf:
        conf.write("work_mem = 33MB\n")
    assert execute(own(place / "data").started().dsn, "SHOW work_mem") == [("33MB",)]


@as_each_user
def test_a_second_owner_is_told_who_has_the_directory(own: Own, place: Path) -> None:
    first = own(place / "data").started()
    said = own(place / "data").outcome()
    assert said["error"] == "Conflict"
    assert f"in use by process {first.process.pid}" in said["detail"]
    assert "--data-dir" in said["detail"]
    # and did no harm
    assert execute(first.dsn, "SELECT 1") == [(1,)]
    first.stop()
    own(place / "data").started()


@as_each_user
def test_postgresql_is_started_again_when_it_is_killed(own: Own, place: Path) -> None:
    owner = own(place / "data").started()
    execute(owner.dsn, "CREATE TABLE kept (n int)")
    acknowledged: list[int] = []

    def write() -> None:
        with psycopg.connect(owner.dsn, autocommit=True) as conn:
            for n in range(1_000_000):
                try:
                    conn.execute("INSERT INTO kept VALUES (%s)", [n])
                except psycopg.OperationalError:
                    return
                acknowledged.append(n)

    writer = threading.Thread(target=write)
    writer.start()
    wait_for(lambda: len(acknowledged) > 200, "rows are written")
    os.kill(owner.postgres_pid, signal.SIGKILL)
    killed = time.monotonic()
    writer.join(20)
    assert not writer.is_alive()
    wait_for(lambda: answers(owner.dsn), "PostgreSQL is back")
    assert time.monotonic() - killed < 10
    there = {row[0] for row in execute(owner.dsn, "SELECT n FROM kept")}
    assert there >= set(acknowledged)
    # the one that was in flight may be there too, and nothing else
    assert len(there) - len(acknowledged) in (0, 1)
    assert owner.process.poll() is None


def test_postgresql_is_started_again_and_again(own: Own, place: Path) -> None:
    owner = own(place / "data").started()
    pid = owner.postgres_pid
    for _ in range(2):
        postgres = psutil.Process(pid)
        postgres.kill()
        wait_for(lambda postgres=postgres: not postgres.is_running(), "the killed PostgreSQL is gone")  # type: ignore[misc]
        wait_for(lambda: answers(owner.dsn), "PostgreSQL is back")
        pid = int((place / "data" / "pgdata" / "postmaster.pid").read_text().splitlines()[0])
    assert owner.process.poll() is None


def test_backends_that_do_not_notice_are_no_obstacle(own: Own, place: Path) -> None:
    owner = own(place / "data").started()
    with psycopg.connect(owner.dsn, autocommit=True) as stuck:
        row = stuck.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        # stopped, it cannot see that its postmaster is gone, and it keeps the shared memory
        os.kill(row[0], signal.SIGSTOP)
        os.kill(owner.postgres_pid, signal.SIGKILL)
        wait_for(lambda: answers(owner.dsn), "PostgreSQL is back")
        assert not psutil.pid_exists(row[0])


@as_each_user
def test_a_killed_owner_leaves_postgresql_to_the_next(own: Own, place: Path) -> None:
    first = own(place / "data").started()
    execute(first.dsn, "CREATE TABLE kept AS SELECT 42 AS n")
    first.kill()
    assert running_dsn(place / "data") == first.dsn
    second = own(place / "data").started()
    assert second.postgres_pid == first.postgres_pid
    assert execute(second.dsn, "SELECT n FROM kept") == [(42,)]
    # it watches over what it took over, and stops it
    os.kill(second.postgres_pid, signal.SIGKILL)
    wait_for(lambda: answers(second.dsn), "PostgreSQL is back")
    second.stop()
    assert running_dsn(place / "data") is None


def test_owner_and_postgresql_killed(own: Own, place: Path) -> None:
    first = own(place / "data").started()
    execute(first.dsn, "CREATE TABLE kept AS SELECT 42 AS n")
    first.kill()
    os.kill(first.postgres_pid, signal.SIGKILL)
    second = own(place / "data").started()
    assert second.postgres_pid != first.postgres_pid
    assert execute(second.dsn, "SELECT n FROM kept") == [(42,)]
    assert second.seconds < 10


def test_the_process_id_of_a_dead_postgresql_given_to_another_process(own: Own, place: Path) -> None:
    """As after a reboot or in a new container, where PostgreSQL itself would refuse to start."""
    first = own(place / "data").started()
    first.kill()
    os.kill(first.postgres_pid, signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(first.postgres_pid), "PostgreSQL is gone")
    for stale in (place / "data" / "pgdata" / "postmaster.pid", place / "data" / "run" / ".s.PGSQL.5432.lock"):
        lines = stale.read_text().splitlines()
        assert lines[0] == str(first.postgres_pid)
        stale.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    assert answers(own(place / "data").started().dsn)


@pytest.mark.parametrize(
    "name",
    ["with space", "Größe µ 温度", 'it\'s "quoted", back\\slash', "percent%20and?query=1&x", "/".join(["long" * 20] * 3)],
    ids=["space", "unicode", "quotes", "percent", "long"],
)
def test_any_path_will_do(own: Own, place: Path, name: str) -> None:
    directory = place / name / "data"
    first = own(directory).started()
    execute(first.dsn, "CREATE TABLE kept AS SELECT 42 AS n")

    async def through_asyncpg() -> int:
        from historian.schema.connection import connect

        conn = await connect(first.dsn)
        try:
            n: int = await conn.fetchval("SELECT n FROM kept")
        finally:
            await conn.close()
        return n

    assert asyncio.run(through_asyncpg()) == 42
    first.stop()
    second = own(directory).started()
    assert execute(second.dsn, "SELECT n FROM kept") == [(42,)]
    # the short directory that stands in for a long one is made once
    assert second.dsn == first.dsn


def test_the_environment_of_libpq_changes_nothing(own: Own, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PGPORT": "1",
        "PGHOST": "nowhere.invalid",
        "PGDATABASE": "x",
        "PGUSER": "x",
        "PGDATA": "/",
        "LC_ALL": "xx_YY",
    }.items():
        monkeypatch.setenv(name, value)
    assert execute(own(place / "data").started().dsn, "SELECT current_user, current_database()") == [("historian", "historian")]


@as_each_user
def test_an_interrupted_creation_is_begun_again(own: Own, place: Path) -> None:
    first = own(place / "data")
    assert first.next() == {"step": "creating the database"}
    first.kill()
    assert not (place / "data" / "pgdata").exists()
    second = own(place / "data").started()
    assert execute(second.dsn, "SELECT 1") == [(1,)]
    second.stop()
    own(place / "data").started().stop()
    assert list((place / "data").glob("pgdata.initdb-*")) == []


def test_a_database_of_another_postgresql_is_refused(own: Own, place: Path) -> None:
    own(place / "data").started().stop()
    (place / "data" / "pgdata" / "PG_VERSION").write_text("17\n")
    said = own(place / "data").outcome()
    assert said["error"] == "SchemaError"
    assert "PostgreSQL 17" in said["detail"]


def test_a_broken_setting_is_told_in_postgresqls_words(own: Own, place: Path) -> None:
    own(place / "data").started().stop()
    with (place / "data" / "pgdata" / "postgresql.conf").open("a") as conf:
        conf.write("work_mem = plenty\n")
    said = own(place / "data").outcome()
    assert said["error"] == "Unavailable"
    assert "work_mem" in said["detail"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory that this user may not use")
@pytest.mark.parametrize("user", ["nobody"], indirect=True)
def test_a_directory_without_the_right_to_it(own: Own, place: Path) -> None:
    (place / "data").mkdir(mode=0o700)
    said = own(place / "data").outcome()
    assert said["error"] == "Unavailable"
    assert "no right to use" in said["detail"]


@pytest.fixture
def small_disk(place: Path) -> Iterator[Path]:
    """A file system with 400 MB, if we may make one."""
    disk = place / "disk"
    disk.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if (
        not mount
        or not umount
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=400m,mode=777", "tmpfs", disk], capture_output=True).returncode
    ):
        pytest.skip("this user may not mount a file system")
    yield disk
    # tests name this fixture before `own`, whose processes are gone by now
    subprocess.run([umount, disk], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))


def test_no_space_for_a_new_database(small_disk: Path, own: Own) -> None:
    fill(small_disk / "fill")
    said = own(small_disk / "data").outcome()
    assert said["error"] == "Unavailable"
    assert "no space left" in said["detail"]
    (small_disk / "fill").unlink()
    own(small_disk / "data").started()


def test_a_disk_that_is_full_for_a_while_loses_nothing(small_disk: Path, own: Own) -> None:
    owner = own(small_disk / "data").started()
    execute(owner.dsn, "CREATE TABLE kept (n int, padding text)")
    fill(small_disk / "fill")
    acknowledged: list[int] = []
    with psycopg.connect(owner.dsn, autocommit=True) as conn, contextlib.suppress(psycopg.Error):
        for n in range(400):
            conn.execute("INSERT INTO kept SELECT %s, repeat('x', 1000) FROM generate_series(1, 1000)", [n])
            acknowledged.append(n)
    assert len(acknowledged) < 400
    (small_disk / "fill").unlink()
    wait_for(lambda: answers(owner.dsn), "PostgreSQL is back", 60)
    rows = execute(owner.dsn, "SELECT n, count(*) FROM kept GROUP BY n ORDER BY n")
    assert rows[: len(acknowledged)] == [(n, 1000) for n in acknowledged]
    execute(owner.dsn, "INSERT INTO kept VALUES (-1, '')")


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(Unavailable, match="data directory"):
        EmbeddedDatabase(tmp_path / "data").start()


def test_files_of_somebody_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pgdata").mkdir()
    (tmp_path / "pgdata" / "letter.txt").touch()
    with pytest.raises(SchemaError, match="no database"):
        EmbeddedDatabase(tmp_path).start()
    assert (tmp_path / "pgdata" / "letter.txt").exists()
    # let go again
    with pytest.raises(SchemaError):
        EmbeddedDatabase(tmp_path).start()


def test_a_data_directory_of_postgresql_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("18\n")
    with pytest.raises(Conflict, match="--dsn"):
        EmbeddedDatabase(tmp_path).start()


async def test_cancelled_while_it_starts_it_leaves_nothing_running(short_tmp: Path) -> None:
    directory = short_tmp / "cancelled"
    loop = asyncio.get_running_loop()
    starting = asyncio.Event()

    async def serve() -> None:
        async with EmbeddedDatabase(directory).running(on_step=lambda _: loop.call_soon_threadsafe(starting.set)):
            raise AssertionError("started")

    task = asyncio.create_task(serve())
    await starting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running_dsn(directory) is None
    # and does not keep the directory
    async with EmbeddedDatabase(directory).running() as embedded:
        assert answers(embedded.dsn)
        assert running_dsn(directory) == embedded.dsn
    assert running_dsn(directory) is None


def test_the_default_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HISTORIAN_DATA_DIR", str(tmp_path))
    assert default_data_dir() == tmp_path
    monkeypatch.delenv("HISTORIAN_DATA_DIR")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_data_dir() == Path("/var/lib/historian")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_data_dir().is_relative_to(tmp_path)
