"""The trend page in a real browser, on the demo and on servers that come and go."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request
from urllib.parse import urlsplit

import pytest
from opened import LIVE, PICTURE, WAIT_MS, Open, Opened, put
from playwright.sync_api import expect
from processes import Serve, ServerProcess

#: pictures are compared, and live ones move
pytestmark = pytest.mark.alone


def test_eight_pens_move_at_first_sight(demo: Opened) -> None:
    before, picture = demo.pens(), demo.page.evaluate(PICTURE)
    assert all(pen["points"] > 100 for pen in before), before
    assert len({pen["path"] for pen in before}) == 8
    # each has newer samples and more of them
    demo.wait(
        "before => historian.pens().every((pen, i) => pen.lastTs > before[i].lastTs && pen.points > before[i].points)",
        before,
    )
    demo.wait(f"picture => picture !== {PICTURE}", picture)
    # and they move: values change, even those of slow levels. A pump may have come to rest in the two minutes by which pens are chosen
    moved: set[str] = set()
    deadline = time.monotonic() + 90
    while len(moved) < 5 and time.monotonic() < deadline:
        demo.page.wait_for_timeout(200)
        moved |= {now["path"] for now, first in zip(demo.pens(), before, strict=True) if now["lastValue"] != first["lastValue"]}
    assert len(moved) >= 5, {pen["path"] for pen in before} - moved
    assert demo.page.evaluate("historian.frames()") > 16
    rows = demo.page.locator(".readout tbody tr")
    expect(rows).to_have_count(8)
    units = rows.locator(".col-unit").all_inner_texts()
    assert len(set(units)) >= 3, units
    assert "compression=zstd" in demo.sockets[0].url
    if target := os.environ.get("TREND_SCREENSHOT"):
        demo.page.screenshot(path=target)
    assert demo.faults == []


def test_the_newest_sample_is_of_now(demo: Opened) -> None:
    newest = max(pen["lastTs"] for pen in demo.pens()) / 1e6
    assert abs(time.time() - newest) < 5
    assert abs(time.time() - demo.window()[1] / 1e6) < 0.02 * 15 * 60


def test_zooming_and_moving_fetch_history_at_the_resolution_of_the_chart(demo: Opened) -> None:
    page = demo.page
    x, y = demo.middle_of_chart()
    page.mouse.move(x, y)
    live_from, live_to = demo.window()
    query = demo.wait_for_range(lambda: page.mouse.wheel(0, -500))
    assert page.evaluate("historian.state()") == "paused"
    zoomed_from, zoomed_to = demo.window()
    assert live_from < zoomed_from < zoomed_to < live_to
    assert query["tag"] == [pen["path"] for pen in demo.pens()]
    assert int(query["start"][0]) <= zoomed_from
    assert int(query["end"][0]) >= zoomed_to
    assert query["mode"] == ["auto"]
    assert 1000 < int(query["points"][0]) < 20_000
    picture = demo.settled_picture()

    def drag() -> None:
        page.mouse.down()
        page.mouse.move(x + 300, y, steps=6)
        page.mouse.up()

    query = demo.wait_for_range(drag)
    panned_from, panned_to = demo.window()
    assert panned_from < zoomed_from
    assert panned_to - panned_from == pytest.approx(zoomed_to - zoomed_from)
    assert int(query["start"][0]) <= panned_from
    assert demo.settled_picture() != picture

    def box() -> None:
        page.keyboard.down("Shift")
        page.mouse.move(x - 100, y)
        page.mouse.down()
        page.mouse.move(x + 100, y, steps=4)
        expect(page.locator(".zoom-box")).to_be_visible()
        page.mouse.up()
        page.keyboard.up("Shift")

    demo.wait_for_range(box)
    boxed_from, boxed_to = demo.window()
    assert panned_from < boxed_from < boxed_to < panned_to
    demo.wait_for_range(lambda: page.get_by_role("button", name="1 hour").click())
    from_, to = demo.window()
    assert to - from_ == pytest.approx(3600e6)
    assert demo.faults == []


def test_pause_holds_the_picture_and_live_goes_on(demo: Opened) -> None:
    page = demo.page
    demo.wait_for_range(lambda: page.get_by_role("button", name="Pause").click())
    expect(page.get_by_role("status")).to_have_text("paused")
    page.mouse.move(5, 5)
    picture = demo.settled_picture()
    held, window, frames = demo.pens(), demo.window(), page.evaluate("historian.frames()")
    # live frames keep coming, and are not shown
    demo.wait("frames => historian.frames() > frames + 16", frames)
    assert (demo.pens(), demo.window(), demo.picture()) == (held, window, picture)
    assert "from=" in page.url
    page.get_by_role("button", name="Live").click()
    demo.wait("held => historian.state() === 'live' && historian.pens().every((pen, i) => pen.lastTs > held[i].lastTs)", held)
    assert demo.window()[1] > window[1]
    # nothing was missed meanwhile: no second connection, no gap
    assert len(demo.sockets) == 1
    assert demo.faults == []


def test_a_paused_window_is_in_the_address(demo: Opened, open_page: Open) -> None:
    page = demo.page
    demo.wait_for_range(lambda: page.get_by_role("button", name="Earlier").click())
    demo.wait("location.hash.includes('from=')")
    window = demo.window()
    again = open_page(page.url, until="historian.pens().length === 8 && historian.pens().every(pen => pen.points > 0)")
    assert again.window() == pytest.approx(window)
    assert again.page.evaluate("historian.state()") != "live"
    assert [pen["path"] for pen in again.pens()] == [pen["path"] for pen in demo.pens()]


def test_search_finds_by_path_description_and_unit_and_a_click_adds_a_pen(demo: Opened) -> None:
    page = demo.page
    search, tags = page.get_by_role("searchbox"), page.locator(".tree-tag")
    search.fill("LINE2 reactor1 °c")
    expect(page.locator(".tree-count")).to_contain_text(" of 53 tags")
    paths = tags.evaluate_all("rows => rows.map(row => row.dataset.path)")
    assert paths
    assert all("line2/reactor1" in path and "temperature" in path for path in paths), paths
    search.fill("steam header")
    expect(tags).to_have_count(1)
    tags.first.click()
    demo.wait("historian.pens().length === 9 && historian.pens()[8].points > 10")
    assert demo.pens()[8]["path"].endswith("utilities/steam/pressure")
    expect(page.locator(".readout tbody tr")).to_have_count(9)
    assert len(demo.sockets) == 1
    tags.first.click()
    demo.wait("historian.pens().length === 8")
    search.fill("no such tag anywhere")
    expect(tags).to_have_count(0)
    assert demo.faults == []


def test_the_read_out_shows_the_values_at_the_cursor(demo: Opened) -> None:
    page = demo.page
    demo.wait_for_range(lambda: page.get_by_role("button", name="Pause").click())
    row = page.locator(".readout tbody tr").nth(7)
    path = row.get_attribute("data-path")
    heading = page.locator(".readout th.col-value")
    expect(heading).to_have_text("At the end")
    x, y = demo.middle_of_chart()
    page.mouse.move(x, y)
    expect(heading).to_have_text("At cursor")
    start, end = demo.window()
    # what the server says of that instant
    asked = urlsplit(page.url)
    with urllib.request.urlopen(
        f"{asked.scheme}://{asked.netloc}/v1/range?tag={path}&start={int(start)}&end={int((start + end) / 2) + 1_000_000}&format=json"
    ) as response:
        samples = json.load(response)["samples"]
    value = row.locator("td.col-value").inner_text().replace("−", "-")
    # as many decimals as suit the pen
    decimals = len(value.partition(".")[2])
    assert value in {f"{sample['value']:.{decimals}f}" for sample in samples[-6:]}
    with urllib.request.urlopen(f"{asked.scheme}://{asked.netloc}/v1/tags?match={path}") as response:
        assert row.locator(".col-unit").inner_text() == json.load(response)["tags"][0]["unit"]
    assert row.locator("td.col-quality").inner_text() == "good"
    expect(page.locator(".cursor-label")).to_be_visible()
    page.mouse.move(5, 5)
    expect(heading).to_have_text("At the end")
    assert demo.faults == []


def test_states_and_texts_are_shown_by_name(demo_server: ServerProcess, open_page: Open) -> None:
    line = "acme/springfield/brewing/line1"
    paths = [f"{line}/feed_pump/state", f"{line}/batch/phase", f"{line}/reactor1/high_temperature_alarm"]
    opened = open_page(
        f"{demo_server.url}/#{'&'.join(f'pen={path}' for path in paths)}&span=3600", until=f"historian.pens().length === 3 && {LIVE}"
    )
    values = opened.page.locator(".readout td.col-value")
    opened.wait("[...document.querySelectorAll('.readout td.col-value')].every(cell => /^[a-z]+$/.test(cell.textContent))")
    state, phase, alarm = values.all_inner_texts()
    assert state in ("stopped", "starting", "running", "fault")
    assert phase in ("idle", "filling", "heating", "holding", "cooling", "draining", "cleaning")
    assert alarm in ("true", "false")
    assert opened.faults == []


def test_it_connects_again_after_the_server_restarts_and_misses_nothing(serve: Serve, open_page: Open) -> None:
    server = serve()
    put(
        f"{server.url}/v1/tags",
        "PUT",
        {"tags": [{"path": "site/a", "kind": "float", "unit": "bar"}, {"path": "site/b", "kind": "float", "unit": "°C"}]},
    )
    start = time.time_ns() // 1000 - 10_000_000

    def write(*numbers: int) -> None:
        samples = [{"tag": f"site/{name}", "ts": start + 1000 * n, "value": n} for n in numbers for name in "ab"]
        put(f"{server.url}/v1/write", "POST", {"samples": samples})

    write(1)
    opened = open_page(server.url, until=f"historian.pens().length === 2 && {LIVE}")
    write(2)
    opened.wait("historian.pens().every(pen => pen.lastValue === 2 && pen.points === 2)")
    server.stop()
    opened.wait("historian.state() === 'reconnecting'")
    expect(opened.page.get_by_role("status")).to_contain_text("Offline: as of")
    server.start()
    # before the page is back, and after
    write(3)
    opened.wait(LIVE)
    write(4)
    opened.wait("historian.pens().every(pen => pen.lastValue === 4 && pen.points === 4)")
    assert len(opened.sockets) >= 2
    # the browser itself reports connections that fail; the page must not
    assert [fault for fault in opened.faults if "WebSocket connection" not in fault and "ERR_CONNECTION" not in fault] == []


def test_an_event_source_connects_again_by_itself_and_misses_nothing(serve: Serve, open_page: Open) -> None:
    """Not of the page, but of the browser: server-sent events, by which any page of the plant can show values."""
    server = serve()

    def write(value: int) -> None:
        put(f"{server.url}/v1/write", "POST", {"samples": [{"tag": "es/a", "ts": value, "value": value}]})

    write(1)
    opened = open_page(server.url, until="true")
    opened.page.evaluate(
        """() => {
            window.told = [];
            const source = new EventSource("/v1/stream?tag=es/%23&from=1970-01-01");
            source.addEventListener("gap", () => window.told.push("gap"));
            source.addEventListener("data", (event) => window.told.push(...JSON.parse(event.data).samples.map((sample) => sample.value)));
        }"""
    )
    opened.wait("told.at(-1) === 1")
    write(2)
    opened.wait("told.at(-1) === 2")
    server.stop()
    server.start()
    write(3)
    opened.wait("told.at(-1) === 3")
    # this server does not know the place, says so, and begins anew
    assert opened.page.evaluate("told") == [1, 2, "gap", 1, 2, 3]


def test_a_correction_replaces_the_sample_and_a_bad_one_is_shown_as_bad(serve: Serve, open_page: Open) -> None:
    server = serve()
    put(f"{server.url}/v1/tags", "PUT", {"tags": [{"path": "site/a", "kind": "float", "unit": "bar"}]})
    now = time.time_ns() // 1000

    def write(ts: int, value: float | None, quality: int = 192) -> None:
        put(f"{server.url}/v1/write", "POST", {"samples": [{"tag": "site/a", "ts": ts, "value": value, "quality": quality}]})

    write(now - 2_000_000, 1.5)
    opened = open_page(server.url)
    write(now - 2_000_000, 2.5)
    opened.wait("historian.pens()[0].lastValue === 2.5 && historian.pens()[0].points === 1")
    write(now - 3_000_000, 0.5)
    opened.wait("historian.pens()[0].lastValue === 2.5 && historian.pens()[0].points === 2")
    write(now - 1_000_000, None, 0)
    expect(opened.page.locator(".readout td.col-quality")).to_have_text("bad (0)")
    assert opened.faults == []


def test_a_server_with_a_token_is_asked_with_it(serve: Serve, open_page: Open) -> None:
    server = serve(env={"HISTORIAN_TOKEN": "sesame ü"})
    opened = open_page(server.url, until=None)
    dialog = opened.page.get_by_role("dialog", name="Token")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Token").fill("wrong")
    dialog.get_by_role("button").click()
    expect(dialog).to_contain_text("this is not the server's token", timeout=WAIT_MS)
    dialog.get_by_label("Token").fill("sesame ü")
    dialog.get_by_label("Token").press("Enter")
    opened.wait("historian.state() === 'live'")
    expect(dialog).to_have_count(0)


def test_keys_and_theme(demo: Opened) -> None:
    page = demo.page
    page.keyboard.press("3")
    demo.wait("Math.abs(historian.window().to - historian.window().from - 3600e6) < 1e6 && location.hash.includes('span=3600')")
    page.keyboard.press("Space")
    demo.wait("historian.state() === 'paused'")
    page.keyboard.press("l")
    demo.wait("historian.state() === 'live'")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Theme and language").click()
    page.get_by_role("menuitemradio", name="Light", exact=True).click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    assert demo.faults == []


@pytest.mark.parametrize(("width", "height"), [(1024, 700), (390, 800)])
def test_nothing_overflows_on_smaller_screens(demo: Opened, width: int, height: int) -> None:
    demo.page.set_viewport_size({"width": width, "height": height})
    demo.wait("Math.abs(document.querySelector('.uplot').clientWidth - document.querySelector('.chart').clientWidth) <= 1")
    assert demo.page.evaluate("document.documentElement.scrollWidth") <= width
    box = demo.page.locator(".u-over").bounding_box()
    assert box is not None
    assert box["width"] > 0.6 * min(width, 700)
    assert box["height"] > 180
    assert demo.faults == []


def test_on_a_phone_the_tags_come_and_go(demo: Opened) -> None:
    page = demo.page
    page.set_viewport_size({"width": 390, "height": 800})
    search = page.get_by_role("searchbox")
    expect(search).to_be_hidden()
    page.get_by_role("button", name="Tags", exact=True).click()
    expect(search).to_be_visible()
    page.mouse.click(380, 500)
    expect(search).to_be_hidden()
    assert page.evaluate("historian.state()") == "live"
    assert demo.faults == []


def test_a_double_click_goes_back_to_the_window_before(demo: Opened) -> None:
    page = demo.page
    x, y = demo.middle_of_chart()
    page.mouse.move(x, y)
    demo.wait_for_range(lambda: page.mouse.wheel(0, -300))
    first = demo.window()
    # the next one is a gesture of its own
    page.wait_for_timeout(800)
    demo.wait_for_range(lambda: page.mouse.wheel(0, -300))
    assert demo.window() != first
    page.mouse.dblclick(x, y)
    demo.wait("first => historian.window().from === first[0] && historian.window().to === first[1]", list(first))
    page.mouse.dblclick(x, y)
    demo.wait("historian.state() === 'live'")
    assert demo.faults == []


def test_a_date_range_is_shown_and_a_wrong_one_is_told(demo: Opened) -> None:
    page = demo.page
    page.get_by_role("button", name="Date range").click()
    asked = page.get_by_role("dialog", name="Date range")
    start = time.time() - 1800
    local = [time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(start + later)) for later in (0, 600)]
    asked.get_by_label("From").fill(local[1])
    asked.get_by_label("To").fill(local[0])
    asked.get_by_role("button", name="Show").click()
    expect(asked.get_by_role("alert")).to_have_text("The end lies before the start.")
    asked.get_by_label("From").fill(local[0])
    asked.get_by_label("To").fill(local[1])
    demo.wait_for_range(lambda: asked.get_by_role("button", name="Show").click())
    expect(asked).to_have_count(0)
    assert demo.window() == (int(start) * 1e6, (int(start) + 600) * 1e6)
    assert all(pen["points"] > 100 for pen in demo.pens())
    assert demo.faults == []


def test_a_branch_is_added_whole_and_no_more_than_there_is_room_for(demo: Opened) -> None:
    page = demo.page
    search = page.get_by_role("searchbox")
    search.fill("utilities")
    branch = page.get_by_role("button", name="Add all tags of acme/springfield/utilities", exact=True)
    branch.click()
    demo.wait("historian.pens().length === 11 && historian.pens().every(pen => pen.points > 0)")
    branch.click()
    demo.wait("historian.pens().length === 8")
    search.fill("line2")
    page.get_by_role("button", name="Add all tags of acme/springfield/brewing/line2", exact=True).click()
    # some of its tags are among the first pens, as they happen to move
    demo.wait("historian.pens().length >= 20")
    search.fill("line1")
    page.get_by_role("button", name="Add all tags of acme/springfield/brewing/line1", exact=True).click()
    demo.wait("historian.pens().length === 32")
    expect(page.get_by_role("alert")).to_contain_text(re.compile(r"32 pens are the most: \d+ of 20 tags were not added\."))
    assert demo.faults == []


def test_a_tag_that_has_not_changed_for_days_is_shown_as_it_is(serve: Serve, open_page: Open) -> None:
    server = serve()
    put(
        f"{server.url}/v1/tags",
        "PUT",
        {
            "tags": [
                {"path": "site/valve", "kind": "digital", "states": {"0": "shut", "1": "open"}},
                {"path": "site/setpoint", "kind": "float", "unit": "°C", "step": True},
            ]
        },
    )
    days_ago = time.time_ns() // 1000 - 3 * 86_400_000_000
    samples = [{"tag": "site/valve", "ts": days_ago, "value": 1}, {"tag": "site/setpoint", "ts": days_ago, "value": 66.5}]
    put(f"{server.url}/v1/write", "POST", {"samples": samples})
    opened = open_page(f"{server.url}/#pen=site/valve&pen=site/setpoint")
    values = opened.page.locator(".readout td.col-value")
    expect(values).to_have_text(["open", "66.5"])
    opened.wait_for_range(lambda: opened.page.get_by_role("button", name="Zoom in").click())
    expect(values).to_have_text(["open", "66.5"])
    assert opened.faults == []


def test_a_calculated_pen_lives_with_its_tags(demo: Opened, open_page: Open) -> None:
    page = demo.page
    tag = "acme/springfield/brewing/line1/reactor1/temperature"
    page.get_by_role("button", name="Calculated pen").click()
    asked = page.get_by_role("dialog", name="Calculated pen")
    asked.get_by_label("Expression").fill(f"{tag} * ")
    asked.get_by_role("button", name="Add pen").click()
    expect(asked.get_by_role("alert")).to_contain_text("something is missing at the end")
    if target := os.environ.get("CALCULATED_SCREENSHOT"):
        page.screenshot(path=target.replace(".png", "-asked.png"))
    asked.get_by_label("Expression").fill(f"twice: {tag} * 2")
    asked.get_by_role("button", name="Add pen").click()
    expect(asked).to_have_count(0)
    # the browser says of each refused request that it was
    demo.faults = [fault for fault in demo.faults if "status of 400" not in fault]
    demo.wait("historian.pens().length === 9 && historian.pens()[8].points > 100")
    before = demo.pens()[8]
    assert before["path"] == "twice"
    # live
    demo.wait("before => historian.pens()[8].lastTs > before.lastTs && historian.pens()[8].points > before.points", before)
    expect(page.locator("tr[data-path='twice'] .col-description")).to_have_text(f"{tag} * 2")
    if target := os.environ.get("CALCULATED_SCREENSHOT"):
        page.screenshot(path=target)
    # held still it is of the range query, as its tag is
    asked_for = demo.wait_for_range(lambda: page.get_by_role("button", name="Zoom in").click())
    assert asked_for["expr"] == [f"twice: {tag} * 2"]
    demo.wait("historian.pens()[8].points > 10")
    # and it is in the address
    page.wait_for_url(re.compile("calc=twice"))
    again = open_page(page.url.replace("&from", f"&pen={tag}~9&from"), until="historian.pens().length >= 9")
    again.wait("historian.pens().find(pen => pen.path === 'twice').points > 10")
    pens = {pen["path"]: pen for pen in again.pens()}
    assert (pens["twice"]["lastTs"], pens["twice"]["lastValue"]) == (pens[tag]["lastTs"], pytest.approx(2 * pens[tag]["lastValue"]))
    assert demo.faults + again.faults == []
