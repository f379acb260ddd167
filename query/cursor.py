"""Cursors: where a page of a range ended, as a text that the client hands back for the next page.

A cursor names the last row that was delivered, by the order of every range: numeric tags before text tags, then tag_id, then ts. Nothing is kept on the server, so a
cursor holds for any server on the database, however late. Each page is read in a snapshot of its own: what stood all the while comes once, and what is written
meanwhile comes if it lies behind the cursor.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from historian.query.expressions.pens import MAX_PENS
from historian.query.range_query import RangeQuery
from historian.query.times import EARLIEST, LATEST
from historian.schema.errors import BadInput
from historian.schema.samples import Samples

# version, whether the tag is a text tag, tag_id, ts, taken, now, digest
_WIRE = struct.Struct("<B?iqIq8s")
_VERSION = 1

#: modes whose rows depend on the whole span: a page of theirs begins by reading the tag again
_WHOLE = frozenset({"auto", "minmax", "m4", "lttb"})


@dataclass(frozen=True, slots=True)
class Place:
    """Behind a row of a range: tag `tag_id`, of kind text or not, at `ts` (µs), of whose rows at that instant `taken` have been delivered."""

    text: bool
    tag_id: int
    ts: int
    taken: int = 1

    def after(self, samples: Samples, *, text: bool) -> Place:
        """The place behind these samples, which came next; they are at least one."""
        tag_id, ts = int(samples.tag_id[-1]), int(samples.ts[-1])
        others = np.flatnonzero((samples.tag_id != tag_id) | (samples.ts != ts))
        taken = len(samples) - (int(others[-1]) + 1 if len(others) else 0)
        if not len(others) and (tag_id, ts) == (self.tag_id, self.ts):
            taken += self.taken
        return Place(text, tag_id, ts, taken)

    def rest(self, query: RangeQuery) -> Iterator[tuple[RangeQuery, bool]]:
        """The queries that make up what of `query` lies behind this place, and for each whether its first rows may lie before it, as `behind` puts right."""
        mine = [tag for tag in query.tags if tag.tag_id == self.tag_id]
        if mine:
            start, at = query.start, query.at
            if at:
                at = tuple(us for us in at if us >= self.ts)
                start = at[0] if at else query.end
            elif query.mode == "raw" or (query.interval is not None and query.mode not in _WHOLE):
                start = max(start, self.ts)
            # the rows that are left out must not count
            limit = None if query.limit is None else query.limit + self.taken + 1
            if at or not query.at:
                yield replace(query, tags=mine, start=start, at=at, limit=limit), True
        later = [tag for tag in query.tags if (tag.kind == "text", tag.tag_id) > (self.text, self.tag_id)]
        if later:
            yield replace(query, tags=later), False

    async def behind(self, chunks: AsyncIterator[Samples]) -> AsyncIterator[Samples]:
        """Those rows that lie behind this place, of the first query of `rest`."""
        left = self.taken
        async for samples in chunks:
            first, last = (int(np.searchsorted(samples.ts, self.ts, side)) for side in ("left", "right"))
            delivered = min(left, last - first)
            left -= delivered
            if first + delivered < len(samples):
                yield samples.slice(first + delivered, len(samples))


#: before all rows
BEGINNING = Place(False, -1, 0, 0)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place, and the question that it is a place in: `now` (µs) is the instant that relative times of the first page were counted from."""

    place: Place
    now: int
    digest: bytes

    def encode(self) -> str:
        """As text, of letters that need no escaping in a URL."""
        place = self.place
        wire = _WIRE.pack(_VERSION, place.text, place.tag_id, place.ts, place.taken, self.now, self.digest)
        return base64.urlsafe_b64encode(wire).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str, digest: bytes) -> Cursor:
        """The cursor of a question with this digest. Raises BadInput."""
        try:
            wire = base64.b64decode(text[:200] + "=" * (-len(text[:200]) % 4), altchars=b"-_", validate=True)
            version, is_text, tag_id, ts, taken, now, found = _WIRE.unpack(wire)
        except (binascii.Error, struct.error, ValueError):
            raise BadInput("this is no cursor: give one as it came in the answer before, or none for the first page") from None
        # calculated pens have the ids below zero
        if version != _VERSION or not EARLIEST <= now <= LATEST or tag_id < -MAX_PENS:
            raise BadInput("this cursor is none of this version of the historian: begin again without it")
        if found != digest:
            raise BadInput("this cursor belongs to another question: only limit, format and timeout may differ from page to page")
        return cls(Place(is_text, tag_id, ts, taken), now, found)


def digest_of(parameters: Iterable[tuple[str, str]]) -> bytes:
    """What tells questions apart: of their parameters, in any order."""
    told = hashlib.blake2b(digest_size=8)
    for name, value in sorted(set(parameters)):
        for part in (name, value):
            raw = part.encode(errors="surrogatepass")
            told.update(len(raw).to_bytes(4, "little") + raw)
    return told.digest()
