"""The seam between backfill and live tail, under load: every viewer ends with exactly what the database holds; nothing is missing, nothing came twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from viewer import Viewer

import historian.server.run
from historian.ingest.writer import Writer
from historian.query.range import RangeQuery, read_range
from historian.schema.catalogue import Catalogue, TagDefinition
from historian.schema.connection import Pool
from historian.schema.ledger import Notice
from historian.schema.samples import Samples, concat
from historian.server.run import serving
from historian.settings import Settings
from historian.stream.request import FOREVER

WRITERS = 4
RATE = 20_000
VIEWERS = 50
SECONDS = float(os.environ.get("SEAM_SECONDS", "30"))
GROUPS = 20
TAGS_A_GROUP = 10
SENTINEL = "seam/end"
SCRIPT = Path(__file__).with_name("seam_writer.py")


class DelayedWriter(Writer):
    """A writer that publishes late, each commit after a delay of its own: notices arrive long after their commits, and in another order."""

    def __init__(self, pool: Pool, publish: Any = None, *, instance: str = "") -> None:
        chance = random.Random(7)
        loop = asyncio.get_running_loop()

        def later(notice: Notice) -> None:
            # sometimes beyond the interval of the sweep, which then publishes first
            loop.call_later(chance.choice([0.0, 0.05, 0.3, 1.5]), publish, notice)

        super().__init__(pool, later, instance=instance)


@asynccontextmanager
async def writer_process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, str(SCRIPT), *arguments, stdout=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def write_for(seconds: float, number: int, *arguments: str, started: asyncio.Event, die_after: int = 0) -> int:
    """Run a writer process; one that kills itself is started again, as a supervisor would. `started` is set when it first writes. Returns the samples of the last run."""
    begun = time.monotonic()
    seq = 0
    while True:
        left = str(max(0.5, seconds - (time.monotonic() - begun)))
        death = ["--die-after", str(die_after)] if die_after else []
        async with writer_process("--number", str(number), "--seconds", left, "--seq", str(seq), *death, *arguments) as process:
            assert process.stdout is not None
            if await process.stdout.readline():
                started.set()
            lines = (await process.stdout.read()).decode().splitlines()
            code = await process.wait()
        if code == 0:
            return int(json.loads(lines[-1])["samples"])
        assert die_after, f"writer {number} failed with {code}"
        assert code == -9
        seq += die_after
        if time.monotonic() - begun > seconds - 1:
            return 0


async def attach(viewer: Viewer, session: aiohttp.ClientSession, after_s: float, cut_after_s: float | None) -> None:
    """Attach at some moment; one in five loses its connection later, and goes on by its cursor."""
    await asyncio.sleep(after_s)
    if cut_after_s is not None:
        asyncio.get_running_loop().call_later(cut_after_s, viewer.cut)
    await viewer.run(session)
    if cut_after_s is not None:
        await viewer.run(session)


async def stored(pool: Pool, catalogue: Catalogue, names: Sequence[str], start: int) -> Samples:
    tags = tuple(await catalogue.resolve(names))
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        return concat([chunk async for chunk in read_range(conn, RangeQuery(tags, start, FOREVER))])


def newest_of_received(received: Samples) -> Samples:
    """Per (tag, ts) the row that came last, sorted."""
    order = np.lexsort((np.arange(len(received)), received.ts, received.tag_id))
    tag_id, ts = received.tag_id[order], received.ts[order]
    is_last = np.append((tag_id[1:] != tag_id[:-1]) | (ts[1:] != ts[:-1]), True)
    return received.take(order[is_last])


def assert_exactly(viewer: Viewer, held: Samples, who: str) -> None:
    received = viewer.received
    assert not viewer.errors, f"{who}: {viewer.errors}"
    assert not [gap for gap in viewer.gaps if gap["reason"] == "slow-client"], f"{who} was too slow for this machine"
    values, times = np.unique(received.value, return_counts=True)
    assert times.max(initial=1) == 1, f"{who}: {int((times > 1).sum())} samples came twice, as {values[times > 1][:5]}"
    final = newest_of_received(received)
    assert len(final) == len(held), f"{who}: {len(final)} samples, the database holds {len(held)}"
    for column in ("tag_id", "ts", "value", "quality"):
        np.testing.assert_array_equal(getattr(final, column), getattr(held, column), err_msg=f"{who}: {column}")


class HeldWriter(Writer):
    """A writer that publishes when the test says so."""

    held: list[Any]

    def __init__(self, pool: Pool, publish: Any = None, *, instance: str = "") -> None:
        HeldWriter.held = []
        super().__init__(pool, lambda notice: HeldWriter.held.append((publish, notice)), instance=instance)

    @classmethod
    def release(cls) -> None:
        for publish, notice in cls.held:
            publish(notice)
        cls.held.clear()


async def post(session: aiohttp.ClientSession, url: str, *rows: tuple[str, int, float]) -> None:
    body = {"samples": [{"tag": tag, "ts": ts, "value": value} for tag, ts, value in rows]}
    async with session.post(f"{url}/v1/write", json=body) as answer:
        assert answer.status == 200, await answer.text()


async def test_a_notice_that_comes_long_after_its_commit_is_not_seen_twice(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Committed, not published, and then a viewer attaches: its backfill has the sample, so that the notice must be left out. No sweep helps: it is off."""
    monkeypatch.setattr(historian.server.run, "Writer", HeldWriter)
    now = time.time_ns() // 1000
    async with serving(database, Settings(port=0, sweep_s=3600)) as server, aiohttp.ClientSession() as session:
        await post(session, server.url, ("held/a", now, 1.0))
        assert len(HeldWriter.held) == 1
        viewer = Viewer(server.url, ["held/a"], now - 1)
        task = asyncio.create_task(viewer.run(session))
        await viewer.until(lambda: viewer.backfilled == 1)
        await viewer.until(viewer.live.is_set)
        HeldWriter.release()
        await post(session, server.url, ("held/a", now + 1, 2.0))
        HeldWriter.release()
        await viewer.until(lambda: viewer.holds(viewer.tags[0]["tag_id"], now + 1))
        assert viewer.received.value.tolist() == [1.0, 2.0]
        task.cancel()


async def test_what_a_dead_writer_committed_reaches_the_viewers(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never published: the sweep of the ledger finds it, and hands it on once."""
    monkeypatch.setattr(historian.server.run, "Writer", HeldWriter)
    now = time.time_ns() // 1000
    async with serving(database, Settings(port=0, sweep_s=0.1)) as server, aiohttp.ClientSession() as session:
        await post(session, server.url, ("dead/a", now, 1.0))
        viewer = Viewer(server.url, ["dead/a"], None)
        task = asyncio.create_task(viewer.run(session))
        await viewer.until(viewer.live.is_set)
        await post(session, server.url, ("dead/a", now + 1, 2.0))
        await viewer.until(lambda: viewer.holds(viewer.tags[0]["tag_id"], now + 1))
        HeldWriter.release()  # a publication that comes after all is a repeat
        await post(session, server.url, ("dead/a", now + 2, 3.0))
        await viewer.until(lambda: viewer.holds(viewer.tags[0]["tag_id"], now + 2))
        assert viewer.received.value.tolist() == [2.0, 3.0]
        assert server.services.sweep.found == 3
        task.cancel()


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(int(SECONDS * 2 + 180))
@pytest.mark.parametrize("how", ["workers", "delayed", "killed"])
async def test_every_viewer_ends_with_what_the_database_holds(how: str, database: str, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """`workers`: ingest workers in processes of their own, whose commits the server finds in the ledger. `delayed`: producers that post to the server,
    which publishes late. `killed`: workers that die between commit and publication, again and again."""
    if how == "delayed":
        monkeypatch.setattr(historian.server.run, "Writer", DelayedWriter)
    chance = random.Random(how)
    catalogue = Catalogue(pool)
    names = [f"seam/g{group:02}/t{n}" for group in range(GROUPS) for n in range(TAGS_A_GROUP)]
    tags = await catalogue.define([TagDefinition(path=name, kind="float") for name in names])
    await catalogue.define([TagDefinition(path=SENTINEL, kind="float")])
    ids = sorted(tag.tag_id for tag in tags)
    assert ids == list(range(ids[0], ids[0] + len(ids)))

    begun_us = time.time_ns() // 1000
    async with (
        serving(database, Settings(port=0)) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        asyncio.TaskGroup() as group,
    ):
        where = ["--url", server.url] if how == "delayed" else ["--dsn", database]
        arguments = ["--tags", f"{ids[0]}-{ids[-1]}", "--rate", str(RATE // WRITERS), *where]
        # two of them die after every three seconds or so
        deaths = [0, 0, 27, 34] if how == "killed" else [0] * WRITERS
        started = [asyncio.Event() for _ in range(WRITERS)]
        writers = [group.create_task(write_for(SECONDS, n, *arguments, started=started[n], die_after=deaths[n])) for n in range(WRITERS)]
        async with asyncio.timeout(60):
            for event in started:
                await event.wait()
        viewers, starts, attached = [], [], []
        for n in range(VIEWERS):
            patterns = [f"seam/g{chosen:02}/#" for chosen in sorted(chance.sample(range(GROUPS), 1 if n % 10 == 9 else 3))]
            after_s = chance.uniform(0, SECONDS * 0.9)
            # from before everything, or from some moment between then and its attachment
            start = begun_us - 60_000_000 if n % 2 else begun_us + int(chance.uniform(0, after_s) * 1e6)
            viewer = Viewer(server.url, [*patterns, SENTINEL], start, json_only=n % 10 == 9)
            cut_after_s = chance.uniform(0.5, 10) if n % 5 == 0 else None
            viewers.append(viewer)
            starts.append((patterns, start))
            attached.append(group.create_task(attach(viewer, session, after_s, cut_after_s)))

        written = sum(await asyncio.gather(*writers))
        if how != "killed":
            # what two cores reach beside all these viewers differs from machine to machine; half of what is asked for is a load still
            assert written >= RATE * SECONDS * 0.5, f"this machine wrote only {written / SECONDS:.0f} samples/s"
        # the ledger has been swept to its end when this answers: what is written from now on comes last on every stream
        async with session.get(f"{server.url}/readyz") as answer:
            assert answer.status == 200
        await asyncio.sleep(
            2 if how == "delayed" else 0
        )  # the longest delay of a publication: repeats of what the sweep has found are still to come
        end_us = time.time_ns() // 1000
        async with session.post(f"{server.url}/v1/write", json={"samples": [{"tag": SENTINEL, "ts": end_us, "value": -1}]}) as answer:
            assert answer.status == 200
        sentinel = (await catalogue.resolve([SENTINEL]))[0].tag_id
        async with asyncio.timeout(60):
            for viewer in viewers:
                await viewer.until(lambda viewer=viewer: viewer.holds(sentinel, end_us) or bool(viewer.errors))
        for task in attached:
            task.cancel()

        for n, (viewer, (patterns, start)) in enumerate(zip(viewers, starts, strict=True)):
            assert_exactly(viewer, await stored(pool, catalogue, [*patterns, SENTINEL], start), f"viewer {n}")
        resumed = [flag for viewer in viewers for flag in viewer.resumed]
        assert resumed
        assert all(resumed), "a cursor was no longer retained"
        assert sum(viewer.backfilled > 0 for viewer in viewers) >= VIEWERS // 2
        assert server.services.sweep.found > 0, "the sweep was not needed: this test has shown nothing of it"
