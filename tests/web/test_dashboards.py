"""Dashboards and saved views in a real browser: live, right, edited by mouse and keyboard, and honest about what is not known."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from opened import Open, Opened
from playwright.sync_api import BrowserContext, Locator, Page, expect
from processes import Serve, ServerProcess

#: for what the page does by itself: connecting, asking, drawing
expect.set_options(timeout=30_000)

FILLER = "acme/springfield/packaging/line1/filler"


class Board(Opened):
    """A page of dashboards."""

    def tile(self, title: str) -> Locator:
        return self.page.locator(".tile", has=self.page.get_by_role("heading", name=title, exact=True))


OpenBoard = Callable[[str], Board]


@pytest.fixture
def open_board(context: BrowserContext) -> OpenBoard:
    def open_it(url: str) -> Board:
        opened = Board(context.new_page())
        opened.page.set_viewport_size({"width": 1366, "height": 768})
        opened.page.goto(url)
        return opened

    return open_it


def ask(url: str, method: str = "GET", body: object = None, **headers: str) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"} | headers, method=method)
    with urllib.request.urlopen(request) as response:
        text = response.read()
        return json.loads(text) if text else None


def tile(kind: str, x: int, y: int, title: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "x": x, "y": y, "w": 3, "h": 2, "title": title, **more}


def put_dashboard(server: ServerProcess, name: str, **document: Any) -> None:
    ask(f"{server.url}/v1/dashboards/{name}", "PUT", {"title": name} | document, **{"If-None-Match": "*"})


def number(text: str) -> float:
    return float(text.replace("\u202f", "").replace("\u2212", "-"))


def reckoned(server: ServerProcess, start: str) -> dict[str, float]:
    """The key figures of the first filler, in per cent, from the aggregates of the server."""

    def rows(mode: str, name: str) -> list[dict[str, Any]]:
        query = urlencode({"tag": f"{FILLER}/{name}", "mode": mode, "start": start, "format": "json"})
        found: list[dict[str, Any]] = ask(f"{server.url}/v1/range?{query}")["samples"]
        return found

    seconds = {row["state"]: row["value"] for row in rows("duration", "state")}
    total, good = (rows("total", name)[0]["value"] for name in ("total", "good"))
    planned = sum(value for state, value in seconds.items() if state != "cleaning")
    availability, performance, quality = seconds["running"] / planned, total * 0.5 / seconds["running"], good / total
    figures = {"availability": availability, "performance": performance, "quality": quality, "oee": availability * performance * quality}
    return {name: 100 * value for name, value in figures.items()}


def test_the_ready_key_figures_of_the_demo_go_on(demo_server: ServerProcess, open_board: OpenBoard) -> None:
    opened = open_board(f"{demo_server.url}/dashboards#packaging")
    expect(opened.page).to_have_title("Packaging: key figures · historian")
    opened.wait("dashboards.live() && dashboards.frames() > 4")
    good = opened.tile("Good").first.locator(".reading-value")
    expect(good).to_have_text(re.compile(r"^[\d\u202f]+$"))
    before = number(good.inner_text())
    deadline = time.monotonic() + 60
    # it may stand still for a fault
    while number(good.inner_text()) <= before:
        assert time.monotonic() < deadline
        opened.page.wait_for_timeout(200)
    expect(opened.tile("State").first.locator(".reading-value")).to_have_text(re.compile("^(stopped|running|waiting|fault|cleaning)$"))
    expect(opened.tile("OEE").first.locator(".factors b")).to_have_text([re.compile(r"^\d+\.\d %$")] * 3)
    expect(opened.tile("Alarms of the last hour").locator("li, .notice[data-calm=true]").first).to_be_visible()
    # one connection for all tiles
    assert len(opened.sockets) == 1
    assert opened.faults == []
    if target := os.environ.get("DASHBOARD_SCREENSHOT"):
        opened.page.emulate_media(color_scheme="dark")
        opened.page.set_viewport_size({"width": 1440, "height": 1010})
        opened.page.wait_for_timeout(500)
        opened.page.screenshot(path=target)


def test_key_figures_are_what_the_aggregates_of_the_server_give(demo_server: ServerProcess, open_board: OpenBoard) -> None:
    shows = ("oee", "availability", "performance", "quality")
    equipment = {
        "state": f"{FILLER}/state",
        "running": ["running"],
        "planned_stops": ["cleaning"],
        "total": f"{FILLER}/total",
        "good": f"{FILLER}/good",
        "ideal_cycle": f"{FILLER}/ideal_cycle_time",
    }
    put_dashboard(
        demo_server,
        "figures",
        equipment={"filler": equipment},
        tiles=[tile("kpi", 3 * n, 0, show, equipment="filler", show=show, period="30m") for n, show in enumerate(shows)],
    )
    opened = open_board(f"{demo_server.url}/dashboards#figures")
    for show in shows:
        expect(opened.tile(show).locator(".reading-value")).to_have_text(re.compile(r"^\d+\.\d$"))
    # the page's half hour began some seconds ago
    shown = {show: number(opened.tile(show).locator(".reading-value").inner_text()) for show in shows}
    assert shown == pytest.approx(reckoned(demo_server, "-30m"), abs=1)
    assert opened.faults == []


def test_a_tile_says_what_is_wrong_and_follows_what_comes(serve: Serve, open_board: OpenBoard) -> None:
    server = serve()
    now = time.time_ns() // 1000
    tags = [
        {"path": "p/level", "unit": "%", "low": 0, "high": 100},
        {"path": "p/old", "unit": "bar"},
        {"path": "p/broken", "unit": "°C"},
        {"path": "p/silent"},
        {"path": "p/pump", "kind": "digital", "states": {"0": "stopped", "1": "running", "2": "fault"}},
    ]
    ask(f"{server.url}/v1/tags", "PUT", {"tags": tags})

    def write(*samples: tuple[str, int, float | None, int]) -> None:
        rows = [{"tag": f"p/{name}", "ts": ts, "value": value, "quality": quality} for name, ts, value, quality in samples]
        ask(f"{server.url}/v1/write", "POST", {"samples": rows})

    write(
        ("level", now - 10_000_000, 42.5, 192),
        ("old", now - 3_600_000_000, 7.25, 192),
        ("broken", now - 20_000_000, 3, 192),
        ("broken", now - 10_000_000, None, 8),
        ("pump", now - 5_400_000_000, 1, 192),
    )
    limits = {"low": 20, "high": 80, "high_high": 90}
    put_dashboard(
        server,
        "plant",
        tiles=[
            tile("value", 0, 0, "Level", tag="p/level", limits=limits),
            tile("gauge", 3, 0, "Gauge", tag="p/level", limits=limits),
            tile("value", 6, 0, "Old", tag="p/old", stale_after="5m"),
            tile("value", 9, 0, "Broken", tag="p/broken"),
            tile("value", 0, 2, "Silent", tag="p/silent"),
            tile("value", 3, 2, "Later", tag="p/later"),
            tile("value", 6, 2, "Pump", tag="p/pump", alarm_states=["fault"]),
            tile("states", 9, 2, "States", tags=["p/pump", "p/nowhere"], span="1h"),
            tile("alarms", 0, 4, "Alarms", rules=[{"tags": "p/#", "above": 90}, {"tags": "p/pump", "states": ["fault"]}]),
            tile("trend", 3, 4, "Trend", tags=["p/level", "p/nowhere"], span="5m"),
        ],
    )
    opened = open_board(f"{server.url}/dashboards#plant")
    reading = {name: opened.tile(name).locator(".reading") for name in ("Level", "Gauge", "Old", "Broken", "Later", "Pump")}
    expect(reading["Level"]).to_have_text("42.5%")
    expect(reading["Gauge"]).to_have_text("42.5%")
    expect(reading["Old"]).to_have_text(re.compile(r"^7\.25bar.*stale: 1 h"))
    expect(reading["Old"]).to_have_attribute("data-stale", "true")
    expect(reading["Broken"]).to_have_text(re.compile("^–°C.*bad quality$"))
    expect(opened.tile("Silent").locator(".notice")).to_have_text("No data")
    expect(opened.tile("Later").locator(".notice")).to_have_text("Unknown tag: p/later")
    expect(reading["Pump"]).to_have_text("running")
    expect(opened.tile("Trend").locator(".legend")).to_contain_text("Unknown tag: p/nowhere")
    expect(opened.tile("Alarms").locator(".notice")).to_have_text("No alarms")
    # live: beyond a limit, into an alarm state, good again, and a tag that comes to be
    write(("level", now, 95.5, 192), ("pump", now, 2, 192), ("broken", now, 4.5, 192), ("later", now, 1.25, 192))
    expect(reading["Level"]).to_have_text("95.5%HH")
    expect(reading["Level"]).to_have_attribute("data-level", "alarm")
    expect(reading["Pump"]).to_have_attribute("data-level", "alarm")
    expect(reading["Broken"]).to_have_text("4.5°C")
    expect(opened.tile("Alarms").locator("li.active")).to_have_count(2)
    expect(reading["Later"]).to_have_text("1.25")
    # its connection is lost: it says so, comes back by itself, and has what came meanwhile
    server.restart()
    write(("level", now + 1_000_000, 50.5, 192))
    expect(reading["Level"]).to_have_text("50.5%")
    expect(opened.tile("Alarms").locator("li.over")).to_have_count(1)
    opened.wait("dashboards.state() === 'live'")


def test_a_dashboard_is_made_changed_and_saved_in_the_page(serve: Serve, open_board: OpenBoard) -> None:
    server = serve()
    ask(f"{server.url}/v1/tags", "PUT", {"tags": [{"path": "p/level", "unit": "%", "low": 0, "high": 100}]})
    ask(f"{server.url}/v1/write", "POST", {"samples": [{"tag": "p/level", "ts": time.time_ns() // 1000, "value": 42.5}]})
    opened = open_board(f"{server.url}/dashboards")
    page = opened.page
    expect(page.get_by_text("There are no dashboards on this server yet.")).to_be_visible()
    page.get_by_role("button", name="New dashboard").click()

    def add(what: str) -> Locator:
        page.get_by_role("button", name="Add tile").click()
        page.get_by_role("menuitem", name=what, exact=True).click()
        return page.get_by_role("dialog", name=f"Tile: {what}")

    form = add("Value")
    form.get_by_label("Title").fill("Level")
    form.get_by_label("Stale after").fill("soon")
    form.get_by_role("button", name="Apply").click()
    # the server names what is wrong
    expect(form.get_by_role("alert")).to_contain_text("stale_after")
    expect(form.get_by_role("alert")).to_contain_text("tag: a tag path is not empty")
    form.get_by_label("Stale after").fill("")
    form.get_by_label("Tag", exact=True).fill("p/level")
    form.get_by_role("button", name="Apply").click()
    level = opened.tile("Level")
    expect(level.locator(".reading")).to_have_text("42.5%")
    form = add("Text")
    form.get_by_label("Text", exact=True).fill("Hello")
    form.get_by_role("button", name="Apply").click()

    def places() -> list[list[int]]:
        return [[tile[side] for side in "xywh"] for tile in stored()["tiles"]]

    def stored() -> dict[str, Any]:
        with page.expect_response(lambda response: response.request.method == "PUT" and "dry_run" not in response.url):
            page.get_by_role("button", name="Save").click()
        expect(page.locator(".edit-state")).to_have_text("Saved")
        document: dict[str, Any] = ask(f"{server.url}/v1/dashboards/new-dashboard")
        return document

    assert places() == [[0, 0, 3, 2], [0, 2, 12, 1]]
    # by the keyboard: it comes upon the text, which makes room
    level.focus()
    for key in ("ArrowRight", "ArrowDown", "Shift+ArrowRight", "Shift+ArrowDown"):
        page.keyboard.press(key)
    assert places() == [[1, 1, 4, 3], [0, 4, 12, 1]]
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    assert places() == [[1, 1, 3, 2], [0, 3, 12, 1]]
    page.keyboard.press("Control+Shift+z")
    assert places() == [[1, 1, 4, 2], [0, 3, 12, 1]]
    # by the mouse: five columns to the right, then two columns wider at its corner
    column = page.locator(".board").evaluate("board => (board.clientWidth - 20 + 8) / 12")
    box = level.bounding_box()
    assert box is not None
    drag(page, box["x"] + 60, box["y"] + 30, 5 * column, 0)
    box = level.bounding_box()
    assert box is not None
    drag(page, box["x"] + box["width"] - 6, box["y"] + box["height"] - 6, 2 * column, 0)
    assert places() == [[6, 1, 6, 2], [0, 3, 12, 1]]
    assert opened.faults == [fault for fault in opened.faults if "422" in fault]

    # somebody else saves another version meanwhile
    theirs = ask(f"{server.url}/v1/dashboards/new-dashboard")
    ask(f"{server.url}/v1/dashboards/new-dashboard", "PUT", theirs | {"title": "Theirs"}, **{"If-Match": "*"})
    level.focus()
    page.keyboard.press("Delete")
    expect(level).to_have_count(0)
    page.get_by_role("button", name="Save").click()
    conflict = page.get_by_role("dialog", name="Somebody else has changed this dashboard")
    conflict.get_by_role("button", name="Load theirs").click()
    expect(page).to_have_title("Theirs · historian")
    expect(level).to_be_visible()

    # as JSON, with what is wrong and where
    page.get_by_role("button", name="JSON").click()
    raw = page.get_by_role("dialog", name="JSON")
    document = theirs | {"title": "By hand"}
    raw.get_by_label("JSON").fill(json.dumps(document | {"tiles": [theirs["tiles"][0] | {"w": 40}]}))
    raw.get_by_role("button", name="Apply").click()
    expect(raw.get_by_role("alert")).to_contain_text("tiles[0].w")
    raw.get_by_label("JSON").fill("{")
    raw.get_by_role("button", name="Apply").click()
    expect(raw.get_by_role("alert")).to_contain_text("No JSON")
    raw.get_by_label("JSON").fill(json.dumps(document))
    raw.get_by_role("button", name="Apply").click()
    assert stored()["title"] == "By hand"
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("button", name="Edit")).to_be_visible()
    # the address names it
    again = open_board(page.url)
    expect(again.page).to_have_title("By hand · historian")
    expect(again.tile("Level").locator(".reading")).to_have_text("42.5%")


def drag(page: Page, x: float, y: float, right: float, down: float) -> None:
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + right / 2, y + down / 2, steps=4)
    page.mouse.move(x + right, y + down, steps=4)
    page.mouse.up()


def test_it_fits_a_wall_screen_a_laptop_and_a_phone(demo_server: ServerProcess, open_board: OpenBoard) -> None:
    opened = open_board(f"{demo_server.url}/dashboards#packaging")
    page = opened.page
    expect(opened.tile("OEE").first.locator(".reading-value")).to_be_visible()
    expect(opened.tile("Speed").last.locator(".reading-value")).to_be_visible()
    for width, height in ((1920, 1080), (1366, 768), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        boxes = [tile.bounding_box() for tile in page.locator(".tile").all()]
        assert len(boxes) == 25
        for box in boxes:
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            assert box["width"] > 100
            assert box["height"] >= 30
        # a wall screen shows all of it at once
        if height == 1080:
            assert max(box["y"] + box["height"] for box in boxes if box) <= height
        # no value is cut off
        cut = "nodes => nodes.filter(n => n.scrollWidth > n.clientWidth + 1).map(n => n.textContent)"
        assert page.locator(".reading-value").evaluate_all(cut) == [], width
    assert opened.faults == []


def test_a_trend_view_is_saved_under_a_title_and_opened_elsewhere(serve: Serve, open_page: Open) -> None:
    server = serve()
    ask(f"{server.url}/v1/tags", "PUT", {"tags": [{"path": "p/ä level"}, {"path": "p/flow"}]})
    url = f"{server.url}/#pen={quote('p/ä level')}~3&from=1767225600000000&to=1767229200000000"
    page = open_page(url, until="historian.pens().length === 1").page
    page.get_by_role("button", name="Saved views").click()
    panel = page.get_by_role("dialog", name="Saved views")
    expect(panel).to_contain_text("no saved views")
    panel.get_by_label("Title of this view").fill("Übergabe, früh")
    panel.get_by_role("button", name="Save").click()
    expect(panel.get_by_role("button", name="Übergabe, früh", exact=True)).to_be_visible()
    # a second one of this name replaces the first only when that is wanted
    panel.get_by_label("Title of this view").fill("Übergabe – früh")
    panel.get_by_role("button", name="Save").click()
    expect(panel.get_by_role("alert")).to_contain_text("There is a view of this name already.")
    panel.get_by_role("button", name="Replace it").click()
    expect(panel.get_by_role("button", name="Übergabe – früh", exact=True)).to_be_visible()

    other = open_page(f"{server.url}/#pen=p/flow", until="historian.pens().length === 1")
    other.page.get_by_role("button", name="Saved views").click()
    other.page.get_by_role("button", name="Übergabe – früh", exact=True).click()
    other.wait(
        "historian.pens()[0]?.path === 'p/ä level' && historian.window().from === 1767225600000000 && historian.window().to === 1767229200000000"
    )
    other.page.get_by_role("button", name="Saved views").click()
    other.page.get_by_role("button", name="Delete Übergabe – früh").click()
    expect(other.page.get_by_role("dialog", name="Saved views")).to_contain_text("no saved views")
    assert ask(f"{server.url}/v1/views") == {"views": []}
    assert other.faults == []
