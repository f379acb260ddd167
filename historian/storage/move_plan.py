"""The slices of a move: stretches of time of about a million samples, each with its count and checksum, found by reading the source once.

On plain PostgreSQL a partition has no index by time, and reading it whole for each slice would take for ever. So it is read piece by piece as it lies on
disk, and which times a piece has is kept: a slice is then read from the pieces that have some of it. Samples lie about in the order in which they came, so
that few pieces are read twice.
"""

from __future__ import annotations

import bisect
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import numpy as np

from historian.query.times import format_time
from historian.schema.connection import Connection
from historian.storage.move_tables import MODULUS, SAMPLE_COLUMNS, SAMPLE_HASH

#: of a slice, about: it is cut at the next boundary of bins
SLICE_SAMPLES = 1_000_000
#: pages of 8 KB of a piece: some 300 000 samples
_PIECE_PAGES = 2048
#: a slice that lies in more pieces than this is read in one go from the first to the last of them
_MOST_PIECES = 64

_S = 1_000_000
_DAY = 86_400 * _S

_LEAVES = """
SELECT format('%I.%I', n.nspname, c.relname) AS name, pg_relation_size(c.oid) / current_setting('block_size')::int8 AS pages
FROM pg_partition_tree('historian.sample') t JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.isleaf AND t.relid <> 'historian.sample'::regclass ORDER BY c.relname
"""
_CHUNKS = """
SELECT range_start, range_end FROM timescaledb_information.chunks
WHERE hypertable_schema = 'historian' AND hypertable_name = 'sample' ORDER BY range_start
"""
_BINS = f"""
SELECT date_bin($1, ts, timestamptz '2000-01-01 00:00:00+00') AS bin, count(*) AS samples, mod(sum({SAMPLE_HASH}), {MODULUS}) AS checksum
FROM {{source}} WHERE {{condition}} GROUP BY 1
"""  # noqa: S608
_ESTIMATE = """
SELECT COALESCE(max(c.reltuples), 0)::float8 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'historian.sample'::regclass
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """Pages [first, last) of a relation, with samples in [lo, hi)."""

    relation: str
    first: int
    last: int
    lo: int
    hi: int


@dataclass(frozen=True, slots=True)
class Slice:
    """Samples in [lo, hi) (µs). `days` (since 1970) have some of them. `pieces` are where the source has them; empty where it finds them by time."""

    lo: int
    hi: int
    samples: int
    checksum: int
    days: tuple[int, ...] = ()
    pieces: tuple[Piece, ...] = ()
    #: it was moved before, and the source has changed since
    again: bool = False

    def __str__(self) -> str:
        return f"[{format_time(self.lo)}, {format_time(self.hi)})"

    def select(self) -> str:
        """SQL for its samples, ordered by (tag_id, ts), as the columnstore wants them."""
        columns, when = ", ".join(SAMPLE_COLUMNS), between(self.lo, self.hi)
        if not self.pieces:
            return f"SELECT {columns} FROM historian.sample WHERE {when} ORDER BY tag_id, ts"  # noqa: S608
        parts = (
            f"SELECT {columns} FROM {piece.relation} WHERE {_pages(piece.first, piece.last)} AND {when}"  # noqa: S608
            for piece in _joined(self.pieces)
        )
        return f"{' UNION ALL '.join(parts)} ORDER BY tag_id, ts"


def between(lo: int | None, hi: int | None) -> str:
    """The condition for ts in [lo, hi) (µs), None without end. COPY takes no parameters; what stands in the text are times made from integers."""
    conditions = [f"ts >= '{format_time(lo)}'"] if lo is not None else []
    if hi is not None:
        conditions.append(f"ts < '{format_time(hi)}'")
    return " AND ".join(conditions) or "true"


def _pages(first: int, last: int) -> str:
    return f"ctid >= '({int(first)},0)'::tid AND ctid < '({int(last)},0)'::tid"


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Neighbours on disk in one; all of a relation, if there are too many."""
    found: list[Piece] = []
    for piece in sorted(pieces, key=lambda p: (p.relation, p.first)):
        if found and found[-1].relation == piece.relation and (found[-1].last == piece.first or len(pieces) > _MOST_PIECES):
            found[-1] = replace(found[-1], last=piece.last)
        else:
            found.append(piece)
    return found


async def bin_seconds(conn: Connection) -> int:
    """How finely time is cut. A minute has less than a slice's samples below 16 000 a second; a month of more than that has so many."""
    return 1 if await conn.fetchval(_ESTIMATE) > 2_000_000_000 else 60


async def read_plan(conn: Connection, bin_s: int, moved: Sequence[Slice], read: Callable[[float], None]) -> list[Slice]:
    """All of the source's samples in slices, ordered by time, as they stand in the transaction that is open on `conn`.

    `moved` are slices of an earlier run: they come as they are where the source still has the very same, and else with `again`. `read` is told which fraction
    of the source has been read.
    """
    plan = _Plan(bin_s * _S, sorted(moved, key=lambda one: one.lo))
    async for found, pieces in _parts(conn, bin_s, read):
        plan.add(found, pieces)
    return plan.finish()


_Bins = dict[int, tuple[int, int]]


async def _parts(conn: Connection, bin_s: int, read: Callable[[float], None]) -> AsyncIterator[tuple[_Bins, list[Piece]]]:
    """For each partition or chunk: samples and checksum by bin, and the pieces in which they lie."""
    width = timedelta(seconds=bin_s)
    leaves = await conn.fetch(_LEAVES)
    if leaves or not await conn.fetchval("SELECT to_regclass('timescaledb_information.chunks') IS NOT NULL"):
        total, seen = sum(leaf["pages"] for leaf in leaves) or 1, 0
        for leaf in leaves:
            bins: _Bins = {}
            pieces = []
            for first in range(0, leaf["pages"], _PIECE_PAGES):
                last = min(first + _PIECE_PAGES, leaf["pages"])
                rows = await conn.fetch(_BINS.format(source=leaf["name"], condition=_pages(first, last)), width)
                if rows:
                    _add(bins, rows)
                    stamps = [row["bin"] for row in rows]
                    pieces.append(Piece(leaf["name"], first, last, min(stamps), max(stamps) + bin_s * _S))
                seen += last - first
                read(seen / total)
            if bins:
                yield bins, pieces
        return
    chunks = await conn.fetch(_CHUNKS)
    for n, chunk in enumerate(chunks):
        bins = {}
        condition = between(chunk["range_start"], chunk["range_end"])
        _add(bins, await conn.fetch(_BINS.format(source="historian.sample", condition=condition), width))
        read((n + 1) / len(chunks))
        if bins:
            yield bins, []


def _add(bins: _Bins, rows: Sequence[dict[str, int]]) -> None:
    for row in rows:
        samples, checksum = bins.get(row["bin"], (0, 0))
        bins[row["bin"]] = samples + row["samples"], (checksum + int(row["checksum"])) % MODULUS


@dataclass(slots=True)
class _Open:
    """A slice that still grows."""

    lo: int
    hi: int
    samples: int = 0
    checksum: int = 0
    days: set[int] = field(default_factory=set)

    def add(self, at: int, width: int, samples: int, checksum: int) -> None:
        self.hi = max(self.hi, at + width)
        self.samples += samples
        self.checksum = (self.checksum + checksum) % MODULUS
        self.days.update(range(at // _DAY, (at + width - 1) // _DAY + 1))

    def closed(self, pieces: Sequence[Piece], *, again: bool = False) -> Slice:
        inside = tuple(piece for piece in pieces if piece.lo < self.hi and self.lo < piece.hi)
        return Slice(self.lo, self.hi, self.samples, self.checksum, tuple(sorted(self.days)), inside, again)


class _Plan:
    def __init__(self, width: int, moved: list[Slice]) -> None:
        self._width = width
        self._moved = moved
        self._starts = [one.lo for one in moved]
        self._found: dict[int, tuple[_Open, list[Piece]]] = {}
        self._slices: list[Slice] = []

    def add(self, bins: _Bins, pieces: list[Piece]) -> None:
        """All bins of a partition or chunk. A slice has none of another."""
        grown: _Open | None = None
        grown_in: tuple[int, int] | None = None
        for at in sorted(bins):
            before = bisect.bisect_right(self._starts, at) - 1
            if before >= 0 and at < self._moved[before].hi:
                one = self._moved[before]
                if before not in self._found:
                    self._found[before] = _Open(one.lo, one.hi), []
                earlier, known = self._found[before]
                earlier.add(at, self._width, *bins[at])
                known += [piece for piece in pieces if piece.lo < one.hi and one.lo < piece.hi and piece not in known]
                continue
            # between the same two slices that were moved, and in the same month: the plain engine's partition
            where = before, month_start(at)
            if grown is not None and (where != grown_in or grown.samples + bins[at][0] > SLICE_SAMPLES):
                self._slices.append(grown.closed(pieces))
                grown = None
            if grown is None:
                grown, grown_in = _Open(at, at), where
            grown.add(at, self._width, *bins[at])
        if grown is not None:
            self._slices.append(grown.closed(pieces))

    def finish(self) -> list[Slice]:
        for n, one in enumerate(self._moved):
            found, pieces = self._found.get(n, (_Open(one.lo, one.hi), []))
            same = (found.samples, found.checksum) == (one.samples, one.checksum)
            self._slices.append(replace(one, days=tuple(sorted(found.days))) if same else found.closed(pieces, again=True))
        return sorted(self._slices, key=lambda s: s.lo)


def month_start(us: int) -> int:
    """The beginning of the month (UTC) that a time lies in."""
    return int(np.datetime64(us, "us").astype("datetime64[M]").astype("datetime64[us]").astype(np.int64))
