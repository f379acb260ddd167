"""historian.client: the historian from Python.

`connect(url)` gives a `Client` for notebooks and scripts, `AsyncClient(url)` is for asyncio. docs/client.md shows both.
"""

from __future__ import annotations

from historian.client.address import default_url
from historian.client.asynchronous import AsyncClient
from historian.client.commands import Command
from historian.client.results import Receipt, TagList
from historian.client.stream import Stream
from historian.client.stream_events import Acknowledged, Added, Batch, Changed, Event, Gap, Grown, Live, Lost, Opened, Reached, Refused
from historian.client.synchronous import Client, ClientStream
from historian.client.times import Time
from historian.schema.catalogue import Tag, TagDefinition
from historian.schema.errors import HistorianError

__all__ = [
    "Acknowledged",
    "Added",
    "AsyncClient",
    "Batch",
    "Changed",
    "Client",
    "ClientStream",
    "Command",
    "Event",
    "Gap",
    "Grown",
    "HistorianError",
    "Live",
    "Lost",
    "Opened",
    "Reached",
    "Receipt",
    "Refused",
    "Stream",
    "Tag",
    "TagDefinition",
    "TagList",
    "Time",
    "connect",
    "default_url",
]


def connect(url: str | None = None, *, token: str | None = None, timeout: float = 60.0, retry_s: float = 30.0) -> Client:
    """A client of the server at `url` (`HISTORIAN_URL`, or http://127.0.0.1:8742), with `token` (`HISTORIAN_TOKEN`) where it wants one.

    `timeout`: seconds that an answer may take; `retry_s`: how long a request is tried again when the connection breaks or the server is busy. Raises
    Unavailable if no server answers there.
    """
    client = Client(url, token=token, timeout=timeout, retry_s=retry_s)
    try:
        client.ready()
    except BaseException:
        client.close()
        raise
    return client
