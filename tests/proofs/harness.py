"""Trouble, on a schedule that the progress of a production drives and a seed shuffles; and the processes that it happens to."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from processes import ServerProcess, command, environment

from proofs.databases import Database
from proofs.proxy import Proxy

#: samples of a production
SAMPLES = int(os.environ.get("PROOF_SAMPLES", "1000000"))
#: of a fast producer in the tests that last: it is not done before all the trouble has come
SAMPLES_PER_S = 40_000
#: five minutes of a standing database, instead of as long as a run of all tests allows
FULL = os.environ.get("PROOFS") == "full"
#: lines of a worker's `[worker]` table: so little on its way at a time that trouble finds most samples still to come
FINE = "batch_samples = 2000\nmax_unsettled_samples = 20000"
#: in which the sources whose workers spool make their samples: as fast as they can, all would be in the spool before the second trouble
SECONDS = 45
#: how often each kind of trouble happens
TIMES = 5
SEED = int(os.environ.get("PROOF_SEED", "20260101"))
_READY_S = 60.0
_POLL_S = 0.05
#: between two counts of all rows, which take a tenth of it
_COUNT_S = 0.25


class Process:
    """A process that is killed and started again with the same arguments: a producer, a worker. What it says is in `log`.

    With a `ready_file` it is ready, and `ready` what is in it, once the constructor or `start` returns.
    """

    def __init__(
        self, args: Sequence[str | os.PathLike[str]], log: Path, *, env: Mapping[str, str] | None = None, ready_file: Path | None = None
    ) -> None:
        self._args = list(args)
        self._log = log
        self._env = dict(env or environment())
        self._ready_file = ready_file
        self._process: subprocess.Popen[bytes] | None = None
        self.ready: dict[str, Any] = {}
        self.start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def code(self) -> int | None:
        """Its exit code once it has ended."""
        assert self._process is not None
        return self._process.poll()

    def start(self) -> None:
        assert self._process is None or self.code is not None
        if self._ready_file is not None:
            self._ready_file.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._args, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if self._ready_file is None:
            return
        deadline = time.monotonic() + _READY_S
        while not self._ready_file.exists():
            assert self.code is None, f"it ended with code {self.code} before it was ready:\n{self.log[-5000:]}"
            assert time.monotonic() < deadline, f"it was not ready after {_READY_S:.0f} s:\n{self.log[-5000:]}"
            time.sleep(0.02)
        self.ready = json.loads(self._ready_file.read_text())

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """SIGSTOP: its connections stay, it does nothing, until the end of the block or `resume`."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            if self.code is None:
                self.resume()

    def wait(self, timeout: float = 60.0) -> int:
        """Until it ends by itself. Returns its exit code."""
        assert self._process is not None
        return self._process.wait(timeout)

    def kill_and_start(self) -> None:
        self.kill()
        self.start()

    def stop(self) -> int:
        """SIGTERM, and wait until it is gone."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(60)


@contextmanager
def producer(module: str, log: Path, *args: object) -> Iterator[Process]:
    """`python -m proofs.MODULE ARGS…`. It has nothing to produce left when it ends with 0."""
    tests = Path(__file__).resolve().parent.parent
    env = environment()
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(tests), env.get("PYTHONPATH")]))
    process = Process([sys.executable, "-P", "-m", f"proofs.{module}", *map(str, args)], log, env=env)
    try:
        yield process
    finally:
        process.kill()
        # shown with the report of a test that failed
        print(f"--- log of {module}\n{process.log[-10_000:]}")


@contextmanager
def worker(kind: str, config: str, directory: Path, *options: object, spool: Path | None = None) -> Iterator[Process]:
    """`historian ingest KIND`, with this configuration. Its own directory (spool, dead letters, state) is `directory`/spool if none is given."""
    directory.mkdir(parents=True, exist_ok=True)
    file, ready = directory / "worker.toml", directory / "ready.json"
    file.write_text(config)
    args = command(
        "ingest", kind, file, "--spool", spool or directory / "spool", "--status-port", "0", "--ready-file", ready, *map(str, options)
    )
    process = Process(args, directory / "worker.log", ready_file=ready)
    try:
        yield process
    finally:
        process.kill()
        print(f"--- log of the worker\n{process.log[-20_000:]}")


@contextmanager
def behind(server: ServerProcess) -> Iterator[tuple[Proxy, str]]:
    """A network between a server and its clients, and the URL that they use."""
    parts = urlsplit(server.url)
    assert parts.hostname is not None
    assert parts.port is not None
    with Proxy((parts.hostname, parts.port)) as network:
        yield network, f"http://127.0.0.1:{network.port}"


@dataclass(slots=True)
class Happened:
    """One piece of trouble, and how many samples were committed before it and once it was over."""

    name: str
    before: int
    after: int
    seconds: float


@dataclass(slots=True)
class Trouble:
    """What is to happen, by name: five times each, evenly over the production and in an order that the seed makes."""

    database: Database
    total: int
    seed: int = SEED
    happened: list[Happened] = field(default_factory=list)
    _actions: dict[str, Callable[[int], None]] = field(default_factory=dict)

    def happens(self, name: str, action: Callable[[int], None]) -> None:
        """`action` is called with the number of times that it has been called before."""
        self._actions[name] = action

    def with_database_restarts(self) -> None:
        if self.database.restartable:
            self.happens("database restarted", lambda _: self.database.restart())
        else:
            print("the database is somebody else's (HISTORIAN_TEST_DSN): it is not restarted")

    def with_server_kills(self, server: ServerProcess) -> None:
        def kill(_: int) -> None:
            server.kill()
            server.start()

        self.happens("server killed", kill)

    def with_network_cuts(self, *networks: Proxy) -> None:
        """Each cut in its own way, 1 to 2 s long, on one network after the other."""
        dice = random.Random(self.seed + 1)
        self.happens("network cut", lambda n: cut(networks[n % len(networks)], n, dice.uniform(1.0, 2.0)))

    def run(self, check: Callable[[], None], *, deadline_s: float) -> None:
        """All of it, and then wait until as many samples as there should be are in the table. `check` is called all the while, and raises if nothing more will come.

        Raises AssertionError if trouble came too late to be any, or if the samples do not arrive in time.
        """
        progress = self.database.count
        names = [name for name in self._actions for _ in range(TIMES)]
        random.Random(self.seed).shuffle(names)
        times = dict.fromkeys(self._actions, 0)
        deadline = time.monotonic() + deadline_s
        share = self.total * 0.6 / (len(names) + 1)
        after = 0
        for number, name in enumerate(names):
            # all of it while there is a good deal left to come, and each when the one before it is overcome
            while (before := progress()) < min(self.total, max(share * (number + 1), after + share / 5)):
                check()
                assert time.monotonic() < deadline, f"{before} of {self.total} samples after {deadline_s:.0f} s:\n{self.story()}"
                time.sleep(_COUNT_S)
            assert before < self.total, f"all was over before {name} could happen:\n{self.story()}"
            began = time.monotonic()
            self._actions[name](times[name])
            times[name] += 1
            after = progress()
            self.happened.append(Happened(name, before, after, time.monotonic() - began))
        while (arrived := self.database.count()) < self.total:
            check()
            assert time.monotonic() < deadline, f"{arrived} of {self.total} samples after {deadline_s:.0f} s:\n{self.story()}"
            time.sleep(_COUNT_S)

    def story(self) -> str:
        return "\n".join(f"{one.before:>9} {one.name} ({one.seconds:.1f} s) {one.after}" for one in self.happened)


def until(condition: Callable[[], object], seconds: float, say: Callable[[], object] = str) -> None:
    """Wait for a condition. Raises AssertionError, with what `say` says, if it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds:.0f} s: {say()}"
        time.sleep(_POLL_S)


def cut(network: Proxy, way: int, seconds: float) -> None:
    """Cut a network for so long: refused, stalled and then as before, broken within a message and refused, stalled and then broken, slow."""
    match way % 5:
        case 0:
            network.refuse()
            time.sleep(seconds)
            network.accept()
        case 1:
            network.stall()
            time.sleep(seconds)
            network.resume()
        case 2:
            network.break_within(100_001, seconds)
            network.refuse()
            time.sleep(seconds)
            network.accept()
        case 3:
            network.stall()
            time.sleep(seconds)
            network.cut()
            network.resume()
        case _:
            network.delay(0.2)
            time.sleep(seconds)
            network.break_within(1, 1.0)
            network.delay(0.0)
