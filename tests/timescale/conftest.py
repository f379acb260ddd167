"""Fixtures: databases on a real TimescaleDB that needs no server and no installation but npm's, compiled to WebAssembly.

Each is a process with a database of its own, in memory, and serves one client at a time: close a connection before the next one is opened, and give a pool the size 1.
Its background workers do not exist: policies stand as they should, and run when a test says `CALL run_job(…)`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from timescale_process import running

from historian.schema.connection import Pool, open_pool
from historian.schema.migrate import upgrade


@pytest.fixture(scope="session")
def empty_dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster without anything in it: to start with it takes a fifth of the time that making one takes."""
    directory = tmp_path_factory.mktemp("timescale-empty")
    with running(directory) as process:
        process.dump(directory / "dump.tar")
    return directory / "dump.tar"


@pytest.fixture(scope="session")
def newest_dump(empty_dump: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster with our newest schema, and nothing in it."""
    directory = tmp_path_factory.mktemp("timescale-newest")
    with running(directory, empty_dump) as process:
        upgrade(process.dsn)
        process.dump(directory / "dump.tar")
    return directory / "dump.tar"


@pytest.fixture
def timescale(empty_dump: Path, tmp_path: Path) -> Iterator[str]:
    """DSN of a fresh TimescaleDB, without our schema and without its extension."""
    with running(tmp_path, empty_dump) as process:
        yield process.dsn


@pytest.fixture
def timescale_database(newest_dump: Path, tmp_path: Path) -> Iterator[str]:
    """DSN of a fresh TimescaleDB with our newest schema."""
    with running(tmp_path, newest_dump) as process:
        yield process.dsn


@pytest.fixture(scope="module")
def timescale_to_look_at(newest_dump: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """DSN of a TimescaleDB with our newest schema, for all tests of a module: they change nothing."""
    with running(tmp_path_factory.mktemp("timescale"), newest_dump) as process:
        yield process.dsn


@pytest.fixture
async def timescale_pool(timescale_database: str) -> AsyncIterator[Pool]:
    """An asyncpg pool of the one connection that there can be, on `timescale_database`: what uses two at once waits for ever."""
    opened = await open_pool(timescale_database, size=1, name="historian tests")
    yield opened
    opened.terminate()
