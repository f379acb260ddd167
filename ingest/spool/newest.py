"""The newest time of each tag in a backlog: what tells which live samples may overtake it.

Beside a segment that is no longer written stands a file with its newest times, so that a spool of a gigabyte is opened without decoding all of it. The file is a
convenience: where it is not there, or not whole, the segment itself is read.
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson

from historian.ingest.path_samples import PathSamples
from historian.ingest.spool.files import write_whole

SUFFIX = ".newest"
_NEVER = int(np.iinfo(np.int64).min)


class Newest:
    """One number a tag. It only grows, until `clear`."""

    def __init__(self, us: dict[str, int] | None = None) -> None:
        self._us = us if us is not None else {}

    def __len__(self) -> int:
        return len(self._us)

    def get(self, path: str) -> int | None:
        return self._us.get(path)

    def note(self, samples: PathSamples) -> None:
        """These samples are in the backlog."""
        latest = np.full(len(samples.paths), _NEVER)
        np.maximum.at(latest, samples.tag, samples.ts)
        self._add(dict(zip(samples.paths, latest.tolist(), strict=True)))

    def merge(self, other: Newest) -> None:
        self._add(other._us)

    def _add(self, more: dict[str, int]) -> None:
        for path, us in more.items():
            if us > self._us.get(path, _NEVER):
                self._us[path] = us

    def behind(self, samples: PathSamples) -> npt.NDArray[np.bool_]:
        """bool[n]: the rows at or before the newest time of their tag."""
        if not self._us or not len(samples):
            return np.zeros(len(samples), np.bool_)
        known = np.fromiter((self._us.get(path, _NEVER) for path in samples.paths), np.int64, len(samples.paths))[samples.tag]
        # what is not known is before every time, also before the earliest
        return np.asarray((samples.ts <= known) & (known > _NEVER), np.bool_)

    def clear(self) -> None:
        self._us.clear()

    def save(self, segment: Path, identity: bytes) -> None:
        """Beside its segment; does nothing where that cannot be written."""
        content = orjson.dumps({"segment": identity.hex(), "newest": self._us})
        with suppress(OSError):
            write_whole(segment.with_suffix(SUFFIX), b"%08x\n%s" % (zlib.crc32(content), content), durable=False)


def saved_newest(segment: Path, identity: bytes | None) -> Newest | None:
    """What was saved for the segment; None if that is not there, not whole, or about another."""
    try:
        check, _, content = segment.with_suffix(SUFFIX).read_bytes().partition(b"\n")
        if check != b"%08x" % zlib.crc32(content):
            return None
        document = orjson.loads(content)
    except (OSError, ValueError):
        return None
    return Newest(document["newest"]) if identity is not None and document["segment"] == identity.hex() else None


def forget_saved(segment: Path) -> None:
    """The segment is done."""
    with suppress(OSError):
        segment.with_suffix(SUFFIX).unlink(missing_ok=True)
