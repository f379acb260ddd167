"""Requests of one line, for tests that only look at what a server answers."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence


def post(url: str, document: object, headers: Mapping[str, str]) -> tuple[int, str | None]:
    """Status, and whether the server says that it had the batch already."""
    request = urllib.request.Request(url, json.dumps(document).encode(), {"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.status, answer.headers.get("Historian-Replayed")


def get(url: str, query: Sequence[tuple[str, str]], *, accept: str) -> bytes:
    request = urllib.request.Request(f"{url}?{urllib.parse.urlencode(query)}", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=30) as answer:
        body: bytes = answer.read()
        return body
