"""How much memory a process has over a time, in which it is asked for ever more."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

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


def assert_bounded(found: Mapping[str, list[int]], *, settle_s: float, growth: int, swing: int) -> None:
    """After `settle_s` no process grows by more than `growth` bytes from the first quarter to the last, by their medians, or ever has `swing` more than it had then:
    requests that are refused take some while they are read."""
    for name, series in found.items():
        settled = series[int(settle_s / _EVERY_S) :]
        quarter = len(settled) // 4
        assert quarter, "the time was too short"
        first, last = median(settled[:quarter]), median(settled[-quarter:])
        told = f"{name}: {series[0] // _MB} MB before, {first / _MB:.0f} MB after {settle_s:.0f} s, {last / _MB:.0f} MB at the end, {max(settled) // _MB} MB at most"
        print(told)
        assert last - first < growth, f"{told}: {[size // _MB for size in settled[:: len(settled) // 60 + 1]]}"
        assert max(settled) - first < swing, f"{told}: {[size // _MB for size in settled[:: len(settled) // 60 + 1]]}"
