"""One live stream as a client reads it: history, seam, live tail, over a WebSocket that is opened again when it breaks.

Promise. Whoever takes every batch has what the server holds for these tags from the stream's start on, as docs/protocol.md promises it, across lost
connections too: the stream resumes behind the last batch that was taken. Where the server no longer retains what followed, or the connection broke in
the middle of the history, the history is sent anew, and a `Gap` says so: samples with the same tag and ts come again then, and the last one counts.
Where samples were left out, a `Gap` says which. Tags may be added and taken away meanwhile.

Memory is bounded: the server sends a frame for each credit, and at most WINDOW frames wait here. A task reads the connection all the while, so that pings are
answered however slowly the batches are taken.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import time_ns
from typing import Any, Self, TypeAlias

import aiohttp
import orjson
import pyarrow as pa

from historian.client.http import FIRST_PAUSE_S, LONGEST_PAUSE_S, Http
from historian.client.problems import error_of
from historian.client.results import Labels, TagList, tag_of
from historian.client.times import EPOCH
from historian.query.times import parse_time
from historian.schema.catalogue import Tag
from historian.schema.errors import BadInput, Busy, HistorianError, Unavailable
from historian.stream.frames import FrameReader

log = logging.getLogger(__name__)

#: frames that may wait here: 23 MB where all of them are full
WINDOW = 16
#: a history that breaks off so often without coming to its end is given up
MAX_RESTARTS = 5
#: gaps that are remembered
MAX_GAPS = 1000
_ID = 1


@dataclass(frozen=True, slots=True)
class Opened:
    """The subscription is open, for the first time or again. `resumed`: it goes on where it stopped; None where nothing was to be resumed."""

    tags: tuple[Tag, ...]
    resumed: bool | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples, in the columns of a range; `backfill` tells history from live tail. `cursor`: where to go on behind it, 0 as long as that cannot be said."""

    samples: pa.RecordBatch
    cursor: int
    backfill: bool


@dataclass(frozen=True, slots=True)
class Live:
    """The seam has passed: all before was history."""

    cursor: int


@dataclass(frozen=True, slots=True)
class Gap:
    """About samples with timestamps in [start, end), UTC.

    `reason`: `slow-client`, they were left out because they were not taken fast enough, and a range query brings them; `cursor-expired` or
    `restarted`, the connection broke and the history that follows brings them, some perhaps for the second time. A stream without history has none to
    follow: there too a range query brings them.
    """

    start: datetime
    end: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection broke; it is being opened again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reached:
    """Of a durable stream: all that came before is whole up to this position, which can be acknowledged. What came behind it when the connection breaks comes again."""

    position: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Of a durable stream: the server has stored that all up to this position is with the client."""

    position: str


@dataclass(frozen=True, slots=True)
class Grown:
    """Of a durable stream: its wildcards match more tags by now. `tags` are all of them."""

    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class Added:
    """Tags that a wildcard matches have been made: their samples follow, from the first on."""

    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """A change has begun: the history of the tags added follows, `Live` behind it; of those removed nothing comes any more."""

    added: tuple[Tag, ...]
    removed: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A change that the server does not make: the stream goes on as before."""

    error: HistorianError


Event: TypeAlias = Opened | Batch | Live | Gap | Lost | Added | Changed | Refused | Reached | Acknowledged | Grown


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a stream asks for; times as the protocol has them."""

    tags: tuple[str, ...]
    start: int | str | None
    end: int | str | None
    mode: str
    points: int
    cursor: int | None
    expressions: tuple[str, ...] = ()
    order: str = "oldest"
    max_rate: float | None = None
    #: name of a durable cursor, and the position behind which to go on if it is not the one that was acknowledged last
    durable: str | None = None
    position: str | None = None


class _Link:
    """One connection: a task reads it into a queue, which ends with the reason for the end."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self._ws = ws
        self._queue: deque[bytes | dict[str, Any]] = deque()
        self._arrived = asyncio.Event()
        self._ended: str | None = None
        self.heard = _now()
        self._ungranted = 0
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        reason = "closed by the server"
        try:
            while True:
                message = await self._ws.receive()
                self.heard = _now()
                if message.type == aiohttp.WSMsgType.BINARY:
                    self._put(message.data)
                elif message.type == aiohttp.WSMsgType.TEXT:
                    document = orjson.loads(message.data)
                    if document.get("type") != "heartbeat":
                        self._put(document)
                else:
                    if isinstance(message.data, Exception):
                        reason = str(message.data) or type(message.data).__name__
                    elif message.extra:
                        reason = f"closed by the server: {message.extra}"
                    return
        except (aiohttp.ClientError, ConnectionError, OSError, orjson.JSONDecodeError) as error:
            reason = str(error) or type(error).__name__
        finally:
            self._ended = reason
            self._arrived.set()

    def _put(self, item: bytes | dict[str, Any]) -> None:
        self._queue.append(item)
        self._arrived.set()

    async def take(self) -> bytes | dict[str, Any] | None:
        """The next message or frame; None at the end. May be cancelled without a loss."""
        while not self._queue:
            if self._ended is not None:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return self._queue.popleft()

    @property
    def reason(self) -> str:
        return self._ended or ""

    async def send(self, message: dict[str, Any]) -> None:
        # one that is lost is found out by reading
        with suppress(ConnectionError, aiohttp.ClientError):
            await self._ws.send_str(orjson.dumps(message).decode())

    async def taken(self) -> None:
        """A frame has been taken: let the server send more, half a window at a time."""
        self._ungranted += 1
        if self._ungranted >= WINDOW // 2 and self._ended is None:
            granted, self._ungranted = self._ungranted, 0
            await self.send({"type": "credit", "id": _ID, "n": granted})

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        with suppress(ConnectionError, aiohttp.ClientError, TimeoutError):
            await self._ws.close()


class Stream:
    """An async iterator of `pyarrow.RecordBatch`, in the columns of `AsyncClient.range`; `async with` closes it for sure.

        async with client.stream("acme/+/line1/#", from_="-1h") as stream:
            async for batch in stream:
                ...

    `tags` are those of the subscription now, `live` says whether the seam has passed, `cursor` is where a later stream could go on behind the batches taken (0: not
    yet known), `gaps` are the last ones, `reconnects` counts. `events()` iterates over all that happens, batches among it. One task iterates.

    Errors at the first connection, and all that waiting does not mend, are raised; a connection that breaks later is opened again for as long as it
    takes, unless `reconnect` is false.

    A durable stream goes on from `position`, the last one that it has `Reached`; `acknowledge` says that all up to a position is safe with its reader.
    """

    def __init__(
        self, http: Http, subscription: Subscription, *, reconnect: bool = True, on_gap: Callable[[Gap], None] | None = None
    ) -> None:
        self._http = http
        self._subscription = subscription
        self._reconnect = reconnect
        self._on_gap = on_gap
        self._link: _Link | None = None
        self._reader = FrameReader()
        self._labels: Labels | None = None
        self._opened = False
        self._over = False
        self._resuming = False
        self._restarts = 0
        #: before the next connection: a server that is there may have no database
        self._pause_s = 0.0
        self._start = subscription.start
        #: the names that the cursor holds for; then what they become with each change that is under way
        self._names = list(dict.fromkeys(subscription.tags))
        self._changes: deque[list[str]] = deque()
        #: whether this connection has been told of all of them
        self._asked = False
        #: between `changed` and `live`
        self._changing = False
        #: when the last connection was last heard of
        self._gone_since = _now()
        self._pending: deque[Event] = deque()
        self.tags = TagList()
        self.live = False
        self.cursor = subscription.cursor or 0
        self.position = subscription.position
        self._unacknowledged: str | None = None
        self.gaps: deque[Gap] = deque(maxlen=MAX_GAPS)
        self.reconnects = 0

    async def __aenter__(self) -> Self:
        """Connect, and wait for the subscription to be open: `tags` are known then."""
        try:
            async with asyncio.timeout(self._http.timeout):
                while not self._opened:
                    event = await self._next()
                    if event is None:
                        break
                    self._pending.append(event)
        except TimeoutError:
            await self.aclose()
            raise Unavailable(f"{self._http.address.url} did not open the stream within {self._http.timeout:g} s") from None
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def change(self, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
        """Ask for these paths and wildcards too, and for those no more. The others go on; of the tags added the history comes first, and then they are live.

        Returns once the server is asked; `Changed` or `Refused` is among the events. Who iterates over batches alone is raised the latter's error; the stream goes on
        behind it.
        """
        add, remove = list(add), list(remove)
        names = self._changes[-1] if self._changes else self._names
        self._changes.append(list(dict.fromkeys([*(name for name in names if name not in remove), *add])))
        if self._link is not None and self._asked:
            await self._link.send({"type": "change", "id": _ID, "add": add, "remove": remove})

    async def aclose(self) -> None:
        """End the stream."""
        self._over = True
        await self._drop_link()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> pa.RecordBatch:
        while (event := await self.next_event()) is not None:
            if isinstance(event, Batch):
                return event.samples
            if isinstance(event, Refused):
                raise event.error
        raise StopAsyncIteration

    async def next_event(self) -> Event | None:
        """The next thing that happens; None when the stream is over. May be cancelled without a loss."""
        return self._pending.popleft() if self._pending else await self._next()

    def events(self) -> _Events:
        """All that happens, in its order: Opened, Batch, Live, Gap, Lost; Added, Changed, Refused."""
        return _Events(self)

    async def acknowledge(self, position: str) -> None:
        """Of a durable stream: say that all up to this position is safe, so that no later stream brings it again. `Acknowledged` tells when that is stored."""
        self._unacknowledged = position
        if self._link is not None and self._opened and not self._resuming:
            await self._link.send({"type": "acknowledge", "id": _ID, "position": position})

    # -- one connection after the other

    async def _next(self) -> Event | None:
        while not self._is_over():
            if self._pending:
                return self._pending.popleft()
            if self._link is None:
                await self._connect()
            link = self._link
            assert link is not None
            item = await link.take()
            if item is None:
                if self._is_over():
                    break
                return await self._lose(Unavailable(f"the stream from {self._http.address.url} broke: {link.reason}"), link.reason)
            event = await self._frame(item) if isinstance(item, bytes) else await self._message(item)
            if event is not None:
                return event
        return None

    def _is_over(self) -> bool:
        """Asked anew after each wait: another task may close the stream."""
        return self._over

    async def _connect(self) -> None:
        """Open a connection and subscribe. The first time it has to succeed at once."""
        if self._pause_s:
            await asyncio.sleep(self._pause_s * random.uniform(0.5, 1.0))
            self._pause_s = 0.0
        pause = FIRST_PAUSE_S
        while True:
            try:
                ws = await self._http.websocket()
                break
            except (Unavailable, Busy) as error:
                if not self._opened:
                    raise
                wait = max(pause * random.uniform(0.5, 1.0), error.retry_after)
            await asyncio.sleep(wait)
            pause = min(pause * 2, LONGEST_PAUSE_S)
        self._asked = False
        self._link = _Link(ws)
        if not self.cursor and self._changes:
            self._names = self._changes.pop()
            self._changes.clear()
        self._reader = FrameReader()
        asked = self._subscription
        message = {
            "type": "subscribe",
            "id": _ID,
            "tags": self._names,
            "expressions": list(asked.expressions) or None,
            "from": self._start,
            "to": asked.end,
            "mode": asked.mode,
            "points": asked.points,
            "cursor": self.cursor or None,
            "order": asked.order,
            "max_rate": asked.max_rate,
            "durable": asked.durable,
            "position": self.position,
        }
        if asked.durable is not None:
            # which is of all samples
            del message["mode"], message["points"], message["cursor"]
        self._resuming = self._opened
        await self._link.send({name: value for name, value in message.items() if value is not None})
        await self._link.send({"type": "credit", "id": _ID, "n": WINDOW})
        await self._change_again()

    async def _change_again(self) -> None:
        """Ask for what the last connection did not live to see: as one change."""
        self._asked = True
        if not self._changes:
            return
        names = self._changes[-1]
        self._changes = deque([names])
        add = [name for name in names if name not in self._names]
        remove = [name for name in self._names if name not in names]
        assert self._link is not None
        await self._link.send({"type": "change", "id": _ID, "add": add, "remove": remove})

    async def _drop_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def _lose(self, error: HistorianError, reason: str) -> Event:
        """The connection is gone. Raises the error if that is the end."""
        if self._link is not None:
            self._gone_since = self._link.heard
        await self._drop_link()
        if not self.live and not self.cursor and not self.position:
            self._restarts += 1
        if not self._opened or not self._reconnect or self._restarts > MAX_RESTARTS:
            self._over = True
            raise error
        log.info("stream from %s: %s; reconnecting", self._http.address.url, reason)
        self.live = False
        self.reconnects += 1
        return Lost(reason)

    # -- what arrives

    async def _frame(self, frame: bytes) -> Event | None:
        assert self._link is not None
        header, batches = self._reader.read(frame)
        if self._labels is None or header.sequence == 0:
            assert self._reader.schema is not None
            self._labels = Labels(self._reader.schema)
            # those that were told of before the first frame
            self._labels.tell(self.tags)
        if header.cursor:
            self.cursor = header.cursor
        if header.last:
            self._over = True
            await self._drop_link()
        else:
            await self._link.taken()
        # a frame of the server has one batch, or none
        for batch in batches:
            self._pending.append(Batch(self._labels.add(batch), header.cursor, header.backfill))
        return self._pending.popleft() if self._pending else None

    async def _message(self, message: dict[str, Any]) -> Event | None:
        kind = message.get("type")
        if kind == "subscribed":
            event = self._subscribed(message)
            if self._unacknowledged is not None and isinstance(event, Opened) and self._link is not None:
                await self.acknowledge(self._unacknowledged)
            return event
        if kind == "position":
            self.position = str(message["position"])
            self._restarts = 0
            return Reached(self.position)
        if kind == "acknowledged":
            if self._unacknowledged == message["position"]:
                self._unacknowledged = None
            return Acknowledged(str(message["position"]))
        if kind == "tags":
            return Added(self._told(message))
        if kind == "changed":
            removed = set(message["removed"])
            gone = tuple(tag for tag in self.tags if tag.tag_id in removed)
            self.tags = TagList(tag for tag in self.tags if tag.tag_id not in removed)
            self._changing = True
            return Changed(self._told(message), gone)
        if kind == "live":
            if self.live and self._changes:
                self._names = self._changes.popleft()
            self._changing = False
            self.live = True
            self._restarts = 0
            self.cursor = int(message["cursor"])
            return Live(self.cursor)
        if kind == "gap":
            start, end = _moment(message["from"]), _moment(message["to"])
            if message["reason"] == "cursor-expired" and self._start is None:
                # without history, what was missed begins where we last heard of the server
                start = min(start, self._gone_since)
            return self._gap(Gap(start, end, str(message["reason"])))
        if kind == "error" and message.get("id") in (None, _ID):
            error = error_of({**message, "type": message.get("problem")}, status=int(message.get("status") or 500))
            if message.get("request") == "change":
                return self._refused(error)
            if isinstance(error, Unavailable | Busy) and self._opened:
                self._pause_s = max(FIRST_PAUSE_S, error.retry_after)
                return await self._lose(error, str(error))
            await self.aclose()
            raise error
        return None

    def _subscribed(self, message: dict[str, Any]) -> Event:
        first, again, self._resuming = not self._opened, self._resuming, False
        self.tags = TagList(tag_of(row) for row in message["tags"])
        if not first and not again:
            # with the tags that there are now the frames begin anew
            self._reader = FrameReader()
            self._labels = None
            return Grown(tuple(self.tags))
        resumed = message.get("resumed")
        if first:
            self._opened = True
            # a start that is relative to now stays where it is now
            if isinstance(self._start, str):
                with suppress(HistorianError):
                    self._start = parse_time(self._start, time_ns() // 1000)
        elif again and resumed is None:
            since = self._gone_since if self._start is None else _of_us(self._start)
            self._pending.append(self._gap(Gap(since, _now(), "restarted")))
        if again and resumed and self._changing:
            # the history of the tags that were being added comes anew
            since = self._gone_since if self._start is None else _of_us(self._start)
            self._pending.append(self._gap(Gap(since, _now(), "restarted")))
        self._changing = False
        if resumed is False:
            self.cursor = 0
        if not resumed:
            self.position = self._unacknowledged = None
        return Opened(tuple(self.tags), resumed)

    def _told(self, message: dict[str, Any]) -> tuple[Tag, ...]:
        tags = tuple(tag_of(row) for row in message["tags"])
        self.tags = TagList([*self.tags, *tags])
        if self._labels is not None:
            self._labels.tell(tags)
        return tags

    def _refused(self, error: HistorianError) -> Refused:
        """The oldest change under way is none: what came behind it is, without it."""
        if self._changes:
            refused = self._changes.popleft()
            added = [name for name in refused if name not in self._names]
            removed = [name for name in self._names if name not in refused]
            self._changes = deque([*(name for name in names if name not in added), *removed] for names in self._changes)
        return Refused(error)

    def _gap(self, gap: Gap) -> Gap:
        self.gaps.append(gap)
        if self._on_gap is not None:
            self._on_gap(gap)
        return gap


class _Events:
    """Iterates over a stream's events."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        event = await self._stream.next_event()
        if event is None:
            raise StopAsyncIteration
        return event


def _now() -> datetime:
    return _of_us(time_ns() // 1000)


def _of_us(us: int | str) -> datetime:
    try:
        return EPOCH + timedelta(microseconds=int(us))
    except (OverflowError, ValueError):
        return EPOCH


def _moment(time: int | str) -> datetime:
    if isinstance(time, int):
        return _of_us(time)
    try:
        return datetime.fromisoformat(time)
    except ValueError:
        raise BadInput(f"the server sent {time[:40]!r} for a time") from None
