"""The newest time of each tag in a backlog: what tells which live samples may overtake it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from historian.ingest.path_samples import PathSamples

_NEVER = int(np.iinfo(np.int64).min)


class Newest:
    """One number a tag. It only grows, until `clear`."""

    def __init__(self) -> None:
        self._us: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._us)

    def get(self, path: str) -> int | None:
        return self._us.get(path)

    def note(self, samples: PathSamples) -> None:
        """These samples are in the backlog."""
        latest = np.full(len(samples.paths), _NEVER)
        np.maximum.at(latest, samples.tag, samples.ts)
        for path, us in zip(samples.paths, latest.tolist(), strict=True):
            if us > self._us.get(path, _NEVER):
                self._us[path] = us

    def behind(self, samples: PathSamples) -> npt.NDArray[np.bool_]:
        """bool[n]: the rows at or before the newest time of their tag."""
        if not self._us or not len(samples):
            return np.zeros(len(samples), np.bool_)
        known = np.fromiter((self._us.get(path, _NEVER) for path in samples.paths), np.int64, len(samples.paths))
        # nothing known is before every time, also before the earliest
        return np.asarray((samples.ts <= known[samples.tag]) & (known[samples.tag] > _NEVER), np.bool_)

    def clear(self) -> None:
        self._us.clear()
