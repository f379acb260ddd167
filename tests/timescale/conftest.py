"""Fixtures: databases on a real TimescaleDB that needs no server and no installation but npm's, compiled to WebAssembly.

Each is a process with a database of its own, in memory, that serves one client at a time: close a connection before the next one is opened. What it lacks stands in
timescale_process.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from timescale_process import TimescaleProcess, running

from historian.schema.migrate import upgrade


class Shared:
    """A database for the tests of a module: started when the first one asks for it, and again, as it was at first, when it has ended under one of them."""

    def __init__(self, directory: Path, dump: Path) -> None:
        self._directory = directory
        self._dump = dump
        self._started = 0
        self._process: TimescaleProcess | None = None

    def process(self) -> TimescaleProcess:
        if self._process is None or not self._process.alive:
            self.stop()
            self._started += 1
            self._process = TimescaleProcess(self._directory / f"timescale-{self._started}.log", self._dump)
        return self._process

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()


@pytest.fixture(scope="session")
def empty_dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster without anything in it: to start with it takes a third of the time that making one takes."""
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


@pytest.fixture(scope="module")
def shared(newest_dump: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    made = Shared(tmp_path_factory.mktemp("timescale"), newest_dump)
    yield made
    made.stop()


@pytest.fixture
def timescale(shared: Shared) -> Iterator[str]:
    """DSN of a TimescaleDB with our newest schema, with what the tests before in the same module have left there."""
    process = shared.process()
    yield process.dsn
    # shown with the report of a test that failed
    print(f"--- TimescaleDB{'' if process.alive else ', which has ended'}\n{process.log}")


@pytest.fixture
def empty_timescale(empty_dump: Path, tmp_path: Path) -> Iterator[str]:
    """DSN of a fresh TimescaleDB, without our schema and without its extension."""
    with running(tmp_path, empty_dump) as process:
        yield process.dsn
