"""How far each node's samples are safe, over restarts: where a history has to be read from.

A node's checkpoint is a source timestamp up to which nothing is missing. It moves with settled samples only: those of the subscription once the past before them has been
filled (or cannot be), and those of a history as they come. While a gap is open, the checkpoint stands before it.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson

from historian.ingest.sources.source import Settled
from historian.schema.samples import Int64s

log = logging.getLogger(__name__)

FILE = "checkpoint.json"
#: no checkpoint: a node that has never been seen
NEVER = -(2**62)


class Track:
    """Samples under way, in the order in which they were handed over; `advance(slots, ts)` is called for those before which all is settled."""

    def __init__(self, advance: Callable[[Int64s, Int64s], None]) -> None:
        self._advance = advance
        self._open: deque[_Parcel] = deque()
        self._at_end: Callable[[], None] | None = None

    def add(self, slots: Int64s, ts: Int64s) -> Settled:
        """Samples that are about to be handed over; what is returned says that they are settled."""
        parcel = _Parcel(slots, ts)
        self._open.append(parcel)

        def settled() -> None:
            parcel.settled = True
            self._go_on()

        return settled

    def finish(self, at_end: Callable[[], None]) -> None:
        """No more will come: call this once all is settled."""
        self._at_end = at_end
        self._go_on()

    def _go_on(self) -> None:
        while self._open and self._open[0].settled:
            parcel = self._open.popleft()
            self._advance(parcel.slots, parcel.ts)
        if not self._open and self._at_end is not None:
            at_end, self._at_end = self._at_end, None
            at_end()


class _Parcel:
    __slots__ = ("settled", "slots", "ts")

    def __init__(self, slots: Int64s, ts: Int64s) -> None:
        self.slots, self.ts, self.settled = slots, ts, False


class Checkpoints:
    """The checkpoints of one source, in memory by slot and in a file by the path of the tag.

    A slot is a tag's number for the life of this object, over connections. Gaps belong to a connection: `reconnect` makes one of all that are open in a slot.
    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / FILE
        self._slots: dict[str, int] = {}
        self._paths: list[str] = []
        self._live = np.empty(0, np.int64)
        self._filled = np.empty(0, np.int64)
        self._gaps = np.empty(0, np.int32)
        self._epoch = 0
        self._dirty = False
        self.track = Track(self._advance_live)
        self._load()

    def _load(self) -> None:
        try:
            content = orjson.loads(self._file.read_bytes())
            nodes = {path: ts for path, ts in content["nodes"].items() if isinstance(path, str) and isinstance(ts, int) and abs(ts) < 2**62}
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("the checkpoint %s cannot be read (%s): no history is read for the time before this start", self._file, error)
            return
        slots = self.slots(list(nodes))
        self._live[slots] = np.fromiter(nodes.values(), np.int64, len(nodes))

    def slots(self, paths: list[str]) -> Int64s:
        """The slots of these tags, int64[n]."""
        new = [path for path in paths if path not in self._slots]
        for path in new:
            self._slots[path] = len(self._paths)
            self._paths.append(path)
        if new:
            grown = np.full(len(self._paths) - len(self._live), NEVER, np.int64)
            self._live = np.concatenate([self._live, grown])
            self._filled = np.concatenate([self._filled, grown])
            self._gaps = np.concatenate([self._gaps, np.zeros(len(grown), np.int32)])
        return np.fromiter((self._slots[path] for path in paths), np.int64, len(paths))

    def positions(self) -> Int64s:
        """The checkpoint of every slot, µs; NEVER where there is none."""
        return np.where(self._gaps > 0, self._filled, np.maximum(self._live, self._filled))

    def reconnect(self, slots: Int64s, start: int) -> Int64s:
        """A new connection takes these slots: a gap is open in each, from its checkpoint on, or from `start` where it has none. Returns where each begins."""
        positions = self.positions()
        self._filled = np.maximum(self._filled, positions)
        self._filled[slots] = np.where(positions[slots] == NEVER, start, positions[slots])
        # those of slots that this connection does not take stay open for the next that does
        self._gaps = np.minimum(self._gaps, 1)
        self._gaps[slots] = 1
        self._epoch += 1
        return self._filled[slots]

    def begin(self, slots: Int64s, ts: Int64s) -> None:
        """The first samples that are ever seen of these slots: nobody asks for what was before them."""
        self._filled[slots] = ts - 1
        self._dirty = True

    def open_gap(self, slot: int) -> None:
        """Samples of this slot are missing after what has been handed over: its checkpoint stays where it is."""
        if self._gaps[slot] == 0:
            self._filled[slot] = max(self._live[slot], self._filled[slot])
        self._gaps[slot] += 1

    def closer(self, slots: Int64s) -> Callable[[], None]:
        """What closes one gap in each of these slots, of this connection: without effect after the next `reconnect`."""
        epoch = self._epoch

        def close() -> None:
            if epoch == self._epoch:
                self._gaps[slots] -= 1
                self._dirty = True

        return close

    def filling(self) -> Track:
        """For a history that closes the first gap of its slots, from the checkpoint on: they move with it."""
        epoch = self._epoch

        def advance(slots: Int64s, ts: Int64s) -> None:
            if epoch == self._epoch:
                np.maximum.at(self._filled, slots, ts)
                self._dirty = True

        return Track(advance)

    @staticmethod
    def passing() -> Track:
        """For a history of a later gap: its samples move nothing before it is closed."""
        return Track(lambda slots, ts: None)

    def _advance_live(self, slots: Int64s, ts: Int64s) -> None:
        np.maximum.at(self._live, slots, ts)
        self._dirty = True

    def content(self) -> bytes | None:
        """What the file should hold; None if that has not changed since this was last asked."""
        if not self._dirty:
            return None
        self._dirty = False
        positions = self.positions()
        known = np.flatnonzero(positions != NEVER)
        return orjson.dumps(
            {"version": 1, "nodes": {self._paths[slot]: ts for slot, ts in zip(known.tolist(), positions[known].tolist(), strict=True)}}
        )

    def write(self, content: bytes) -> None:
        """Put this into the file, whole or not at all. May run in a thread. Raises OSError."""
        part = self._file.with_name(f".{FILE}.part")
        with part.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        part.replace(self._file)

    def failed(self) -> None:
        """What `content` gave was not written."""
        self._dirty = True
