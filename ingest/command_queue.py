"""Where a worker gets the commands that it takes to the plant: of its database, or of a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from historian.schema.commands import Claim, Settled


class CommandQueue(Protocol):
    """Of one worker. Every method raises Unavailable for what time mends, Forbidden where this worker may not."""

    async def wait(self, patterns: Sequence[str], wait_s: float) -> bool:
        """Whether there is something to claim for tags of these paths and wildcards, now or within this time."""
        ...

    async def claim(self, patterns: Sequence[str], limit: int) -> list[Claim]:
        """Take commands, of each tag the oldest. Never waits: the time that the worker has with them counts from before this call."""
        ...

    async def settle(self, claim: Claim, outcome: Settled, detail: str | None = None) -> bool:
        """Say what became of a command. False: another worker has it, or it is settled."""
        ...

    async def release(self, claim: Claim, detail: str, *, sent: bool) -> bool:
        """Give a command back, to be taken again; `sent`: it may have reached the plant all the same. False: as `settle`."""
        ...
