"""`historian spool`: what it shows while a worker runs and after damage, and that a replay brings each batch to the server once, in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
from processes import Serve, command, environment, run

from historian.client import Client
from historian.ingest.path_samples import PathSamples
from historian.ingest.spool.files import PROGRESS
from historian.ingest.spool.segment import HEADER_SIZE, list_segments
from historian.ingest.spool.spool import Spool

START = 1_767_225_600_000_000


def batch(seq: int, rows: int = 10, path: str = "line/a") -> PathSamples:
    ts = START + seq * 1_000_000 + np.arange(rows, dtype=np.int64) * 1000
    return PathSamples([path], np.zeros(rows, np.int32), ts, np.full(rows, float(seq)), np.full(rows, 192, np.int16))


def make(directory: Path, count: int, rows: int = 10) -> Path:
    """A worker's directory with a spool of so many batches; the worker is not running."""
    with Spool.open(directory / "spool", producer="plant/Süd", max_bytes=50_000_000) as spool:
        for _ in range(count):
            seq = spool.reserve_seqs(1)
            spool.append(seq, batch(seq, rows))
    return directory


def stored(url: str, path: str = "line/a") -> list[tuple[int, float]]:
    """(ts, value) of a tag, as the server tells them."""
    with Client(url) as client:
        table = client.range([path], "2026-01-01", "2026-02-01")
    return list(zip(table["ts"].cast(pa.int64()).to_pylist(), table["value"].to_pylist(), strict=True))


def samples_of(seqs: Iterable[int], rows: int = 10) -> list[tuple[int, float]]:
    return [(START + seq * 1_000_000 + n * 1000, float(seq)) for seq in seqs for n in range(rows)]


def test_status_tells_what_a_spool_holds_and_changes_nothing(tmp_path: Path) -> None:
    make(tmp_path, 4)
    before = {path: path.read_bytes() for path in (tmp_path / "spool").iterdir()}
    for directory in (tmp_path, tmp_path / "spool"):
        shown = run("spool", "status", directory)
        assert shown.returncode == 0, shown.stderr
        for words in ("plant/Süd", "4 batches, 40 samples", "in use      no", "50 MB", "no age limit", "damage      none"):
            assert words in shown.stdout
    found = json.loads(run("spool", "status", "--json", tmp_path).stdout)
    assert (found["batches"], found["samples"], found["pid"], found["damage"], found["torn_bytes"]) == (4, 40, None, [], 0)
    assert (found["oldest_sample"], found["newest_sample"]) == ("2026-01-01T00:00:00Z", "2026-01-01T00:00:03.009000Z")
    assert {path: path.read_bytes() for path in (tmp_path / "spool").iterdir()} == before

    nowhere = run("spool", "status", tmp_path / "nowhere")
    assert nowhere.returncode == 1
    assert "is no spool" in nowhere.stderr
    assert not (tmp_path / "nowhere").exists()


def test_status_and_verify_work_beside_a_worker_and_replay_does_not(tmp_path: Path) -> None:
    make(tmp_path, 2)
    with Spool.open(tmp_path / "spool") as spool:
        spool.append(10, batch(10))
        spool.done(0)
        found = json.loads(run("spool", "status", "--json", tmp_path).stdout)
        assert (found["pid"], found["batches"], found["done_batches"]) == (os.getpid(), 2, 1)
        verified = run("spool", "verify", tmp_path)
        assert (verified.returncode, verified.stdout) == (0, "3 batches in 2 segments are whole\n")
        refused = run("spool", "replay", tmp_path, "--url", "http://127.0.0.1:9")
        assert refused.returncode == 1
        assert f"in use by process {os.getpid()}" in refused.stderr
        assert [seq for seq, _ in spool.read(limit=9)] == [1, 10]


def test_verify_fails_where_bytes_are_damaged_and_tells_which_batches(tmp_path: Path) -> None:
    make(tmp_path, 3)
    ((_, path),) = list_segments(tmp_path / "spool")
    whole = path.read_bytes()

    path.write_bytes(whole[:-10])
    torn = run("spool", "verify", tmp_path)
    assert torn.returncode == 0
    assert "no whole batch, as after a power cut" in torn.stdout

    path.write_bytes(whole[: HEADER_SIZE + 200] + b"\xff\xff" + whole[HEADER_SIZE + 202 :])
    verified = run("spool", "verify", tmp_path)
    assert verified.returncode == 1
    assert "1 place damaged" in verified.stdout
    # looking has changed nothing
    document = run("spool", "verify", "--json", tmp_path)
    assert document.returncode == 1
    assert len(json.loads(document.stdout)["damage"]) == 1
    assert "batch 0 of 10 samples" in verified.stdout

    # a worker steps over it; it is still told when the segment itself is gone
    with Spool.open(tmp_path / "spool") as spool:
        for seq, _ in spool.read(limit=9):
            spool.done(seq)
    assert run("spool", "verify", tmp_path).returncode == 1
    assert "found damaged earlier" in run("spool", "status", tmp_path).stdout


def test_replay_brings_each_batch_once_whoever_sends_it(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    make(tmp_path, 5)
    first = run("spool", "replay", tmp_path, "--url", server.url)
    assert first.returncode == 0, first.stderr
    assert "5 batches, 50 samples sent" in first.stdout
    assert stored(server.url) == samples_of(range(5))

    again = run("spool", "replay", tmp_path, "--url", server.url)
    assert (again.returncode, again.stdout.startswith("0 batches, 0 samples sent")) == (0, True)
    # as if the worker had been killed before it could write down what is done
    with Spool.open(tmp_path / "spool") as spool:
        for seq in (3, 4, 5):
            spool.append(seq, batch(seq))
    more = run("spool", "replay", tmp_path, "--url", server.url)
    assert "3 batches, 30 samples sent (20 were stored before)" in more.stdout
    assert stored(server.url) == samples_of(range(6))
    document = json.loads(run("spool", "status", "--json", tmp_path).stdout)
    # the limits are still those of the worker
    assert (document["batches"], document["max_bytes"]) == (0, 1_000_000_000)


def test_what_comes_later_about_the_same_instant_stands_after_a_replay(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    with Spool.open(tmp_path, producer="plant") as spool:
        for seq in range(20):
            samples = batch(0)
            spool.append(19 - seq, PathSamples(samples.paths, samples.tag, samples.ts, np.full(10, float(seq)), samples.quality))
    assert run("spool", "replay", tmp_path, "--url", server.url).returncode == 0
    assert [value for _, value in stored(server.url)] == [19.0] * 10


def test_what_the_server_refuses_is_put_aside_told_and_can_be_tried_again(serve: Serve, tmp_path: Path) -> None:
    server = serve(env={"HISTORIAN_CREATE_TAGS": "false"})
    with Client(server.url) as client:
        client.define({"path": "line/a", "kind": "float"})
    with Spool.open(tmp_path, producer="plant") as spool:
        for seq in range(4):
            spool.append(seq, batch(seq, path="line/b" if seq == 1 else "line/a"))
    first = run("spool", "replay", tmp_path, "--url", server.url)
    assert first.returncode == 1
    assert "batch 1 of 10 samples is refused: row 0: tag: the catalogue has no tag 'line/b'" in first.stderr
    assert "3 batches, 30 samples sent, 1 refused and kept in" in first.stdout
    assert stored(server.url) == samples_of([0, 2, 3])
    shown = run("spool", "status", tmp_path)
    assert "refused     batch 1 of 10 samples: row 0: tag: the catalogue has no tag 'line/b'" in shown.stdout

    # still refused: still there
    assert run("spool", "replay", tmp_path, "--refused", "--url", server.url).returncode == 1
    with Client(server.url) as client:
        client.define({"path": "line/b", "kind": "float"})
    last = run("spool", "replay", tmp_path, "--refused", "--url", server.url)
    assert last.returncode == 0, last.stderr
    assert stored(server.url, "line/b") == samples_of([1])
    document = json.loads(run("spool", "status", "--json", tmp_path).stdout)
    assert (document["batches"], document["refused"]) == (0, [])


def test_a_server_that_is_not_there_or_is_none_leaves_the_spool_as_it_is(tmp_path: Path, serve: Serve) -> None:
    make(tmp_path, 3)
    away = run("spool", "replay", tmp_path, "--url", "http://127.0.0.1:9")
    assert away.returncode == 1
    assert "0 batches, 0 samples sent" in away.stderr
    wrong = run("spool", "replay", tmp_path, "--url", serve().url + "/somewhere/else")
    assert wrong.returncode == 1
    document = json.loads(run("spool", "status", "--json", tmp_path).stdout)
    assert (document["batches"], document["refused"]) == (3, [])


def test_a_replay_killed_in_the_middle_goes_on_where_it_was(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    make(tmp_path, 60, rows=1000)
    process = subprocess.Popen(command("spool", "replay", tmp_path, "--url", server.url), env=environment(), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while process.poll() is None and not (tmp_path / "spool" / PROGRESS).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = json.loads(run("spool", "status", "--json", tmp_path).stdout)["batches"]
    assert left < 60
    rest = run("spool", "replay", tmp_path, "--url", server.url)
    assert rest.returncode == 0, rest.stderr
    assert rest.stdout.startswith(f"{left} batches")
    assert stored(server.url) == samples_of(range(60), rows=1000)
