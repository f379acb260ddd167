"""A part of a subscription: tags that have one seam in common, and what of them waits to be sent.

The tags that a subscription opens with are one part. Those that a change adds are another, until their own backfill and seam are behind them; then they join the first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from historian.schema.catalogue import Tag
from historian.schema.samples import Samples, concat
from historian.schema.visibility import VisibilitySnapshot
from historian.stream.entry import Entry
from historian.stream.tick import Tick
from historian.stream.wanted import Wanted

#: sees nothing: what comes over the bus is all news
NOTHING = VisibilitySnapshot(0, 0, frozenset())


@dataclass(frozen=True, slots=True)
class Piece:
    """What is wanted of the notices `first` to `cursor` on the bus: see `historian.stream.wanted.Picked`. `arguments` are of the tags of calculated pens.

    `xid` is of the one notice that it is of, as long as a seam is to be asked; `tick`: it is all of its samples, as others have them.
    """

    first: int
    cursor: int
    xid: int
    ours: Samples
    born: Samples
    strangers: Samples
    arguments: Samples
    tick: Tick | None = None

    @classmethod
    def of_tick(cls, tick: Tick) -> Piece:
        """All of it. Only where no seam has anything to say."""
        return cls(tick.entries[0].cursor, tick.cursor, 0, tick.samples, _NONE, _NONE, _NONE, tick)

    @property
    def columns(self) -> tuple[Samples, ...]:
        return self.ours, self.born, self.strangers, self.arguments

    @property
    def nbytes(self) -> int:
        return sum(samples.nbytes for samples in self.columns)

    def __bool__(self) -> bool:
        return any(len(samples) for samples in self.columns)


class Part:
    """Takes entries of the bus, asks the seam about each as soon as there is one, and keeps what is wanted of them, in their order."""

    def __init__(self, wanted: Wanted, arguments: Callable[[Samples], Samples] | None = None) -> None:
        self.wanted = wanted
        self.seam: VisibilitySnapshot | None = None
        self.queue: deque[Piece] = deque()
        self.nbytes = 0
        self._arguments = arguments

    def offer(self, entry: Entry, known: Callable[[int], Tag | None]) -> list[Tag]:
        """Keep what is wanted. Returns the tags that were born with it, as far as they are known already."""
        piece, born = self.piece(entry, known)
        if piece:
            self.keep(piece)
        return born

    def keep(self, piece: Piece) -> None:
        """Let it wait behind the others."""
        if self.queue:
            # they will be joined: what has been encoded for others is not kept for that
            if self.queue[0].tick is not None:
                self.queue[0] = replace(self.queue[0], tick=None)
            piece = replace(piece, tick=None)
        self.queue.append(piece)
        self.nbytes += piece.nbytes

    def piece(self, entry: Entry, known: Callable[[int], Tag | None]) -> tuple[Piece, list[Tag]]:
        """What is wanted of an entry."""
        samples = entry.notice.samples
        picked = self.wanted.pick(samples)
        born: list[Tag] = []
        if len(picked.strangers):
            born = self.wanted.recognise(picked.strangers.tag_id, known)
            picked = self.wanted.pick(samples)
        arguments = _NONE if self._arguments is None else self._arguments(samples)
        piece = Piece(entry.cursor, entry.cursor, entry.notice.xid, picked.ours, picked.born, picked.strangers, arguments)
        return self._asked(piece), born

    def pass_seam(self, seam: VisibilitySnapshot) -> None:
        """From now on the seam is asked; about what is here, now."""
        self.seam = seam
        self._keep([self._asked(piece) for piece in self.queue])

    def strangers(self) -> npt.NDArray[np.int32]:
        """The tag_ids that wait to be recognised."""
        return np.unique(concat([piece.strangers for piece in self.queue]).tag_id)

    def recognise(self, tag_ids: npt.NDArray[np.int32], known: Callable[[int], Tag | None]) -> list[Tag]:
        """Say what these strangers are, now that the catalogue is fresh. Returns the tags that were born."""
        born = self.wanted.recognise(tag_ids, known, unknown=True)
        self._keep([self.without_strangers(piece) for piece in self.queue])
        return born

    def without_strangers(self, piece: Piece) -> Piece:
        """A piece, where strangers that have been recognised are none any more."""
        if not len(piece.strangers):
            return piece
        picked = self.wanted.pick(piece.strangers)
        return replace(piece, born=concat([piece.born, picked.born, picked.ours]), strangers=picked.strangers)

    def forget(self, tag_ids: npt.NDArray[np.int32]) -> None:
        """Let go of what waits of these tags."""

        def without(samples: Samples) -> Samples:
            return samples.take(~np.isin(samples.tag_id, tag_ids)) if len(samples) else samples

        self._keep([replace(piece, ours=without(piece.ours), born=without(piece.born), tick=None) for piece in self.queue])

    def take(self, most_rows: int | None = None) -> list[Piece]:
        """All that waits, or the first of it, until it is so many rows. It is the caller's then."""
        pieces: list[Piece] = []
        rows = 0
        while self.queue and (most_rows is None or rows < most_rows):
            piece = self.queue.popleft()
            self.nbytes -= piece.nbytes
            rows += len(piece.ours) + len(piece.born)
            pieces.append(piece)
        return pieces

    def _keep(self, pieces: Iterable[Piece]) -> None:
        self.queue = deque(piece for piece in pieces if piece)
        self.nbytes = sum(piece.nbytes for piece in self.queue)

    def _asked(self, piece: Piece) -> Piece:
        """Without what the backfill has read."""
        if self.seam is None or not self.seam.sees(piece.xid):
            return piece
        # the pens too have been read as of that snapshot
        return replace(piece, ours=_NONE, arguments=_NONE)


_NONE = Samples.empty()
