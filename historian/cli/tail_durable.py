"""`historian tail --durable`: a stream that goes on where this command stopped, however it was stopped, on stdout or into Parquet files.

On stdout samples are acknowledged once they are written: what was written in the moment of a kill may be written again. Parquet files have each once
(`historian.client.parquet_sink`).
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from historian.client import Event, Stream
    from historian.client.parquet_sink import ParquetSink

#: for the last acknowledgement, before the command ends
_LAST_WORD_S = 5.0


class Output(Protocol):
    """Takes what a durable stream brings. `published` is what may be acknowledged."""

    @property
    def published(self) -> str | None: ...

    @property
    def position(self) -> str | None: ...

    @property
    def unfinished(self) -> bool:
        """Whether something was given away that no position has reached: it would be given away again."""

    def add(self, batch: pa.RecordBatch, backfill: bool) -> None: ...

    def reached(self, position: str) -> None: ...

    def drop(self) -> None: ...

    def gap(self, told: str) -> None: ...

    def due(self) -> float | None:
        """Seconds until `publish` is to be called, None as long as it need not."""

    def publish(self) -> None: ...

    def close(self) -> None: ...


class Printed:
    """Written as soon as it is whole; history as it comes, since it may be long."""

    def __init__(self, write: Callable[[pa.RecordBatch], None]) -> None:
        self.published: str | None = None
        self.position: str | None = None
        self.unfinished = False
        self._write = write
        self._coming: list[pa.RecordBatch] = []

    def add(self, batch: pa.RecordBatch, backfill: bool) -> None:
        if backfill:
            self.unfinished = True
            self._write(batch)
        else:
            self._coming.append(batch)

    def reached(self, position: str) -> None:
        for batch in self._coming:
            self._write(batch)
        self._coming.clear()
        self.unfinished = False
        self.position = self.published = position

    def drop(self) -> None:
        self._coming.clear()

    def gap(self, told: str) -> None:
        pass

    def due(self) -> float | None:
        return None

    def publish(self) -> None:
        pass

    def close(self) -> None:
        pass


class Filed:
    """Parquet files: a new one after so many seconds or rows, whichever is first."""

    def __init__(self, sink: ParquetSink, *, every_s: float, rows: int) -> None:
        self._sink = sink
        self._every_s = every_s
        self._rows = rows
        self.unfinished = False
        #: since when something waits for a file
        self._since: float | None = None

    @property
    def published(self) -> str | None:
        return self._sink.published

    @property
    def position(self) -> str | None:
        return self._sink.position

    def add(self, batch: pa.RecordBatch, backfill: bool) -> None:
        self._sink.add(batch)

    def reached(self, position: str) -> None:
        self._sink.reached(position)
        if self._since is None:
            self._since = time.monotonic()
        if not self._sink.rows or self._sink.rows >= self._rows:
            # a backfill without a sample is acknowledged by a file, too
            self.publish()

    def drop(self) -> None:
        self._sink.drop()

    def gap(self, told: str) -> None:
        self._sink.note("gap", told)

    def due(self) -> float | None:
        return None if self._since is None else max(0.0, self._since + self._every_s - time.monotonic())

    def publish(self) -> None:
        self._sink.publish()
        self._since = None

    def close(self) -> None:
        self._sink.close()


@dataclass(frozen=True, slots=True)
class Tailed:
    """What to follow."""

    paths: tuple[str, ...]
    start: str | None
    name: str
    url: str | None
    token: str | None


def run(tailed: Tailed, output: Output, tell: Callable[[Event], None]) -> None:
    """Follow until SIGINT or SIGTERM; what is whole by then is published and acknowledged."""
    try:
        asyncio.run(_run(tailed, output, tell))
    finally:
        output.close()


async def _run(tailed: Tailed, output: Output, tell: Callable[[Event], None]) -> None:
    from historian.client import AsyncClient

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with AsyncClient(tailed.url, token=tailed.token) as client:
        stream = client.stream(tailed.paths, from_=tailed.start, durable=tailed.name, position=output.position)
        async with stream:
            if output.published is not None:
                # of a process that was killed before it could
                await stream.acknowledge(output.published)
            await _follow(stream, output, tell, stopped)


async def _follow(stream: Stream, output: Output, tell: Callable[[Event], None], stopped: asyncio.Event) -> None:
    from historian.client import Acknowledged

    acknowledged = output.published
    stored: str | None = None
    stopping = asyncio.create_task(stopped.wait())
    coming: asyncio.Task[Event | None] | None = None
    try:
        while not stopped.is_set():
            coming = coming or asyncio.create_task(stream.next_event())
            await asyncio.wait({coming, stopping}, timeout=output.due(), return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                event, coming = coming.result(), None
                if event is None:
                    return
                if isinstance(event, Acknowledged):
                    stored = event.position
                _take(event, output, tell)
            if output.due() == 0.0:
                output.publish()
            if output.published is not None and output.published != acknowledged:
                acknowledged = output.published
                await stream.acknowledge(acknowledged)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORD_S):
                while output.unfinished and (event := await (coming or stream.next_event())) is not None:
                    coming = None
                    _take(event, output, tell)
        output.publish()
        if output.published is not None and output.published != stored:
            await stream.acknowledge(output.published)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORD_S):
                    while (event := await (coming or stream.next_event())) is not None and event != Acknowledged(output.published):
                        coming = None
    finally:
        for task in (stopping, coming):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


def _take(event: Event, output: Output, tell: Callable[[Event], None]) -> None:
    from historian.client import Batch, Gap, Lost, Reached

    match event:
        case Batch(samples, _, backfill):
            output.add(samples, backfill)
            return
        case Reached(position):
            output.reached(position)
            return
        case Lost():
            # it comes again
            output.drop()
        case Gap(start, end, reason):
            output.gap(f"{start.isoformat()}/{end.isoformat()} {reason}")
    tell(event)


def filed(directory: Path, name: str, *, every_s: float, rows: int) -> Filed:
    """Into files of this directory."""
    from historian.client.parquet_sink import ParquetSink

    return Filed(ParquetSink(directory, name), every_s=every_s, rows=rows)
