"""Commands from Python and from the command line, on a real server."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from client.proxy import Proxy
from commanding import OPERATOR, PLAIN, commanded
from processes import run

from historian.client import AsyncClient, Client
from historian.commands.commanders import Commanders
from historian.commands.grants import grant
from historian.schema.connection import Pool
from historian.schema.errors import BadInput, Conflict, Forbidden, Unavailable, UnknownTag
from historian.server.run import Server


@pytest.fixture
async def commanding(database: str, tmp_path: Path) -> AsyncIterator[Server]:
    async with commanded(database, tmp_path, token=PLAIN) as running:
        yield running


async def test_both_clients(commanding: Server) -> None:
    async with AsyncClient(commanding.url, token=OPERATOR) as client:
        done = await client.command("site/line1/setpoint", 20, key="a")
        assert (done.value, done.outcome, done.done, done.settled, done.commander, done.replayed) == (
            20,
            "written",
            True,
            True,
            "operator",
            False,
        )
        assert done.ts is not None
        assert done.ts.tzinfo is not None
        assert (await client.command("site/line1/setpoint", 20, key="a")).replayed
        for value, error in ((101, BadInput), (None, BadInput)):
            with pytest.raises(error):
                await client.command("site/line1/setpoint", value)  # type: ignore[arg-type]
        with pytest.raises(Forbidden, match="not writable"):
            await client.command("site/line1/measured", 1)
        with pytest.raises(UnknownTag):
            await client.command("site/line1/absent", 1)
        with pytest.raises(Conflict):
            await client.command("site/line1/setpoint", 1, key="a")
        late = await client.command("plant/valve", 5, timeout=0.7, wait=20)
        assert (late.outcome, late.done, late.settled) == ("expired", False, True)
        audit = await client.commands("site/#")
        assert len(audit) == 5
        assert await client.commands("site/#", limit=2) == audit[:2]
        assert [one.value for one in await client.commands(outcome="written")] == [20]
        assert (await client.command_of(done.command_id)).value == 20

    def synchronous() -> None:
        with Client(commanding.url, token=OPERATOR) as client:
            assert client.command("site/line1/mode", "manual").value == 1
            assert client.commands(outcome="written", limit=1)[0].previous is None
        with Client(commanding.url, token=PLAIN) as client, pytest.raises(Forbidden, match="no right"):
            client.command("site/line1/mode", 0)

    await asyncio.to_thread(synchronous)


async def test_an_answer_that_is_lost_does_not_make_a_second_command(commanding: Server, pool: Pool) -> None:
    async with Proxy(commanding.url) as proxy, AsyncClient(proxy.url, token=OPERATOR) as client:
        await client.tags()
        proxy.swallow_answers(1)
        done = await client.command("site/line1/setpoint", 20)
        assert done.replayed
        assert await pool.fetchval("SELECT count(*) FROM historian.command") == 1
        await proxy.away()
        # not later than it may be
        with pytest.raises(Unavailable):
            await client.command("plant/valve", 20, timeout=1)


async def test_writes_go_over_the_connection_on_which_one_watches(commanding: Server, pool: Pool) -> None:
    async with (
        AsyncClient(commanding.url, token=OPERATOR) as client,
        client.stream("site/line1/#") as stream,
        asyncio.timeout(30),
    ):
        done = await asyncio.gather(*(stream.write("site/line1/setpoint", n, key=f"s{n}") for n in range(50)))
        assert [(one.value, one.done, one.replayed, one.commander) for one in done] == [(n, True, False, "operator") for n in range(50)]
        assert (await stream.write("site/line1/setpoint", 3, key="s3")).replayed
        for tag, value, error in (("site/line1/setpoint", 101, BadInput), ("site/line1/measured", 1, Forbidden), ("none", 1, UnknownTag)):
            with pytest.raises(error):
                await stream.write(tag, value)
        # nobody takes it to the plant
        assert (await stream.write("plant/valve", 5, timeout=5)).outcome == "accepted"
        assert (await stream.write("plant/valve", 6, timeout=0.7, wait=20)).outcome == "expired"
        seen: list[float] = []
        while len(seen) < 50:
            seen += (await anext(stream)).column("value").to_pylist()
        assert seen == list(range(50))
    with pytest.raises(Unavailable, match="over"):
        await stream.write("site/line1/setpoint", 1)
    assert await pool.fetchval("SELECT count(*) FROM historian.command WHERE outcome = 'written'") == 50

    def synchronous() -> None:
        with Client(commanding.url, token=OPERATOR) as client, client.stream("site/line1/#") as stream:
            assert stream.write("site/line1/setpoint", 7).previous == 49

    await asyncio.to_thread(synchronous)


async def test_a_write_whose_connection_breaks_before_the_answer_is_done_once(commanding: Server, pool: Pool) -> None:
    async with Proxy(commanding.url) as proxy, AsyncClient(proxy.url, token=OPERATOR) as client:
        async with client.stream("site/line1/setpoint") as stream, asyncio.timeout(30):
            while not stream.live:
                await stream.next_event()
            proxy.swallow_answers(1)
            writing = asyncio.create_task(stream.write("site/line1/setpoint", 20))
            values: list[float] = []
            async for batch in stream:
                values += batch.column("value").to_pylist()
                if stream.reconnects and values:
                    break
            done = await writing
            assert (done.value, done.done) == (20, True)
            await proxy.away()
            # there is nobody, for good
            with pytest.raises(Unavailable, match="the same key tells"):
                await stream.write("site/line1/setpoint", 21, timeout=0.5)
            ended = asyncio.create_task(stream.write("site/line1/setpoint", 22, timeout=20))
            # it has begun
            await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="the stream ended"):
            await ended
    assert await pool.fetchval("SELECT count(*) FROM historian.command") == 1


async def test_the_command_line(commanding: Server, tmp_path: Path) -> None:
    env = {"HISTORIAN_URL": commanding.url, "HISTORIAN_TOKEN": OPERATOR}

    async def historian(*args: str, **more: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(run, *args, env=env | more)

    first, third, refused = await asyncio.gather(
        historian("commands", "write", "site/line2/setpoint", "-5", "--json"),
        historian("commands", "write", "plant/pump", "true", "--timeout", "0.5", "--wait", "20"),
        historian("commands", "write", "site/line1/mode", "automatic", HISTORIAN_TOKEN=PLAIN),
    )
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["value"] == -5
    assert (third.returncode, "expired" in third.stdout) == (1, True)
    assert (refused.returncode, "no right" in refused.stderr) == (1, True)
    listed = await historian("commands", "list", "--outcome", "refused")
    assert "site/line1/mode = automatic" in listed.stdout


def test_a_token_that_is_granted_is_in_the_file_as_its_hash_alone(tmp_path: Path) -> None:
    path = tmp_path / "commanders.toml"
    first = grant(path, "operator@line1", ["site/line1/#"])
    assert path.stat().st_mode & 0o777 == 0o600
    commanders = Commanders(path)
    second = grant(path, "worker", ["#"], deliver=True)
    assert first not in path.read_text()
    found, worker = commanders.find(first), commanders.find(second)
    assert found is not None
    assert worker is not None
    assert (found.name, found.may, found.has("site/line1/a"), found.has("site/line2/a")) == ("operator@line1", "command", True, False)
    assert (worker.name, worker.may) == ("worker", "deliver")
    for token in (None, "", "no", first + "x"):
        assert commanders.find(token) is None
    with pytest.raises(Conflict):
        grant(path, "worker", ["#"])
    for name, tags in (("with space", ["#"]), ("x", ["a/#/b"])):
        with pytest.raises(BadInput):
            grant(path, name, tags)
    path.write_text('[a]\nsha256 = "token-by-mistake"\n')
    with pytest.raises(BadInput, match="sha256") as fault:
        Commanders(path)
    assert "token-by-mistake" not in str(fault.value)
