"""Streams of the client against a real server: history, seam, live tail, and what happens when the connection breaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from proxy import Proxy

from historian.client import Added, AsyncClient, Batch, Changed, Gap, Live, Lost, Opened, Refused, Stream
from historian.schema.errors import BadInput, Unavailable, UnknownTag
from historian.server.run import Server, serving
from historian.settings import Settings

US = 1_767_225_600_000_000


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.url) as client:
        yield client


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[Proxy]:
    async with Proxy(server.url) as proxy:
        yield proxy


def rows(tag: str, start: int, n: int) -> pa.Table:
    return pa.table({"tag": [tag] * n, "ts": US + (start + np.arange(n)) * 1000, "value": (start + np.arange(n)) / 4})


def numbers(batches: list[pa.RecordBatch]) -> list[int]:
    """Which of the rows that `rows` makes these are."""
    return [int(value * 4) for batch in batches for value in batch.column("value").to_pylist()]


async def take(stream: Stream, n: int) -> list[pa.RecordBatch]:
    """Batches until they have n rows."""
    batches: list[pa.RecordBatch] = []
    async with asyncio.timeout(20):
        while sum(batch.num_rows for batch in batches) < n:
            batches.append(await anext(stream))
    return batches


async def until(stream: Stream, what: Callable[[Any], bool]) -> list[Any]:
    """Events up to and with the first that is so."""
    events: list[Any] = []
    async with asyncio.timeout(20):
        async for event in stream.events():
            events.append(event)
            if what(event):
                return events
    raise AssertionError(f"the stream ended: {events}")


async def test_history_and_then_every_sample_once(client: AsyncClient) -> None:
    await client.write(rows("s/x", 0, 1000))
    async with client.stream("s/#", from_=US) as stream:
        assert [tag.path for tag in stream.tags] == ["s/x"]
        assert not stream.live
        got = await take(stream, 1000)
        await until(stream, lambda event: isinstance(event, Live))
        assert stream.live
        assert stream.cursor > 0
        for n in range(5):
            await client.write(rows("s/x", 1000 + n * 10, 10))
        got += await take(stream, 50)
        assert numbers(got) == list(range(1050))
        # a wildcard may come to match a text tag
        assert got[0].schema.names == ["tag", "ts", "value", "quality", "text", "tag_id"]
        assert set(got[-1].column("tag").to_pylist()) == {"s/x"}
        assert list(stream.gaps) == []


async def test_a_stream_that_ends_in_the_past_ends(client: AsyncClient) -> None:
    await client.write(rows("s/x", 0, 100))
    got = [batch async for batch in client.stream("s/x", from_=US, to=US + 50_000)]
    assert numbers(got) == list(range(50))
    assert [batch async for batch in client.stream("none/#", from_=US, to=US + 1)] == []


async def test_events_tell_all_that_happens(client: AsyncClient) -> None:
    await client.write(rows("s/x", 0, 3))
    async with client.stream("s/x", from_=US) as stream:
        opened, batch, live = await until(stream, lambda event: isinstance(event, Live))
        assert isinstance(opened, Opened)
        assert opened.resumed is None
        assert isinstance(batch, Batch)
        assert batch.backfill
        await client.write(rows("s/x", 3, 1))
        later = (await until(stream, lambda event: isinstance(event, Batch)))[-1]
        assert not later.backfill
        assert later.cursor > live.cursor


async def test_a_stream_without_history_brings_what_is_committed_whatever_its_time(client: AsyncClient) -> None:
    await client.write(rows("s/x", 0, 100))
    async with client.stream("s/x") as stream:
        await until(stream, lambda event: isinstance(event, Live))
        await client.write(rows("s/x", -500, 5))
        assert numbers(await take(stream, 5)) == list(range(-500, -495))


async def test_a_history_of_many_frames_is_taken_slowly(client: AsyncClient) -> None:
    n = 1_500_000
    for start in range(0, n, 500_000):
        await client.write(rows("s/x", start, 500_000))
    received = 0
    async with client.stream("s/x", from_=US) as stream:
        while received < n:
            batch = await anext(stream)
            assert int(batch.column("value")[0].as_py() * 4) == received
            received += batch.num_rows
            await asyncio.sleep(0.01)
        await client.write(rows("s/x", n, 1))
        assert numbers([await anext(stream)]) == [n]


async def test_a_lost_connection_is_opened_again_behind_the_last_batch(proxy: Proxy, client: AsyncClient) -> None:
    await client.write(rows("s/x", 0, 100))
    async with AsyncClient(proxy.url) as unlucky, unlucky.stream("s/x", from_=US) as stream:
        got = await take(stream, 100)
        await until(stream, lambda event: isinstance(event, Live))
        for n in range(5):
            proxy.cut()
            await client.write(rows("s/x", 100 + n * 10, 10))
            got += await take(stream, 10)
        assert numbers(got) == list(range(150))
        assert stream.reconnects >= 4
        assert list(stream.gaps) == []


async def test_a_server_that_is_away_is_waited_for(proxy: Proxy, client: AsyncClient) -> None:
    await client.write(rows("s/x", 0, 10))
    async with AsyncClient(proxy.url) as unlucky, unlucky.stream("s/x", from_=US) as stream:
        await until(stream, lambda event: isinstance(event, Live))
        await proxy.away()
        lost = (await until(stream, lambda event: isinstance(event, Lost)))[-1]
        assert lost.reason
        assert not stream.live
        await client.write(rows("s/x", 10, 10))
        coming = asyncio.create_task(take(stream, 10))
        await asyncio.sleep(0.3)
        assert not coming.done()
        await proxy.back()
        assert numbers(await coming) == list(range(10, 20))


async def test_a_history_that_breaks_off_begins_again_and_says_so(proxy: Proxy, client: AsyncClient) -> None:
    for start in range(0, 400_000, 200_000):
        await client.write(rows("s/x", start, 200_000))
    told: list[Gap] = []
    async with AsyncClient(proxy.url) as unlucky:
        proxy.cut_after(3_000_000)
        async with unlucky.stream("s/x", from_=US, on_gap=told.append) as stream:
            events = await until(stream, lambda event: isinstance(event, Live))
    assert [gap.reason for gap in told] == ["restarted"]
    assert told[0].start.timestamp() * 1e6 == US
    restart = next(n for n, event in enumerate(events) if isinstance(event, Gap))
    assert numbers([event.samples for event in events[restart:] if isinstance(event, Batch)]) == list(range(400_000))


async def test_a_history_that_always_breaks_off_is_given_up(proxy: Proxy, client: AsyncClient) -> None:
    await client.write(rows("s/x", 0, 300_000))
    async with AsyncClient(proxy.url) as unlucky:
        proxy.cut_after(2_000_000)
        stream = unlucky.stream("s/x", from_=US)

        def cut_again(event: Any) -> bool:
            if isinstance(event, Lost):
                proxy.cut_after(2_000_000)
            return False

        with pytest.raises(Unavailable, match="broke"):
            await until(stream, cut_again)


async def test_a_restarted_server_no_longer_has_the_cursor_and_the_history_comes_anew(database: str) -> None:
    async with AsyncExitStack() as stack:
        async with serving(database, Settings(port=0)) as first, AsyncClient(first.url) as writer:
            await writer.write(rows("s/x", 0, 10))
            reader = await stack.enter_async_context(AsyncClient(first.url))
            stream = reader.stream("s/x", from_=US)
            await until(stream, lambda event: isinstance(event, Live))
        async with serving(database, Settings(port=port_of(first))) as second, AsyncClient(second.url) as writer:
            await writer.write(rows("s/x", 10, 10))
            events = await until(stream, lambda event: isinstance(event, Live))
            assert [gap.reason for gap in stream.gaps] == ["cursor-expired"]
            assert numbers([event.samples for event in events if isinstance(event, Batch)]) == list(range(20))
            await reader.close()


async def test_a_stream_without_history_says_what_a_restart_may_have_cost(database: str) -> None:
    async with AsyncExitStack() as stack:
        async with serving(database, Settings(port=0)) as first, AsyncClient(first.url) as writer:
            await writer.write(rows("s/x", 0, 1))
            reader = await stack.enter_async_context(AsyncClient(first.url))
            stream = reader.stream("s/x")
            await until(stream, lambda event: isinstance(event, Live))
            before = time.time()
        async with serving(database, Settings(port=port_of(first))):
            await until(stream, lambda event: isinstance(event, Live))
            (gap,) = stream.gaps
            assert gap.reason == "cursor-expired"
            assert before - 5 <= gap.start.timestamp() < gap.end.timestamp()
            await reader.close()


def port_of(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


async def test_a_cursor_resumes_in_another_stream(client: AsyncClient) -> None:
    await client.write(rows("s/x", 0, 10))
    async with client.stream("s/x", from_=US) as stream:
        await until(stream, lambda event: isinstance(event, Live))
        cursor = stream.cursor
    await client.write(rows("s/x", 10, 10))
    async with client.stream("s/x", from_=US, cursor=cursor) as stream:
        assert numbers(await take(stream, 10)) == list(range(10, 20))
        assert list(stream.gaps) == []


async def test_reconnecting_can_be_declined(proxy: Proxy, client: AsyncClient) -> None:
    await client.write(rows("s/x", 0, 1))
    async with AsyncClient(proxy.url) as unlucky, unlucky.stream("s/x", from_=US, reconnect=False) as stream:
        await until(stream, lambda event: isinstance(event, Live))
        proxy.cut()
        with pytest.raises(Unavailable, match="broke"):
            await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_what_is_wrong_is_raised_where_the_stream_is_opened(client: AsyncClient) -> None:
    with pytest.raises(UnknownTag, match="s/nothing"):
        async with client.stream("s/nothing"):
            pass
    with pytest.raises(BadInput, match="points"):
        async with client.stream("s/#", from_=US, mode="minmax", points=1):
            pass
    async with AsyncClient("http://127.0.0.1:9") as lost:
        with pytest.raises(Unavailable, match="historian serve"):
            await anext(lost.stream("s/#"))


async def test_a_wait_that_is_cancelled_loses_nothing(client: AsyncClient) -> None:
    await client.write(rows("s/x", 0, 1))
    async with client.stream("s/x", from_=US) as stream:
        await until(stream, lambda event: isinstance(event, Live))
        for n in range(1, 6):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await anext(stream)
            await client.write(rows("s/x", n, 1))
            assert numbers(await take(stream, 1)) == [n]


async def test_closing_ends_an_iteration_that_waits(client: AsyncClient) -> None:
    await client.write(rows("s/x", 0, 1))
    stream = client.stream("s/x", from_=US)
    await until(stream, lambda event: isinstance(event, Live))

    async def rest() -> list[pa.RecordBatch]:
        return [batch async for batch in stream]

    waiting = asyncio.create_task(rest())
    await asyncio.sleep(0.05)
    await stream.aclose()
    async with asyncio.timeout(5):
        assert await waiting == []


async def test_tags_that_are_made_later_come_with_their_names(client: AsyncClient) -> None:
    await client.write(rows("later/a", 0, 1))
    async with client.stream("later/#", from_=US) as stream:
        await until(stream, lambda event: isinstance(event, Live))
        await client.write(rows("later/b", 1, 1))
        *_, added, batch = await until(stream, lambda event: isinstance(event, Batch))
        assert isinstance(added, Added)
        assert [tag.path for tag in added.tags] == ["later/b"]
        assert batch.samples.column("tag").to_pylist() == ["later/b"]
        assert [tag.path for tag in stream.tags] == ["later/a", "later/b"]


async def test_tags_are_added_and_removed_on_an_open_stream(client: AsyncClient) -> None:
    await client.write(rows("ch/a", 0, 1))
    await client.write(rows("ch/b", 1, 1))
    async with client.stream("ch/a", from_=US, order="newest", max_rate=100) as stream:
        await until(stream, lambda event: isinstance(event, Live))
        await stream.change(add=["ch/b"], remove=["ch/a"])
        changed, batch, _ = await until(stream, lambda event: isinstance(event, Live))
        assert isinstance(changed, Changed)
        assert ([tag.path for tag in changed.added], [tag.path for tag in changed.removed]) == (["ch/b"], ["ch/a"])
        assert (numbers([batch.samples]), batch.backfill) == ([1], True)
        assert [tag.path for tag in stream.tags] == ["ch/b"]
        await stream.change(add=["ch/none"])
        (refused,) = await until(stream, lambda event: isinstance(event, Refused))
        assert isinstance(refused.error, UnknownTag)
        await client.write(rows("ch/a", 10, 1))
        await client.write(rows("ch/b", 11, 1))
        assert numbers(await take(stream, 1)) == [11]
        # who takes batches alone is told too, and goes on
        await stream.change(remove=["ch/a"])
        with pytest.raises(BadInput, match="not asked for"):
            await anext(stream)
        await client.write(rows("ch/b", 12, 1))
        assert numbers(await take(stream, 1)) == [12]


async def test_changes_outlive_a_lost_connection(proxy: Proxy, client: AsyncClient) -> None:
    """One that was made, and one of which the last connection has not seen the end."""
    for n, name in enumerate(("lc/a", "lc/b", "lc/c")):
        await client.write(rows(name, n, 1))
    async with AsyncClient(proxy.url) as far, far.stream("lc/a", from_=US) as stream:
        await until(stream, lambda event: isinstance(event, Live))
        await stream.change(add=["lc/b"])
        await until(stream, lambda event: isinstance(event, Live))
        await stream.change(add=["lc/c"], remove=["lc/a"])
        proxy.cut()
        got = await until(stream, lambda event: isinstance(event, Lost))
        got += await until(stream, lambda event: isinstance(event, Changed) or (isinstance(event, Opened) and event.resumed is False))
        got += await until(stream, lambda event: isinstance(event, Live))
        await client.write(rows("lc/a", 10, 1))
        await client.write(rows("lc/c", 11, 1))
        got += await until(stream, lambda event: isinstance(event, Batch) and not event.backfill)
        found = numbers([event.samples for event in got if isinstance(event, Batch)])
        # the history of lc/c, perhaps twice; of the others nothing anew
        assert set(found) == {2, 11}
        assert sorted(tag.path for tag in stream.tags) == ["lc/b", "lc/c"]
