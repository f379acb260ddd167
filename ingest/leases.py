"""Producer leases: at most one connection at a time writes under a producer's name, whichever server or worker it has.

Promise. Two holders of one name never exist as far as the database can tell: a lease is a session-level advisory lock of PostgreSQL, which nobody else can have and which
ends with the session that took it, however the process ended. The same `instance` (one worker, made when it was set up) takes over from its own older connection at once,
in this process and from others.

How. One connection, the keeper, holds the locks of this process. When it breaks, the database lets the locks go: every lease is then in doubt (`held` is cleared) until
the keeper is back and has locked it again, or finds that another has it (`lost` is set). Who writes under a lease waits for `held` before each batch.

Besides the lock itself, a shared lock of the two-key kind tells other processes since when the lease is held: it blocks nobody and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson

from historian.ingest.backoff import Backoff
from historian.schema.connection import Connection, Pool, connect, translated
from historian.schema.errors import Conflict, HistorianError, ProducerTaken, Unavailable
from historian.schema.ledger import check_producer

log = logging.getLogger(__name__)

#: NOTIFY channel: an instance asks whichever process has its older lease to let it go
CHANNEL = "historian_lease"

#: the keeper is asked for a sign of life so often, and given up after half of it
_PING_S = 10.0
#: for a keeper that is away when a lease is asked for
_CONNECT_S = 5.0
#: for another process to let a lease go, and for PostgreSQL to notice that one was killed
_HANDOVER_S = 1.0
_POLL_S = 0.05
_LONGEST_PAUSE_S = 2.0

# a keeper whose network is cut off gives its locks back within half a minute; on a Unix socket these mean nothing
_KEEPALIVE = "SELECT set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '3', false)"

_TAKE = "SELECT pg_try_advisory_lock($1::int8)"
_SINCE = "SELECT pg_advisory_lock_shared($1::int4, $2::int4)"
_LET_GO = "SELECT pg_advisory_unlock($1::int8), pg_advisory_unlock_shared($2::int4, $3::int4)"
_WHO = """
SELECT a.application_name AS name, coalesce(host(a.client_addr), 'this host') AS address, s.objid::int8 AS since
FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
LEFT JOIN pg_locks s ON s.pid = l.pid AND s.locktype = 'advisory' AND s.database = l.database AND s.objsubid = 2 AND s.classid::int8 = $2
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND (l.classid::int8 << 32 | l.objid::int8) = $1
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
LIMIT 1
"""


def _key(producer: str) -> int:
    """A signed 64-bit hash."""
    return int.from_bytes(hashlib.blake2b(b"historian.lease\0" + producer.encode(), digest_size=8).digest(), "big", signed=True)


def _half_key(producer: str) -> int:
    """Of 31 bits, so that it reads the same as int4 and as oid."""
    return _key(producer) & 0x7FFF_FFFF


class Lease:
    """The right to write under `producer`, until `release`. `held` is clear while it is in doubt, `lost` is set once it is gone; `reason` says why then."""

    def __init__(self, leases: Leases, producer: str, instance: str, holder: str) -> None:
        self._leases = leases
        self.producer = producer
        self.instance = instance
        self.holder = holder
        #: seconds since 1970
        self.since = int(time.time())
        self.held = asyncio.Event()
        self.lost = asyncio.Event()
        self.reason: Conflict | None = None

    async def wait_held(self) -> None:
        """Until the lease is beyond doubt. Raises Conflict if it is lost."""
        while not self.held.is_set() or self.lost.is_set():
            if self.lost.is_set():
                raise self.reason or Conflict(f"the lease of producer {self.producer!r} was given back")
            waits = [asyncio.ensure_future(event.wait()) for event in (self.held, self.lost)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    async def release(self) -> None:
        """Give it back; a second time does nothing."""
        await self._leases._release(self)

    def _lose(self, reason: Conflict) -> None:
        if not self.lost.is_set():
            self.reason = reason
            self.held.clear()
            self.lost.set()


class Leases:
    """The leases of this process on one database, named by a DSN or reached through a pool, of which one connection is then in use all the while.

    Nothing connects before the first `acquire`. Belongs to one event loop; `close` gives all leases back.
    """

    def __init__(self, pool_or_dsn: Pool | str) -> None:
        self._source = pool_or_dsn
        self._leases: dict[str, Lease] = {}
        self._conn: Connection | None = None
        #: one statement at a time on the keeper, and one change of the leases
        self._turn = asyncio.Lock()
        self._connected = asyncio.Event()
        self._broken = asyncio.Event()
        self._trouble: HistorianError | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._leases)

    async def acquire(self, producer: str, instance: str, holder: str = "") -> Lease:
        """The lease of a name for an instance; `holder` (an address) is what others are told of it.

        Raises Conflict, which says who has it since when; Unavailable; BadInput.
        """
        check_producer(producer)
        task = asyncio.create_task(self._acquire(producer, instance, holder))
        try:
            # whoever asks may go away: the lock that was perhaps taken must not stay behind
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._spawn(self._abandon(task))
            raise

    async def close(self) -> None:
        """Give all leases back, and end the keeper. None is given out any more."""
        self._closed = True
        for lease in self._leases.values():
            lease._lose(Conflict(f"the lease of producer {lease.producer!r} was given back: its process stops"))
        self._leases.clear()
        tasks = [*self._tasks, *([self._keeper] if self._keeper is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._drop()

    # -- taking and giving back

    async def _acquire(self, producer: str, instance: str, holder: str) -> Lease:
        if self._closed:
            # or a keeper would live on that nobody ends
            raise Unavailable("this process is stopping")
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep())
        lease = Lease(self, producer, instance, holder)
        deadline: float | None = None
        while True:
            await self._wait_connected()
            async with self._turn:
                mine = self._leases.get(producer)
                if mine is not None:
                    return self._take_over(mine, lease)
                if await self._lock(lease):
                    if self._broken.is_set():
                        # the answer came before the news that the keeper is gone, and the lock with it
                        raise Unavailable("the database connection that holds the leases broke")
                    self._leases[producer] = lease
                    lease.held.set()
                    return lease
                now = asyncio.get_running_loop().time()
                if deadline is None:
                    deadline = now + _HANDOVER_S
                    await self._ask_others(producer, instance)
                elif now > deadline:
                    raise await self._conflict(producer)
            await asyncio.sleep(_POLL_S)

    def _take_over(self, older: Lease, lease: Lease) -> Lease:
        if older.instance != lease.instance:
            raise _taken(lease.producer, older.holder or "another connection", older.since)
        # the lock stays where it is, and what tells since when stands for both
        lease.since = older.since
        if older.held.is_set():
            lease.held.set()
        self._leases[lease.producer] = lease
        older._lose(ProducerTaken(f"producer {lease.producer!r} has connected again, and goes on there"))
        return lease

    async def _abandon(self, task: asyncio.Task[Lease]) -> None:
        with suppress(HistorianError):
            await (await task).release()

    async def _release(self, lease: Lease) -> None:
        async with self._turn:
            if self._leases.get(lease.producer) is not lease:
                return
            del self._leases[lease.producer]
            lease._lose(Conflict(f"the lease of producer {lease.producer!r} was given back"))
            if self._conn is not None:
                with suppress(HistorianError):
                    await self._query(_LET_GO, _key(lease.producer), _half_key(lease.producer), lease.since & 0x7FFF_FFFF)

    # -- the keeper's statements; its turn is taken

    async def _query(self, query: str, *args: Any) -> Any:
        """The first row. Raises Unavailable; the keeper is given up then."""
        conn = self._conn
        if conn is None:
            raise Unavailable("the database connection that holds the leases is being made again")
        try:
            with translated():
                async with asyncio.timeout(_PING_S / 2):
                    return await conn.fetchrow(query, *args)
        except HistorianError:
            self._broken.set()
            raise

    async def _lock(self, lease: Lease) -> bool:
        if not (await self._query(_TAKE, _key(lease.producer)))[0]:
            return False
        await self._query(_SINCE, _half_key(lease.producer), lease.since & 0x7FFF_FFFF)
        return True

    async def _ask_others(self, producer: str, instance: str) -> None:
        payload = orjson.dumps({"key": str(_key(producer)), "instance": instance}).decode()
        await self._query("SELECT pg_notify($1, $2)", CHANNEL, payload)

    async def _conflict(self, producer: str) -> Conflict:
        who = await self._query(_WHO, _key(producer), _half_key(producer))
        if who is None:
            return _taken(producer, "another connection", None)
        return _taken(producer, f"{who['name'] or 'a process'!s} at {who['address']}", who["since"])

    # -- the keeper's life

    async def _wait_connected(self) -> None:
        try:
            async with asyncio.timeout(_CONNECT_S):
                await self._connected.wait()
        except TimeoutError:
            raise self._trouble or Unavailable("the database does not answer") from None

    async def _keep(self) -> None:
        backoff = Backoff(first=0.05, longest=_LONGEST_PAUSE_S)
        while True:
            try:
                await self._connect()
            except Exception as error:
                if self._trouble is None:
                    log.warning("leases of producers: %s; trying again", error)
                self._trouble = error if isinstance(error, HistorianError) else Unavailable(f"the database is away: {error}")
                await self._drop()
                await asyncio.sleep(backoff.next())
                continue
            if self._trouble is not None:
                log.info("leases of producers: the database is back; %d held", len(self._leases))
            self._trouble = None
            backoff.reset()
            await self._watch()
            log.warning("leases of producers: the connection that holds them broke; %d in doubt", len(self._leases))
            self._trouble = Unavailable("the database connection that holds the leases broke")
            await self._drop()

    async def _connect(self) -> None:
        async with asyncio.timeout(30):
            if isinstance(self._source, str):
                conn = await connect(self._source, name="historian leases")
            else:
                with translated():
                    conn = await self._source.acquire()
        self._broken.clear()
        self._conn = conn
        with translated():
            await conn.execute(_KEEPALIVE)
            conn.add_termination_listener(self._on_end)
            await conn.add_listener(CHANNEL, self._on_notice)
        async with self._turn:
            for lease in list(self._leases.values()):
                if lease.held.is_set():
                    continue
                if await self._lock(lease):
                    lease.held.set()
                else:
                    del self._leases[lease.producer]
                    lease._lose(await self._conflict(lease.producer))
        self._connected.set()

    async def _watch(self) -> None:
        """Until the keeper is gone."""
        while True:
            try:
                async with asyncio.timeout(_PING_S):
                    await self._broken.wait()
                return
            except TimeoutError:
                pass
            with suppress(HistorianError):
                async with self._turn:
                    await self._query("SELECT 1")

    async def _drop(self) -> None:
        self._connected.clear()
        for lease in self._leases.values():
            lease.held.clear()
        conn, self._conn = self._conn, None
        if conn is None:
            return
        # broken, or to be closed: its locks end with it either way
        with suppress(Exception):
            conn.remove_termination_listener(self._on_end)
        with suppress(Exception):
            conn.terminate()
        if not isinstance(self._source, str):
            with suppress(Exception):
                await self._source.release(conn)

    def _on_end(self, *_: object) -> None:
        self._broken.set()

    def _on_notice(self, _conn: object, _pid: int, _channel: str, payload: str) -> None:
        """Another process asks for the lease of an instance that has connected to it."""
        try:
            asked = orjson.loads(payload)
            key, instance = int(asked["key"]), str(asked["instance"])
        except (ValueError, KeyError, TypeError):
            return
        for lease in self._leases.values():
            if _key(lease.producer) == key and lease.instance == instance:
                self._spawn(self._hand_over(lease))
                return

    async def _hand_over(self, lease: Lease) -> None:
        lease._lose(ProducerTaken(f"producer {lease.producer!r} has connected to another server, and goes on there"))
        await self._release(lease)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _taken(producer: str, holder: str, since: int | None) -> ProducerTaken:
    when = "" if since is None else f" since {datetime.fromtimestamp(since, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return ProducerTaken(f"producer {producer!r} is connected already: {holder}{when}; one at a time may write under a name")
