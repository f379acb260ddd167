"""A database that can be restarted, cut off and paused, and what is in it, read straight from its table."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import psycopg
from psycopg.conninfo import conninfo_to_dict

from historian.embedded import EmbeddedDatabase
from proofs.production import Production
from proofs.proxy import Proxy

#: PostgreSQL counts from 2000-01-01
_PG_EPOCH_US = 946_684_800_000_000
#: one row of COPY … (FORMAT binary): the number of columns, and before each its length
_ROW = np.dtype(
    [
        (name, kind)
        for column, width in (("tag", ">i4"), ("ts", ">i8"), ("value", ">f8"))
        for name, kind in ((f"{column}_n", ">i4"), (column, width))
    ]
)
_WIRE = np.dtype([("columns", ">i2"), *[(name, _ROW[name]) for name in _ROW.names or ()]])
_HEADER = 19


@dataclass(frozen=True, slots=True)
class Stored:
    """Samples as they stand in the table, in no order. `tag` are numbers of a production's tags."""

    tag: npt.NDArray[np.int64]
    ts: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]


class Database:
    """`dsn` is the way of the tests, `proxied_dsn` the one of the processes that are tested: through `network`."""

    def __init__(self, dsn: str, network: Proxy, embedded: EmbeddedDatabase | None) -> None:
        self.dsn = dsn
        self.network = network
        self._embedded = embedded
        facts = conninfo_to_dict(dsn)
        password = f":{facts['password']}" if facts.get("password") else ""
        # through a Unix socket there is no TLS
        self.proxied_dsn = (
            f"postgresql://{facts.get('user', 'postgres')}{password}@127.0.0.1:{network.port}/{facts['dbname']}?sslmode=disable"
        )
        self._restarts = 0
        self._count = 0

    @property
    def restartable(self) -> bool:
        """Whether it is the test's own. Another's is not restarted or paused."""
        return self._embedded is not None

    def restart(self) -> None:
        """Kill PostgreSQL without warning, or, every other time, stop it in order; and start it. It answers when this returns."""
        assert self._embedded is not None
        if self._restarts % 2 == 0:
            os.kill(self._embedded.pid, signal.SIGKILL)
        self._restarts += 1
        # what is dead already is only let go of
        self._embedded.stop()
        assert self._embedded.start() == self.dsn

    @contextmanager
    def paused(self) -> Iterator[None]:
        """All processes of PostgreSQL stand still: connections stay, and nothing answers."""
        assert self._embedded is not None
        postmaster = psutil.Process(self._embedded.pid)
        # first the one who starts others
        postmaster.suspend()
        stopped = [postmaster]
        try:
            for child in postmaster.children(recursive=True):
                child.suspend()
                stopped.append(child)
            yield
        finally:
            for process in reversed(stopped):
                process.resume()

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, connect_timeout=10) as conn:
            return conn.execute(sql.encode(), parameters).fetchall()

    def count(self) -> int:
        """Rows of the samples table; what it last was while the database is away."""
        with suppress(psycopg.OperationalError):
            self._count = int(self.query("SELECT count(*) FROM historian.sample")[0][0])
        return self._count

    def stored(self, production: Production) -> Stored:
        """All samples of its tags. Raises AssertionError for tags that are not of it."""
        numbers = {path: n for n, path in enumerate(production.paths)}
        with psycopg.connect(self.dsn) as conn:
            tags = dict(
                conn.execute("SELECT tag_id, path FROM historian.tag WHERE starts_with(path, %s)", [f"{production.prefix}/"]).fetchall()
            )
            assert set(tags.values()) <= numbers.keys(), sorted(set(tags.values()) - numbers.keys())
            with conn.cursor().copy(
                "COPY (SELECT tag_id, ts, COALESCE(historian.decimal_value(mantissa, scale), value, 'NaN') FROM historian.sample"
                f" WHERE tag_id = ANY ('{{{','.join(map(str, tags))}}}')) TO STDOUT (FORMAT binary)"
            ) as copy:
                data = b"".join(copy)
        rows = np.frombuffer(data, _WIRE, offset=_HEADER, count=(len(data) - _HEADER - 2) // _WIRE.itemsize)
        assert _HEADER + rows.nbytes + 2 == len(data), "rows of unequal length"
        of_id = np.full(max(tags, default=0) + 1, -1, np.int64)
        for tag_id, path in tags.items():
            of_id[tag_id] = numbers[path]
        return Stored(of_id[rows["tag"]], rows["ts"].astype(np.int64) + _PG_EPOCH_US, rows["value"].astype(np.float64))


def assert_exactly_once(database: Database, production: Production, first: int = 0, last: int | None = None) -> None:
    """The database holds each sample [first, last) of the production once, with its value bit for bit, and nothing else of its tags; all of it, if nothing is said."""
    found = database.stored(production)
    tag, ts, value = production.numbers(first, production.samples if last is None else last)
    order, expected = np.lexsort((found.ts, found.tag)), np.lexsort((ts, tag))
    wanted = np.rec.fromarrays([tag[expected], ts[expected]], names="tag,ts")
    there = np.rec.fromarrays([found.tag[order], found.ts[order]], names="tag,ts")
    if len(there) != len(wanted) or not np.array_equal(there, wanted):
        distinct = np.unique(there)
        lost, alien = np.setdiff1d(wanted, distinct), np.setdiff1d(distinct, wanted)
        raise AssertionError(
            f"{len(there)} samples instead of {len(wanted)}: {len(lost)} lost (first {lost[:5]}), {len(there) - len(distinct)} doubled,"
            f" {len(alien)} that nobody sent (first {alien[:5]})"
        )
    wrong = np.flatnonzero(found.value[order].view(np.int64) != value[expected].view(np.int64))
    assert not len(wrong), f"{len(wrong)} samples have another value, first {there[wrong[0]]}: {found.value[order][wrong[0]]!r}"


@contextmanager
def own_database(directory: Path) -> Iterator[Database]:
    """An embedded PostgreSQL in a directory that every user may pass through, with our schema. It is set up as for users: fsync and all."""
    from historian.schema.migrate import upgrade

    embedded = EmbeddedDatabase(directory)
    dsn = embedded.start()
    try:
        upgrade(dsn)
        with Proxy(_where(dsn)) as network:
            yield Database(dsn, network, embedded)
    finally:
        began = time.monotonic()
        embedded.stop()
        assert time.monotonic() - began < 60


@contextmanager
def given_database(dsn: str) -> Iterator[Database]:
    """A database on a server of somebody else's."""
    with Proxy(_where(dsn)) as network:
        yield Database(dsn, network, None)


def _where(dsn: str) -> tuple[str, int] | Path:
    facts = conninfo_to_dict(dsn)
    host, port = str(facts.get("host") or "127.0.0.1"), int(facts.get("port") or 5432)
    return Path(host) / f".s.PGSQL.{port}" if host.startswith("/") else (host, port)
