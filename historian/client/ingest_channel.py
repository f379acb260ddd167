"""Batches on their way to `/v1/ingest` (docs/protocol.md): sent in their order, many at once within the server's credit, and again after a connection broke.

Promise. What `send` has taken is answered in the end: by its acknowledgement, by the server's refusal, or by Unavailable once the link could not be mended for `retry_s`
seconds. A batch that is sent again is known by its seq, and counts once. At most the credit is held here.

A task keeps the connection for as long as something is unanswered, and after that until it breaks; the next call opens it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import aiohttp
import orjson
import zstandard

from historian.client.http import Http
from historian.client.ingest_wire import Connection, Item, copy_of, next_message, told
from historian.client.problems import error_of
from historian.ingest.backoff import Backoff
from historian.schema.errors import BadInput, Busy, Conflict, HistorianError, TooLarge, Unavailable
from historian.stream import ingest_frames as frames

log = logging.getLogger(__name__)

_WORTH_COMPRESSING = 4096
_LONGEST_PAUSE_S = 5.0
#: a connection that ends sooner, with nothing acknowledged, counts as one that failed
_STEADY_S = 5.0


class Channel:
    """One producer's connections, one after the other. `instance` tells the server that it is the same producer that comes again."""

    def __init__(self, http: Http, producer: str, instance: str, *, retry_s: float) -> None:
        self._http = http
        self.producer = producer
        self._instance = instance
        self._retry_s = retry_s
        self._items: dict[int, Item] = {}
        self._bytes = 0
        self._credit = (0, 0)
        self._connection: Connection | None = None
        self._connections = 0
        self._task: asyncio.Task[None] | None = None
        self._order = asyncio.Lock()
        self._news = asyncio.Event()
        self._waiters = 0
        self._failures = 0
        self._failure: HistorianError | None = None
        self._lost_at: float | None = None
        self._closed = False
        #: when the server last answered anything
        self.progress = 0.0
        self.next_seq = 0
        self.reconnects = 0

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def unanswered(self) -> int:
        return len(self._items)

    async def open(self) -> None:
        """Connect, if it is not connected. Raises what the server refuses it with, Unavailable."""
        await self.until(lambda: self._connection is not None)

    async def send(self, seq: int, body: bytes) -> Item:
        """Take a batch (an Arrow IPC stream) onto the way, behind those before it, as soon as the credit allows. Raises TooLarge, and as `open` does."""
        async with self._order:
            known = self._items.get(seq)
            if known is not None:
                return self._again(known, body)
            await self.open()
            frame = self._framed(seq, body)
            if len(frame) > self._credit[1]:
                if not self._credit[1]:
                    raise Unavailable(f"{self._http.address.url} is stopping")
                raise TooLarge(f"batch {seq} has {len(frame)} bytes, and the server takes {self._credit[1]}: send it in parts")
            await self.until(lambda: len(self._items) < self._credit[0] and self._bytes + len(frame) <= self._credit[1])
            item = Item(seq, frame, len(frame), asyncio.get_running_loop().create_future())
            self._items[seq] = item
            self._bytes += item.size
            if self._connection is not None:
                self._connection.unsent.append(item)
            self._tell()
            self._ensure_running()
            return item

    def _again(self, item: Item, body: bytes) -> Item:
        """The same batch, of which the server has not told yet what became of it."""
        item.waiting += 1
        if item.frame is None:
            item.frame = self._framed(item.seq, body)
            item.answer = asyncio.get_running_loop().create_future()
        return item

    def abandon(self, item: Item) -> None:
        """Its caller waits no more. What is on the wire stays there; what is not is not sent."""
        item.waiting -= 1
        if item.waiting or item.answer.done():
            return
        item.frame = None
        item.answer.cancel()
        if self._connection is None or item.sent_on != self._connection.number:
            self._remove(item)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition of this channel. Raises what ends the attempts to connect."""
        failures = self._failures
        self._waiters += 1
        try:
            while not condition():
                if self._closed:
                    raise Unavailable("the connection was closed here")
                if self._failures != failures and self._failure is not None:
                    raise copy_of(self._failure)
                self._ensure_running()
                await self._news.wait()
        finally:
            self._waiters -= 1

    async def close(self) -> None:
        """End the connection. What is unanswered stays so."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._disconnect()
        self._fail(Unavailable("the connection was closed here before this batch was acknowledged"))

    # -- the task

    def _ensure_running(self) -> None:
        if not self._closed and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run())

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _run(self) -> None:
        backoff = Backoff(first=0.05, longest=_LONGEST_PAUSE_S)
        clock = asyncio.get_running_loop().time
        while True:
            try:
                await self._connect()
                error = await self._serve()
            except HistorianError as failed:
                error = failed
            except (KeyError, TypeError, ValueError) as failed:
                error = BadInput(f"{self._http.address.url} does not speak {frames.SUBPROTOCOL}: {failed!r}")
            except Exception as failed:
                # not to be foreseen: told to all who wait, instead of a task that dies silently
                log.exception("the connection of producer %r failed", self.producer)
                error = HistorianError(f"the connection failed: {failed!r}")
            connection, now = self._connection, clock()
            await self._disconnect()
            if connection is not None and (connection.answers or now - connection.since > _STEADY_S):
                backoff.reset()
                self._lost_at = None
            if not self._items and not self._waiters:
                return
            if self._lost_at is None:
                self._lost_at = now
            wait = max(backoff.next(), min(error.retry_after, 1.0)) if isinstance(error, Busy) else backoff.next()
            if not self._passes(error, connection is not None) or now + wait > self._lost_at + self._retry_s:
                self._fail(error)
                return
            self.reconnects += 1
            await asyncio.sleep(wait)

    def _passes(self, error: HistorianError, was_open: bool) -> bool:
        if isinstance(error, Unavailable | Busy):
            return True
        # after a break the database may take a moment to notice that the server with our name's lease is gone; one that is lost while we are connected has another owner
        return isinstance(error, Conflict) and self._connections > 0 and not was_open

    def _fail(self, error: HistorianError) -> None:
        self._failure = error
        self._failures += 1
        items, self._items, self._bytes = list(self._items.values()), {}, 0
        for item in items:
            if not item.answer.done():
                item.answer.set_exception(copy_of(error))
                # whoever sent it may be gone: that is no fault
                item.answer.exception()
        self._tell()

    async def _connect(self) -> None:
        ws = await self._http.ingest_websocket()
        try:
            await ws.send_str(orjson.dumps({"type": "open", "producer": self.producer, "instance": self._instance}).decode())
            async with asyncio.timeout(self._http.timeout):
                message = await next_message(ws)
            if message is None or message.get("type") != "opened":
                raise told(message) or Unavailable(f"{self._http.address.url} closed the connection instead of opening it")
        except BaseException as error:
            with suppress(Exception):
                await ws.close()
            if isinstance(error, TimeoutError):
                raise Unavailable(f"{self._http.address.url} did not answer within {self._http.timeout:g} s") from None
            if isinstance(error, aiohttp.ClientError | OSError):
                raise Unavailable(f"the connection to {self._http.address.url} broke: {error}") from error
            raise
        self._connections += 1
        now = asyncio.get_running_loop().time()
        for item in [item for item in self._items.values() if item.frame is None]:
            self._remove(item)
        connection = Connection(ws, self._connections, now)
        connection.unsent.extend(self._items.values())
        self._credit = (int(message["credit"]["batches"]), int(message["credit"]["bytes"]))
        self.next_seq = max(self.next_seq, int(message["next_seq"]))
        self.progress = now
        self._connection = connection
        self._tell()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                await connection.ws.close()

    async def _serve(self) -> HistorianError:
        """Send and receive until the connection ends. Returns why."""
        assert self._connection is not None
        sending = asyncio.create_task(self._send_all(self._connection))
        receiving = asyncio.create_task(self._receive_all(self._connection))
        try:
            done, _ = await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
            if receiving not in done:
                # the server may have said why it no longer reads
                await asyncio.wait({receiving}, timeout=1.0)
            return receiving.result() if receiving.done() else sending.result()
        finally:
            for task in (sending, receiving):
                task.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)

    async def _send_all(self, connection: Connection) -> HistorianError:
        while True:
            while not connection.unsent or not self._fits(connection, connection.unsent[0]):
                await self._news.wait()
            item = connection.unsent.popleft()
            if self._items.get(item.seq) is not item or item.frame is None:
                continue
            connection.batches += 1
            connection.bytes += item.size
            item.sent_on, item.sent_at = connection.number, asyncio.get_running_loop().time()
            try:
                await connection.ws.send_bytes(item.frame)
            except (ConnectionError, aiohttp.ClientError) as error:
                return Unavailable(f"the connection to {self._http.address.url} broke: {error or type(error).__name__}")

    def _fits(self, connection: Connection, item: Item) -> bool:
        return connection.batches < self._credit[0] and connection.bytes + item.size <= self._credit[1]

    async def _receive_all(self, connection: Connection) -> HistorianError:
        url = self._http.address.url
        ended: HistorianError | None = None
        try:
            while (message := await next_message(connection.ws)) is not None:
                kind = message.get("type")
                self.progress = asyncio.get_running_loop().time()
                if kind == "ack":
                    for first, last in message["seqs"]:
                        self._acknowledged(connection, int(first), int(last), bool(message.get("replayed")))
                elif kind == "refused":
                    self._refused(connection, message)
                elif kind == "credit":
                    self._credit = (int(message["batches"]), int(message["bytes"]))
                elif kind == "error":
                    ended = told(message)
                self._tell()
        except (aiohttp.ClientError, OSError) as error:
            return ended or Unavailable(f"the connection to {url} broke: {error}")
        except (KeyError, TypeError, ValueError) as error:
            return BadInput(f"{url} does not speak {frames.SUBPROTOCOL}: {error!r}")
        return ended or Unavailable(f"the connection to {url} broke")

    def _acknowledged(self, connection: Connection, first: int, last: int, replayed: bool) -> None:
        known = [seq for seq in self._items if first <= seq <= last] if last - first > len(self._items) else range(first, last + 1)
        for seq in known:
            item = self._answered(connection, seq)
            if item is not None and not item.answer.done():
                item.answer.set_result(replayed)
        self.next_seq = max(self.next_seq, last + 1)

    def _refused(self, connection: Connection, message: dict[str, Any]) -> None:
        problem = message["problem"]
        error = error_of(problem, status=int(problem.get("status") or 500))
        if message["seq"] is None:
            raise ValueError(f"a frame that was not understood: {error}")
        item = self._answered(connection, int(message["seq"]))
        if item is not None and not item.answer.done():
            item.answer.set_exception(error)
            item.answer.exception()

    def _answered(self, connection: Connection, seq: int) -> Item | None:
        item = self._items.get(seq)
        if item is None or item.sent_on != connection.number:
            return None
        connection.answers += 1
        connection.batches -= 1
        connection.bytes -= item.size
        self._remove(item)
        return item

    def _remove(self, item: Item) -> None:
        if self._items.get(item.seq) is item:
            del self._items[item.seq]
            self._bytes -= item.size
            self._tell()

    def _framed(self, seq: int, body: bytes) -> bytes:
        flags = 0
        if not self._http.address.nearby and len(body) >= _WORTH_COMPRESSING:
            body, flags = zstandard.ZstdCompressor(level=1).compress(body), frames.ZSTD
        return frames.pack(frames.FrameHeader(flags, seq)) + body
