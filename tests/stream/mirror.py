"""A client for tests that keeps what docs/protocol.md lets it keep: several subscriptions on a connection that may be cut, with tags that come and go."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from typing import Any

import aiohttp

from historian.schema.paths import is_wildcard, wildcard_regex
from historian.schema.samples import Samples
from historian.stream.frames import ARROW, FrameReader, unpack

Row = tuple[str, int, float | str | None, int]


def named(path: str, names: set[str]) -> bool:
    return any(name == path or (is_wildcard(name) and wildcard_regex(name).fullmatch(path)) for name in names)


class Mirror:
    """One subscription. `rows` are what its tags hold, by tag and timestamp; `seen` counts how often each sample came since its tag was last begun anew."""

    def __init__(self, names: set[str], start: int, **fields: Any) -> None:
        self.names = names
        self.start = start
        self.fields = fields
        #: whose names the cursor holds for
        self.cursor, self.safe = 0, set(names)
        #: changes sent, of which no `live` has come
        self.changing: list[tuple[set[str], set[str]]] = []
        self.live = False
        self.tags: dict[int, str] = {}
        self.rows: dict[tuple[str, int], tuple[float | str | None, int]] = {}
        self.seen: Counter[Row] = Counter()
        self.errors: list[dict[str, Any]] = []
        self.ended = False
        self.paused = False
        self.reader = FrameReader()

    def forget(self, keep: set[str] | None = None) -> None:
        """What is held of tags that these names do not ask for."""
        keep = keep or set()
        self.rows = {key: row for key, row in self.rows.items() if named(key[0], keep)}
        self.seen = Counter({row: n for row, n in self.seen.items() if named(row[0], keep)})

    def subscribe(self, subscription: int) -> dict[str, Any]:
        """The message that opens it, or opens it again behind what it has."""
        self.reader, self.live, self.paused = FrameReader(), False, False
        self.changing.clear()
        if not self.cursor:
            self.safe = set(self.names)
        self.forget(self.safe if self.cursor else None)
        cursor = {"cursor": self.cursor} if self.cursor else {}
        return {"type": "subscribe", "id": subscription, "tags": sorted(self.safe), "from": self.start, **cursor, **self.fields}

    def change(self, subscription: int, names: set[str]) -> dict[str, Any]:
        self.names = names
        asked = self.changing[-1][1] if self.changing else self.safe
        self.changing.append((asked, set(names)))
        return {"type": "change", "id": subscription, "add": sorted(names - asked), "remove": sorted(asked - names)}

    @property
    def settled(self) -> bool:
        return self.live and not self.changing

    def frame(self, frame: bytes) -> None:
        header, batches = self.reader.read(frame)
        for batch in batches:
            samples = Samples.from_record_batch(batch)
            texts = samples.text_or_nulls().to_pylist()
            for tag_id, ts, value, quality, text in zip(
                samples.tag_id.tolist(), samples.ts.tolist(), samples.value.tolist(), samples.quality.tolist(), texts, strict=True
            ):
                path = self.tags[tag_id]
                what = text if text is not None else None if math.isnan(value) else value
                self.rows[path, ts] = (what, quality)
                self.seen[path, ts, what, quality] += 1
        self.cursor = header.cursor or self.cursor

    def control(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "subscribed":
                self.tags = {tag["tag_id"]: tag["path"] for tag in message["tags"]}
                if message.get("resumed") is not True:
                    self.forget()
                    self.cursor = 0
            case "tags":
                self.tags |= {tag["tag_id"]: tag["path"] for tag in message["tags"]}
            case "changed":
                assert not any(path == held for path in (tag["path"] for tag in message["tags"]) for held, _ in self.rows)
                self.tags |= {tag["tag_id"]: tag["path"] for tag in message["tags"]}
                gone = {self.tags.pop(tag_id) for tag_id in message["removed"]}
                self.rows = {key: row for key, row in self.rows.items() if key[0] not in gone}
                self.seen = Counter({row: n for row, n in self.seen.items() if row[0] not in gone})
            case "live":
                self.cursor = message["cursor"]
                if self.live:
                    _, self.safe = self.changing.pop(0)
                self.live = True
            case "error":
                self.errors.append(message)
                if message.get("request") != "change":
                    self.ended = True


class Connection:
    """A WebSocket with mirrors by id."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self.mirrors: dict[int, Mirror] = {}
        self.ws: aiohttp.ClientWebSocketResponse | None = None
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self.beats = 0
        self.failure: BaseException | None = None

    async def open(self) -> None:
        """Connect, and have every subscription go on."""
        self.ws = await self._session.ws_connect(f"{self._url}/v1/stream?compression=zstd", protocols=[ARROW], max_msg_size=0)
        self._task = asyncio.create_task(self._read(self.ws))
        for subscription, mirror in self.mirrors.items():
            await self.ask(mirror.subscribe(subscription))
            if mirror.safe != mirror.names:
                await self.ask(mirror.change(subscription, mirror.names))

    async def cut(self) -> None:
        """Go away without a word, with what has been read by now."""
        if self.ws is None or self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        assert self.ws._response.connection is not None
        transport = self.ws._response.connection.transport
        if transport is not None:
            transport.abort()
        await self.ws.close()
        self.ws = None

    async def ask(self, message: dict[str, Any]) -> None:
        assert self.ws is not None
        await self.ws.send_json(message)

    async def _read(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        try:
            async for message in ws:
                self._take(message)
                async with self._changed:
                    self._changed.notify_all()
        except Exception as error:
            self.failure = error
            async with self._changed:
                self._changed.notify_all()

    def _take(self, message: aiohttp.WSMessage) -> None:
        if message.type == aiohttp.WSMsgType.BINARY:
            mirror = self.mirrors.get(unpack(message.data).subscription)
            if mirror is not None:
                mirror.frame(message.data)
            return
        document = json.loads(message.data)
        if document["type"] == "heartbeat":
            self.beats += 1
        elif (mirror := self.mirrors.get(document.get("id"))) is not None:
            mirror.control(document)

    async def until(self, predicate: Any, timeout_s: float = 20.0) -> bool:
        """Wait for a message after which this holds; false if it never does."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self.failure is not None or predicate())
        except TimeoutError:
            return False
        if self.failure is not None:
            raise self.failure
        return True
