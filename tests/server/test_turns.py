"""Turns: few places, shared fairly by clients that ask for many."""

from __future__ import annotations

import asyncio

import pytest

from historian.schema.errors import Busy
from historian.server.turns import Turns


class Client:
    """Asks for places, holds them until told to let go, and remembers the order in which they came."""

    def __init__(self, turns: Turns, order: list[str]) -> None:
        self._turns = turns
        self._order = order
        self.tasks: list[asyncio.Task[None]] = []
        self.held: list[asyncio.Event] = []

    async def _hold(self, who: str) -> None:
        async with self._turns.turn(who):
            self._order.append(who)
            done = asyncio.Event()
            self.held.append(done)
            await done.wait()

    async def ask(self, who: str, times: int = 1) -> None:
        self.tasks += [asyncio.create_task(self._hold(who)) for _ in range(times)]
        await settled()

    async def let_go(self) -> None:
        self.held.pop(0).set()
        await settled()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def turns() -> Turns:
    return Turns(4, waiting=100, patience_s=30)


async def test_one_client_leaves_a_place_to_others_and_they_go_first(turns: Turns) -> None:
    order: list[str] = []
    clients = Client(turns, order)
    await clients.ask("greedy", 100)
    assert order == ["greedy"] * 3, "one of four is for others"
    await clients.ask("modest")
    await clients.ask("late", 2)
    assert order[3:] == ["modest"], "at once"
    for _ in range(4):
        await clients.let_go()
    assert order[4:] == ["late", "greedy", "greedy", "late"], "who holds fewest, and of those who waits longest"
    while clients.held:
        await clients.let_go()
    assert len(order) == 103
    assert (turns.held, turns.waiting) == (0, 0)


async def test_among_equals_who_waits_longest_is_next() -> None:
    turns, order = Turns(1, waiting=10, patience_s=30), []
    clients = Client(turns, order)
    for who in ("a", "b", "a", "c"):
        await clients.ask(who)
    for _ in range(4):
        await clients.let_go()
    assert order == ["a", "b", "a", "c"]


async def test_who_leaves_the_queue_takes_no_turn(turns: Turns) -> None:
    order: list[str] = []
    clients = Client(turns, order)
    await clients.ask("a", 3)
    await clients.ask("b", 1)
    await clients.ask("c", 2)
    clients.tasks[4].cancel()
    # this one in the moment in which its turn comes
    clients.held.pop(0).set()
    clients.tasks[5].cancel()
    await settled()
    assert (turns.held, turns.waiting) == (3, 0)
    await clients.ask("d")
    assert order[-1] == "d"


async def test_too_many_that_wait_and_too_long_a_wait_are_told() -> None:
    turns = Turns(1, waiting=2, patience_s=0.05)
    clients = Client(turns, [])
    await clients.ask("a", 3)
    with pytest.raises(Busy, match="2 queries of this client wait") as caught:
        async with turns.turn("a"):
            pass
    assert caught.value.retry_after == 5
    with pytest.raises(Busy, match="1 queries are being answered"):
        async with turns.turn("b"):
            pass
    assert [type(error) for error in await asyncio.gather(*clients.tasks[1:], return_exceptions=True)] == [Busy, Busy]
    await clients.let_go()
    assert (turns.held, turns.waiting) == (0, 0)
