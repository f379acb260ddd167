"""The commands of a server for a worker that delivers to it (`historian.ingest.command_queue.CommandQueue`): over HTTP, with a token that may deliver."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson

from historian.client.http import Http
from historian.ingest.command_queue import CommandQueue
from historian.query.times import parse_time
from historian.schema.commands import Claim, Settled
from historian.schema.errors import BadInput, Unavailable

#: commands are of seconds: what takes longer is of no use any more
_ANSWERS_S = 10.0


class ServerCommands(CommandQueue):
    """`http` stays the caller's."""

    def __init__(self, http: Http, worker: str) -> None:
        self._http = http
        self._worker = worker

    async def wait(self, patterns: Sequence[str], wait_s: float) -> bool:
        params: list[tuple[str, str | int]] = [("wait", str(wait_s)), *(("tag", pattern) for pattern in patterns)]
        return bool((await self._json("GET", "/v1/commands/waiting", None, params, _ANSWERS_S + wait_s))["waiting"])

    async def claim(self, patterns: Sequence[str], limit: int) -> list[Claim]:
        answer = await self._json("POST", "/v1/commands/claim", {"worker": self._worker, "tags": list(patterns), "limit": limit})
        return [
            Claim(**(row | {"requested_at": parse_time(row["requested_at"], 0), "expires_at": parse_time(row["expires_at"], 0)}))
            for row in answer["commands"]
        ]

    async def settle(self, claim: Claim, outcome: Settled, detail: str | None = None) -> bool:
        return await self._said(claim, {"outcome": outcome, "detail": detail})

    async def release(self, claim: Claim, detail: str, *, sent: bool) -> bool:
        return await self._said(claim, {"outcome": "released", "detail": detail, "sent": sent})

    async def _said(self, claim: Claim, what: dict[str, Any]) -> bool:
        body = {"worker": self._worker, "attempt": claim.attempt, **what}
        return bool((await self._json("POST", f"/v1/commands/{claim.command_id}/outcome", body))["taken"])

    async def _json(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        params: Sequence[tuple[str, str | int]] = (),
        seconds: float = _ANSWERS_S,
    ) -> Any:
        try:
            async with asyncio.timeout(seconds):
                answer, _ = await self._http.request(method, path, params=params, body=None if body is None else orjson.dumps(body))
        except TimeoutError:
            raise Unavailable(f"{self._http.address.url} has not answered for {seconds:g} s") from None
        try:
            return orjson.loads(answer)
        except orjson.JSONDecodeError:
            raise BadInput(f"{self._http.address.url}{path} is not answered by a historian") from None
