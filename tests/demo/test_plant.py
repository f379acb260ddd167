"""The simulated plant: what it gives is valid, deterministic, goes on without a jump, and obeys its own physics."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from historian.demo.packaging import FILLER_STATES, RUNNING
from historian.demo.plant import BATCH_SAMPLES, PHASES, PUMP_STATES, SECOND, Plant
from historian.demo.points import LINES, SITE

END = 1_767_225_600 * SECOND
HOUR = 3600 * SECOND


def frame_of(batches: list[pa.RecordBatch]) -> pd.DataFrame:
    frame = pa.Table.from_batches(batches).to_pandas()
    frame["tag"] = frame["tag"].astype(str).str.removeprefix(f"{SITE}/")
    frame["us"] = frame["ts"].astype("datetime64[us, UTC]").astype("int64")
    return frame


def pen(frame: pd.DataFrame, tag: str) -> pd.Series:
    """Good values of a tag by time, µs."""
    rows = frame[(frame["tag"] == tag) & (frame["quality"] == 192)]
    assert len(rows), tag
    return rows.set_index("us")["value"]


@pytest.fixture(scope="module")
def hour() -> pd.DataFrame:
    return frame_of(list(Plant(seed=7).history(END - HOUR, END)))


@pytest.fixture(scope="module")
def day() -> pd.DataFrame:
    return frame_of(list(Plant(seed=3).history(END - 12 * HOUR, END)))


def test_an_hour_is_made_at_once_in_bounded_batches() -> None:
    started = time.process_time()
    batches = list(Plant().history(END - HOUR, END))
    assert time.process_time() - started < 5
    assert all(0 < batch.num_rows <= BATCH_SAMPLES for batch in batches)
    assert 90_000 < sum(batch.num_rows for batch in batches) < 3600 * 53
    times = [batch.column("ts").cast(pa.int64()) for batch in batches]
    assert min(t[0].as_py() for t in times) == END - HOUR
    assert max(t[len(t) - 1].as_py() for t in times) == END - SECOND


def test_tags_are_defined_with_kinds_ranges_and_states() -> None:
    definitions = Plant().definitions()
    assert len(definitions) == 53
    assert len({definition.path for definition in definitions}) == 53
    assert {definition.kind for definition in definitions} == {"float", "int", "bool", "digital", "text"}
    assert all(definition.description for definition in definitions)
    assert all(definition.unit for definition in definitions if definition.kind == "float")
    assert all(definition.states in (PUMP_STATES, FILLER_STATES) for definition in definitions if definition.kind == "digital")


def test_every_sample_is_one_that_its_tag_can_have(hour: pd.DataFrame) -> None:
    assert not hour.duplicated(["tag", "us"]).any()
    for definition in Plant().definitions():
        rows = hour[hour["tag"] == definition.path.removeprefix(f"{SITE}/")]
        assert len(rows), definition.path
        assert rows["us"].is_monotonic_increasing
        good = rows[rows["quality"] == 192]
        if definition.kind == "text":
            assert rows["text"].notna().all()
            assert rows["value"].isna().all()
            continue
        assert rows["text"].isna().all()
        assert np.isfinite(good["value"]).all()
        if definition.kind != "float":
            assert (good["value"] == good["value"].round()).all()
        if definition.kind == "bool":
            assert good["value"].isin([0, 1]).all()
        if definition.kind == "digital":
            assert good["value"].astype(int).astype(str).isin(list(definition.states or {})).all()
        if definition.low is not None and definition.high is not None:
            assert good["value"].between(definition.low, definition.high).all(), definition.path


def test_values_have_the_decimals_of_a_transmitter(hour: pd.DataFrame) -> None:
    temperature = pen(hour, "brewing/line1/reactor1/temperature")
    assert (temperature == temperature.round(2)).all()
    assert not np.signbit(hour["value"][hour["value"] == 0]).any()


def test_the_same_seed_gives_the_same_plant() -> None:
    def made(seed: int) -> pd.DataFrame:
        plant = Plant(seed)
        past = list(plant.history(END - 300 * SECOND, END))
        return frame_of([*past, *(plant.advance(END + n * 200_000) for n in range(20))])

    assert made(5).equals(made(5))
    assert not made(5).equals(made(6))


def test_the_live_tail_goes_on_where_history_ends() -> None:
    plant = Plant(seed=2, rate_hz=10)
    past = frame_of(list(plant.history(END - 600 * SECOND, END)))
    live = frame_of([plant.advance(END + n * 100_000) for n in range(1, 301)])
    assert live["us"].min() > past["us"].max()
    for definition in plant.definitions():
        if definition.kind != "float" or definition.step:
            continue
        tag = definition.path.removeprefix(f"{SITE}/")
        before, after = pen(past, tag).to_numpy(), pen(live, tag).to_numpy()
        spread = np.abs(np.diff(before)).max(initial=0)
        assert abs(after[0] - before[-1]) <= max(spread, 0.02 * (definition.high or 100)), tag
        assert (np.abs(np.diff(after)) <= max(2 * spread, 0.1 * (definition.high or 100))).all(), tag


def test_fast_tags_come_at_the_full_rate_and_slow_ones_each_second() -> None:
    plant = Plant(rate_hz=10)
    first = plant.advance(END)
    live = frame_of([first, *(plant.advance(END + n * 50_000) for n in range(1, 201))])
    ten_seconds = live[(live["us"] > END) & (live["us"] <= END + 10 * SECOND)]
    counts = ten_seconds.groupby("tag").size()
    assert counts["brewing/line1/feed_pump/flow"] == 100
    assert counts["brewing/line1/reactor1/temperature"] == 10
    assert counts.get("brewing/line1/batch/phase", 0) <= 2


def test_nothing_is_due_before_its_time() -> None:
    plant = Plant(rate_hz=1)
    plant.advance(END)
    assert plant.advance(END + 1000).num_rows == 0
    assert plant.advance(END - HOUR).num_rows == 0
    assert plant.clock_us == END


def test_a_long_gap_is_filled_once_a_second_and_not_through_the_night() -> None:
    plant = Plant(rate_hz=10)
    plant.advance(END)
    flow = "brewing/line1/feed_pump/flow"
    minute = frame_of([plant.advance(END + 60 * SECOND)])
    assert (minute["tag"] == flow).sum() == 60
    night = frame_of([plant.advance(END + 9 * HOUR)])
    assert (night["tag"] == flow).sum() == 3600
    assert night["us"].max() == END + 9 * HOUR


def test_changes_are_sampled_when_they_happen_and_once_a_minute(hour: pd.DataFrame) -> None:
    state = pen(hour, "brewing/line1/feed_pump/state")
    changes = state[state.diff() != 0]
    assert 4 <= len(changes) < 60
    assert 60 <= len(state) <= 60 + len(changes)


def test_batches_go_through_their_phases_in_order(day: pd.DataFrame) -> None:
    for line in LINES:
        rows = day[day["tag"] == f"brewing/{line}/batch/phase"]
        seen = rows["text"][rows["text"] != rows["text"].shift()].tolist()
        assert len(seen) > 14
        for before, after in itertools.pairwise(seen):
            assert (PHASES.index(before) + 1) % len(PHASES) == PHASES.index(after)
        ids = day[day["tag"] == f"brewing/{line}/batch/id"]["text"].unique()
        assert all(name.startswith(f"{line.upper()}-") for name in ids)
        assert list(ids) == sorted(ids)
        assert len(ids) >= 10


def test_volume_is_conserved(day: pd.DataFrame) -> None:
    """What the product pump moved, by its flow, is what the totaliser counted."""
    for line in LINES:
        flow = pen(day, f"brewing/{line}/product_pump/flow")
        volume = pen(day, f"brewing/{line}/totals/volume")
        moved = flow.sum() / 3600 * 1000
        assert moved == pytest.approx(volume.iloc[-1] - volume.iloc[0], rel=0.03)
        assert (volume.diff().dropna() >= 0).all()


def test_a_pump_that_stands_moves_nothing(day: pd.DataFrame) -> None:
    state = pen(day, "brewing/line1/feed_pump/state")
    flow = pen(day, "brewing/line1/feed_pump/flow")
    of_state = state.reindex(flow.index, method="ffill")
    stopped = of_state == 0
    # the flow needs some seconds to come to rest
    at_rest = stopped & (of_state.shift(30) == 0)
    assert at_rest.any()
    assert (flow[at_rest] == 0).all()
    assert flow[of_state == 2].median() == pytest.approx(24, rel=0.05)


def test_the_reactor_follows_its_jacket_and_its_recipe(day: pd.DataFrame) -> None:
    temperature = pen(day, "brewing/line1/reactor1/temperature")
    phase = day[day["tag"] == "brewing/line1/batch/phase"].set_index("us")["text"].reindex(temperature.index, method="ffill")
    assert temperature[phase == "holding"].mean() == pytest.approx(76, abs=1.0)
    jacket = pen(day, "brewing/line1/reactor1/jacket_temperature").reindex(temperature.index, method="ffill")
    heating = (phase == "heating") & (phase.shift(60) == "heating")
    assert (jacket[heating] > temperature[heating]).all()
    steam = pen(day, "utilities/steam/pressure")
    demand = pen(day, "brewing/line1/reactor1/steam_valve").reindex(steam.index, method="ffill")
    assert steam[demand > 90].mean() < steam[demand < 1].mean() - 0.2


def test_transmitters_fail_for_some_seconds_and_come_back(day: pd.DataFrame) -> None:
    bad = day[day["quality"] < 64]
    assert 0.0005 < len(bad) / len(day) < 0.02
    assert bad["tag"].nunique() > 10
    failed = bad[bad["quality"] == 16]
    assert failed["value"].isna().all()
    held = bad[bad["quality"] == 20]
    assert held["value"].notna().all()
    assert (day[day["quality"] == 192].groupby("tag")["us"].max() > END - 120 * SECOND).all()


def test_things_go_wrong_now_and_then(day: pd.DataFrame) -> None:
    assert any((pen(day, f"brewing/{line}/feed_pump/state") == 3).any() for line in LINES)
    assert any((pen(day, f"brewing/{line}/reactor1/high_temperature_alarm") == 1).any() for line in LINES)


def test_a_filler_makes_good_bottles_while_it_runs_and_no_faster_than_it_can(day: pd.DataFrame) -> None:
    for line in LINES:
        at = f"packaging/{line}/filler"
        state, total, good = (pen(day, f"{at}/{name}") for name in ("state", "total", "good"))
        assert set(state.unique()) == {0, 1, 2, 3, 4}
        assert (total.diff().dropna() >= 0).all()
        assert (good.diff().dropna() >= 0).all()
        made, passed = total.iloc[-1] - total.iloc[0], good.iloc[-1] - good.iloc[0]
        running = state.reindex(total.index, method="ffill") == RUNNING
        run_s = running.sum()
        ideal = pen(day, f"{at}/ideal_cycle_time").iloc[-1]
        availability, performance, quality = run_s / len(total), made * ideal / run_s, passed / made
        assert 0.6 < availability < 0.95
        assert 0.7 < performance < 1
        assert 0.9 < quality < 0.995
        # it comes to rest within seconds
        at_rest = ~(running.rolling(20, min_periods=1).max() > 0)
        assert total.diff()[at_rest].sum() == 0
