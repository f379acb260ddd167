"""Subscriptions that are opened, changed, paused, cut off and resumed at any moment, while samples are written, corrected and tags are made: each ends with what the
database holds, and nothing has come twice."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from typing import Any

import aiohttp
import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from mirror import Connection, Mirror

from historian.ingest.writer import Writer
from historian.query.range import RangeQuery, read_range
from historian.schema.catalogue import Catalogue
from historian.schema.connection import Pool, open_pool
from historian.schema.ledger import Batch
from historian.schema.samples import Samples, concat
from historian.server.run import Server, serving
from historian.settings import Settings
from historian.stream.request import FOREVER

BASE = time.time_ns() // 1000 - 600_000_000
_NUMBERS = itertools.count()
EXAMPLES = 20

#: below the example's own root; /t are texts
TAGS = ["a/x0", "a/x1", "a/x2", "b/x0", "b/x1", "b/t"]
NAMES = ["a/x0", "b/x0", "a/#", "+/x1", "#"]
tag_numbers = st.integers(0, len(TAGS) - 1)
ids = st.integers(1, 2)
name_sets = st.sets(st.sampled_from(NAMES), min_size=1)


class World:
    """A server, and a writer of another process, as far as the server can tell."""

    server: Server
    session: aiohttp.ClientSession
    pool: Pool
    catalogue: Catalogue
    writer: Writer

    async def open(self, dsn: str) -> None:
        self._serving = serving(dsn, Settings(port=0, sweep_s=0.05))
        self.server = await self._serving.__aenter__()
        self.session = aiohttp.ClientSession()
        self.pool = await open_pool(dsn, size=3)
        self.catalogue = Catalogue(self.pool)
        self.writer = Writer(self.pool, None, instance="elsewhere")

    async def close(self) -> None:
        await self.session.close()
        await self.writer.close()
        await self._serving.__aexit__(None, None, None)
        self.pool.terminate()

    async def write(self, rows: list[tuple[str, int, Any]], elsewhere: bool) -> None:
        if elsewhere:
            await self.catalogue.ensure({path: "float" for path, _, _ in rows})
            ids = np.array([self.catalogue.get(path).tag_id for path, _, _ in rows], np.int32)
            values = np.array([math.nan if value is None else value for _, _, value in rows])
            quality = np.where(np.isnan(values), 0, 192).astype(np.int16)
            ts = np.array([ts for _, ts, _ in rows], np.int64)
            order = np.lexsort((ts, ids))
            await self.writer.write([Batch("elsewhere", next(_NUMBERS), Samples(ids, ts, values, quality).take(order))])
            return
        body = {"samples": [{"tag": path, "ts": ts, "value": value} for path, ts, value in rows]}
        async with self.session.post(f"{self.server.url}/v1/write", json=body) as answer:
            assert answer.status == 200, await answer.text()

    async def held(self, names: set[str], start: int) -> dict[tuple[str, int], tuple[Any, int]]:
        await self.catalogue.refresh()
        tags = await self.catalogue.resolve(sorted(names)) if names else []
        paths = {tag.tag_id: tag.path for tag in tags}
        async with self.pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            rows = concat([chunk async for chunk in read_range(conn, RangeQuery(tags, start, FOREVER))] if tags else [])
        columns = (rows.tag_id.tolist(), rows.ts.tolist(), rows.value.tolist(), rows.quality.tolist(), rows.text_or_nulls().to_pylist())
        return {
            (paths[tag_id], ts): (text if text is not None else None if math.isnan(value) else value, quality)
            for tag_id, ts, value, quality, text in zip(*columns, strict=True)
        }


class Subscriptions(RuleBasedStateMachine):
    world: World
    run: Any

    def __init__(self) -> None:
        super().__init__()
        self.root = f"m{next(_NUMBERS)}"
        self.connection = Connection(self.world.session, self.world.server.url)
        self.writes: list[asyncio.Task[None]] = []
        self.values = itertools.count()
        # names of paths are of tags that there are
        self.run(self.world.write([(f"{self.root}/{name}", BASE, -1.0) for name in NAMES if "#" not in name and "+" not in name], False))
        self.run(self.connection.open())

    def named(self, names: set[str]) -> set[str]:
        return {f"{self.root}/{name}" for name in names}

    @rule(
        rows=st.lists(st.tuples(tag_numbers, st.integers(0, 7), st.sampled_from([False, False, False, True])), min_size=1, max_size=6),
        elsewhere=st.booleans(),
        wait=st.booleans(),
    )
    def write(self, rows: list[tuple[int, int, bool]], elsewhere: bool, wait: bool) -> None:
        found: dict[tuple[str, int], Any] = {}
        for number, step, bad in rows:
            path = TAGS[number]
            if path.endswith("t"):
                if not elsewhere:
                    found[path, step] = f"text {next(self.values)}"
            else:
                # a bad sample has no value by which it could be told from another: its time is its own
                n = next(self.values)
                found[path, 1000 + n if bad else step] = None if bad else float(n)
        samples = [(f"{self.root}/{path}", BASE + step, value) for (path, step), value in found.items()]
        if not samples:
            return

        async def begin() -> None:
            task = asyncio.create_task(self.world.write(samples, elsewhere))
            self.writes.append(task)
            if wait:
                await task

        self.run(begin())

    @initialize(names=name_sets, back=st.integers(0, 4))
    def open_one(self, names: set[str], back: int) -> None:
        self.subscribe(1, names, back, "oldest")

    @rule(number=ids, names=name_sets, back=st.integers(0, 4), order=st.sampled_from(["oldest", "newest"]))
    def subscribe(self, number: int, names: set[str], back: int, order: str) -> None:
        if self.connection.ws is None or number in self.connection.mirrors:
            return
        mirror = self.connection.mirrors[number] = Mirror(self.named(names), BASE + back, order=order)
        self.run(self.connection.ask(mirror.subscribe(number)))

    @rule(number=ids, names=name_sets)
    def change(self, number: int, names: set[str]) -> None:
        mirror = self.connection.mirrors.get(number)
        # 16 may wait
        if self.connection.ws is None or mirror is None or len(mirror.changing) == 16:
            return
        if not any("#" in name or "+" in name for name in mirror.safe):
            # it has no text column, which wildcards need
            names = {name for name in names if "#" not in name and "+" not in name}
        self.run(self.connection.ask(mirror.change(number, self.named(names))))

    @rule(number=ids, paused=st.booleans())
    def pause(self, number: int, paused: bool) -> None:
        mirror = self.connection.mirrors.get(number)
        if self.connection.ws is not None and mirror is not None:
            mirror.paused = paused
            self.run(self.connection.ask({"type": "pause" if paused else "resume", "id": number}))

    @rule(number=ids)
    def unsubscribe(self, number: int) -> None:
        if self.connection.ws is None or self.connection.mirrors.pop(number, None) is None:
            return

        async def closed() -> None:
            # frames that were on their way are not to be taken for those of the next with this id
            await self.connection.ask({"type": "unsubscribe", "id": number})
            await self.beat()

        self.run(closed())

    @precondition(lambda self: self.connection.ws is not None)
    @rule()
    def drop(self) -> None:
        self.run(self.connection.cut())

    @precondition(lambda self: self.connection.ws is None)
    @rule()
    def reconnect(self) -> None:
        self.run(self.connection.open())

    @rule()
    def wait_for_live(self) -> None:
        if self.connection.ws is not None:
            for number, mirror in self.connection.mirrors.items():
                if not mirror.paused:
                    assert self.run(self.connection.until(lambda m=mirror: m.settled)), f"{number} does not become live: {vars(mirror)}"

    async def beat(self) -> None:
        beats = self.connection.beats
        await self.connection.ask({"type": "heartbeat"})
        assert await self.connection.until(lambda: self.connection.beats > beats)

    async def check(self) -> None:
        await asyncio.gather(*self.writes)
        if self.connection.ws is None:
            await self.connection.open()
        for number in self.connection.mirrors:
            await self.connection.ask({"type": "resume", "id": number})
        for mirror in self.connection.mirrors.values():
            expected = await self.world.held(mirror.names, mirror.start)
            whole = await self.connection.until(lambda m=mirror, e=expected: m.settled and m.rows == e)
            held = {key: (mirror.rows.get(key), row) for key, row in expected.items() if mirror.rows.get(key) != row}
            more = {key: row for key, row in mirror.rows.items() if key not in expected}
            assert whole, f"{mirror.names}: missing or other: {held}; too much: {more}; {mirror.errors} {mirror.settled}"
        # what was on its way has come by then
        await self.beat()
        for mirror in self.connection.mirrors.values():
            assert not mirror.errors
            assert max(mirror.seen.values(), default=1) == 1, [row for row, n in mirror.seen.items() if n > 1]
        await self.connection.cut()

    def teardown(self) -> None:
        self.run(self.check())


def test_each_subscription_ends_with_what_the_database_holds(database: str) -> None:
    with asyncio.Runner() as runner:
        world = World()
        runner.run(world.open(database))

        class Machine(Subscriptions):
            run = staticmethod(runner.run)

        Machine.world = world
        try:
            run_state_machine_as_test(
                Machine,
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=25,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    phases=[Phase.explicit, Phase.reuse, Phase.generate],
                ),
            )
        finally:
            runner.run(world.close())
