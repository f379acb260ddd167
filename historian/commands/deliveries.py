"""Commands on their way to the plant: what workers on other hosts ask a server, which asks the database for them.

Who may is an entry of the file of commanders with `may = "deliver"`, and only for its tags: whoever takes a command keeps it from all others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from historian.commands.commanders import Commander
from historian.schema import commands
from historian.schema.commands import Claim, Settled
from historian.schema.connection import Pool, query
from historian.schema.doorbell import Doorbell
from historian.schema.errors import Forbidden
from historian.schema.paths import wildcard_regex

_LOOK_S = 1.0


class Deliveries:
    """Of one server. Each method raises Forbidden for one that may not, BadInput for a pattern that is none, Unavailable."""

    def __init__(self, pool: Pool, bell: Doorbell) -> None:
        self._pool = pool
        self._bell = bell

    async def wait(self, who: Commander | None, patterns: Sequence[str], wait_s: float) -> bool:
        """Whether there is something to claim, now or within this time."""
        right, wanted = _right(who), _wanted(patterns)

        async def look() -> bool:
            return bool(await query(self._pool, lambda conn: commands.waiting(conn, wanted, allowed=right.has)))

        return await self._bell.ask(look, bool, wait_s=wait_s, every_s=_LOOK_S)

    async def claim(self, who: Commander | None, worker: str, patterns: Sequence[str], limit: int) -> list[Claim]:
        """Take commands for a worker, of each tag one at most."""
        right, wanted = _right(who), _wanted(patterns)
        return await query(self._pool, lambda conn: commands.claim(conn, worker, wanted, limit=limit, allowed=right.has))

    async def settle(self, who: Commander | None, command_id: int, worker: str, attempt: int, outcome: Settled, detail: str | None) -> bool:
        """Say what became of a claimed command. False: it is no longer this worker's."""
        _right(who)
        return await query(self._pool, lambda conn: commands.settle(conn, command_id, worker, attempt, outcome, detail))

    async def release(self, who: Commander | None, command_id: int, worker: str, attempt: int, detail: str, *, sent: bool) -> bool:
        """Give a claimed command back. False: it is no longer this worker's."""
        _right(who)
        return await query(self._pool, lambda conn: commands.release(conn, command_id, worker, attempt, detail, sent=sent))


def _right(who: Commander | None) -> Commander:
    if who is None or who.may != "deliver":
        raise Forbidden(
            'this token may not take commands to the plant: it needs an entry with may = "deliver" in the server\'s file of commanders'
        )
    return who


def _wanted(patterns: Sequence[str]) -> list[re.Pattern[str]]:
    return [wildcard_regex(pattern) for pattern in patterns]
