"""Saved views and dashboards: stored as they come, never written over unseen, and refused with the path of each fault."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from historian.schema import documents
from historian.schema.connection import Pool
from historian.schema.errors import Conflict
from historian.server.run import Server, serving
from historian.settings import Settings

VIEW: dict[str, Any] = {"title": "Start of line 1", "hash": "#pen=a/b~0&span=900"}
OEE = {"type": "kpi", "x": 0, "y": 0, "w": 3, "h": 3, "equipment": "filler", "show": "oee", "target": 0.85}
VALUE = {"type": "value", "x": 3, "y": 0, "w": 3, "h": 2, "tag": "a/b", "limits": {"low": 1, "high": 2.5}}
BOARD: dict[str, Any] = {
    "title": "Line 1",
    "equipment": {
        "filler": {"state": "l/state", "running": ["running"], "total": "l/total", "good": "l/good", "ideal_cycle": "l/ideal"},
    },
    "tiles": [OEE, VALUE],
}


class Api:
    """Asks a server, and returns status, ETag and document."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url, self.session = url, session

    async def __call__(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, str | None, Any]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.request(method, f"{self.url}{path}", data=data, headers=given) as answer:
            text = await answer.text()
            return answer.status, answer.headers.get("ETag"), json.loads(text) if text else None


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession() as session:
        yield Api(server.url, session)


async def test_a_document_is_stored_listed_read_and_deleted(api: Api) -> None:
    for kind, document in (("views", VIEW), ("dashboards", BOARD)):
        status, etag, _ = await api("PUT", f"/v1/{kind}/line-1", document)
        assert status == 201
        status, read_etag, read = await api("GET", f"/v1/{kind}/line-1")
        assert (status, read_etag) == (200, etag)
        # as it was, and with what it left out
        assert read["title"] == document["title"]
        assert read["version"] == 1
        assert [tile["type"] for tile in read.get("tiles", [])] == [tile["type"] for tile in document.get("tiles", [])]
        # what was read can be stored again
        assert (await api("PUT", f"/v1/{kind}/line-1", read, If_Match=str(etag)))[:2] == (200, etag)
        _, _, found = await api("GET", f"/v1/{kind}")
        assert [(row["name"], row["title"], row["etag"]) for row in found[kind]] == [("line-1", document["title"], etag)]
        assert (await api("DELETE", f"/v1/{kind}/line-1"))[0] == 204
        assert (await api("GET", f"/v1/{kind}/line-1"))[0] == 404
        assert (await api("DELETE", f"/v1/{kind}/line-1"))[0] == 404
        assert (await api("GET", f"/v1/{kind}"))[2] == {kind: []}


async def test_nobody_writes_over_what_he_has_not_seen(api: Api) -> None:
    _, first, _ = await api("PUT", "/v1/views/a", VIEW)
    other = VIEW | {"title": "Another"}
    # new ones only
    status, _, problem = await api("PUT", "/v1/views/a", other, If_None_Match="*")
    assert (status, problem["type"]) == (412, "urn:historian:problem:precondition-failed")
    # unsaid; but the same content again is no harm
    status, _, problem = await api("PUT", "/v1/views/a", other)
    assert (status, problem["type"]) == (428, "urn:historian:problem:precondition-required")
    assert (await api("PUT", "/v1/views/a", VIEW))[:2] == (200, first)
    # of two that have seen the same, one is let
    answers = await asyncio.gather(*(api("PUT", "/v1/views/a", VIEW | {"title": f"Of {n}"}, If_Match=str(first)) for n in range(8)))
    assert sorted(status for status, _, _ in answers) == [200] + [412] * 7
    (won,) = (etag for status, etag, _ in answers if status == 200)
    assert (await api("GET", "/v1/views/a"))[1] == won
    assert (await api("DELETE", "/v1/views/a", If_Match=str(first)))[0] == 412
    assert (await api("PUT", "/v1/views/a", other, If_Match="*"))[0] == 200
    assert (await api("PUT", "/v1/views/gone", other, If_Match="*"))[0] == 404
    for wrong in ("abc", 'W/"abc"', '"a", "b"'):
        assert (await api("PUT", "/v1/views/a", other, If_Match=wrong))[0] == 400


FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"title": " "}, "title", "at least 1"),
    ({"more": 1}, "more", "no such field"),
    ({"tiles": 5}, "tiles", "list"),
    ({"tiles": [VALUE | {"type": "dial"}]}, "tiles[0]", "'gauge'"),
    ({"tiles": [VALUE | {"x": 11}]}, "tiles[0]", "12 columns"),
    ({"tiles": [VALUE | {"tag": "a/#"}]}, "tiles[0].tag", "wildcards"),
    ({"tiles": [VALUE | {"limits": {"low": 3, "high": 2}}]}, "tiles[0].limits", "rise"),
    ({"tiles": [OEE | {"period": "8x"}]}, "tiles[0].period", "8h"),
    ({"equipment": {}}, "tiles[0].equipment", "'filler'"),
    ({"shifts": {"tz": "Europe/Nowhere"}}, "shifts.tz", "IANA"),
    ({"shifts": {"tz": "../../etc/passwd"}}, "shifts.tz", "IANA"),
]


async def test_a_fault_is_told_with_its_path(api: Api) -> None:
    for change, path, said in FAULTS:
        for address in ("/v1/dashboards/x", "/v1/dashboards/x?dry_run=true"):
            status, _, problem = await api("PUT", address, BOARD | change)
            assert (status, problem["type"]) == (422, "urn:historian:problem:bad-document"), change
            assert said in " ".join(fault["detail"] for fault in problem["errors"] if fault["path"] == path), problem
    assert (await api("GET", "/v1/dashboards"))[2] == {"dashboards": []}


async def test_what_is_no_document_is_refused_and_a_dry_run_stores_nothing(api: Api) -> None:
    assert (await api("PUT", "/v1/dashboards/x?dry_run=true", BOARD))[0] == 204
    assert (await api("GET", "/v1/dashboards/x"))[0] == 404
    assert (await api("PUT", "/v1/dashboards/x?dry_run=perhaps", BOARD))[0] == 400
    for body in (b"", b"{", b"\xff", b"[]", b"null", b'{"title": NaN}', b"[" * 100_000):
        assert (await api("PUT", "/v1/dashboards/x", body))[0] in (400, 422)
    assert (await api("PUT", "/v1/dashboards/x", b" " * (300 << 10)))[0] == 413
    assert (await api("PUT", "/v1/dashboards/x", BOARD | {"title": "a\x00b"}))[0] == 422
    for name in ("X", "a b", "-a", "a" * 101, "%00"):
        assert (await api("PUT", f"/v1/views/{name}", VIEW))[0] == 400
    for wrong in ({"hash": "pen=a"}, {"hash": "#a b"}, {"hash": "#" + "a" * 20_000}, {"hash": "#\n"}):
        assert (await api("PUT", "/v1/views/x", VIEW | wrong))[0] == 422


async def test_there_are_only_so_many(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_DOCUMENTS", 2)
    await documents.create(pool, "view", "a", b"{}")
    await documents.create(pool, "view", "b", b"{}")
    with pytest.raises(Conflict, match="as many as may be"):
        await documents.create(pool, "view", "c", b"{}")
    await documents.create(pool, "dashboard", "a", b"{}")


async def test_they_are_for_those_alone_who_have_the_token(database: str) -> None:
    async with serving(database, Settings(port=0, token="s3cret")) as server, aiohttp.ClientSession() as session:
        api = Api(server.url, session)
        for method in ("GET", "PUT", "DELETE"):
            assert (await api(method, "/v1/dashboards/x", BOARD))[0] == 401
        assert (await api("PUT", "/v1/dashboards/x", BOARD, Authorization="Bearer s3cret"))[0] == 201
