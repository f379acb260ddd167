"""What a source is to a worker, and a worker to its source.

A source connects to something (a broker, an OPC UA server, a folder), decodes what comes into samples and puts them into the worker's intake. It reconnects by
itself for as long as it runs. It tells its origin that a message is done (an MQTT acknowledgement, a file moved away) only when the intake says that the
message is settled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from historian.ingest.command_queue import CommandQueue
from historian.ingest.path_samples import PathSamples
from historian.schema.catalogue import TagDefinition

#: called once, on the event loop, when every sample of a message is safe: committed, on disk in the spool or in the dead-letter file, or left out by a filter because
#: others stand for it
Settled = Callable[[], None]


@dataclass(slots=True)
class SourceCounts:
    """What a source has seen since it was made; shown by the worker's /metrics."""

    connected: bool = False
    connects: int = 0
    disconnects: int = 0
    messages: int = 0
    samples: int = 0
    #: messages that could not be understood; each is in the dead-letter file
    refused: int = 0
    #: further figures of this kind of source, by name
    more: dict[str, int] = field(default_factory=dict)
    #: in words, why it is not connected
    trouble: str = ""


class Intake(Protocol):
    """What a source gets from its worker."""

    @property
    def state_dir(self) -> Path:
        """A directory of this source's own, which outlives restarts."""
        ...

    @property
    def commands(self) -> CommandQueue:
        """Commands for the plant, of tags that this source can write to."""
        ...

    async def put(self, samples: PathSamples, settled: Settled | None = None) -> None:
        """Hand over the samples of one message, in the order in which they came. Returns at once as a rule, and waits while too much is unsettled: a source
        that awaits it takes nothing more from its origin meanwhile. Never raises for what the samples are: wrong ones go into the dead-letter file."""
        ...

    async def refuse(self, reason: str, where: str, payload: bytes, settled: Settled | None = None) -> None:
        """A message that cannot be decoded: kept in the dead-letter file with its reason and where it came from (a topic, a file)."""
        ...

    def define(self, tags: Sequence[TagDefinition]) -> None:
        """What the source knows of its tags (kind, unit, description…); upstream is told before the next samples. Never waits;
        the same definition again costs nothing."""
        ...


class Source(Protocol):
    """One connection to one origin."""

    counts: SourceCounts

    async def run(self, intake: Intake) -> None:
        """Take samples until cancelled. Raises HistorianError only for what no retry can mend (a wrong configuration)."""
        ...
