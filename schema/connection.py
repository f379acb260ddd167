"""Connections to the database: asyncpg pools as every layer above uses them, and the one place where driver errors become ours."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import asyncpg

from historian.schema.errors import HistorianError, SchemaError, Unavailable

Connection: TypeAlias = Any  # asyncpg.Connection or its pool proxy; asyncpg has no types
Pool: TypeAlias = Any  # asyncpg.Pool
Answer = TypeVar("Answer")

#: PostgreSQL counts microseconds from 2000-01-01
PG_EPOCH_US = 946_684_800_000_000

_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InsufficientResourcesError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    ConnectionError,
    OSError,
)


def translate(error: BaseException) -> HistorianError | None:
    """Our error for a driver's, or None where it is a fault of ours and should surface as such."""
    if isinstance(error, asyncpg.QueryCanceledError | TimeoutError):
        return Unavailable("the database took longer than the time limit; ask for less, or again later")
    if isinstance(
        error, asyncpg.InvalidSchemaNameError | asyncpg.UndefinedTableError | asyncpg.UndefinedColumnError | asyncpg.UndefinedFunctionError
    ):
        return SchemaError(f"the database lacks what this program needs ({error}); run: historian db upgrade")
    if isinstance(error, asyncpg.InvalidPasswordError | asyncpg.InvalidAuthorizationSpecificationError | asyncpg.InvalidCatalogNameError):
        return Unavailable(f"the database refuses the connection: {error}")
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return SchemaError(f"the database role lacks a right: {error}")
    if isinstance(error, _AWAY):
        # a server's message may go on with DETAIL and HINT
        reason = str(error).partition("\n")[0]
        return Unavailable(f"the database is away: {reason or type(error).__name__}")
    # a connection that broke under us, or a pool that is closing
    if isinstance(error, asyncpg.InterfaceError) and ("closed" in str(error) or "closing" in str(error) or "released" in str(error)):
        return Unavailable(f"the database connection was lost: {error}")
    if _told_to_end(error):
        return Unavailable("the database connection was lost: the server has ended it")
    return None


#: s until a statement that the server was asked to cancel has ended
_CANCELLED_S = 5.0


def _told_to_end(error: BaseException) -> bool:
    """Whether the server had said goodbye when we asked it something, and the end of the connection had not come yet. asyncpg takes that for a fault of its own, and what
    the transaction and the pool undo after it for others."""
    cause: BaseException | None = error
    while isinstance(cause, asyncpg.InterfaceError | asyncpg.InternalClientError):
        if "cannot switch to state" in str(cause):
            return True
        cause = cause.__context__
    return False


@contextmanager
def translated() -> Iterator[None]:
    """Raise our errors for the driver's."""
    try:
        yield
    except (HistorianError, asyncio.CancelledError):
        raise
    except Exception as error:
        ours = translate(error)
        if ours is None:
            raise
        raise ours from error


async def _prepare(conn: Connection) -> None:
    # Timestamps are integers everywhere in this program: microseconds since 1970. A datetime for each would cost an object and lose nothing but time.
    await conn.set_type_codec(
        "timestamptz",
        schema="pg_catalog",
        format="tuple",
        encoder=lambda us: (us - PG_EPOCH_US,),
        decoder=lambda pair: pair[0] + PG_EPOCH_US,
    )


def _bounded(size: int) -> Callable[[Connection], Awaitable[None]]:
    """Sets up a connection whose socket holds so many bytes that have come and were not taken."""

    async def prepare(conn: Connection) -> None:
        await _prepare(conn)
        # asyncpg has no way of its own to its socket
        transport = getattr(conn, "_transport", None)
        found = transport.get_extra_info("socket") if transport is not None else None
        if found is not None:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    return prepare


def _settings(name: str) -> dict[str, str]:
    return {
        "application_name": name,
        "timezone": "UTC",
        "jit": "off",
        # Corrections in the columnstore may touch many rows; TimescaleDB refuses more than 100 000 a transaction unless told. Plain PostgreSQL takes the
        # name for a custom one. It stands in the start-up packet because a pool resets what was set later.
        "timescaledb.max_tuples_decompressed_per_dml_transaction": "0",
    }


async def _leave_as_it_is(conn: Connection) -> None:
    """Nothing to undo."""


class _Cancelling(asyncpg.Connection):  # type: ignore[misc]
    """A connection that is closed where a statement that was cancelled does not end.

    Where the answer of the statement arrives in the same turn of the event loop, asyncpg (0.32) waits for ever, and so does whoever gives the connection back.
    """

    async def _cancel(self, *waiters: asyncio.Future[None]) -> None:
        # of the cancellation that ends the wait asyncpg makes a silent end
        async with asyncio.timeout(_CANCELLED_S) as limit:
            await super()._cancel(*waiters)
        if limit.expired() and not self.is_closed():
            self.terminate()


async def open_pool(
    dsn: str,
    *,
    size: int,
    min_size: int = 1,
    name: str = "historian",
    statement_timeout_s: float | None = None,
    stateless: bool = False,
    receive_buffer: int | None = None,
) -> Pool:
    """A pool of up to `size` connections. `stateless`: whoever uses it changes nothing of a connection that outlives its transaction, so that none is put right when it
    is given back, which takes a round trip. `receive_buffer`: bytes that a connection's socket holds; none: as the system has it, which may be many MB. Raises
    Unavailable, with what to look at, if the server cannot be reached."""
    settings = _settings(name)
    if statement_timeout_s is not None:
        settings["statement_timeout"] = str(int(statement_timeout_s * 1000))
    with translated():
        return await asyncpg.create_pool(
            dsn,
            min_size=min_size,
            max_size=size,
            connection_class=_Cancelling,
            init=_prepare if receive_buffer is None else _bounded(receive_buffer),
            reset=_leave_as_it_is if stateless else None,
            server_settings=settings,
            command_timeout=None,
            max_inactive_connection_lifetime=300,
        )


async def query(pool: Pool, ask: Callable[[Connection], Awaitable[Answer]]) -> Answer:
    """Ask on a connection of the pool. Raises our errors for the driver's."""
    with translated():
        async with pool.acquire() as conn:
            return await ask(conn)


async def connect(dsn: str, *, name: str = "historian") -> Connection:
    """One connection outside a pool, set up the same way. Raises Unavailable."""
    with translated():
        conn = await asyncpg.connect(dsn, server_settings=_settings(name))
        try:
            await _prepare(conn)
        except BaseException:
            # also of one that was cancelled: nobody else knows of the connection
            conn.terminate()
            raise
        return conn
