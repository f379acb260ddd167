"""Rollups that are refreshed when a test says so, and not by a policy."""

from __future__ import annotations

import numpy as np
import psycopg
from rollup_reference import LEVELS


class RollupsByHand:
    """The rollups of a database; `conn` is a connection to it, `plain` tells its engine."""

    def __init__(self, dsn: str) -> None:
        self.conn = psycopg.connect(dsn, autocommit=True)
        self.conn.execute("SET timezone = 'UTC'")
        self.plain = self.conn.execute("SELECT to_regclass('historian.rollup_level')").fetchone() != (None,)
        if not self.plain:
            self.conn.execute(
                "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs WHERE proc_name LIKE 'policy_%' OR proc_name = 'tend_rollups'"
            )

    def refresh(self, up_to: int) -> None:
        """Everything before `up_to` (µs)."""
        at = np.datetime64(up_to, "us").astype(str) + "+00"
        if self.plain:
            while self.conn.execute("SELECT historian.refresh_rollups(%s::timestamptz, 500)", (at,)).fetchone() != (0,):
                pass
            return
        for level, seconds in LEVELS.items():
            width = seconds * 1_000_000
            end = np.datetime64(up_to // width * width, "us").astype(str) + "+00"
            self.conn.execute(f"CALL refresh_continuous_aggregate('historian.rollup_{level}', NULL, '{end}')".encode())
