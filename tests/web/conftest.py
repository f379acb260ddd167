"""Fixtures: a browser, and pages opened in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from opened import LIVE, STATIC, Open, Opened
from playwright.sync_api import Browser, BrowserContext, sync_playwright
from processes import ServerProcess


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium, or Playwright's own."""
    system = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        # root may not use Chromium's sandbox
        started = playwright.chromium.launch(executable_path=system, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1600, "height": 900}, color_scheme="dark")
    yield made
    made.close()


@pytest.fixture
def open_page(context: BrowserContext) -> Open:
    """Open the page of a server, by default until it is live."""
    if not (STATIC / "index.html").is_file():
        pytest.fail("the trend page is not built; run: python scripts/build_web.py")

    def open_it(url: str, *, until: str | None = LIVE) -> Opened:
        opened = Opened(context.new_page())
        opened.page.goto(url)
        opened.wait("window.historian !== undefined")
        if until is not None:
            opened.wait(until)
        return opened

    return open_it


@pytest.fixture
def demo(demo_server: ServerProcess, open_page: Open) -> Opened:
    """The demo's page, with eight pens."""
    return open_page(demo_server.url, until=f"historian.pens().length === 8 && {LIVE}")
