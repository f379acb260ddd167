"""`AsyncClient`: the historian over HTTP and WebSocket, for programs that use asyncio."""

from __future__ import annotations

import asyncio
import uuid
import weakref
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, Unpack
from urllib.parse import quote

import orjson
import pyarrow as pa
import zstandard
from pydantic import ValidationError

from historian.client.address import Address
from historian.client.columns import BATCH_ROWS, Data, Part, parts
from historian.client.commands import Command, command_of, perform
from historian.client.frames import Shape
from historian.client.http import Http
from historian.client.ingest import Ingest
from historian.client.ranges import RangeOptions, Tags, names_of, range_parameters
from historian.client.results import ArrowDecoder, Labels, Receipt, TagList, tag_of
from historian.client.stream import Stream, Subscription
from historian.client.stream_events import Gap
from historian.client.times import Time, as_wire
from historian.query.range_query import StreamMode, StreamOrder
from historian.schema.catalogue import Tag, TagDefinition
from historian.schema.errors import BadInput, BadSamples, HistorianError, NotFound, Unavailable

ARROW_STREAM = "application/vnd.apache.arrow.stream"
_DEFINED_AT_ONCE = 5000
_WORTH_COMPRESSING = 4096


@dataclass(slots=True)
class _Numbering:
    """Of one producer's batches; `next_seq` is None until the server has been asked."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    next_seq: int | None = None


class AsyncClient:
    """A client of one server. `async with AsyncClient(url) as client: …`, or call `close`.

    `url` is `HISTORIAN_URL` or the local server where none is given, `token` is `HISTORIAN_TOKEN`. `timeout`: seconds that an answer may take.
    `retry_s`: how long a request is tried again when the connection breaks or the server is busy or away; that is always harmless. Nothing connects
    before the first request.

    All methods raise HistorianError: BadInput and its kin if the request is wrong, UnknownTag, Conflict, Busy, and Unavailable if the server cannot be reached.
    Belongs to the event loop in which it is first used; any number of its coroutines may run at once.
    """

    def __init__(self, url: str | None = None, *, token: str | None = None, timeout: float = 60.0, retry_s: float = 30.0) -> None:
        self._http = Http(Address.of(url, token), timeout=timeout, retry_s=retry_s)
        self._retry_s = retry_s
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._numbering: defaultdict[str, _Numbering] = defaultdict(_Numbering)

    @property
    def url(self) -> str:
        return self._http.address.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End its streams and connections."""
        for stream in list(self._streams):
            await stream.aclose()
        await self._http.close()

    async def ready(self) -> dict[str, Any]:
        """What `/readyz` says: the engine, the schema's version, the number of tags. Raises Unavailable as long as writes and streams are not served."""
        return await self._json("GET", "/readyz")

    # -- writing

    async def write(self, data: Data, *, producer: str | None = None, seq: int | None = None) -> Receipt:
        """Write samples; they are on disk when this returns.

        `data`: a pandas DataFrame, a pyarrow Table or RecordBatch, a list of dicts, or a dict of columns. Long: `tag` (or `tag_id`), `ts`, `value`,
        and perhaps `quality` (192 good where there is a value). Wide: `ts` (or a DatetimeIndex) and a column for each tag, where an empty cell is no
        sample. Times have a zone, or are integer µs. Unknown tags are made, with the kind of their first values.

        Data of more than 50 000 rows, or of several types of value, go as several batches, one after the other. `producer` names whoever numbers
        them: the first has `seq`, or follows what the server has of the producer. The same data with the same producer and seq count once, however
        often they are written.

        Raises BadSamples naming each faulty row of `data`. A note on the error says what had been stored when a later batch failed.
        """
        if seq is not None and producer is None:
            raise BadInput("a seq says something only together with a producer")
        batches = parts(data, BATCH_ROWS)
        if producer is None:
            # with a name of its own it too can be sent again
            return await self._write_parts(batches, f"python-client:{uuid.uuid4().hex}", 0)
        if seq is not None:
            return await self._write_parts(batches, producer, seq)
        numbering = self._numbering[producer]
        async with numbering.lock:
            if numbering.next_seq is None:
                done = await self.committed(producer)
                numbering.next_seq = done[-1][1] + 1 if done else 0
            try:
                receipt = await self._write_parts(batches, producer, numbering.next_seq)
            except BaseException:
                # which of them the server has, only the server knows
                numbering.next_seq = None
                raise
            numbering.next_seq = receipt.next_seq
            return receipt

    async def _write_parts(self, batches: Iterable[Part], producer: str, seq: int) -> Receipt:
        number, samples, replayed = seq, 0, 0
        for part in batches:
            try:
                again = await self._write_part(part, producer, number)
            except HistorianError as error:
                moved = part.relocated(error) if isinstance(error, BadSamples) else error
                if samples:
                    moved.add_note(f"{samples} samples before these are stored: batches {seq} to {number - 1} of producer {producer!r}")
                raise moved from None
            samples += len(part.table)
            replayed += again
            number += 1
        return Receipt(producer, seq, number - seq, samples, replayed)

    async def _write_part(self, part: Part, producer: str, seq: int) -> bool:
        """Whether it had been committed before."""
        headers = {"Content-Type": ARROW_STREAM, "Historian-Producer": quote(producer, safe=""), "Historian-Seq": str(seq)}
        body = part.body()
        if not self._http.address.nearby and len(body) >= _WORTH_COMPRESSING:
            body = zstandard.ZstdCompressor(level=1).compress(body)
            headers["Content-Encoding"] = "zstd"
        _, answer = await self._http.request("POST", "/v1/write", body=body, headers=headers)
        return answer.get("Historian-Replayed") == "true"

    def ingest(self, producer: str | None = None) -> Ingest:
        """For much data: `async with client.ingest("…") as ingest: await ingest.write(data)`, with many batches under way at once. See `Ingest`.

        `write` returns before the samples are on disk, `flush` when they are. Under a name one program at a time may do so.
        """
        return Ingest(self._http, producer, retry_s=self._retry_s)

    async def committed(self, producer: str) -> list[tuple[int, int]]:
        """The seqs of a producer's batches that are on disk, as inclusive ranges in their order; none if it has written nothing."""
        try:
            answer = await self._json("GET", f"/v1/producers/{quote(producer, safe='')}")
        except NotFound:
            return []
        return [(first, last) for first, last in answer["ranges"]]

    # -- commands

    async def command(
        self, tag: str, value: bool | int | float | str, *, key: str | None = None, timeout: float = 10.0, wait: float = 0.0
    ) -> Command:
        """Write a value to a tag that is writable; it is committed when this returns (docs/commands.md). The client's token has to have the right.

        Of a tag that goes to the plant the outcome is then `accepted`; with `wait` (seconds) it is returned once it is `delivered`, or whatever else became of it.
        `timeout`: seconds from now after which it is not published to the plant any more. `key`: the same key is the same command, however often it is sent.

        Raises Forbidden (no right, or the tag is not writable), BadInput (a value that it does not take), UnknownTag, Conflict (a key of another command), Busy; and
        Unavailable, where it may be committed all the same: the same key tells.
        """
        return await perform(self._http, tag, value, key=key, timeout_s=timeout, wait_s=wait)

    async def command_of(self, command_id: int, *, wait: float = 0.0) -> Command:
        """A command as it stands; with `wait` (up to 50 s) as soon as it is settled. Raises NotFound."""
        return command_of(await self._json("GET", f"/v1/commands/{command_id}", params=[("wait", str(min(wait, 50.0)))]))

    async def commands(
        self,
        tag: str | None = None,
        *,
        start: Time | None = None,
        end: Time | None = None,
        outcome: str | None = None,
        limit: int = 100,
    ) -> list[Command]:
        """The audit, the newest first: commands of tags that a path or wildcard names, asked for in [start, end)."""
        given = {
            "tag": tag,
            "start": None if start is None else as_wire(start),
            "end": None if end is None else as_wire(end),
            "outcome": outcome,
        }
        params: list[tuple[str, str | int]] = [(name, value) for name, value in given.items() if value is not None]
        found: list[Command] = []
        before: list[tuple[str, str | int]] = []
        while len(found) < limit:
            page = await self._json("GET", "/v1/commands", params=[*params, *before, ("limit", min(limit - len(found), 1000))])
            found += map(command_of, page["commands"])
            if page["next"] is None:
                break
            before = [("before", page["next"])]
        return found

    # -- the catalogue

    async def tags(self, match: str | None = None) -> TagList:
        """The tags that a path or wildcard (`site/+/line1/#`) names, or all, by path. A list with `to_pandas()`."""
        answer = await self._json("GET", "/v1/tags", params=[] if match is None else [("match", match)])
        return TagList(tag_of(row) for row in answer["tags"])

    async def define(self, tags: Iterable[TagDefinition | Tag | Mapping[str, Any]] | TagDefinition | Tag | Mapping[str, Any]) -> TagList:
        """Make tags or change them: `path`, and perhaps `kind`, `unit`, `description`, `low`, `high`, `low_low_limit`, `low_limit`,
        `high_limit`, `high_high_limit`, `step`, `states`, `writable`, `write_to`. What a dict leaves out stays as it is.

        Up to 5000 at once are defined all or none. Raises Conflict for another kind on a tag that has samples.
        """
        wanted = [_definition(tag) for tag in ([tags] if isinstance(tags, TagDefinition | Tag | Mapping) else tags)]
        made = TagList()
        for start in range(0, len(wanted), _DEFINED_AT_ONCE):
            body = orjson.dumps({"tags": [d.model_dump(exclude_unset=True) for d in wanted[start : start + _DEFINED_AT_ONCE]]})
            answer = await self._json("PUT", "/v1/tags", body=body, headers={"Content-Type": "application/json"})
            made += [tag_of(row) for row in answer["tags"]]
        return made

    # -- reading

    async def range(self, tags: Tags, start: Time | None = None, end: Time = "now", **options: Unpack[RangeOptions]) -> pa.Table:
        """Samples of tags (paths and wildcards) in [start, end), by tag and time: columns `tag`, `ts`, `value`, `quality`, `text` if there are text tags, `tag_id`.

        Options, by name: `mode`, what to make of the samples (`raw`: nothing; docs/query.md has all); `points` of charts; `interval`, `tz` and `origin` of buckets;
        `bounds` of raw; `at`, instants instead of a span; `limit`, rows at most. See `RangeOptions`, and `historian.client.results` for the columns' types.
        For more than memory holds there is `range_batches`.
        """
        source = _Range(self._http, range_parameters(tags, start, end, options))
        batches = [batch async for batch in source]
        assert source.schema is not None
        return pa.Table.from_batches(batches, schema=source.schema)

    def range_batches(
        self, tags: Tags, start: Time | None = None, end: Time = "now", **options: Unpack[RangeOptions]
    ) -> AsyncIterator[pa.RecordBatch]:
        """As `range`, batch by batch as they arrive, in bounded memory; one without rows if there are no samples.

        Raises Unavailable if the answer is cut off: what came before is not all.
        """
        return aiter(_Range(self._http, range_parameters(tags, start, end, options)))

    async def frame(
        self,
        tags: Tags,
        start: Time | None = None,
        end: Time = "now",
        *,
        wide: bool = True,
        states: bool = True,
        quality: bool = False,
        **options: Unpack[RangeOptions],
    ) -> Any:
        """As `range`, as a pandas DataFrame whose index is the time, in the zone `tz` or in UTC. Units, descriptions, kinds and states stand in `attrs`.

        `wide`: a column for each tag, named by its path, and a row for each time that one of them has; a bad sample is a missing value. Else a row for
        each sample: `tag`, `value`, `quality`, and perhaps `text` and `state`. `states`: digital tags as the names of their states. `quality`: wide, with
        the quality of each value beside it, as columns (path, "value") and (path, "quality").

        Raises BadInput where the wide form would have more than 200 million cells.
        """
        shape = Shape(wide=wide, states=states, quality=quality, options=options)
        table = await self.range(tags, start, end, **shape.asked())
        # a million samples take a tenth of a second, which other coroutines need not wait for
        return await asyncio.to_thread(shape.frame, table)

    async def snapshot(self, match: str | None = None) -> pa.Table:
        """The newest sample of every tag that matches, in the columns of `range`; tags without samples are left out."""
        source = _Range(self._http, [] if match is None else [("match", match)], path="/v1/snapshot")
        batches = [batch async for batch in source]
        assert source.schema is not None
        return pa.Table.from_batches(batches, schema=source.schema)

    def stream(
        self,
        tags: Tags,
        from_: Time | None = None,
        to: Time | None = None,
        *,
        mode: StreamMode = "raw",
        points: int = 2000,
        cursor: int | None = None,
        expressions: Sequence[str] = (),
        order: StreamOrder = "oldest",
        max_rate: float | None = None,
        durable: str | None = None,
        position: str | None = None,
        reconnect: bool = True,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> Stream:
        """The history of tags from `from_` on, and then every sample as it is committed: an async iterator of record batches. See `Stream`.

        Without `from_` there is no history; with `to` it ends there. `mode` and `points` are of the history. `cursor`: go on behind the `cursor` of an earlier stream.
        `expressions`: calculated beside the tags; docs/expressions.md. `order`: `newest` has the newest history come first. `max_rate`: the live tail comes at most so
        often a second, thinned to what a pen needs (docs/protocol.md). `durable`: the name of a cursor that the server keeps, for pipelines; docs/pipelines.md.
        """
        subscription = Subscription(
            tuple(names_of(tags)),
            None if from_ is None else as_wire(from_),
            None if to is None else as_wire(to),
            mode,
            points,
            cursor,
            tuple(expressions),
            order,
            max_rate,
            durable,
            position,
        )
        stream = Stream(self._http, subscription, reconnect=reconnect, on_gap=on_gap)
        self._streams.add(stream)
        return stream

    async def cursors(self) -> list[dict[str, Any]]:
        """The durable cursors of the server: `name`, `tags`, `from`, `created_at`, `acknowledged_at`, `waiting_since`, `expired`, `client`."""
        found: list[dict[str, Any]] = (await self._json("GET", "/v1/cursors"))["cursors"]
        return found

    async def delete_cursor(self, name: str) -> None:
        """Forget a durable cursor. Raises NotFound."""
        await self._http.request("DELETE", f"/v1/cursors/{quote(name, safe='')}")

    async def put_dashboard(self, name: str, document: Mapping[str, Any], *, etag: str | None = None) -> str:
        """Store a dashboard (docs/dashboards.md); returns its ETag. Without `etag` it must be new, else it replaces the one that has it.

        Raises BadDocument, which names what is wrong by its path, and PreconditionFailed if another one stands there.
        """
        condition = {"If-None-Match": "*"} if etag is None else {"If-Match": etag}
        headers = {"Content-Type": "application/json", **condition}
        stored = await self._json("PUT", f"/v1/dashboards/{quote(name, safe='')}", body=orjson.dumps(document), headers=headers)
        return str(stored["etag"])

    async def _json(
        self,
        method: str,
        path: str,
        *,
        params: Sequence[tuple[str, str | int]] = (),
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        answer, _ = await self._http.request(method, path, params=params, body=body, headers=headers)
        try:
            document = orjson.loads(answer)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            raise BadInput(f"{self.url}{path} is not answered by a historian")
        return document


class _Range:
    """The batches of one answer, with the tag column. `schema` is known once the iteration is over."""

    def __init__(self, http: Http, params: list[tuple[str, str | int]], path: str = "/v1/range") -> None:
        self._http = http
        self._params = params
        self._path = path
        self.schema: pa.Schema | None = None

    async def __aiter__(self) -> AsyncIterator[pa.RecordBatch]:
        decoder = ArrowDecoder()
        labels: Labels | None = None
        some = False
        async with self._http.opened(self._path, params=self._params, headers={"Accept": ARROW_STREAM}) as response:
            if response.content_type != ARROW_STREAM:
                raise BadInput(f"{self._http.address.url}{self._path} is not answered by a historian")
            while not decoder.ended:
                try:
                    async with self._http.translated():
                        data = await response.content.readany()
                except Unavailable as error:
                    raise Unavailable(f"the answer was cut off: {error}") from error
                if not data:
                    raise Unavailable("the answer was cut off")
                batches = decoder.feed(data)
                if labels is None and decoder.schema is not None:
                    labels = Labels(decoder.schema)
                    self.schema = labels.schema
                for batch in batches:
                    assert labels is not None
                    some = True
                    yield labels.add(batch)
            if not some and labels is not None:
                # whoever takes batches learns the columns all the same
                yield pa.RecordBatch.from_pylist([], schema=labels.schema)


def _definition(tag: TagDefinition | Tag | Mapping[str, Any]) -> TagDefinition:
    if isinstance(tag, TagDefinition):
        return tag
    row = {name: value for name, value in tag.row().items() if name != "tag_id"} if isinstance(tag, Tag) else dict(tag)
    for name in ("low", "high"):
        if isinstance(row.get(name), int) and not isinstance(row[name], bool):
            row[name] = float(row[name])
    try:
        return TagDefinition.model_validate(row)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, f['loc'])) or 'tag'}: {f['msg'].removeprefix('Value error, ')}" for f in error.errors(include_url=False)
        ]
        raise BadInput(f"definition of {row.get('path')!r}: {'; '.join(faults)}") from None
