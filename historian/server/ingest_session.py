"""One connection to /v1/ingest (docs/protocol.md): frames in, acknowledgements out.

Promise. A batch is acknowledged once it is on disk, and refused once it is certain that it is not taken; while neither can be said, it is unanswered and its credit held.
Batches are committed in the order in which they came. What is here of a connection is bounded by its credit.

How. A task reads frames into a queue, and does nothing else, so that pings are answered however long the database is away. A second one decodes them, one after
the other, and hands them to the batcher; a third one sends what has become of them, many in one message. Whoever finds that the connection has to end says so to `_end`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from historian.ingest.backoff import Backoff
from historian.ingest.decode import decode
from historian.ingest.leases import Lease
from historian.schema.connection import translated
from historian.schema.errors import BadInput, Busy, Conflict, HistorianError, SchemaError, Unavailable
from historian.schema.ledger import ANONYMOUS, Batch, Receipt, check_producer
from historian.schema.samples import Samples
from historian.server.ingest_messages import ProtocolFault, parse_open
from historian.server.problems import as_problem
from historian.server.services import Services
from historian.stream import ingest_frames as frames

ARROW_STREAM = "application/vnd.apache.arrow.stream"

#: frames whose header cannot be read, until the connection is closed
MAX_FAULTS = 100
#: for the first message, and for what a producer sent before to be committed
_OPEN_S = 30.0
#: what is under way when the server stops has so long to be acknowledged
_DRAIN_S = 3.0
#: payloads that become larger are unpacked in a thread
_LARGE = 1 << 20

# what waiting mends: such a batch is never refused
_PASSING = (Busy, Unavailable, SchemaError)


@dataclass(frozen=True, slots=True)
class _End:
    """Why a connection ends; `error` is told to the client."""

    error: HistorianError
    code: int


@dataclass(frozen=True, slots=True)
class _Frame:
    header: frames.FrameHeader
    data: bytes


class IngestSession:
    """The batches of one connection. `peer` is told to others who want its producer's name."""

    def __init__(self, ws: web.WebSocketResponse, services: Services, peer: str) -> None:
        self._ws = ws
        self._services = services
        self._peer = peer
        settings = services.settings
        self._credit_batches = settings.ingest_batches
        self._credit_bytes = settings.ingest_window
        self._limits = settings.decode_limits()
        self._producer = ""
        self._lease: Lease | None = None
        #: unanswered
        self._batches = 0
        self._bytes = 0
        self._queue: deque[_Frame] = deque()
        self._queued = asyncio.Event()
        self._under_way = 0
        #: to be told, with the bytes of credit that they hold till then
        self._acked: list[tuple[Receipt, int]] = []
        self._refused: list[tuple[int, HistorianError, int]] = []
        self._unreadable: list[BadInput] = []
        self._answers = asyncio.Event()
        self._faults = 0
        self._ended: asyncio.Future[_End | None] = asyncio.get_running_loop().create_future()

    async def run(self) -> bool:
        """Serve the connection until either side closes it. False: it did not end in good order, and is to be cut off."""
        tasks: list[asyncio.Task[None]] = []
        try:
            try:
                await self._open()
            except ProtocolFault as error:
                self._end(_End(error, frames.PROTOCOL_FAULT))
            except ConnectionError:
                self._end(None)
            except Exception as error:
                self._end_by(as_problem(error, "opening an ingest connection"))
            else:
                work: list[Coroutine[Any, Any, None]] = [self._read(), self._feed(), self._answer(), self._watch_stopping()]
                if self._lease is not None:
                    work.append(self._watch_lease(self._lease))
                tasks += [asyncio.create_task(self._guarded(one)) for one in work]
            return await self._finish(await self._ended, tasks[:1])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._services.ingests.counts.in_flight -= self._batches
            while self._queue:
                self._services.bodies.give_back(len(self._queue.popleft().data))
            if self._lease is not None:
                self._services.ingests.release(self._lease)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except ProtocolFault as error:
            self._end(_End(error, frames.PROTOCOL_FAULT))
        except ConnectionError:
            self._end(None)
        except Exception as error:
            self._end_by(as_problem(error, "an ingest connection"))

    def _end(self, end: _End | None) -> None:
        """None: the client is gone."""
        if not self._ended.done():
            self._ended.set_result(end)

    def _end_by(self, error: HistorianError) -> None:
        self._end(_End(error, frames.PROBLEM + error.status))

    async def _finish(self, end: _End | None, reader: list[asyncio.Task[None]]) -> bool:
        if end is None:
            return False
        if end.code == frames.STOPPING:
            # what is under way is acknowledged, unless the database is away
            with suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN_S):
                    while self._under_way:
                        self._answers.clear()
                        await self._answers.wait()
        try:
            # one that does not read is not waited for
            async with asyncio.timeout(_DRAIN_S):
                await self._tell()
                await self._send({"type": "error", "problem": end.error.document()})
                # closing reads what still comes, up to the client's answer: a connection that is ended with unread data may lose what was sent
                for task in reader:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                await self._ws.close(code=end.code, message=str(end.error).encode()[:120])
        except (ConnectionError, TimeoutError):
            return False
        return True

    # -- opening

    async def _open(self) -> None:
        services = self._services
        try:
            message = await self._ws.receive(timeout=_OPEN_S)
        except TimeoutError:
            raise ProtocolFault(f"no open message within {_OPEN_S:.0f} s") from None
        if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            self._end(None)
            raise ProtocolFault("the connection was closed before it was opened")
        if message.type != WSMsgType.TEXT:
            raise ProtocolFault("the first message is open, as text")
        asked = parse_open(message.data)
        next_seq = 0
        if asked.producer is None:
            self._producer = f"{ANONYMOUS}{uuid.uuid4().hex}"
        else:
            self._producer = check_producer(asked.producer)
            if self._producer.startswith(ANONYMOUS):
                raise BadInput(f"names that begin with {ANONYMOUS!r} are the server's own")
            self._lease = await services.ingests.leases.acquire(self._producer, asked.instance or uuid.uuid4().hex, self._peer)
            # what came over an older connection may not be in the ledger yet
            await services.ingests.settled(self._producer, _OPEN_S)
            with translated():
                async with services.reading() as conn:
                    newest = await conn.fetchval("SELECT max(seq) FROM historian.ledger WHERE producer = $1", self._producer)
            next_seq = 0 if newest is None else newest + 1
        limits = {"samples": services.settings.max_batch_samples, "unpacked_bytes": services.settings.max_body}
        credit = {"batches": self._credit_batches, "bytes": self._credit_bytes}
        await self._send({"type": "opened", "producer": self._producer, "next_seq": next_seq, "credit": credit, "limits": limits})

    async def _watch_lease(self, lease: Lease) -> None:
        await lease.lost.wait()
        if lease.reason is not None:
            self._end_by(lease.reason)

    async def _watch_stopping(self) -> None:
        await self._services.ingests.stopping.wait()
        await self._send({"type": "credit", "batches": 0, "bytes": 0})
        self._end(_End(Unavailable("the server is stopping"), frames.STOPPING))

    # -- frames in

    async def _read(self) -> None:
        async for message in self._ws:
            if message.type == WSMsgType.BINARY:
                self._take(message.data)
            elif message.type == WSMsgType.TEXT:
                raise ProtocolFault("after open, a client sends binary frames only")
        self._end(None)

    def _take(self, data: bytes) -> None:
        if self._batches + 1 > self._credit_batches or self._bytes + len(data) > self._credit_bytes:
            raise ProtocolFault(
                f"beyond the credit: {self._batches + 1} batches with {self._bytes + len(data)} bytes are unanswered,"
                f" and {self._credit_batches} with {self._credit_bytes} may be"
            )
        try:
            header = frames.unpack(data)
        except BadInput as error:
            self._faults += 1
            if self._faults > MAX_FAULTS:
                raise ProtocolFault(f"more than {MAX_FAULTS} frames without a sound header") from None
            self._unreadable.append(error)
            self._answers.set()
            return
        self._batches += 1
        self._bytes += len(data)
        self._services.ingests.counts.in_flight += 1
        self._services.bodies.add(len(data))
        self._queue.append(_Frame(header, data))
        self._queued.set()

    async def _feed(self) -> None:
        """Decode frames and hand them to the batcher, each before the next."""
        while True:
            while not self._queue:
                self._queued.clear()
                await self._queued.wait()
            frame = self._queue[0]
            size = len(frame.data)
            try:
                await self._hand_over(frame)
            except _PASSING:
                raise
            except HistorianError as error:
                self._refused.append((frame.header.seq, error, size))
                self._answers.set()
            self._queue.popleft()
            self._services.bodies.give_back(size)

    async def _hand_over(self, frame: _Frame) -> None:
        services = self._services
        unpacked = frames.unpacked_size(frame.data, frame.header, services.settings.max_body)
        await services.unpacked.wait_for(unpacked)
        try:
            await self._submit(frame, await self._decode(frame, unpacked))
        finally:
            services.unpacked.give_back(unpacked)

    async def _decode(self, frame: _Frame, unpacked: int) -> Samples:
        if frame.header.flags & frames.ZSTD and unpacked > _LARGE:
            body = await asyncio.to_thread(frames.payload, frame.data, frame.header)
        else:
            body = frames.payload(frame.data, frame.header)
        backoff = Backoff(first=0.05, longest=2.0)
        while True:
            try:
                return await decode(body, ARROW_STREAM, self._services.catalogue, self._limits, self._services.decoders)
            except (Busy, Unavailable):
                # new tags, and no database to make them in
                await asyncio.sleep(backoff.next())

    async def _submit(self, frame: _Frame, samples: Samples) -> None:
        backoff = Backoff(first=0.01, longest=1.0)
        while True:
            if self._lease is not None:
                try:
                    await self._lease.wait_held()
                except Conflict as error:
                    self._end_by(error)
                    await _ever()
            if self._services.ingests.stopping.is_set():
                await _ever()
            task = self._services.ingests.submit(Batch(self._producer, frame.header.seq, samples))
            await asyncio.sleep(0)
            if not (task.done() and isinstance(task.exception(), Busy)):
                break
            await asyncio.sleep(backoff.next())
        self._under_way += 1
        size, seq = len(frame.data), frame.header.seq
        task.add_done_callback(lambda done: self._done(done, seq, size))

    def _done(self, task: asyncio.Task[Receipt], seq: int, size: int) -> None:
        self._under_way -= 1
        error = Unavailable("the server is stopping") if task.cancelled() else task.exception()
        if error is None:
            self._acked.append((task.result(), size))
        elif isinstance(error, HistorianError) and not isinstance(error, _PASSING):
            self._refused.append((seq, error, size))
        elif isinstance(error, Exception):
            # not to be answered: the client has it still, and sends it again
            self._end_by(as_problem(error, "a batch of an ingest connection"))
        self._answers.set()

    # -- answers out

    async def _answer(self) -> None:
        while True:
            await self._answers.wait()
            self._answers.clear()
            try:
                async with asyncio.timeout(self._services.settings.stalled_s):
                    await self._tell()
            except TimeoutError:
                raise ConnectionResetError("the client does not read its answers") from None

    async def _tell(self) -> None:
        acked, self._acked = self._acked, []
        refused, self._refused = self._refused, []
        unreadable, self._unreadable = self._unreadable, []
        counts = self._services.ingests.counts
        answered = len(acked) + len(refused)
        # from here on the client may know
        self._batches -= answered
        self._bytes -= sum(size for _, size in acked) + sum(size for *_, size in refused)
        counts.in_flight -= answered
        counts.acked += len(acked)
        counts.refused += len(refused) + len(unreadable)
        # never both in one message: a client is told of each batch whether it had been committed before
        for again in (False, True):
            some = [receipt for receipt, _ in acked if receipt.replayed == again]
            if some:
                samples = sum(receipt.samples for receipt in some)
                seqs = frames.ranges(receipt.seq for receipt in some)
                await self._send({"type": "ack", "seqs": seqs, "samples": samples, "replayed": len(some) if again else 0})
        for seq, error, _ in refused:
            await self._send({"type": "refused", "seq": seq, "problem": error.document()})
        for fault in unreadable:
            await self._send({"type": "refused", "seq": None, "problem": fault.document()})

    async def _send(self, message: dict[str, Any]) -> None:
        await self._ws.send_str(orjson.dumps(message).decode())


async def _ever() -> None:
    """Until the connection, which has ended, is cleared away."""
    await asyncio.get_running_loop().create_future()
