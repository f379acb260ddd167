"""Which transactions a database snapshot sees: the fact that the seam, the ledger sweep and the catalogue cache stand on."""

from __future__ import annotations

from dataclasses import dataclass

from historian.schema.connection import Connection


@dataclass(frozen=True, slots=True)
class VisibilitySnapshot:
    """PostgreSQL's `pg_snapshot`: every xid below `xmin` is finished, none from `xmax` on is, and of those between, `in_progress` are not."""

    xmin: int
    xmax: int
    in_progress: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> VisibilitySnapshot:
        """From the text form `xmin:xmax:xip,xip…`."""
        xmin, xmax, xip = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(int(x) for x in xip.split(",") if x))

    @classmethod
    async def of(cls, conn: Connection) -> VisibilitySnapshot:
        """The snapshot of the transaction that runs on this connection (REPEATABLE READ, so that it stays)."""
        return cls.parse(await conn.fetchval("SELECT pg_current_snapshot()::text"))

    def sees(self, xid: int) -> bool:
        """Whether what this transaction wrote is visible, given that it has committed."""
        return xid < self.xmin or (xid < self.xmax and xid not in self.in_progress)
