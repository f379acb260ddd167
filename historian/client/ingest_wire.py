"""What is under way on one connection to `/v1/ingest`, and what the server says on it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from historian.client.problems import error_of
from historian.schema.errors import HistorianError, Unavailable


@dataclass(eq=False, slots=True)
class Item:
    """One batch. `answer`: whether it had been committed before. Without `frame` nobody waits for it any more, and only its credit is still held."""

    seq: int
    frame: bytes | None
    size: int
    answer: asyncio.Future[bool]
    waiting: int = 1
    #: when, and over which connection; 0: not yet
    sent_at: float = 0.0
    sent_on: int = 0


@dataclass(eq=False, slots=True)
class Connection:
    ws: aiohttp.ClientWebSocketResponse
    number: int
    since: float
    unsent: deque[Item] = field(default_factory=deque)
    batches: int = 0
    bytes: int = 0
    answers: int = 0


async def next_message(ws: aiohttp.ClientWebSocketResponse) -> dict[str, Any] | None:
    """The next message of the server; None at the end."""
    message = await ws.receive()
    if message.type == aiohttp.WSMsgType.TEXT:
        document = orjson.loads(message.data)
        if isinstance(document, dict):
            return document
        raise ValueError("a message that is no object")
    if isinstance(message.data, Exception):
        raise Unavailable(f"the connection broke: {message.data or type(message.data).__name__}")
    return None


def told(message: dict[str, Any] | None) -> HistorianError | None:
    problem = None if message is None else message.get("problem")
    return error_of(problem, status=int(problem.get("status") or 500)) if isinstance(problem, dict) else None


def copy_of(error: HistorianError) -> HistorianError:
    """To be raised to several callers, each with a traceback of its own."""
    copied = error.__class__.__new__(error.__class__)
    copied.args = error.args
    vars(copied).update({name: value for name, value in vars(error).items() if not name.startswith("__")})
    return copied
