"""What a client asks for with a subscription."""

from __future__ import annotations

from dataclasses import dataclass

from historian.query.range_query import Mode, StreamOrder
from historian.schema.catalogue import Tag

#: 9999-01-01, µs: beyond every timestamp that is accepted
FOREVER = 253_370_764_800_000_000


@dataclass(frozen=True, slots=True)
class Request:
    """Times in µs; `start` None: no backfill; `end` None: for ever.

    `names` are paths and wildcards; `tags` what they stood for when the bus was at `place`, and calculated pens. `order`: in which a raw backfill goes through time.
    `max_rate`: how often a second the live tail is sent at most, thinned; None: as it comes, and all of it.
    """

    tags: tuple[Tag, ...]
    start: int | None
    end: int | None
    mode: Mode = "raw"
    points: int = 2000
    cursor: int | None = None
    names: tuple[str, ...] = ()
    place: int = 0
    order: StreamOrder = "oldest"
    max_rate: float | None = None
