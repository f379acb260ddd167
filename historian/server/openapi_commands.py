"""The part of /openapi.json that is of commands. What clients send is taken from what the server parses it with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from historian.schema.catalogue import WriteTo
from historian.schema.commands import Outcome
from historian.server.commands import MAX_PAGE, MAX_WAIT_S, PAGE, CommandBody
from historian.server.deliveries import ClaimBody, OutcomeBody

_STRING: dict[str, Any] = {"type": "string"}
_TEXT: dict[str, Any] = {"type": ["string", "null"]}
_TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
_MOMENT: dict[str, Any] = {"type": ["string", "null"], "format": "date-time"}
_NUMBER: dict[str, Any] = {"type": "integer", "minimum": 0}

#: a row of the audit; also in the messages `written` and `outcome` of the stream
COMMAND: dict[str, Any] = {
    "command_id": _NUMBER | {"description": "Of two commands to a tag the later has the higher one"},
    "tag": _STRING,
    "value": {"description": "As the tag has it: a state as its code"},
    "previous": {"description": "The tag's newest value before"},
    "previous_ts": _MOMENT,
    "commander": _TEXT | {"description": "Who, by the name of the token; null: nobody who has the right"},
    "client": _STRING | {"description": "The address that it came from"},
    "key": _TEXT,
    "write_to": {"enum": [*get_args(WriteTo), None]},
    "requested_at": _TIME,
    "committed_at": _TIME,
    "expires_at": _MOMENT | {"description": "After it, it is not published to the plant"},
    "ts": _MOMENT | {"description": "Of the sample that it became"},
    "outcome": {"enum": list(get_args(Outcome))},
    "detail": _TEXT,
    "worker": _TEXT,
    "attempts": {"type": "integer"},
    "settled_at": _MOMENT,
}


def _parameter(name: str, text: str, schema: dict[str, Any], where: str = "query", **more: Any) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "description": text, "schema": schema, **more}


_WAIT = _parameter("wait", "Seconds to wait for what becomes of it", {"type": "number", "minimum": 0, "maximum": MAX_WAIT_S})
_ID = _parameter("id", "The command's number", {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}, "path")
_WHEN = {"oneOf": [_STRING, {"type": "integer"}]}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def paths(answers: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """`answers` describes what may come of an operation."""
    replayed = {"Historian-Replayed": {"description": "`true` for a key that had been committed before", "schema": _STRING}}
    body = {name: {"required": True, "content": _json(name)} for name in ("CommandBody", "ClaimBody", "OutcomeBody")}
    return {
        "/v1/commands": {
            "post": {
                "summary": "Write a value to a tag; answered when it is committed",
                "parameters": [_WAIT],
                "requestBody": body["CommandBody"],
                "responses": answers("Committed", _json("Command"), 404, 409, 413, 415, 422, 429, headers=replayed),
            },
            "get": {
                "summary": "The audit of commands, refused ones too, the newest first",
                "parameters": [
                    _parameter("tag", "Tag path or UNS wildcard", _STRING),
                    _parameter("start", "Asked for at this time or later", _WHEN),
                    _parameter("end", "Asked for before this time", _WHEN),
                    _parameter("outcome", "What became of it", {"enum": list(get_args(Outcome))}),
                    _parameter("limit", "Of a page", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE}),
                    _parameter("before", "The next page: `next` of the one before", _NUMBER | {"maximum": 2**63 - 1}),
                ],
                "responses": answers("A page", _json("Commands"), 429),
            },
        },
        "/v1/commands/{id}": {
            "get": {"summary": "One command", "parameters": [_ID, _WAIT], "responses": answers("As it stands", _json("Command"), 404)}
        },
        "/v1/commands/waiting": {
            "get": {
                "summary": "For workers: whether there is a command to take to the plant",
                "parameters": [
                    _parameter(
                        "tag", "Tag path or UNS wildcard; once for each", {"type": "array", "items": _STRING}, style="form", explode=True
                    ),
                    _WAIT,
                ],
                "responses": answers("As soon as there is, or after that time", _json("Waiting")),
            }
        },
        "/v1/commands/claim": {
            "post": {
                "summary": "For workers: take commands, of each tag the oldest; nobody else has them for `held_s` seconds",
                "requestBody": body["ClaimBody"],
                "responses": answers("Perhaps none", _json("Claims"), 413, 415, 429),
            }
        },
        "/v1/commands/{id}/outcome": {
            "post": {
                "summary": "For workers: what became of a command",
                "parameters": [_ID],
                "requestBody": body["OutcomeBody"],
                "responses": answers("`taken`: whether it was still this worker's", _json("Taken"), 404, 413, 415, 429),
            }
        },
    }


SCHEMAS: dict[str, Any] = {
    "Command": _object(COMMAND),
    "Commands": _object(
        {"commands": {"type": "array", "items": {"$ref": "#/components/schemas/Command"}}, "next": {"type": ["integer", "null"]}}
    ),
    "CommandBody": CommandBody.model_json_schema(),
    "ClaimBody": ClaimBody.model_json_schema(),
    "OutcomeBody": OutcomeBody.model_json_schema(),
    "Waiting": _object({"waiting": {"type": "boolean"}}),
    "Claims": _object(
        {
            "commands": {
                "type": "array",
                "items": _object(
                    {
                        **{name: COMMAND[name] for name in ("command_id", "tag", "value", "requested_at")},
                        "expires_at": _TIME,
                        "attempt": {"type": "integer"},
                        "held_s": {"type": "number"},
                        "expires_s": {"type": "number"},
                    }
                ),
            }
        }
    ),
    "Taken": _object({"taken": {"type": "boolean"}}),
}
