"""Which transactions a database snapshot sees: the fact that the seam, the ledger sweep, durable cursors and the catalogue cache stand on."""

from __future__ import annotations

import re
from dataclasses import dataclass

from historian.schema.connection import Connection
from historian.schema.errors import BadInput

_FORM = re.compile(r"(\d{1,19}):(\d{1,19}):((?:\d{1,19}(?:,\d{1,19})*)?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class VisibilitySnapshot:
    """PostgreSQL's `pg_snapshot`: every xid below `xmin` is finished, none from `xmax` on is, and of those between, `in_progress` are not."""

    xmin: int
    xmax: int
    in_progress: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> VisibilitySnapshot:
        """From the text form `xmin:xmax:xip,xip…`. Raises BadInput."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise BadInput(f"a snapshot has the form xmin:xmax:xid,…, unlike {text[:40]!r}")
        xmin, xmax = int(match[1]), int(match[2])
        xip = [int(x) for x in match[3].split(",") if x]
        # as PostgreSQL itself has them, and takes them
        if not 0 < xmin <= xmax < 2**63 or any(not xmin <= x < xmax for x in xip) or sorted(set(xip)) != xip:
            raise BadInput(f"{text[:40]!r} is no snapshot")
        return cls(xmin, xmax, frozenset(xip))

    @classmethod
    async def of(cls, conn: Connection) -> VisibilitySnapshot:
        """The snapshot of the transaction that runs on this connection (REPEATABLE READ, so that it stays)."""
        return cls.parse(await conn.fetchval("SELECT pg_current_snapshot()::text"))

    def __str__(self) -> str:
        """The text form."""
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, sorted(self.in_progress)))}"

    def sees(self, xid: int) -> bool:
        """Whether what this transaction wrote is visible, given that it has committed."""
        return xid < self.xmin or (xid < self.xmax and xid not in self.in_progress)

    def covers(self, other: VisibilitySnapshot) -> bool:
        """Whether this one sees all that the other sees, and is no older."""
        return self.xmax >= other.xmax and not any(other.sees(xid) for xid in self.in_progress)

    def up_to(self, xid: int, newer: VisibilitySnapshot) -> VisibilitySnapshot:
        """What this snapshot sees, and of what a newer one sees all transactions below `xid`: a place on the way from this one to that one."""
        xmax = max(self.xmax, min(xid, newer.xmax))
        in_progress = frozenset({x for x in self.in_progress if x >= xid} | {x for x in newer.in_progress if x < xmax})
        return VisibilitySnapshot(min(in_progress, default=xmax), xmax, in_progress)
