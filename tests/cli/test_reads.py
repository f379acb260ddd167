"""`historian query`, `tail` and `tags` against a real server, as a person, a pipe and a script see them."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from processes import Serve, command, environment, run

from historian.client import Client

US = 1_767_225_600_000_000
START, END = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
SPAN = ["--start", START, "--end", END]


@pytest.fixture
def client(serve: Serve) -> Iterator[Client]:
    """A client of a server with some tags."""
    with Client(serve().url) as client:
        client.define(
            [
                {"path": "a/line1/temperature", "unit": "°C", "low": 0, "high": 100, "description": "In the reactor"},
                {"path": "a/line1/pump", "kind": "digital", "states": {"0": "stopped", "1": "running"}},
                {"path": "a/line2/phase", "kind": "text"},
            ]
        )
        client.write([{"tag": "a/line1/temperature", "ts": US + n * 1_000_000, "value": n / 4} for n in range(10)])
        client.write(
            [
                {"tag": "a/line1/temperature", "ts": US + 10_000_000, "value": None},
                {"tag": "a/line1/pump", "ts": US, "value": 1},
                {"tag": "a/line2/phase", "ts": US, "value": 'a "b", c'},
            ]
        )
        yield client


def historian(client: Client, *args: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, with pipes."""
    done = run(*args, env={"HISTORIAN_URL": client.url}, timeout=60)
    assert done.returncode == code, done.stderr
    return done


def test_an_expression_is_calculated(client: Client) -> None:
    done = historian(client, "query", "--expr", "twice: a/line1/temperature * 2", *SPAN, "--limit", "3")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(row["tag"], float(row["value"])) for row in rows] == [("twice", 0), ("twice", 0.5), ("twice", 1)]
    assert "say which tags, or --expr" in historian(client, "query", *SPAN, code=2).stderr
    assert "column 1: 'a' is no function" in historian(client, "query", "--expr", "a + b", *SPAN, code=1).stderr


def on_terminal(client: Client, *args: str) -> str:
    """What the command shows where stdout is a terminal."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(*args),
        env=environment({"HISTORIAN_URL": client.url, "TERM": "xterm"}),
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    shown = b""
    # a terminal whose other end is closed raises, which is how it says that all has been read
    try:
        while piece := os.read(ours, 65_536):
            shown += piece
    except OSError:
        pass
    os.close(ours)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    return shown.decode()


def test_a_query_in_a_pipe_is_csv(client: Client) -> None:
    rows = list(csv.DictReader(io.StringIO(historian(client, "query", "a/#", *SPAN).stdout)))
    assert len(rows) == 13
    assert rows[-1] == {"tag": "a/line2/phase", "ts": START, "value": 'a "b", c', "quality": "192"}
    assert [row["value"] for row in rows if row["tag"] == "a/line1/temperature"] == [*(str(n / 4) for n in range(10)), ""]


def test_a_query_as_json_lines(client: Client) -> None:
    lines = historian(client, "query", "a/line1/#", "a/line2/phase", *SPAN, "--format", "json").stdout.splitlines()
    rows = {(row["tag"], row["ts"]): (row["value"], row["quality"]) for row in map(json.loads, lines)}
    assert len(rows) == 13
    assert rows["a/line1/pump", START] == (1, 192)
    assert rows["a/line2/phase", START] == ('a "b", c', 192)
    assert rows["a/line1/temperature", "2026-01-01T00:00:10Z"] == (None, 0)


def test_a_query_on_a_terminal_is_a_table(client: Client) -> None:
    shown = on_terminal(client, "query", "a/#", *SPAN)
    assert "1.25 °C" in shown
    assert "1 running" in shown
    assert "bad (0)" in shown
    assert "2026-01-01 00:00:00" in shown


@pytest.mark.parametrize(("name", "rows"), [("x.parquet", 13), ("x.arrows", 13), ("x.csv", 14), ("x.jsonl", 13)])
def test_a_query_into_a_file_of_the_format_that_its_name_says(client: Client, tmp_path: Path, name: str, rows: int) -> None:
    file = tmp_path / name
    assert historian(client, "query", "a/#", *SPAN, "--output", file).stdout == ""
    if name.endswith(".parquet"):
        table = pq.read_table(file)
    elif name.endswith(".arrows"):
        table = pa.ipc.open_stream(file).read_all()
    else:
        assert len(file.read_text(encoding="utf-8").splitlines()) == rows
        return
    assert len(table) == rows
    assert set(table.column("tag").to_pylist()) == {"a/line1/temperature", "a/line1/pump", "a/line2/phase"}
    assert not list(tmp_path.glob("*.partial"))


def test_a_query_without_samples_is_an_empty_document(client: Client, tmp_path: Path) -> None:
    nothing = ["query", "a/#", "--start", "2020-01-01", "--end", "2020-01-02"]
    assert historian(client, *nothing).stdout == "tag,ts,value,quality\n"
    historian(client, *nothing, "--output", tmp_path / "x.parquet")
    assert len(pq.read_table(tmp_path / "x.parquet")) == 0


def test_a_query_is_thinned_and_limited(client: Client) -> None:
    assert len(historian(client, "query", "a/line1/temperature", *SPAN, "--limit", "3").stdout.splitlines()) == 4
    client.write([{"tag": "b/x", "ts": US + n * 1000, "value": float(n % 7)} for n in range(5000)])
    thinned = historian(client, "query", "b/x", *SPAN, "--mode", "minmax", "--points", "10").stdout.splitlines()
    assert 3 <= len(thinned) <= 21


def test_what_is_wrong_is_said_in_a_line(client: Client, tmp_path: Path) -> None:
    for args, says, code in [
        (["query", "a/nothing", "--start", "-1h"], "no such tag: 'a/nothing'", 1),
        (["query", "a/#", "--start", "yesterday"], "no time: 'yesterday'", 1),
        (["query", "a/#", "--output", str(tmp_path / "x.xls")], "say --format", 2),
        (["query", "a/#", "--output", str(tmp_path / "nowhere" / "x.csv")], "No such file", 1),
        (["query", "a/#", "--url", "http://127.0.0.1:9"], "historian serve", 1),
        (["query"], "say which tags", 2),
        (["tail", "a/nothing"], "no such tag: 'a/nothing'", 1),
        (["tail", "a/#", "--url", "http://127.0.0.1:9"], "historian serve", 1),
        (["tags", "show", "a/nothing"], "no such tag: 'a/nothing'", 1),
        (["tags", "set", "a/+/x"], "+ or #", 1),
        (["tags", "set", "a/line1/pump", "--kind", "text"], "its kind stays", 1),
        (["tags", "set", "a/x", "--states", "running"], "0=stopped", 1),
    ]:
        failed = historian(client, *args, code=code)
        assert says in " ".join(failed.stderr.replace("│", " ").split()), failed.stderr
        assert failed.stdout == ""
        assert "Traceback" not in failed.stderr


def test_tail_shows_the_past_and_what_follows(client: Client) -> None:
    tail = start_tail(client, "a/line1/temperature", "--from", START, "--format", "json")
    try:
        past = [json.loads(tail.stdout.readline()) for _ in range(11)]
        assert [row["value"] for row in past] == [*(n / 4 for n in range(10)), None]
        client.write([{"tag": "a/line1/temperature", "ts": US + 20_000_000, "value": 99.5}])
        assert json.loads(tail.stdout.readline()) == {
            "tag": "a/line1/temperature",
            "ts": "2026-01-01T00:00:20Z",
            "value": 99.5,
            "quality": 192,
        }
        tail.send_signal(signal.SIGINT)
        out, errors = tail.communicate(timeout=20)
        assert (tail.returncode, out, errors) == (130, b"", b"")
    finally:
        tail.kill()
        tail.wait()


def test_tail_as_lines(client: Client) -> None:
    lines = historian(client, "tail", "a/#", "--from", START, "--to", END).stdout.splitlines()
    assert len(lines) == 13
    assert ["2026-01-01T00:00:01Z", "a/line1/temperature", "0.25", "°C"] in [line.split() for line in lines]
    # a frame of numbers and one of texts, each in the order of time
    assert [line.split()[0] for line in lines[:12]] == sorted(line.split()[0] for line in lines[:12])
    assert any(line.endswith("a/line1/temperature  –  bad (0)") for line in lines)
    assert any(line.endswith("a/line1/pump  1 running") for line in lines)


def test_tail_as_arrow_is_a_whole_stream_also_when_it_is_interrupted(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "tail.arrows"
    with file.open("wb") as sink:
        tail = start_tail(client, "a/line1/#", "--from", START, "--format", "arrow", stdout=sink)
        try:
            deadline = time.monotonic() + 20
            while rows_in(file) < 12:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            tail.send_signal(signal.SIGINT)
            assert tail.wait(timeout=20) == 130
        finally:
            tail.kill()
            tail.communicate()
    with pa.ipc.open_stream(file.read_bytes()) as reader:
        assert len(reader.read_all()) == 12
    assert file.read_bytes().endswith(b"\xff\xff\xff\xff\0\0\0\0")


def test_tail_into_a_pipe_that_closes_ends(client: Client) -> None:
    tail = start_tail(client, "a/#", "--from", START)
    try:
        assert tail.stdout.readline()
        tail.stdout.close()
        for n in range(20):
            client.write([{"tag": "a/line1/temperature", "ts": US + (30 + n) * 1_000_000, "value": 1.0}])
            if tail.poll() is not None:
                break
            time.sleep(0.1)
        assert tail.wait(timeout=10) == 1
        assert tail.stderr.read() == b""
    finally:
        tail.kill()
        tail.wait()
        tail.stderr.close()


def start_tail(client: Client, *args: str, stdout: int | io.BufferedWriter = subprocess.PIPE) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command("tail", *args), env=environment({"HISTORIAN_URL": client.url}), stdout=stdout, stderr=subprocess.PIPE)


def rows_in(file: Path) -> int:
    """Rows of an Arrow stream that is still being written."""
    rows = 0
    try:
        with pa.ipc.open_stream(file.read_bytes()) as reader:
            for batch in reader:
                rows += batch.num_rows
    except (pa.ArrowInvalid, OSError):
        pass
    return rows


def test_tags_are_listed_shown_and_set(client: Client) -> None:
    listed = historian(client, "tags", "list", "a/line1/#").stdout.splitlines()
    assert listed == ["a/line1/pump\tdigital\t\t", "a/line1/temperature\tfloat\t°C\tIn the reactor"]
    assert [tag["path"] for tag in json.loads(historian(client, "tags", "list", "--json").stdout)["tags"]] == [
        "a/line1/pump",
        "a/line1/temperature",
        "a/line2/phase",
    ]
    shown = historian(client, "tags", "show", "a/line1/pump").stdout
    assert "0 stopped, 1 running" in shown
    assert "1 running, good, 2026-01-01T00:00:00Z" in shown

    historian(client, "tags", "set", "a/line1/temperature", "--unit", "K", "--high", "400", "--description", "")
    changed = json.loads(historian(client, "tags", "show", "a/line1/temperature", "--json").stdout)
    assert (changed["unit"], changed["low"], changed["high"], changed["description"]) == ("K", 0.0, 400.0, None)
    assert (changed["newest"]["value"], changed["newest"]["quality"]) == (None, 0)
    historian(client, "tags", "set", "a/line1/temperature", "--high-limit", "80", "--high-high-limit", "95")
    assert "high 80, high high 95" in historian(client, "tags", "show", "a/line1/temperature").stdout
    assert "low 90 is above high 80" in historian(client, "tags", "set", "a/line1/temperature", "--low-limit", "90", code=1).stderr
    historian(client, "tags", "set", "a/line1/temperature", "--no-limits", "--low-limit", "5")
    assert client.tags("a/line1/temperature")[0].limits == (None, 5.0, None, None)
    made = historian(client, "tags", "set", "a/line3/valve", "--kind", "digital", "--states", "0=closed,1=open", "--json")
    assert json.loads(made.stdout)["states"] == {"0": "closed", "1": "open"}
    assert "no samples yet" in historian(client, "tags", "show", "a/line3/valve").stdout


def test_the_list_of_tags_on_a_terminal_is_a_table(client: Client) -> None:
    shown = on_terminal(client, "tags", "list")
    assert "0 to 100" in shown
    assert "In the reactor" in shown


def test_definitions_are_exported_and_imported(client: Client, tmp_path: Path) -> None:
    exported = historian(client, "tags", "export", "a/line1/#").stdout
    moved = exported.replace("a/line1/", "b/line1/")
    (tmp_path / "tags.json").write_text(moved, encoding="utf-8")
    assert "2 tags defined" in historian(client, "tags", "import", tmp_path / "tags.json").stderr
    assert historian(client, "tags", "export", "b/line1/#").stdout == moved
    (tmp_path / "tags.csv").write_text(
        "path,unit,low,low_limit,step,states\nb/line1/temperature,K,-5,10,true,\nb/new,,,,,\n", encoding="utf-8"
    )
    historian(client, "tags", "import", tmp_path / "tags.csv")
    tag = client.tags("b/line1/temperature")[0]
    assert (tag.unit, tag.low, tag.high, tag.step, tag.description) == ("K", -5.0, 100.0, True, "In the reactor")
    assert tag.limits == (None, 10.0, None, None)
    assert "line 2" in historian(client, "tags", "import", write(tmp_path, "path,low\nb/new,much\n"), code=1).stderr
    assert "path at least" in historian(client, "tags", "import", write(tmp_path, "tag\nb/new\n"), code=1).stderr


def write(directory: Path, text: str) -> Path:
    file = directory / "faulty.csv"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("words", [["query"], ["tail"], ["tags"], ["tags", "set"], ["tags", "import"]], ids=" ".join)
def test_help_has_examples(words: list[str]) -> None:
    done = run(*words, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout
    assert words == ["tags"] or "Example" in done.stdout
