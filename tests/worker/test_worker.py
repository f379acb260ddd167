"""A worker in this process, its source a script, what it delivers to real: a server that is killed and started again, or a database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import orjson
import psycopg
import pytest
from processes import Serve

from historian.client.ingest import IngestLink
from historian.ingest.filters.rules import FilterRules
from historian.ingest.path_samples import PathSamples
from historian.ingest.sources.source import Intake, SourceCounts
from historian.ingest.worker.config import WorkerConfig
from historian.ingest.worker.database import DatabaseUpstream
from historian.ingest.worker.upstream import Upstream
from historian.ingest.worker.worker import Worker
from historian.schema.catalogue import TagDefinition

Connect = Callable[[str], Upstream]
T0 = 1_700_000_000_000_000


class HandSource:
    """Hands over what the test says; `fault` makes it end with a bug."""

    def __init__(self) -> None:
        self.counts = SourceCounts(connected=True)
        self.settled = 0
        self._intake: asyncio.Future[Intake] | None = None
        self._fault: asyncio.Future[None] | None = None

    async def run(self, intake: Intake) -> None:
        self._fault = asyncio.get_running_loop().create_future()
        assert self._intake is not None
        self._intake.set_result(intake)
        await self._fault

    def fault(self, error: Exception) -> None:
        assert self._fault is not None
        self._fault.set_exception(error)

    async def intake(self) -> Intake:
        if self._intake is None:
            self._intake = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._intake)

    async def put(self, samples: PathSamples) -> None:
        def settled() -> None:
            self.settled += 1

        await (await self.intake()).put(samples, settled)


class Running:
    def __init__(self, worker: Worker, source: HandSource, directory: Path, stop: asyncio.Event, task: asyncio.Task[None]) -> None:
        self.worker, self.source, self.directory, self._stop, self.task = worker, source, directory, stop, task

    async def ready(self) -> tuple[int, dict[str, Any]]:
        async with aiohttp.ClientSession() as session, session.get(f"{self.worker.status_url}/readyz") as response:
            return response.status, await response.json()

    async def state(self, *wanted: str, timeout: float = 40) -> dict[str, Any]:
        """What /readyz shows once it is in one of these states."""
        found: dict[str, Any] = {}
        try:
            async with asyncio.timeout(timeout):
                while True:
                    _, found = await self.ready()
                    if found["state"] in wanted:
                        return found
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"it is never {wanted}: {found}") from None

    async def settled(self, messages: int, timeout: float = 40) -> None:
        try:
            async with asyncio.timeout(timeout):
                while self.source.settled < messages:
                    assert not self.task.done(), self.task
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{self.source.settled} of {messages} are settled: {await self.ready()}") from None

    async def stop(self) -> None:
        self._stop.set()
        await self.task

    def dead_letters(self) -> list[dict[str, Any]]:
        files = sorted((self.directory / "dead-letters").glob("*.jsonl"))
        return [orjson.loads(line) for file in files for line in file.read_bytes().splitlines()]


@asynccontextmanager
async def running(directory: Path, connect: Connect, **options: Any) -> AsyncIterator[Running]:
    directory.mkdir(exist_ok=True)  # noqa: ASYNC240 - a test waits for it anyway
    config = WorkerConfig(**{"producer": "press", "status_port": 0, **options})
    source, stop = HandSource(), asyncio.Event()
    waiting = asyncio.ensure_future(source.intake())
    await asyncio.sleep(0)
    worker = Worker(config, directory, source, connect, FilterRules.from_toml([]))
    task = asyncio.create_task(worker.run(stop))
    await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        waiting.cancel()
        task.result()
    try:
        yield Running(worker, source, directory, stop, task)
    finally:
        if not task.done():
            stop.set()
            await task


def link(url: str) -> Connect:
    return lambda instance: IngestLink(url, "press", instance=instance, retry_s=0.3, ack_s=5)


def straight(dsn: str) -> Connect:
    return lambda instance: DatabaseUpstream(dsn, "press", instance=instance, patience_s=0.3)


def samples(path: str, start: int, count: int, *, value: float = 1.0, first_us: int = T0) -> PathSamples:
    """One a millisecond, from the number `start` on."""
    ts = first_us + (start + np.arange(count, dtype=np.int64)) * 1000
    return PathSamples([path], np.zeros(count, np.int32), ts, np.full(count, value), np.full(count, 192, np.int16))


def query(dsn: str, text: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as conn:
        return conn.execute(text, values).fetchall()


def stored(dsn: str, path: str) -> Sequence[tuple[int, float]]:
    """(µs, value) of a tag, in the order of time."""
    text = "SELECT (extract(epoch FROM ts) * 1000000)::bigint, value FROM historian.samples WHERE tag = %s ORDER BY ts"
    return [(int(ts), value) for ts, value in query(dsn, text, path)]


async def until(condition: Callable[[], bool], timeout: float = 40) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.05)


async def test_what_comes_while_the_server_is_away_is_spooled_and_there_once_when_it_is_back_and_corrections_win(
    database: str, serve: Serve, tmp_path: Path
) -> None:
    server = serve()
    server.kill()
    async with running(tmp_path / "worker", link(server.url), batch_samples=50) as worker:
        # away at the start
        for n in range(20):
            await worker.source.put(samples("a", n * 50, 50))
        await worker.settled(20)
        found = await worker.state("spooling")
        assert found["spool"]["samples"] == 1000
        assert query(database, "SELECT count(*) FROM historian.sample") == [(0,)]
        # of what waits, a correction; and one of a correction
        await worker.source.put(samples("a", 10, 5, value=2.0))
        await worker.source.put(samples("a", 12, 1, value=3.0))
        await worker.settled(22)
        server.start()
        await worker.state("running")
        # away later
        server.kill()
        await worker.source.put(samples("a", 1000, 50))
        await worker.source.put(samples("a", 0, 1, value=4.0))
        await worker.settled(24)
        assert (await worker.state("spooling"))["spool"]["samples"] >= 51
        server.start()
        assert (await worker.state("running"))["spool"]["batches"] == 0
    wanted = {T0 + n * 1000: 1.0 for n in range(1050)}
    wanted |= {T0 + n * 1000: 2.0 for n in range(10, 15)} | {T0 + 12_000: 3.0, T0: 4.0}
    assert dict(stored(database, "a")) == wanted


async def test_live_samples_are_committed_while_the_backlog_remains(database: str, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    server.kill()
    async with running(tmp_path / "worker", link(server.url), batch_samples=10) as worker:
        for n in range(1500):
            await worker.source.put(samples("old", n * 10, 10))
        await worker.settled(1500, timeout=90)
        server.start()
        await worker.state("replaying")
        await worker.source.put(samples("live", 0, 10))
        await worker.settled(1501)
        found = (await worker.ready())[1]
        assert stored(database, "live"), "it was spooled behind the backlog"
        assert found["spool"]["batches"] > 0, "the backlog was gone before: nothing is shown"
        await worker.state("running", timeout=90)
    assert len(stored(database, "old")) == 15_000


@pytest.mark.parametrize("bad", [1, 1000])
async def test_samples_that_are_refused_are_dead_letters_with_the_reason_and_all_others_are_stored(
    server: Any, database: str, tmp_path: Path, bad: int
) -> None:
    async with running(tmp_path / "worker", link(server.url)) as worker:
        good = samples("mixed", 0, 10_000)
        rows = np.arange(0, 10_000, 10_000 // bad)[:bad]
        # no calendar has it
        good.ts[rows] = 2**62
        await worker.source.put(good)
        await worker.source.put(samples("next", 0, 5))
        await worker.settled(2)
        assert len(stored(database, "mixed")) == 10_000 - bad
        assert len(stored(database, "next")) == 5
        letters = worker.dead_letters()
        assert len(letters) == bad
        assert {letter["tag"] for letter in letters} == {"mixed"}
        assert all(letter["reason"].startswith("ts: ") for letter in letters), letters[0]
        assert (await worker.ready())[1]["dead_letters"]["samples"] == bad


async def test_a_definition_that_contradicts_what_stands_is_logged_and_samples_go_on(
    server: Any, database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path / "worker", link(server.url)) as worker:
        await worker.source.put(samples("number", 0, 1))
        await worker.settled(1)
        (await worker.source.intake()).define([TagDefinition(path="number", kind="text"), TagDefinition(path="other", unit="bar")])
        await worker.source.put(samples("number", 1, 1))
        await worker.source.put(samples("other", 0, 1))
        await worker.settled(3)
    assert "tag number stays as it is upstream" in caplog.text
    assert query(database, "SELECT unit FROM historian.tag WHERE path = 'other'") == [("bar",)]
    assert len(stored(database, "number")) == 2


async def test_a_producer_whose_directory_is_lost_goes_on_behind_its_old_seqs(database: str, tmp_path: Path) -> None:
    for life in range(2):
        async with running(tmp_path / f"life-{life}", straight(database)) as worker:
            await worker.source.put(samples("a", life, 1))
            await worker.settled(1)
    assert [ts for ts, _ in stored(database, "a")] == [T0, T0 + 1000]


async def test_samples_outside_the_window_are_dead_letters_and_count(database: str, tmp_path: Path) -> None:
    now = time.time_ns() // 1000
    async with running(tmp_path / "worker", straight(database), max_past_s=3600, max_future_s=60) as worker:
        for offset_s in (-7200, 0, 600):
            await worker.source.put(samples("a", 0, 1, first_us=now + offset_s * 1_000_000))
        await worker.settled(3)
        assert [letter["reason"].split(", ")[1] for letter in worker.dead_letters()] == [
            "beyond the max_past_s of this worker",
            "beyond the max_future_s of this worker",
        ]
    assert [ts for ts, _ in stored(database, "a")] == [now]


@pytest.mark.parametrize("way", ["server", "database"])
async def test_of_two_workers_with_one_name_one_delivers_and_the_other_keeps_its_samples_until_the_first_is_gone(
    server: Any, database: str, tmp_path: Path, way: str
) -> None:
    connect = link(server.url) if way == "server" else straight(database)
    async with running(tmp_path / "first", connect) as first:
        await first.state("running")
        async with running(tmp_path / "second", connect) as second:
            await second.state("conflict")
            for n in range(20):
                await first.source.put(samples("first", n, 1))
                await second.source.put(samples("second", n, 1))
            await first.settled(20)
            await second.settled(20)
            status, found = await second.ready()
            assert (status, found["state"], found["spool"]["samples"]) == (503, "conflict", 20)
            assert not stored(database, "second")
            await first.stop()
            await second.state("running", timeout=60)
    assert len(stored(database, "first")) == len(stored(database, "second")) == 20


async def test_with_the_spool_full_the_source_waits_and_goes_on_when_the_server_is_back(
    database: str, serve: Serve, tmp_path: Path
) -> None:
    server = serve()
    server.kill()
    options = {"spool_max_bytes": 3000, "max_unsettled_samples": 500, "batch_samples": 50}
    async with running(tmp_path / "worker", link(server.url), **options) as worker:

        async def produce() -> None:
            for n in range(100):
                await worker.source.put(samples("a", n * 50, 50, value=float(n)))

        producing = asyncio.create_task(produce())
        found = await worker.state("full")
        await until(lambda: worker.source.settled > 0)
        async with asyncio.timeout(20):
            while not found["unsettled"]["source_waits"]:
                found = (await worker.ready())[1]
                await asyncio.sleep(0.05)
        assert not producing.done()
        assert found["unsettled"]["samples"] <= 500
        assert (await worker.ready())[0] == 503
        server.start()
        await producing
        await worker.settled(100)
        await worker.state("running")
    assert stored(database, "a") == [(T0 + n * 1000, float(n // 50)) for n in range(5000)]


async def test_with_the_dead_letters_full_the_worker_holds_and_says_so_until_somebody_makes_room(database: str, tmp_path: Path) -> None:
    async with running(tmp_path / "worker", straight(database), max_past_s=3600, dead_letters_max_bytes=1000) as worker:
        now = time.time_ns() // 1000
        producing = asyncio.create_task(worker.source.put(samples("a", 0, 3)))
        await producing
        producing = asyncio.create_task(worker.source.put(samples("a", 3, 3)))
        found = await worker.state("full")
        assert "look at them and move them away" in found["trouble"]
        assert not producing.done()
        for file in (tmp_path / "worker" / "dead-letters").glob("*.jsonl"):
            file.rename(tmp_path / file.name)
        await producing
        await worker.source.put(samples("b", 0, 1, first_us=now))
        await worker.settled(3)
        await worker.state("running")
        assert len(worker.dead_letters()) == 3


async def test_a_source_that_ends_by_a_bug_ends_the_worker_with_what_it_was_and_what_was_taken_is_safe(
    database: str, serve: Serve, tmp_path: Path
) -> None:
    server = serve()
    server.kill()
    async with running(tmp_path / "worker", link(server.url)) as worker:
        await worker.source.put(samples("a", 0, 7))
        worker.source.fault(ZeroDivisionError("a bug"))
        with pytest.raises(ZeroDivisionError, match="a bug"):
            await asyncio.shield(worker.task)
    server.start()
    async with running(tmp_path / "worker", link(server.url)) as worker:
        await worker.state("running")
    assert len(stored(database, "a")) == 7
