"""Durable cursors for who has nothing but HTTP and an Arrow reader: an endless answer with positions, and the acknowledgement as a request of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import aiohttp
import pyarrow as pa
import pytest
from processes import ROOT, Serve

from historian.schema.connection import Pool
from historian.schema.cursors import Position
from historian.schema.visibility import VisibilitySnapshot
from historian.server.run import Server, serving
from historian.settings import Settings

NOW = time.time_ns() // 1000
HOUR = 3_600_000_000


def ask(url: str, fields: dict[str, Any] | None = None) -> Any:
    """A GET, or a POST of a form; a fault comes as its status and problem document."""
    body = None if fields is None else urllib.parse.urlencode(fields).encode()
    try:
        with urllib.request.urlopen(url, body, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def write(url: str, rows: list[tuple[str, int, Any]]) -> None:
    body = json.dumps({"samples": [{"tag": tag, "ts": ts, "value": value} for tag, ts, value in rows]}).encode()
    request = urllib.request.Request(f"{url}/v1/write", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


@contextlib.contextmanager
def stream(url: str, *tags: str, **asked: Any) -> Iterator[pa.RecordBatchStreamReader]:
    address = f"{url}/v1/stream?{urllib.parse.urlencode([*(('tag', tag) for tag in tags), *asked.items()])}"
    with urllib.request.urlopen(address, timeout=30) as answer, pa.ipc.open_stream(answer) as reader:
        yield reader


class Pipeline:
    """Keeps what came before the last position, together with it, as in one transaction of its own."""

    def __init__(self, *tags: str, name: str = "pipe") -> None:
        self.tags = tags
        self.name = name
        self.kept: list[float] = []
        self.position: str | None = None
        self.told: list[dict[str, str]] = []

    def read(self, url: str, count: int, *, by_position: bool = False, acknowledge_at: str | None = None) -> None:
        """Until it has kept so many."""
        asked = {"position": self.position} if by_position and self.position else {}
        coming: list[float] = []
        with stream(url, *self.tags, durable=self.name, **{"from": "-1h"}, **asked) as reader:
            while len(self.kept) < count:
                batch, metadata = reader.read_next_batch_with_custom_metadata()
                told = {key.decode(): value.decode() for key, value in (metadata or {}).items()}
                self.told.append(told)
                coming += batch.column("value").to_pylist()
                if "historian.position" in told:
                    self.kept, self.position = [*self.kept, *coming], told["historian.position"]
                    coming = []
                    if acknowledge_at is not None:
                        self.acknowledge(acknowledge_at)

    def acknowledge(self, url: str) -> Any:
        return ask(f"{url}/v1/cursors/{self.name}/acknowledge", {"position": self.position})


def test_kills_neither_lose_nor_double(serve: Serve) -> None:
    """The server and the pipeline are killed at any moment, and the pipeline goes on behind what it has kept, or what it has acknowledged."""
    server = serve()
    # taken up while it is killed: all commits are acknowledged, so that it is known what there is
    written = 0

    def more(count: int) -> None:
        nonlocal written
        for _ in range(count):
            # versions of few samples: each has to come
            write(server.url, [("k/a", NOW - written % 7, written), (f"k/{written // 20}", NOW, written + 0.5)])
            written += 1

    pipeline = Pipeline("k/#")
    more(5)
    pipeline.read(server.url, 2, acknowledge_at=server.url)
    backfill = len(pipeline.kept)
    for turn in range(2):
        writing = threading.Thread(target=more, args=(15,))
        writing.start()
        # it is killed with samples that it has not kept; and, each second time, with some kept that it has not acknowledged
        pipeline.read(server.url, len(pipeline.kept) + 6, by_position=True, acknowledge_at=server.url if turn % 2 else None)
        writing.join()
        server.kill()
        server.start()
    more(5)
    # the newest versions are kept: nothing but the position may say what is missing
    pipeline.read(server.url, backfill + 2 * (written - 5), by_position=True, acknowledge_at=server.url)
    # of samples that were written before the backfill the last version
    assert len(pipeline.kept) == len(set(pipeline.kept)), "nothing comes twice"
    assert set(pipeline.kept[backfill:]) == {n + half for n in range(5, written) for half in (0, 0.5)}, "nothing is missing"
    server.restart()
    write(server.url, [("k/a", NOW, 1_000_000)])
    # without a position: behind what was acknowledged, by requests of their own
    again = Pipeline("k/#")
    again.read(server.url, 1)
    assert again.kept == [1_000_000]


async def test_what_is_acknowledged_at_another_server_holds(database: str, pool: Pool) -> None:
    async with serving(database, Settings(port=0)) as one, serving(database, Settings(port=0)) as other:
        await asyncio.to_thread(write, one.url, [("a/x", NOW, 1)])
        pipeline = Pipeline("a/#", name="two")
        await asyncio.to_thread(pipeline.read, one.url, 1)
        first = pipeline.position
        # nobody has it open
        assert await asyncio.to_thread(pipeline.acknowledge, other.url) == {"name": "two", "position": first}
        async with asyncio.timeout(30), aiohttp.ClientSession() as session:
            asked = {"tag": "a/#", "durable": "two", "from": "-1h"}
            async with session.get(f"{one.url}/v1/stream", params=asked, headers={"Accept": "text/event-stream"}) as answer:
                assert (await _event(answer, "subscribed"))[1]["resumed"] is True
                await asyncio.to_thread(write, other.url, [("a/x", NOW + 1, 2)])
                assert [row["value"] for row in (await _event(answer, "data"))[1]["samples"]] == [2]
                place, told = await _event(answer, "position")
                assert place == told["position"] != first
                # another server stores it while this one has the cursor open, and neither moves it back
                pipeline.position = place
                assert (await asyncio.to_thread(pipeline.acknowledge, other.url))["position"] == place
                pipeline.position = first
                assert (await asyncio.to_thread(pipeline.acknowledge, one.url))["position"] == place
                # what follows is not of its tags: the stream lets go of it by what it has learnt of the acknowledgement
                while True:
                    await asyncio.to_thread(write, other.url, [("b/x", NOW, 1)])
                    seen, acknowledged = await pool.fetchrow(
                        "SELECT seen::text, acknowledged::text FROM historian.cursor WHERE name = 'two'"
                    )
                    assert acknowledged == place.partition("/")[2]
                    if seen != acknowledged:
                        break
                    await asyncio.sleep(0.1)
            # as a browser does
            headers = {"Accept": "text/event-stream", "Last-Event-ID": first or ""}
            async with session.get(f"{other.url}/v1/stream", params=asked, headers=headers) as answer:
                told = (await _event(answer, "subscribed"))[1]
                # it has acknowledged more than it says that it has
                assert told["resumed"] is False
                assert (await _event(answer, "gap"))[1]["reason"] == "cursor-expired"


async def _event(answer: aiohttp.ClientResponse, wanted: str) -> tuple[str, dict[str, Any]]:
    """The next event of this name: its id and its data."""
    name, place = "", ""
    async for line in answer.content:
        field, _, value = line.decode().removesuffix("\n").partition(": ")
        match field:
            case "event":
                name, place = value, ""
            case "id":
                place = value
            case "data" if name == wanted:
                return place, json.loads(value)
    raise AssertionError("ended")


async def test_positions_that_cannot_be_acknowledged(server: Server, pool: Pool) -> None:
    def acknowledge(position: str | None, name: str = "p") -> Any:
        return ask(f"{server.url}/v1/cursors/{name}/acknowledge", {} if position is None else {"position": position})

    await asyncio.to_thread(write, server.url, [("a/x", NOW, 1)])
    pipeline = Pipeline("a/#", name="p")
    await asyncio.to_thread(pipeline.read, server.url, 1)
    assert pipeline.position is not None
    told = Position.parse(pipeline.position)
    ahead = Position(told.origin, VisibilitySnapshot(told.snapshot.xmax + 10**6, told.snapshot.xmax + 10**6, frozenset()))
    for position, name, status in (
        (None, "p", 400),
        ("nonsense", "p", 400),
        (str(ahead), "p", 400),
        (str(told), "other", 404),
        (str(told), "no name", 400),
    ):
        code, problem = await asyncio.to_thread(acknowledge, position, urllib.parse.quote(name))
        assert (code, problem["status"]) == (status, status), problem
    # it is made anew: what was told before is void
    await pool.execute("DELETE FROM historian.cursor")
    await asyncio.to_thread(write, server.url, [("a/x", NOW, 2)])
    anew = Pipeline("a/#", name="p")
    await asyncio.to_thread(anew.read, server.url, 1)
    code, problem = await asyncio.to_thread(acknowledge, str(told))
    assert (code, problem["type"]) == (409, "urn:historian:problem:conflict")
    assert await asyncio.to_thread(anew.acknowledge, server.url) == {"name": "p", "position": anew.position}
    # what cannot be opened is answered as such
    code, problem = await asyncio.to_thread(ask, f"{server.url}/v1/stream?durable=p&tag=b/%23")
    assert (code, problem["type"]) == (409, "urn:historian:problem:conflict")


async def test_tags_that_are_made_later_are_announced(server: Server) -> None:
    """The schema has room for texts from the first on."""
    await asyncio.to_thread(write, server.url, [("a/x", NOW, 1)])

    def read() -> list[tuple[list[Any], dict[bytes, bytes]]]:
        found = []
        with stream(server.url, "a/#", durable="later", **{"from": "-1h"}) as reader:
            while True:
                batch, metadata = reader.read_next_batch_with_custom_metadata()
                found.append((batch.to_pylist(), dict(metadata or {})))
                if b"historian.live" in found[-1][1]:
                    write(server.url, [("a/note", NOW, "hello")])
                if any(row["text"] for row in found[-1][0]):
                    return found

    found = await asyncio.to_thread(read)
    (announced,) = [json.loads(metadata[b"historian.tags"]) for _, metadata in found if b"historian.tags" in metadata]
    assert [tag["path"] for tag in announced] == ["a/note"]
    assert found[-1][0][0]["tag_id"] == announced[0]["tag_id"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"tag": "a/#", "durable": "p", "to": "now"}, "no such parameter: 'to'"),
        ({"tag": "a/#", "durable": "p", "mode": "auto"}, "no such parameter: 'mode'"),
        ({"tag": "a/#", "position": "x/1:1:"}, "durable"),
        ({"tag": "a/#", "durable": "p", "position": "x"}, "no position"),
        ({"tag": "a/#", "durable": "a/b"}, "cursor's name"),
        ({"durable": "p"}, "no tag"),
    ],
)
async def test_faulty_requests_say_what_to_do(server: Server, asked: dict[str, str], words: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/v1/stream", params=asked) as answer:
        assert answer.status == 400
        assert words in (await answer.json(content_type=None))["detail"]


async def test_the_client_in_the_documentation(server: Server) -> None:
    blocks = (ROOT / "docs" / "pipelines.md").read_text().split("```python\n")[1:]
    (text,) = [block.partition("```")[0] for block in blocks if "import urllib.request" in block]
    stored: list[tuple[list[float], str]] = []

    class EnoughError(Exception):
        pass

    def store(coming: list[pa.RecordBatch], position: str) -> None:
        stored.append(([value for batch in coming for value in batch.column("value").to_pylist()], position))
        if len(stored) == 2:
            raise EnoughError

    def run() -> None:
        names: dict[str, Any] = {"store": store}
        exec(compile(text.replace("http://127.0.0.1:8742", server.url), "docs/pipelines.md", "exec"), names)
        write(server.url, [("acme/x", NOW, 1)])
        with pytest.raises(EnoughError):
            names["copy"](None)
        write(server.url, [("acme/x", NOW, 3)])
        stored.pop()
        with pytest.raises(EnoughError):
            names["copy"](stored[0][1])

    async def correct() -> None:
        # once the first is acknowledged
        while not ask(f"{server.url}/v1/cursors")["cursors"] or ask(f"{server.url}/v1/cursors")["cursors"][0]["acknowledged_at"] is None:
            await asyncio.sleep(0.05)
        write(server.url, [("acme/x", NOW, 2)])

    await asyncio.gather(asyncio.to_thread(run), asyncio.to_thread(asyncio.run, correct()))
    assert stored[0][0] == [1]
    assert sorted(value for values, _ in stored[1:] for value in values) in ([2], [2, 3])
