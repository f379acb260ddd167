"""`Client`: the same historian without `await`, for notebooks and scripts.

Its event loop runs in a background thread, which starts with the first call and ends with `close`, or when the client is forgotten. Calls may come
from any thread; Ctrl-C interrupts one that waits.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self, TypeVar, Unpack

import pyarrow as pa

from historian.client.asynchronous import AsyncClient
from historian.client.columns import Data
from historian.client.commands import Command
from historian.client.ranges import RangeOptions, Tags
from historian.client.results import Receipt, TagList
from historian.client.stream import Stream
from historian.client.stream_events import Event, Gap
from historian.client.times import Time
from historian.query.range_query import StreamMode, StreamOrder
from historian.schema.catalogue import Tag, TagDefinition

Result = TypeVar("Result")


class _Background:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="historian client", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """The coroutine's result, waited for."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result()
        except BaseException:
            # an interrupt of the waiting; of a coroutine that has ended it changes nothing
            future.cancel()
            raise

    def stop(self, client: AsyncClient) -> None:
        """Close the client and end the thread."""
        if self.loop.is_closed():
            return
        if threading.current_thread() is self._thread:
            # forgotten in the middle of its own work: it cannot wait for itself
            self.loop.create_task(client.close()).add_done_callback(lambda _: self.loop.stop())
            return
        if self._thread.is_alive():
            with suppress(Exception):
                asyncio.run_coroutine_threadsafe(client.close(), self.loop).result(timeout=5)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(timeout=5)
        if not self.loop.is_running():
            self.loop.close()


class Client:
    """A client of one server; see `AsyncClient`, whose methods it has without `await`. Usable as a context manager.

    Nothing connects before the first call; `historian.connect` looks first whether the server is there.
    """

    def __init__(self, url: str | None = None, *, token: str | None = None, timeout: float = 60.0, retry_s: float = 30.0) -> None:
        self._async = AsyncClient(url, token=token, timeout=timeout, retry_s=retry_s)
        self._background: _Background | None = None
        self._starting = threading.Lock()
        self._finalizer: weakref.finalize[..., Client] | None = None

    def __repr__(self) -> str:
        return f"<historian.Client {self.url}>"

    @property
    def url(self) -> str:
        return self._async.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End its streams, connections and thread. Safe to call twice."""
        finalizer, self._finalizer, self._background = self._finalizer, None, None
        if finalizer is not None:
            finalizer()

    def _loop(self) -> _Background:
        with self._starting:
            if self._background is None:
                self._background = _Background()
                self._finalizer = weakref.finalize(self, self._background.stop, self._async)
            return self._background

    def ready(self) -> dict[str, Any]:
        """What `/readyz` says: the engine, the schema's version, the number of tags. Raises Unavailable as long as writes and streams are not served."""
        return self._loop().run(self._async.ready())

    def write(self, data: Data, *, producer: str | None = None, seq: int | None = None) -> Receipt:
        """Write samples; they are on disk when this returns. See `AsyncClient.write`."""
        return self._loop().run(self._async.write(data, producer=producer, seq=seq))

    def command(
        self, tag: str, value: bool | int | float | str, *, key: str | None = None, timeout: float = 10.0, wait: float = 0.0
    ) -> Command:
        """Write a value to a tag that is writable; it is committed when this returns. See `AsyncClient.command`."""
        return self._loop().run(self._async.command(tag, value, key=key, timeout=timeout, wait=wait))

    def command_of(self, command_id: int, *, wait: float = 0.0) -> Command:
        """A command as it stands; with `wait` as soon as it is settled. Raises NotFound."""
        return self._loop().run(self._async.command_of(command_id, wait=wait))

    def commands(
        self,
        tag: str | None = None,
        *,
        start: Time | None = None,
        end: Time | None = None,
        outcome: str | None = None,
        limit: int = 100,
    ) -> list[Command]:
        """The audit, the newest first. See `AsyncClient.commands`."""
        return self._loop().run(self._async.commands(tag, start=start, end=end, outcome=outcome, limit=limit))

    def committed(self, producer: str) -> list[tuple[int, int]]:
        """The seqs of a producer's batches that are on disk, as inclusive ranges."""
        return self._loop().run(self._async.committed(producer))

    def tags(self, match: str | None = None) -> TagList:
        """The tags that a path or wildcard names, or all: a list with `to_pandas()`."""
        return self._loop().run(self._async.tags(match))

    def define(self, tags: Iterable[TagDefinition | Tag | Mapping[str, Any]] | TagDefinition | Tag | Mapping[str, Any]) -> TagList:
        """Make tags or change them. See `AsyncClient.define`."""
        return self._loop().run(self._async.define(tags))

    def range(self, tags: Tags, start: Time | None = None, end: Time = "now", **options: Unpack[RangeOptions]) -> pa.Table:
        """Samples of tags in [start, end) as an Arrow table, or what a `mode` makes of them. See `AsyncClient.range`; `frame` gives a DataFrame.

        Options: `mode`, `points`, `interval`, `tz`, `origin`, `bounds`, `at`, `expressions`, `limit`.
        """
        return self._loop().run(self._async.range(tags, start, end, **options))

    def range_batches(
        self, tags: Tags, start: Time | None = None, end: Time = "now", **options: Unpack[RangeOptions]
    ) -> Iterator[pa.RecordBatch]:
        """As `range`, batch by batch, in bounded memory."""
        background = self._loop()
        batches = self._async.range_batches(tags, start, end, **options)
        try:
            while (batch := background.run(_next(batches))) is not None:
                yield batch
        finally:
            # who let go of it after the client was closed has nothing to close
            if not background.loop.is_closed():
                background.run(_close(batches))

    def frame(
        self,
        tags: Tags,
        start: Time | None = None,
        end: Time = "now",
        *,
        wide: bool = True,
        states: bool = True,
        quality: bool = False,
        **options: Unpack[RangeOptions],
    ) -> Any:
        """As `range`, as a pandas DataFrame by time, in the zone `tz` or in UTC: `wide`, with a column for each tag, or with a row for each sample.

        Units, descriptions, kinds and states stand in its `attrs`. See `AsyncClient.frame`.
        """
        return self._loop().run(self._async.frame(tags, start, end, wide=wide, states=states, quality=quality, **options))

    def snapshot(self, match: str | None = None) -> pa.Table:
        """The newest sample of every tag that matches, as an Arrow table."""
        return self._loop().run(self._async.snapshot(match))

    def stream(
        self,
        tags: Tags,
        from_: Time | None = None,
        to: Time | None = None,
        *,
        mode: StreamMode = "raw",
        points: int = 2000,
        cursor: int | None = None,
        expressions: Sequence[str] = (),
        order: StreamOrder = "oldest",
        max_rate: float | None = None,
        durable: str | None = None,
        position: str | None = None,
        reconnect: bool = True,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> ClientStream:
        """History and live tail as an iterator of record batches, for `for` and for `async for`. See `AsyncClient.stream`; `on_gap` is called in another thread."""
        background = self._loop()
        stream = self._async.stream(
            tags,
            from_,
            to,
            mode=mode,
            points=points,
            cursor=cursor,
            expressions=expressions,
            order=order,
            max_rate=max_rate,
            durable=durable,
            position=position,
            reconnect=reconnect,
            on_gap=on_gap,
        )
        return ClientStream(self, background, stream)

    def cursors(self) -> list[dict[str, Any]]:
        """The durable cursors of the server. See `AsyncClient.cursors`."""
        return self._loop().run(self._async.cursors())

    def delete_cursor(self, name: str) -> None:
        """Forget a durable cursor. Raises NotFound."""
        self._loop().run(self._async.delete_cursor(name))

    def put_dashboard(self, name: str, document: Mapping[str, Any], *, etag: str | None = None) -> str:
        """Store a dashboard; returns its ETag. See `AsyncClient.put_dashboard`."""
        return self._loop().run(self._async.put_dashboard(name, document, etag=etag))


class ClientStream:
    """A `Stream` without an event loop of its own: `for batch in stream`, or `async for` in any loop. `with` (or `async with`) closes it for sure."""

    def __init__(self, client: Client, background: _Background, stream: Stream) -> None:
        # keeps the client's thread alive
        self._client = client
        self._background = background
        self._stream = stream

    @property
    def tags(self) -> TagList:
        """Those of the subscription as it is now, once it is open."""
        return self._stream.tags

    @property
    def live(self) -> bool:
        """Whether the seam has passed."""
        return self._stream.live

    @property
    def cursor(self) -> int:
        """Where a later stream could go on behind the batches taken; 0: not yet known."""
        return self._stream.cursor

    @property
    def position(self) -> str | None:
        """Of a durable stream: the last one that it has reached."""
        return self._stream.position

    def acknowledge(self, position: str) -> None:
        """Of a durable stream: all up to this position is safe with its reader."""
        self._background.run(self._stream.acknowledge(position))

    @property
    def gaps(self) -> list[Gap]:
        """The last ones, oldest first."""
        return list(self._stream.gaps)

    @property
    def reconnects(self) -> int:
        return self._stream.reconnects

    def change(self, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
        """Ask for these paths and wildcards too, and for those no more. See `Stream.change`."""
        self._background.run(self._stream.change(add, remove))

    def write(
        self, tag: str, value: bool | int | float | str, *, key: str | None = None, timeout: float = 10.0, wait: float = 0.0
    ) -> Command:
        """Write a value to a tag that is writable, over the stream's own connection. See `Stream.write`."""
        return self._background.run(self._stream.write(tag, value, key=key, timeout=timeout, wait=wait))

    def __enter__(self) -> Self:
        self._background.run(self._stream.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the stream."""
        if not self._background.loop.is_closed():
            self._background.run(self._stream.aclose())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> pa.RecordBatch:
        batch = self._background.run(_next(self._stream))
        if batch is None:
            raise StopIteration
        return batch

    def events(self) -> Iterator[Event]:
        """All that happens, in its order: Opened, Batch, Live, Gap, Lost; Added, Changed, Refused."""
        while (event := self._background.run(self._stream.next_event())) is not None:
            yield event

    async def __aenter__(self) -> Self:
        await self._elsewhere(self._stream.__aenter__())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._elsewhere(self._stream.aclose())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> pa.RecordBatch:
        batch = await self._elsewhere(_next(self._stream))
        if batch is None:
            raise StopAsyncIteration
        return batch

    async def _elsewhere(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._background.loop))


async def _next(batches: AsyncIterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    return await anext(batches, None)


async def _close(batches: AsyncIterator[pa.RecordBatch]) -> None:
    closing = getattr(batches, "aclose", None)
    if closing is not None:
        await closing()
