"""A dashboard: tiles on a grid of twelve columns, and the equipment whose key figures they show."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from historian.documents.view import Title
from historian.schema.errors import BadInput
from historian.schema.limits import Limits as TagLimits
from historian.schema.paths import is_wildcard, path_fault, wildcard_regex

COLUMNS = 12
MAX_ROWS = 100
MAX_TILES = 100
MAX_EQUIPMENT = 50

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_S = 366 * 86_400


def seconds(span: str) -> int:
    """Seconds of a span like 90s, 15m, 8h, 7d. Raises ValueError."""
    if not re.fullmatch(r"[1-9][0-9]{0,7}[smhd]", span):
        raise ValueError(f"a span of time is a number and a unit, as 90s, 15m, 8h, 7d, unlike {span[:40]!r}")
    found = int(span[:-1]) * _UNITS_S[span[-1]]
    if found > _LONGEST_S:
        raise ValueError(f"a span of time is 366 days at the longest, not {span}")
    return found


def _span(text: str) -> str:
    seconds(text)
    return text


def _path(text: str) -> str:
    if fault := path_fault(text):
        raise ValueError(fault)
    return text


def _pattern(text: str) -> str:
    if not is_wildcard(text):
        return _path(text)
    try:
        wildcard_regex(text)
    except BadInput as error:
        raise ValueError(str(error)) from None
    return text


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name[:60]!r}; its IANA name is wanted, as Europe/Amsterdam") from None
    return name


Span = Annotated[
    str,
    AfterValidator(_span),
    Field(description="A span of time: 90s, 15m, 8h, 7d", json_schema_extra={"pattern": "^[1-9][0-9]{0,7}[smhd]$"}),
]
TagPath = Annotated[str, AfterValidator(_path)]
TagPattern = Annotated[str, AfterValidator(_pattern)]
States = Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=200)]], Field(min_length=1, max_length=50)]
Share = Annotated[float, Field(ge=0, le=1)]
Decimals = Annotated[int, Field(ge=0, le=9)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Limits(_Part):
    """Where a value becomes a warning (`low`, `high`) and an alarm (`low_low`, `high_high`)."""

    low_low: float | None = None
    low: float | None = None
    high: float | None = None
    high_high: float | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if fault := TagLimits(self.low_low, self.low, self.high, self.high_high).fault():
            raise ValueError(fault)
        return self


class _Tile(_Part):
    x: Annotated[int, Field(ge=0, lt=COLUMNS, description="First column")]
    y: Annotated[int, Field(ge=0, lt=MAX_ROWS, description="First row")]
    w: Annotated[int, Field(ge=1, le=COLUMNS, description="Columns")]
    h: Annotated[int, Field(ge=1, le=20, description="Rows")]
    title: Annotated[str, StringConstraints(max_length=200)] | None = None

    @model_validator(mode="after")
    def _on_the_grid(self) -> Self:
        if self.x + self.w > COLUMNS:
            raise ValueError(f"x + w is {self.x + self.w}: there are {COLUMNS} columns")
        return self


class _OfTag(_Tile):
    tag: TagPath
    decimals: Decimals | None = None
    limits: Annotated[Limits | None, Field(description="Instead of those of the tag; {}: none")] = None
    stale_after: Annotated[Span | None, Field(description="A newest sample that is older is shown as stale")] = None


class ValueTile(_OfTag):
    """The newest value of a tag."""

    type: Literal["value"]
    #: names of states with a colour of their own
    alarm_states: States | None = None
    warning_states: States | None = None


class GaugeTile(_OfTag):
    """The newest value on a scale, by default the tag's range."""

    type: Literal["gauge"]
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.min is not None and self.max is not None and self.min >= self.max:
            raise ValueError("min is less than max")
        return self


class SparklineTile(_OfTag):
    """The newest value above a small line of what came before it."""

    type: Literal["sparkline"]
    span: Span = "1h"


class TrendTile(_Tile):
    """A live chart of some tags."""

    type: Literal["trend"]
    tags: Annotated[list[TagPath], Field(min_length=1, max_length=8)]
    span: Span = "1h"
    min: float | None = None
    max: float | None = None
    limits: Annotated[Limits | None, Field(description="Instead of those of its tag, where it has one tag; {}: none")] = None


class StatesTile(_Tile):
    """Which states tags were in, as bands along time."""

    type: Literal["states"]
    tags: Annotated[list[TagPath], Field(min_length=1, max_length=20)]
    span: Span = "8h"


class AlarmRule(_Part):
    """What of some tags is an alarm; without any condition: a value beyond the tag's limits, or, where it has none, outside its range."""

    tags: TagPattern
    above: float | None = None
    below: float | None = None
    states: States | None = None
    bad: Annotated[bool, Field(description="A bad quality too")] = False
    severity: Annotated[
        Literal["alarm", "warning"] | None, Field(description="By default alarm; beyond an inner limit of the tag, warning")
    ] = None


class AlarmsTile(_Tile):
    """What is, and was lately, in alarm by some rules."""

    type: Literal["alarms"]
    rules: Annotated[list[AlarmRule], Field(min_length=1, max_length=20)]
    span: Annotated[Span, Field(description="Alarms that ended stay in the list so long")] = "1h"


class TextTile(_Tile):
    """Words: a heading, or a note."""

    type: Literal["text"]
    text: Annotated[str, StringConstraints(max_length=4000)]
    heading: bool = False


class KpiTile(_Tile):
    """A key figure of a piece of equipment over the shift at hand, or over the last hours."""

    type: Literal["kpi"]
    equipment: str
    show: Literal["oee", "availability", "performance", "quality", "total", "good", "rejects", "running"]
    period: Annotated[Literal["shift"] | Span, Field(description="shift, or a span of time that ends now")] = "shift"
    target: Annotated[Share | None, Field(description="Of a ratio: at or above it is good")] = None
    alarm: Annotated[Share | None, Field(description="Of a ratio: below it is bad")] = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.target is not None and self.alarm is not None and self.alarm > self.target:
            raise ValueError("alarm is not above target")
        return self


Tile: TypeAlias = Annotated[
    ValueTile | GaugeTile | SparklineTile | TrendTile | StatesTile | AlarmsTile | TextTile | KpiTile, Field(discriminator="type")
]


class Equipment(_Part):
    """A machine by its state, its counters and its ideal cycle time: what OEE is reckoned from."""

    title: Title | None = None
    state: TagPath
    running: Annotated[States, Field(description="Names of the states in which it produces")]
    planned_stops: Annotated[States | None, Field(description="Names of the states that are no part of the planned time")] = None
    total: Annotated[TagPath, Field(description="Counter of all pieces")]
    good: Annotated[TagPath, Field(description="Counter of good pieces")]
    ideal_cycle: Annotated[
        Annotated[float, Field(gt=0)] | TagPath, Field(description="Seconds a piece at the best: a number, or the tag that has it")
    ]


class Shifts(_Part):
    """When shifts begin: intervals as those of range queries (docs/aggregates.md)."""

    interval: Annotated[str, StringConstraints(pattern=r"^(1|2|3|4|6|8|12|24)h$")] = "8h"
    origin: Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")] = "06:00"
    tz: Annotated[str, AfterValidator(_zone)] = "UTC"


class Dashboard(_Part):
    """A dashboard."""

    version: Literal[1] = 1
    title: Title
    description: Annotated[str, StringConstraints(max_length=2000)] | None = None
    shifts: Shifts | None = None
    equipment: Annotated[
        dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,49}$")], Equipment], Field(max_length=MAX_EQUIPMENT)
    ] = Field(default_factory=dict)
    tiles: Annotated[list[Tile], Field(max_length=MAX_TILES)]


def faults(dashboard: Dashboard) -> list[tuple[str, str]]:
    """What one part says that another does not bear out, as (path, detail)."""
    known = ", ".join(dashboard.equipment) or "none"
    return [
        (f"tiles[{n}].equipment", f"there is no {tile.equipment[:60]!r} in `equipment`, which has {known}")
        for n, tile in enumerate(dashboard.tiles)
        if isinstance(tile, KpiTile) and tile.equipment not in dashboard.equipment
    ]
