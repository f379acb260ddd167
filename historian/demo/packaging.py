"""The fillers behind the brewing lines: machines whose availability, performance and quality can be reckoned from their states and counters.

A filler runs most of the time, a little below its ideal speed. It waits when bottles do not come or do not go, stops for a fault that somebody has to come for, and is
cleaned now and then, as planned. Some bottles are rejected, more of them in the first minute after a stop.
"""

from __future__ import annotations

from dataclasses import dataclass

from historian.demo.noise import Noise
from historian.demo.points import SITE, Point
from historian.schema.limits import Limits

FILLER_STATES = {"0": "stopped", "1": "running", "2": "waiting", "3": "fault", "4": "cleaning"}
STOPPED, RUNNING, WAITING, FAULT, CLEANING = range(5)

#: how often, on average, a running filler comes into a state, and how long it stays there, seconds
_MEAN_S = {WAITING: 150.0, FAULT: 600.0, CLEANING: 1500.0}
_LASTS_S = {WAITING: (6.0, 14.0), FAULT: (25.0, 60.0), CLEANING: (90.0, 60.0)}
#: after which rejects come back to the usual
_SETTLING_S = 60.0


def filler_points(line: str) -> list[Point]:
    at = f"{SITE}/packaging/{line}/filler"
    return [
        Point(f"{at}/state", "digital", None, "State of the filler", states=FILLER_STATES, on_change=True),
        Point(f"{at}/speed", "float", "1/min", "Bottles a minute", 0, 150, 1, limits=Limits(20, 60)),
        Point(f"{at}/ideal_cycle_time", "float", "s", "Time a bottle takes at the filler's rated speed", 0, 10, 3, on_change=True),
        Point(f"{at}/total", "int", None, "Bottles filled", 0),
        Point(f"{at}/good", "int", None, "Bottles filled that passed inspection", 0),
    ]


@dataclass(slots=True)
class Filler:
    """The state of one filler; `ideal_s`: seconds a bottle at its rated speed, `pace`: the part of that speed at which it usually runs."""

    noise: Noise
    ideal_s: float
    pace: float
    rejects: float
    #: from nothing: a plant that starts anew has its counters reset, which is no bottle filled
    total: float = 0.0
    good: float = 0.0
    state: int = RUNNING
    state_s: float = 0.0
    lasts_s: float = 0.0
    per_min: float = 0.0
    drift: float = 0.0

    def step(self, dt: float) -> None:
        self.state_s += dt
        if self.state == RUNNING:
            for state, mean_s in _MEAN_S.items():
                if self.noise.happens(mean_s, dt):
                    least, more = _LASTS_S[state]
                    self._to(state, least + more * self.noise.uniform())
                    break
        elif self.state_s >= self.lasts_s:
            # whoever comes for a fault starts it again by hand
            if self.state == FAULT:
                self._to(STOPPED, 4.0)
            else:
                self._to(RUNNING, 0.0)
        self.drift += -self.drift * dt / 120 + 0.004 * dt**0.5 * self.noise.normal()
        aim = 60 / self.ideal_s * min(1.0, max(0.5, self.pace + self.drift)) if self.state == RUNNING else 0.0
        self.per_min += (aim - self.per_min) * min(1.0, dt / 2.0)
        if self.per_min < 0.05:
            self.per_min = 0.0
        filled = self.per_min / 60 * dt
        rejected = self.rejects * (4.0 if self.state == RUNNING and self.state_s < _SETTLING_S else 1.0)
        self.total += filled
        self.good += filled * (1 - min(1.0, rejected * (0.5 + self.noise.uniform())))

    def _to(self, state: int, lasts_s: float) -> None:
        self.state, self.state_s, self.lasts_s = state, 0.0, lasts_s

    def measured(self) -> list[float]:
        """In the order of `filler_points`."""
        wobble = 0.3 * self.noise.normal() if self.per_min else 0.0
        return [self.state, max(0.0, self.per_min + wobble), self.ideal_s, int(self.total), int(self.good)]
