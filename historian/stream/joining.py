"""Tags that a change adds to a subscription, while their history is read beside the live tail of the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from historian.schema.samples import Samples
from historian.stream.gate import STALLED_S, stalled
from historian.stream.part import Part


class Joining:
    """`frames` are the history of a part; each is fetched ahead, and `wake` is called when it is there. Close it."""

    def __init__(self, part: Part, frames: AsyncGenerator[Samples, None], wake: Callable[[], None]) -> None:
        self.part = part
        self._frames = frames
        self._wake = wake
        self._patience: asyncio.TimerHandle | None = None
        self._giving_up: asyncio.Task[None] | None = None
        self._next: asyncio.Future[Samples]
        self._fetch()

    def _fetch(self) -> None:
        self._next = asyncio.ensure_future(anext(self._frames))
        self._next.add_done_callback(self._arrived)

    def _arrived(self, arrived: asyncio.Future[Samples]) -> None:
        if not arrived.cancelled() and arrived.exception() is None:
            self._patience = asyncio.get_running_loop().call_later(STALLED_S, self._give_up)
        self._wake()

    def _give_up(self) -> None:
        self._giving_up = asyncio.create_task(self._frames.aclose())
        self._next = asyncio.get_running_loop().create_future()
        self._next.set_exception(stalled())

    @property
    def ready(self) -> bool:
        """Whether `take` has something."""
        return self._next.done()

    def take(self) -> Samples | None:
        """The next frame's samples, or None when all have come, and nothing that they were read with comes over the bus any more. Raises Unavailable."""
        if self._patience is not None:
            self._patience.cancel()
        try:
            samples = self._next.result()
        except StopAsyncIteration:
            return None
        self._fetch()
        return samples

    async def aclose(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._next.cancel()
        await asyncio.gather(self._next, *([self._giving_up] if self._giving_up else []), return_exceptions=True)
        await self._frames.aclose()
