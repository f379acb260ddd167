"""A plant with history, for the tests of the archive: tags of every kind, a writer, and what a range query ought to give."""

from __future__ import annotations

import itertools
import math
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from historian.ingest.writer import Writer
from historian.query.boundaries import first_and_last_samples, samples_before, samples_from
from historian.query.range import RangeQuery, read_range
from historian.schema.catalogue import Catalogue, Tag, TagDefinition
from historian.schema.connection import Pool
from historian.schema.ledger import Batch
from historian.schema.samples import Samples, concat

DAY = 86_400_000_000
MINUTE = 60_000_000
#: midnight (UTC) of today, µs
TODAY = int(time.time()) // 86_400 * DAY

#: value, quality, text; values by their bits
Kept = tuple[bytes, int, str | None]


@dataclass
class Plant:
    """`model` is what was written last at each (tag_id, ts)."""

    pool: Pool
    tags: list[Tag]
    model: dict[tuple[int, int], Kept] = field(default_factory=dict)
    _seqs: Any = field(default_factory=itertools.count)

    @classmethod
    async def make(cls, pool: Pool, paths: dict[str, str]) -> Plant:
        tags = await Catalogue(pool).define([TagDefinition(path=path, kind=kind) for path, kind in paths.items()])  # type: ignore[arg-type]
        return cls(pool, tags)

    async def write(self, rows: list[tuple[int, int, float | str, int]]) -> None:
        """(position of the tag, ts, value or text, quality); the last of a key wins."""
        tag_id = np.array([self.tags[n].tag_id for n, *_ in rows], np.int32)
        text = [value if isinstance(value, str) else None for _, _, value, _ in rows]
        value = np.array([math.nan if isinstance(value, str) else value for _, _, value, _ in rows])
        samples = Samples(
            tag_id,
            np.array([ts for _, ts, _, _ in rows], np.int64),
            value,
            np.array([quality for *_, quality in rows], np.int16),
            pa.array(text, pa.string()) if any(piece is not None for piece in text) else None,
        )
        await self.store(samples)

    async def store(self, samples: Samples) -> None:
        await Writer(self.pool).write([Batch("plant", next(self._seqs), samples)])
        self.model.update(keyed(samples))

    async def read(self, start: int, end: int, tags: list[Tag] | None = None, limit: int | None = None) -> Samples:
        query = RangeQuery(tags=tags if tags is not None else self.tags, start=start, end=end, limit=limit)
        async with (
            self.pool.acquire() as conn,
            conn.transaction(isolation="repeatable_read", readonly=True),
            aclosing(read_range(conn, query)) as chunks,
        ):
            return concat([chunk async for chunk in chunks])

    async def check(self, start: int = 0, end: int = 2**52) -> None:
        """A range query gives the model, in order, each key once."""
        found = await self.read(start, end)
        text = np.isin(found.tag_id, [tag.tag_id for tag in self.tags if tag.kind == "text"])
        order = np.lexsort((found.ts, found.tag_id, text))
        assert (order == np.arange(len(found))).all(), "not in the order of tags and times"
        wanted = {key: kept for key, kept in self.model.items() if start <= key[1] < end}
        got = keyed(found)
        assert len(got) == len(found), "a sample is there twice"
        assert got.keys() == wanted.keys(), (len(got), len(wanted), sorted(got.keys() ^ wanted.keys())[:5])
        assert got == wanted

    async def check_boundaries(self, instant: int) -> None:
        """The samples on either side of an instant, and the first and last of the days before it."""
        edges = np.array([instant - 3 * DAY, instant - DAY, instant], np.int64)
        async with self.pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            before = keyed(await samples_before(conn, self.tags, instant))
            past = keyed(await samples_from(conn, self.tags, instant))
            ends: dict[tuple[int, int], Kept] = {}
            async for chunk in first_and_last_samples(conn, self.tags, edges):
                ends.update(keyed(chunk))
        wanted: dict[tuple[int, int], Kept] = {}
        for tag in self.tags:
            times = sorted(ts for tag_id, ts in self.model if tag_id == tag.tag_id)
            older, newer = [ts for ts in times if ts < instant], [ts for ts in times if ts >= instant]
            for found, some in ((before, older[-1:]), (past, newer[:1])):
                assert {key: kept for key, kept in found.items() if key[0] == tag.tag_id} == {
                    (tag.tag_id, ts): self.model[tag.tag_id, ts] for ts in some
                }
            for low, high in itertools.pairwise(edges.tolist()):
                inside = [ts for ts in times if low < ts <= high]
                wanted.update({(tag.tag_id, ts): self.model[tag.tag_id, ts] for ts in (*inside[:1], *inside[-1:])})
        assert ends == wanted


def keyed(samples: Samples) -> dict[tuple[int, int], Kept]:
    text = samples.text_or_nulls().to_pylist()
    bits = [value.tobytes() if not math.isnan(value) else b"nan" for value in samples.value]
    return {
        (int(tag), int(ts)): (value, int(quality), piece)
        for tag, ts, value, quality, piece in zip(samples.tag_id, samples.ts, bits, samples.quality, text, strict=True)
    }


def steady(dsn: str) -> None:
    """Have the jobs of TimescaleDB not run by themselves."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        if conn.execute("SELECT to_regclass('historian.rollup_turn')").fetchone() != (None,):
            if conn.execute("SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'historian.sample'::regclass").fetchone() == (
                False,
            ):
                pytest.skip("a server's role waits for the database's own job, a minute")
            conn.execute(
                "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs WHERE proc_name LIKE 'policy_%' OR proc_schema = 'historian'"
            )
