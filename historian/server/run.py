"""A running server: its parts made in order, and stopped in the order that loses nothing.

Stopping: no new connections; streams and producers are told; requests in flight are answered; what was accepted is committed; then the sweep, the pools.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import uuid
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from historian.ingest.batching import Batcher
from historian.ingest.leases import Leases
from historian.ingest.writer import Writer
from historian.query import archive
from historian.schema.catalogue import Catalogue
from historian.schema.connection import Pool, open_pool
from historian.schema.errors import BadInput, Conflict
from historian.schema.migrate import require_current
from historian.server.app import make_app
from historian.server.connection import protocol_factory
from historian.server.flow import RECEIVE_BUFFER
from historian.server.ingests import Ingests
from historian.server.maintenance import Maintenance
from historian.server.metrics import Metrics
from historian.server.services import Services
from historian.settings import Settings
from historian.storage.retention import Retention
from historian.storage.rollups import RollupRefresh
from historian.stream.hub import Hub
from historian.stream.sweep import Sweep

log = logging.getLogger(__name__)

#: requests in flight have so long when the server stops
_SHUTDOWN_S = 15.0


@dataclass(frozen=True, slots=True)
class Server:
    """`url` is where this machine reaches it."""

    url: str
    services: Services


def check_exposure(settings: Settings) -> None:
    """Raises BadInput if the settings would let everybody on the network read and write."""
    if not settings.on_loopback and settings.token is None and not settings.allow_anonymous:
        raise BadInput(
            f"{settings.host} is reachable from other machines: set a token (HISTORIAN_TOKEN), or say --allow-anonymous if everybody who reaches it may read and write"
        )


def _listen(settings: Settings) -> socket.socket:
    """A bound socket. Raises Conflict if the port is taken, BadInput if the host is none of ours."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise BadInput(f"host {settings.host!r} is no address of this machine: {error.strerror or error}") from None
    listening = socket.socket(family, kind, proto)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        if isinstance(error, PermissionError):
            raise BadInput(f"port {settings.port} needs rights that this user lacks; take one above 1023 with --port") from None
        raise Conflict(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror or error}); take another port with --port"
        ) from None
    return listening


def _url(listening: socket.socket, settings: Settings) -> str:
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - what it is bound to, told as what one can reach
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
    elif settings.host == "localhost":
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def _task(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def _pool(dsn: str, size: int, name: str, **options: Any) -> AsyncIterator[Pool]:
    pool = await open_pool(dsn, size=size, name=f"historian {name}", **options)
    try:
        yield pool
    finally:
        # a connection that hangs must not keep the server from stopping
        with suppress(Exception):
            async with asyncio.timeout(5):
                await pool.close()
        pool.terminate()


@asynccontextmanager
async def serving(dsn: str, settings: Settings) -> AsyncIterator[Server]:
    """A server on a database whose schema is current; it serves writes and streams while the context is open.

    Raises BadInput, Conflict, SchemaError and Unavailable, each saying what to do, if it cannot start.
    """
    check_exposure(settings)
    schema = await asyncio.to_thread(require_current, dsn)
    listening = _listen(settings)
    async with AsyncExitStack() as stack:
        stack.callback(listening.close)
        instance = uuid.uuid4().hex
        lanes = settings.write_lanes
        # the lanes of both batchers, and one each for partitions, new tags and the doorbell
        writes = await stack.enter_async_context(_pool(dsn, 2 * lanes + 3, "write", stateless=True))
        # queries are cancelled at their time limit; the database ends what a server leaves behind that dies before
        until = settings.query_s + 10
        reads = await stack.enter_async_context(
            _pool(dsn, settings.read_connections, "read", statement_timeout_s=until, receive_buffer=RECEIVE_BUFFER)
        )
        # beside the backfills, a live tail asks now and then what has become of its calculated pens
        backfills = await stack.enter_async_context(_pool(dsn, settings.backfill_connections + 2, "backfill"))
        # the sweep, its doorbell, the upkeep, the rollups, and retention's two
        upkeep = await stack.enter_async_context(_pool(dsn, 7, "upkeep"))
        catalogue = Catalogue(upkeep)
        await catalogue.refresh()
        hub = Hub(retain_bytes=settings.retain)
        sweep = Sweep(upkeep, hub, instance=instance, interval_s=settings.sweep_s)
        await sweep.begin()
        writer = Writer(writes, hub.publish, instance=instance)
        batcher = Batcher(
            writer,
            lanes=lanes,
            batch_rows=settings.batch_samples,
            max_pending_rows=settings.max_pending_samples,
            patience_s=settings.write_patience_s,
        )
        # batches of /v1/ingest are answered when they are on disk, however long the database is away
        patient = Batcher(
            writer,
            lanes=lanes,
            batch_rows=settings.batch_samples,
            max_pending_rows=settings.max_pending_samples,
            patience_s=math.inf,
        )
        ingests = Ingests(Leases(dsn), patient)
        services = Services(settings, schema, catalogue, writer, batcher, hub, sweep, reads, backfills, Metrics(), ingests)
        _count(services)
        await stack.enter_async_context(_task(sweep.run()))
        await stack.enter_async_context(_task(Maintenance(upkeep, catalogue, content_kept_s=settings.content_kept_s).run()))
        if schema.engine == "plain":
            rollups = RollupRefresh(upkeep)
            services.metrics.counter(
                "historian_rollup_stretches", "Stretches of buckets that were made again", lambda: rollups.counts.stretches
            )
            services.metrics.counter("historian_rollup_failures", "Refreshes of rollups that failed", lambda: rollups.counts.failures)
            await stack.enter_async_context(_task(rollups.run()))
        archive.use_place(settings.archive_dir)
        retention = Retention(upkeep, settings.archive_dir)
        services.metrics.counter("historian_archived_samples", "Samples moved into the archive", lambda: retention.counts.archived)
        services.metrics.counter("historian_expired_samples", "Expired samples deleted one by one", lambda: retention.counts.deleted)
        services.metrics.counter("historian_retention_failures", "Runs of retention that failed", lambda: retention.counts.failures)
        await stack.enter_async_context(_task(retention.run()))
        stack.push_async_callback(writer.close)
        batcher.start()
        stack.push_async_callback(batcher.close)
        patient.start()
        stack.push_async_callback(ingests.close)
        runner = web.AppRunner(
            make_app(services), access_log=None, shutdown_timeout=_SHUTDOWN_S, auto_decompress=False, keepalive_timeout=75.0
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        assert runner.server is not None
        acceptor = await asyncio.get_running_loop().create_server(protocol_factory(runner.server), sock=listening)
        stack.callback(acceptor.close)
        yield Server(_url(listening, settings), services)
        services.stopping = True


def _count(services: Services) -> None:
    metrics, counts, hub = services.metrics, services.writer.counts, services.hub
    metrics.counter("historian_written_samples", "Samples committed", lambda: counts.samples)
    metrics.counter("historian_written_batches", "Batches answered", lambda: counts.batches)
    metrics.counter("historian_replayed_batches", "Batches that had been committed before", lambda: counts.replayed)
    metrics.counter("historian_replaced_samples", "Samples that replaced another", lambda: counts.replaced)
    metrics.counter("historian_transactions", "Write transactions committed", lambda: counts.transactions)
    metrics.counter("historian_bus_notices", "Notices handed on by the live bus", lambda: hub.counts.notices)
    metrics.counter("historian_swept_notices", "Commits that the ledger sweep found unpublished", lambda: services.sweep.found)
    ingests = services.ingests
    metrics.counter("historian_ingest_acked_batches", "Batches of /v1/ingest that were acknowledged", lambda: ingests.counts.acked)
    metrics.counter("historian_ingest_refused_batches", "Batches of /v1/ingest that were refused", lambda: ingests.counts.refused)
    metrics.gauge("historian_ingests", "Open connections to /v1/ingest", lambda: ingests.counts.connections)
    metrics.gauge("historian_ingest_batches_in_flight", "Batches of /v1/ingest that are not answered", lambda: ingests.counts.in_flight)
    metrics.gauge("historian_leases", "Producers' names that connections of this server hold", lambda: len(ingests.leases))
    metrics.gauge(
        "historian_pending_samples",
        "Samples that wait to be committed",
        lambda: services.batcher.pending_rows + ingests.batcher.pending_rows,
    )
    metrics.gauge("historian_bus_retained_bytes", "Bytes that the live bus retains", lambda: hub.retained_bytes)
    metrics.gauge("historian_streams", "Open stream connections", lambda: services.streams)
    metrics.gauge("historian_range_queries", "Range queries that are being answered", lambda: services.turns.held)
    metrics.gauge("historian_waiting_range_queries", "Range queries that wait for their turn", lambda: services.turns.waiting)
    metrics.gauge("historian_subscriptions", "Open subscriptions", lambda: len(hub))
    metrics.gauge("historian_tags", "Tags in the catalogue", lambda: len(services.catalogue))
    metrics.gauge("historian_body_bytes", "Bytes of write bodies in work", lambda: services.bodies.held)
