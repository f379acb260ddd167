"""The ways into `/v1/ingest` from Python: `Ingest` for programs with much data (`AsyncClient.ingest`), and `IngestLink` for ingest workers."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Sequence
from typing import Self

import orjson
import pyarrow as pa

from historian.client.address import Address
from historian.client.columns import BATCH_ROWS, Data, Part, parts
from historian.client.command_queue import ServerCommands
from historian.client.http import Http
from historian.client.ingest_channel import Channel
from historian.client.ingest_wire import Item
from historian.ingest.path_samples import PathSamples
from historian.schema.catalogue import TagDefinition
from historian.schema.errors import BadSamples, HistorianError, Unavailable
from historian.schema.ledger import check_producer, check_seq

_DEFINED_AT_ONCE = 5000
#: refusals that are kept for the next call; of more there is only the number
_MAX_ERRORS = 20


class IngestLink:
    """A worker's upstream: one producer's way to a historian server (`historian.ingest.worker.upstream.Upstream`).

    Calls of `deliver` run at once, as many as the server's credit lets, and are sent in their order. A connection that breaks is made again for `retry_s` seconds, and
    what was unanswered is sent again; after that it is Unavailable, until the next call. `ack_s`: a server that acknowledges nothing for so long (its database is away)
    is Unavailable too. `instance` names this worker over its restarts: it takes over at once from its own connection that the server still believes in.
    """

    def __init__(
        self,
        url: str | None,
        producer: str,
        *,
        token: str | None = None,
        instance: str | None = None,
        retry_s: float = 5.0,
        ack_s: float = 15.0,
        timeout: float = 30.0,
    ) -> None:
        self._http = Http(Address.of(url, token), timeout=timeout, retry_s=retry_s)
        self._channel = Channel(self._http, check_producer(producer), instance or str(uuid.uuid4()), retry_s=retry_s)
        self._ack_s = ack_s
        self.commands = ServerCommands(self._http, producer)

    @property
    def producer(self) -> str:
        return self._channel.producer

    @property
    def connected(self) -> bool:
        return self._channel.connected

    @property
    def unanswered(self) -> int:
        """Batches that were sent, and of which the server has not told what became of them."""
        return self._channel.unanswered

    @property
    def reconnects(self) -> int:
        return self._channel.reconnects

    async def next_seq(self) -> int:
        """One more than the highest seq that this producer has committed; 0 if none. Raises as `deliver` does; Conflict if another writes under this name."""
        await self._channel.open()
        return self._channel.next_seq

    async def deliver(self, seq: int, samples: PathSamples) -> bool:
        """Have one batch committed; it is on disk when this returns. Returns whether it had been committed before. See `Upstream.deliver`.

        Raises Unavailable and Busy: whether it was committed is not known, and sending it again is harmless. Raises TooLarge for a batch beyond the server's credit.
        """
        body = _encode(samples)
        sending = asyncio.ensure_future(self._channel.send(check_seq(seq), body))
        try:
            await self._while_it_moves(sending, None)
        except BaseException:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            if not sending.cancelled() and sending.exception() is None:
                self._channel.abandon(sending.result())
            raise
        item = sending.result()
        try:
            await self._while_it_moves(item.answer, item)
            return item.answer.result()
        finally:
            self._channel.abandon(item)

    async def _while_it_moves(self, awaited: asyncio.Future[Item] | asyncio.Future[bool], item: Item | None) -> None:
        """Until it is done. Raises Unavailable if the server, to which there is a connection, answers nothing for long."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not awaited.done():
            wait = self._ack_s
            if self._channel.connected:
                since = max(self._channel.progress, item.sent_at if item is not None and item.sent_at else began)
                wait = since + self._ack_s - loop.time()
                if wait <= 0:
                    raise Unavailable(f"{self._http.address.url} has acknowledged nothing for {self._ack_s:g} s; its database may be away")
            await asyncio.wait({awaited}, timeout=wait)
        if not awaited.cancelled() and (error := awaited.exception()) is not None:
            raise error

    async def define(self, tags: Sequence[TagDefinition]) -> None:
        """Make tags or change them. Raises as `deliver` does; Conflict names a tag that is of another kind."""
        for start in range(0, len(tags), _DEFINED_AT_ONCE):
            body = orjson.dumps({"tags": [tag.model_dump(exclude_unset=True) for tag in tags[start : start + _DEFINED_AT_ONCE]]})
            await self._http.request("PUT", "/v1/tags", body=body, headers={"Content-Type": "application/json"})

    async def close(self) -> None:
        await self._channel.close()
        await self._http.close()


def _encode(samples: PathSamples) -> bytes:
    """As an Arrow IPC stream."""
    batch = samples.to_record_batch()
    if samples.text is None:
        batch = batch.drop_columns(["text"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    body: bytes = sink.getvalue().to_pybytes()
    return body


class Ingest:
    """Many batches under way at once: `AsyncClient.ingest`.

        async with client.ingest("press line 3") as ingest:
            await ingest.write(table)

    `samples` are those known to be on disk. Leaving the context flushes; leaving it by an error does not.
    """

    def __init__(self, http: Http, producer: str | None, *, retry_s: float) -> None:
        # a name of its own: the server could not know a nameless producer again after the connection broke
        producer = f"python-client:{uuid.uuid4().hex}" if producer is None else check_producer(producer)
        self._channel = Channel(http, producer, str(uuid.uuid4()), retry_s=retry_s)
        self._next: int | None = None
        self._order = asyncio.Lock()
        self._pending: set[asyncio.Future[bool]] = set()
        self._errors: deque[HistorianError] = deque()
        self._failed = 0
        self.samples = 0

    @property
    def producer(self) -> str:
        return self._channel.producer

    async def __aenter__(self) -> Self:
        """Connect. Raises Conflict if another writes under this name."""
        try:
            await self._channel.open()
        except BaseException:
            await self._channel.close()
            raise
        self._next = self._channel.next_seq
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                await self.flush()
        finally:
            await self._channel.close()

    async def write(self, data: Data) -> None:
        """Send samples, in the forms that `AsyncClient.write` takes. Returns once they are on their way, and waits while as much as the server lets is under way already.

        Raises what became of an earlier batch, naming its seq and rows; of `data` nothing was sent then. BadInput for data of none of the forms.
        """
        assert self._next is not None, "async with client.ingest(…)"
        self._raise_errors()
        async with self._order:
            for part in parts(data, BATCH_ROWS):
                seq = self._next
                item = await self._channel.send(seq, part.body())
                self._next = seq + 1
                self._pending.add(item.answer)
                item.answer.add_done_callback(lambda done, part=part, seq=seq: self._answered(done, part, seq))  # type: ignore[misc]

    async def flush(self) -> None:
        """Until all that was written is on disk. Raises what became of a batch that is not, naming its seq and rows."""
        while self._pending:
            await asyncio.wait(set(self._pending))
        self._raise_errors()

    def _answered(self, answer: asyncio.Future[bool], part: Part, seq: int) -> None:
        self._pending.discard(answer)
        error = None if answer.cancelled() else answer.exception()
        if error is None:
            self.samples += len(part.table)
            return
        self._failed += 1
        if isinstance(error, HistorianError) and len(self._errors) < _MAX_ERRORS:
            moved = part.relocated(error) if isinstance(error, BadSamples) else error
            rows = f"rows {part.rows.min()} to {part.rows.max()} of its data" if len(part.rows) else "no rows"
            moved.args = (f"batch {seq} of producer {self.producer!r} ({rows}) was not stored: {moved}",)
            self._errors.append(moved)

    def _raise_errors(self) -> None:
        if not self._errors:
            return
        first, *others = self._errors
        for other in others:
            first.add_note(str(other))
        if self._failed > len(self._errors):
            first.add_note(f"and {self._failed - len(self._errors)} more batches")
        self._errors.clear()
        self._failed = 0
        raise first
