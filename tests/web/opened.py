"""A page in a browser, with what it said and asked for."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, Request, WebSocket

#: the built page
STATIC = Path(__file__).resolve().parents[2] / "historian" / "server" / "static"
#: for what the page does by itself: connecting, drawing, fetching
WAIT_MS = 20_000

LIVE = "historian.state() === 'live' && historian.pens().every(pen => pen.lastTs !== null)"
#: what is drawn, as text
PICTURE = "document.querySelector('.chart canvas').toDataURL()"


def _range_query(url: str) -> dict[str, list[str]]:
    """The parameters of a range query; none of another request."""
    parts = urlsplit(url)
    return parse_qs(parts.query) if parts.path == "/v1/range" else {}


def _is_sharp(query: dict[str, list[str]]) -> bool:
    """Whether it is the chart's own: its coarse picture and the overview have fewer points."""
    return int(query.get("points", ["0"])[0]) > 1000


class Opened:
    """A page and what it said and asked for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        #: console errors and warnings, exceptions, violations of the content security policy
        self.faults: list[str] = []
        self.ranges: list[dict[str, list[str]]] = []
        self.sockets: list[WebSocket] = []
        page.on("console", lambda message: self.faults.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", self._requested)
        page.on("websocket", lambda socket: self.sockets.append(socket))

    def _requested(self, request: Request) -> None:
        if query := _range_query(request.url):
            self.ranges.append(query)

    def wait(self, expression: str, arg: Any = None) -> None:
        """Wait until an expression, or a function of `arg`, is true in the page. (Playwright's wait_for_function needs eval there, which the page's policy forbids.)"""
        deadline = time.monotonic() + WAIT_MS / 1000
        while not self.page.evaluate(expression, arg):
            if time.monotonic() > deadline:
                state = self.page.evaluate("window.historian && [historian.state(), historian.pens()]")
                raise AssertionError(f"not within {WAIT_MS} ms: {expression}\nthe page: {state}\nit said: {self.faults}")
            self.page.wait_for_timeout(50)

    def pens(self) -> list[dict[str, Any]]:
        pens: list[dict[str, Any]] = self.page.evaluate("historian.pens()")
        return pens

    def picture(self) -> int:
        """A number that changes with what is drawn."""
        return hash(self.page.evaluate(PICTURE))

    def settled_picture(self) -> int:
        """The picture once all is drawn: the page draws ten times a second at the most."""
        deadline = time.monotonic() + WAIT_MS / 1000
        last = self.picture()
        while True:
            self.page.wait_for_timeout(300)
            now = self.picture()
            if now == last:
                return now
            assert time.monotonic() < deadline, "the picture does not come to rest"
            last = now

    def window(self) -> tuple[float, float]:
        window = self.page.evaluate("historian.window()")
        return window["from"], window["to"]

    def wait_for_range(self, do: Callable[[], None]) -> dict[str, list[str]]:
        """Do something, and return the range query that it leads to, once it has been answered and drawn: that of the chart at its full resolution."""
        before = len(self.ranges)
        with self.page.expect_response(lambda response: _is_sharp(_range_query(response.url)) and response.ok, timeout=WAIT_MS):
            do()
        self.wait("document.querySelector('.busy').hidden")
        return [query for query in self.ranges[before:] if _is_sharp(query)][-1]

    def middle_of_chart(self) -> tuple[float, float]:
        box = self.page.locator(".u-over").bounding_box()
        assert box is not None
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


Open = Callable[..., Opened]


def put(url: str, method: str, body: object) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request) as response:
        response.read()
