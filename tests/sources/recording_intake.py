"""An intake that keeps what it gets, and settles when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from historian.ingest.command_queue import CommandQueue
from historian.ingest.path_samples import PathSamples
from historian.ingest.sources.source import Settled
from historian.schema.catalogue import TagDefinition
from historian.schema.commands import Claim
from historian.schema.commands import Settled as Settled_


class _NoCommands:
    """A queue in which nothing ever is."""

    async def wait(self, patterns: Sequence[str], wait_s: float) -> bool:
        await asyncio.sleep(wait_s)
        return False

    async def claim(self, patterns: Sequence[str], limit: int) -> list[Claim]:
        return []

    async def settle(self, claim: Claim, outcome: Settled_, detail: str | None = None) -> bool:
        raise AssertionError("nothing was claimed")

    async def release(self, claim: Claim, detail: str, *, sent: bool) -> bool:
        raise AssertionError("nothing was claimed")


NO_COMMANDS = _NoCommands()


class RecordingIntake:
    """`open` lets `put` go on; `settling` has each message settled as soon as it comes."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.commands: CommandQueue = NO_COMMANDS
        self.batches: list[PathSamples] = []
        self.refused: list[tuple[str, str, bytes]] = []
        self.defined: dict[str, TagDefinition] = {}
        self.open = asyncio.Event()
        self.open.set()
        self.settling = True
        self.unsettled: list[Settled] = []
        self.waiting = 0

    async def put(self, samples: PathSamples, settled: Settled | None = None) -> None:
        self.waiting += 1
        await self.open.wait()
        self.waiting -= 1
        self.batches.append(samples)
        if settled is not None:
            self._settle(settled)

    async def refuse(self, reason: str, where: str, payload: bytes, settled: Settled | None = None) -> None:
        self.refused.append((reason, where, payload))
        if settled is not None:
            self._settle(settled)

    def _settle(self, settled: Settled) -> None:
        if self.settling:
            settled()
        else:
            self.unsettled.append(settled)

    def define(self, tags: Sequence[TagDefinition]) -> None:
        self.defined |= {tag.path: tag for tag in tags}

    def of(self, path: str, *, since: int = 0, until: int = 2**62) -> list[tuple[int, float | str | None, int]]:
        """(ts, value, quality) of one tag as a database would hold them: in the order of time, the last that came for each instant."""
        rows: dict[int, tuple[int, float | str | None, int]] = {}
        for samples in self.batches:
            if path not in samples.paths:
                continue
            for row in np.flatnonzero(samples.tag == list(samples.paths).index(path)).tolist():
                text = samples.text[row].as_py() if samples.text is not None else None
                value = None if np.isnan(samples.value[row]) else float(samples.value[row])
                rows[int(samples.ts[row])] = (int(samples.ts[row]), value if text is None else text, int(samples.quality[row]))
        return [rows[ts] for ts in sorted(rows) if since <= ts <= until]
