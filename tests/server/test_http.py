"""The HTTP interface as its users see it: what is written comes back, in every format."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from historian.schema.errors import BadInput, Conflict, SchemaError
from historian.server.app import make_app
from historian.server.page import is_public
from historian.server.run import Server, serving
from historian.settings import Settings

TS = 1_767_225_600_000_000
ROWS = [("f/a", TS, 1.5), ("f/a", TS + 1_000_000, None), ("f/a", TS + 2_000_000, -0.25), ("f/b", TS + 500_000, 7)]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def write(http: aiohttp.ClientSession, server: Server, rows: list[tuple[str, int, Any]], **headers: str) -> dict[str, Any]:
    body = {"samples": [{"tag": tag, "ts": ts, "value": value} for tag, ts, value in rows]}
    async with http.post(f"{server.url}/v1/write", json=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return {**await answer.json(), "replayed": answer.headers.get("Historian-Replayed")}


async def test_a_batch_counts_once_and_its_producer_can_ask(server: Server, http: aiohttp.ClientSession) -> None:
    producer = {"Historian-Producer": "line%201/%C3%BC"}
    first = await write(http, server, ROWS, **producer, **{"Historian-Seq": "3"})
    assert (first["producer"], first["seq"], first["samples"], first["replayed"]) == ("line 1/ü", 3, 4, None)
    again = await write(http, server, ROWS, **producer, **{"Historian-Seq": "3"})
    assert (again["xid"], again["samples"], again["replayed"]) == (first["xid"], 4, "true")
    for seq in ("4", "5", "9"):
        await write(http, server, [("f/a", TS, 2)], **producer, **{"Historian-Seq": seq})
    async with http.get(f"{server.url}/v1/producers/line%201%2F%C3%BC") as answer:
        assert await answer.json() == {"producer": "line 1/ü", "samples": 7, "batches": 4, "ranges": [[3, 5], [9, 9]]}
    body = {"samples": [{"tag": "f/a", "ts": TS, "value": 99}]}
    async with http.post(f"{server.url}/v1/write", json=body, headers={**producer, "Historian-Seq": "3"}) as answer:
        assert answer.status == 409
        assert (await answer.json(content_type=None))["type"] == "urn:historian:problem:conflict"


async def test_a_range_with_expressions(server: Server, http: aiohttp.ClientSession) -> None:
    await write(http, server, ROWS)
    params = [("tag", "f/b"), ("expr", "twice: f/a * 2"), ("expr", "f/a + last(f/b)"), ("start", TS), ("end", TS + 2_000_001)]
    async with http.get(f"{server.url}/v1/range", params=params) as answer:
        rows = [(row["tag"], row["value"], row["quality"]) for row in (await answer.json())["samples"]]
    # f/b has no value yet, the second sample of f/a is bad
    calculated = [("f/a + last(f/b)", None, 0), ("f/a + last(f/b)", None, 0), ("f/a + last(f/b)", 6.75, 192)]
    assert rows == [*calculated, ("twice", 3, 192), ("twice", None, 0), ("twice", -0.5, 192), ("f/b", 7, 192)]
    async with http.get(f"{server.url}/v1/range", params=[*params, ("format", "csv"), ("limit", 1)]) as answer:
        assert await answer.text() == "tag,ts,value,quality\nf/a + last(f/b),2026-01-01T00:00:00Z,,0\n"
    async with http.get(f"{server.url}/v1/range", params=[*params, ("format", "arrow")]) as answer:
        table = pa.ipc.open_stream(await answer.read()).read_all()
    described = json.loads(table.schema.metadata[b"historian.tags"])
    assert [(tag["tag_id"], tag.get("expression")) for tag in described[1:]] == [(-1, "f/a * 2"), (-2, "f/a + last(f/b)")]
    for wrong, status, problem in (
        ("f/a +", 400, "bad-expression"),
        ("f/z + 1", 404, "unknown-tag"),
        ("f/a" + "a" * 4100, 413, "too-large"),
    ):
        async with http.get(f"{server.url}/v1/range", params=[("expr", wrong), ("start", TS)]) as answer:
            assert (answer.status, (await answer.json(content_type=None))["type"]) == (status, f"urn:historian:problem:{problem}")


async def test_a_range_in_every_format(server: Server, http: aiohttp.ClientSession) -> None:
    await write(http, server, ROWS)
    params = {"tag": "f/#", "start": TS, "end": TS + 2_000_001}
    expected = [
        ("f/a", TS, 1.5, 192),
        ("f/a", TS + 1_000_000, None, 0),
        ("f/a", TS + 2_000_000, -0.25, 192),
        ("f/b", TS + 500_000, 7.0, 192),
    ]

    async def get(accept: str) -> bytes:
        async with http.get(f"{server.url}/v1/range", params=params, headers={"Accept": accept}) as answer:
            assert answer.status == 200
            assert answer.content_type == accept
            return await answer.read()

    for table in (
        pa.ipc.open_stream(await get("application/vnd.apache.arrow.stream")).read_all(),
        pq.read_table(io.BytesIO(await get("application/vnd.apache.parquet"))),
    ):
        assert table.schema.field("ts").type == pa.timestamp("us", tz="UTC")
        paths = {tag["tag_id"]: tag["path"] for tag in json.loads(table.schema.metadata[b"historian.tags"])}
        values = [None if value is None or value != value else value for value in table["value"].to_pylist()]
        rows = zip(
            (paths[n] for n in table["tag_id"].to_pylist()),
            table["ts"].cast(pa.int64()).to_pylist(),
            values,
            table["quality"].to_pylist(),
            strict=True,
        )
        assert list(rows) == expected

    found = json.loads(await get("application/json"))["samples"]
    stamps = [int(pd.Timestamp(row["ts"]).value // 1000) for row in found]
    assert [(row["tag"], ts, row["value"], row["quality"]) for row, ts in zip(found, stamps, strict=True)] == expected

    frame = pd.read_csv(io.BytesIO(await get("text/csv")))
    assert list(frame.columns[:4]) == ["tag", "ts", "value", "quality"]
    assert frame["tag"].tolist() == [row[0] for row in expected]
    assert [None if pd.isna(value) else value for value in frame["value"]] == [row[2] for row in expected]


async def test_minmax_keeps_the_extremes_and_the_bad_samples(server: Server, http: aiohttp.ClientSession) -> None:
    rows = [("m/a", TS + n * 1000, float(n % 50)) for n in range(10_000)]
    rows[5003] = ("m/a", rows[5003][1], 1000.0)
    rows[7007] = ("m/a", rows[7007][1], None)
    await write(http, server, rows)
    params = {"tag": "m/a", "start": TS, "end": TS + 10_000_000, "mode": "minmax", "points": "100", "format": "json"}
    async with http.get(f"{server.url}/v1/range", params=params) as answer:
        found = (await answer.json())["samples"]
    assert 50 <= len(found) <= 110
    assert max(row["value"] for row in found if row["value"] is not None) == 1000.0
    assert sum(row["value"] is None for row in found) == 1
    params["mode"], params["end"] = "auto", TS + 50_000
    async with http.get(f"{server.url}/v1/range", params=params) as answer:
        assert len((await answer.json())["samples"]) == 50, "auto: all samples where they are few"


async def test_the_snapshot_is_the_newest_of_every_tag(server: Server, http: aiohttp.ClientSession) -> None:
    await write(http, server, ROWS)
    async with http.get(f"{server.url}/v1/snapshot", params={"match": "f/+"}) as answer:
        found = (await answer.json())["samples"]
    assert [(row["tag"], row["value"], row["quality"]) for row in found] == [("f/a", -0.25, 192), ("f/b", 7, 192)]


async def test_tags_are_defined_changed_and_listed(server: Server, http: aiohttp.ClientSession) -> None:
    definition = {"path": "t/pump", "kind": "digital", "description": "Feed pump", "states": {"0": "stopped", "1": "running"}}
    async with http.put(
        f"{server.url}/v1/tags", json={"tags": [definition, {"path": "t/temp", "unit": "°C", "low": 0, "high": 150}]}
    ) as answer:
        assert answer.status == 200
    async with http.put(f"{server.url}/v1/tags", json={"tags": [{"path": "t/temp", "high": 200}]}) as answer:
        (tag,) = (await answer.json())["tags"]
    assert (tag["unit"], tag["low"], tag["high"], tag["kind"], tag["step"]) == ("°C", 0, 200, "float", False)
    async with http.get(f"{server.url}/v1/tags", params={"match": "t/+"}) as answer:
        tags = (await answer.json())["tags"]
    assert [(tag["path"], tag["step"], tag["states"]) for tag in tags] == [("t/pump", True, definition["states"]), ("t/temp", False, None)]


async def test_health_metrics_openapi_and_headers(server: Server, http: aiohttp.ClientSession) -> None:
    await write(http, server, ROWS)
    for path in ("/healthz", "/readyz"):
        async with http.get(f"{server.url}{path}") as answer:
            assert answer.status == 200
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    async with http.get(f"{server.url}/metrics") as answer:
        assert "historian_written_samples_total 4.0" in await answer.text()
    async with http.get(f"{server.url}/openapi.json") as answer:
        described = set((await answer.json())["paths"])
    served = {route.resource.canonical for route in make_app(server.services).router.routes() if route.resource}
    served = {path for path in served if not is_public(path)} - {"/openapi.json", "/asyncapi.json"}
    assert described == served


async def test_pages_of_other_origins_and_names_are_refused(server: Server, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{server.url}/v1/tags", headers={"Origin": "https://evil.example"}) as answer:
        assert answer.status == 403
    # DNS rebinding: the attacker's name resolves to 127.0.0.1
    async with http.get(f"{server.url}/v1/tags", headers={"Host": "evil.example"}) as answer:
        assert answer.status == 403
        assert "--allowed-host" in (await answer.json(content_type=None))["detail"]
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await http.ws_connect(f"{server.url}/v1/stream", protocols=["historian.v1.json"], headers={"Origin": "https://evil.example"})
    assert caught.value.status == 403


async def test_a_token_is_asked_of_everybody(database: str, http: aiohttp.ClientSession) -> None:
    async with serving(database, Settings(port=0, token="s3cret-ü")) as server:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Bearer w\udcffrong"},
            {"Authorization": "Basic czNjcmV0"},
        ):
            async with http.get(f"{server.url}/v1/tags", headers=headers) as answer:
                assert answer.status == 401
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
                assert "s3cret" not in await answer.text()
        async with http.get(f"{server.url}/healthz") as answer:
            assert answer.status == 200
        import base64

        offered = "historian.token." + base64.urlsafe_b64encode("s3cret-ü".encode()).decode().rstrip("=")
        async with http.ws_connect(f"{server.url}/v1/stream", protocols=["historian.v1.json", offered]) as ws:
            assert ws.protocol == "historian.v1.json"
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await http.ws_connect(f"{server.url}/v1/stream", protocols=["historian.v1.json"])


async def test_off_loopback_it_is_closed_by_default(database: str) -> None:
    with pytest.raises(BadInput, match="HISTORIAN_TOKEN"):
        async with serving(database, Settings(port=0, host="0.0.0.0")):
            pass
    async with serving(database, Settings(port=0, host="0.0.0.0", token="t")) as server:
        assert server.url.startswith("http://127.0.0.1:")


async def test_a_port_that_is_taken_is_named(database: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=f"127.0.0.1:{port}"):
            async with serving(database, Settings(port=port)):
                pass


async def test_a_database_without_schema_is_refused_with_what_to_run(empty_database: str) -> None:
    with pytest.raises(SchemaError, match="historian db init"):
        async with serving(empty_database, Settings(port=0)):
            pass


async def test_a_server_that_stops_answers_what_it_has_taken(database: str, http: aiohttp.ClientSession) -> None:
    async with serving(database, Settings(port=0)) as server:
        writes = [
            asyncio.create_task(write(http, server, [(f"stop/t{n}", TS, n)], **{"Historian-Producer": "p", "Historian-Seq": str(n)}))
            for n in range(20)
        ]
        ws = await http.ws_connect(f"{server.url}/v1/stream", protocols=["historian.v1.json"])
        done, _ = await asyncio.wait(writes, return_when=asyncio.FIRST_COMPLETED)
    assert (await ws.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.TEXT)
    answers = await asyncio.gather(*writes, return_exceptions=True)
    acknowledged = sum(isinstance(answer, dict) for answer in answers)
    assert acknowledged >= len(done)
    async with serving(database, Settings(port=0)) as server, http.get(f"{server.url}/v1/producers/p") as answer:
        assert (await answer.json())["batches"] >= acknowledged
