"""Raw samples by binary COPY: the rows are decoded as they come, and the server is not read faster than the chunks are taken.

The query goes through the tags one after the other (a lateral join), so that each is one walk along the index or the columnstore's segments, in order: nothing is
sorted, and the first rows come at once, however many tags and partitions there are. Measured against `tag_id = ANY(…) ORDER BY tag_id, ts` (1 000 tags, 2 M rows in
5 chunks or 2 partitions, PostgreSQL 18, TimescaleDB 2.29): 0.9 to 1.0 of its rate where the planner merges without a sort, and 1.6 of it where it sorts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence, Sized
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

from typing_extensions import Buffer

from historian.query import archive
from historian.query.times import format_time
from historian.schema.catalogue import Tag
from historian.schema.connection import Connection
from historian.schema.copy_binary import NUMERIC_SELECT, TEXT_SELECT, NumericDecoder, TextDecoder
from historian.schema.samples import Samples
from historian.schema.stored import Form, Stored, StoredNumbers, StoredTexts

Rows = TypeVar("Rows", bound=Sized)
_Made = TypeVar("_Made", bound=Sized, covariant=True)

# Index scans give the order that is asked for, and visit the pages of the heap, which lies in the order of time, one after the other just as a bitmap would.
# The planner does not know the latter, and would sort a tag's samples, on disk if they are many; or, in a plant of few tags, go through those of all tags in the order of
# time: TimescaleDB's aggregates have an index of the time alone (30 days of 8 tags: a third to an eighth of the time). (The look at the archive does the same.)
PLAN = "SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = off; SET LOCAL random_page_cost = 1.1"
_AS_BEFORE = "SET LOCAL enable_bitmapscan TO DEFAULT; SET LOCAL enable_seqscan TO DEFAULT; SET LOCAL random_page_cost TO DEFAULT"

# the first chunk is for who waits for the first byte: some rows of numbers, or bytes of texts
_FIRST_ROWS = 512
_FIRST_BYTES = 32 << 10

# chunks that wait between the connection and who takes them
_WAITING = 2

# A COPY that is nearly over when nobody wants more of it ends by itself: so much is taken and thrown away. Where it is cancelled in its very last moment, asyncpg (0.32)
# waits for ever for the end that it has seen already.
_LEFTOVER_BYTES = 256 << 10

# a server that is still looking for the next rows of a query that nobody wants is given so long to find them
_PATIENCE_S = 0.5


async def read_raw(conn: Connection, tags: Sequence[Tag], start: int, end: int, limit: int | None = None) -> AsyncGenerator[Samples, None]:
    """All samples of these tags in [start, end) (µs), of database and archive as one, at most `limit`: numeric tags first, then text tags, each group ordered by
    (tag_id, ts), 1 to MAX_ROWS a chunk.

    In the transaction that is open on `conn`, whose planner settings are changed until it ends. Closed before its end, it cancels the query, and with that fails the
    transaction. Raises the driver's errors: wrap it in `translated()`.
    """
    if start >= end or not tags:
        return
    archived = await archive.look(conn, start, end)
    for some, make in (
        ([tag for tag in tags if tag.kind != "text"], lambda: NumericDecoder(first_rows=_FIRST_ROWS)),
        ([tag for tag in tags if tag.kind == "text"], lambda: TextDecoder(_FIRST_BYTES)),
    ):
        if not some:
            continue
        decoder: NumericDecoder | TextDecoder = make()
        columns = NUMERIC_SELECT if isinstance(decoder, NumericDecoder) else TEXT_SELECT
        rows = copy(conn, _select([tag.tag_id for tag in some], start, end, columns, limit), decoder)
        form: Form = "number" if isinstance(decoder, NumericDecoder) else "text"
        if archived.of(form):
            rows = archive.merged(rows, archived.read(form, [tag.tag_id for tag in some], start, end), limit)
        async with aclosing(rows) as chunks:
            async for chunk in chunks:
                if limit is not None:
                    limit -= len(chunk)
                yield chunk
        if limit == 0:
            return


async def read_numbers(conn: Connection, tags: Sequence[Tag], spans: Sequence[tuple[int, int]]) -> AsyncGenerator[Samples, None]:
    """The same of numeric tags in several spans (µs), which are disjoint and ascending: span by span, each ordered by (tag_id, ts).

    However many spans there are, they are one query, where none has samples in the archive.
    """
    if not spans or not tags:
        return
    if len(spans) == 1 or (await archive.look(conn, spans[0][0], spans[-1][1])).of("number"):
        for start, end in spans:
            async with aclosing(read_raw(conn, tags, start, end)) as chunks:
                async for chunk in chunks:
                    yield chunk
        return
    ids = [tag.tag_id for tag in tags]
    # not one query for all spans: the planner would have to look at all partitions between them
    sql = " UNION ALL ".join(f"({_select(ids, start, end, NUMERIC_SELECT, None)})" for start, end in spans)
    async with aclosing(copy(conn, sql, NumericDecoder())) as chunks:
        async for chunk in chunks:
            yield chunk


def _select(tag_ids: Sequence[int], start: int, end: int, columns: str, limit: int | None) -> str:
    """COPY takes no parameters. What stands in the text are integers, and times made from integers."""
    ids = ",".join(str(int(tag_id)) for tag_id in sorted(set(tag_ids)))
    at_most = "" if limit is None else f" LIMIT {int(limit)}"
    return (
        f"SELECT s.* FROM unnest('{{{ids}}}'::int4[]) AS k (id) CROSS JOIN LATERAL ("  # noqa: S608
        f"SELECT {columns} FROM historian.sample WHERE tag_id = k.id AND ts >= '{format_time(start)}' AND ts < '{format_time(end)}' ORDER BY ts"
        f") AS s{at_most}"
    )


class _Abandoned(Exception):
    """Nobody takes what this COPY brings any more."""


class Decoder(Protocol[_Made]):
    """Takes a COPY in pieces; what it gives has a length."""

    def feed(self, data: Buffer) -> Iterator[_Made]: ...

    def finish(self) -> _Made: ...


async def copy_stored(conn: Connection, form: Form, tag_ids: Sequence[int], start: int, end: int) -> AsyncGenerator[Stored, None]:
    """What the database itself has of these tags in [start, end) (µs), as it is stored, ordered by (tag_id, ts). In the transaction that is open on `conn`."""
    columns, decoder = (NUMERIC_SELECT, StoredNumbers()) if form == "number" else (TEXT_SELECT, StoredTexts())
    await conn.execute(PLAN)
    async with aclosing(copy(conn, _select(tag_ids, start, end, columns, None), decoder)) as chunks:
        async for chunk in chunks:
            yield chunk
    await conn.execute(_AS_BEFORE)


async def copy(conn: Connection, sql: str, decoder: Decoder[Rows]) -> AsyncGenerator[Rows, None]:
    """What a COPY of this query brings, decoded. asyncpg hands its output to a callback: that runs in a task, and waits where nobody takes its chunks."""
    arrived: asyncio.Queue[Rows | None] = asyncio.Queue()
    room = asyncio.Semaphore(_WAITING)
    abandoned = asyncio.Event()
    leftover = 0

    async def take(data: bytes) -> None:
        nonlocal leftover
        if not abandoned.is_set():
            for rows in decoder.feed(data):
                await room.acquire()
                if abandoned.is_set():
                    break
                arrived.put_nowait(rows)
        if abandoned.is_set():
            leftover += len(data)
            if leftover > _LEFTOVER_BYTES:
                raise _Abandoned

    copying = asyncio.create_task(conn.copy_from_query(sql, output=take, format="binary"))
    copying.add_done_callback(lambda _: arrived.put_nowait(None))
    try:
        while (rows := await arrived.get()) is not None:
            room.release()
            yield rows
        await copying
        rows = decoder.finish()
        if len(rows):
            yield rows
    finally:
        abandoned.set()
        room.release()
        await _whatever_happens(_end(copying))


async def _whatever_happens(ending: Coroutine[Any, Any, None]) -> None:
    """Come to the end of this, also where the caller is cancelled meanwhile: a connection in the middle of a COPY is of no use to anybody."""
    task = asyncio.ensure_future(ending)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()


async def _end(copying: asyncio.Task[str]) -> None:
    """Have an abandoned COPY end: asyncpg then asks the server to cancel it, and the next statement on the connection waits until that is done.

    It does so reliably only when the callback raises, which it does with the next data. To cancel the task is the last resort: where data arrives in the
    same turn of the event loop, asyncpg (0.32) forgets the request, and the connection stays in the middle of its COPY, of no use to anybody.
    """
    done, _ = await asyncio.wait({copying}, timeout=_PATIENCE_S)
    if not done:
        copying.cancel()
        await asyncio.wait({copying})
    if not copying.cancelled():
        # has been raised to the reader, or is our own: not to be reported as lost
        copying.exception()
