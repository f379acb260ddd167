"""GET /openapi.json: the HTTP interface, described for programs (OpenAPI 3.1)."""

from __future__ import annotations

from functools import cache
from typing import Any

import orjson
from aiohttp import web

from historian import __version__
from historian.schema.catalogue import KINDS, TagDefinition

_ARROW = "application/vnd.apache.arrow.stream"
_PARQUET = "application/vnd.apache.parquet"
_RESULTS = {
    _ARROW: {"schema": {"type": "string", "format": "binary"}},
    "application/json": {"schema": {"$ref": "#/components/schemas/Samples"}},
    "text/csv": {"schema": {"type": "string"}},
    _PARQUET: {"schema": {"type": "string", "format": "binary"}},
}


def _parameter(
    name: str, text: str, schema: dict[str, Any], *, required: bool = False, where: str = "query", many: bool = False
) -> dict[str, Any]:
    found = {"name": name, "in": where, "required": required, "description": text, "schema": schema}
    return found | {"explode": True, "style": "form"} if many else found


_STRING: dict[str, Any] = {"type": "string"}
_TIME = {
    "oneOf": [
        {"type": "string", "description": "RFC 3339, or relative: now, -90s, -15m, -1h, -7d"},
        {"type": "integer", "description": "µs since 1970"},
    ]
}
_TAGS = _parameter("tag", "Tag path or UNS wildcard; once for each", {"type": "array", "items": _STRING}, many=True)
_EXPRESSIONS = _parameter(
    "expr",
    "Expression over tags, with a name before a colon or without, as in `power: a/b/flow * 2`; once for each",
    {"type": "array", "items": {"type": "string", "maxLength": 4296}, "maxItems": 64},
    many=True,
)
_MATCH = _parameter("match", "Tag path or UNS wildcard (site/+/line1/#)", _STRING)
_FORMAT = _parameter("format", "Instead of Accept", {"enum": ["arrow", "json", "csv", "parquet"]})
_MODE = _parameter(
    "mode",
    "raw samples; or at most `points` a tag: minmax always, auto where there are more",
    {"enum": ["raw", "minmax", "auto"], "default": "raw"},
)
_POINTS = _parameter("points", "Of each tag", {"type": "integer", "minimum": 10, "maximum": 100_000, "default": 2000})


def _answers(text: str, content: dict[str, Any]) -> dict[str, Any]:
    return {
        "200": {"description": text, "content": content},
        "default": {
            "description": "A fault, as an RFC 9457 problem document",
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        },
    }


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


@cache
def _document() -> bytes:
    sample = _object(
        {
            "tag": _STRING,
            "ts": {"oneOf": [{"type": "string", "format": "date-time"}, {"type": "integer", "description": "µs since 1970"}]},
            "value": {"description": "A number, true or false, text, or the name of a state; null: a bad sample"},
            "quality": {"type": "integer", "minimum": 0, "maximum": 255, "default": 192},
        },
        "tag",
        "ts",
        "value",
    )
    tag = _object(
        {
            "tag_id": {"type": "integer"},
            "path": _STRING,
            "kind": {"enum": list(KINDS)},
            "unit": {"type": ["string", "null"]},
            "description": {"type": ["string", "null"]},
            "low": {"type": ["number", "null"]},
            "high": {"type": ["number", "null"]},
            "step": {"type": "boolean"},
            "states": {"type": ["object", "null"], "additionalProperties": _STRING},
            "expression": {"type": "string", "description": "Of a calculated pen"},
        }
    )
    fault = _object({"row": {"type": "integer"}, "column": _STRING, "detail": _STRING})
    problem = _object(
        {
            "type": _STRING,
            "title": _STRING,
            "status": {"type": "integer"},
            "detail": _STRING,
            "errors": {"type": "array", "items": fault},
            "error_count": {"type": "integer"},
        },
        "type",
        "title",
        "status",
        "detail",
    )
    receipt = _object(
        {"producer": _STRING, "seq": {"type": "integer"}, "samples": {"type": "integer"}, "xid": {"type": "integer"}},
        "producer",
        "seq",
        "samples",
        "xid",
    )
    done = _object(
        {
            "producer": _STRING,
            "samples": {"type": "integer"},
            "batches": {"type": "integer"},
            "ranges": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}},
        }
    )
    producer = _parameter("Historian-Producer", "Who numbers these batches (percent-encoded UTF-8)", _STRING, where="header")
    seq = _parameter("Historian-Seq", "The batch's number: sent again, it counts once", {"type": "integer", "minimum": 0}, where="header")
    paths = {
        "/v1/write": {
            "post": {
                "summary": "Store a batch of samples; answered when it is on disk",
                "parameters": [producer, seq],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Samples"}},
                        _ARROW: {"schema": {"type": "string", "format": "binary"}},
                        "text/csv": {"schema": {"type": "string"}},
                    },
                },
                "responses": _answers("Committed", _json("Receipt")),
            }
        },
        "/v1/range": {
            "get": {
                "summary": "Samples of some tags in [start, end)",
                "parameters": [
                    _TAGS,
                    _EXPRESSIONS,
                    _parameter("start", "First instant", _TIME, required=True),
                    _parameter("end", "First instant that is not asked for; now by default", _TIME),
                    _MODE,
                    _POINTS,
                    _parameter("limit", "At most so many samples in all", {"type": "integer", "minimum": 1}),
                    _FORMAT,
                ],
                "responses": _answers("Grouped by tag, in order of time", _RESULTS),
            }
        },
        "/v1/snapshot": {
            "get": {
                "summary": "The newest sample of every tag",
                "parameters": [_MATCH, _FORMAT],
                "responses": _answers("One sample a tag", _RESULTS),
            }
        },
        "/v1/tags": {
            "get": {"summary": "The tag catalogue", "parameters": [_MATCH], "responses": _answers("By path", _json("Tags"))},
            "put": {
                "summary": "Make tags or change them, all or none",
                "requestBody": {"required": True, "content": _json("TagDefinitions")},
                "responses": _answers("As they stand now", _json("Tags")),
            },
        },
        "/v1/producers/{name}": {
            "get": {
                "summary": "Which batches of a producer are on disk",
                "parameters": [_parameter("name", "The producer", _STRING, required=True, where="path")],
                "responses": _answers("Inclusive ranges of seqs", _json("Producer")),
            }
        },
        "/v1/stream": {
            "get": {
                "summary": "Backfill and live tail: a WebSocket (docs/protocol.md) or, without upgrade, an endless Arrow IPC stream",
                "parameters": [
                    _TAGS,
                    _EXPRESSIONS,
                    _parameter("from", "Start of the backfill; none: live only", _TIME),
                    _parameter("to", "End of the stream; none: never", _TIME),
                    _MODE,
                    _POINTS,
                    _parameter("cursor", "Go on behind this place", {"type": "integer", "minimum": 0}),
                ],
                "responses": _answers("Without upgrade", {_ARROW: _RESULTS[_ARROW]}) | {"101": {"description": "The stream protocol"}},
            }
        },
        "/v1/ingest": {
            "get": {
                "summary": "Batches in, acknowledgements out, many under way at once: a WebSocket (docs/protocol.md)",
                "responses": {"101": {"description": "The ingest protocol"}, "default": _answers("", {})["default"]},
            }
        },
        "/healthz": {"get": {"summary": "The process lives", "responses": _answers("Yes", {"application/json": {}})}},
        "/readyz": {"get": {"summary": "Writes and streams are served", "responses": _answers("Yes", {"application/json": {}})}},
        "/metrics": {"get": {"summary": "Figures for Prometheus", "responses": _answers("Text format", {"text/plain": {}})}},
    }
    document = {
        "openapi": "3.1.0",
        "info": {"title": "historian", "version": __version__, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Sample": sample,
                "Samples": _object({"samples": {"type": "array", "items": {"$ref": "#/components/schemas/Sample"}}}, "samples"),
                "Tag": tag,
                "Tags": _object({"tags": {"type": "array", "items": {"$ref": "#/components/schemas/Tag"}}}, "tags"),
                "TagDefinition": TagDefinition.model_json_schema(),
                "TagDefinitions": _object({"tags": {"type": "array", "items": {"$ref": "#/components/schemas/TagDefinition"}}}, "tags"),
                "Receipt": receipt,
                "Producer": done,
                "Problem": problem,
            },
        },
    }
    return orjson.dumps(document)


async def openapi(_request: web.Request) -> web.Response:
    return web.Response(body=_document(), content_type="application/json")
