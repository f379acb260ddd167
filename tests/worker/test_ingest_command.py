"""`historian ingest` as a process: what it says of a wrong configuration, how it stops, and what is safe when it is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from processes import Serve, command, environment, run

from historian.ingest.spool.spool import Spool


class IngestProcess:
    """`historian ingest folder` on `directory`/dropped."""

    def __init__(self, directory: Path, upstream: str, more: str = "") -> None:
        self.directory, self.dropped, self.spool = directory, directory / "dropped", directory / "spool"
        self.dropped.mkdir(exist_ok=True, parents=True)
        self.config = directory / "worker.toml"
        folder = f'[folder]\npath = "{self.dropped}"\nsettle_s = 0.1\npoll_s = 0.05\n'
        self.config.write_text(f'[worker]\nproducer = "drop"\n{upstream}\n{more}\n{folder}')
        self._log = directory / "worker.log"
        ready = directory / "ready.json"
        ready.unlink(missing_ok=True)
        args = command("ingest", "folder", self.config, "--spool", self.spool, "--status-port", "0", "--ready-file", ready)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(args, env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(lambda: ready.exists() or self.process.poll() is not None, lambda: self.log)
        assert self.process.poll() is None, self.log
        self.url = json.loads(ready.read_text())["url"]

    @property
    def log(self) -> str:
        return self._log.read_text()

    def state(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=10) as response:
                found: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            found = json.load(error)
        return found

    def drop(self, name: str, rows: int, first: int = 0) -> None:
        lines = "".join(f"drop/a,2026-01-01T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z,{n}\n" for n in range(first, first + rows))
        part = self.dropped / f".{name}"
        part.write_text(f"tag,ts,value\n{lines}")
        part.rename(self.dropped / name)


def until(condition: Callable[[], bool], shown: Callable[[], object], timeout: float = 40) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, shown()
        time.sleep(0.05)


@contextlib.contextmanager
def worker(directory: Path, upstream: str, more: str = "") -> Iterator[IngestProcess]:
    made = IngestProcess(directory, upstream, more)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()
        print(f"--- log of the worker\n{made.log[-5000:]}")


def count(dsn: str) -> int:
    with psycopg.connect(dsn) as conn:
        row = conn.execute("SELECT count(*) FROM historian.sample").fetchone()
    assert row is not None
    return int(row[0])


def test_a_file_that_was_moved_away_is_safe_though_the_worker_is_killed_in_that_moment(database: str, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    server.kill()
    upstream = f'url = "{server.url}"'
    with worker(tmp_path, upstream) as taking:
        taking.drop("one.csv", 5000)
        until(lambda: (taking.dropped / "done" / "one.csv").exists(), lambda: (taking.state(), taking.log))
    # killed: what is settled is on disk
    server.start()
    with worker(tmp_path, upstream) as taking:
        until(lambda: count(database) == 5000 and taking.state()["state"] == "running", lambda: (taking.state(), taking.log))


def test_a_worker_that_is_stopped_in_the_middle_ends_with_0_and_has_lost_nothing(database: str, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    upstream = f'url = "{server.url}"'
    with worker(tmp_path, upstream, "batch_samples = 100\nspool_after_s = 60") as taking:
        until(lambda: taking.state()["state"] == "running", lambda: taking.log)
        # it holds its connections and answers nothing
        os.kill(server.pid, signal.SIGSTOP)
        try:
            taking.drop("one.csv", 5000)
            until(lambda: taking.state()["unsettled"]["samples"] == 5000, lambda: (taking.state(), taking.log))
            began = time.monotonic()
            taking.process.terminate()
            assert taking.process.wait(30) == 0, taking.log
            assert time.monotonic() - began < 15
        finally:
            os.kill(server.pid, signal.SIGCONT)
    # also what no batch had been made of yet
    with Spool.open(taking.spool / "spool") as spool:
        assert spool.samples == 5000, taking.log
    with worker(tmp_path, upstream) as taking:
        until(lambda: count(database) == 5000 and taking.state()["state"] == "running", lambda: (taking.state(), taking.log))


def test_a_second_signal_ends_it_at_once(database: str, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    with worker(tmp_path, f'url = "{server.url}"', "spool_after_s = 60") as taking:
        until(lambda: taking.state()["state"] == "running", lambda: taking.log)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            taking.drop("one.csv", 5000)
            until(lambda: taking.state()["unsettled"]["samples"] == 5000, lambda: (taking.state(), taking.log))
            taking.process.terminate()
            until(lambda: "stopping" in taking.log, lambda: taking.log)
            taking.process.terminate()
            assert taking.process.wait(10) == 130, taking.log
        finally:
            os.kill(server.pid, signal.SIGCONT)


def test_two_workers_never_share_a_directory(database: str, tmp_path: Path) -> None:
    with worker(tmp_path, f'dsn = "{database}"') as taking:
        other = run("ingest", "folder", taking.config, "--spool", taking.spool)
        assert other.returncode == 1
        assert "is in use" in other.stderr
        assert "Traceback" not in other.stderr


FOLDER = '[folder]\npath = "/nowhere"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[worker]\n" + FOLDER, "worker.producer: Field required"),
        ('[worker]\nproducer = "p"\nproduce = 1\n' + FOLDER, "worker.produce: Extra inputs are not permitted"),
        ('[worker]\nproducer = "p"\n', "there is no table [folder]"),
        ('[worker]\nproducer = "p"\n[oops]\n' + FOLDER, "unknown table [oops]"),
        ('[worker]\nproducer = "p"\nurl = "http://x"\ndsn = "postgresql://u:hunter2@h/d"\n' + FOLDER, "exclude each other"),
        ('[worker]\nproducer = "p"\ntoken = ["hunter2"]\n' + FOLDER, "worker.token: "),
        ('[worker]\nproducer = "p"\n[folder]\npaths = "hunter2"\n', "folder.path: Field required"),
        ('folder = "x"\n[worker]\nproducer = "p"\n', "folder"),
        ("[worker\n", "is no TOML"),
        ('filter = 3\n[worker]\nproducer = "p"\n' + FOLDER, "filter"),
        ('[worker]\nproducer = "p"\nspool_max_bytes = -1\n' + FOLDER, "worker.spool_max_bytes: "),
        ('[worker]\nproducer = "p"\nmax_past_s = inf\n' + FOLDER, "worker.max_past_s: "),
        ('[worker]\nproducer = "p"\nspool_after_s = nan\n' + FOLDER, "worker.spool_after_s: "),
    ],
)
def test_a_wrong_configuration_is_refused_by_file_and_key_and_no_secret_is_shown(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "worker.toml"
    config.write_text(text)
    found = run("ingest", "folder", config, "--check")
    assert found.returncode == 1, found.stdout
    assert said in found.stderr
    assert str(config) in found.stderr.replace("\n", "")
    assert "Traceback" not in found.stderr
    assert "hunter2" not in found.stderr + found.stdout


def test_a_good_configuration_is_said_to_be_and_nothing_is_made(tmp_path: Path) -> None:
    config = tmp_path / "worker.toml"
    config.write_text(f'[worker]\nproducer = "p"\ndirectory = "{tmp_path}/state"\n{FOLDER}')
    found = run("ingest", "folder", config, "--check")
    assert found.returncode == 0, found.stderr
    assert "is a good configuration for producer 'p'" in found.stdout
    assert not (tmp_path / "state").exists()


def test_a_kind_whose_extra_is_not_installed_says_which(tmp_path: Path) -> None:
    config = tmp_path / "worker.toml"
    config.write_text('[worker]\nproducer = "p"\n[opcua]\nurl = "opc.tcp://127.0.0.1:1"\n')
    # a module that cannot be found, as if it were not installed
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nclass Gone:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'asyncua':\n            raise ModuleNotFoundError(f'no {name}', name=name)\nsys.meta_path.insert(0, Gone())\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    found = run("ingest", "opcua", config, "--check", env={"PYTHONPATH": path})
    assert found.returncode == 1, found.stdout
    assert "historian[opcua]" in found.stderr
    assert "Traceback" not in found.stderr
