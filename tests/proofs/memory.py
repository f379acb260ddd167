"""How much memory a process has over a time, in which it is asked for ever more."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import psutil

_MB = 1 << 20
_EVERY_S = 0.25


def resident_while(pids: Mapping[str, int], seconds: float, check: Callable[[], None]) -> dict[str, list[int]]:
    """Resident bytes of the processes by their names, four times a second. `check` is called as often."""
    processes = {name: psutil.Process(pid) for name, pid in pids.items()}
    found: dict[str, list[int]] = {name: [] for name in pids}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, process in processes.items():
            found[name].append(process.memory_info().rss)
        check()
        time.sleep(_EVERY_S)
    return found


def assert_bounded(found: Mapping[str, list[int]], *, settle_s: float, growth: int) -> None:
    """After `settle_s` no process grows by more than `growth` bytes."""
    for name, series in found.items():
        settled = series[int(settle_s / _EVERY_S) :]
        assert settled, "the time was too short"
        print(
            f"{name}: {series[0] // _MB} MB before, {settled[0] // _MB} MB after {settle_s:.0f} s, {max(settled) // _MB} MB at most after that"
        )
        assert max(settled) - settled[0] < growth, f"{name} grows: {[size // _MB for size in series]} MB"
