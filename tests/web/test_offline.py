"""The pages without their server: installed, opened from what is kept on the device with its age, and completed when the server is back."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opened import LIVE, STATIC, Open, Opened, put
from playwright.sync_api import BrowserContext, Page, expect
from processes import Serve
from test_trend_exact import PENS, SECOND, TAGS, held_by_database, shown, write

expect.set_options(timeout=30_000)


def ask(url: str, method: str, body: object, **headers: str) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"} | headers, method=method)
    with urllib.request.urlopen(request) as response:
        response.read()


KEPT = """async ([page, at]) => {
    const [found] = await indexedDB.databases();
    if (found === undefined) return 0;
    const db = await new Promise(resolve => { const asked = indexedDB.open(found.name); asked.onsuccess = () => resolve(asked.result); });
    if (!db.objectStoreNames.contains('views')) return 0;
    const rows = await new Promise(resolve => { const asked = db.transaction('views').objectStore('views').getAll(); asked.onsuccess = () => resolve(asked.result); });
    db.close();
    return rows.filter(row => row.page === page && row.at >= at).length;
}"""
#: as the bar says it, on a machine of any speed
AGED = re.compile(r"^Offline: as of (\S+ )?\d\d:\d\d, (< )?\d+ min ago$")
#: the service worker has the page in hand, and so all of its files
INSTALLED = "navigator.serviceWorker.controller !== null"


def retry(page: Page) -> None:
    """Have the page try at once, as when the network is back."""
    page.evaluate("window.dispatchEvent(new Event('online'))")


def keep(opened: Opened, page: str, newer_than: float = 0) -> None:
    """Have the page keep what it shows, as when its tab is hidden, and wait until it has."""
    opened.page.evaluate("window.dispatchEvent(new Event('pagehide'))")
    opened.wait(KEPT, [page, newer_than])


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
    expect(status).to_have_text(AGED)
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
    retry(page)
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
    expect(status).to_have_text(AGED)


def test_what_one_token_has_brought_another_one_does_not_show(serve: Serve, open_page: Open) -> None:
    server = serve(env={"HISTORIAN_TOKEN": "first"})
    opened = open_page(server.url, until=None)
    page = opened.page
    question = page.get_by_role("dialog", name="Token")
    question.get_by_label("Token").fill("first")
    question.get_by_role("button").click()
    headers = {"Authorization": "Bearer first"}
    ask(f"{server.url}/v1/tags", "PUT", {"tags": TAGS}, **headers)
    now = time.time_ns() // 1000
    ask(f"{server.url}/v1/write", "POST", {"samples": [{"tag": "site/wave", "ts": now - 5 * SECOND, "value": 1.5}]}, **headers)
    page.goto(f"{server.url}/#pen=site/wave")
    page.reload()
    opened.wait(f"historian.pens().length === 1 && {LIVE} && {INSTALLED}")
    keep(opened, "trend")
    server.kill()
    for token in (None, "second"):
        page.evaluate("token => token === null ? sessionStorage.clear() : sessionStorage.setItem('historian.token', token)", token)
        page.reload()
        expect(question).to_contain_text("What is kept on this device is shown with the token it came with.")
        assert opened.pens() == []
        expect(page.locator(".tree-tag")).to_have_count(0)
    question.get_by_label("Token").fill("first")
    question.get_by_role("button").click()
    opened.wait("historian.pens().length === 1 && historian.pens()[0].lastValue === 1.5")
    expect(page.get_by_role("status")).to_contain_text("Offline: as of")
    # it is forgotten when that is asked for
    page.get_by_role("button", name="Saved views").click()
    page.get_by_role("button", name="Forget what is kept on this device").click()
    opened.wait(f"async () => await ({KEPT})(['trend', 0]) === 0")
    page.evaluate("window.dispatchEvent(new Event('pagehide'))")
    page.reload()
    expect(page.get_by_role("alert")).to_have_text("The server cannot be reached.")
    assert opened.pens() == []


def test_a_dashboard_opens_without_its_server(serve: Serve, context: BrowserContext) -> None:
    server = serve()
    ask(f"{server.url}/v1/tags", "PUT", {"tags": TAGS})
    now = time.time_ns() // 1000
    samples = [{"tag": "site/wave", "ts": now - n * SECOND, "value": 40 + n} for n in (3, 2)]
    ask(f"{server.url}/v1/write", "POST", {"samples": [*samples, {"tag": "site/valve", "ts": now - 9 * SECOND, "value": 1}]})
    tiles = [
        {"type": "value", "x": 0, "y": 0, "w": 4, "h": 2, "title": "Wave", "tag": "site/wave"},
        {"type": "states", "x": 4, "y": 0, "w": 4, "h": 2, "title": "Valve", "tags": ["site/valve"]},
        {"type": "alarms", "x": 8, "y": 0, "w": 4, "h": 2, "title": "Alarms", "rules": [{"tags": "site/wave", "above": 10}]},
    ]
    ask(f"{server.url}/v1/dashboards/plant", "PUT", {"title": "Plant", "tiles": tiles}, **{"If-None-Match": "*"})
    opened = Opened(context.new_page())
    page = opened.page
    page.goto(f"{server.url}/dashboards#plant")
    value = page.locator(".tile", has=page.get_by_role("heading", name="Wave")).locator(".reading-value")
    expect(value).to_have_text("42")
    opened.wait(f"dashboards.live() && {INSTALLED}")
    expect(page.locator(".alarms li")).to_have_count(1)
    keep(opened, "dashboards")
    server.kill()
    # by its name, and as the last one
    for address in ("/dashboards#plant", "/dashboards"):
        page.goto("about:blank")
        page.goto(f"{server.url}{address}")
        expect(page).to_have_title("Plant · historian")
        expect(page.get_by_role("status")).to_have_text(AGED)
        expect(value).to_have_text("42")
        expect(page.locator(".tile[data-age$=' min old']")).to_have_count(3)
        expect(page.locator(".alarms li")).to_have_count(1)
    server.start()
    retry(page)
    ask(f"{server.url}/v1/write", "POST", {"samples": [{"tag": "site/wave", "ts": now, "value": 43.5}]})
    expect(value).to_have_text("43.5")
    expect(page.locator(".tile[data-age]")).to_have_count(0)
    expect(page.get_by_role("status")).to_have_text("live")


def test_it_can_be_installed(serve: Serve, open_page: Open) -> None:
    server = serve()
    opened = open_page(server.url, until=INSTALLED)
    session = opened.page.context.new_cdp_session(opened.page)
    manifest = session.send("Page.getAppManifest")
    assert manifest["errors"] == []
    parsed = json.loads(manifest["data"])
    assert {icon.get("purpose", "any") for icon in parsed["icons"]} == {"any", "maskable"}
    # a private window, as tests have it, cannot install anything
    errors = {error["errorId"] for error in session.send("Page.getInstallabilityErrors")["installabilityErrors"]}
    assert errors <= {"in-incognito"}
    for path, caching in {"/": "no-cache", "/dashboards": "no-cache", "/sw.js": "no-cache", "/manifest.webmanifest": "no-cache"}.items():
        answer = opened.page.request.get(server.url + path)
        assert (answer.status, answer.headers["cache-control"]) == (200, caching)
    # what is kept is the page, and nothing of what the server says
    keys = "async () => (await Promise.all((await caches.keys()).map(async name => (await (await caches.open(name)).keys()).map(one => one.url)))).flat()"
    urls = opened.page.evaluate(keys)
    assert f"{server.url}/dashboards" in urls
    assert not [url for url in urls if "/v1/" in url]
    assert opened.faults == []


class Build:
    """A build of the page as a server would have it, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        shutil.copytree(STATIC, directory)
        self.directory = directory

    def replace(self) -> None:
        """Another version: the script of the trend page has another content, and so another name."""
        (script,) = self.directory.glob("assets/index-*.js")
        new = script.with_name("index-newer.js")
        new.write_text(f"{script.read_text()}\nwindow.version = 'newer';\n")
        script.unlink()
        index = self.directory / "index.html"
        index.write_text(index.read_text().replace(script.name, new.name))
        worker = self.directory / "sw.js"
        listed, code = worker.read_text().split(";\n", 1)
        head, build = listed.split(" = ", 1)
        told = json.loads(build)
        del told["files"][f"./assets/{script.name}"]
        for address, file in {"./": index, f"./assets/{new.name}": new}.items():
            told["files"][address] = f"sha256-{b64encode(hashlib.sha256(file.read_bytes()).digest()).decode()}"
        worker.write_text(f"{head} = {json.dumps(told | {'version': 'newer'})};\n{code}")


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path / "static")


@pytest.fixture
def static_server(build: Build) -> Iterator[ThreadingHTTPServer]:
    """Has the pages and nothing else, on a free port."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(build.directory))

        def translate_path(self, path: str) -> str:
            return super().translate_path("/dashboards.html" if path == "/dashboards" else path)

        def end_headers(self) -> None:
            self.send_header("Cache-Control", "no-cache")
            super().end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield served
    served.shutdown()
    served.server_close()
    thread.join()


def test_a_new_version_of_the_page_is_taken_over_whole(build: Build, static_server: ThreadingHTTPServer, context: BrowserContext) -> None:
    url = f"http://127.0.0.1:{static_server.server_port}"
    opened = Opened(context.new_page())
    page = opened.page
    page.goto(url)
    opened.wait(INSTALLED)
    build.replace()
    # a page that has been open since before is told, and offers it
    page.evaluate("navigator.serviceWorker.ready.then(registration => registration.update())")
    offer = page.locator(".newer")
    expect(offer).to_contain_text("There is a new version of this page.")
    assert page.evaluate("window.version") is None
    offer.get_by_role("button", name="Reload").click()
    opened.wait("window.version === 'newer'")
    expect(offer).to_have_count(0)
    # the old one is gone, and the new one opens without a server
    opened.wait("async () => (await caches.keys()).length === 1 && (await caches.keys())[0].endsWith(' newer')")
    static_server.shutdown()
    static_server.server_close()
    page.reload()
    opened.wait("window.version === 'newer'")
    page.goto(f"{url}/dashboards")
    expect(page).to_have_title("Dashboards · historian")
