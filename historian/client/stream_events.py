"""What happens on a live stream, as its reader is told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

import pyarrow as pa

from historian.schema.catalogue import Tag
from historian.schema.errors import HistorianError


@dataclass(frozen=True, slots=True)
class Opened:
    """The subscription is open, for the first time or again. `resumed`: it goes on where it stopped; None where nothing was to be resumed."""

    tags: tuple[Tag, ...]
    resumed: bool | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples, in the columns of a range; `backfill` tells history from live tail. `cursor`: where to go on behind it, 0 as long as that cannot be said."""

    samples: pa.RecordBatch
    cursor: int
    backfill: bool


@dataclass(frozen=True, slots=True)
class Live:
    """The seam has passed: all before was history."""

    cursor: int


@dataclass(frozen=True, slots=True)
class Gap:
    """About samples with timestamps in [start, end), UTC.

    `reason`: `slow-client`, they were left out because they were not taken fast enough, and a range query brings them; `cursor-expired` or
    `restarted`, the connection broke and the history that follows brings them, some perhaps for the second time. A stream without history has none to
    follow: there too a range query brings them.
    """

    start: datetime
    end: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection broke; it is being opened again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reached:
    """Of a durable stream: all that came before is whole up to this position, which can be acknowledged. What came behind it when the connection breaks comes again."""

    position: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Of a durable stream: the server has stored that all up to this position is with the client."""

    position: str


@dataclass(frozen=True, slots=True)
class Grown:
    """Of a durable stream: its wildcards match more tags by now. `tags` are all of them."""

    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class Added:
    """Tags that a wildcard matches have been made: their samples follow, from the first on."""

    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """A change has begun: the history of the tags added follows, `Live` behind it; of those removed nothing comes any more."""

    added: tuple[Tag, ...]
    removed: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A change that the server does not make: the stream goes on as before."""

    error: HistorianError


Event: TypeAlias = Opened | Batch | Live | Gap | Lost | Added | Changed | Refused | Reached | Acknowledged | Grown
