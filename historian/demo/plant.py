"""A simulated plant: one site with two brewing lines, their utilities and fillers, 53 tags, and the physics that ties them together.

Each line: a feed tank; a pump whose flow follows from its speed and the pressures on both sides, held at a setpoint by a PI loop; a jacketed reactor
whose heat balance a split-range PI loop closes with steam and cooling water; a product pump; a batch that goes through its phases as levels and
temperatures allow. The lines share steam and cooling water, so that they disturb each other. Now and then a pump trips or a transmitter fails for
some seconds.

Deterministic: the same seed and the same calls give the same samples. What one call ends with the next one goes on from, so history runs into the
live tail without a jump. Values have the decimals of real transmitters. Digital tags, truth values, text and counters are sampled when they change,
and once a minute.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from historian.demo.noise import Noise
from historian.demo.packaging import Filler, filler_points
from historian.demo.points import LINES, SITE, Point
from historian.schema.catalogue import TagDefinition
from historian.schema.limits import Limits
from historian.schema.samples import GOOD, TIMESTAMP

SECOND = 1_000_000

PUMP_STATES = {"0": "stopped", "1": "starting", "2": "running", "3": "fault"}
STOPPED, STARTING, RUNNING, FAULT = range(4)
PHASES = ("idle", "filling", "heating", "holding", "cooling", "draining", "cleaning")

#: samples of one batch of history at the most
BATCH_SAMPLES = 50_000
#: a gap in the live tail that is longer than this, as after a suspended laptop, is filled once a second
_CATCH_UP_S = 10
#: and one that is longer still, as after a night, only in its last hour
_CATCH_UP_AT_MOST_S = 3600
#: OPC qualities of a transmitter that fails: sensor failure, and last known value
_SENSOR_FAILURE, _LAST_KNOWN = 16, 20

_Values = npt.NDArray[np.float64]
_Qualities = npt.NDArray[np.int16]


def _line_points(line: str) -> list[Point]:
    at = f"{SITE}/brewing/{line}"
    pump = {"states": PUMP_STATES, "on_change": True}
    return [
        Point(f"{at}/feed_tank/level", "float", "%", "Level of the feed tank", 0, 100, 1, limits=Limits(15, 30, 92, 97)),
        Point(
            f"{at}/feed_tank/temperature",
            "float",
            "°C",
            "Temperature in the feed tank",
            0,
            50,
            2,
            limits=Limits(high_limit=25, high_high_limit=30),
        ),
        Point(f"{at}/feed_pump/state", "digital", None, "State of the feed pump", **pump),  # type: ignore[arg-type]
        Point(f"{at}/feed_pump/speed", "float", "%", "Speed of the feed pump", 0, 100, 1, fast=True),
        Point(f"{at}/feed_pump/flow", "float", "m³/h", "Flow from the feed tank into the reactor", 0, 40, 2, fast=True),
        Point(
            f"{at}/feed_pump/discharge_pressure",
            "float",
            "bar",
            "Pressure behind the feed pump",
            0,
            6,
            3,
            fast=True,
            limits=Limits(high_limit=2.3, high_high_limit=3),
        ),
        Point(f"{at}/feed_pump/starts", "int", None, "Starts of the feed pump", on_change=True),
        Point(f"{at}/reactor1/level", "float", "%", "Level of the reactor", 0, 100, 1, limits=Limits(high_limit=85, high_high_limit=92)),
        Point(
            f"{at}/reactor1/temperature",
            "float",
            "°C",
            "Temperature in the reactor",
            0,
            120,
            2,
            limits=Limits(high_limit=77, high_high_limit=80),
        ),
        Point(f"{at}/reactor1/temperature_setpoint", "float", "°C", "What the temperature loop aims at", 0, 120, 1, on_change=True),
        Point(
            f"{at}/reactor1/pressure",
            "float",
            "bar",
            "Gauge pressure in the reactor's head space",
            -1,
            3,
            3,
            fast=True,
            limits=Limits(-0.3, -0.1, 1.2, 1.5),
        ),
        Point(
            f"{at}/reactor1/jacket_temperature",
            "float",
            "°C",
            "Temperature in the reactor's jacket",
            0,
            160,
            2,
            limits=Limits(high_limit=110, high_high_limit=125),
        ),
        Point(f"{at}/reactor1/steam_valve", "float", "%", "Position of the steam valve of the jacket", 0, 100, 1),
        Point(f"{at}/reactor1/cooling_valve", "float", "%", "Position of the cooling water valve of the jacket", 0, 100, 1),
        Point(f"{at}/reactor1/high_temperature_alarm", "bool", None, "The reactor is hotter than its limit", on_change=True),
        Point(f"{at}/product_pump/state", "digital", None, "State of the product pump", **pump),  # type: ignore[arg-type]
        Point(f"{at}/product_pump/flow", "float", "m³/h", "Flow out of the reactor", 0, 40, 2, fast=True),
        Point(f"{at}/batch/id", "text", None, "The batch in the reactor", on_change=True),
        Point(f"{at}/batch/phase", "text", None, "What the batch is at", on_change=True),
        Point(f"{at}/totals/volume", "int", "l", "Product that has left the reactor", 0),
    ]


_UTILITIES = [
    Point(
        f"{SITE}/utilities/steam/pressure",
        "float",
        "bar",
        "Pressure of the steam header",
        0,
        10,
        3,
        fast=True,
        limits=Limits(5, 5.6, 6.5, 7),
    ),
    Point(
        f"{SITE}/utilities/cooling_water/temperature",
        "float",
        "°C",
        "Temperature of the cooling water",
        0,
        40,
        2,
        limits=Limits(high_limit=15.5, high_high_limit=18),
    ),
    Point(f"{SITE}/utilities/electricity/energy", "int", "Wh", "Electric energy that the pumps have taken", 0),
]

# physical constants of a line
_TANK_M3 = 6.0
_REACTOR_M3 = 1.2
_WATER_KJ = 4180.0  # kJ/(m³·K)
_JACKET_KJ = 900.0  # kJ/K, the jacket's water and steel
_UA_KW = 19.0  # kW/K between jacket and product
_STEAM_KW = 14.0  # kW/K, valve full open at 6 bar
_COOLING_KW = 26.0
_LOSS_KW = 0.15
_AMBIENT = 21.0
_ATMOSPHERE = 1.013
_HEAD_BAR = 5.0  # of the pump at full speed and no flow
_PUMP_DROP = 0.0016  # bar/(m³/h)², inside the pump
_PIPE_DROP = 0.0024  # and in the pipe behind it
_COLD_C = 34.0
_ALARM_ABOVE = 1.5  # K over the recipe's temperature


@dataclass(slots=True)
class _Utilities:
    steam_bar: float = 6.0
    cooling_c: float = 12.0
    energy_wh: float = 184_000.0

    def step(self, dt: float, noise: Noise, steam: float, cooling: float, power_kw: float) -> None:
        """`steam` and `cooling`: the valves of all lines, 1 for each that is open."""
        self.steam_bar += (6.1 - 0.35 * steam - self.steam_bar) * _share(dt, 12) + 0.008 * math.sqrt(dt) * noise.normal()
        self.cooling_c += (12.0 + 2.2 * cooling - self.cooling_c) * _share(dt, 90) + 0.01 * math.sqrt(dt) * noise.normal()
        self.energy_wh += power_kw * dt / 3.6


@dataclass(slots=True)
class _Line:
    """The state of one line; units as in the tags, levels as volumes in m³."""

    name: str
    noise: Noise
    batch: int
    #: the recipe: °C, and seconds at that
    mash_c: float
    mash_s: float
    phase: str = "idle"
    phase_s: float = 0.0
    idle_s: float = 40.0
    tank_m3: float = 3.1
    tank_c: float = 17.0
    filling_tank: bool = False
    pump_state: int = STOPPED
    pump_state_s: float = 0.0
    pump_speed: float = 0.0
    pump_integral: float = 55.0
    flow: float = 0.0
    discharge_bar: float = 0.3
    starts: int = 0
    reactor_m3: float = 0.06
    reactor_c: float = 23.0
    setpoint_c: float = _COLD_C
    pressure_bar: float = 0.2
    gas: float = field(init=False)
    jacket_c: float = 23.0
    steam: float = 0.0
    cooling: float = 0.0
    integral: float = 0.0
    alarm: bool = False
    product_state: int = STOPPED
    product_speed: float = 0.0
    product_flow: float = 0.0
    volume_l: float = 0.0

    def __post_init__(self) -> None:
        self.gas = (self.pressure_bar + _ATMOSPHERE) * self._head_m3() / (self.reactor_c + 273.15)

    def _head_m3(self) -> float:
        return max(0.15, _REACTOR_M3 * 1.1 - self.reactor_m3)

    @property
    def power_kw(self) -> float:
        return 7.5 * (self.pump_speed / 100) ** 3 + 4.0 * (self.product_speed / 100) ** 3 + 1.1

    def step(self, dt: float, utilities: _Utilities) -> None:
        self._recipe(dt)
        self._pump(dt)
        self._product(dt)
        self._temperature_loop(dt)
        self._balances(dt, utilities)

    def _recipe(self, dt: float) -> None:
        self.phase_s += dt
        full = self.reactor_m3 / _REACTOR_M3
        match self.phase:
            case "idle":
                over = self.phase_s >= self.idle_s
            case "filling":
                over = full >= 0.8
            case "heating":
                over = self.reactor_c >= self.mash_c - 0.5
            case "holding":
                over = self.phase_s >= self.mash_s
            case "cooling":
                over = self.reactor_c <= _COLD_C + 1.5
            case "draining":
                over = full <= 0.04
            case _:
                over = self.phase_s >= 90
        if not over:
            return
        self.phase = PHASES[(PHASES.index(self.phase) + 1) % len(PHASES)]
        self.phase_s = 0.0
        if self.phase == "filling":
            self.batch += 1
        elif self.phase == "heating":
            self.setpoint_c = self.mash_c
        elif self.phase == "cooling":
            self.setpoint_c = _COLD_C
        elif self.phase == "idle":
            self.idle_s = 30 + 60 * self.noise.uniform()

    def _pump(self, dt: float) -> None:
        """State machine, PI loop on the flow, and the flow where the pump's curve meets the pipe's."""
        self.pump_state_s += dt
        wanted = self.phase == "filling" and self.tank_m3 > 0.2
        state = self.pump_state
        if state == FAULT:
            # somebody comes and resets it
            if self.pump_state_s > 18:
                self._pump_to(STOPPED)
        elif not wanted:
            if state != STOPPED:
                self._pump_to(STOPPED)
        elif state == STOPPED:
            if self.pump_state_s > 2:
                self._pump_to(STARTING)
                self.starts += 1
        elif state == STARTING and self.pump_state_s > 4:
            self._pump_to(RUNNING)
        elif state == RUNNING and self.noise.happens(1500, dt):
            self._pump_to(FAULT)
        if self.pump_state == RUNNING:
            error = 24.0 - self.flow
            self.pump_integral = min(100.0, max(20.0, self.pump_integral + 0.35 * error * dt))
            target = min(100.0, max(20.0, self.pump_integral + 0.6 * error))
        else:
            target = 45.0 if self.pump_state == STARTING else 0.0
        self.pump_speed += (target - self.pump_speed) * _share(dt, 1.5 if target else 2.5)
        if self.pump_speed < 0.05:
            self.pump_speed = 0.0
        suction = 0.25 * self.tank_m3 / _TANK_M3
        head = _HEAD_BAR * (self.pump_speed / 100) ** 2
        # a check valve keeps the flow from turning back
        across = max(0.0, head + suction - self.pressure_bar - 0.35) if self.pump_speed else 0.0
        self.flow += (math.sqrt(across / (_PUMP_DROP + _PIPE_DROP)) - self.flow) * _share(dt, 0.8)
        if self.flow < 0.005:
            self.flow = 0.0
        self.discharge_bar = suction + max(0.0, head - _PUMP_DROP * self.flow**2)

    def _pump_to(self, state: int) -> None:
        self.pump_state, self.pump_state_s = state, 0.0

    def _product(self, dt: float) -> None:
        running = self.phase == "draining"
        if running:
            self.product_state = RUNNING if self.product_speed > 60 else STARTING
        else:
            self.product_state = STOPPED
        self.product_speed += ((80.0 if running else 0.0) - self.product_speed) * _share(dt, 2.0)
        if self.product_speed < 0.05:
            self.product_speed = 0.0
        head = 3.2 * (self.product_speed / 100) ** 2 + 0.3 * self.reactor_m3 / _REACTOR_M3 + self.pressure_bar - 0.2
        wanted = math.sqrt(max(0.0, head) / 0.0045) if self.product_speed else 0.0
        self.product_flow += (wanted - self.product_flow) * _share(dt, 0.8)
        if self.product_flow < 0.005:
            self.product_flow = 0.0

    def _temperature_loop(self, dt: float) -> None:
        """Split range: above zero the output opens steam, below it cooling water."""
        if self.phase in ("heating", "holding", "cooling"):
            error = self.setpoint_c - self.reactor_c
            self.integral = min(30.0, max(-30.0, self.integral + 0.02 * error * dt)) if abs(error) < 8 else 0.0
            output = min(100.0, max(-100.0, 9.0 * error + self.integral))
        else:
            self.integral = output = 0.0
        self.steam += (max(0.0, output) - self.steam) * _share(dt, 3.0)
        self.cooling += (max(0.0, -output) - self.cooling) * _share(dt, 3.0)

    def _balances(self, dt: float, utilities: _Utilities) -> None:
        """Volumes, heat, and the gas in the head space."""
        if self.tank_m3 < 0.3 * _TANK_M3:
            self.filling_tank = True
        elif self.tank_m3 > 0.9 * _TANK_M3:
            self.filling_tank = False
        supply = 10.0 / 3600 * dt if self.filling_tank else 0.0
        self.tank_c += (14.0 - self.tank_c) * supply / self.tank_m3 + (_AMBIENT - self.tank_c) * dt / 14_000
        moved = min(self.tank_m3, self.flow / 3600 * dt)
        self.tank_m3 += supply - moved
        drained = min(self.reactor_m3 - 0.03, self.product_flow / 3600 * dt)
        self.volume_l += 1000 * drained

        # the pumped liquid mixes in; then the jacket, explicitly: its rates are well below 1/dt
        self.reactor_c += (self.tank_c - self.reactor_c) * moved / (self.reactor_m3 + moved)
        self.reactor_m3 += moved - drained
        wetted = min(1.0, 0.15 + self.reactor_m3 / _REACTOR_M3)
        exchanged = _UA_KW * wetted * (self.jacket_c - self.reactor_c)
        condensing = 100.0 + 10.0 * utilities.steam_bar
        heat = _STEAM_KW * self.steam / 100 * (condensing - self.jacket_c)
        cold = _COOLING_KW * self.cooling / 100 * (utilities.cooling_c - self.jacket_c)
        self.jacket_c += (heat + cold - exchanged - 0.3 * (self.jacket_c - _AMBIENT)) * dt / _JACKET_KJ
        enzymes = 6.0 if self.phase == "holding" else 0.0
        self.reactor_c += (exchanged + enzymes - _LOSS_KW * (self.reactor_c - _AMBIENT)) * dt / (_WATER_KJ * self.reactor_m3)
        if self.alarm:
            self.alarm = self.reactor_c > self.mash_c + _ALARM_ABOVE - 0.5
        else:
            self.alarm = self.reactor_c > self.mash_c + _ALARM_ABOVE

        # the vent lets the head space back to its set pressure; a rising level and a rising temperature work against it
        kelvin = self.reactor_c + 273.15
        wanted = {"heating": 0.6, "holding": 1.1, "cooling": 0.5}.get(self.phase, 0.2)
        self.gas += ((wanted + _ATMOSPHERE) * self._head_m3() / kelvin - self.gas) * _share(dt, 25)
        self.pressure_bar = self.gas * kelvin / self._head_m3() - _ATMOSPHERE

    def measured(self) -> list[float]:
        """What the transmitters say, in the order of `_line_points`; texts as numbers: the batch, and the place of the phase."""
        noise = self.noise.normal
        moving = 0.15 if self.flow else 0.0
        drawn = 0.2 if self.product_flow else 0.0
        return [
            100 * self.tank_m3 / _TANK_M3 + 0.04 * noise(),
            self.tank_c + 0.02 * noise(),
            self.pump_state,
            max(0.0, self.pump_speed + (0.08 * noise() if self.pump_speed else 0.0)),
            max(0.0, self.flow + moving * noise()),
            self.discharge_bar + 0.006 * noise(),
            self.starts,
            100 * self.reactor_m3 / _REACTOR_M3 + 0.05 * noise(),
            self.reactor_c + 0.03 * noise(),
            self.setpoint_c,
            self.pressure_bar + 0.003 * noise(),
            self.jacket_c + 0.05 * noise(),
            self.steam,
            self.cooling,
            self.alarm,
            self.product_state,
            max(0.0, self.product_flow + drawn * noise()),
            self.batch,
            PHASES.index(self.phase),
            int(self.volume_l),
        ]


@dataclass(frozen=True, slots=True)
class _Failure:
    """A transmitter that fails from now on until then (µs)."""

    quality: int
    until_us: int


class Plant:
    """The plant and its clock, which begins with the first call. `rate_hz`: how often fast tags are sampled live, 1 to 10."""

    def __init__(self, seed: int = 1, *, rate_hz: float = 5.0) -> None:
        if not 1 <= rate_hz <= 10:
            raise ValueError(f"a rate of 1 to 10 Hz, not {rate_hz}")
        self._points = [
            *(point for line in LINES for point in _line_points(line)),
            *_UTILITIES,
            *(point for line in LINES for point in filler_points(line)),
        ]
        self._noise = Noise(np.random.default_rng(seed))
        self._utilities = _Utilities()
        self._lines = [
            _Line("line1", self._noise, batch=1041, mash_c=76.0, mash_s=240, idle_s=20, starts=402, volume_l=1_204_150.0),
            # half a batch ahead and with a shorter recipe, so that the lines are seldom at the same
            _Line(
                "line2",
                self._noise,
                batch=877,
                mash_c=67.0,
                mash_s=150,
                phase="cooling",
                setpoint_c=_COLD_C,
                tank_m3=2.2,
                reactor_m3=0.96,
                reactor_c=66.8,
                jacket_c=68.0,
                starts=311,
                volume_l=918_400.0,
            ),
        ]
        # with numbers of their own, so that the brewing lines are the same with them and without
        filling = Noise(np.random.default_rng([seed, 1]))
        self._fillers = [
            Filler(filling, ideal_s=0.5, pace=0.94, rejects=0.012),
            Filler(filling, ideal_s=0.625, pace=0.88, rejects=0.025),
        ]
        self._interval_us = round(SECOND / rate_hz)
        self._clock_us: int | None = None
        self._failures: dict[int, _Failure] = {}
        self._may_fail = [
            n for n, point in enumerate(self._points) if point.kind == "float" and not point.on_change and "/packaging/" not in point.path
        ]
        self._last: _Values | None = None
        self._paths = pa.array([point.path for point in self._points], pa.string())
        self._decimals = [point.decimals for point in self._points]
        self._fast = np.array([point.fast for point in self._points])
        self._on_change = np.array([point.on_change for point in self._points])
        self._is_text = np.array([point.kind == "text" for point in self._points])

    @property
    def clock_us(self) -> int | None:
        """The newest instant that has been simulated, µs; None before the first call."""
        return self._clock_us

    def definitions(self) -> list[TagDefinition]:
        """All tags, with unit, range, limits and states."""
        return [point.definition() for point in self._points]

    def history(self, start_us: int, end_us: int) -> Iterator[pa.RecordBatch]:
        """Samples in [start, end), one a second, in batches of at most 50 000, oldest first. Columns: `tag`, `ts`, `value`, `quality`, `text`.

        The plant's clock is at `start` then, even if no instant lies before `end`.
        """
        if self._clock_us is None:
            self._clock_us = start_us - 1
        rows = BATCH_SAMPLES // len(self._points)
        first = -(-start_us // SECOND) * SECOND
        instants = range(first, end_us, SECOND)
        for start in range(0, len(instants), rows):
            yield self._sample(instants[start : start + rows])

    def advance(self, now_us: int) -> pa.RecordBatch:
        """All samples since the last call, up to now: fast tags at the full rate, the others once a second. Columns as in `history`; no rows where nothing is due."""
        interval = self._interval_us
        if self._clock_us is None:
            self._clock_us = now_us - interval
        elif now_us - self._clock_us > _CATCH_UP_S * SECOND:
            interval = SECOND
        since = max(self._clock_us, now_us - _CATCH_UP_AT_MOST_S * SECOND)
        first = since // interval * interval + interval
        return self._sample(range(first, now_us + 1, interval))

    def _sample(self, instants: range) -> pa.RecordBatch:
        n, width = len(instants), len(self._points)
        values = np.empty((n, width))
        qualities = np.full((n, width), GOOD, np.int16)
        for row, instant in enumerate(instants):
            self._step_to(instant)
            values[row] = self._measured()
            for column, failure in self._failures.items():
                qualities[row, column] = failure.quality
        for column, decimals in enumerate(self._decimals):
            values[:, column] = np.round(values[:, column], decimals)
        # what rounds to -0.0 is zero
        values += 0.0
        ts = np.array(instants, np.int64)
        before = np.vstack([values[:1] if self._last is None else self._last, values])
        held = qualities == _LAST_KNOWN
        for row, column in zip(*np.nonzero(held), strict=True):
            # row + 1 of `before` is this row; what is held was held in the row before too
            before[row + 1, column] = values[row, column] = before[row, column]
        keep = self._due(ts, before)
        if n:
            self._last = values[-1]
        values[qualities == _SENSOR_FAILURE] = np.nan
        return self._batch(ts, values, qualities, keep)

    def _due(self, ts: npt.NDArray[np.int64], before: _Values) -> npt.NDArray[np.bool_]:
        """Which tags are sampled at which instants."""
        on_second = (ts % SECOND == 0)[:, None]
        changed = before[1:] != before[:-1]
        if self._last is None and len(changed):
            changed[0] = True
        on_change = changed | (ts % (60 * SECOND) == 0)[:, None]
        due: npt.NDArray[np.bool_] = np.where(self._on_change, on_change, self._fast | on_second)
        return due

    def _step_to(self, instant: int) -> None:
        assert self._clock_us is not None
        left = (instant - self._clock_us) / SECOND
        # the plant does not work through a night that nobody recorded
        left = min(max(left, 0.0), float(_CATCH_UP_AT_MOST_S))
        while left > 0:
            dt = min(left, 1.0)
            left -= dt
            self._step(dt)
        self._clock_us = instant
        self._fail(instant)

    def _step(self, dt: float) -> None:
        for line in self._lines:
            line.step(dt, self._utilities)
        for filler in self._fillers:
            filler.step(dt)
        self._utilities.step(
            dt,
            self._noise,
            steam=sum(line.steam for line in self._lines) / 100,
            cooling=sum(line.cooling for line in self._lines) / 100,
            power_kw=sum(line.power_kw for line in self._lines),
        )
        if self._noise.happens(240, dt):
            column = self._may_fail[int(self._noise.uniform() * len(self._may_fail))]
            quality = _SENSOR_FAILURE if self._noise.uniform() < 0.7 else _LAST_KNOWN
            lasts = 4 + 20 * self._noise.uniform()
            # _fail turns the duration into an instant
            self._failures.setdefault(column, _Failure(quality, -round(lasts * SECOND)))

    def _fail(self, instant: int) -> None:
        for column, failure in list(self._failures.items()):
            if failure.until_us < 0:
                self._failures[column] = _Failure(failure.quality, instant - failure.until_us)
            elif failure.until_us <= instant:
                del self._failures[column]

    def _measured(self) -> list[float]:
        measured = [value for line in self._lines for value in line.measured()]
        noise = self._noise.normal
        utilities = self._utilities
        measured += [utilities.steam_bar + 0.004 * noise(), utilities.cooling_c + 0.02 * noise(), int(utilities.energy_wh)]
        return measured + [value for filler in self._fillers for value in filler.measured()]

    def _batch(self, ts: npt.NDArray[np.int64], values: _Values, qualities: _Qualities, keep: npt.NDArray[np.bool_]) -> pa.RecordBatch:
        rows, columns = np.nonzero(keep)
        value = values[rows, columns]
        texts: list[str | None] = [None] * len(rows)
        for place in np.flatnonzero(self._is_text[columns]).tolist():
            texts[place] = self._text(int(columns[place]), int(value[place]))
        value[self._is_text[columns]] = np.nan
        return pa.RecordBatch.from_arrays(
            [
                pa.DictionaryArray.from_arrays(pa.array(columns.astype(np.int32)), self._paths),
                pa.array(ts[rows]).cast(TIMESTAMP),
                pa.array(value),
                pa.array(qualities[rows, columns]),
                pa.array(texts, pa.string()),
            ],
            names=["tag", "ts", "value", "quality", "text"],
        )

    def _text(self, column: int, value: int) -> str:
        if self._points[column].path.endswith("/phase"):
            return PHASES[value]
        line = LINES[column // len(_line_points(LINES[0]))]
        return f"{line.upper()}-{value:05d}"


def _share(dt: float, time_constant: float) -> float:
    """How much of a difference a first-order lag makes up for in dt; exact for any dt."""
    return 1.0 - math.exp(-dt / time_constant)
