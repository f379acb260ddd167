"""Fixtures: tags and samples in the test's database, written as everything is, by the writer."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator

import pytest
from rollup_refresh import Refresh

from historian.ingest.writer import Writer
from historian.schema.catalogue import Catalogue, Kind, Tag, TagDefinition
from historian.schema.connection import Pool
from historian.schema.ledger import Batch
from historian.schema.samples import Samples

Store = Callable[[Samples], Awaitable[None]]
MakeTags = Callable[[dict[str, Kind]], Awaitable[list[Tag]]]


@pytest.fixture
async def store(pool: Pool) -> Store:
    """Stores samples, in batches of 500 000."""
    writer = Writer(pool)
    seqs = itertools.count()

    async def write(samples: Samples) -> None:
        for start in range(0, len(samples), 500_000):
            await writer.write([Batch("test", next(seqs), samples.slice(start, min(start + 500_000, len(samples))))])

    return write


@pytest.fixture
async def make_tags(pool: Pool) -> MakeTags:
    """Makes tags of these kinds; returns them in the order given."""

    async def make(kinds: dict[str, Kind]) -> list[Tag]:
        return await Catalogue(pool).define([TagDefinition(path=path, kind=kind) for path, kind in kinds.items()])

    return make


@pytest.fixture
def refresh(database_as_owner: str, database: str) -> Iterator[Refresh]:
    """As the owner of `database`: a server's role does not refresh TimescaleDB's aggregates."""
    made = Refresh(database_as_owner)
    with made.conn:
        yield made
