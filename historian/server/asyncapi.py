"""GET /asyncapi.json: the stream and the ingest protocol, described for programs (AsyncAPI 3.0). What clients send is taken from what the server parses it with."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

import orjson
from aiohttp import web
from pydantic import BaseModel

from historian import __version__
from historian.server.ingest_messages import Open
from historian.server.openapi import PROBLEM, TAG
from historian.server.openapi_commands import COMMAND
from historian.stream import frames, ingest_frames, messages

_STRING: dict[str, Any] = {"type": "string"}
_TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
_ID: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 0xFFFF}
_CURSOR: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": frames.MAX_CURSOR}
_SEQ: dict[str, Any] = {"type": "integer", "minimum": 0}


def _message(kind: str, summary: str, properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    """A message of the server; `optional` fields may be missing."""
    required = ["type", *(name for name in properties if name not in optional)]
    schema = {"type": "object", "properties": {"type": {"const": kind}} | properties, "required": required}
    return {"name": kind, "summary": summary, "contentType": "application/json", "payload": schema}


def _parsed(model: type[BaseModel]) -> dict[str, Any]:
    """A message of a client."""
    schema = model.model_json_schema(by_alias=True)
    schema.pop("title", None)
    return {"name": schema["properties"]["type"]["const"], "contentType": "application/json", "payload": schema}


def _binary(name: str, summary: str) -> dict[str, Any]:
    return {"name": name, "summary": summary, "contentType": "application/octet-stream", "payload": {"type": "string", "format": "binary"}}


def _stream_messages() -> dict[str, dict[str, Any]]:
    sample = {
        "type": "object",
        "properties": {"tag": _STRING, "ts": _TIME, "value": {}, "quality": {"type": "integer", "minimum": 0, "maximum": 255}},
        "required": ["tag", "ts", "value", "quality"],
    }
    data = {
        "id": _ID,
        "sequence": {"type": "integer", "minimum": 0, "maximum": 0xFFFFFFFF},
        "cursor": _CURSOR,
        "backfill": {"type": "boolean"},
        "last": {"type": "boolean"},
        "samples": {"type": "array", "items": sample},
    }
    reason = {"type": "string", "enum": ["slow-client", "cursor-expired", "late-samples"]}
    # `type` says what message it is
    problem = {"problem": _STRING} | {name: schema for name, schema in PROBLEM["properties"].items() if name != "type"}
    tags = {"type": "array", "items": TAG | {"required": ["tag_id", "path", "kind"]}}
    return {
        "subscribed": _message(
            "subscribed", "The subscription is open", {"id": _ID, "tags": tags, "resumed": {"type": "boolean"}}, "resumed"
        ),
        "tags": _message("tags", "Tags that a wildcard matches have been made; their samples follow", {"id": _ID, "tags": tags}),
        "changed": _message(
            "changed", "A change has begun", {"id": _ID, "tags": tags, "removed": {"type": "array", "items": {"type": "integer"}}}
        ),
        "data": _message("data", "Samples, of the JSON subprotocol", data),
        "live": _message("live", "The seam has passed: all before was backfill", {"id": _ID, "cursor": _CURSOR}),
        "position": _message(
            "position", "Of a durable subscription: all that came before is whole up to here", {"id": _ID, "position": _STRING}
        ),
        "acknowledged": _message("acknowledged", "This position is stored", {"id": _ID, "position": _STRING}),
        "written": _message(
            "written", "The command is committed; docs/commands.md", {"id": _ID, "replayed": {"type": "boolean"}} | COMMAND
        ),
        "outcome": _message("outcome", "What became of a command that was accepted", {"id": _ID} | COMMAND),
        "gap": _message(
            "gap",
            "Samples in [from, to) were left out; `range` is the path of the range query that brings them",
            {"id": _ID, "from": _TIME, "to": _TIME, "reason": reason, "range": _STRING},
            "range",
        ),
        "error": _message("error", "What was wrong", {"id": _ID, "request": _STRING} | problem, "id", "request", "errors", "error_count"),
        "heartbeat": _message("heartbeat", "Every 10 s, and in answer to one", {}),
        "frame": _binary("frame", "Samples, of the Arrow subprotocol: a header of 16 bytes and Arrow IPC; docs/vectors has some"),
    }


def _ingest_messages() -> dict[str, dict[str, Any]]:
    counts = {"type": "object", "properties": {"batches": _SEQ, "bytes": _SEQ}, "required": ["batches", "bytes"]}
    limits = {"type": "object", "properties": {"samples": _SEQ, "unpacked_bytes": _SEQ}, "required": ["samples", "unpacked_bytes"]}
    ranges = {"type": "array", "items": {"type": "array", "items": _SEQ, "minItems": 2, "maxItems": 2}}
    return {
        "opened": _message("opened", "Batches may come", {"producer": _STRING, "next_seq": _SEQ, "credit": counts, "limits": limits}),
        "ack": _message("ack", "These batches are on disk", {"seqs": ranges, "samples": _SEQ, "replayed": _SEQ}),
        "refused": _message(
            "refused", "This batch is not stored", {"seq": {"type": ["integer", "null"], "minimum": 0}, "problem": PROBLEM}
        ),
        "credit": _message("credit", "What may be unanswered from now on", {"batches": _SEQ, "bytes": _SEQ}),
        "error": _message("error", "The connection ends", {"problem": PROBLEM}),
    }


@cache
def document() -> dict[str, Any]:
    """The AsyncAPI document."""
    client = {found["name"]: found for found in map(_parsed, get_args(messages.Message))}
    channels = {
        "stream": (
            "/v1/stream",
            f"Backfill, seam and live tail, exactly once; subprotocol {frames.ARROW} or {frames.JSON}",
            client,
            _stream_messages(),
        ),
        "ingest": (
            "/v1/ingest",
            f"Batches in, acknowledgements out; subprotocol {ingest_frames.SUBPROTOCOL}",
            {"open": _parsed(Open), "batch": _binary("batch", "A header of 16 bytes and one Arrow IPC stream")},
            _ingest_messages(),
        ),
    }
    found: dict[str, Any] = {
        "asyncapi": "3.0.0",
        "info": {"title": "historian", "version": __version__, "license": {"name": "Apache-2.0"}},
        "defaultContentType": "application/json",
        "channels": {},
        "operations": {},
    }
    for name, (address, description, of_client, of_server) in channels.items():
        # a client and a server may have a message of the same name
        both = {f"client.{key}": message for key, message in of_client.items()} | {
            f"server.{key}": message for key, message in of_server.items()
        }
        found["channels"][name] = {"address": address, "description": description, "messages": both, "bindings": {"ws": {"method": "GET"}}}
        for action, whose in (("receive", "client"), ("send", "server")):
            found["operations"][f"{name}.{whose}"] = {
                "action": action,
                "channel": {"$ref": f"#/channels/{name}"},
                "messages": [{"$ref": f"#/channels/{name}/messages/{key}"} for key in both if key.startswith(f"{whose}.")],
            }
    return found


async def asyncapi(_request: web.Request) -> web.Response:
    return web.Response(body=orjson.dumps(document()), content_type="application/json")
