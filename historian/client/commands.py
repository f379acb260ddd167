"""Commands as the client gives them: values written to tags, and what became of them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import orjson

from historian.client.http import Http
from historian.schema.errors import BadInput, Unavailable

#: what one request waits for the plant
_WAIT_S = 50.0

#: a shorter timeout the server does not take
SHORTEST_S = 0.1

_TIMES = frozenset({"previous_ts", "requested_at", "committed_at", "expires_at", "ts", "settled_at"})


@dataclass(frozen=True, slots=True)
class Command:
    """A row of the audit (docs/commands.md). `replayed`: this key had been committed before."""

    command_id: int
    tag: str
    value: bool | int | float | str | None
    outcome: str
    detail: str | None
    previous: bool | int | float | str | None
    previous_ts: datetime | None
    commander: str | None
    client: str
    key: str | None
    write_to: str | None
    requested_at: datetime
    committed_at: datetime
    expires_at: datetime | None
    ts: datetime | None
    worker: str | None
    attempts: int
    settled_at: datetime | None
    replayed: bool = False

    @property
    def settled(self) -> bool:
        """Whether it is known what became of it."""
        return self.outcome != "accepted"

    @property
    def done(self) -> bool:
        """Whether the value has got where it was to go: it is a sample, or the broker of the plant has confirmed it."""
        return self.outcome in ("written", "delivered")


_FIELDS = frozenset(field.name for field in fields(Command))


def command_of(row: Mapping[str, Any], *, replayed: bool = False) -> Command:
    """A command from its row; fields of a newer server are passed over. Raises BadInput."""
    try:
        known: dict[str, Any] = {
            name: datetime.fromisoformat(value) if name in _TIMES and value is not None else value
            for name, value in row.items()
            if name in _FIELDS
        }
        return Command(**{**known, "replayed": replayed})
    except (TypeError, ValueError):
        raise BadInput("the answer is no command: is that a historian of another version?") from None


def new_key() -> str:
    """For a command that was given none."""
    return f"python-client:{uuid.uuid4().hex}"


async def perform(http: Http, tag: str, value: bool | int | float | str, *, key: str | None, timeout_s: float, wait_s: float) -> Command:
    """Have a value written. See `AsyncClient.command`."""
    # with a key it may be sent again
    key = key or new_key()
    deadline = time.monotonic() + timeout_s

    def body() -> bytes:
        # a command that is sent again expires when the first one would have
        left = deadline - time.monotonic()
        if left < SHORTEST_S:
            raise _Over(f"no answer within {timeout_s:g} s: whether it is committed, the same key tells ({key})")
        return orjson.dumps({"tag": tag, "value": value, "key": key, "timeout": left})

    until = time.monotonic() + wait_s
    longest = min(_WAIT_S, http.timeout / 2)
    try:
        answer, headers = await http.request("POST", "/v1/commands", body=body, params=[("wait", str(min(wait_s, longest)))])
    except _Over as error:
        raise Unavailable(str(error)) from None
    command = command_of(orjson.loads(answer), replayed=headers.get("Historian-Replayed") == "true")
    while not command.settled and (left := until - time.monotonic()) > 0:
        answer, _ = await http.request("GET", f"/v1/commands/{command.command_id}", params=[("wait", str(round(min(left, longest), 3)))])
        command = command_of(orjson.loads(answer), replayed=command.replayed)
    return command


class _Over(Exception):
    """There is no time left to send it again."""
