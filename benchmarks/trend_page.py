"""Whether the trend page keeps up: live pens at 10 Hz in Chromium, and every frame and task of its drawing thread by Chromium's own trace.

    python benchmarks/trend_page.py
    python benchmarks/trend_page.py --pens 32 --span 60 --past 3600 --dsn postgresql://owner@127.0.0.1/postgres

The page has `--past` seconds of its pens, then ten samples a second of each, and shows the last `--span` seconds. Long tasks are those of the page's thread that
take more than 50 ms, as browsers count them: in these nothing moves. Headless Chromium draws with the processor, which the server, the database and the producer
of the samples share here.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from typing import Any

import aiohttp
import numpy as np
import pyarrow as pa
from common import arguments, database, make_tags, server, server_process
from playwright.async_api import CDPSession, Page, async_playwright

from historian.schema.samples import Samples, arrow_schema

HZ = 10
#: samples of one write
BATCH = 100_000
LONG_MS = 50.0
CATEGORIES = "devtools.timeline,disabled-by-default-devtools.timeline.frame,toplevel"


async def post(session: aiohttp.ClientSession, url: str, tags: np.ndarray, at: np.ndarray) -> None:
    """A noisy wave of each tag at these instants, in µs."""
    values = (
        50 + 30 * np.sin(at[:, None] / 60e6 + np.arange(len(tags))) + np.random.default_rng(int(at[0])).normal(0, 1.5, (len(at), len(tags)))
    )
    made = Samples(np.tile(tags, len(at)), np.repeat(at, len(tags)), np.round(values, 2).ravel(), np.full(values.size, 192, np.int16))
    schema, sink = arrow_schema(()), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_batch(made.to_record_batch(schema))
    headers = {"Content-Type": "application/vnd.apache.arrow.stream"}
    async with session.post(f"{url}/v1/write", data=sink.getvalue().to_pybytes(), headers=headers) as answer:
        assert answer.status == 200, await answer.text()


async def produce(session: aiohttp.ClientSession, url: str, tags: np.ndarray) -> None:
    n = time.time_ns() // 1000 * HZ // 1_000_000
    while True:
        n += 1
        await asyncio.sleep(max(0.0, n / HZ - time.time()))
        await post(session, url, tags, np.array([n * 1_000_000 // HZ]))


async def until(page: Page, expression: str) -> None:
    # the page's policy forbids the eval that wait_for_function needs
    while not await page.evaluate(expression):  # noqa: ASYNC110
        await asyncio.sleep(0.1)


async def trace(cdp: CDPSession, seconds: float) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    done = asyncio.Event()
    cdp.on("Tracing.dataCollected", lambda part: events.extend(part["value"]))
    cdp.on("Tracing.tracingComplete", lambda _: done.set())
    await cdp.send("Tracing.start", {"transferMode": "ReportEvents", "traceConfig": {"includedCategories": CATEGORIES.split(",")}})
    await asyncio.sleep(seconds)
    await cdp.send("Tracing.end")
    await done.wait()
    return events


def report(events: list[dict[str, Any]], seconds: float) -> None:
    drawn = [event for event in events if event["name"] == "FireAnimationFrame" and event.get("dur")]
    assert drawn, "the page drew nothing"
    # its thread
    page = (drawn[0]["pid"], drawn[0]["tid"])
    tasks = [event for event in events if event["name"].endswith("RunTask") and event.get("dur") and (event["pid"], event["tid"]) == page]
    # `tdur`: what the processor spent on it, however busy it is with other things
    for name, key in (("by the clock", "dur"), ("of the processor", "tdur")):
        took = np.array([event.get(key, 0) / 1000 for event in drawn])
        p50, p95, p99 = np.percentile(took, [50, 95, 99])
        print(f"\n{name}")
        print(f"  drawing   {len(took) / seconds:5.1f} a second: p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f}, most {took.max():.1f} ms")
        took = np.array([event.get(key, 0) / 1000 for event in tasks])
        share = took.sum() / seconds / 10
        print(
            f"  all tasks {share:5.1f} % of a core: {np.count_nonzero(took > LONG_MS)} over {LONG_MS:.0f} ms, the longest {took.max():.1f} ms"
        )


async def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--pens", type=int, default=32)
    parser.add_argument("--span", type=int, default=60, help="of the window, s")
    parser.add_argument("--past", type=int, default=3600, help="s")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the trace")
    given = parser.parse_args()
    with server(given.dsn) as dsn:
        async with (
            database(dsn) as made,
            server_process(made) as (url, _),
            aiohttp.ClientSession() as session,
            async_playwright() as playwright,
        ):
            tags = make_tags(made, given.pens)
            now = time.time_ns() // 1000 // 100_000 * 100_000
            past = now - 100_000 * np.arange(given.past * HZ, 0, -1, dtype=np.int64)
            for part in np.array_split(past, max(1, past.size * given.pens // BATCH)):
                await post(session, url, tags, part)
            producing = asyncio.create_task(produce(session, url, tags))
            system = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
            browser = await playwright.chromium.launch(executable_path=system, args=["--no-sandbox"])
            page = await browser.new_page(viewport={"width": 1600, "height": 900})
            pens = "&".join(f"pen=bench/t{n + 1}~{n}" for n in range(given.pens))
            await page.goto(f"{url}/#{pens}&span={given.span}")
            await until(page, f"window.historian && historian.state() === 'live' && historian.pens().length === {given.pens}")
            await asyncio.sleep(3)
            before = await page.evaluate("historian.pens().map(pen => pen.points)")
            events = await trace(await browser.new_browser_cdp_session(), given.seconds)
            after = await page.evaluate("historian.pens().map(pen => pen.points)")
            assert not producing.done(), producing.result()
            producing.cancel()
            await browser.close()
            print(
                f"{given.pens} pens of {HZ} Hz, the last {given.span} s, {sum(after)} samples in the page (before: {sum(before)}), {given.seconds:.0f} s"
            )
            report(events, given.seconds)


if __name__ == "__main__":
    asyncio.run(main())
