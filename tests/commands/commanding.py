"""What tests of commands need: a file of commanders, a server with it, tags that may be written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from historian.commands.commanders import hash_of
from historian.server.run import Server, serving
from historian.settings import Settings

OPERATOR, LINE1, WORKER, PLAIN = "token-of-the-operator", "token-of-line-1", "token-of-the-worker", "token-of-everybody"

COMMANDERS = f"""
[operator]
sha256 = "{hash_of(OPERATOR)}"

[line1]
sha256 = "{hash_of(LINE1)}"
tags = ["site/line1/#"]

[worker]
sha256 = "{hash_of(WORKER)}"
may = "deliver"
"""

TAGS: list[dict[str, Any]] = [
    {"path": "site/line1/setpoint", "low": 0.0, "high": 100.0, "unit": "°C", "writable": True},
    {"path": "site/line1/count", "kind": "int", "writable": True},
    {"path": "site/line1/run", "kind": "bool", "writable": True},
    {"path": "site/line1/mode", "kind": "digital", "states": {"0": "off", "1": "manual", "2": "automatic"}, "writable": True},
    {"path": "site/line1/note", "kind": "text", "writable": True},
    {"path": "site/line2/setpoint", "writable": True},
    {"path": "site/line1/measured"},
    {"path": "plant/valve", "low": 0.0, "high": 100.0, "writable": True, "write_to": "plant"},
    {"path": "plant/pump", "kind": "bool", "writable": True, "write_to": "plant"},
]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def commanders_file(directory: Path) -> Path:
    path = directory / "commanders.toml"
    path.write_text(COMMANDERS)
    return path


@asynccontextmanager
async def commanded(dsn: str, directory: Path, **settings: Any) -> AsyncIterator[Server]:
    """A server with commanders and TAGS. A thousand commands a second are let in, unless the settings say otherwise."""
    given = {"max_commands_s": 1000.0} | settings
    async with serving(dsn, Settings(port=0, commanders=commanders_file(directory), **given)) as running:
        async with (
            aiohttp.ClientSession(headers=bearer(OPERATOR)) as http,
            http.put(f"{running.url}/v1/tags", json={"tags": TAGS}) as answer,
        ):
            assert answer.status == 200, await answer.text()
        yield running


class Caller:
    """HTTP with a token."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str | None = OPERATOR) -> None:
        self._http = http
        self.url = url
        self._headers = bearer(token) if token is not None else {}

    async def command(
        self, tag: str, value: Any, status: int = 200, params: Mapping[str, str] | None = None, **fields: Any
    ) -> dict[str, Any]:
        return await self.ask("POST", "/v1/commands", status, {"tag": tag, "value": value, **fields}, **(params or {}))

    async def ask(self, method: str, path: str, status: int = 200, body: Any = None, **params: str) -> dict[str, Any]:
        async with self._http.request(method, self.url + path, json=body, params=params, headers=self._headers) as answer:
            found: dict[str, Any] = await answer.json(content_type=None)
            assert answer.status == status, found
            return found
