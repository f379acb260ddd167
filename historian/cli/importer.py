"""Sends examined files to a server, each chunk as a batch that it knows by (producer, seq).

Files go one after the other, so that of two which say something else about the same instant the later one wins. A few chunks of a file are on their way at once,
unless the file itself comes back to times that it had before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import orjson
import pyarrow as pa

from historian.cli.import_report import Outcome, Reporter
from historian.cli.interruptible import run_interruptible
from historian.client.address import Address
from historian.client.http import Http
from historian.ingest.files import Chunk, FileOptions, Plan, examine
from historian.query.times import format_time
from historian.schema.errors import BadInput, BadSamples, Busy, HistorianError, NotFound, Unavailable

IN_FLIGHT = 3
#: how long one request is tried again while the server is busy or away
PATIENCE_S = 60.0
_ANSWER_S = 120.0


class Importer:
    """One run of `historian import`. Methods are synchronous: Ctrl-C ends them at once."""

    def __init__(self, url: str | None, token: str | None, reporter: Reporter) -> None:
        self._address = Address.of(url, token)
        self._reporter = reporter

    def check_server(self) -> None:
        """Raises HistorianError if the server is not there, or does not let us in."""

        async def ask() -> None:
            http = self._http(patience=5.0)
            try:
                await _done(http, "import:")
            finally:
                await http.close()

        run_interruptible(ask())

    def look_through(self, paths: Sequence[Path], options: FileOptions) -> list[Plan]:
        """All files, checked. Raises BadInput for the first that is at fault."""
        plans = []
        for n, path in enumerate(paths):
            self._reporter.looking(path, n, len(paths))
            try:
                plans.append(examine(path, options, self._reporter.looked))
            except BadInput as error:
                raise BadInput(f"{error}\nNothing was sent") from None
        return plans

    def send(self, plans: Sequence[Plan]) -> None:
        """Have all that is missing committed. Raises HistorianError; what has been committed by then stays, and the next run knows it."""
        run_interruptible(self._send_all(plans))

    def _http(self, patience: float) -> Http:
        return Http(self._address, timeout=_ANSWER_S, retry_s=patience)

    async def _send_all(self, plans: Sequence[Plan]) -> None:
        http = self._http(PATIENCE_S)
        self._reporter.sending(sum(plan.samples for plan in plans))
        try:
            for plan in plans:
                try:
                    await self._send(http, plan)
                except (Unavailable, Busy) as error:
                    raise Unavailable(f"{plan.path}: {error}\nWhat was sent is stored; the same command goes on from there") from error
        finally:
            await http.close()

    async def _send(self, http: Http, plan: Plan) -> None:
        done = await _done(http, plan.producer)
        stood = sum(count for seq, count in enumerate(plan.counts) if count and done(seq))
        outcome = Outcome(plan, stood)
        self._reporter.begun(outcome)
        limit = 1 if plan.in_order else IN_FLIGHT
        chunks = plan.chunks(done)
        tasks: set[asyncio.Task[None]] = set()
        try:
            # in a thread: cutting a chunk takes a while, and answers are to be taken meanwhile
            while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                while len(tasks) >= limit:
                    tasks = await _some_done(tasks)
                tasks.add(asyncio.create_task(self._post(http, plan, chunk, outcome)))
            while tasks:
                tasks = await _some_done(tasks)
        except (Unavailable, Busy):
            raise
        except HistorianError as error:
            # the others may arrive: what is said to be stored is all that is
            await asyncio.gather(*tasks, return_exceptions=True)
            there = outcome.stood + outcome.new + outcome.replayed
            error.args = (f"{error}\nOf this file {f'{there} of {plan.samples} samples are' if there else 'nothing is'} stored",)
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # the thread may still be in it
            with suppress(ValueError):
                chunks.close()
        self._reporter.ended(outcome)

    async def _post(self, http: Http, plan: Plan, chunk: Chunk, outcome: Outcome) -> None:
        headers = {
            "Content-Type": "application/vnd.apache.arrow.stream",
            "Historian-Producer": quote(plan.producer, safe=":"),
            "Historian-Seq": str(chunk.seq),
        }
        body = _body(chunk.samples, None if self._address.nearby else "zstd")
        try:
            _, answered = await http.request("POST", "/v1/write", body=body, headers=headers)
        except BadSamples as error:
            raise _refused(plan, chunk, error) from None
        except (Unavailable, Busy):
            raise
        except HistorianError as error:
            error.args = (f"{plan.path}: {error}",)
            raise
        self._reporter.sent(outcome, chunk.samples.num_rows, new=answered.get("Historian-Replayed") != "true")


async def _done(http: Http, producer: str) -> Callable[[int], bool]:
    """Whether a chunk of the producer is committed."""
    try:
        answer, _ = await http.request("GET", f"/v1/producers/{quote(producer, safe='')}")
    except NotFound:
        return lambda seq: False
    ranges = orjson.loads(answer)["ranges"]
    return lambda seq: any(first <= seq <= last for first, last in ranges)


async def _some_done(tasks: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Those that still run. Raises what one of them raised."""
    ended, running = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in ended:
        task.result()
    return running


def _body(samples: pa.RecordBatch, compression: str | None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, samples.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_batch(samples)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def _refused(plan: Plan, chunk: Chunk, error: BadSamples) -> BadInput:
    """Rows of a body mean nothing to the user: the tag and the time do."""
    fault = error.faults[0]
    where = ""
    if fault.row < chunk.samples.num_rows:
        tag = chunk.samples.column("tag")[fault.row].as_py()
        us = chunk.samples.column("ts").cast(pa.int64())[fault.row].as_py()
        where = f"tag {tag!r} at {format_time(us)}: "
    more = f" (and {error.count - 1} more)" if error.count > 1 else ""
    return BadInput(f"{plan.path}: the server refuses {where}{fault.column} {fault.detail}{more}")
