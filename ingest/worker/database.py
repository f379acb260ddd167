"""A database as a worker's upstream: its own writer, without a server in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import numpy as np

from historian.ingest.batching import Batcher
from historian.ingest.decode.checks import samples_of
from historian.ingest.decode.columns import NOTHING, NUMBER, TEXT, Columns
from historian.ingest.decode.limits import DecodeLimits
from historian.ingest.leases import Lease, Leases
from historian.ingest.path_samples import PathSamples
from historian.ingest.worker.command_table import CommandTable
from historian.ingest.writer import Writer
from historian.schema.catalogue import Catalogue, TagDefinition
from historian.schema.connection import Pool, open_pool, translated
from historian.schema.errors import Conflict, ProducerTaken, Unavailable
from historian.schema.ledger import Batch, check_producer
from historian.schema.migrate import require_current

_LANES = 2
#: connections for their doorbell, and to take and settle them
_OF_COMMANDS = 3
#: a batch of a worker takes well under a second
_ANSWERS_S = 10.0
_CLOSES_S = 2.0
_NEXT_SEQ = "SELECT coalesce(max(seq) + 1, 0) FROM historian.ledger WHERE producer = $1"


class DatabaseUpstream:
    """`historian.ingest.worker.upstream.Upstream` on a database whose schema is current. Servers on the same database find its commits in the ledger.

    `patience_s`: so long a write waits for a database that is away, before it is Unavailable.
    """

    def __init__(self, dsn: str, producer: str, *, instance: str, patience_s: float = 2.0) -> None:
        self._dsn = dsn
        self._producer = check_producer(producer)
        self._instance = instance
        self._patience_s = patience_s
        self._opening = asyncio.Lock()
        self._closed = False
        self._pool: Pool | None = None
        self._catalogue: Catalogue | None = None
        self._writer: Writer | None = None
        self._batcher: Batcher | None = None
        self._leases: Leases | None = None
        self._lease: Lease | None = None
        self.commands = CommandTable(self._connected, producer)
        #: batches are decoded one after the other, so that they are submitted in their order
        self._turn = asyncio.Lock()

    @property
    def producer(self) -> str:
        return self._producer

    async def _open(self) -> tuple[Pool, Catalogue, Batcher]:
        """Connect, once, and have the lease. Raises Unavailable, SchemaError, ProducerTaken."""
        async with self._opening:
            if self._closed:
                raise Unavailable("this worker is stopping")
            pool = await self._connect()
            if self._catalogue is None:
                catalogue = Catalogue(pool)
                await catalogue.refresh()
                self._catalogue = catalogue
            if self._batcher is None:
                self._writer = Writer(pool)
                self._batcher = Batcher(self._writer, lanes=_LANES, patience_s=self._patience_s)
                self._batcher.start()
            if self._lease is None or self._lease.lost.is_set():
                if self._leases is None:
                    self._leases = Leases(self._dsn)
                self._lease = await self._leases.acquire(self._producer, self._instance)
            return pool, self._catalogue, self._batcher

    async def _connect(self) -> Pool:
        if self._pool is None:
            await asyncio.to_thread(require_current, self._dsn)
            self._pool = await open_pool(self._dsn, size=_LANES + 3 + _OF_COMMANDS, name="historian ingest", stateless=True)
        return self._pool

    async def _connected(self) -> Pool:
        """The pool alone: commands need neither the catalogue nor the lease. Raises Unavailable, SchemaError."""
        async with self._opening:
            if self._closed:
                raise Unavailable("this worker is stopping")
            return await self._connect()

    async def next_seq(self) -> int:
        async with self._limited():
            pool, _, _ = await self._open()
            with translated():
                return int(await pool.fetchval(_NEXT_SEQ, self._producer))

    async def deliver(self, seq: int, samples: PathSamples) -> bool:
        async with self._limited():
            async with self._turn:
                _, catalogue, batcher = await self._open()
                lease = self._lease
                assert lease is not None
                try:
                    await lease.wait_held()
                except Conflict as error:
                    raise ProducerTaken(str(error)) from None
                decoded = await samples_of(_columns(samples), catalogue, DecodeLimits())
                # it stands in the queue once its task has begun, and tasks begin in their order
                submitted = asyncio.ensure_future(batcher.submit(Batch(self._producer, seq, decoded)))
                await asyncio.sleep(0)
            return (await submitted).replayed

    @asynccontextmanager
    async def _limited(self) -> AsyncIterator[None]:
        """Raises Unavailable for a database that neither answers nor breaks its connections, so that the worker spools."""
        limit_s = max(_ANSWERS_S, 2 * self._patience_s)
        try:
            async with asyncio.timeout(limit_s):
                yield
        except TimeoutError:
            raise Unavailable(f"the database has not answered for {limit_s:g} s") from None

    async def define(self, tags: Sequence[TagDefinition]) -> None:
        _, catalogue, _ = await self._open()
        await catalogue.define(list(tags))

    async def close(self) -> None:
        self._closed = True
        await self.commands.close()
        if self._batcher is not None:
            await self._batcher.close()
        if self._writer is not None:
            await self._writer.close()
        if self._leases is not None:
            await self._leases.close()
        if self._pool is not None:
            try:
                async with asyncio.timeout(_CLOSES_S):
                    await self._pool.close()
            except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                self._pool.terminate()


def _columns(samples: PathSamples) -> Columns:
    """As the rules want them."""
    samples = samples.compact()
    form = np.where(np.isnan(samples.value), NOTHING, NUMBER).astype(np.uint8)
    if samples.text is not None:
        form[samples.text.is_valid().to_numpy(zero_copy_only=False)] = TEXT
    return Columns(list(samples.paths), samples.tag, samples.ts, samples.value, form, samples.text, samples.quality.astype(np.int64))
