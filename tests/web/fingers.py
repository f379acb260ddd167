"""Fingers on a page, by real touch events of Chromium."""

from __future__ import annotations

from playwright.sync_api import Browser, Page

Point = tuple[float, float]


class Fingers:
    """Of one page; a gesture is a list of places for each finger, all equally long."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._cdp = page.context.new_cdp_session(page)

    def _send(self, kind: str, points: dict[int, Point]) -> None:
        touches = [{"x": x, "y": y, "id": finger} for finger, (x, y) in points.items()]
        self._cdp.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    def down(self, *at: Point) -> None:
        """One finger after the other."""
        for n in range(len(at)):
            self._send("touchStart", dict(enumerate(at[: n + 1])))

    def move(self, *to: Point, start: tuple[Point, ...], steps: int = 8) -> None:
        for step in range(1, steps + 1):
            part = step / steps
            self._send(
                "touchMove",
                {n: (a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part) for n, (a, b) in enumerate(zip(start, to, strict=True))},
            )

    def up(self) -> None:
        self._send("touchEnd", {})

    def lift(self, finger: int, at: Point) -> None:
        """One of several."""
        self._send("touchEnd", {finger: at})

    def drag(self, *ways: tuple[Point, Point]) -> None:
        start, end = zip(*ways, strict=True)
        self.down(*start)
        self.move(*end, start=start)
        self.up()

    def tap(self, at: Point) -> None:
        self.down(at)
        self.up()


def phone(browser: Browser) -> Page:
    """A page on a phone, in a context of its own."""
    return browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True).new_page()
