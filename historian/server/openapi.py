"""GET /openapi.json: the HTTP interface, described for programs (OpenAPI 3.1)."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

import orjson
from aiohttp import web

from historian import __version__
from historian.query.formats import ARROW, FORMATS
from historian.query.range_query import Bounds, Mode, StreamMode
from historian.schema.catalogue import KINDS, TagDefinition, WriteTo
from historian.schema.errors import (
    BadInput,
    BadSamples,
    Busy,
    Conflict,
    Forbidden,
    HistorianError,
    NotAcceptable,
    PreconditionFailed,
    PreconditionRequired,
    TimeLimit,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnknownTag,
    UnsupportedMediaType,
)
from historian.server import openapi_commands
from historian.server.documents import KINDS as DOCUMENTS
from historian.server.documents import MAX_DOCUMENT, Kind
from historian.server.parameters import FORM
from historian.server.range import MAX_LIMIT, MAX_POINTS, NEXT_HEADER, PAGE_ROWS
from historian.server.stream_http import EVENT_STREAM
from historian.stream import messages

_ARROW = ARROW.content_type
_PARQUET = "application/vnd.apache.parquet"
_RESULTS: dict[str, Any] = {
    _ARROW: {"schema": {"type": "string", "format": "binary"}},
    "application/json": {"schema": {"$ref": "#/components/schemas/Samples"}},
    "application/x-ndjson": {"schema": {"type": "string", "description": "A Sample a line"}},
    "text/csv": {"schema": {"type": "string"}},
    _PARQUET: {"schema": {"type": "string", "format": "binary"}},
}
#: faults by their status: what stands in `components.responses`
_FAULTS: dict[int, type[HistorianError]] = {
    cls.status: cls
    for cls in (
        BadInput,
        Unauthorized,
        Forbidden,
        UnknownTag,
        NotAcceptable,
        Conflict,
        PreconditionFailed,
        PreconditionRequired,
        TooLarge,
        UnsupportedMediaType,
        BadSamples,
        Busy,
        Unavailable,
        TimeLimit,
    )
}
_OF_ALL = (400, 401, 403, 503)


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
_FORMAT = _parameter("format", "Instead of Accept", {"enum": [form.name for form in FORMATS]})
_MODE = _parameter(
    "mode", "raw samples, or what else is to be made of them: docs/query.md", {"enum": list(get_args(Mode)), "default": "raw"}
)
_STREAM_MODE = _parameter(
    "mode",
    "Of the backfill: raw samples; or what a chart of `points` needs of them: docs/charts.md",
    {"enum": list(get_args(StreamMode)), "default": "raw"},
)
_POINTS = _parameter("points", "Of each tag", {"type": "integer", "minimum": 10, "maximum": MAX_POINTS, "default": 2000})
_OF_INTERVALS = [
    _parameter(
        "interval",
        "Width of the buckets: 250ms, 10s, 15m, 8h, 1d, 1w, 1mo, 1y; without it one for the whole span",
        {"type": "string", "pattern": "^[1-9][0-9]{0,8}(us|ms|s|m|h|d|w|mo|y)$"},
    ),
    _parameter("tz", "Time zone of the calendar, by its IANA name, with interval", {"type": "string", "default": "UTC"}),
    _parameter(
        "origin",
        "When a day or a shift begins, with interval",
        {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$"},
    ),
]
_OF_PAGES = [
    _parameter(
        "limit",
        f"At most so many samples in all; up to {PAGE_ROWS} they are a page",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
    ),
    _parameter("cursor", "The next page: as the answer before had it, with the same other parameters", _STRING),
    _parameter("timeout", "Seconds that the answer may take; at most what the server is set to", {"type": "number", "exclusiveMinimum": 0}),
]


def _form(parameters: list[dict[str, Any]]) -> dict[str, Any]:
    """Parameters of an address as the fields of a form."""
    fields = {found["name"]: found["schema"] | {"description": found["description"]} for found in parameters}
    lists = {name: {"style": "form", "explode": True} for name, schema in fields.items() if schema.get("type") == "array"}
    return {"schema": {"type": "object", "properties": fields, "additionalProperties": False}, "encoding": lists}


def _answers(text: str, content: dict[str, Any], *faults: int, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    """What may come of an operation: its result, and faults by their statuses."""
    result: dict[str, Any] = {"description": text, "content": content}
    if headers is not None:
        result["headers"] = headers
    return {"200": result} | _faults(*faults)


def _faults(*statuses: int) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/{_FAULTS[status].__name__}"} for status in sorted({*_OF_ALL, *statuses})}


def _fault(cls: type[HistorianError]) -> dict[str, Any]:
    """A fault as an RFC 9457 problem document."""
    found: dict[str, Any] = {
        "description": f"{cls.title}: {(cls.__doc__ or '').strip()}",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if cls in (Busy, Unavailable):
        found["headers"] = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
    return found


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


_ABOUT_LIMITS = {
    "low_low_limit": "Below it a value is an alarm",
    "low_limit": "Below it a value is a warning",
    "high_limit": "Above it a value is a warning",
    "high_high_limit": "Above it a value is an alarm; those of the four that are given rise",
}
#: a row of the catalogue
TAG = _object(
    {
        "tag_id": {"type": "integer"},
        "path": _STRING,
        "kind": {"enum": list(KINDS)},
        "unit": {"type": ["string", "null"]},
        "description": {"type": ["string", "null"]},
        "low": {"type": ["number", "null"]},
        "high": {"type": ["number", "null"]},
        **{name: {"type": ["number", "null"], "description": about} for name, about in _ABOUT_LIMITS.items()},
        "step": {"type": "boolean"},
        "states": {"type": ["object", "null"], "additionalProperties": _STRING},
        "writable": {"type": "boolean", "description": "Commands may write it"},
        "write_to": {"enum": list(get_args(WriteTo)), "description": "Where a command goes"},
        "expression": {"type": "string", "description": "Of a calculated pen"},
    }
)
_FAULT = _object({"row": {"type": "integer"}, "column": _STRING, "path": _STRING, "detail": _STRING})
_ETAG = {"ETag": {"description": "Of what stands now", "schema": _STRING}}


def _of_documents(kind: Kind) -> dict[str, Any]:
    """The paths of a kind of documents; its model is the schema of its name."""
    word, schema = kind.word, kind.model.__name__
    name = _parameter("name", f"The {word}", {"type": "string", "pattern": "^[a-z0-9][a-z0-9_.-]{0,99}$"}, required=True, where="path")
    match = _parameter("If-Match", "The ETag of what this is about, as it was read; * is whatever stands", _STRING, where="header")
    new = _parameter("If-None-Match", "*: only if there is none of this name", {"enum": ["*"]}, where="header")
    dry_run = _parameter("dry_run", "Only say whether the document is as it has to be", {"type": "boolean", "default": False})
    rows = _object({f"{word}s": {"type": "array", "items": {"$ref": "#/components/schemas/Described"}}}, f"{word}s")
    stored = {"content": _json("Stored"), "headers": _ETAG}
    return {
        f"/v1/{word}s": {
            "get": {
                "summary": f"The {word}s that are stored on this server",
                "responses": _answers(
                    "By name",
                    {"application/json": {"schema": rows}},
                    429,
                ),
            }
        },
        f"/v1/{word}s/{{name}}": {
            "get": {
                "summary": f"A {word}",
                "parameters": [name],
                "responses": _answers("As it was stored", _json(schema), 404, 429, headers=_ETAG),
            },
            "put": {
                "summary": f"Store a {word}, of {MAX_DOCUMENT >> 10} kB at most; what stands is replaced by who says what that is",
                "parameters": [name, match, new, dry_run],
                "requestBody": {"required": True, "content": _json(schema)},
                "responses": {
                    "200": {"description": "Replaced, or the same as stands", **stored},
                    "201": {"description": "Made", **stored},
                    "204": {"description": "dry_run: it is as it has to be"},
                }
                | _faults(404, 409, 412, 413, 415, 422, 428, 429),
            },
            "delete": {
                "summary": f"Delete a {word}",
                "parameters": [name, match],
                "responses": {"204": {"description": "It is gone"}} | _faults(404, 412, 429),
            },
        },
    }


def _schemas_of(kind: Kind) -> dict[str, Any]:
    """The model of a kind, and what it is made of."""
    schema = kind.model.model_json_schema(ref_template="#/components/schemas/{model}")
    parts: dict[str, Any] = schema.pop("$defs", {})
    return parts | {kind.model.__name__: schema}


#: RFC 9457
PROBLEM = _object(
    {
        "type": _STRING,
        "title": _STRING,
        "status": {"type": "integer"},
        "detail": _STRING,
        "errors": {"type": "array", "items": _FAULT},
        "error_count": {"type": "integer"},
    },
    "type",
    "title",
    "status",
    "detail",
)


@cache
def _document() -> bytes:
    sample = _object(
        {
            "tag": _STRING,
            "ts": {"oneOf": [{"type": "string", "format": "date-time"}, {"type": "integer", "description": "µs since 1970"}]},
            "value": {"description": "A number, true or false, text, or the name of a state; null: a bad sample"},
            "quality": {"type": "integer", "minimum": 0, "maximum": 255, "default": 192},
            "state": {"type": ["string", "null"], "description": "In results of modes duration and transitions: the state of the row"},
        },
        "tag",
        "ts",
        "value",
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
    moment = {"type": ["string", "null"], "format": "date-time"}
    cursor = _object(
        {
            "name": _STRING,
            "tags": {"type": "array", "items": _STRING},
            "from": moment,
            "created_at": {"type": "string", "format": "date-time"},
            "acknowledged_at": moment,
            "waiting_since": moment | {"description": "Since when something is kept for it; null: it has all"},
            "expired": {"type": "boolean", "description": "The ledger no longer has all that follows: a gap and a backfill will come"},
            "client": {"type": ["string", "null"]},
        }
    )
    producer = _parameter("Historian-Producer", "Who numbers these batches (percent-encoded UTF-8)", _STRING, where="header")
    seq = _parameter("Historian-Seq", "The batch's number: sent again, it counts once", {"type": "integer", "minimum": 0}, where="header")
    asked = [
        _TAGS,
        _EXPRESSIONS,
        _parameter("start", "First instant; needed, but where there is `at`", _TIME),
        _parameter("end", "First instant that is not asked for; now by default", _TIME),
        _MODE,
        _POINTS,
        *_OF_INTERVALS,
        _parameter(
            "bounds",
            "raw: the samples just outside the span too, or values interpolated at its edges",
            {"enum": list(get_args(Bounds)), "default": "inside"},
        ),
        _parameter("at", "Instants, of modes at and interpolated; once for each", {"type": "array", "items": _TIME}, many=True),
        *_OF_PAGES,
        _FORMAT,
    ]
    next_page: dict[str, Any] = {NEXT_HEADER: {"description": "Of a page: the cursor of the next, if there is one", "schema": _STRING}}
    link: dict[str, Any] = {"Link": {"description": "Of a page: the address of the next, if there is one (RFC 8288)", "schema": _STRING}}
    streamed = "Grouped by tag, in order of time; streamed, but for a page"
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
                "responses": _answers("Committed", _json("Receipt"), 404, 409, 413, 415, 422, 429),
            }
        },
        "/v1/range": {
            "get": {
                "summary": "Samples of some tags in [start, end)",
                "parameters": asked,
                "responses": _answers(streamed, _RESULTS, 404, 406, 413, 429, 504, headers=next_page | link),
            },
            "post": {
                "summary": "The same, with the parameters in a form: an address with many tags would be too long",
                "requestBody": {"required": True, "content": {FORM: _form(asked)}},
                "responses": _answers(streamed, _RESULTS, 404, 406, 413, 415, 429, 504, headers=next_page),
            },
        },
        "/v1/snapshot": {
            "get": {
                "summary": "The newest sample of every tag",
                "parameters": [_MATCH, _FORMAT],
                "responses": _answers("One sample a tag", _RESULTS, 404, 406, 429),
            }
        },
        "/v1/tags": {
            "get": {"summary": "The tag catalogue", "parameters": [_MATCH], "responses": _answers("By path", _json("Tags"), 404)},
            "put": {
                "summary": "Make tags or change them, all or none",
                "requestBody": {"required": True, "content": _json("TagDefinitions")},
                "responses": _answers("As they stand now", _json("Tags"), 409, 413),
            },
        },
        "/v1/producers/{name}": {
            "get": {
                "summary": "Which batches of a producer are on disk",
                "parameters": [_parameter("name", "The producer", _STRING, required=True, where="path")],
                "responses": _answers("Inclusive ranges of seqs", _json("Producer"), 404, 429),
            }
        },
        "/v1/cursors": {
            "get": {
                "summary": "The durable cursors: how far named readers of the stream have come",
                "responses": _answers("By name", _json("Cursors"), 429),
            }
        },
        "/v1/cursors/{name}": {
            "delete": {
                "summary": "Forget a durable cursor; a stream that has it ends",
                "parameters": [_parameter("name", "The cursor", _STRING, required=True, where="path")],
                "responses": {"204": {"description": "It is forgotten"}} | _faults(404, 429),
            }
        },
        "/v1/cursors/{name}/acknowledge": {
            "post": {
                "summary": "The reader of a durable stream has all up to a position, for good; answered when that is stored",
                "parameters": [_parameter("name", "The cursor", _STRING, required=True, where="path")],
                "requestBody": {
                    "required": True,
                    "content": {
                        FORM: {"schema": _object({"position": {"type": "string", "description": "As the stream told it"}}, "position")}
                    },
                },
                "responses": _answers("What is kept, which may be further already", _json("Acknowledged"), 404, 409, 413, 415, 429),
            }
        },
        **openapi_commands.paths(_answers),
        "/v1/stream": {
            "get": {
                "summary": "Backfill and live tail: a WebSocket (docs/protocol.md) or, without upgrade, an endless answer",
                "parameters": [
                    _TAGS,
                    _EXPRESSIONS,
                    _parameter("from", "Start of the backfill; none: live only", _TIME),
                    _parameter("to", "End of the stream; none: never", _TIME),
                    _STREAM_MODE,
                    _POINTS,
                    _parameter("cursor", "Go on behind this place", {"type": "integer", "minimum": 0}),
                    _parameter("order", "Of a raw backfill", {"type": "string", "enum": ["oldest", "newest"], "default": "oldest"}),
                    _parameter(
                        "max_rate",
                        "The live tail is sent at most so often a second, thinned",
                        {"type": "number", "minimum": messages.LOWEST_RATE, "maximum": messages.HIGHEST_RATE},
                    ),
                    _parameter(
                        "durable",
                        "The name of a cursor that the database keeps: all samples of the tags, from one acknowledged position to the next; with tag and from only",
                        {"type": "string", "maxLength": 100},
                    ),
                    _parameter("position", "Of a durable stream: go on behind it; by default behind what was acknowledged last", _STRING),
                    _parameter("Last-Event-ID", "The cursor or the position, as browsers send it", _STRING, where="header"),
                ],
                "responses": _answers(
                    "Without upgrade: Arrow, or server-sent events",
                    {_ARROW: _RESULTS[_ARROW], EVENT_STREAM: {"schema": _STRING}},
                    404,
                    409,
                    429,
                )
                | {"101": {"description": "The stream protocol"}},
            }
        },
        "/v1/ingest": {
            "get": {
                "summary": "Batches in, acknowledgements out, many under way at once: a WebSocket (docs/protocol.md)",
                "responses": {"101": {"description": "The ingest protocol"}} | _faults(429),
            }
        },
        **{path: item for kind in DOCUMENTS for path, item in _of_documents(kind).items()},
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
            "responses": {cls.__name__: _fault(cls) for _, cls in sorted(_FAULTS.items())},
            "schemas": {
                "Sample": sample,
                "Samples": _object(
                    {
                        "samples": {"type": "array", "items": {"$ref": "#/components/schemas/Sample"}},
                        "next": {"type": "string", "description": "Of a page: the cursor of the next, if there is one"},
                    },
                    "samples",
                ),
                "Tag": TAG,
                "Tags": _object({"tags": {"type": "array", "items": {"$ref": "#/components/schemas/Tag"}}}, "tags"),
                "TagDefinition": TagDefinition.model_json_schema(),
                "TagDefinitions": _object({"tags": {"type": "array", "items": {"$ref": "#/components/schemas/TagDefinition"}}}, "tags"),
                "Receipt": receipt,
                "Producer": done,
                "Acknowledged": _object({"name": _STRING, "position": _STRING}, "name", "position"),
                "Cursors": _object({"cursors": {"type": "array", "items": cursor}}, "cursors"),
                **openapi_commands.SCHEMAS,
                "Described": _object(
                    {
                        "name": _STRING,
                        "title": _STRING,
                        "etag": _STRING,
                        "changed_at": {"type": "string", "format": "date-time"},
                        "bytes": {"type": "integer"},
                    },
                    "name",
                    "title",
                    "etag",
                    "changed_at",
                    "bytes",
                ),
                "Stored": _object({"name": _STRING, "etag": _STRING}, "name", "etag"),
                **{name: schema for kind in DOCUMENTS for name, schema in _schemas_of(kind).items()},
                "Problem": PROBLEM,
            },
        },
    }
    return orjson.dumps(document)


async def openapi(_request: web.Request) -> web.Response:
    return web.Response(body=_document(), content_type="application/json")
