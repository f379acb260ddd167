"""The trend page by fingers, on a phone: real touch events of Chromium."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from fingers import Fingers, phone
from opened import Opened
from playwright.sync_api import Browser, expect
from processes import ServerProcess

MINUTE = 60_000_000
PEN = "acme/springfield/brewing/line1/reactor1/temperature"


@pytest.fixture
def touched(demo_server: ServerProcess, browser: Browser) -> Iterator[Opened]:
    """A window of ten minutes, held; on a scale whose axis is always as wide."""
    opened = Opened(phone(browser))
    to = time.time_ns() // 1000 - 20 * MINUTE
    opened.page.goto(f"{demo_server.url}/#pen={PEN}&from={to - 10 * MINUTE}&to={to}&scale=range")
    opened.wait("window.historian !== undefined && historian.state() === 'paused' && historian.pens()[0]?.points > 10")
    yield opened
    # nothing of it has moved or enlarged the page
    assert opened.page.evaluate("[scrollX, scrollY, visualViewport.scale, document.scrollingElement.scrollTop]") == [0, 0, 1, 0]
    assert opened.faults == []
    opened.page.context.close()


def test_fingers_on_the_chart(touched: Opened) -> None:
    box = touched.page.locator(".u-over").bounding_box()
    assert box is not None
    left, top, width = box["x"], box["y"] + box["height"] / 2, box["width"]
    fingers = Fingers(touched.page)
    start, end = touched.window()
    per_pixel = (end - start) / width

    near = "([from, to, near]) => Math.abs(historian.window().from - from) < near && Math.abs(historian.window().to - to) < near"

    def shows(first: float, last: float) -> None:
        """The window, by where its edges were on the screen before, to two pixels."""
        touched.wait(near, [start + first * per_pixel, start + last * per_pixel, 2 * per_pixel])

    def back() -> None:
        """A double tap; on a machine so slow that it is none, or that the gesture before it was two, another one."""
        for _ in range(10):
            fingers.tap((left + 50, top))
            fingers.tap((left + 53, top + 4))
            touched.page.wait_for_timeout(50)
            if touched.page.evaluate(near, [start, end, 1]):
                return
        raise AssertionError(f"a double tap does not go back to {start}: {touched.window()}")

    # one finger drags, whichever way it goes beside that
    fingers.drag(((left + 50, top), (left + 150, top + 120)))
    shows(-100, width - 100)
    back()
    # two fingers from each other: what lay at their middle stays there, and half of the time is left
    middle = left + 120
    fingers.drag(((middle - 40, top), (middle - 80, top)), ((middle + 40, top), (middle + 80, top)))
    shows(60, 60 + width / 2)
    back()
    # one above the other, to each other, and both to the right
    fingers.drag(((middle, top - 80), (middle + 30, top - 40)), ((middle, top + 80), (middle + 30, top + 40)))
    shows(120 - 2 * 150, 120 - 2 * 150 + 2 * width)
    back()
    # the finger that stays drags on
    a, b = (middle - 40, top), (middle + 40, top)
    fingers.down(a, b)
    fingers.lift(1, b)
    fingers.move((middle + 60, top), start=(a,))
    shows(-100, width - 100)
    fingers.up()
    back()
    # up and down alone, a tap, and another one somewhere else: nothing of it moves the window
    fingers.drag(((left + 50, top), (left + 50, top - 150)))
    fingers.tap((left + 60, top))
    fingers.tap((left + 160, top))
    expect(touched.page.locator(".cursor-label")).to_be_visible()
    assert touched.window() == (start, end)


def test_fingers_on_the_strip(touched: Opened) -> None:
    strip, brush = touched.page.locator(".overview"), touched.page.locator(".brush")
    expect(strip).to_be_visible(timeout=20_000)
    fingers = Fingers(touched.page)
    box = brush.bounding_box()
    assert box is not None
    middle, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def shows(centre: float, width: float) -> None:
        """Where the window is on the strip, to two pixels."""
        touched.wait(
            """([centre, width]) => {
                const box = document.querySelector('.brush').getBoundingClientRect();
                return Math.abs((box.left + box.right) / 2 - centre) < 2 && Math.abs(box.width - width) < 2;
            }""",
            [centre, width],
        )

    fingers.drag(((middle, y), (middle - 60, y + 30)))
    shows(middle - 60, box["width"])
    # two fingers on it: as much wider as they are further apart
    middle -= 60
    fingers.drag(((middle - 15, y), (middle - 30, y)), ((middle + 15, y), (middle + 30, y)))
    shows(middle, 2 * box["width"])
    # a tap beside it brings it there
    fingers.tap((300, y))
    shows(300, 2 * box["width"])
