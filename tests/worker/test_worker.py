"""A whole worker between a scripted source and a real server or database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import orjson
import psycopg
import pytest
from processes import Serve, run

from historian.client.ingest import IngestLink
from historian.ingest.filters.rules import FilterRules
from historian.ingest.path_samples import PathSamples
from historian.ingest.sources.source import Intake, SourceCounts
from historian.ingest.worker.config import WorkerConfig
from historian.ingest.worker.database import DatabaseUpstream
from historian.ingest.worker.worker import Worker
from historian.schema.connection import Pool
from historian.schema.errors import Conflict

NOW = time.time_ns() // 1000 // 1_000_000 * 1_000_000


class Script:
    """A source that puts what the test tells it to."""

    def __init__(self) -> None:
        self.counts = SourceCounts(connected=True)
        self.intake: Intake | None = None
        self.there = asyncio.Event()
        self.settled: list[int] = []
        self.fails: Exception | None = None
        self._sent = 0

    async def run(self, intake: Intake) -> None:
        self.intake = intake
        self.there.set()
        while self.fails is None:
            await asyncio.sleep(0.01)
        raise self.fails

    async def put(self, tag: str, ts: list[int], value: float = 1.0) -> int:
        await self.there.wait()
        assert self.intake is not None
        number, self._sent = self._sent, self._sent + 1
        n = len(ts)
        part = PathSamples([tag], np.zeros(n, np.int32), np.array(ts, np.int64), np.full(n, value), np.full(n, 192, np.int16))
        await self.intake.put(part, lambda: self.settled.append(number))
        return number


@asynccontextmanager
async def working(directory: Path, connect: Callable[[str, str], Any], **config: Any) -> AsyncIterator[tuple[Script, Worker]]:
    source, stop = Script(), asyncio.Event()
    settings = WorkerConfig.model_validate({"producer": "w", "status_port": 0, "spool_after_s": 0.3, **config})
    worker = Worker(settings, directory, source, lambda instance: connect(settings.producer, instance), FilterRules.from_toml([]))
    task = asyncio.create_task(worker.run(stop))
    try:
        await asyncio.wait({asyncio.create_task(source.there.wait()), task}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield source, worker
    finally:
        stop.set()
        if source.fails is None:
            await task
        else:
            await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def readyz(worker: Worker) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(f"{worker.status_url}/readyz") as answer:
        found: dict[str, Any] = await answer.json()
        return answer.status, found


def to_server(url: str) -> Callable[[str, str], IngestLink]:
    return lambda producer, instance: IngestLink(url, producer, instance=instance, retry_s=0.3, ack_s=5.0)


def to_database(dsn: str) -> Callable[[str, str], DatabaseUpstream]:
    return lambda producer, instance: DatabaseUpstream(dsn, producer, instance=instance, patience_s=0.3)


def stored(dsn: str) -> list[tuple[str, int, float]]:
    with psycopg.connect(dsn) as conn:
        rows = conn.execute(
            "SELECT tag, (extract(epoch FROM ts) * 1000000)::int8, value FROM historian.samples ORDER BY tag, ts"
        ).fetchall()
    return [(str(row[0]), int(row[1]), float(row[2])) for row in rows]


@pytest.mark.parametrize("way", ["server", "database"])
async def test_samples_are_settled_once_they_are_stored(way: str, database: str, serve: Serve, tmp_path: Path, pool: Pool) -> None:
    connect = to_server(serve().url) if way == "server" else to_database(database)
    async with working(tmp_path / "w", connect) as (source, worker):
        for n in range(20):
            await source.put(f"x/t{n % 3}", [NOW + n])
        await until(lambda: len(source.settled) == 20)
        assert len(stored(database)) == 20
        status, found = await readyz(worker)
        assert (status, found["state"], found["delivered"]["samples"]) == (200, "running", 20)
        async with aiohttp.ClientSession() as session, session.get(f"{worker.status_url}/metrics") as answer:
            assert "historian_worker_delivered_samples_total 20.0" in await answer.text()


async def test_a_server_that_is_away_is_spooled_for_and_live_samples_pass_the_backlog(database: str, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    async with working(tmp_path / "w", to_server(server.url)) as (source, worker):
        await source.put("x/a", [NOW])
        await until(lambda: source.settled == [0])
        server.kill()
        for n in range(1, 200):
            await source.put("x/a", [NOW + n], float(n))
        await until(lambda: len(source.settled) == 200)
        status, found = await readyz(worker)
        assert (status, found["state"]) == (200, "spooling")
        assert found["spool"]["samples"] == 199
        # a correction of what waits, and something new
        await source.put("x/a", [NOW + 5], -5.0)
        await asyncio.to_thread(server.restart)
        await source.put("x/b", [NOW + 1000], 7.0)
        await until(lambda: len(source.settled) == 202)
        await until(lambda: len(stored(database)) == 201)
        rows = stored(database)
        assert rows == [
            ("x/a", NOW, 1.0),
            *(("x/a", NOW + n, -5.0 if n == 5 else float(n)) for n in range(1, 200)),
            ("x/b", NOW + 1000, 7.0),
        ]
        status, found = await readyz(worker)
        assert (status, found["state"], found["spool"]["batches"]) == (200, "running", 0)


async def test_what_was_spooled_is_delivered_by_the_next_life(database: str, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    url = server.url
    server.stop()
    async with working(tmp_path / "w", to_server(url)) as (source, _):
        await source.put("x/a", [NOW + n for n in range(100)])
        await until(lambda: source.settled == [0])
    await asyncio.to_thread(server.restart)
    async with working(tmp_path / "w", to_server(url)):
        await until(lambda: len(stored(database)) == 100)


async def test_a_clock_that_is_years_off_is_refused_by_name(database: str, tmp_path: Path) -> None:
    async with working(tmp_path / "w", to_database(database), max_past_s=3600, max_future_s=60) as (source, worker):
        year = 365 * 86_400_000_000
        await source.put("x/good", [NOW])
        await source.put("x/old", [NOW - 3 * year])
        await source.put("x/new", [NOW + 3 * year, NOW + 1])
        await until(lambda: len(source.settled) == 3)
        assert [row[:2] for row in stored(database)] == [("x/good", NOW), ("x/new", NOW + 1)]
        _, found = await readyz(worker)
        assert found["dead_letters"]["samples"] == 2
        (file,) = (tmp_path / "w" / "dead-letters").glob("*.jsonl")
        letters = [orjson.loads(line) for line in file.read_bytes().splitlines()]
        assert [letter["tag"] for letter in letters] == ["x/old", "x/new"]
        assert "behind this machine's clock, beyond the max_past_s" in letters[0]["reason"]
        assert "ahead of this machine's clock, beyond the max_future_s" in letters[1]["reason"]


@pytest.mark.parametrize("way", ["server", "database"])
async def test_two_workers_of_one_name_never_mix(way: str, database: str, serve: Serve, tmp_path: Path) -> None:
    connect = to_server(serve().url) if way == "server" else to_database(database)
    async with working(tmp_path / "one", connect) as (first, _):
        await first.put("x/first", [NOW])
        await until(lambda: first.settled == [0])
        async with working(tmp_path / "two", connect) as (second, worker):
            await second.put("x/second", [NOW])
            # safe in a spool of its own, and said so
            await until(lambda: second.settled == [0])
            status, found = await readyz(worker)
            assert (status, found["state"]) == (503, "conflict")
            assert "one at a time" in found["trouble"]
            await first.put("x/first", [NOW + 1])
            await until(lambda: first.settled == [0, 1])
            assert {tag for tag, _, _ in stored(database)} == {"x/first"}
        with pytest.raises(Conflict, match=str(tmp_path / "one")):
            async with working(tmp_path / "one", connect):
                raise AssertionError("a second worker runs in the directory of another")
    async with working(tmp_path / "two", connect):
        await until(lambda: len(stored(database)) == 3)


async def test_a_source_waits_when_nothing_more_can_be_kept(database: str, tmp_path: Path) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    config = {"spool_max_bytes": 30_000, "max_unsettled_samples": 5000, "batch_samples": 1000}
    async with working(tmp_path / "w", to_database(nowhere), **config) as (source, worker):
        chance = np.random.default_rng(1)

        async def flood() -> None:
            for n in range(1000):
                await source.put(
                    "x/a", (NOW + n * 10_000_000 + np.sort(chance.choice(10_000_000, 500, replace=False))).tolist(), float(n) / 7
                )

        flooding = asyncio.create_task(flood())
        async with asyncio.timeout(60):
            while (found := (await readyz(worker)))[1]["state"] != "full" or not found[1]["unsettled"]["source_waits"]:
                await asyncio.sleep(0.02)
        assert found[0] == 503
        assert "spool" in found[1]["trouble"]
        assert found[1]["unsettled"]["samples"] <= 5500
        assert not flooding.done()
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
        settled = len(source.settled)
    # what was settled is in the spool, and comes once there is a database
    async with working(tmp_path / "w", to_database(database)):
        await until(lambda: len(stored(database)) >= 500 * settled)


async def test_a_fault_of_ours_ends_the_worker(database: str, tmp_path: Path) -> None:
    source = Script()
    source.fails = ZeroDivisionError("a fault of ours")
    worker = Worker(
        WorkerConfig(producer="w"), tmp_path / "w", source, lambda instance: to_database(database)("w", instance), FilterRules.from_toml([])
    )
    with pytest.raises(ZeroDivisionError):
        await worker.run(asyncio.Event())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[worker]\nproducer = 'x'\n[mqtt]\n[[mqtt.rule]]\ntopic='#'\n", "mqtt.client_id: Field required"),
        ("[worker]\nproducer = 'x'\nspeed = 3\n[mqtt]\n", "worker.speed: Extra inputs are not permitted"),
        ("[worker]\nproducer = 'x'\nurl = 'http://a'\ndsn = 'postgresql://u:secret@h/d'\n[mqtt]\n", "exclude each other"),
        ("[worker]\nproducer = 'x'\n", "there is no table [mqtt]"),
        ("[worker]\nproducer = 'x'\n[mqtt]\n[opcua]\n", "unknown table [opcua]"),
        ("[worker\n", "is no TOML"),
        ("[worker]\nproducer = 'x'\n[mqtt]\n[[filter]]\nmatch = 'a/#'\nwidth = 1\n", "[[filter]] 1"),
    ],
)
def test_a_wrong_configuration_is_told_by_its_key(text: str, told: str, tmp_path: Path) -> None:
    config = tmp_path / "worker.toml"
    config.write_text(text)
    done = run("ingest", "mqtt", config, "--check")
    assert done.returncode == 1
    assert told in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_good_configuration_is_said_to_be_one(tmp_path: Path) -> None:
    config = tmp_path / "worker.toml"
    config.write_text(
        "[worker]\nproducer = 'x'\n[mqtt]\nclient_id = 'c'\n[[mqtt.rule]]\ntopic = 'a/#'\n[[filter]]\nmatch = 'a/#'\nexception_deviation = 0.5\n"
    )
    done = run("ingest", "mqtt", config, "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "good configuration" in done.stdout
