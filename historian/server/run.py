"""A running server: its parts made in order, and stopped in the order that loses nothing.

Stopping: no new connections; streams and producers are told; requests in flight are answered; what was accepted is committed; then the sweep, the pools.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import uuid
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from historian.commands.commanders import Commanders
from historian.commands.deliveries import Deliveries
from historian.commands.service import AT_ONCE, Commands
from historian.ingest.batching import Batcher
from historian.ingest.leases import Leases
from historian.ingest.writer import Writer
from historian.query import archive
from historian.schema.catalogue import Catalogue
from historian.schema.connection import Pool, open_pool
from historian.schema.migrate import require_current
from historian.server.app import make_app
from historian.server.connection import protocol_factory
from historian.server.flow import RECEIVE_BUFFER
from historian.server.ingests import Ingests
from historian.server.listening import BACKLOG, check_exposure, listen, url_of
from historian.server.maintenance import Maintenance
from historian.server.metrics import Metrics
from historian.server.services import Services
from historian.settings import Settings
from historian.storage.retention import Retention
from historian.storage.rollups import RollupRefresh
from historian.stream.hub import Hub
from historian.stream.nats_bus import NatsBus
from historian.stream.nats_connection import require_nats
from historian.stream.seam import warm_up
from historian.stream.sweep import Sweep

log = logging.getLogger(__name__)

#: requests in flight have so long when the server stops
_SHUTDOWN_S = 15.0
#: connections for backfills that are kept ready, so that a trend begins at once
_READY = 4


@dataclass(frozen=True, slots=True)
class Server:
    """`url` is where this machine reaches it."""

    url: str
    services: Services


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
async def serving(dsn: str, settings: Settings, *, listening: socket.socket | None = None) -> AsyncIterator[Server]:
    """A server on a database whose schema is current; it serves writes and streams while the context is open. `listening`: a socket that is its own from now on,
    and not of the address in the settings.

    Raises BadInput, Conflict, SchemaError and Unavailable, each saying what to do, if it cannot start.
    """
    check_exposure(settings)
    commanders = Commanders(settings.commanders)
    if settings.nats is not None:
        require_nats()
    schema = await asyncio.to_thread(require_current, dsn)
    listening = listening or listen(settings)
    async with AsyncExitStack() as stack:
        stack.callback(listening.close)
        instance = uuid.uuid4().hex
        lanes = settings.write_lanes
        # the lanes of both batchers, one each for partitions, new tags and the doorbell, and those of commands
        writes = await stack.enter_async_context(_pool(dsn, 2 * lanes + 3 + AT_ONCE, "write", stateless=True))
        # queries are cancelled at their time limit; the database ends what a server leaves behind that dies before
        until = settings.query_s + 10
        reads = await stack.enter_async_context(
            _pool(dsn, settings.read_connections, "read", statement_timeout_s=until, receive_buffer=RECEIVE_BUFFER)
        )
        # beside the backfills, a live tail asks now and then what has become of its calculated pens
        ready = min(_READY, settings.backfill_connections)
        backfills = await stack.enter_async_context(
            _pool(dsn, settings.backfill_connections + 2, "backfill", min_size=ready, stateless=True)
        )
        await stack.enter_async_context(_task(warm_up(backfills, ready)))
        # the sweep, its doorbell, the upkeep, the rollups, and retention's two
        upkeep = await stack.enter_async_context(_pool(dsn, 7, "upkeep"))
        catalogue = Catalogue(upkeep)
        await catalogue.refresh()
        hub = Hub(retain_bytes=settings.retain)
        address = settings.nats_address
        bus = None if address is None else NatsBus(upkeep, hub, address, instance=instance)
        sweep = Sweep(
            upkeep, hub, instance=instance, interval_s=settings.sweep_s, on_bus=(lambda: False) if bus is None else (lambda: bus.connected)
        )
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
        # two for their doorbell and upkeep
        of_commands = await stack.enter_async_context(_pool(dsn, AT_ONCE + 2, "command"))
        commands = Commands(
            of_commands,
            writer,
            catalogue,
            commanders,
            a_second=settings.max_commands_s,
            kept_s=settings.commands_kept_s,
            refused_kept_s=settings.refused_commands_kept_s,
        )
        await stack.enter_async_context(_task(commands.run()))
        deliveries = Deliveries(of_commands, commands.bell)
        services = Services(
            settings, schema, catalogue, writer, batcher, hub, sweep, reads, backfills, Metrics(), ingests, commands, deliveries
        )
        _count(services)
        if bus is not None:
            writer.relay = bus.relay
            _count_bus(services.metrics, bus)
            await stack.enter_async_context(_task(bus.run()))
        await stack.enter_async_context(_task(sweep.run()))
        maintenance = Maintenance(
            upkeep,
            catalogue,
            content_kept_s=settings.content_kept_s,
            cursor_kept_s=settings.cursor_kept_s,
            cursor_kept_bytes=settings.cursor_kept_bytes,
        )
        await stack.enter_async_context(_task(maintenance.run()))
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
        acceptor = await asyncio.get_running_loop().create_server(protocol_factory(runner.server), sock=listening, backlog=BACKLOG)
        stack.callback(acceptor.close)
        yield Server(url_of(listening, settings), services)
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
    commands = services.commands.counts
    metrics.counter("historian_commands_written", "Commands that became a sample", lambda: commands.written)
    metrics.counter("historian_commands_accepted", "Commands for the plant that were accepted", lambda: commands.accepted)
    metrics.counter("historian_commands_refused", "Commands that were refused", lambda: commands.refused)
    metrics.counter("historian_commands_unaudited", "Refused commands that are not in the audit: too many", lambda: commands.unaudited)
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


def _count_bus(metrics: Metrics, bus: NatsBus) -> None:
    counts = bus.counts
    metrics.gauge("historian_bus_connected", "Whether this server is on the bus of NATS", lambda: bus.connected)
    metrics.gauge("historian_bus_waiting_bytes", "Bytes that wait to be sent over NATS", lambda: bus.waiting_bytes)
    metrics.counter("historian_bus_connections", "Connections that were made to NATS", lambda: counts.connections)
    metrics.counter("historian_bus_sent_notices", "Commits sent over NATS", lambda: counts.sent)
    metrics.counter("historian_bus_unsent_notices", "Commits not sent over NATS, and left to the ledger sweep", lambda: counts.unsent)
    metrics.counter("historian_bus_received_notices", "Commits of other servers that NATS brought", lambda: counts.received)
    metrics.counter("historian_bus_late_notices", "Commits that NATS brought behind the ledger sweep", lambda: counts.late)
    metrics.counter("historian_bus_dropped_notices", "Commits that NATS brought faster than they were handed on", lambda: counts.dropped)
    metrics.counter("historian_bus_faulty_messages", "Messages on the bus of NATS that are no notices", lambda: counts.faulty)
