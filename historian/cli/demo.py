"""`historian demo`: embedded database, simulated plant, server and trend page, in one command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from historian.cli.options import DataDir, Dsn

if TYPE_CHECKING:
    import asyncio

    from historian.server.run import Server

EPILOG = """[bold]Examples[/bold]

historian demo                         opens the trend page in the browser

historian demo --no-browser --port 0    on a free port; the address is printed
"""


def demo(
    dsn: Dsn = None,
    data_dir: DataDir = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1", envvar="HISTORIAN_HOST", show_envvar=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port to listen on; 0 takes a free one.", show_default="8742", envvar="HISTORIAN_PORT", show_envvar=False
        ),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the trend page in a browser.")] = True,
    hours: Annotated[float, typer.Option(min=0, max=24, help="How much of the past to make at the start.")] = 1.0,
    rate: Annotated[float, typer.Option(min=1, max=10, help="How often the plant's fast tags are sampled, in Hz.")] = 5.0,
    ready_file: Annotated[Path | None, typer.Option(metavar="FILE", help='Write {"url", "pid"} as JSON here once the server runs.')] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """A running historian in one command: a simulated plant, an hour of its past, and its live trends. Ctrl-C stops it cleanly.

    Its data stay in a directory of their own, apart from those of 'historian serve', and the next start goes on from there.
    """
    from historian.server.process import run, settings_from

    given: dict[str, Any] = {"dsn": dsn, "data_dir": data_dir or (None if dsn else _demo_data_dir()), "host": host, "port": port}
    settings = settings_from(given)

    async def work(server: Server, stop: asyncio.Event) -> None:
        await _work(
            server, stop, hours=hours, rate_hz=rate, browser=browser, token=settings.token.get_secret_value() if settings.token else None
        )

    sys.exit(run(settings, ready_file=ready_file, verbose=verbose, work=work, listening="server       {url}"))


def _demo_data_dir() -> Path:
    from historian.embedded import default_data_dir

    directory = default_data_dir()
    return directory.with_name(f"{directory.name}-demo")


async def _work(server: Server, stop: asyncio.Event, *, hours: float, rate_hz: float, browser: bool, token: str | None) -> None:
    import asyncio
    from datetime import timedelta

    from historian.demo.feed import run as feed

    def progress(text: str) -> None:
        print(text, flush=True)

    past_done = asyncio.Event()

    def on_progress(text: str, *, live: bool = False) -> None:
        progress(text)
        if live:
            past_done.set()

    feeding = asyncio.create_task(
        feed(server.url, history=timedelta(hours=hours), rate_hz=rate_hz, stop=stop, token=token, on_progress=on_progress)
    )
    opening = asyncio.create_task(_open(server.url, past_done, browser))
    try:
        await feeding
    finally:
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)


async def _open(url: str, past_done: asyncio.Event, browser: bool) -> None:
    import asyncio
    import webbrowser

    await past_done.wait()
    print(f"\n  trend page   {url}/\n  dashboard    {url}/dashboards\n  Ctrl-C stops it\n", flush=True)
    if browser and _has_display():
        await asyncio.to_thread(webbrowser.open, f"{url}/")


def _has_display() -> bool:
    import os

    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
