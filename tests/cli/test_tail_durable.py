"""`historian tail --durable` and `historian cursors`, as processes: killed at any moment, with the server or without, the Parquet files have every version once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
from processes import Serve, ServerProcess, command, environment, run

from historian.client import Client

US = 1_767_225_600_000_000
DEADLINE_S = 60.0


class Tail:
    """`historian tail … --durable pipe --parquet DIR`, started again after each kill."""

    def __init__(self, url: str, directory: Path, *options: str) -> None:
        self.directory = directory
        self._args = [
            "tail",
            "pl/#",
            "--from",
            "2026-01-01T00:00:00Z",
            "--durable",
            "pipe",
            "--parquet",
            str(directory),
            *options,
            "--url",
            url,
        ]
        self.start()

    def start(self) -> None:
        with self.directory.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen(command(*self._args), env=environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def files(self) -> list[Path]:
        return sorted(self.directory.glob("pipe-*.parquet"))

    def wait_for(self, *, files: int = 0, rows: int = 0) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while len(found := self.files()) < files or (rows and int(told_by(found[-1])["historian.next_row"]) < rows):
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, f"{len(found)} files\n{self.log}"
            time.sleep(0.01)

    @property
    def log(self) -> str:
        return self.directory.with_suffix(".log").read_text()


def told_by(path: Path) -> dict[str, str]:
    """The metadata of a file."""
    return {key.decode(): value.decode() for key, value in pq.read_metadata(path).metadata.items()}


def rows_in(files: list[Path]) -> list[tuple[str, int, float]]:
    """All rows, in their order over all files; the files tell that they follow each other."""
    rows: list[tuple[str, int, float]] = []
    after = None
    for path in files:
        table = pq.read_table(path)
        told = told_by(path)
        assert told.get("historian.after") == after
        after = told["historian.position"]
        assert table["row"].to_pylist() == list(range(len(rows), len(rows) + len(table)))
        rows += zip(table["tag"].to_pylist(), table["ts"].cast("int64").to_pylist(), table["value"].to_pylist(), strict=True)
    return rows


class Writer:
    """Writes batches until it is stopped, over whatever is done to the server; remembers what was acknowledged, which is all of it."""

    def __init__(self, url: str) -> None:
        self.written: Counter[tuple[str, int, float]] = Counter()
        self._stop = threading.Event()
        self._client = Client(url, retry_s=DEADLINE_S)
        self._chance = random.Random(7)
        self._thread = threading.Thread(target=self._run)
        self._write({("pl/0", US): 0.0})

    def start(self) -> None:
        self._thread.start()

    def _write(self, rows: dict[tuple[str, int], float]) -> None:
        self._client.write([{"tag": tag, "ts": ts, "value": value} for (tag, ts), value in rows.items()])
        self.written.update((tag, ts, value) for (tag, ts), value in rows.items())

    def _run(self) -> None:
        n = 20
        while not self._stop.is_set():
            tags = [f"pl/{self._chance.randrange(6)}" for _ in range(20)]
            # some are corrections of what was written before, and some tags are new
            rows = {(tag, US + 1000 * self._chance.randrange(max(0, n - 500), n + 1)): float(n * 100 + k) for k, tag in enumerate(tags)}
            self._write(rows)
            n += 20
            self._stop.wait(0.01)

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._client.close()


def standing(url: str) -> dict[tuple[str, int], float]:
    with Client(url) as client:
        table = client.range("pl/#", US, US + 10**10)
    keys = zip(table["tag"].to_pylist(), table["ts"].cast("int64").to_pylist(), strict=True)
    return dict(zip(keys, table["value"].to_pylist(), strict=True))


def test_kills_of_tail_and_server_neither_lose_nor_double(serve: Serve, tmp_path: Path) -> None:
    server: ServerProcess = serve()
    tail = Tail(server.url, tmp_path / "lake", "--every", "0.1", "--rows", "2000")
    writer = Writer(server.url)
    chance = random.Random(int(os.environ.get("PROOF_SEED", "1")))
    try:
        # a backfill has what stands, and not what was corrected before
        tail.wait_for(files=1)
        writer.start()
        for turn in range(int(os.environ.get("PROOF_TURNS", "3"))):
            # at a moment of its own, often close to one at which a file is being published
            tail.wait_for(files=len(tail.files()) + 1)
            time.sleep(chance.choice([0.0, 0.001, 0.05, 0.15]))
            if turn % 3 != 1:
                tail.kill()
            if turn % 3:
                server.kill()
                server.start()
            if turn % 3 != 1:
                tail.start()
        writer.stop()
        tail.wait_for(files=1, rows=writer.written.total())
        assert tail.stop() == 0
    finally:
        writer.stop()
        tail.kill()
    rows = rows_in(tail.files())
    assert Counter(rows) == writer.written
    # of several rows of one (tag, ts) the last one is what stands
    assert {(tag, ts): value for tag, ts, value in rows} == standing(server.url)
    assert "gap" not in tail.log


def test_on_stdout_it_goes_on_and_the_cursor_can_be_looked_at_and_deleted(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    tail = ["tail", "pl/a", "--from", "2026-01-01T00:00:00Z", "--durable", "out", "--format", "ndjson", "--url", server.url]
    with Client(server.url) as client:
        for turn in range(2):
            client.write([{"tag": "pl/a", "ts": US + turn, "value": turn}])
            process = subprocess.Popen(command(*tail), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            try:
                assert process.stdout is not None
                assert json.loads(process.stdout.readline())["value"] == turn
            finally:
                process.send_signal(signal.SIGTERM)
                rest, said = process.communicate(timeout=DEADLINE_S)
            assert (process.returncode, rest) == (0, ""), said
        listed = run("cursors", "list", "--url", server.url)
        name, _, *waiting = listed.stdout.splitlines()[1].split()
        assert (name, waiting) == ("out", ["nothing", "waits", "pl/a"])
        assert run("cursors", "delete", "out", "--url", server.url).stdout == "cursor out is deleted\n"
        assert client.cursors() == []
    assert "name a cursor with --durable" in run("tail", "pl/a", "--parquet", str(tmp_path)).stderr
    assert "no cursor 'out'" in run("cursors", "delete", "out", "--url", server.url).stderr
