"""A viewer for tests: subscribes over a WebSocket, keeps everything that it is handed, and can tell what it holds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import numpy as np
import pyarrow as pa

from historian.query.times import parse_time
from historian.schema.samples import Samples, concat
from historian.stream.frames import ARROW, JSON, FrameReader


class Viewer:
    """One subscription with id 1. `received` are all rows, in the order in which they came."""

    def __init__(self, url: str, tags: list[str], start: int | str | None, *, json_only: bool = False, **fields: Any) -> None:
        self.url = url
        self._json_only = json_only
        self._subscribe = {"type": "subscribe", "id": 1, "tags": tags, "from": start, **fields}
        self.tags: list[dict[str, Any]] = []
        self.parts: list[Samples] = []
        self.backfilled = 0
        self.gaps: list[dict[str, Any]] = []
        self.errors: list[dict[str, Any]] = []
        self.live = asyncio.Event()
        self.changed = asyncio.Condition()
        self.cursor = 0
        self.resumed: list[bool] = []
        self._cut = False

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Until the server closes, the stream ends, or `cut`."""
        subscribe = dict(self._subscribe)
        if self.cursor:
            subscribe["cursor"] = self.cursor
        else:
            # it never got so far that it could go on: from the beginning
            self._forget()
        reader = FrameReader()
        self._cut = False
        protocol = JSON if self._json_only else ARROW
        async with session.ws_connect(f"{self.url}/v1/stream?compression=zstd-dict", protocols=[protocol], max_msg_size=0) as ws:
            await ws.send_json(subscribe)
            async for message in ws:
                last = False
                if message.type == aiohttp.WSMsgType.BINARY:
                    header, batches = reader.read(message.data)
                    last = header.last
                    for batch in batches:
                        self._take(Samples.from_record_batch(batch), header.backfill)
                    self.cursor = header.cursor or self.cursor
                else:
                    last = self._control(json.loads(message.data))
                async with self.changed:
                    self.changed.notify_all()
                if last or self._cut:
                    return

    def cut(self) -> None:
        """Go away at the next message."""
        self._cut = True

    def _forget(self) -> None:
        self.parts.clear()
        self.backfilled = 0

    def _take(self, samples: Samples, backfill: bool) -> None:
        self.parts.append(samples)
        self.backfilled += len(samples) if backfill else 0

    def _control(self, message: dict[str, Any]) -> bool:
        match message["type"]:
            case "subscribed":
                self.tags = message["tags"]
                if "resumed" in message:
                    self.resumed.append(message["resumed"])
                    if not message["resumed"]:
                        self._forget()
            case "data":
                ids = {tag["path"]: tag["tag_id"] for tag in self.tags}
                rows = message["samples"]
                self._take(
                    Samples(
                        np.array([ids[row["tag"]] for row in rows], np.int32),
                        np.array([parse_time(row["ts"], 0) for row in rows], np.int64),
                        np.array(
                            [np.nan if row["value"] is None or isinstance(row["value"], str) else row["value"] for row in rows], np.float64
                        ),
                        np.array([row["quality"] for row in rows], np.int16),
                        pa.array([row["value"] if isinstance(row["value"], str) else None for row in rows], pa.string()),
                    ),
                    message["backfill"],
                )
                self.cursor = message["cursor"] or self.cursor
                return bool(message["last"])
            case "live":
                self.cursor = message["cursor"]
                self.live.set()
            case "gap":
                self.gaps.append(message)
            case "error":
                self.errors.append(message)
                return True
        return False

    async def until(self, predicate: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Wait for a message after which the predicate holds."""
        async with asyncio.timeout(timeout_s), self.changed:
            await self.changed.wait_for(predicate)

    @property
    def received(self) -> Samples:
        return concat([Samples(p.tag_id, p.ts, p.value, p.quality, p.text) for p in self.parts])

    def holds(self, tag_id: int, ts: int) -> bool:
        return any(bool(((part.tag_id == tag_id) & (part.ts == ts)).any()) for part in reversed(self.parts))
