"""The commands of a database for a worker that writes into it (`historian.ingest.command_queue.CommandQueue`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from historian.schema import commands
from historian.schema.commands import Claim, Settled
from historian.schema.connection import Answer, Connection, Pool, query
from historian.schema.doorbell import Doorbell
from historian.schema.paths import wildcard_regex

#: also without a ring it is looked so often
_LOOK_S = 1.0


class CommandTable:
    """`connect` gives the pool, once it can. Hears the doorbell from the first `wait` until `close`."""

    def __init__(self, connect: Callable[[], Awaitable[Pool]], worker: str) -> None:
        self._connect = connect
        self._worker = worker
        self._bell: Doorbell | None = None
        self._listening: asyncio.Task[None] | None = None

    async def wait(self, patterns: Sequence[str], wait_s: float) -> bool:
        bell = await self._hearing()
        wanted = [wildcard_regex(pattern) for pattern in patterns]

        async def look() -> bool:
            return bool(await self._ask(lambda conn: commands.waiting(conn, wanted)))

        return await bell.ask(look, bool, wait_s=wait_s, every_s=_LOOK_S)

    async def claim(self, patterns: Sequence[str], limit: int) -> list[Claim]:
        wanted = [wildcard_regex(pattern) for pattern in patterns]
        return await self._ask(lambda conn: commands.claim(conn, self._worker, wanted, limit=limit))

    async def settle(self, claim: Claim, outcome: Settled, detail: str | None = None) -> bool:
        return await self._ask(lambda conn: commands.settle(conn, claim.command_id, self._worker, claim.attempt, outcome, detail))

    async def release(self, claim: Claim, detail: str, *, sent: bool) -> bool:
        return await self._ask(lambda conn: commands.release(conn, claim.command_id, self._worker, claim.attempt, detail, sent=sent))

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    async def _hearing(self) -> Doorbell:
        if self._bell is None:
            self._bell = Doorbell(await self._connect(), commands.DOORBELL)
            self._listening = asyncio.create_task(self._bell.run())
        return self._bell

    async def _ask(self, ask: Callable[[Connection], Awaitable[Answer]]) -> Answer:
        return await query(await self._connect(), ask)
