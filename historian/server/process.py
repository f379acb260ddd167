"""The server as a process: settings, logging, signals, the embedded database, the ready file."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson
from pydantic import ValidationError

from historian.embedded import EmbeddedDatabase, default_data_dir
from historian.frugal import be_frugal
from historian.schema.errors import BadInput
from historian.schema.migrate import status, upgrade
from historian.settings import Settings

if TYPE_CHECKING:
    # what serves is loaded where it does: a supervisor of workers stays small
    from historian.server.run import Server

log = logging.getLogger(__name__)

Work: TypeAlias = "Callable[[Server, asyncio.Event], Awaitable[None]]"

#: connections to the embedded database beside those of the workers: tools, and what PostgreSQL keeps for itself
_OTHER_CONNECTIONS = 20
_USUAL_CONNECTIONS = 100


def settings_from(given: Mapping[str, Any]) -> Settings:
    """Settings from a command line; what is None comes from the environment, or is the default. Raises BadInput, naming what is wrong."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        faults = []
        for fault in error.errors(include_url=False, include_input=False, include_context=False):
            name = ".".join(str(part) for part in fault["loc"])
            faults.append(f"{name} (HISTORIAN_{name.upper()}): {fault['msg'].removeprefix('Value error, ')}")
        raise BadInput("; ".join(faults)) from None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[str]:
    """The DSN of a database whose schema is current, or can be made so without asking: an empty one, and the embedded one, which has no other program."""
    if settings.dsn is not None:
        dsn = settings.dsn.get_secret_value()
        if (await asyncio.to_thread(status, dsn)).version is None:
            await asyncio.to_thread(upgrade, dsn, on_step=lambda name: _say(f"schema: {name}"))
        yield dsn
        return
    directory = settings.data_dir or default_data_dir()
    needed = settings.workers * settings.connections + _OTHER_CONNECTIONS
    more = {"max_connections": str(needed)} if needed > _USUAL_CONNECTIONS else None
    async with EmbeddedDatabase(directory, settings=more).running(on_step=_say) as embedded:
        await asyncio.to_thread(upgrade, embedded.dsn, on_step=lambda name: _say(f"schema: {name}"))
        yield embedded.dsn


def _write_ready(path: Path, url: str) -> None:
    # whoever waits for the file must never read half of it
    part = path.with_name(path.name + ".part")
    part.write_bytes(orjson.dumps({"url": url, "pid": os.getpid()}))
    part.replace(path)


async def _run(settings: Settings, ready_file: Path | None, work: Work | None, listening: str, verbose: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()
    assert main is not None
    started = False

    def on_signal() -> None:
        if started and not stop.is_set():
            _say("stopping …")
            stop.set()
        else:
            # while it starts, or for the second time: now
            main.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(_database(settings))
        if settings.workers > 1 and work is None:
            from historian.server.workers.supervisor import supervising

            url = (await stack.enter_async_context(supervising(dsn, settings, verbose=verbose))).url
        else:
            from historian.server.run import serving

            server = await stack.enter_async_context(serving(dsn, settings))
            url = server.url
        if ready_file is not None:
            _write_ready(ready_file, url)
            stack.callback(ready_file.unlink, missing_ok=True)
        started = True
        print(listening.format(url=url, host=settings.host), flush=True)
        if work is None:
            await stop.wait()
        else:
            await work(server, stop)


def run(
    settings: Settings,
    *,
    ready_file: Path | None = None,
    verbose: bool = False,
    work: Work | None = None,
    listening: str = "listening on {url}",
) -> int:
    """Serve until SIGINT or SIGTERM, or until `work`, which one process does, returns. Returns the exit code; raises HistorianError if it cannot start."""
    return in_loop(lambda: _run(settings, ready_file, work, listening, verbose), verbose=verbose)


def in_loop(main: Callable[[], Coroutine[Any, Any, None]], *, verbose: bool, who: str = "") -> int:
    """Run what a process does, with its log on stderr, where `who` stands in each line. Returns the exit code."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format=f"%(asctime)s{who} %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    # their news at this level are not ours
    for noisy in ("asyncio", "aiohttp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # it logs a traceback for each connection that it cannot restore; who needs the database says in a line that it is away
    logging.getLogger("asyncpg").setLevel(logging.ERROR)
    be_frugal()
    try:
        import uvloop
    except ImportError:  # not on Windows
        factory = None
    else:
        factory = uvloop.new_event_loop
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())
    except asyncio.CancelledError:
        return 130
    return 0
