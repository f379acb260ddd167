"""`historian archive` killed at the worst moments, and as its users have it: nothing is lost, nothing is doubled, and what it leaves behind is found."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import psycopg
import pytest
from archive_plant import DAY, TODAY, Plant, steady
from processes import command, environment, run

from historian.schema import retention
from historian.schema.archive import Store
from historian.schema.connection import Pool
from historian.schema.errors import BadInput, NotFound
from historian.schema.samples import Samples

_PATIENCE_S = 60.0


async def history(pool: Pool, dsn: str) -> Plant:
    steady(dsn)
    retention.set_group(dsn, "default", archive=True, days={"raw": 3})
    plant = await Plant.make(pool, {"a/f": "float", "b/f": "float"})
    ts = np.arange(TODAY - 6 * DAY, TODAY, 60_000_000)
    for tag in plant.tags:
        value = np.round(np.random.default_rng(tag.tag_id).normal(20, 3, len(ts)), 2)
        await plant.store(Samples(np.full(len(ts), tag.tag_id, np.int32), ts, value, np.full(len(ts), 192, np.int16)))
    return plant


def waits_for_a_lock(conn: psycopg.Connection[tuple[object, ...]]) -> bool:
    found = conn.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'historian archive' AND wait_event_type = 'Lock'"
    ).fetchone()
    return found != (0,)


async def kill_when(args: list[str], condition: Callable[[], bool]) -> None:
    """Run a command, and kill it once that is so."""
    process = await asyncio.create_subprocess_exec(*command(*args), env=environment(), stdout=asyncio.subprocess.DEVNULL)
    until = time.monotonic() + _PATIENCE_S
    try:
        while not condition():
            assert process.returncode is None, "it came to its end"
            assert time.monotonic() < until, "it did not come so far"
            await asyncio.sleep(0.005)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def files(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*.parquet")}


async def test_killed_in_the_middle_nothing_is_lost_and_nothing_is_doubled(pool: Pool, database: str, tmp_path: Path) -> None:
    plant = await history(pool, database)
    archive = tmp_path / "archive"
    go = ["archive", "run", "--dsn", database, "--archive", str(archive)]
    with psycopg.connect(database) as blocker, psycopg.connect(database, autocommit=True) as observer:
        # while the file is being written
        await kill_when(go, lambda: bool(files(archive)))
        await plant.check()
        # the file is complete and the rows are deleted, but nothing of it is committed
        blocker.execute("LOCK TABLE historian.archive_part IN SHARE MODE")
        await kill_when(go, lambda: waits_for_a_lock(observer))
        blocker.rollback()
        left = files(archive)
        assert left
        await plant.check()
        # whoever writes meanwhile is not lost either
        await plant.write([(0, TODAY - 5 * DAY, -1.0, 192), (1, TODAY - 5 * DAY + 7, -2.0, 192)])

        done = run(*go, "--json")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["rows"] == sum(ts < TODAY - 3 * DAY for _, ts in plant.model)
        assert said["cleaned"] == len(left)
        await plant.check()
        listed = json.loads(run("archive", "list", "--dsn", database, "--json").stdout)
        assert {part["file"] for part in listed["files"]} == files(archive)
        assert listed["rows"] == said["rows"]
        assert run("archive", "verify", "--dsn", database).returncode == 0

        # a restore: in the transaction of some tags
        back = ["archive", "restore", "--dsn", database, "--from", np.datetime_as_string(np.datetime64(TODAY - 5 * DAY, "us"), "D")]
        blocker.execute("LOCK TABLE historian.archive_part IN SHARE MODE")
        await kill_when(back, lambda: waits_for_a_lock(observer))
        blocker.rollback()
        await plant.check()
    done = run(*back, "--match", "a/f", "--keep", "7")
    assert done.returncode == 0, done.stderr
    await plant.check()
    done = run(*back, "--json")
    assert done.returncode == 0, done.stderr
    await plant.check()
    # nothing of it is in the archive any more, and it is not archived again
    assert json.loads(run(*go, "--json").stdout)["rows"] == 0
    assert await pool.fetchval("SELECT count(*) FROM historian.sample") == len(plant.model)
    await plant.check()


async def test_the_commands_say_what_is_wrong_and_what_to_do(pool: Pool, database: str) -> None:
    await history(pool, database)
    done = run("archive", "run", "--dsn", database)
    assert (done.returncode, "give --archive" in done.stderr) == (0, True)
    done = run("archive", "restore", "--dsn", database)
    assert (done.returncode, "nothing of that is in the archive" in done.stderr) == (1, True)
    done = run("retention", "set", "fast", "--dsn", database, "--raw", "14")
    assert (done.returncode, "--match" in done.stderr) == (1, True)
    done = run("retention", "set", "fast", "--dsn", database, "--match", "a/#", "--raw", "14", "--no-archive", "--keep-1m", "90")
    assert done.returncode == 0, done.stderr
    assert "14 days" in done.stdout
    listed = json.loads(run("retention", "list", "--dsn", database, "--json").stdout)
    assert [(group["name"], group["tags"]) for group in listed["groups"]] == [("fast", 1), ("default", 1)]


def test_what_is_no_group_and_no_place_is_refused(database: str) -> None:
    for name, given in (
        ("Fast!", {}),
        ("default", {"patterns": ("a/#",)}),
        ("x", {"patterns": ("a/#/b",)}),
        ("x", {"patterns": ("a",), "days": {"raw": 1}}),
    ):
        with pytest.raises(BadInput):
            retention.set_group(database, name, **given)  # type: ignore[arg-type]
    retention.set_group(database, "x", patterns=("a/+/b.c", "ü b/#"))
    with psycopg.connect(database) as conn:
        for path, group in (
            ("a/1/b.c", "x"),
            ("a/1/bxc", "default"),
            ("a/1/2/b.c", "default"),
            ("ü b", "x"),
            ("ü b/c/d", "x"),
            ("ü bc", "default"),
        ):
            assert conn.execute("SELECT historian.retention_group_of(%s)", [path]).fetchone() == (group,), path
    retention.remove_group(database, "x")
    with pytest.raises(NotFound):
        retention.remove_group(database, "x")
    with pytest.raises(BadInput):
        Store("nosuch://bucket/x")
