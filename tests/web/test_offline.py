"""The pages without their server: installed, opened from what is kept on the device with its age, and completed when the server is back."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from opened import LIVE, STATIC, Open, Opened, put
from playwright.sync_api import BrowserContext, Page, expect
from processes import Serve
from test_trend_exact import PENS, SECOND, TAGS, held_by_database, shown, write

expect.set_options(timeout=30_000)

KEPT = """async ([page, at]) => {
    const [{ name }] = await indexedDB.databases();
    const db = await new Promise(resolve => { const asked = indexedDB.open(name); asked.onsuccess = () => resolve(asked.result); });
    const rows = await new Promise(resolve => { const asked = db.transaction('views').objectStore('views').getAll(); asked.onsuccess = () => resolve(asked.result); });
    db.close();
    return rows.filter(row => row.page === page && row.at >= at).length;
}"""
#: the service worker has the page in hand, and so all of its files
INSTALLED = "navigator.serviceWorker.controller !== null"


def keep(opened: Opened, page: str, newer_than: float = 0) -> None:
    """Have the page keep what it shows, as when its tab is hidden, and wait until it has."""
    opened.page.evaluate("window.dispatchEvent(new Event('pagehide'))")
    opened.wait(KEPT, [page, newer_than])


def write_more(url: str, start: int, end: int) -> None:
    write(url, start, end)


def test_a_page_opens_without_its_server_and_is_completed_when_it_is_back(serve: Serve, open_page: Open) -> None:
    server = serve()
    put(f"{server.url}/v1/tags", "PUT", {"tags": TAGS})
    now = time.time_ns() // (1000 * SECOND)
    write(server.url, now - 120, now - 60)
    opened = open_page(f"{server.url}/#{PENS}&span=300", until=f"historian.pens().length === 3 && {LIVE} && {INSTALLED}")
    page = opened.page
    paths = [str(tag["path"]) for tag in TAGS]
    before = {path: held_by_database(server.url, path, *opened.window()) for path in paths}
    assert all(before.values())
    keep(opened, "trend")
    server.kill()
    page.reload()
    status = page.get_by_role("status")
    expect(status).to_have_text(re.compile(r"^Offline: as of \d\d:\d\d, < 1 min ago$"))
    opened.wait("historian.pens().length === 3")
    assert {path: shown(opened, path) for path in paths} == before
    # time stands still where the data end
    window = opened.window()
    assert window[0] < (now - 120) * SECOND
    assert opened.page.evaluate("new Promise(resolve => setTimeout(() => resolve(historian.window().to), 500))") == window[1]
    # looking closer works as ever, and the values at the mouse
    x, y = opened.middle_of_chart()
    page.mouse.move(x, y)
    expect(page.locator(".readout th.col-value")).to_have_text("At cursor")
    page.get_by_role("button", name="Zoom in").click()
    start, end = opened.window()
    assert end - start == pytest.approx(150e6)
    assert shown(opened, paths[0]) == [sample for sample in before[paths[0]] if start <= sample[0] < end]
    # what needs the server says so
    page.keyboard.press("t")
    expect(page.get_by_role("alert")).to_have_text("The server cannot be reached: this needs it.")
    page.keyboard.press("t")
    page.get_by_role("button", name="Live", exact=True).click()
    server.start()
    # as another writer does meanwhile
    write(server.url, now - 70, now - 10)
    opened.wait(LIVE)
    expect(status).to_have_text("live")
    opened.wait("ts => historian.pens()[0].lastTs === ts", (now - 10) * SECOND - SECOND // 10)
    for path in paths:
        samples = shown(opened, path)
        assert samples == held_by_database(server.url, path, *opened.window())
        assert len({ts for ts, _, _ in samples}) == len(samples)
    # the connection goes while the page is open: told in the same way
    server.kill()
    expect(status).to_have_text(re.compile(r"^Offline: as of \d\d:\d\d, < 1 min ago$"))
