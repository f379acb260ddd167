"""A run of `historian spool replay`: batch after batch to a server, under the producer's name and with the seqs that they have, so that each counts once.

One request at a time: what comes later about the same instant has to arrive later. A batch that the server will never take is put aside, and the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import orjson
import pyarrow as pa
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from historian.cli.interruptible import run_interruptible
from historian.client.address import Address
from historian.client.http import Http
from historian.ingest.path_samples import PathSamples
from historian.ingest.spool.files import read_holder
from historian.ingest.spool.refused import list_refused
from historian.ingest.spool.spool import Spool
from historian.schema.errors import BadInput, Busy, Conflict, HistorianError, NotFound, Unavailable, UnknownTag

#: how long one request is tried again while the server is busy or away
PATIENCE_S = 60.0
_ANSWER_S = 120.0


class Replay:
    """`refused` are the (seq, reason) of batches that the server will never take; they are in refused/ now."""

    def __init__(self, directory: Path, url: str | None, token: str | None) -> None:
        self._directory = directory
        self._address = Address.of(url, token)
        self._began = time.monotonic()
        self.sent_batches = 0
        self.sent_samples = 0
        self.known_samples = 0
        self.refused: list[tuple[int, str]] = []

    def send(self, *, again: bool) -> None:
        """Send all there is; `again`: also what was refused before, behind it. Raises HistorianError; what was sent by then is done."""
        # its limits stay on record as those of the worker
        holder = read_holder(self._directory)
        with Spool.open(self._directory, max_bytes=holder.max_bytes, max_age_s=holder.max_age_s) as spool:
            run_interruptible(self._send_all(spool, again=again))

    async def _send_all(self, spool: Spool, *, again: bool) -> None:
        http = Http(self._address, timeout=_ANSWER_S, retry_s=PATIENCE_S)
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("samples"), TimeRemainingColumn())
        try:
            # what answers there is a historian that lets us in: nothing is put aside for what a stranger says
            await _ask(http, spool.producer)
            with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
                task = progress.add_task("Sending", total=spool.samples)
                # the refused last, so that the limits of a full spool are no obstacle
                retried = [batch.entry.seq for batch in list_refused(self._directory)] if again else []
                await self._send_queue(http, spool, lambda samples: progress.advance(task, samples))
                if retried:
                    spool.take_refused(retried)
                    progress.update(task, description="Sending again", total=spool.samples, completed=0)
                    await self._send_queue(http, spool, lambda samples: progress.advance(task, samples))
        except (Unavailable, Busy) as error:
            raise Unavailable(f"{error}\n{self.summary()}; the same command goes on from there") from error
        finally:
            await http.close()

    async def _send_queue(self, http: Http, spool: Spool, on_sent: Callable[[int], None]) -> None:
        while (found := spool.peek()) is not None:
            await self._send(http, spool, *found)
            on_sent(len(found[1]))

    async def _send(self, http: Http, spool: Spool, seq: int, samples: PathSamples) -> None:
        headers = {
            "Content-Type": "application/vnd.apache.arrow.stream",
            "Historian-Producer": quote(spool.producer, safe=":"),
            "Historian-Seq": str(seq),
        }
        try:
            _, answered = await http.request("POST", "/v1/write", body=_body(samples), headers=headers)
        except (BadInput, Conflict, UnknownTag) as error:
            spool.refuse(seq, str(error))
            self.refused.append((seq, str(error)))
            typer.echo(f"batch {seq} of {len(samples)} samples is refused: {error}", err=True)
            return
        spool.done(seq)
        self.sent_batches += 1
        self.sent_samples += len(samples)
        if answered.get("Historian-Replayed") == "true":
            self.known_samples += len(samples)

    def summary(self) -> str:
        """What has come of it, in a line."""
        known = f" ({self.known_samples} were stored before)" if self.known_samples else ""
        aside = f", {len(self.refused)} refused and kept in {self._directory / 'refused'}" if self.refused else ""
        return f"{self.sent_batches} batches, {self.sent_samples} samples sent{known}{aside}, {time.monotonic() - self._began:.1f} s"


async def _ask(http: Http, producer: str) -> None:
    """Raises HistorianError if there is no historian, or it does not let us in."""
    try:
        answer, _ = await http.request("GET", f"/v1/producers/{quote(producer, safe='')}")
    except NotFound as error:
        if error.type.endswith("not-found"):
            return
        raise
    try:
        orjson.loads(answer)["ranges"]
    except (ValueError, KeyError, TypeError):
        raise HistorianError(f"{http.address.url} is no historian") from None


def _body(samples: PathSamples) -> bytes:
    batch = samples.to_record_batch()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch)
    body: bytes = sink.getvalue().to_pybytes()
    return body
