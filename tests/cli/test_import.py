"""`historian import` against a real server: what is stored equals what pandas reads from the files, however often it is run and wherever it is killed."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import re
import signal
import subprocess
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote
from urllib.request import urlopen

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import ClientSession, web
from processes import Serve, ServerProcess, command, environment, run

from historian.client import Client

#: the recordings of the Skoltech Anomaly Benchmark, if they are at hand
SKAB_DIR = os.environ.get("SKAB_DIR")
SENSORS = (
    *("Accelerometer1RMS", "Accelerometer2RMS", "Current", "Pressure", "Temperature", "Thermocouple", "Voltage", "Volume Flow RateRMS"),
    *("anomaly", "changepoint"),
)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files such as those of the benchmark: 16 wide ones, a sample a second with gaps, and decimals of all lengths."""
    if SKAB_DIR:
        return sorted(Path(SKAB_DIR).glob("*.csv"))
    directory = tmp_path_factory.mktemp("recordings")
    made = []
    for n in range(16):
        rng = np.random.default_rng(n)
        # one needs several chunks
        rows = 110_000 if n == 4 else 300
        at = pd.Timestamp("2026-01-01") + pd.Timedelta(days=n) + pd.to_timedelta(np.cumsum(rng.integers(1, 3, rows)), unit="s")
        frame = pd.DataFrame({"datetime": at.strftime("%Y-%m-%d %H:%M:%S")})
        for column, name in enumerate(SENSORS[:8]):
            walk = np.cumsum(rng.normal(size=rows)) * 10.0 ** (column - 3)
            frame[name] = walk if column == 3 else np.round(walk, column)
        frame["anomaly"] = (rng.random(rows) < 0.1).astype(float)
        frame["changepoint"] = 0.0
        path = directory / f"valve-{n}.csv"
        frame.to_csv(path, sep=";", index=False)
        made.append(path)
    return made


@pytest.fixture(scope="module")
def wanted(recordings: list[Path]) -> pd.DataFrame:
    """What of all recordings is to be stored."""
    return as_pandas_reads(recordings)


def as_pandas_reads(paths: Sequence[Path]) -> pd.DataFrame:
    """tag, ts (µs), value: sorted."""
    parts = []
    for path in paths:
        with warnings.catch_warnings():
            # pandas 3 means to make it the default
            warnings.simplefilter("ignore")
            wide = pd.read_csv(path, sep=";", float_precision="round_trip")
        wide["ts"] = pd.to_datetime(wide.pop("datetime")).astype("datetime64[us]").astype("int64")
        long = wide.melt("ts", var_name="tag").dropna()
        long["tag"] = f"skab/{path.stem}/" + long["tag"]
        long["value"] = long["value"].astype("float64")
        parts.append(long)
    return sorted_frame(pd.concat(parts))


def sorted_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """By tags as categories in order of their paths: strings by the million take seconds."""
    return frame.assign(tag=pd.Categorical(frame["tag"]))[["tag", "ts", "value"]].sort_values(["tag", "ts"], ignore_index=True)


def stored(url: str, match: str = "skab/#") -> pd.DataFrame:
    """The same, read back as Parquet."""
    with urlopen(f"{url}/v1/range?tag={quote(match)}&start=2000-01-01&end=2100-01-01&format=parquet") as answer:
        table = pq.read_table(io.BytesIO(answer.read()))
    with Client(url) as client:
        paths = {tag.tag_id: tag.path for tag in client.tags(match)}
    assert table.column("quality").unique().to_pylist() == [192]
    tags = table.column("tag_id").to_pandas().map(paths)
    return sorted_frame(
        pd.DataFrame({"tag": tags, "ts": table.column("ts").cast(pa.int64()).to_numpy(), "value": table.column("value").to_numpy()})
    )


def assert_same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    """Bit by bit."""
    assert len(found) == len(wanted)
    assert found["tag"].cat.categories.to_list() == wanted["tag"].cat.categories.to_list()
    assert (found["tag"].cat.codes == wanted["tag"].cat.codes).all()
    assert (found["ts"].to_numpy() == wanted["ts"].to_numpy()).all()
    assert (found["value"].to_numpy().view(np.int64) == wanted["value"].to_numpy().view(np.int64)).all()


def historian_import(
    server: ServerProcess, *args: str | Path, code: int = 0, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = run("import", *args, env={"HISTORIAN_URL": server.url} | (env or {}))
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_files_imported_twice_are_stored_once_and_bit_for_bit(serve: Serve, recordings: list[Path], wanted: pd.DataFrame) -> None:
    server = serve()
    first = historian_import(server, *recordings, "--prefix", "skab/{stem}")
    assert f"{len(recordings)} files, {len(wanted)} samples ({len(wanted)} new), {wanted['tag'].nunique()} tags" in first.stdout
    assert_same(stored(server.url), wanted)
    again = historian_import(server, *recordings, "--prefix", "skab/{stem}")
    assert again.stdout.count(" already imported\n") == len(recordings)
    assert f"{len(wanted)} samples (already imported, none new)" in again.stdout
    assert_same(stored(server.url), wanted)


@dataclass(eq=False)
class Run:
    """One import: how many writes it has sent, and at which of them it is to get which signal, before the write is forwarded or before it is answered."""

    at: int | None = None
    when: Literal["before", "after"] = "before"
    signal: signal.Signals = signal.SIGKILL
    writes: int = 0
    process: asyncio.subprocess.Process | None = None

    def end(self, when: str) -> None:
        """Once: a second Ctrl-C would be another matter."""
        if when == self.when and self.at is not None and self.writes >= self.at:
            assert self.process is not None
            self.at = None
            self.process.send_signal(self.signal)


class Gate:
    """A proxy before the server. Each import has a path of its own through it: what a dead one has left in the sockets is not taken for that of the next."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.url = ""
        self.runs: list[Run] = []
        self.session: ClientSession

    async def handle(self, request: web.Request) -> web.Response:
        run = self.runs[int(request.match_info["run"])]
        body = await request.read()
        is_write = request.match_info["path"] == "v1/write"
        if is_write:
            run.writes += 1
            run.end("before")
        answer = await self.forward(request, body)
        if is_write:
            run.end("after")
        return answer

    async def forward(self, request: web.Request, body: bytes) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.startswith(("Historian-", "Content-Type"))}
        path = request.raw_path.removeprefix(f"/{request.match_info['run']}")
        async with self.session.request(request.method, self.upstream + path, data=io.BytesIO(body), headers=headers) as answer:
            content = await answer.read()
        return web.Response(body=content, status=answer.status, headers={"Content-Type": answer.headers["Content-Type"]})

    async def run(self, run: Run, *args: str | Path) -> tuple[int, str]:
        """Run an import through the gate: its exit code, and what it said."""
        self.runs.append(run)
        run.process = await asyncio.create_subprocess_exec(
            *command("import", *args, "--url", f"{self.url}/{len(self.runs) - 1}"),
            env=environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await run.process.communicate()
        assert run.process.returncode is not None
        return run.process.returncode, said.decode()


@asynccontextmanager
async def gate_before(server: ServerProcess, kind: type[Gate] = Gate) -> AsyncIterator[Gate]:
    gate = kind(server.url)
    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", r"/{run:\d+}/{path:.*}", gate.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    gate.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with ClientSession(auto_decompress=False) as gate.session:
            yield gate
    finally:
        await runner.cleanup()


async def test_an_import_killed_three_times_ends_with_every_sample_once(serve: Serve, recordings: list[Path], wanted: pd.DataFrame) -> None:
    server = serve()
    args: list[str | Path] = [*recordings, "--prefix", "skab/{stem}"]
    async with gate_before(server) as gate:
        # between files, and amid the chunks of one
        for run in (Run(3, "after"), Run(4, "before"), Run(2, "after")):
            code, said = await gate.run(run, *args)
            assert code == -signal.SIGKILL, said
            found = await asyncio.to_thread(stored, server.url)
            assert 0 < len(found) < len(wanted)
        last = Run()
        code, said = await gate.run(last, *args)
        assert code == 0, said
        assert last.writes > 0
        assert f"({len(wanted)} new)" not in said
        assert_same(await asyncio.to_thread(stored, server.url), wanted)
        again = Run()
        code, said = await gate.run(again, *args)
        assert code == 0, said
        assert again.writes == 0
        assert "already imported, none new" in said
        assert_same(await asyncio.to_thread(stored, server.url), wanted)


async def test_an_interrupted_import_says_how_to_go_on(serve: Serve, recordings: list[Path]) -> None:
    async with gate_before(serve()) as gate:
        code, said = await gate.run(Run(2, "before", signal.SIGINT), *recordings)
        assert code == 130, said
        assert "the same command goes on where this one stopped" in said
        assert "Traceback" not in said
        code, said = await gate.run(Run(), *recordings)
        assert code == 0, said


class Unsteady(Gate):
    """Breaks the connection instead of the first answer, and is busy at the next write."""

    seen = 0

    async def forward(self, request: web.Request, body: bytes) -> web.Response:
        if request.match_info["path"] == "v1/write":
            self.seen += 1
            if self.seen == 1:
                assert request.transport is not None
                await super().forward(request, body)
                request.transport.abort()
            elif self.seen == 2:
                return web.Response(status=429, headers={"Retry-After": "0"})
        return await super().forward(request, body)


async def test_a_connection_that_breaks_and_a_busy_server_cost_no_sample(serve: Serve, recordings: list[Path]) -> None:
    server = serve()
    async with gate_before(server, Unsteady) as gate:
        run = Run()
        code, said = await gate.run(run, *recordings[:3], "--prefix", "skab/{stem}")
        assert code == 0, said
        assert run.writes >= 5
        assert_same(await asyncio.to_thread(stored, server.url), as_pandas_reads(recordings[:3]))


def test_a_faulty_file_is_refused_before_anything_is_sent(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    (tmp_path / "a.csv").write_text("time,x\n2026-01-01 00:00,1\n")
    (tmp_path / "b.csv").write_text("time,x\n2026-01-01 00:00,1\n2026-03-29 02:30,2\n")
    done = historian_import(server, tmp_path / "*.csv", "--tz", "Europe/Berlin", code=1)
    assert re.search(r"^historian: .*b\.csv, line 3: .* does not exist", done.stderr)
    assert "Nothing was sent" in done.stderr
    assert "Traceback" not in done.stderr
    with Client(server.url) as client:
        assert list(client.tags("#")) == []


def test_every_type_and_format_arrives(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    (tmp_path / "wide.csv.gz").write_bytes(gzip.compress(b"time;t;on;phase\n1.1.2026 00:00;1,5;true;mash\n1.1.2026 00:01;;false;\n"))
    table = pa.table(
        {
            "tag": ["p/q", "p/q", "p/q"],
            "ts": pa.array([1_767_225_600, 1_767_225_601, 1_767_225_602], pa.timestamp("s", "UTC")),
            "value": [1.0, None, 3.0],
            "quality": [64, 8, None],
        }
    )
    pq.write_table(table, tmp_path / "long.parquet")
    done = historian_import(server, tmp_path / "wide.csv.gz", tmp_path / "long.parquet")
    assert "2 files, 7 samples (7 new), 4 tags" in done.stdout
    with Client(server.url) as client:
        assert {tag.path: tag.kind for tag in client.tags("#")} == {"t": "float", "on": "bool", "phase": "text", "p/q": "float"}
        frame = client.range("p/q", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z").to_pandas()
    assert frame["quality"].to_list() == [64, 8, 192]
    assert frame["value"].isna().to_list() == [False, True, False]


def test_the_last_of_two_rows_of_a_sample_wins_far_behind_too(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    # the second half repeats the times of the first: chunks may not overtake each other
    rows = [f"x,{1_767_225_600 + n % 600_000},{n}\n" for n in range(1_200_000)]
    (tmp_path / "a.csv").write_text("tag,ts,value\n" + "".join(rows))
    historian_import(server, tmp_path / "a.csv", "--prefix", "skab")
    assert (stored(server.url)["value"].to_numpy() == np.arange(600_000, 1_200_000)).all()


def test_what_the_server_refuses_is_told_with_file_tag_and_time(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    with Client(server.url) as client:
        client.define([{"path": "phase", "kind": "text"}])
    (tmp_path / "a.csv").write_text("time,phase\n2026-01-01 00:00,1\n")
    done = historian_import(server, tmp_path / "a.csv", code=1)
    assert "a.csv: the server refuses tag 'phase' at 2026-01-01T00:00:00Z: value is a number, and the tag is of kind text" in done.stderr


def test_a_dry_run_needs_no_server_and_says_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("time,x,y\n2026-01-01 00:00,1,2\n2026-01-01 01:00,1,2\n")
    done = run("import", tmp_path / "a.csv", "--dry-run", "--prefix", "p", "--url", "http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert "a.csv: wide, 4 samples of 2 tags, 2026-01-01T00:00:00Z to 2026-01-01T01:00:00Z" in done.stdout


def test_a_dry_run_shows_how_files_are_understood(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Zeit;Druck;an;Phase\n1.2.2026 10:00;;true;mash\n1.2.2026 10:01;1,5;false;lauter\n")
    (tmp_path / "b.csv").write_text("tag,ts,value\nx,1767225600,1\ny/z,1767225600,\n")
    done = run("import", tmp_path / "a.csv", tmp_path / "b.csv", "--dry-run", "--prefix", "p", "--tz", "Europe/Berlin")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == [
        "  times: column 'Zeit', day.month.year, Europe/Berlin where there is no offset",
        "  cells: ';' between them, decimal mark ',', UTF-8",
        "  p/Druck  number  2026-02-01T09:01:00Z  1.5",
        "  p/an     bool    2026-02-01T09:00:00Z  true",
        "  p/Phase  text    2026-02-01T09:00:00Z  'mash'",
        f"{tmp_path}/b.csv: long, 2 samples of 2 tags, 2026-01-01T00:00:00Z to 2026-01-01T00:00:00Z",
        "  times: column 'ts', s",
        "  cells: ',' between them, decimal mark '.', UTF-8",
        "  p/x    number  2026-01-01T00:00:00Z  1.0",
        "  p/y/z  number  2026-01-01T00:00:00Z  none",
    ]


def test_a_refusal_amid_a_file_says_what_of_it_is_stored(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    with Client(server.url) as client:
        client.define([{"path": "good", "kind": "float"}, {"path": "count", "kind": "int"}])
    # two columns: the fault is in the third chunk
    rows = [f"{1_767_225_600 + n},{n},{n if n != 600_000 else 0.5}\n" for n in range(700_000)]
    (tmp_path / "a.csv").write_text("time,good,count\n" + "".join(rows))
    done = historian_import(server, tmp_path / "a.csv", code=1)
    assert "the server refuses tag 'count' at 2026-01-07T22:40:00Z: value is no whole number" in done.stderr
    told = re.search(r"Of this file (\d+) of 1400000 samples are stored", done.stderr)
    assert told is not None, done.stderr
    assert int(told[1]) == len(stored(server.url, "#")) > 0


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["nothing-*.csv"], 1, "no file matches"),
        (["nothing.csv"], 1, "no such file"),
        (["."], 1, "is a directory"),
        ([], 2, "Missing argument"),
        (["a.csv", "--delimiter", "::"], 2, "one character"),
        (["a.csv", "--decimal", ";"], 2, "--decimal"),
        (["a.csv"], 1, "no historian answers"),
    ],
)
def test_wrong_usage(tmp_path: Path, args: list[str], code: int, words: str) -> None:
    (tmp_path / "a.csv").write_text("time,x\n2026-01-01 00:00,1\n")
    done = run("import", *args, cwd=tmp_path, env={"HISTORIAN_URL": "http://127.0.0.1:9"})
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_with_a_token_wants_it_before_files_are_looked_through(serve: Serve, tmp_path: Path) -> None:
    server = serve(env={"HISTORIAN_TOKEN": "secret-enough"})
    (tmp_path / "a.csv").write_text("no,csv\nat,all\n")
    assert "token" in historian_import(server, tmp_path / "a.csv", code=1).stderr
    (tmp_path / "a.csv").write_text("time,x\n2026-01-01 00:00,1\n")
    historian_import(server, tmp_path / "a.csv", env={"HISTORIAN_TOKEN": "secret-enough"})
