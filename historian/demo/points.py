"""A tag of the simulated plant, and how it is sampled."""

from __future__ import annotations

from dataclasses import dataclass

from historian.schema.catalogue import Kind, TagDefinition
from historian.schema.limits import Limits

NO_LIMITS = Limits()

SITE = "acme/springfield"
LINES = ("line1", "line2")


@dataclass(frozen=True, slots=True)
class Point:
    """A tag of the plant. `decimals` of its transmitter; `fast` ones are sampled at the full rate; `on_change` ones when they change."""

    path: str
    kind: Kind
    unit: str | None
    description: str
    low: float | None = None
    high: float | None = None
    decimals: int = 0
    fast: bool = False
    on_change: bool = False
    states: dict[str, str] | None = None
    limits: Limits = NO_LIMITS

    def definition(self) -> TagDefinition:
        return TagDefinition(
            path=self.path,
            kind=self.kind,
            unit=self.unit,
            description=self.description,
            low=self.low,
            high=self.high,
            # a setpoint holds until the next one, as states and texts do
            step=self.on_change,
            states=self.states,
            **self.limits._asdict(),
        )
