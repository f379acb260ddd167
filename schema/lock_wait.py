"""Waiting for locks that others hold while a schema is changed: in short turns, not for ever, and with a word about who is in the way.

A statement that waits for an exclusive lock keeps everybody waiting who comes after it: a running server would stand still behind a migration that itself waits for a
long query. So each try waits only for some seconds (`lock_timeout`), gives way, and comes again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import psycopg

from historian.schema.errors import Unavailable

#: one try, in which everybody else waits behind us
TRY_S = 2.0
#: between two tries, for those who waited behind us
PAUSE_S = 1.0
_LOOK_S = 0.25

_BLOCKING = """
SELECT a.pid, a.application_name, a.usename, host(a.client_addr), to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), a.backend_type
FROM pg_stat_activity a WHERE a.pid = ANY(pg_blocking_pids(%s)) ORDER BY a.xact_start LIMIT 3
"""


class LockWait:
    """Looks, on a connection of its own, who blocks a session; `on_wait` is told, from a thread, in words, once for each change.

    It is an aid: where it cannot connect, whoever waits is not told who blocks.
    """

    def __init__(self, dsn: str, pid: int, on_wait: Callable[[str], None] | None) -> None:
        self._dsn = dsn
        self._pid = pid
        self._on_wait = on_wait
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="historian lock wait", daemon=True)
        #: who blocked last
        self.blockers = ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        # most upgrades are done before the first look
        if self._done.wait(_LOOK_S):
            return
        with (
            suppress(psycopg.Error),
            psycopg.connect(self._dsn, autocommit=True, connect_timeout=5, application_name="historian migrations") as conn,
        ):
            while not self._done.is_set():
                rows = conn.execute(_BLOCKING, [self._pid]).fetchall()
                blockers = ", ".join(_described(*row) for row in rows)
                if blockers and blockers != self.blockers:
                    self.blockers = blockers
                    if self._on_wait is not None:
                        self._on_wait(blockers)
                self._done.wait(_LOOK_S)

    def patiently(self, what: str, act: Callable[[], object], patience_s: float) -> None:
        """Do something that is undone whole when it fails, again and again until it gets its locks. Raises Unavailable, naming who held them, after `patience_s`."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                act()
                return
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
                left = deadline - time.monotonic()
                if left <= 0:
                    who = f"held by {self.blockers}" if self.blockers else "that another session holds"
                    raise Unavailable(
                        f"{what} waited {patience_s:.0f} s for a lock {who}, and has changed nothing: "
                        "let that end or stop it, and run this again; what was done before stands"
                    ) from error
                time.sleep(min(PAUSE_S, left))


def _described(pid: int, program: str | None, user: str | None, address: str | None, since: str | None, kind: str | None) -> str:
    name = program or kind or "another session"
    who = f" of {user}" if user else ""
    return f"process {pid} ({name}{who} at {address or 'this host'}{f', in a transaction since {since} UTC' if since else ''})"
