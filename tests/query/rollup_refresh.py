"""The refresh of rollups as a test has it: a level at a time, by hand, and not by the database's jobs."""

from __future__ import annotations

import numpy as np
from rollup_reference import LEVELS
from rollups_by_hand import RollupsByHand


class Refresh(RollupsByHand):
    """The refresh of a database as a test has it: a level at a time, by hand."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self.in_bites = (
            self.conn.execute(
                "SELECT FROM pg_proc WHERE proname = 'refresh_continuous_aggregate' AND 'options' = ANY (proargnames)"
            ).fetchone()
            is not None
        )

    def some(self, level: str, up_to: int) -> None:
        """On TimescaleDB a level, up to then; on plain PostgreSQL a bite, which may leave off in the middle of a level."""
        at = np.datetime64(up_to, "us").astype(str) + "+00"
        if self.plain:
            self.conn.execute(
                "SELECT historian.refresh_rollups(%s::timestamptz, %s)",
                (at, {"1m": 3, "10m": 20, "1h": 100, "6h": 1000, "1d": 5000}[level]),
            )
        else:
            width = LEVELS[level] * 1_000_000
            end = np.datetime64(up_to // width * width, "us").astype(str) + "+00"
            # newer versions would go in bites of some buckets, a transaction each
            whole = ", options => '{\"buckets_per_batch\": 0}'" if self.in_bites else ""
            self.conn.execute(f"CALL refresh_continuous_aggregate('historian.rollup_{level}', NULL, '{end}'{whole})".encode())
