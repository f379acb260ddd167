"""`historian serve --workers N`: several processes that are one server."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import time

import aiohttp
import psutil
import pytest
from processes import Serve, ServerProcess, run
from viewer import Viewer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX system")


def workers_of(server: ServerProcess) -> list[psutil.Process]:
    return [child for child in psutil.Process(server.pid).children() if "historian.server.workers.worker" in child.cmdline()]


async def by_worker(session: aiohttp.ClientSession, server: ServerProcess, name: str) -> dict[str, float]:
    async with session.get(f"{server.url}/metrics") as answer:
        found = re.findall(rf'^{name}{{worker="(\d+)"}} (\S+)$', await answer.text(), re.MULTILINE)
    return {worker: float(value) for worker, value in found}


async def post(session: aiohttp.ClientSession, server: ServerProcess, ts: int) -> None:
    async with session.post(f"{server.url}/v1/write", json={"samples": [{"tag": "w/a", "ts": ts, "value": float(ts)}]}) as answer:
        assert answer.status == 200, await answer.text()


async def test_of_what_is_written_through_any_worker_viewers_of_all_are_told_and_a_worker_that_dies_is_replaced(serve: Serve) -> None:
    server = serve("--workers", "2")
    now = time.time_ns() // 1000
    # a connection each, for whichever worker takes it
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as session:
        await post(session, server, now)
        viewers: list[Viewer] = []
        tasks: list[asyncio.Task[None]] = []
        try:
            while len(viewers) < 8 or min((await by_worker(session, server, "historian_streams")).values()) < 1:
                assert len(viewers) < 200, "one worker takes all connections"
                viewers.append(Viewer(server.url, ["w/a"], now))
                tasks.append(asyncio.create_task(viewers[-1].run(session)))
                await viewers[-1].until(viewers[-1].live.is_set)
            for n in range(1, 11):
                await post(session, server, now + n)
            written = await by_worker(session, server, "historian_written_batches_total")
            assert sum(written.values()) == 11
            for viewer in viewers:
                await viewer.until(lambda viewer=viewer: viewer.holds(viewer.tags[0]["tag_id"], now + 10))
                assert sorted(viewer.received.ts.tolist()) == list(range(now, now + 11))

            victim = workers_of(server)[0]
            victim.kill()
            async with asyncio.timeout(30):
                while not any(task.done() for task in tasks):
                    await asyncio.sleep(0.01)
            # nobody waits for the one that is away
            for n in range(11, 31):
                await post(session, server, now + n)
            others = [n for n, task in enumerate(tasks) if not task.done()]
            assert others, "the others were disturbed"
            for n in others:
                await viewers[n].until(lambda n=n: viewers[n].holds(viewers[n].tags[0]["tag_id"], now + 30))
            async with asyncio.timeout(60):
                while len(await by_worker(session, server, "historian_streams")) < 2:
                    await asyncio.sleep(0.05)
            async with session.get(f"{server.url}/metrics") as answer:
                text = await answer.text()
            assert "\nhistorian_server_workers 2.0\n" in text
            assert "\nhistorian_server_worker_restarts_total 1.0\n" in text
            assert "SIGKILL" in server.log
            # those that lost their worker go on by their cursors, at this one or another
            for n, viewer in enumerate(viewers):
                if n not in others:
                    tasks[n] = asyncio.create_task(viewer.run(session))
                await viewer.until(lambda viewer=viewer: viewer.holds(viewer.tags[0]["tag_id"], now + 30))
                assert sorted(viewer.received.ts.tolist()) == list(range(now, now + 31))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    # a supervisor that is killed takes its workers with it, and the port is free
    workers = workers_of(server)
    assert len(workers) == 2
    server.kill()
    assert not psutil.wait_procs(workers, timeout=30)[1]
    with socket.create_server(("127.0.0.1", int(server.url.rpartition(":")[2]))):
        pass
    assert "Traceback" not in server.log


def test_why_workers_cannot_start_is_said_once(database: str, database_as_owner: str) -> None:
    import psycopg

    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("serve", "--dsn", database, "--workers", "2", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "cannot listen" in done.stderr
    with psycopg.connect(database_as_owner) as conn:
        conn.execute("INSERT INTO historian.migration (number, name, engine) SELECT 9999, 'future', max(engine) FROM historian.migration")
    done = run("serve", "--dsn", database, "--workers", "2", "--port", "0")
    assert done.returncode == 1
    assert done.stderr.count("install a newer historian") == 1
    assert "Traceback" not in done.stderr
