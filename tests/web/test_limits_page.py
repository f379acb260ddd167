"""Limits of tags in a real browser: on the trend page and in the tiles of a dashboard that has none of its own."""

from __future__ import annotations

import re
import time

from opened import LIVE, Open, put
from playwright.sync_api import expect
from processes import Serve

LIMITS = {"low_low_limit": 10, "low_limit": 20, "high_limit": 80, "high_high_limit": 90}
TINTED = """() => {
    const canvas = document.querySelector('.chart canvas');
    const {left, top, width, height} = document.querySelector('.u-over').getBoundingClientRect();
    const {left: x, top: y} = canvas.getBoundingClientRect();
    const context = canvas.getContext('2d');
    // just left of the middle of the plot there is nothing but the ground, the grid and the bands
    const column = context.getImageData((left - x + width * 0.37) * devicePixelRatio, (top - y) * devicePixelRatio, 1, height * devicePixelRatio).data;
    const counts = {};
    for (let i = 0; i < column.length; i += 4) counts[column.slice(i, i + 3).join()] = (counts[column.slice(i, i + 3).join()] ?? 0) + 1;
    return Object.values(counts).filter((count) => count > 10).length;
}"""


def test_limits_of_a_tag_are_drawn_and_values_beyond_them_marked(serve: Serve, open_page: Open) -> None:
    server = serve()
    put(f"{server.url}/v1/tags", "PUT", {"tags": [{"path": "a/level", "unit": "%", "low": 0, "high": 100, **LIMITS}]})

    def write(value: float) -> None:
        put(f"{server.url}/v1/write", "POST", {"samples": [{"tag": "a/level", "ts": time.time_ns() // 1000, "value": value}]})

    write(0)
    opened = open_page(f"{server.url}/#pen=a/level&span=60&scale=range", until=LIVE)
    value = opened.page.locator(".readout td.col-value")
    for sample, mark in ((5, "LL"), (15, "L"), (20, ""), (80, ""), (85, "H"), (95, "HH")):
        write(sample)
        expect(value).to_have_text(str(sample))
        expect(value).to_have_attribute("data-mark", mark)
    # the ground, and four zones of two colours
    opened.wait(f"({TINTED})() === 3")
    # limits of the pen stand instead of those of the tag
    opened.page.locator(".readout .swatch").click()
    high = opened.page.get_by_label("High limit")
    expect(high).to_have_attribute("placeholder", "80")
    high.fill("99")
    high.press("Enter")
    expect(value).to_have_attribute("data-mark", "")
    expect(opened.page).to_have_url(re.compile("high:99"))

    place = {"y": 0, "w": 3, "h": 4, "tag": "a/level"}
    tiles = [
        {"type": "value", "title": "of the tag", "x": 0, **place},
        {"type": "gauge", "title": "its own", "x": 3, **place, "limits": {"high": 99}},
        {"type": "sparkline", "title": "none", "x": 6, **place, "limits": {}},
        {"type": "alarms", "title": "alarms", "x": 9, "y": 0, "w": 3, "h": 4, "rules": [{"tags": "a/#"}]},
    ]
    put(f"{server.url}/v1/dashboards/limits", "PUT", {"title": "Limits", "tiles": tiles})
    opened.page.goto(f"{server.url}/dashboards#limits")
    marks = opened.page.locator(".tile .reading-mark")
    expect(marks).to_have_text(["HH", "", ""])
    expect(opened.page.locator(".tile[data-type=gauge] .gauge-zone")).to_have_count(1)
    active = opened.page.locator(".alarms li.active")
    expect(active).to_have_count(1)
    expect(active).to_have_class("alarm active")
    assert opened.faults == []
