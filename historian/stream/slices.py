"""What follows a position of a durable cursor, read from the ledger: slice by slice, each up to a position that is exact.

Promise. A slice has every transaction that its snapshot sees and the position before it does not, or those of them below a cut; each once. Of two transactions that wrote
the same (tag, ts), the later to commit comes later, in the same slice or in a later one.

Why a cut is safe. A transaction draws its ledger position, by which commits of a tag are ordered, long after its xid: behind a long one with a low xid, short ones with
higher xids have lower positions. A cut is made only where all positions before it are lower than all behind it. Those that have not been looked at
can be left out of this: there are more transactions between than run at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from historian.schema import cursors, ledger
from historian.schema.connection import Connection
from historian.schema.cursors import Following
from historian.schema.samples import Samples
from historian.schema.visibility import VisibilitySnapshot

#: transactions that are looked at for one slice; of them, as many at the end are there only to be compared with
LOOKED_AT = 6144
AHEAD = 2048
#: a slice ends at the next cut once it has so much
SLICE_BYTES = 8 << 20
SLICE_ROWS = 500_000
#: contents fetched at once
_FETCHED_AT_ONCE = 16
#: contents that are decoded in a thread
_LARGE = 64 << 10


@dataclass(frozen=True, slots=True)
class Slice:
    """Samples in the order of their commits, and the position behind them. `more`: it ends at a cut."""

    samples: list[Samples]
    position: VisibilitySnapshot
    more: bool


def cuts(found: Sequence[Following], *, whole: bool) -> list[int]:
    """How many transactions, by xid, can be taken by themselves: after them only ones with higher positions follow. `whole`: nothing follows `found`."""
    if not found:
        return []
    position = np.array([each.position for each in found], np.int64)
    highest = np.maximum.accumulate(position)
    lowest_behind = np.append(np.minimum.accumulate(position[::-1])[::-1][1:], np.iinfo(np.int64).max)
    allowed = np.flatnonzero(highest < lowest_behind) + 1
    return [int(n) for n in allowed if whole or n <= len(found) - AHEAD]


async def next_slice(conn: Connection, since: VisibilitySnapshot, seen: VisibilitySnapshot, pick: Callable[[Samples], Samples]) -> Slice:
    """What comes behind `since`. `seen` is the snapshot of the transaction that runs on this connection; `pick` leaves the rows that are wanted."""
    limit = LOOKED_AT
    while True:
        found = await cursors.following(conn, since, limit)
        whole = len(found) < limit
        ends = cuts(found, whole=whole)
        if ends or not found:
            break
        # one transaction that took as long as thousands of others
        limit *= 2
    taken: list[tuple[int, Samples]] = []
    read, held, rows = 0, 0, 0
    for end in ends:
        while read < end:
            group = found[read : min(read + _FETCHED_AT_ONCE, end)]
            content = await cursors.contents(conn, [each.xid for each in group])
            size = sum(each.bytes for each in group)
            if size > _LARGE:
                picked = await asyncio.to_thread(_decoded, group, content, pick)
            else:
                picked = _decoded(group, content, pick)
            taken += picked
            read += len(group)
            held += size
            rows += sum(len(samples) for _, samples in picked)
        if (held >= SLICE_BYTES or rows >= SLICE_ROWS) and end < len(found):
            break
    samples = [samples for _, samples in sorted(taken, key=lambda each: each[0])]
    if read == len(found) and whole:
        return Slice(samples, seen, more=False)
    return Slice(samples, since.up_to(found[read].xid, seen), more=True)


def _decoded(group: Sequence[Following], content: dict[int, bytes], pick: Callable[[Samples], Samples]) -> list[tuple[int, Samples]]:
    picked = ((each.position, pick(ledger.decode_content(content[each.xid]))) for each in group)
    return [(position, samples) for position, samples in picked if len(samples)]
