"""Bad input is answered clearly, with the fault and its row; nothing is stored by halves, and the server stays up."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import numpy as np
import pyarrow as pa
import pytest
import zstandard

from historian.schema.connection import Pool
from historian.server.run import Server

ARROW = "application/vnd.apache.arrow.stream"
JSON = "application/json"
CSV = "text/csv"
TS = 1_767_225_600_000_000


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def arrow(**columns: Any) -> bytes:
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def ts(*values: int) -> pa.Array:
    return pa.array(values, pa.timestamp("us", tz="UTC"))


def json_body(*rows: dict[str, Any]) -> bytes:
    return json.dumps({"samples": list(rows)}).encode()


GOOD_ROW = {"tag": "bad/good", "ts": TS, "value": 1.0}


async def post(http: aiohttp.ClientSession, server: Server, body: bytes, content_type: str, **headers: str) -> tuple[int, dict[str, Any]]:
    async with http.post(f"{server.url}/v1/write", data=body, headers={"Content-Type": content_type, **headers}) as answer:
        assert answer.content_type == ("application/json" if answer.status == 200 else "application/problem+json")
        return answer.status, await answer.json(content_type=None)


async def assert_nothing_stored(http: aiohttp.ClientSession, server: Server, pool: Pool) -> None:
    assert await pool.fetchval("SELECT count(*) FROM historian.sample") == 0
    assert await pool.fetchval("SELECT count(*) FROM historian.ledger") == 0
    assert await pool.fetchval("SELECT count(*) FROM historian.tag") == 0, "a faulty body made a tag"
    async with http.get(f"{server.url}/readyz") as answer:
        assert answer.status == 200
    assert (await post(http, server, json_body(GOOD_ROW), JSON))[0] == 200


# whole bodies: what is wrong is said, with where
MALFORMED = {
    "arrow: no Arrow at all": (b"this is no Arrow", ARROW, 400, "Arrow"),
    "arrow: empty": (b"", ARROW, 400, "empty"),
    "arrow: cut off": (arrow(tag=["bad/a"] * 1000, ts=ts(*range(TS, TS + 1000)), value=np.arange(1000.0))[:-300], ARROW, 400, ""),
    "arrow: no ts": (arrow(tag=["bad/a"], value=[1.0]), ARROW, 400, "ts"),
    "arrow: no tag": (arrow(ts=ts(TS), value=[1.0]), ARROW, 400, "tag"),
    "arrow: unknown column": (arrow(tag=["bad/a"], ts=ts(TS), value=[1.0], colour=["red"]), ARROW, 400, "colour"),
    "arrow: ts is text": (arrow(tag=["bad/a"], ts=["now"], value=[1.0]), ARROW, 400, "ts"),
    "arrow: value is a list": (arrow(tag=["bad/a"], ts=ts(TS), value=[[1.0]]), ARROW, 400, "value"),
    "arrow: quality is a float": (arrow(tag=["bad/a"], ts=ts(TS), value=[1.0], quality=[192.5]), ARROW, 400, "quality"),
    "json: syntax": (b'{"samples":[{"tag":"bad/a",}]}', JSON, 400, "JSON"),
    "json: not UTF-8": (b'{"samples":[{"tag":"bad/\xff","ts":1,"value":1}]}', JSON, 400, ""),
    "json: no object": (b"[1,2]", JSON, 400, "samples"),
    "json: unknown field outside": (b'{"samples":[],"sampels":[]}', JSON, 400, "sampels"),
    "csv: no header": (b"bad/a,2026-01-01T00:00:00Z,1\n", CSV, 400, ""),
    "csv: unknown column": (b"tag,ts,value,colour\nbad/a,2026-01-01T00:00:00Z,1,red\n", CSV, 400, "colour"),
    "another type": (b"<samples/>", "application/xml", 415, "application/xml"),
    "gzip that is none": (b"no gzip", JSON, 400, "gzip"),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_body_is_named(name: str, server: Server, http: aiohttp.ClientSession, pool: Pool) -> None:
    body, content_type, status, word = MALFORMED[name]
    headers = {"Content-Encoding": "gzip"} if name.startswith("gzip") else {}
    found, problem = await post(http, server, body, content_type, **headers)
    assert (found, problem["status"]) == (status, status), problem
    assert problem["type"].startswith("urn:historian:problem:")
    assert word in problem["detail"], problem["detail"]
    assert "Traceback" not in json.dumps(problem)
    await assert_nothing_stored(http, server, pool)


# one faulty row among good ones: row 1
FAULTY_ROWS = {
    "infinity in JSON": ({"tag": "bad/a", "ts": TS, "value": 1e999}, None),
    "a value that is an object": ({"tag": "bad/a", "ts": TS, "value": {"x": 1}}, "value"),
    "NaN said to be good": ({"tag": "bad/a", "ts": TS, "value": None, "quality": 192}, "quality"),
    "ts before 1970": ({"tag": "bad/a", "ts": -1, "value": 1}, "ts"),
    "ts far ahead": ({"tag": "bad/a", "ts": "9999-01-01T00:00:00Z", "value": 1}, "ts"),
    "ts in nanoseconds": ({"tag": "bad/a", "ts": TS * 1000, "value": 1}, "ts"),
    "ts that is none": ({"tag": "bad/a", "ts": "yesterday", "value": 1}, "ts"),
    "the 30th of February": ({"tag": "bad/a", "ts": "2026-02-30T00:00:00Z", "value": 1}, "ts"),
    "no ts": ({"tag": "bad/a", "value": 1}, "ts"),
    "no tag": ({"ts": TS, "value": 1}, "tag"),
    "a path with +": ({"tag": "bad/+/a", "ts": TS, "value": 1}, "tag"),
    "a path with #": ({"tag": "bad/#", "ts": TS, "value": 1}, "tag"),
    "a path with NUL": ({"tag": "bad/\x00", "ts": TS, "value": 1}, "tag"),
    "a path of 10 kB": ({"tag": "x" * 10_240, "ts": TS, "value": 1}, "tag"),
    "an empty level": ({"tag": "bad//a", "ts": TS, "value": 1}, "tag"),
    "17 levels": ({"tag": "/".join("abcdefghijklmnopq"), "ts": TS, "value": 1}, "tag"),
    "quality 256": ({"tag": "bad/a", "ts": TS, "value": 1, "quality": 256}, "quality"),
    "quality as text": ({"tag": "bad/a", "ts": TS, "value": 1, "quality": "good"}, "quality"),
    "an unknown field": ({"tag": "bad/a", "ts": TS, "value": 1, "valeu": 2}, "valeu"),
    "a row that is no object": (17, None),
    "text with NUL": ({"tag": "bad/a", "ts": TS, "value": "a\x00b"}, "value"),
}


@pytest.mark.parametrize("name", FAULTY_ROWS)
async def test_a_faulty_row_is_named_and_nothing_is_stored(name: str, server: Server, http: aiohttp.ClientSession, pool: Pool) -> None:
    row, column = FAULTY_ROWS[name]
    body = json.dumps({"samples": [GOOD_ROW, row, GOOD_ROW]}).replace("Infinity", "1e999").encode()
    status, problem = await post(http, server, body, JSON)
    assert status in (400, 422), problem
    if status == 422:
        assert problem["errors"][0]["row"] == 1
        assert column in (None, problem["errors"][0]["column"])
        assert problem["error_count"] == 1
    else:
        # the parser itself refused the text, or the row's shape: the detail says where
        assert column is None or column in problem["detail"], problem["detail"]
    await assert_nothing_stored(http, server, pool)


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
async def test_infinity_in_arrow_is_named_with_its_row(value: float, server: Server, http: aiohttp.ClientSession, pool: Pool) -> None:
    body = arrow(tag=["bad/a"] * 3, ts=ts(TS, TS + 1, TS + 2), value=[1.0, 2.0, value])
    status, problem = await post(http, server, body, ARROW)
    assert status == 422
    assert [(error["row"], error["column"]) for error in problem["errors"]] == [(2, "value")]
    await assert_nothing_stored(http, server, pool)


async def test_nan_is_a_bad_sample_unless_it_is_said_to_be_good(server: Server, http: aiohttp.ClientSession, pool: Pool) -> None:
    nan = float("nan")
    status, problem = await post(
        http, server, arrow(tag=["bad/a"] * 2, ts=ts(TS, TS + 1), value=[1.0, nan], quality=pa.array([192, 192], pa.int16())), ARROW
    )
    assert status == 422
    assert [(error["row"], error["column"]) for error in problem["errors"]] == [(1, "quality")]
    status, _ = await post(http, server, arrow(tag=["bad/a"] * 2, ts=ts(TS, TS + 1), value=[1.0, nan]), ARROW)
    assert status == 200
    rows = await pool.fetch("SELECT quality FROM historian.sample ORDER BY ts")
    assert [row["quality"] for row in rows] == [192, 0]


async def test_several_faults_are_all_named(server: Server, http: aiohttp.ClientSession, pool: Pool) -> None:
    rows = [{"tag": f"bad/{'+' if n % 2 else 'a'}", "ts": -1 if n % 3 == 0 else TS, "value": 1} for n in range(12)]
    status, problem = await post(http, server, json_body(*rows), JSON)
    assert status == 422
    named = {(error["row"], error["column"]) for error in problem["errors"]}
    assert named == {(n, "tag") for n in range(12) if n % 2} | {(n, "ts") for n in range(12) if n % 3 == 0}
    assert problem["error_count"] == len(named)
    await assert_nothing_stored(http, server, pool)


async def test_a_value_that_does_not_fit_the_kind_of_its_tag(server: Server, http: aiohttp.ClientSession) -> None:
    tags = [
        {"path": "k/int", "kind": "int"},
        {"path": "k/digital", "kind": "digital", "states": {"0": "off", "1": "on"}},
        {"path": "k/text", "kind": "text"},
    ]
    async with http.put(f"{server.url}/v1/tags", json={"tags": tags}) as answer:
        assert answer.status == 200, await answer.text()
    faulty = [("k/int", 1.5), ("k/int", 2**60), ("k/int", "x"), ("k/digital", "half"), ("k/text", 5)]
    status, problem = await post(
        http, server, json_body(*({"tag": tag, "ts": TS + n, "value": value} for n, (tag, value) in enumerate(faulty))), JSON
    )
    assert status == 422, problem
    assert [error["row"] for error in problem["errors"]] == [0, 1, 2, 3, 4]
    good = [("k/int", 2), ("k/digital", "on"), ("k/text", "five")]
    status, _ = await post(
        http, server, json_body(*({"tag": tag, "ts": TS + n, "value": value} for n, (tag, value) in enumerate(good))), JSON
    )
    assert status == 200


async def test_a_body_of_200_mb_is_refused_whether_announced_or_not(server: Server, http: aiohttp.ClientSession, pool: Pool) -> None:
    piece = b"x" * (1 << 20)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield piece

    async with http.post(f"{server.url}/v1/write", data=io.BytesIO(piece * 200), headers={"Content-Type": ARROW}) as answer:
        assert answer.status == 413
        assert "209715200 bytes" in (await answer.json(content_type=None))["detail"]
    # chunked: no length is announced; the server stops reading, and may close before all is sent
    try:
        async with http.post(f"{server.url}/v1/write", data=pieces(), headers={"Content-Type": ARROW}) as answer:
            assert answer.status == 413
    except aiohttp.ClientConnectionError:
        pass
    assert server.services.bodies.held == 0
    await assert_nothing_stored(http, server, pool)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_a_body_that_unpacks_to_gigabytes_is_refused(encoding: str, server: Server, http: aiohttp.ClientSession, pool: Pool) -> None:
    zeros = bytes(100 << 20)
    body = gzip.compress(zeros, 1) if encoding == "gzip" else zstandard.ZstdCompressor().compress(zeros)
    status, problem = await post(http, server, body, ARROW, **{"Content-Encoding": encoding})
    assert status == 413
    assert "unpacked" in problem["detail"]
    await assert_nothing_stored(http, server, pool)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
async def test_compressed_bodies_are_taken(encoding: str, server: Server, http: aiohttp.ClientSession) -> None:
    import zlib

    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstandard.ZstdCompressor().compress}[encoding]
    status, receipt = await post(http, server, pack(json_body(GOOD_ROW)), JSON, **{"Content-Encoding": encoding})
    assert status == 200, receipt
    assert receipt["samples"] == 1


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_a_compressed_body_that_is_cut_off_stores_nothing(
    encoding: str, server: Server, http: aiohttp.ClientSession, pool: Pool
) -> None:
    """CSV, whose part would read as a whole."""
    body = b"tag,ts,value\n" + b"".join(b"bad/a,%d,%d\n" % (TS + n, n * 7919 % 100_003) for n in range(20_000))
    packed = gzip.compress(body) if encoding == "gzip" else zstandard.ZstdCompressor().compress(body)
    for part in (packed[: len(packed) // 2], packed[:-1], packed + b"rest"):
        status, problem = await post(http, server, part, CSV, **{"Content-Encoding": encoding})
        assert (status, problem["status"]) == (400, 400)
    await assert_nothing_stored(http, server, pool)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_a_compressed_body_of_several_parts_is_read_whole(encoding: str, server: Server, http: aiohttp.ClientSession) -> None:
    pack = gzip.compress if encoding == "gzip" else zstandard.ZstdCompressor().compress
    body = pack(b"tag,ts,value\n") + pack(b"bad/a,%d,1\n" % TS) + pack(b"bad/a,%d,2\n" % (TS + 1))
    status, receipt = await post(http, server, body, CSV, **{"Content-Encoding": encoding})
    assert (status, receipt["samples"]) == (200, 2)


async def test_several_requests_before_a_half_close_are_all_answered(server: Server, http: aiohttp.ClientSession) -> None:
    body = json_body(GOOD_ROW)
    answers = await raw(server, (head(server, len(body)) + body) * 3)
    assert answers.count(b"HTTP/1.1 200 ") == 3


@pytest.mark.parametrize(
    "sent",
    [
        b"NONSENSE / HTTP/1.1\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /v1/write HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"GET /v1/tags HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"GET /v1/tags HTTP/1.1\r\nHost: localhost\r\nOrigin: http://\xff\r\n\r\n",
    ],
)
async def test_malformed_requests_are_answered_as_problems(sent: bytes, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    answer = await raw(server, sent, half_close=b"GET /v1" in sent)
    assert re.match(rb"HTTP/1\.[01] 4\d\d ", answer), answer
    assert b"application/problem+json" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"].startswith("urn:historian:problem:")
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        ({"Historian-Producer": "p"}, "Historian-Seq"),
        ({"Historian-Seq": "1"}, "Historian-Producer"),
        ({"Historian-Producer": "p", "Historian-Seq": "-1"}, "Historian-Seq"),
        ({"Historian-Producer": "p", "Historian-Seq": "1.5"}, "Historian-Seq"),
        ({"Historian-Producer": "p", "Historian-Seq": "9" * 30}, "seq"),
        ({"Historian-Producer": "p%00q", "Historian-Seq": "1"}, "producer"),
        ({"Historian-Producer": "%ff", "Historian-Seq": "1"}, "UTF-8"),
        ({"Historian-Producer": "x" * 1000, "Historian-Seq": "1"}, "producer"),
        ({"Historian-Producer": "anonymous:1", "Historian-Seq": "1"}, "anonymous"),
    ],
)
async def test_faulty_producers(headers: dict[str, str], word: str, server: Server, http: aiohttp.ClientSession, pool: Pool) -> None:
    status, problem = await post(http, server, json_body(GOOD_ROW), JSON, **headers)
    assert status == 400
    assert word in problem["detail"], problem["detail"]
    await assert_nothing_stored(http, server, pool)


async def raw(server: Server, sent: bytes, *, half_close: bool = True) -> bytes:
    """Send bytes, shut down the sending side, and read what is answered."""
    address = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(sent)
        await writer.drain()
        if half_close:
            writer.write_eof()
        async with asyncio.timeout(15):
            return await reader.read()
    finally:
        writer.close()


def head(server: Server, length: int, *more: str) -> bytes:
    host = urlsplit(server.url).netloc
    lines = ["POST /v1/write HTTP/1.1", f"Host: {host}", f"Content-Type: {JSON}", f"Content-Length: {length}", *more, "", ""]
    return "\r\n".join(lines).encode()


async def test_a_half_closed_connection_gets_the_answer_to_what_it_sent(server: Server, http: aiohttp.ClientSession, pool: Pool) -> None:
    body = json_body(GOOD_ROW)
    answer = await raw(server, head(server, len(body)) + body)
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert await pool.fetchval("SELECT count(*) FROM historian.sample") == 1


async def test_a_connection_half_closed_in_the_middle_of_a_body_is_told_so(server: Server, http: aiohttp.ClientSession, pool: Pool) -> None:
    body = json_body(GOOD_ROW)
    answer = await raw(server, head(server, len(body) + 100) + body)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    problem = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert f"received {len(body)} of {len(body) + 100} bytes" in problem["detail"]
    chunked = head(server, 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"%x\r\n%s\r\n" % (len(body), body)
    answer = await raw(server, chunked)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert b"in the middle of the body" in answer
    await assert_nothing_stored(http, server, pool)


async def test_what_is_no_http_is_answered(server: Server, http: aiohttp.ClientSession, pool: Pool) -> None:
    answer = await raw(server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
    assert answer.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 ")), answer
    assert b"Traceback" not in answer
    await assert_nothing_stored(http, server, pool)


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/v1/range", 400, "no tag"),
        ("/v1/range?tag=bad/a", 400, "no start"),
        ("/v1/range?tag=bad/a&start=-1h", 404, "bad/a"),
        ("/v1/range?tag=bad/%2B%2B&start=-1h", 400, "+"),
        ("/v1/range?tag=%23&start=soon", 400, "soon"),
        ("/v1/range?start=-1h&" + "&".join(f"tag=a{n}/%2B" for n in range(65)), 400, "at most 64"),
        ("/v1/range?tag=%23&start=-1h&end=-2h", 400, "before"),
        ("/v1/range?tag=%23&start=-1h&mode=best", 400, "mode"),
        ("/v1/range?tag=%23&start=-1h&points=1", 400, "points"),
        ("/v1/range?tag=%23&start=-1h&points=1e9", 400, "points"),
        ("/v1/range?tag=%23&start=-1h&limit=0", 400, "limit"),
        ("/v1/range?tag=%23&start=-1h&format=xls", 400, "xls"),
        ("/v1/range?tag=%23&start=-1h&star=-2h", 400, "star"),
        ("/v1/range?tag=%23&start=-1h&start=-2h", 400, "twice"),
        ("/v1/tags?match=a/%23/b", 400, "#"),
        ("/v1/snapshot?match=a/%00", 400, "control"),
        ("/v1/producers/nobody", 404, "nobody"),
        ("/v1/nothing", 404, "/v1/nothing"),
        ("/assets/..%2f..%2fapp.py", 404, "asset"),
    ],
)
async def test_faulty_requests(path: str, status: int, word: str, server: Server, http: aiohttp.ClientSession) -> None:
    from yarl import URL

    async with http.get(URL(f"{server.url}{path}", encoded=True)) as answer:
        assert answer.status == status, await answer.text()
        assert answer.content_type == "application/problem+json"
        problem = await answer.json(content_type=None)
        assert word in problem["detail"], problem["detail"]


async def test_a_format_that_cannot_be_written(server: Server, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{server.url}/v1/range?tag=%23&start=-1h", headers={"Accept": "application/pdf"}) as answer:
        assert answer.status == 406


async def test_a_method_that_is_not_served(server: Server, http: aiohttp.ClientSession) -> None:
    async with http.delete(f"{server.url}/v1/tags") as answer:
        assert answer.status == 405
        assert {"GET", "PUT"} <= {method.strip() for method in answer.headers["Allow"].split(",")}


@pytest.mark.parametrize(
    ("definition", "word"),
    [
        ({"path": "a/+/b"}, "+"),
        ({"path": "t/a", "kind": "complex"}, "kind"),
        ({"path": "t/a", "units": "bar"}, "units"),
        ({"path": "t/a", "low": 5, "high": 1}, "above"),
        ({"path": "t/a", "kind": "float", "states": {"0": "off"}}, "states"),
        ({"path": "t/a", "states": {"zero": "off"}}, "zero"),
        ({"path": "t/a", "unit": "x" * 100}, "unit"),
        ({}, "path"),
    ],
)
async def test_faulty_definitions_change_nothing(
    definition: dict[str, Any], word: str, server: Server, http: aiohttp.ClientSession
) -> None:
    async with http.put(f"{server.url}/v1/tags", json={"tags": [{"path": "t/good"}, definition]}) as answer:
        assert answer.status == 400
        assert word in (await answer.json(content_type=None))["detail"]
    async with http.get(f"{server.url}/v1/tags") as answer:
        assert (await answer.json())["tags"] == []
