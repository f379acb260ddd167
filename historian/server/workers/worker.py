"""A worker: a server like any other, on a port that its supervisor listens on. Run by the supervisor as `python -m historian.server.workers.worker FD`."""

from __future__ import annotations

import asyncio
import pickle
import signal
import socket
import sys
from typing import TYPE_CHECKING

from historian.schema.errors import HistorianError
from historian.server.process import in_loop
from historian.server.workers.channel import Channel, Message
from historian.server.workers.figures import families
from historian.server.workers.start import Start

if TYPE_CHECKING:
    from historian.server.run import Server

_ASK_S = 5.0


class _Metrics:
    """Asks the supervisor for the figures of all workers."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._next = 0

    async def text(self) -> bytes:
        number, self._next = self._next, self._next + 1
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            self._channel.send({"type": "metrics", "id": number})
            async with asyncio.timeout(_ASK_S):
                return await answer
        finally:
            del self._asked[number]

    def answered(self, message: Message) -> None:
        waiting = self._asked.get(message["id"])
        if waiting is not None and not waiting.done():
            waiting.set_result(message["text"].encode())


async def _listen(channel: Channel, metrics: _Metrics, running: list[Server]) -> None:
    """Until the supervisor is gone."""
    async for message in channel.messages():
        if message["type"] == "figures":
            found = families(running[0].services.metrics.registry) if running else []
            channel.send({"type": "figures", "id": message["id"], "families": found})
        elif message["type"] == "metrics":
            metrics.answered(message)


async def _run(start: Start, end: socket.socket) -> None:
    # once the process is frugal
    from historian.server.run import serving

    end.setblocking(False)
    channel = await Channel.over(end)
    stop = asyncio.Event()
    running: list[Server] = []
    main = asyncio.current_task()
    assert main is not None

    def on_signal() -> None:
        if running and not stop.is_set():
            stop.set()
        else:
            main.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    metrics = _Metrics(channel)
    listening = loop.create_task(_listen(channel, metrics, running))
    # a supervisor that was killed takes its workers with it
    listening.add_done_callback(lambda task: None if task.cancelled() else on_signal())
    try:
        async with serving(start.dsn, start.settings, listening=socket.socket(fileno=start.listening)) as server:
            server.services.exposition = metrics.text
            running.append(server)
            channel.send({"type": "ready", "url": server.url})
            await stop.wait()
    except HistorianError as error:
        channel.send({"type": "failed", "detail": str(error)})
        raise
    finally:
        listening.cancel()
        channel.close()


def main() -> int:
    """Serve until told to stop, by a signal or by the end of the supervisor. Returns the exit code."""
    end = socket.socket(fileno=int(sys.argv[1]))
    # the first that comes over the channel; from the process that made us
    with end.makefile("rb") as told:
        start: Start = pickle.load(told)  # noqa: S301
    try:
        return in_loop(lambda: _run(start, end), verbose=start.verbose, who=f" worker {start.number}:")
    except HistorianError:
        # the supervisor says why
        return 1


if __name__ == "__main__":
    sys.exit(main())
