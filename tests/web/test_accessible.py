"""Both pages for everybody: checked by axe in each theme, used by the keyboard alone, told to screen readers, in Dutch as in English."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from opened import LIVE, Opened, put
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect
from processes import ServerProcess

AXE = Path(__file__).resolve().parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
#: WCAG 2.2 at level AA, and what axe holds for good practice
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
#: a page begins with the dark one
THEMES = {"Light": "light", "High contrast, dark": "contrast-dark", "High contrast, light": "contrast-light", "Dark": "dark"}
#: of the values in the table, which is made anew some time after its theme
INKS = "[...document.querySelectorAll('tr[data-path]')].map((row) => row.style.getPropertyValue('--pen-ink')).join()"
PHONE: ViewportSize = {"width": 390, "height": 844}
LAPTOP: ViewportSize = {"width": 1366, "height": 768}
TAG = "acme/springfield/brewing/line1/reactor1/level"

Show = Callable[..., Opened]


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    if not AXE.is_file():
        pytest.fail("axe is not installed; run: python scripts/build_web.py check")
    # the pages' own policy forbids scripts that they have not brought
    made = browser.new_context(viewport=LAPTOP, color_scheme="dark", bypass_csp=True)
    made.add_init_script(path=AXE)
    yield made
    made.close()


@pytest.fixture
def show(context: BrowserContext, demo_server: ServerProcess) -> Iterator[Show]:
    """Open a page of the demo; by default until it is live."""
    shown: list[Opened] = []

    def show_it(path: str = f"/#pen={TAG}", *, within: BrowserContext = context) -> Opened:
        opened = Opened(within.new_page())
        shown.append(opened)
        opened.page.goto(f"{demo_server.url}{path}")
        opened.wait(
            "dashboards.live() && dashboards.frames() > 4"
            if "dashboards" in path
            else f"window.historian !== undefined && historian.pens().length > 0 && {LIVE}"
        )
        return opened

    yield show_it
    for opened in shown:
        assert opened.faults == []
        if not opened.page.is_closed():
            opened.page.evaluate("localStorage.clear()")
            opened.page.close()


def violations(page: Page, within: str = "html", rules: Sequence[str] = RULES) -> list[str]:
    """What axe finds wrong, each with its place."""
    script = """async ([within, rules]) => {
        const { violations } = await axe.run(within, { runOnly: rules, resultTypes: ["violations"] });
        return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target.join(" ")}: ${node.failureSummary}`));
    }"""
    found: list[str] = page.evaluate(script, [within, list(rules)])
    return found


def check_themes(opened: Opened) -> None:
    """All rules on a laptop and a phone, and those of contrast in each theme: 4.5, or 7 where a theme is for that."""
    page = opened.page
    for size in (PHONE, LAPTOP):
        page.set_viewport_size(size)
        assert violations(page) == [], size
    for label, theme in THEMES.items():
        inks = page.evaluate(INKS)
        choose(page, label)
        opened.wait(f"inks => inks === '' || inks !== {INKS}", inks)
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        enhanced = ["color-contrast-enhanced"] if theme.startswith("contrast") else []
        assert violations(page, rules=["color-contrast", *enhanced]) == [], theme


def choose(page: Page, label: str) -> None:
    page.get_by_role("button", name="Theme and language").click()
    page.get_by_role("menuitemradio", name=label, exact=True).click()


def focused(page: Page) -> str:
    name: str = page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent")
    return name


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_axe_finds_nothing_on_the_trend_page(show: Show) -> None:
    opened = show("/")
    page = opened.page
    check_themes(opened)
    for key in "?dfsoe":
        page.keyboard.press(key)
        assert violations(page, ".popup, dialog[open]") == [], key
        page.keyboard.press("Escape")
        expect(page.locator(".popup, dialog[open]")).to_have_count(0)
    for name in ("Theme and language", "Saved views", "Colour, scale and limits of"):
        page.get_by_role("button", name=name).first.click()
        assert violations(page, ".popup") == [], name
        page.keyboard.press("Escape")
    # with all that can be on the chart and in the table
    press(page, "c", "t", "y")
    expect(page.get_by_role("slider", name="Cursor A")).to_be_visible()
    expect(page.locator("td.col-mean").first).to_have_text(re.compile(r"\d"))
    assert violations(page) == []


def test_axe_finds_nothing_on_dashboards_and_in_their_editor(show: Show) -> None:
    opened = show("/dashboards#packaging")
    page = opened.page
    check_themes(opened)
    page.get_by_role("button", name="Edit", exact=True).press("Enter")
    assert violations(page) == []
    page.get_by_role("button", name="Add tile").press("Enter")
    assert violations(page, ".popup") == []
    press(page, "Enter")
    assert violations(page, "dialog[open]") == []
    press(page, "Escape")
    page.get_by_role("button", name="JSON").press("Enter")
    assert violations(page, "dialog[open]") == []
    press(page, "Escape", "?")
    assert violations(page, "dialog[open]") == []
    press(page, "Escape")
    # a tile is moved and opened by keys, and has the focus again
    tile = page.get_by_role("group", name="Rejects").first
    tile.focus()
    press(page, "ArrowDown")
    expect(page.locator(".edit-state")).to_have_text(re.compile(r"^Column \d+, row \d+, \d+ by \d+$"))
    press(page, "Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    press(page, "Escape")
    expect(tile).to_be_focused()
    press(page, "Control+z")
    page.get_by_role("button", name="Done").press("Enter")
    expect(page.get_by_role("button", name="Edit", exact=True)).to_be_visible()


def test_the_trend_page_is_used_by_the_keyboard_alone(show: Show) -> None:
    opened = show()
    page = opened.page
    # past the bar, to the chart
    press(page, "Tab")
    expect(page.get_by_role("button", name="Skip to the chart")).to_be_in_viewport()
    press(page, "Enter")
    assert focused(page) == "Trend chart"
    # a tag is searched, found and added; by its first letters in the tree another one
    press(page, "/")
    page.keyboard.type("line1 reactor1")
    press(page, "ArrowDown", "End", "Enter")
    opened.wait("historian.pens().length === 2")
    page.keyboard.type("lev")
    expect(page.locator(".tree-row.active")).to_have_attribute("data-path", TAG)
    press(page, "Enter")
    opened.wait(f"historian.pens().length === 1 && historian.pens()[0].path !== {TAG!r}")
    press(page, "ArrowLeft")
    expect(page.locator(".tree-row.active .tree-name")).to_have_text("reactor1")
    # in time; the strip of everything too
    page.locator(".chart").focus()
    press(page, "3", "Space", "+", "ArrowLeft")
    opened.wait("historian.state() === 'paused'")
    start = opened.window()[0]
    strip = page.get_by_role("slider", name="All there is")
    strip.focus()
    press(page, "Home")
    opened.wait("start => historian.window().from < start", start)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d [\d:]{8} to \d{4}-\d\d-\d\d [\d:]{8}", strip.get_attribute("aria-valuetext") or "")
    press(page, "End", "l")
    opened.wait("historian.state() === 'live'")
    # cursors, one moved
    press(page, "c")
    cursor = page.get_by_role("slider", name="Cursor B")
    before = int(cursor.get_attribute("aria-valuenow") or 0)
    cursor.focus()
    press(page, "Shift+ArrowRight", "Shift+ArrowRight")
    opened.wait("before => Number(document.querySelector('[data-cursor=b]').ariaValueNow) > before + 20", before)
    # statistics, scales from a menu, and the focus is where it was
    press(page, "t")
    expect(page.locator("td.col-mean")).to_have_text(re.compile(r"\d"))
    press(page, "s")
    expect(page.get_by_role("menuitemradio", name="All pens over each other")).to_be_focused()
    press(page, "ArrowDown", "Enter")
    expect(page.get_by_role("button", name="Scales and axes")).to_be_focused()
    opened.wait("location.hash.includes('axes=units')")
    press(page, "e", "ArrowUp", "Home", "p")
    assert focused(page) == "Picture (PNG)"
    press(page, "Escape")
    expect(page.get_by_role("button", name="Export")).to_be_focused()
    # the colour of a pen: the second below; the focus stays at the pen, whose line is made anew
    swatch = page.get_by_role("button", name="Colour, scale and limits of")
    swatch.focus()
    press(page, "Enter", "ArrowDown", "Enter")
    opened.wait("location.hash.includes('~9')")
    expect(swatch).to_be_focused()
    # in a dialog the focus goes round
    press(page, "d", "Shift+Tab")
    expect(page.get_by_role("button", name="Show", exact=True)).to_be_focused()
    press(page, "Tab")
    assert focused(page) == "From"
    press(page, "Escape")
    # keys, which can be kept to the chart
    press(page, "?", "Tab")
    page.get_by_role("checkbox").press("Space")
    press(page, "Escape", "e")
    expect(page.get_by_role("menu")).to_have_count(0)
    page.locator(".chart").focus()
    press(page, "e")
    expect(page.get_by_role("menu")).to_have_count(1)
    press(page, "Escape")
    # theme, and language, which keeps what is shown
    appearance = page.get_by_role("button", name="Theme and language")
    appearance.press("Enter")
    press(page, "h", "Enter")
    assert page.evaluate("document.documentElement.dataset.theme") == "contrast-dark"
    hash_before = page.evaluate("location.hash")
    appearance.press("Enter")
    press(page, "n")
    with page.expect_navigation():
        press(page, "Enter")
    expect(page.locator("html")).to_have_attribute("lang", "nl")
    assert page.evaluate("[location.hash, document.documentElement.dataset.theme]") == [hash_before, "contrast-dark"]


@pytest.mark.parametrize("path", [f"/#pen={TAG}&pen=acme/springfield/utilities/steam/pressure", "/dashboards#packaging"])
def test_tab_goes_through_the_page_and_the_focus_is_seen(show: Show, path: str) -> None:
    page = show(path).page
    page.evaluate("document.activeElement.blur()")
    passed = []
    while len(passed) < 80:
        press(page, "Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
        where = page.evaluate(
            """() => {
                const node = document.activeElement;
                const { outlineStyle, outlineWidth } = getComputedStyle(node);
                return [node.className || node.tagName, outlineStyle, parseFloat(outlineWidth), node.checkVisibility()];
            }"""
        )
        passed.append(where[0])
        # as wide as the theme has it, on what can be seen
        assert where[1:] == ["solid", 2, True], where
    assert len(passed) < 80, f"the focus does not leave the page: {passed}"
    wanted = ["skip", "search-input", "tree", "chart", "overview", "swatch"] if path.startswith("/#") else ["skip", "pick", "board"]
    places = [passed.index(place) for place in wanted]
    assert places == sorted(places), passed


def test_a_screen_reader_is_told_and_can_ask(show: Show, demo_server: ServerProcess) -> None:
    name = f"limit{time.time_ns()}"
    path = f"test/{name}"

    def write(value: float) -> None:
        put(f"{demo_server.url}/v1/write", "POST", {"samples": [{"tag": path, "ts": time.time_ns() // 1000, "value": value}]})

    put(f"{demo_server.url}/v1/tags", "PUT", {"tags": [{"path": path, "unit": "bar"}]})
    write(1.5)
    opened = show(f"/#pen={path}~0,high:5")
    page = opened.page
    said = page.locator(".announced")
    # the chart says what is on it, the table has it in cells with headings
    expect(page.get_by_role("group", name="Trend chart")).to_have_accessible_description(
        re.compile(r"^1 pen, live, .* to .*\. Their values are in the table that follows\.")
    )
    row = page.get_by_role("table", name="Pens").get_by_role("row", name=re.compile("limit"))
    assert row.get_by_role("cell").all_inner_texts()[2:5] == ["1.5", "bar", "good"]
    expect(page.get_by_role("rowheader")).to_have_text(re.compile(path))
    press(page, "r")
    expect(said).to_have_text(f"Newest values: {name} 1.5 bar")
    # limits that are passed, once each
    write(7.25)
    expect(said).to_have_text(f"{name} is above its high limit: 7.25 bar")
    write(7.5)
    write(2)
    expect(said).to_have_text(f"{name} is within its limits again: 2.00 bar")
    # the state: what counts down is not part of what is said
    press(page, "Space")
    expect(page.get_by_role("status")).to_have_text("paused")
    # read at the cursors
    press(page, "c", "r")
    expect(said).to_have_text(re.compile(rf"^Cursor A\. Values at [\d:]{{8}}: {name} .*\. Cursor B\. Values at [\d:]{{8}}: {name} .*$"))


def test_the_theme_follows_the_system(show: Show) -> None:
    page = show().page
    for forced, scheme, theme in (("active", "dark", "contrast-dark"), ("active", "light", "contrast-light"), ("none", "light", "light")):
        page.emulate_media(forced_colors=forced, color_scheme=scheme)  # type: ignore[arg-type]
        expect(page.locator("html")).to_have_attribute("data-theme", theme)


#: texts and names in a part of a page
WORDS = """(within) => {
    const nodes = [...document.querySelectorAll(within)].flatMap((part) => [part, ...part.querySelectorAll("*:not(.pick *)")]);
    const own = nodes.flatMap((node) => [...node.childNodes].filter((child) => child.nodeType === 3).map((child) => child.data));
    const named = nodes.flatMap((node) => ["aria-label", "title", "placeholder", "aria-valuetext"].map((name) => node.getAttribute(name) ?? ""));
    return [...new Set([...own, ...named].map((text) => text.trim()).filter((text) => /\\p{L}{2}/u.test(text)))];
}"""
#: what is the same in both languages
SAME = re.compile(
    r"historian|live|Min|Max|Trends?|Dashboards?|Tags?|\d+ tags|English|Nederlands|OEE|JSON|Cursor [AB]|Later \(→\)", re.IGNORECASE
)


def test_no_english_is_left_on_dutch_pages_with_their_numbers_and_dates(browser: Browser, show: Show) -> None:
    dutch = browser.new_context(viewport=LAPTOP, locale="nl-BE")
    for path, parts in (
        (f"/#pen={TAG}", "header, .overview, .search, .tree-count, .chart, thead"),
        ("/dashboards#packaging", "header, .edit-bar, .factors, .reading-note"),
    ):
        words = {}
        for language in ("nl", "en"):
            # of the browser, and of the address
            page = show(path, within=dutch).page if language == "nl" else show(path.replace("#", "?lang=en#"), within=dutch).page
            expect(page.locator("html")).to_have_attribute("lang", language)
            if "dashboards" in path:
                page.locator(".edit").press("Enter")
            else:
                press(page, "c")
            page.get_by_role("button", name=re.compile("^(Theme and language|Thema en taal)$")).press("Enter")
            words[language] = set(page.evaluate(WORDS, parts))
            press(page, "Escape")
            if language == "nl":
                check_dutch(page)
        assert len(words["en"]) > 20
        assert {text for text in words["en"] & words["nl"] if not SAME.fullmatch(text)} == set()
    dutch.close()


def check_dutch(page: Page) -> None:
    """Dutch numbers and dates, room for Dutch words, and files for machines."""
    for size in (PHONE, {"width": 1024, "height": 700}, {"width": 3840, "height": 2160}, LAPTOP):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        assert page.locator("header").evaluate("header => header.scrollWidth - header.clientWidth") <= 0, size
    if "dashboards" in page.url:
        expect(page.locator(".factors b").first).to_have_text(re.compile(r"^\d+,\d %$"))
        return
    expect(page.locator("td.col-value")).to_have_text(re.compile(r"^\d+,\d+$"))
    expect(page.locator(".overview .end").first).to_have_text(re.compile(r"^\d\d-\d\d-20\d\d \d\d:\d\d$"))
    with page.expect_download() as download:
        press(page, "e", "m", "Enter")
    assert re.fullmatch(r"trend-20\d\d-\d\d-\d\dT\d{6}\.csv", download.value.suggested_filename)
    line = Path(download.value.path()).read_text().splitlines()[-1]
    assert re.search(r",\d+\.\d+,", line), line
