"""The viewers of benchmarks/live.py: a process that has many, on bare sockets, so that it measures the server and not itself.

Some decode what they get and note when; the others only take it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, cast
from urllib.parse import urlsplit

import numpy as np
import uvloop

from historian.query.times import parse_time
from historian.stream.frames import FrameReader


@dataclass(frozen=True, slots=True)
class Crowd:
    """So many viewers at `url` (path and parameters too), of `tags` each; the first `decoding` of them decode."""

    url: str
    subprotocol: str | None
    tags: list[list[str]]
    decoding: int


@dataclass(slots=True)
class Seen:
    """`times`: for those that decode, (newest timestamp in µs, when it was decoded) of each frame; what all took is counted."""

    times: list[tuple[int, float]] = field(default_factory=list)
    samples: int = 0
    bytes: int = 0
    #: of those that decode, whose frames `samples` counts
    decoded_bytes: int = 0
    gaps: int = 0
    lost: int = 0


class _Viewer(asyncio.Protocol):
    def __init__(self, crowd: Crowd, tags: list[str], decodes: bool, seen: Seen, live: asyncio.Future[None]) -> None:
        self._crowd = crowd
        self._tags = tags
        self._decodes = decodes
        self._seen = seen
        self._live = live
        self._rest = b""
        self._open = False
        self._frames = FrameReader()
        self.over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        parts = urlsplit(self._crowd.url)
        head = f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        head += f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
        if self._crowd.subprotocol:
            head += f"Sec-WebSocket-Protocol: {self._crowd.subprotocol}\r\n"
        self._transport.write(head.encode() + b"\r\n")

    def data_received(self, data: bytes) -> None:
        self._rest += data
        if not self._open:
            head, mark, rest = self._rest.partition(b"\r\n\r\n")
            if not mark:
                return
            assert b" 101 " in head, head
            self._open, self._rest = True, rest
            self._send({"type": "subscribe", "id": 1, "tags": self._tags} if self._crowd.subprotocol else {"tags": self._tags})
        at = 0
        have = self._rest
        while len(have) - at >= 2:
            kind, size, start = have[at] & 15, have[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(have[start : start + 2]), start + 2
            elif size == 127:
                size, start = int.from_bytes(have[start : start + 8]), start + 8
            if len(have) < start + size:
                break
            at = start + size
            self._message(kind, have[start:at])
        self._rest = have[at:]

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        head = bytes((0x81, 0x80 | len(body))) if len(body) < 126 else bytes((0x81, 0xFE)) + len(body).to_bytes(2)
        # masked with zeros
        self._transport.write(head + bytes(4) + body)

    def _message(self, kind: int, body: bytes) -> None:
        if kind == 2:
            self._seen.bytes += len(body)
            if self._decodes:
                batches = self._frames.read(body)[1]
                now = time.monotonic()
                for batch in batches:
                    self._took(batch.num_rows, len(body), batch.column("ts").cast("int64").to_numpy().max(), now)
        elif kind == 1:
            if body.startswith((b'{"samples"', b'{"type":"data"')):
                self._seen.bytes += len(body)
                if self._decodes:
                    rows = json.loads(body)["samples"]
                    now = time.monotonic()
                    self._took(len(rows), len(body), max(parse_time(row["ts"].replace("+00:00", "Z"), 0) for row in rows), now)
            else:
                self._control(json.loads(body))
        elif kind == 9:
            # a ping: who does not answer is let go
            self._transport.write(bytes((0x8A, 0x80 | len(body))) + bytes(4) + body)

    def _took(self, rows: int, size: int, newest: int, now: float) -> None:
        self._seen.samples += rows
        self._seen.decoded_bytes += size
        self._seen.times.append((int(newest), now))

    def _control(self, message: dict[str, Any]) -> None:
        assert message["type"] != "error", message
        self._seen.gaps += message["type"] == "gap"
        if message["type"] == "live" and not self._live.done():
            self._live.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._seen.lost += not self.over
        if not self._live.done():
            self._live.set_exception(ConnectionError("closed before it was live"))

    def close(self) -> None:
        self.over = True
        self._transport.abort()


async def _watch(crowd: Crowd, pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    parts = urlsplit(crowd.url)
    seen = Seen()
    viewers: list[_Viewer] = []
    # those that decode are evenly among the others
    decoding = set(np.linspace(0, len(crowd.tags) - 1, crowd.decoding).astype(int).tolist()) if crowd.decoding else set()
    for start in range(0, len(crowd.tags), 50):
        waiting = []
        for n in range(start, min(start + 50, len(crowd.tags))):
            live: asyncio.Future[None] = loop.create_future()
            waiting.append(live)
            viewer = _Viewer(crowd, crowd.tags[n], n in decoding, seen, live)
            await loop.create_connection(lambda viewer=viewer: viewer, parts.hostname, parts.port)  # type: ignore[misc]
            viewers.append(viewer)
        await asyncio.gather(*waiting)
    pipe.send(len(viewers))
    await loop.run_in_executor(None, pipe.recv)
    pipe.send(seen)
    for viewer in viewers:
        viewer.close()
    await asyncio.sleep(0)


def run(pipe: Connection) -> None:
    """A process: for each `Crowd` it gets it tells how many are live, and, when it is told anything, what they have `Seen`; None ends it."""
    while (crowd := pipe.recv()) is not None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_watch(crowd, pipe))
