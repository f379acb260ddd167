"""One live stream as a client reads it: history, seam, live tail, over a WebSocket that is opened again when it breaks.

Promise. Whoever takes every batch has what the server holds for these tags from the stream's start on, as docs/protocol.md promises it, across lost
connections too: the stream resumes behind the last batch that was taken. Where the server no longer retains what followed, or the connection broke in
the middle of the history, the history is sent anew, and a `Gap` says so: samples with the same tag and ts come again then, and the last one counts.
Where samples were left out, a `Gap` says which. Tags may be added and taken away meanwhile.

A task reads the connection all the while (stream_link.py), so that pings are answered however slowly the batches are taken, and writes (stream_writes.py) at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from time import time_ns
from typing import Any, Self

import pyarrow as pa

from historian.client.commands import Command
from historian.client.http import FIRST_PAUSE_S, LONGEST_PAUSE_S, Http
from historian.client.problems import error_of
from historian.client.results import Labels, TagList, tag_of
from historian.client.stream_events import Acknowledged, Added, Batch, Changed, Event, Gap, Grown, Live, Lost, Opened, Reached, Refused
from historian.client.stream_link import SUBSCRIPTION, WINDOW, Link
from historian.client.stream_writes import StreamWrites
from historian.client.times import now, of_us
from historian.query.times import parse_time
from historian.schema.catalogue import Tag
from historian.schema.errors import BadInput, Busy, HistorianError, Unavailable
from historian.stream.frames import FrameReader

log = logging.getLogger(__name__)

#: a history that breaks off so often without coming to its end is given up
MAX_RESTARTS = 5
#: gaps that are remembered
MAX_GAPS = 1000


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
        self._link: Link | None = None
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
        self._gone_since = now()
        self._pending: deque[Event] = deque()
        self.tags = TagList()
        self.live = False
        self.cursor = subscription.cursor or 0
        self.position = subscription.position
        self._unacknowledged: str | None = None
        self.gaps: deque[Gap] = deque(maxlen=MAX_GAPS)
        self._writes = StreamWrites()
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
            await self._link.send({"type": "change", "id": SUBSCRIPTION, "add": add, "remove": remove})

    async def write(
        self, tag: str, value: bool | int | float | str, *, key: str | None = None, timeout: float = 10.0, wait: float = 0.0
    ) -> Command:
        """Write a value to a tag that is writable, over the stream's own connection; it is committed when this returns. As `AsyncClient.command` in all else.

        Called from another task than the one that iterates, or between two of its steps: answers are read meanwhile. A connection that breaks before the answer is opened
        again by who iterates; the write is then sent again, and done once.
        """
        return await self._writes.perform(tag, value, key=key, timeout_s=timeout, wait_s=wait)

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
            await self._link.send({"type": "acknowledge", "id": SUBSCRIPTION, "position": position})

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
        self._link = Link(ws, self._writes.answer)
        if not self.cursor and self._changes:
            self._names = self._changes.pop()
            self._changes.clear()
        self._reader = FrameReader()
        asked = self._subscription
        message = {
            "type": "subscribe",
            "id": SUBSCRIPTION,
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
        await self._link.send({"type": "credit", "id": SUBSCRIPTION, "n": WINDOW})
        await self._change_again()
        await self._writes.connected(self._link)

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
        await self._link.send({"type": "change", "id": SUBSCRIPTION, "add": add, "remove": remove})

    async def _drop_link(self) -> None:
        link, self._link = self._link, None
        if self._over:
            self._writes.end()
        else:
            self._writes.disconnected()
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
            self._writes.end()
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
        if kind == "error" and message.get("id") in (None, SUBSCRIPTION):
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
            since = self._gone_since if self._start is None else of_us(self._start)
            self._pending.append(self._gap(Gap(since, now(), "restarted")))
        if again and resumed and self._changing:
            # the history of the tags that were being added comes anew
            since = self._gone_since if self._start is None else of_us(self._start)
            self._pending.append(self._gap(Gap(since, now(), "restarted")))
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


def _moment(time: int | str) -> datetime:
    if isinstance(time, int):
        return of_us(time)
    try:
        return datetime.fromisoformat(time)
    except ValueError:
        raise BadInput(f"the server sent {time[:40]!r} for a time") from None
