"""A process that takes files from a folder until it is killed: `folder_taker.py FOLDER STATE_DIR CHUNKS`. It settles so many chunks, says "there", and waits."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from historian.ingest.path_samples import PathSamples
from historian.ingest.sources.folder import FolderConfig, FolderSource
from historian.ingest.sources.source import Settled
from historian.schema.catalogue import TagDefinition


class SlowIntake:
    def __init__(self, state_dir: Path, chunks: int) -> None:
        self.state_dir = state_dir
        self._chunks = chunks

    async def put(self, samples: PathSamples, settled: Settled | None = None) -> None:
        assert settled is not None
        if self._chunks == 0:
            print("there", flush=True)
            await asyncio.Event().wait()
        self._chunks -= 1
        settled()

    async def refuse(self, reason: str, where: str, payload: bytes, settled: Settled | None = None) -> None:
        raise AssertionError(reason)

    def define(self, tags: Sequence[TagDefinition]) -> None: ...


if __name__ == "__main__":
    source = FolderSource(FolderConfig(path=Path(sys.argv[1]), settle_s=0, poll_s=0.01))
    asyncio.run(source.run(SlowIntake(Path(sys.argv[2]), int(sys.argv[3]))))
