"""What one commit, or some that came together, bring to all subscriptions of the same tags: picked once, and encoded once in each form that one of them wants.

Forms are the payloads of docs/protocol.md: Arrow, Arrow in zstd, Arrow in zstd that refers to an earlier payload, and JSON. Headers are each subscription's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from historian.query.formats import json_samples
from historian.schema.catalogue import Tag
from historian.schema.samples import Samples
from historian.stream.compression import MAX_REFERENCE, Reference, compress
from historian.stream.entry import Entry
from historian.stream.record_batches import record_batch

#: ticks after which a new payload is referred to: timestamps move away from it
_REFERENCE_TICKS = 64


@dataclass(frozen=True, slots=True)
class Payload:
    """Of a data frame, behind its header."""

    body: bytes
    #: one zstd frame, and not the Arrow messages themselves
    zstd: bool = False
    #: that has the reference as its dictionary
    refers: bool = False


class References:
    """Which payload the ticks of some tags refer to. Who does not have it takes them without, and has the next tick made one."""

    __slots__ = ("_current", "_ticks", "_wanted")

    def __init__(self) -> None:
        self._current: Reference | None = None
        self._ticks = 0
        self._wanted = False

    @property
    def current(self) -> Reference | None:
        return self._current

    def want(self) -> None:
        """Somebody has come who does not have the current one."""
        self._wanted = True

    def renewed(self, payload: bytes) -> Reference | None:
        """The reference that this tick's payload becomes, if it is time for that."""
        self._ticks += 1
        if (self._current is not None and not self._wanted and self._ticks < _REFERENCE_TICKS) or len(payload) > MAX_REFERENCE:
            return None
        self._ticks = 0
        self._wanted = False
        self._current = Reference(payload)
        return self._current


class Tick:
    """`samples` of some entries of the bus for one set of tags, each (tag_id, ts) once; `first_ts` and `last_ts` are bounds of their timestamps.

    Payloads are made when they are first asked for.
    """

    __slots__ = (
        "_alone",
        "_arrow",
        "_json",
        "_kept",
        "_references",
        "_referring",
        "_refers_to",
        "cursor",
        "entries",
        "first_ts",
        "last_ts",
        "samples",
    )

    def __init__(self, entries: Sequence[Entry], samples: Samples, first_ts: int, last_ts: int, references: References) -> None:
        self.entries = entries
        self.cursor = entries[-1].cursor
        self.samples = samples
        self.first_ts = first_ts
        self.last_ts = last_ts
        self._references = references
        self._arrow: bytes | None = None
        self._alone: Payload | None = None
        self._json: bytes | None = None
        self._referring: Payload | None = None
        self._refers_to: Reference | None = None
        self._kept: Reference | None = None

    def arrow(self, schema: pa.Schema) -> Payload:
        return Payload(self._message(schema))

    def zstd(self, schema: pa.Schema) -> Payload:
        if self._alone is None:
            message = self._message(schema)
            smaller = compress(message)
            self._alone = Payload(message) if smaller is None else Payload(smaller, zstd=True)
        return self._alone

    def referring(self, schema: pa.Schema, reference: Reference | None) -> tuple[Payload, Reference | None]:
        """The payload for one who has `reference`, and the reference that he has to keep it as, if any."""
        if self._referring is None:
            message = self._message(schema)
            self._refers_to = self._references.current
            smaller = None if self._refers_to is None else self._refers_to.compress(message)
            self._referring = self.zstd(schema) if smaller is None else Payload(smaller, zstd=True, refers=True)
            self._kept = self._references.renewed(message)
        if self._referring.refers and reference is not self._refers_to:
            if self._kept is None:
                self._references.want()
            return self.zstd(schema), self._kept
        return self._referring, self._kept

    def json(self, tags: Mapping[int, Tag]) -> bytes:
        """The objects of `samples` in a `data` message, without the brackets."""
        if self._json is None:
            self._json = json_samples(self.samples, tags)
        return self._json

    def _message(self, schema: pa.Schema) -> bytes:
        if self._arrow is None:
            self._arrow = record_batch(self.samples, schema)
        return self._arrow
