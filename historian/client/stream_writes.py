"""Values written over the connection of a live stream: each is answered after its commit, and sent again over the next connection until it is."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from historian.client.commands import SHORTEST_S, Command, command_of, new_key
from historian.client.problems import error_of
from historian.client.stream_link import Link
from historian.schema.errors import HistorianError, Unavailable

#: as many as the server lets wait
_AT_ONCE = 32


@dataclass(slots=True)
class _Write:
    """One that is under way. `committed` and then, where it was not settled by then, `settled` have the row of the audit."""

    tag: str
    value: bool | int | float | str
    key: str
    deadline: float
    committed: asyncio.Future[Command] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    settled: asyncio.Future[Command] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def message(self, number: int) -> dict[str, Any]:
        # one that is sent again expires when the first one would have
        left = max(self.deadline - time.monotonic(), SHORTEST_S)
        return {"type": "write", "id": number, "tag": self.tag, "value": self.value, "key": self.key, "timeout": left}


class StreamWrites:
    """Those of one stream, over all of its connections. `answer` is shown what a connection receives, `connected` each new one, `end` the end."""

    def __init__(self) -> None:
        self._under_way: dict[int, _Write] = {}
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._last = 0
        self._link: Link | None = None
        self._over = False

    async def perform(self, tag: str, value: bool | int | float | str, *, key: str | None, timeout_s: float, wait_s: float) -> Command:
        """See `Stream.write`."""
        write = _Write(tag, value, key or new_key(), time.monotonic() + timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                await self._places.acquire()
        except TimeoutError:
            raise Unavailable(f"{_AT_ONCE} writes of this stream wait for their answers, and none came within {timeout_s:g} s") from None
        number = self._number()
        self._under_way[number] = write
        try:
            if self._over:
                raise Unavailable("the stream is over")
            async with asyncio.timeout(write.deadline - time.monotonic()):
                if self._link is not None:
                    await self._link.send(write.message(number))
                command = await write.committed
            if not command.settled and wait_s > 0:
                # what it was when it was committed is the answer where no other comes
                with suppress(TimeoutError, Unavailable):
                    async with asyncio.timeout(wait_s):
                        return await write.settled
            return command
        except TimeoutError:
            raise Unavailable(f"no answer within {timeout_s:g} s: whether it is committed, the same key tells ({write.key})") from None
        finally:
            del self._under_way[number]
            self._places.release()

    def _number(self) -> int:
        while True:
            self._last = self._last % 65_535 + 1
            if self._last not in self._under_way:
                return self._last

    def answer(self, message: dict[str, Any]) -> bool:
        """Whether this message was the answer to a write."""
        kind = message.get("type")
        if kind not in ("written", "outcome") and not (kind == "error" and message.get("request") == "write"):
            return False
        write = self._under_way.get(message.get("id", 0))
        if write is None:
            # its writer has given up waiting
            return True
        try:
            if kind == "error":
                raise error_of({**message, "type": message.get("problem")}, status=int(message.get("status") or 500))
            command = command_of(message, replayed=bool(message.get("replayed")))
        except HistorianError as error:
            _fail(write, error)
            return True
        if not write.committed.done():
            write.committed.set_result(command)
        elif command.settled and not write.settled.done():
            write.settled.set_result(command)
        return True

    async def connected(self, link: Link) -> None:
        """Send what is not answered over this connection."""
        self._link = link
        for number, write in list(self._under_way.items()):
            await link.send(write.message(number))

    def disconnected(self) -> None:
        self._link = None

    def end(self) -> None:
        """No connection follows."""
        self._over = True
        self._link = None
        for write in self._under_way.values():
            _fail(write, Unavailable(f"the stream ended before the answer: whether it is committed, the same key tells ({write.key})"))


def _fail(write: _Write, error: HistorianError) -> None:
    waited_for = write.settled if write.committed.done() else write.committed
    if not waited_for.done():
        waited_for.set_exception(error)
        # its writer may be on the way out
        waited_for.exception()
