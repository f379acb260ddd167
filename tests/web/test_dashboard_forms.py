"""Editing dashboards: forms for equipment and shifts, limits of tiles, and, on a phone, tiles that fingers move and size."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import Any

from fingers import Fingers, phone
from opened import put
from playwright.sync_api import Browser, Locator, Page, expect
from processes import Serve, ServerProcess

expect.set_options(timeout=30_000)

TAGS = [
    {"path": "m/state", "kind": "digital", "states": {"0": "stopped", "1": "running", "2": "cleaning"}},
    {"path": "m/total", "kind": "int"},
    {"path": "m/good", "kind": "int"},
    {"path": "m/note", "kind": "text"},
    {"path": "m/level", "high_limit": 80},
]


def stored(server: ServerProcess, name: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server.url}/v1/dashboards/{name}") as answer:
        document: dict[str, Any] = json.load(answer)
    return document


def save(page: Page) -> None:
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".edit-state")).to_have_text("Saved")


def test_equipment_shifts_and_limits_are_filled_in(serve: Serve, browser: Browser) -> None:
    server = serve()
    put(f"{server.url}/v1/tags", "PUT", {"tags": TAGS})
    tiles = [{"type": "value", "title": "Level", "x": 0, "y": 0, "w": 3, "h": 2, "tag": "m/level"}]
    put(f"{server.url}/v1/dashboards/line", "PUT", {"title": "Line", "tiles": tiles})
    page = browser.new_context(viewport={"width": 1366, "height": 768}).new_page()
    page.goto(f"{server.url}/dashboards#line")
    page.get_by_role("button", name="Edit").click()

    page.get_by_role("button", name="Equipment").click()
    listed = page.get_by_role("dialog", name="Equipment", exact=True)
    expect(listed).to_contain_text("There is none yet.")
    listed.get_by_role("button", name="Add equipment").click()
    one = page.get_by_role("dialog", name="Add equipment")
    one.get_by_label("Name").fill("filler 1")
    one.get_by_label("State tag").fill("m/state")
    # of a tag with states, boxes
    running = one.get_by_role("group", name="States in which it produces")
    running.get_by_label("running").check()
    one.get_by_role("group", name="Planned stops").get_by_label("cleaning").check()
    one.get_by_label("Counter of all pieces").fill("m/note")
    one.get_by_label("Counter of good pieces").fill("m/good")
    apply = one.get_by_role("button", name="Apply")
    apply.click()
    faults = one.get_by_role("alert").last
    expect(faults.locator("li")).to_have_text([re.compile("name has 1 to 50"), re.compile("m/note is of kind text"), re.compile("above 0")])
    one.get_by_label("Name").fill("filler")
    one.get_by_label("Counter of all pieces").fill("m/total")
    one.get_by_label("Ideal rate", exact=True).fill("120")
    apply.click()
    expect(one).to_have_count(0)
    expect(listed.locator("li")).to_contain_text("filler")
    listed.get_by_role("button", name="Close").click()

    page.get_by_role("button", name="Shifts").click()
    shifts = page.get_by_role("dialog", name="Shifts")
    shifts.get_by_label("Length").select_option("12h")
    shifts.get_by_label("First shift begins at").fill("07:30")
    expect(shifts.locator("li")).to_have_text(["07:30 – 19:30", "19:30 – 07:30"])
    zone = shifts.get_by_label("Time zone")
    zone.fill("Atlantis")
    shifts.get_by_role("button", name="Apply").click()
    expect(shifts.get_by_role("alert")).to_contain_text("tz: ")
    zone.fill("Europe/Amsterdam")
    shifts.get_by_role("button", name="Apply").click()

    # limits of the tag stand in the form of a tile until it has its own
    page.get_by_role("heading", name="Level").click()
    tile = page.get_by_role("dialog", name="Tile: Value")
    expect(tile.get_by_label("Warning above")).to_have_attribute("placeholder", "80")
    tile.get_by_label("Alarm above").fill("70")
    tile.get_by_label("Warning above").fill("75")
    tile.get_by_role("button", name="Apply").click()
    expect(tile.get_by_role("alert")).to_contain_text("high 75 is above high_high 70")
    tile.get_by_label("Warning above").fill("65")
    tile.get_by_role("button", name="Apply").click()
    save(page)
    made = stored(server, "line")
    assert made["equipment"] == {
        "filler": {
            "state": "m/state",
            "running": ["running"],
            "planned_stops": ["cleaning"],
            "total": "m/total",
            "good": "m/good",
            "ideal_cycle": 0.5,
        }
    }
    assert made["shifts"] == {"interval": "12h", "origin": "07:30", "tz": "Europe/Amsterdam"}
    assert made["tiles"][0]["limits"] == {"high": 65, "high_high": 70}
    page.context.close()


def middle(place: Locator) -> tuple[float, float]:
    expect(place).to_be_visible()
    box = place.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_fingers_move_and_size_tiles_on_a_phone(serve: Serve, browser: Browser) -> None:
    server = serve()
    tiles = [{"type": "text", "title": name, "x": 0, "y": 4 * n, "w": 6, "h": 4, "text": name} for n, name in enumerate("ABCDEF")]
    put(f"{server.url}/v1/dashboards/phone", "PUT", {"title": "Phone", "tiles": tiles})
    page = phone(browser)
    page.goto(f"{server.url}/dashboards#phone")
    page.get_by_role("button", name="Edit").tap()
    fingers = Fingers(page)

    def tile(name: str) -> Locator:
        return page.locator(".tile", has=page.get_by_role("heading", name=name, exact=True))

    # its handle takes it behind the next one
    fingers.drag((middle(tile("A").locator(".tile-move")), middle(tile("B"))))
    expect(page.locator(".tile-title")).to_have_text(list("BACDEF"))
    # and its corner makes it higher
    height = tile("B").bounding_box()
    x, y = middle(tile("B").locator(".tile-size"))
    fingers.drag(((x, y), (x, y + 104)))
    expect(page.locator(".edit-state")).to_contain_text("6 by 6")
    grown = tile("B").bounding_box()
    assert height is not None
    assert grown is not None
    assert grown["height"] > height["height"] + 80
    # or half as wide as the screen
    x, y = middle(tile("B").locator(".tile-size"))
    fingers.drag(((x, y), (x - 200, y)))
    expect(tile("B")).to_have_class(re.compile("narrow"))
    # at the edge of the screen the page comes along, to the last tile
    start = middle(tile("B").locator(".tile-move"))
    fingers.down(start)
    fingers.move((190.0, 836.0), start=(start,))
    expect(tile("F")).to_be_in_viewport(ratio=1)
    fingers.move(middle(tile("F")), start=((190.0, 836.0),))
    fingers.up()
    expect(page.locator(".tile-title")).to_have_text(list("ACDEFB"))
    # elsewhere on a tile a finger scrolls, and moves nothing
    x, y = middle(tile("F"))
    fingers.drag(((x, y), (x, y + 150)))
    expect(tile("B")).not_to_be_in_viewport(ratio=1)
    expect(page.locator(".tile-title")).to_have_text(list("ACDEFB"))
    # a tap opens the form
    tile("F").tap()
    expect(page.get_by_role("dialog", name="Tile: Text")).to_be_visible()
    page.get_by_role("button", name="Cancel").tap()
    save(page)
    saved = sorted(stored(server, "phone")["tiles"], key=lambda tile: (tile["y"], tile["x"]))
    assert "".join(tile["title"] for tile in saved) == "ACDEFB"
    page.context.close()
