"""A process that takes from a broker until it is killed: `mqtt_taker.py PORT PROTOCOL STATE_DIR SETTLED`.

It settles the samples below SETTLED and says so, and says "there" when it has got one that is not.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from historian.ingest.path_samples import PathSamples
from historian.ingest.sources.mqtt import MqttConfig, MqttSource
from historian.ingest.sources.source import Settled
from historian.schema.catalogue import TagDefinition


class HoldingIntake:
    def __init__(self, state_dir: Path, settled_below: float) -> None:
        self.state_dir = state_dir
        self._below = settled_below

    async def put(self, samples: PathSamples, settled: Settled | None = None) -> None:
        assert settled is not None
        if samples.value.max() < self._below:
            settled()
            print(f"settled {samples.value.max():.0f}", flush=True)
        else:
            print("there", flush=True)

    async def refuse(self, reason: str, where: str, payload: bytes, settled: Settled | None = None) -> None:
        raise AssertionError(reason)

    def define(self, tags: Sequence[TagDefinition]) -> None: ...


if __name__ == "__main__":
    table = {"port": int(sys.argv[1]), "protocol": sys.argv[2], "client_id": "worker", "rule": [{"topic": "site/#"}]}
    source = MqttSource(MqttConfig.model_validate(table))
    asyncio.run(source.run(HoldingIntake(Path(sys.argv[3]), float(sys.argv[4]))))
