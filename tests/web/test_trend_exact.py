"""The trend page shows what the database holds: its samples and pixels against range queries, after all that may happen in between."""

from __future__ import annotations

import calendar
import json
import math
import time
import urllib.request
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from opened import LIVE, Open, Opened, put
from playwright.sync_api import expect
from processes import Serve

#: pictures are compared, and live ones move
pytestmark = pytest.mark.alone

SECOND = 1_000_000
TAGS = [
    {"path": "site/wave", "kind": "float", "unit": "bar"},
    {"path": "site/setpoint", "kind": "float", "unit": "°C", "step": True},
    {"path": "site/valve", "kind": "digital", "states": {"0": "shut", "1": "open"}},
]
PENS = "&".join(f"pen={tag['path']}" for tag in TAGS)

#: of each sample of a pen, whether its pixel has the colour of the pen; [x, y] of those that have not
OFF_THE_LINE = """([path, color, samples]) => {
    const canvas = document.querySelector('.chart canvas');
    const context = canvas.getContext('2d', { willReadFrequently: true });
    const [r, g, b] = [1, 3, 5].map(i => parseInt(color.slice(i, i + 2), 16));
    const near = (x, y) => {
        const { data } = context.getImageData(Math.round(x) - 1, Math.round(y) - 1, 3, 3);
        for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 40 && Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 90) return true;
        return false;
    };
    return samples.map(([ts, value]) => historian.locate(path, ts, value)).filter(({ x, y }) => !near(x, y));
}"""
COLOR = "path => getComputedStyle(document.querySelector(`tr[data-path='${path}']`)).getPropertyValue('--pen').trim()"


def write(url: str, start: int, end: int, *, quality: int = 192) -> None:
    """Ten samples a second of each tag in [start, end), in s since 1970."""
    samples: list[dict[str, Any]] = []
    for n in range(start * 10, end * 10):
        ts = n * SECOND // 10
        bad = n % 97 == 0
        samples.append(
            {"tag": "site/wave", "ts": ts, "value": None if bad else 50 + 40 * math.sin(n / 60), "quality": 0 if bad else quality}
        )
        if n % 50 == 0:
            samples.append({"tag": "site/setpoint", "ts": ts, "value": n % 7})
            samples.append({"tag": "site/valve", "ts": ts, "value": n // 50 % 2})
    put(f"{url}/v1/write", "POST", {"samples": samples})


def held_by_database(url: str, path: str, start: float, end: float) -> list[tuple[int, float | None, int]]:
    query = urlencode({"tag": path, "start": math.ceil(start), "end": math.ceil(end), "format": "json"})
    with urllib.request.urlopen(f"{url}/v1/range?{query}") as response:
        samples = json.load(response)["samples"]
    return [(microseconds(sample["ts"]), sample["value"], sample["quality"]) for sample in samples]


def microseconds(text: str) -> int:
    whole, _, fraction = text.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) * SECOND + int(fraction.ljust(6, "0"))


def shown(opened: Opened, path: str) -> list[tuple[int, float | None, int]]:
    samples = opened.page.evaluate("path => historian.samples(path)", path)
    return [(sample["ts"], sample["value"], sample["quality"]) for sample in samples]


def compare(opened: Opened, url: str) -> None:
    """All pens in the window that is held against the database."""
    start, end = opened.window()
    for tag in TAGS:
        expected = held_by_database(url, str(tag["path"]), start, end)
        assert expected, tag
        assert shown(opened, str(tag["path"])) == expected


def test_after_a_restart_a_lost_connection_and_late_samples_it_shows_what_the_database_holds(serve: Serve, open_page: Open) -> None:
    server = serve()
    put(f"{server.url}/v1/tags", "PUT", {"tags": TAGS})
    now = time.time_ns() // (1000 * SECOND)
    write(server.url, now - 120, now - 60)
    opened = open_page(f"{server.url}/#{PENS}&span=300", until=f"historian.pens().length === 3 && {LIVE}")
    server.stop()
    opened.wait("historian.state() === 'reconnecting'")
    server.start()
    # while the page is away
    write(server.url, now - 60, now - 30)
    opened.wait(LIVE)
    # the browser sleeps through this, as far as the network goes
    opened.page.context.set_offline(True)
    write(server.url, now - 30, now - 20)
    opened.page.context.set_offline(False)
    write(server.url, now - 20, now - 10)
    # the live tail, as it came together over all this
    opened.wait("ts => historian.pens()[0].lastTs === ts", (now - 10) * SECOND - SECOND // 10)
    live = {str(tag["path"]): shown(opened, str(tag["path"])) for tag in TAGS}
    for path, samples in live.items():
        assert samples == held_by_database(server.url, path, *opened.window())
    # a window that is held is of a range query
    opened.wait_for_range(lambda: opened.page.get_by_role("button", name="Zoom in").click())
    compare(opened, server.url)
    # a correction and late samples reach it too
    start, end = opened.window()
    late = round((start + end) / 2)
    samples = [{"tag": "site/wave", "ts": late + i, "value": 77.5} for i in range(3)]
    put(f"{server.url}/v1/write", "POST", {"samples": samples})
    opened.wait("ts => historian.samples('site/wave').filter(sample => sample.ts >= ts && sample.value === 77.5).length === 3", late)
    compare(opened, server.url)


def test_lines_run_through_the_pixels_of_their_values(serve: Serve, open_page: Open) -> None:
    server = serve()
    put(f"{server.url}/v1/tags", "PUT", {"tags": TAGS})
    now = time.time_ns() // (1000 * SECOND)
    write(server.url, now - 600, now)
    opened = open_page(
        f"{server.url}/#{PENS}&from={(now - 90) * SECOND}&to={(now - 10) * SECOND}&axes=units",
        until="historian.pens().length === 3 && historian.pens().every(pen => pen.points > 0)",
    )
    for dense in (False, True):
        if dense:
            # more samples than pixels: an envelope
            for button in ("Earlier", "Zoom out", "Zoom out", "Zoom out"):
                opened.wait_for_range(lambda name=button: opened.page.get_by_role("button", name=name).click())
        opened.page.mouse.move(5, 5)
        opened.settled_picture()
        start, end = opened.window()
        for path in ("site/wave", "site/setpoint"):
            color = opened.page.evaluate(COLOR, path)
            held = held_by_database(server.url, path, start, end)
            good = [[ts, value] for ts, value, quality in held if quality >= 64]
            assert len(good) > 10
            assert opened.page.evaluate(OFF_THE_LINE, [path, color, good]) == []
            # and nowhere else: half way between two values far apart there is no line
            off = opened.page.evaluate(OFF_THE_LINE, [path, color, [[ts, value + 17.3] for ts, value in good[:: len(good) // 10]]])
            assert len(off) > 8


def test_cursors_and_statistics_are_those_of_a_range_query(serve: Serve, open_page: Open) -> None:
    server = serve()
    put(f"{server.url}/v1/tags", "PUT", {"tags": TAGS})
    # setpoints come every five seconds
    now = time.time_ns() // (1000 * SECOND) // 5 * 5
    write(server.url, now - 100, now)
    a, b = (now - 80) * SECOND, (now - 40) * SECOND
    opened = open_page(
        f"{server.url}/#pen=site/setpoint~0,low:1,high:5&from={(now - 90) * SECOND}&to={(now - 10) * SECOND}&cursors={a},{b}",
        until="historian.pens().length === 1 && historian.pens()[0].points > 0",
    )
    page = opened.page
    cell = page.locator(".readout tbody tr")
    held = {ts: value for ts, value, _ in held_by_database(server.url, "site/setpoint", a, b + 1)}
    expect(cell.locator(".col-a")).to_have_text(str(held[a]).removesuffix(".0"))
    expect(cell.locator(".col-b")).to_have_text(str(held[b]).removesuffix(".0"))
    page.keyboard.press("t")
    with urllib.request.urlopen(
        f"{server.url}/v1/range?{urlencode({'tag': 'site/setpoint', 'start': a, 'end': b, 'mode': 'twa', 'format': 'json'})}"
    ) as response:
        mean = json.load(response)["samples"][0]["value"]
    # the page rounds halves up
    expect(cell.locator(".col-mean")).to_have_text(str(Decimal(mean).quantize(Decimal("0.1"), ROUND_HALF_UP)))
    expect(cell.locator(".col-count")).to_have_text(str(len(held) - 1))
    # dragged, they follow the hand, and the address has them
    line = page.locator("[data-cursor='b']")
    box = line.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] - 150, box["y"] + 30, steps=3)
    page.mouse.up()
    opened.wait(f"!location.hash.includes('{b}') && location.hash.includes('cursors={a},')")
    page.keyboard.press("Escape")
    expect(cell.locator(".col-a")).to_have_count(0)
    assert opened.faults == []


def test_samples_and_picture_can_be_saved(serve: Serve, open_page: Open) -> None:
    server = serve()
    put(f"{server.url}/v1/tags", "PUT", {"tags": TAGS})
    now = time.time_ns() // (1000 * SECOND)
    write(server.url, now - 100, now)
    opened = open_page(
        f"{server.url}/#pen=site/wave&from={(now - 60) * SECOND}&to={(now - 30) * SECOND}&compare=30",
        until="historian.pens().length === 1 && historian.pens()[0].points > 0",
    )
    page = opened.page

    def save(label: str) -> bytes:
        page.keyboard.press("e")
        with page.expect_download() as download:
            page.get_by_role("menuitem", name=label).click()
        return download.value.path().read_bytes()

    assert len(save("CSV").decode().splitlines()) == 1 + 300
    assert save("Parquet")[:4] == b"PAR1"
    assert save("PNG")[:8] == b"\x89PNG\r\n\x1a\n"
    assert opened.faults == []


def test_tags_are_dragged_from_the_tree_and_the_strip_moves_the_window(demo: Opened) -> None:
    page = demo.page
    page.get_by_role("searchbox").fill("steam header")
    page.locator(".tree-tag").first.drag_to(page.locator(".chart"))
    demo.wait("historian.pens().length === 9 && historian.pens()[8].points > 0")
    # the table has its line, which moves the strip
    expect(page.locator(".readout tbody tr")).to_have_count(9)
    strip = page.locator(".overview")
    expect(strip).to_be_visible(timeout=20_000)
    box = strip.bounding_box()
    assert box is not None
    live = demo.window()
    demo.wait_for_range(lambda: page.mouse.click(box["x"] + box["width"] / 4, box["y"] + 20))
    start, end = demo.window()
    assert end < live[0]
    assert end - start == pytest.approx(live[1] - live[0])
    demo.wait("historian.pens().every(pen => pen.points > 10)")
    # back, and forward again
    page.keyboard.press("Backspace")
    demo.wait("historian.state() === 'live'")
    page.keyboard.press("Shift+Backspace")
    demo.wait("from => historian.window().from === from", start)
    assert demo.faults == []
