"""`historian serve` as a process: ready, stopped, killed, refused."""

from __future__ import annotations

import json
import signal
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from processes import Serve, ServerProcess, run

TS = 1_767_225_600_000_000


def request(url: str, body: Any = None, **headers: str) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": "application/json", **headers}), timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def write(server: ServerProcess, seq: int, rows: int = 20) -> dict[str, Any]:
    samples = [{"tag": f"k/t{n}", "ts": TS + seq * 1000, "value": seq + n / 100} for n in range(rows)]
    return request(f"{server.url}/v1/write", {"samples": samples}, **{"Historian-Producer": "k", "Historian-Seq": str(seq)})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly(serve: Serve, number: signal.Signals) -> None:
    server = serve()
    assert f"listening on {server.url}" in server.log
    assert request(f"{server.url}/readyz")["status"] == "ready"
    write(server, 0)
    assert server.stop(number) == 0
    assert "Traceback" not in server.log


def test_what_was_acknowledged_is_there_after_kill_9(serve: Serve) -> None:
    """Killed three times while a producer writes: all that was acknowledged is stored, and sending the rest again adds each batch once."""
    server = serve()
    acknowledged: list[int] = []
    for death in range(3):
        reached = threading.Event()

        def produce(reached: threading.Event = reached, first: int = len(acknowledged), goal: int = 40 * (death + 1)) -> None:
            seq = first
            while True:
                try:
                    assert write(server, seq)["seq"] == seq
                except (urllib.error.URLError, OSError):
                    return
                acknowledged.append(seq)
                seq += 1
                if seq >= goal:
                    reached.set()

        producer = threading.Thread(target=produce)
        producer.start()
        assert reached.wait(60)
        server.kill()
        producer.join(60)
        server.start()
        known = request(f"{server.url}/v1/producers/k")
        assert known["ranges"][0][0] == 0
        assert known["ranges"][0][1] >= acknowledged[-1]
        assert len(known["ranges"]) == 1
    last = known["ranges"][0][1]
    for seq in range(last + 1):
        write(server, seq)
    found = request(f"{server.url}/v1/range?tag=k/%23&start=2026-01-01&end=2027-01-01&format=json")["samples"]
    assert len(found) == (last + 1) * 20
    assert request(f"{server.url}/v1/producers/k")["samples"] == (last + 1) * 20


def test_an_empty_database_is_made_ready(serve: Serve, empty_database: str) -> None:
    server = serve(dsn=empty_database)
    assert request(f"{server.url}/readyz")["status"] == "ready"


def test_a_newer_schema_is_refused(database: str, database_as_owner: str) -> None:
    import psycopg

    with psycopg.connect(database_as_owner) as conn:
        conn.execute("INSERT INTO historian.migration (number, name, engine) SELECT 9999, 'future', max(engine) FROM historian.migration")
    done = run("serve", "--dsn", database, "--port", "0")
    assert done.returncode == 1
    assert "install a newer historian" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_that_cannot_be_reached_is_named() -> None:
    done = run("serve", "--dsn", "postgresql://someone:s3cret@127.0.0.1:1/nothing", "--port", "0")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert "s3cret" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_off_loopback_it_wants_a_token(database: str) -> None:
    done = run("serve", "--dsn", database, "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 1
    assert "HISTORIAN_TOKEN" in done.stderr


def test_faulty_settings_are_named(database: str) -> None:
    done = run("serve", "--dsn", database, "--port", "0", env={"HISTORIAN_MAX_BODY": "lots"})
    assert done.returncode == 1
    assert "HISTORIAN_MAX_BODY" in done.stderr
    assert run("serve", "--port", "99999").returncode == 2


def test_the_ready_file_goes_with_the_server(database: str, tmp_path: Path) -> None:
    server = ServerProcess(["serve", "--dsn", database], tmp_path)
    assert (tmp_path / "ready.json").exists()
    server.stop()
    assert not (tmp_path / "ready.json").exists()


@pytest.mark.parametrize(
    "command", [[], ["demo"], ["serve"], ["import"], ["query"], ["tail"], ["tags"], ["db"], ["tags", "list"], ["db", "status"]]
)
def test_every_command_has_help(command: list[str]) -> None:
    begun = time.monotonic()
    done = run(*command, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout
    if command in (["demo"], ["serve"], ["import"], ["query"], ["tail"]):
        assert "Examples" in done.stdout
    assert time.monotonic() - begun < 5


def test_version() -> None:
    done = run("--version")
    assert done.stdout.startswith("historian 0.")
