"""A worker: one source, one upstream, and between them the intake, the outbox, the spool and the dead letters, in one directory.

It runs until it is told to stop, through every failure that time mends. A part that ends by a fault of ours ends the worker, with the fault in the log and a code that a
supervisor sees: it never goes on with half of it dead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from historian.ingest.filters.chain import Filters
from historian.ingest.filters.rules import FilterRules
from historian.ingest.sources.source import Source
from historian.ingest.spool.spool import Spool
from historian.ingest.worker.config import WorkerConfig
from historian.ingest.worker.dead_letters import DeadLetters
from historian.ingest.worker.intake import WorkerIntake
from historian.ingest.worker.messages import Messages
from historian.ingest.worker.outbox import Outbox
from historian.ingest.worker.status import StatusServer
from historian.ingest.worker.upstream import Upstream

log = logging.getLogger(__name__)

#: for what is on its way, when the worker stops
_GRACE_S = 4.0

#: of a source's further figures those that go down too
_GAUGES = frozenset({"unacknowledged", "waiting", "held", "nodes", "nodes_left_out", "history_open", "files_unsettled"})

Connect = Callable[[str], Upstream]


class Worker:
    """`connect` makes the upstream, given the instance that the worker's directory has: the same over its restarts."""

    def __init__(self, config: WorkerConfig, directory: Path, source: Source, connect: Connect, rules: FilterRules) -> None:
        self._config = config
        self._directory = directory
        self._source = source
        self._connect = connect
        self._rules = rules
        self.status_url = ""

    async def run(self, stop: asyncio.Event, started: Callable[[Worker], None] | None = None) -> None:
        """Until `stop` is set. Raises HistorianError if it cannot start or its source gives up; whatever else a part of it raised."""
        config = self._config
        async with AsyncExitStack() as stack:
            spool = await asyncio.to_thread(
                Spool.open,
                self._directory / "spool",
                producer=config.producer,
                max_bytes=config.spool_max_bytes,
                max_age_s=config.spool_max_age_s,
            )
            stack.callback(spool.close)
            dead_letters = DeadLetters(self._directory / "dead-letters", config.dead_letters_max_bytes)
            state_dir = self._directory / "source"
            state_dir.mkdir(parents=True, exist_ok=True)
            upstream = self._connect(spool.instance)
            stack.push_async_callback(upstream.close)
            messages = Messages(config.max_unsettled_samples, config.max_unsettled_messages)
            # after a crash as many messages may come again as may have been unsettled
            filters = Filters(self._rules, warm_up=config.max_unsettled_messages)
            outbox = Outbox(upstream, spool, dead_letters, messages.settle, in_flight=config.in_flight)
            intake = WorkerIntake(config, state_dir, filters, messages, outbox, dead_letters, upstream.commands)
            if config.status_port is not None:
                status = StatusServer(
                    config.status_port,
                    lambda: self._describe(outbox, spool, dead_letters, messages, intake),
                    lambda: self._counters(outbox, dead_letters, filters),
                    lambda: self._gauges(spool, messages),
                    lambda: dead_letters.reasons,
                )
                await status.start()
                stack.push_async_callback(status.stop)
                self.status_url = status.url
            if started is not None:
                started(self)
            parts = {
                name: asyncio.create_task(coroutine, name=name)
                for name, coroutine in {
                    "source": self._source.run(intake),
                    "batches": intake.run(),
                    "filters": intake.tick(),
                    "outbox": outbox.replay(),
                    "deliveries": outbox.watch(),
                    "stop": stop.wait(),
                }.items()
            }
            try:
                await asyncio.wait(parts.values(), return_when=asyncio.FIRST_COMPLETED)
                for name, part in parts.items():
                    if name != "stop" and part.done():
                        part.result()
                        raise RuntimeError(f"the worker's {name} ended by itself")
                await self._finish(parts, intake, outbox)
            except Exception:
                if parts["source"].done() and not any(parts[name].done() for name in ("batches", "filters", "outbox", "deliveries")):
                    await self._finish(parts, intake, outbox)
                else:
                    await outbox.finish(0)
                raise
            finally:
                for part in parts.values():
                    part.cancel()
                await asyncio.gather(*parts.values(), return_exceptions=True)

    async def _finish(self, parts: Mapping[str, asyncio.Task[Any]], intake: WorkerIntake, outbox: Outbox) -> None:
        """Take no more; what was taken is delivered or spooled."""
        parts["source"].cancel()
        await asyncio.gather(parts["source"], return_exceptions=True)
        parts["filters"].cancel()
        intake.close()
        # a worker that has not reached upstream yet spools
        outbox.tried.set()
        await asyncio.wait({parts["batches"]}, timeout=_GRACE_S)
        if not parts["batches"].done():
            outbox.give_up()
            await asyncio.wait({parts["batches"]}, timeout=_GRACE_S)
        await outbox.finish(_GRACE_S)

    def _describe(
        self, outbox: Outbox, spool: Spool, dead_letters: DeadLetters, messages: Messages, intake: WorkerIntake
    ) -> dict[str, Any]:
        counts = self._source.counts
        return {
            "state": outbox.state,
            "trouble": outbox.trouble or spool.trouble or dead_letters.trouble or counts.trouble,
            "producer": self._config.producer,
            "unsettled": {"samples": messages.samples, "messages": len(messages), "source_waits": intake.waiting},
            "source": {
                "connected": counts.connected,
                "trouble": counts.trouble,
                "messages": counts.messages,
                "samples": counts.samples,
                "refused": counts.refused,
                **counts.more,
            },
            "delivered": {"samples": outbox.counts.delivered, "replayed": outbox.counts.replayed, "spooled": outbox.counts.spooled},
            "spool": {
                "state": spool.state,
                "trouble": spool.trouble,
                "batches": spool.batches,
                "samples": spool.samples,
                "bytes": spool.bytes,
                "damaged": spool.damaged,
            },
            "dead_letters": {"samples": dead_letters.samples, "messages": dead_letters.messages, "bytes": dead_letters.bytes},
        }

    def _counters(self, outbox: Outbox, dead_letters: DeadLetters, filters: Filters) -> dict[str, tuple[str, float]]:
        source = self._source.counts
        figures: dict[str, tuple[str, float]] = {
            "source_connects": ("Connections to the origin", source.connects),
            "source_disconnects": ("Connections to the origin that were lost", source.disconnects),
            "source_messages": ("Messages taken from the origin", source.messages),
            "source_samples": ("Samples taken from the origin", source.samples),
            "source_refused": ("Messages that could not be understood", source.refused),
            "delivered_samples": ("Samples committed upstream, without those from the spool", outbox.counts.delivered),
            "replayed_samples": ("Samples from the spool that were committed upstream", outbox.counts.replayed),
            "spooled_samples": ("Samples that went to the spool", outbox.counts.spooled),
            "upstream_away": ("Times that upstream went away", outbox.counts.away),
            "filtered_samples": ("Samples left out by exception reporting and compression", filters.counts.left_out),
        }
        for name, value in source.more.items():
            if name not in _GAUGES:
                figures[f"source_{name}"] = ("Of this kind of source", value)
        return figures

    def _gauges(self, spool: Spool, messages: Messages) -> dict[str, tuple[str, float]]:
        return {
            "source_connected": ("Whether the origin is connected", float(self._source.counts.connected)),
            "unsettled_samples": ("Samples taken and not yet safe", messages.samples),
            "unsettled_messages": ("Messages taken and not yet settled", len(messages)),
            "spool_batches": ("Batches in the spool", spool.batches),
            "spool_samples": ("Samples in the spool", spool.samples),
            "spool_bytes": ("Bytes of the spool", spool.bytes),
            **{f"source_{name}": ("Of this kind of source", value) for name, value in self._source.counts.more.items() if name in _GAUGES},
        }
