"""The clients of /v1/ingest against real servers, over connections that break, servers that are killed and databases that are restarted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest
from processes import Serve
from proxy import Proxy

from historian.client import AsyncClient
from historian.client.ingest import IngestLink
from historian.embedded import EmbeddedDatabase
from historian.ingest.path_samples import PathSamples
from historian.schema.catalogue import TagDefinition
from historian.schema.connection import Pool
from historian.schema.errors import BadSamples, Conflict, TooLarge, Unavailable
from historian.schema.migrate import upgrade
from historian.server.run import Server, serving
from historian.settings import Settings

START = 1_700_000_000_000_000
ROWS = 100


def batch(seq: int, rows: int = ROWS, *, tags: int = 4) -> PathSamples:
    """The rows that follow those of the batch before: row n of all has the value n."""
    number = np.arange(seq * rows, (seq + 1) * rows)
    return PathSamples(
        [f"mill/tag{n}" for n in range(tags)],
        (number % tags).astype(np.int32),
        START + number * 1000,
        number.astype(np.float64),
        np.full(rows, 192, np.int16),
    )


@asynccontextmanager
async def linked(url: str, producer: str = "mill", **options: Any) -> AsyncIterator[IngestLink]:
    link = IngestLink(url, producer, **options)
    try:
        yield link
    finally:
        await link.close()


async def check_stored(dsn: str, samples: int) -> None:
    """Each value from 0 on is there exactly once."""
    async with await psycopg.AsyncConnection.connect(dsn) as conn:
        found = await (
            await conn.execute("SELECT count(*), count(DISTINCT value), min(value), max(value) FROM historian.samples")
        ).fetchone()
    assert found == (samples, samples, 0, samples - 1)


async def all_delivered(link: IngestLink, seqs: range) -> list[bool]:
    """Whether each had been committed before; like a worker, it tries again for as long as the server is away."""

    async def one(seq: int) -> bool:
        while True:
            try:
                return await link.deliver(seq, batch(seq))
            except Unavailable:
                await asyncio.sleep(0.05)

    return await asyncio.gather(*(one(seq) for seq in seqs))


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_what_is_delivered_is_on_disk_and_counts_once(server: Server, database: str) -> None:
    async with linked(server.url) as link:
        assert await link.next_seq() == 0
        for seq in range(5):
            assert await link.deliver(seq, batch(seq)) is False
            await check_stored(database, (seq + 1) * ROWS)
        assert await asyncio.gather(*(link.deliver(seq, batch(seq)) for seq in range(300))) == [True] * 5 + [False] * 295
        assert await link.next_seq() == 300
    await check_stored(database, 300 * ROWS)
    async with linked(server.url) as link:
        assert await link.next_seq() == 300


async def test_text_and_definitions_arrive(server: Server, pool: Pool) -> None:
    async with linked(server.url) as link:
        await link.define([TagDefinition(path="mill/speed", unit="rpm")])
        rows = [
            {"tag": "mill/phase", "ts": START, "value": None, "quality": 192, "text": "grinding"},
            {"tag": "mill/speed", "ts": START, "value": 1450.0, "quality": 192},
            {"tag": "mill/speed", "ts": START + 1, "value": None, "quality": 0},
        ]
        assert await link.deliver(0, PathSamples.of_rows(rows)) is False
        with pytest.raises(Conflict):
            await link.define([TagDefinition(path="mill/speed", kind="text")])
    stored = await pool.fetch("SELECT tag, text, value FROM historian.samples ORDER BY tag, ts")
    assert [tuple(row)[:2] for row in stored] == [("mill/phase", "grinding"), ("mill/speed", None), ("mill/speed", None)]
    assert await pool.fetchval("SELECT unit FROM historian.tag WHERE path = 'mill/speed'") == "rpm"


async def test_a_bad_batch_fails_alone(server: Server, database: str) -> None:
    good = batch(1)
    bad = PathSamples(good.paths, good.tag, good.ts, np.full(ROWS, np.inf), good.quality)
    async with linked(server.url) as link:
        found = await asyncio.gather(*(link.deliver(seq, bad if seq == 7 else batch(seq)) for seq in range(20)), return_exceptions=True)
        assert isinstance(found[7], BadSamples)
        assert (found[7].count, found[7].faults[0].row) == (ROWS, 0)
        assert [one for seq, one in enumerate(found) if seq != 7] == [False] * 19
        # nothing was stored under its seq
        assert await link.deliver(7, batch(7)) is False
        with pytest.raises(Conflict, match="another batch as seq 7"):
            await link.deliver(7, batch(8))
    await check_stored(database, 20 * ROWS)


async def test_a_connection_that_breaks_again_and_again_loses_and_doubles_nothing(server: Server, database: str) -> None:
    async with Proxy(server.url) as proxy, linked(proxy.url) as link:
        delivering = asyncio.create_task(all_delivered(link, range(1500)))
        for cut in range(8):
            await until(lambda least=(cut + 1) * 100: server.services.writer.counts.batches >= least or delivering.done())
            proxy.cut()
        await delivering
        assert link.reconnects > 0
        await check_stored(database, 1500 * ROWS)


async def test_a_link_that_cannot_be_mended_says_so_soon_and_works_again_later(server: Server, database: str) -> None:
    async with Proxy(server.url) as proxy, linked(proxy.url, retry_s=0.5) as link:
        await link.deliver(0, batch(0))
        await proxy.away()
        began = time.monotonic()
        found = await asyncio.gather(*(link.deliver(seq, batch(seq)) for seq in range(1, 400)), return_exceptions=True)
        assert {type(one) for one in found} == {Unavailable}
        assert time.monotonic() - began < 5
        # by now it is known to be away
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await link.deliver(1, batch(1))
        assert time.monotonic() - began < 0.5
        await proxy.back()
        await asyncio.gather(*(link.deliver(seq, batch(seq)) for seq in range(1, 400)))
    await check_stored(database, 400 * ROWS)


async def test_one_link_at_a_time_has_a_name_and_the_same_worker_has_it_again_at_once(server: Server, database: str) -> None:
    async with linked(server.url, instance="one") as first:
        await first.deliver(0, batch(0))
        async with linked(server.url, instance="two") as second:
            with pytest.raises(Conflict, match="'mill' is connected already"):
                await second.next_seq()
            with pytest.raises(Conflict):
                await second.deliver(1, batch(1))
        async with linked(server.url, instance="one") as again:
            assert await again.next_seq() == 1
            assert await again.deliver(1, batch(1)) is False
    await check_stored(database, 2 * ROWS)


async def test_a_server_that_is_killed_with_many_under_way_gets_everything_once(serve: Serve, database: str) -> None:
    server = serve()
    async with linked(server.url) as link:
        for start in (0, 500, 1000):
            delivering = asyncio.create_task(all_delivered(link, range(start, start + 500)))
            await until(lambda: link.unanswered > 20)
            server.kill()
            await asyncio.to_thread(server.start)
            await delivering
        assert await link.next_seq() == 1500
    await check_stored(database, 1500 * ROWS)


async def test_a_database_that_is_restarted_gets_everything_once(short_tmp: Path) -> None:
    embedded = EmbeddedDatabase(short_tmp / "ingest")
    await asyncio.to_thread(embedded.start)
    try:
        await asyncio.to_thread(upgrade, embedded.dsn)
        async with serving(embedded.dsn, Settings(port=0)) as server, linked(server.url) as link, linked(server.url, "another") as other:
            await other.next_seq()
            for start in (0, 600):
                delivering = asyncio.create_task(all_delivered(link, range(start, start + 600)))
                await until(lambda least=start + 100: server.services.writer.counts.batches >= least)
                await asyncio.to_thread(embedded.stop)
                await asyncio.to_thread(embedded.start)
                await delivering
            # it was the same connection all the while, and its name is still its own
            assert link.reconnects == 0
            async with linked(server.url) as intruder:
                with pytest.raises(Conflict):
                    await intruder.next_seq()
        await check_stored(embedded.dsn, 1200 * ROWS)
    finally:
        await asyncio.to_thread(embedded.stop)


async def test_a_database_that_does_not_answer_is_told_and_the_batch_goes_on_when_it_is_delivered_again(
    server: Server, database: str
) -> None:
    async with linked(server.url, ack_s=1.0) as link:
        await link.deliver(0, batch(0))
        async with await psycopg.AsyncConnection.connect(database) as conn:
            await conn.execute("LOCK TABLE historian.ledger IN ACCESS EXCLUSIVE MODE")
            found = await asyncio.gather(*(link.deliver(seq, batch(seq)) for seq in range(1, 300)), return_exceptions=True)
            assert {type(one) for one in found} == {Unavailable}
            # more than the credit was never sent
            assert link.unanswered == server.services.ingests.counts.in_flight == server.services.settings.ingest_batches
            with pytest.raises(Unavailable, match="acknowledged nothing"):
                await link.deliver(1, batch(1))
            again = asyncio.create_task(all_delivered(link, range(300)))
            await conn.rollback()
        await again
        assert link.reconnects == 0
    await check_stored(database, 300 * ROWS)


async def test_many_under_way_are_faster_than_one_by_one(server: Server, database: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with linked(server.url) as link:
        await link.deliver(0, batch(0))
        began = time.perf_counter()
        for seq in range(1, 201):
            await link.deliver(seq, batch(seq))
        one_by_one = time.perf_counter() - began
        began = time.perf_counter()
        await asyncio.gather(*(link.deliver(seq, batch(seq)) for seq in range(201, 401)))
        together = time.perf_counter() - began
    await check_stored(database, 401 * ROWS)
    with capsys.disabled():
        print(
            f"\n200 batches of {ROWS}: one by one {one_by_one:.2f} s, together {together:.2f} s: {one_by_one / together:.1f} times as fast"
        )


async def test_a_batch_beyond_the_credit_is_refused_before_it_is_sent(database: str) -> None:
    async with serving(database, Settings(port=0, ingest_window=10_000)) as server, linked(server.url) as link:
        with pytest.raises(TooLarge, match="10000"):
            await link.deliver(0, batch(0, 5000))
        assert await link.deliver(0, batch(0)) is False


# -- the public one


def frame_of(first: int, rows: int) -> pd.DataFrame:
    number = np.arange(first, first + rows)
    return pd.DataFrame({"tag": "mill/tag0", "ts": START + number * 1000, "value": number.astype(float)})


async def test_a_program_writes_much_and_flushes(server: Server, database: str) -> None:
    async with AsyncClient(server.url) as client:
        async with client.ingest("mill") as ingest:
            for n in range(100):
                await ingest.write(frame_of(n * 1000, 1000))
            await ingest.flush()
            await check_stored(database, 100_000)
            # as several batches
            await ingest.write(frame_of(100_000, 120_000))
            with pytest.raises(Conflict):
                async with client.ingest("mill"):
                    pass
        assert ingest.samples == 220_000
        await check_stored(database, 220_000)
        assert await client.committed("mill") == [(0, 102)]
        async with client.ingest("mill") as ingest:
            await ingest.write(frame_of(220_000, 10))
        assert await client.committed("mill") == [(0, 103)]
        async with client.ingest() as nameless:
            await nameless.write(frame_of(220_010, 10))
    await check_stored(database, 220_020)


async def test_a_fault_is_raised_at_the_next_call_with_its_seq_and_rows_and_the_others_are_stored(server: Server, database: str) -> None:
    bad = frame_of(50, 60_000)
    bad.loc[55_000, "value"] = np.inf
    async with AsyncClient(server.url) as client, client.ingest("mill") as ingest:
        await ingest.write(frame_of(0, 50))
        await ingest.write(bad)
        with pytest.raises(
            BadSamples, match=r"batch 2 of producer 'mill' \(rows 50000 to 59999 of its data\) was not stored: row 55000: value"
        ) as raised:
            await ingest.flush()
        assert raised.value.faults[0].row == 55_000
        # told once
        await ingest.flush()
        await ingest.write(frame_of(50_050, 10_000))
    await check_stored(database, 60_050)


async def test_writing_waits_for_credit_and_goes_on_over_broken_connections(database: str) -> None:
    settings = Settings(port=0, ingest_batches=4)
    async with serving(database, settings) as server, Proxy(server.url) as proxy, AsyncClient(proxy.url) as client:
        async with client.ingest("mill") as ingest:
            await ingest.write(frame_of(0, 10))
            async with await psycopg.AsyncConnection.connect(database) as conn:
                await ingest.flush()
                await conn.execute("LOCK TABLE historian.ledger IN ACCESS EXCLUSIVE MODE")

                async def write_all() -> None:
                    for n in range(1, 40):
                        await ingest.write(frame_of(n * 10, 10))

                writing = asyncio.create_task(write_all())
                await until(lambda: server.services.ingests.counts.in_flight == 4)
                assert not writing.done()
                await conn.rollback()
            proxy.cut()
            await writing
        await check_stored(database, 400)


async def test_leaving_by_an_error_does_not_wait_and_a_server_that_is_gone_is_told(server: Server) -> None:
    async with Proxy(server.url) as proxy, AsyncClient(proxy.url, retry_s=0.3) as client:

        async def fail() -> None:
            async with client.ingest("mill") as ingest:
                await ingest.write(frame_of(0, 10))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        async with client.ingest("kiln") as ingest:
            await proxy.away()
            await ingest.write(frame_of(0, 10))
            with pytest.raises(Unavailable, match=r"batch 0 of producer 'kiln' \(rows 0 to 9 of its data\)"):
                await ingest.flush()
