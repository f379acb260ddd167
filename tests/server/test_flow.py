"""Flow: of the answers that are being sent few at a time go on, in turns, and none keeps the others waiting."""

from __future__ import annotations

import asyncio
from contextlib import closing

from historian.server.flow import Flow

#: of a turn that nobody has to wait for
LONG = 3600.0


async def test_the_first_piece_waits_for_nobody() -> None:
    permits = asyncio.Semaphore(1)
    await permits.acquire()
    with closing(Flow(permits)) as flow:
        await flow.step()
        second = asyncio.create_task(flow.step())
        await asyncio.sleep(0)
        assert not second.done()
        permits.release()
        await second
    assert not permits.locked()


async def test_an_answer_that_ends_lets_the_next_flow() -> None:
    permits = asyncio.Semaphore(1)
    flows = [Flow(permits, LONG) for _ in range(3)]
    for flow in flows:
        await flow.step()
    await flows[0].step()
    await flows[0].step()
    waiting = [asyncio.create_task(flow.step()) for flow in flows[1:]]
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [False, False]
    flows[0].close()
    await waiting[0]
    assert not waiting[1].done()
    flows[1].close()
    await waiting[1]
    flows[2].close()
    assert not permits.locked()


async def test_one_that_stands_still_loses_its_turn_and_all_get_the_same() -> None:
    permits = asyncio.Semaphore(1)
    order: list[int] = []

    async def answer(n: int) -> None:
        with closing(Flow(permits, 0.005)) as flow:
            for _ in range(4):
                await flow.step()
                order.append(n)
                # longer than its turn: for the database, or for a slow client
                await asyncio.sleep(0.02)

    async with asyncio.timeout(10):
        await asyncio.gather(*(answer(n) for n in range(5)))
    assert sorted(order[:5]) == list(range(5))
    assert all(order.count(n) == 4 for n in range(5))
    # never two turns ahead of another
    for end in range(len(order)):
        counts = [order[:end].count(n) for n in range(5)]
        assert max(counts) - min(counts) <= 2
    assert not permits.locked()


async def test_one_that_is_cancelled_while_it_waits_takes_nothing() -> None:
    permits = asyncio.Semaphore(1)
    first, second = Flow(permits, LONG), Flow(permits, LONG)
    for flow in (first, second):
        await flow.step()
    await first.step()
    waiting = asyncio.create_task(second.step())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    second.close()
    first.close()
    assert not permits.locked()
