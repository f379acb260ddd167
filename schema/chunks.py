"""How the samples lie on disk: parts of the samples table with their sizes; on TimescaleDB the chunks' interval, which follows the measured rate, and the job that
converts them to the columnstore and puts right what bulk loads and late samples leave in many small batches.

The job (historian.tend_chunks, migration 0009) is the database's: it goes on where no server of ours runs. Here it is shown, set, and called by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

from historian.schema.errors import BadInput, SchemaError, Unavailable

_CONNECT_TIMEOUT_S = 15

#: bounds of an interval that is chosen by hand
SHORTEST = timedelta(hours=1)
LONGEST = timedelta(days=30)
_INTERVAL = re.compile(r"([1-9]\d{0,3})\s*([hd])")

Conn = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Part:
    """A chunk, or a month on plain PostgreSQL. `form`: rowstore, columnstore or both. `due`: to be converted or put right; `problem`: what kept the job from it.
    `rows` is None where nobody has counted yet, and an estimate where it is being written to."""

    name: str
    start: datetime
    end: datetime
    form: str
    unordered: bool
    fragmented: bool
    due: bool
    problem: str | None
    rows: int | None
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Chunking:
    """TimescaleDB's chunks. `by_hand`: the interval was chosen and does not follow the rate. The rate is None until there are samples to measure it by."""

    interval: timedelta
    by_hand: bool
    recommended: timedelta | None
    rows_a_day: float | None
    convert_after: timedelta


@dataclass(frozen=True, slots=True)
class Layout:
    """All parts in the order of time. `chunking` is None on plain PostgreSQL, whose partitions are calendar months."""

    parts: tuple[Part, ...]
    chunking: Chunking | None

    def bytes_a_sample(self, form: str) -> float | None:
        """Of the parts in this form whose rows are known."""
        known = [(part.size_bytes, part.rows) for part in self.parts if part.form == form and part.rows]
        return sum(size for size, _ in known) / sum(rows for _, rows in known) if known else None


def parse_interval(text: str) -> timedelta | None:
    """`6h`, `1d`; None for `auto`. Raises BadInput for anything else, and for what is outside of SHORTEST to LONGEST."""
    if text.strip().lower() == "auto":
        return None
    match = _INTERVAL.fullmatch(text.strip().lower())
    found = timedelta(hours=int(match[1]) * (24 if match[2] == "d" else 1)) if match else None
    if found is None or not SHORTEST <= found <= LONGEST:
        raise BadInput(f"{text!r} is no chunk interval: give 1h to 30d, as 6h or 2d, or auto to let it follow the measured rate")
    return found


def show_interval(interval: timedelta) -> str:
    """`6h`, `1d`: as `parse_interval` reads it, where it is of whole hours."""
    hours, rest = divmod(interval.total_seconds(), 3600)
    if rest:
        return f"{hours + rest / 3600:.1f}h"
    return f"{hours / 24:.0f}d" if hours % 24 == 0 and hours else f"{hours:.0f}h"


@contextmanager
def _connected(dsn: str) -> Iterator[Conn]:
    try:
        with psycopg.connect(dsn, autocommit=True, connect_timeout=_CONNECT_TIMEOUT_S, application_name="historian chunks") as conn:
            conn.execute("SET timezone = 'UTC'")
            yield conn
    except psycopg.OperationalError as error:
        raise Unavailable(f"the database cannot be reached: {str(error).strip().splitlines()[0]}") from error
    except psycopg.errors.UndefinedTable as error:
        raise SchemaError("the database has an older schema; run: historian db upgrade") from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise SchemaError(
            f"the database role lacks a right: {str(error).strip().splitlines()[0]}; connect as the owner of the tables"
        ) from error


def _has_chunks(conn: Conn) -> bool:
    row = conn.execute("SELECT to_regclass('historian.chunk_plan') IS NOT NULL").fetchone()
    return bool(row and row[0])


_PARTS = "SELECT part, range_start, range_end, form, unordered, fragmented, due, problem, rows, bytes FROM historian.storage_part ORDER BY range_start"
_CHUNKING = """
SELECT historian.chunk_interval(), by_hand IS NOT NULL, historian.recommended_interval(rows_a_day, tags), rows_a_day, historian.convert_after(historian.chunk_interval())
FROM historian.chunk_plan
"""


def layout(dsn: str) -> Layout:
    """How the samples lie on disk; changes nothing. Raises Unavailable, SchemaError."""
    with _connected(dsn) as conn:
        parts = tuple(Part(*row) for row in conn.execute(_PARTS))  # type: ignore[arg-type]
        if not _has_chunks(conn):
            return Layout(parts, None)
        row = conn.execute(_CHUNKING).fetchone()
        assert row is not None
        return Layout(parts, Chunking(*row))  # type: ignore[arg-type]


def set_interval(dsn: str, interval: timedelta | None) -> None:
    """Set the interval of the chunks to come by hand, or with None let it follow the rate again. Chunks that stand stay as they are.

    Raises Unavailable, and SchemaError on plain PostgreSQL and for a role that does not own the tables.
    """
    with _connected(dsn) as conn:
        _require_chunks(conn)
        with conn.transaction():
            conn.execute("UPDATE historian.chunk_plan SET by_hand = %s", (interval,))
            conn.execute("SELECT historian.follow_rate()")


def tend(dsn: str) -> None:
    """Do now what the job does every ten minutes, also to chunks that were written to a moment ago, until nothing is left to do. Raises Unavailable, SchemaError."""
    with _connected(dsn) as conn:
        _require_chunks(conn)
        conn.execute("""CALL historian.tend_chunks(NULL, '{"quiet": "0 seconds", "seconds": 1000000000}')""")


def _require_chunks(conn: Conn) -> None:
    if not _has_chunks(conn):
        raise SchemaError(
            "this database has no chunks: it is plain PostgreSQL, with a partition for each calendar month, or its schema is older; see: historian db status"
        )
