"""What a worker delivers to: a historian server over WebSocket (`historian.client.ingest`), or a database (`database.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from historian.ingest.command_queue import CommandQueue
from historian.ingest.path_samples import PathSamples
from historian.schema.catalogue import TagDefinition


class Upstream(Protocol):
    """One producer's way to a historian. Calls may run at once; a broken connection is mended at the next call."""

    @property
    def producer(self) -> str: ...

    @property
    def commands(self) -> CommandQueue: ...

    async def next_seq(self) -> int:
        """One more than the highest seq that this producer has committed; 0 if none. Raises Unavailable, Busy; Conflict if another worker writes under this name now."""
        ...

    async def deliver(self, seq: int, samples: PathSamples) -> bool:
        """Have one batch committed; on disk upstream when this returns. Returns whether it had been committed before. The same (producer, seq) has to be sent with the
        same samples.

        Raises Unavailable and Busy (send it again, later), BadSamples with the faulty rows, other BadInput, Conflict and UnknownTag: it will never be taken as it is.
        """
        ...

    async def define(self, tags: Sequence[TagDefinition]) -> None:
        """Make tags or change them. Raises as `deliver` does; Conflict names a tag that is of another kind."""
        ...

    async def close(self) -> None: ...
