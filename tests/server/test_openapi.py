"""The OpenAPI document is true: requests made up from it, as it says and against it, are answered as it says."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from processes import Serve
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from historian.client import connect

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
#: WebSockets, and a stream without end
ENDLESS = {"/v1/stream", "/v1/ingest"}
EXAMPLES = 15
T = "2026-01-01T00:00:00Z"
TAGS = [{"path": "api/a"}, {"path": "api/b", "kind": "digital", "states": {"0": "off", "1": "on"}}, {"path": "api/c", "kind": "text"}]


def answers_as_described(operation: APIOperation[Any, Any, Any, Any], url: str) -> set[int]:
    """Ask an operation of a server in many ways; the statuses that came."""
    found: set[int] = set()
    ways = [operation.as_strategy(generation_mode=mode) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)]

    @settings(
        max_examples=EXAMPLES if operation.path == "/v1/range" else EXAMPLES // 2,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=st.one_of(ways), sensible=st.booleans())
    def ask(case: Case, sensible: bool) -> None:
        if sensible and operation.path == "/v1/range":
            # of what is made up nearly all is refused: a tag that is none, a time that is none, what goes with another mode
            good = {"tag": ["api/#"], "start": "2026-01-01", "end": "2026-01-02"}
            if operation.method == "post":
                made_up = case.body if isinstance(case.body, dict) else {}
                case.query = {}
                case.body = {name: made_up[name] for name in ("mode", "points", "limit", "format") if name in made_up} | good
            else:
                case.query = {name: value for name, value in case.query.items() if name not in ("at", "cursor")} | good
        response = case.call(base_url=url, timeout=10)
        found.add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    ask()
    return found


def test_every_operation_answers_as_it_is_described(serve: Serve) -> None:
    url = serve().url
    with connect(url) as client:
        client.define(TAGS)
        client.write([{"tag": "api/a", "ts": T, "value": 1.5}, {"tag": "api/b", "ts": T, "value": "on"}])
        client.write([{"tag": "api/c", "ts": T, "value": "é"}])
    operations = {
        f"{operation.method.upper()} {operation.path}": operation
        for found in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations()
        for operation in [found.ok()]
        if operation.path not in ENDLESS
    }
    assert {"GET /v1/range", "POST /v1/write", "PUT /v1/tags", "GET /v1/snapshot"} <= set(operations)
    statuses = {name: answers_as_described(operation, url) for name, operation in operations.items()}
    assert {200, 400} <= statuses["GET /v1/range"]
    assert {200, 400} <= statuses["POST /v1/range"]
    assert 200 in statuses["GET /v1/tags"]
