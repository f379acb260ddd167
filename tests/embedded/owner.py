"""A process that owns an embedded database, for the tests to watch, stop and kill: `owner.py DIRECTORY [USER]`.

Prints a JSON object a line: {"step"} as it starts, {"dsn", "pid", "seconds"} once the database runs, {"error", "detail"} if it does not. Stops when its
standard input ends, as it does on SIGTERM.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401
import encodings.idna  # noqa: F401
import json
import logging
import os
import pwd
import signal
import sys
import time
from pathlib import Path

# all of it now: the user who we become may have no right to read the library
import psycopg  # noqa: F401

from historian.embedded import EmbeddedDatabase, wheel
from historian.schema.errors import HistorianError


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def become(name: str) -> None:
    user = pwd.getpwnam(name)
    wheel.make_readable(user)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)


async def main(directory: Path) -> None:
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, done.set)
    loop.add_reader(sys.stdin, done.set)
    began = time.perf_counter()
    async with EmbeddedDatabase(directory).running(on_step=lambda step: say(step=step)) as embedded:
        say(dsn=embedded.dsn, pid=embedded.pid, seconds=time.perf_counter() - began)
        await done.wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    if len(sys.argv) > 2:
        become(sys.argv[2])
    try:
        asyncio.run(main(Path(sys.argv[1])))
    except HistorianError as error:
        say(error=type(error).__name__, detail=str(error))
        sys.exit(1)
