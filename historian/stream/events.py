"""What a subscription tells its client, in order, whichever transport sends it (`encoder.py`, `server/stream_http.py`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from historian.schema.catalogue import Tag
from historian.schema.errors import HistorianError
from historian.schema.samples import Samples
from historian.stream.tick import Tick

#: rows of a data frame at the most: 1.4 MB of Arrow
MAX_FRAME_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Subscribed:
    """It is open. `resumed` is None where no cursor was given. `text`: whether its samples have a text column, now and later; None: as its tags have it."""

    tags: tuple[Tag, ...]
    resumed: bool | None = None
    text: bool | None = None


@dataclass(frozen=True, slots=True)
class Born:
    """Tags that a wildcard matches have been made: their samples follow, from the first on."""

    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """A change has begun: the history of the tags added follows, beside the live tail of the others, and `Live` is behind it. Of those removed nothing comes any more."""

    added: tuple[Tag, ...]
    removed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A change that could not be made; all is as before."""

    error: HistorianError


@dataclass(frozen=True, slots=True)
class Data:
    """Samples; `cursor` is 0 as long as one cannot resume from here. `tick`: they are all of its samples, which others have too."""

    samples: Samples
    cursor: int
    backfill: bool
    last: bool = False
    tick: Tick | None = None


@dataclass(frozen=True, slots=True)
class Live:
    """The seam has passed."""

    cursor: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples with timestamps in [start, end) (µs) were left out; a range query for these tags, if there are any, brings them."""

    start: int
    end: int
    reason: str
    tags: tuple[Tag, ...] = ()


@dataclass(frozen=True, slots=True)
class Reached:
    """Of a durable subscription: all that came before is whole up to this position."""

    position: str


Event = Subscribed | Born | Changed | Refused | Data | Live | Gap | Reached


def live_data(samples: Samples, first: int, last: int) -> Iterable[Data]:
    """The rows of the notices `first` to `last`: only behind the last part are all of them with the client."""
    frames = list(samples.pieces(MAX_FRAME_ROWS))
    for n, part in enumerate(frames, 1):
        yield Data(part, last if n == len(frames) else first - 1, backfill=False)
