"""Files dropped into a folder: each is taken once, moved when it is settled, set aside when it is at fault, over kills and with names of every kind."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from historian.ingest.files import CHUNK_SAMPLES, Plan, examine
from historian.ingest.path_samples import PathSamples
from historian.ingest.sources import folder_state
from historian.ingest.sources.folder import FolderConfig, FolderSource
from historian.ingest.sources.folder_moves import Folder
from historian.ingest.sources.folder_state import DoneFile, DoneList, FileState, Progress
from historian.ingest.sources.source import Settled
from historian.schema.catalogue import TagDefinition
from historian.schema.errors import BadInput

DEADLINE_S = 30.0


class RecordingIntake:
    """Keeps what it gets. `holds` leaves it unsettled until `settle`."""

    def __init__(self, state_dir: Path, *, holds: bool = False) -> None:
        self.state_dir = state_dir
        self.holds = holds
        self.parts: list[PathSamples] = []
        self.defined: list[TagDefinition] = []
        self.waiting: list[Settled] = []

    async def put(self, samples: PathSamples, settled: Settled | None = None) -> None:
        self.parts.append(samples)
        assert settled is not None
        if self.holds:
            self.waiting.append(settled)
        else:
            settled()

    async def refuse(self, reason: str, where: str, payload: bytes, settled: Settled | None = None) -> None:
        raise AssertionError(f"refused: {reason}")

    def define(self, tags: Sequence[TagDefinition]) -> None:
        self.defined += tags

    def settle(self) -> None:
        waiting, self.waiting = self.waiting, []
        for settled in waiting:
            settled()

    @property
    def rows(self) -> list[tuple[str, int, float, int]]:
        return [
            (part.paths[tag], ts, value, quality)
            for part in self.parts
            for tag, ts, value, quality in zip(part.tag.tolist(), part.ts.tolist(), part.value.tolist(), part.quality.tolist(), strict=True)
        ]


class Site:
    def __init__(self, root: Path) -> None:
        self.folder = root / "drop"
        self.folder.mkdir()
        self.outside = root / "outside"
        self.outside.mkdir()
        self.state_dir = root / "state"

    def drop(self, name: str, content: str | bytes) -> Path:
        """Written elsewhere, and renamed in."""
        written = self.outside / "file"
        written.write_bytes(content if isinstance(content, bytes) else content.encode())
        return written.rename(self.folder / name)

    def names(self, directory: str = "") -> list[str]:
        path = self.folder / directory
        return sorted(entry.name for entry in path.iterdir() if entry.is_file()) if path.exists() else []

    def intake(self, *, holds: bool = False) -> RecordingIntake:
        return RecordingIntake(self.state_dir, holds=holds)

    @asynccontextmanager
    async def source(self, intake: RecordingIntake, **config: Any) -> AsyncIterator[FolderSource]:
        source = FolderSource(FolderConfig(**({"path": self.folder, "settle_s": 0, "poll_s": 0.01} | config)))
        task = asyncio.create_task(source.run(intake))
        try:
            yield source
            assert not task.done(), "the source has ended"
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)


def wide(first: int = 0, rows: int = 3, value: float = 1.0) -> str:
    lines = [f"2026-01-01T00:00:{n:02d}Z,{value + n},{n % 2 == 0}" for n in range(first, first + rows)]
    return "\n".join(["time,flow,running", *lines]) + "\n"


def second(n: int) -> int:
    return 1_767_225_600_000_000 + n * 1_000_000


async def test_files_of_each_format_are_sent_and_moved(site: Site) -> None:
    table = pa.table({"time": pa.array([second(9)], pa.timestamp("us", "UTC")), "level": [2.5]})
    pq.write_table(table, site.outside / "p")
    (site.outside / "p").rename(site.folder / "p.parquet")
    with pa.ipc.new_file(site.outside / "a", table.schema) as writer:
        writer.write_table(table)
    (site.outside / "a").rename(site.folder / "a.arrow")
    site.drop("c.csv", wide(rows=2))
    site.drop(
        "long.csv",
        "tag,time,value,quality\nx/mode,2026-01-01T00:00:01Z,on,\nx/flow,2026-01-01T00:00:02Z,,bad\nx/flow,2026-01-01T00:00:03Z,4,64\n",
    )
    intake = site.intake()
    async with site.source(intake, prefix="acme/{stem}") as source:
        await until(lambda: len(site.names("done")) == 4)
    assert sorted(intake.rows, key=lambda row: row[:2])[:4] == [
        ("acme/a/level", second(9), 2.5, 192),
        ("acme/c/flow", second(0), 1.0, 192),
        ("acme/c/flow", second(1), 2.0, 192),
        ("acme/c/running", second(0), 1.0, 192),
    ]
    long = {(tag, ts): (value, quality) for tag, ts, value, quality in intake.rows if tag.startswith("acme/long")}
    assert long["acme/long/x/flow", second(3)] == (4.0, 64)
    assert np.isnan(long["acme/long/x/flow", second(2)][0])
    assert long["acme/long/x/flow", second(2)][1] == 0
    assert long["acme/long/x/mode", second(1)][1] == 192
    assert [part.text.to_pylist() for part in intake.parts if part.text is not None] == [["on"]]
    assert [tag.path for tag in intake.defined if tag.kind == "bool"] == ["acme/c/running"]
    assert site.names() == []
    assert (source.counts.messages, source.counts.more["files_done"], source.counts.refused) == (4, 4, 0)


async def test_a_file_stays_until_all_of_it_is_settled(site: Site) -> None:
    site.drop("a.csv", wide())
    intake = site.intake(holds=True)
    async with site.source(intake) as source:
        await until(lambda: len(intake.parts) == 2)
        # later files go on meanwhile
        site.drop("b.csv", wide(10))
        await until(lambda: len(intake.parts) == 4)
        assert site.names() == ["a.csv", "b.csv"]
        assert source.counts.more["files_unsettled"] == 2
        intake.waiting.pop(0)()
        intake.waiting.pop()()
        intake.waiting.pop()()
        await until(lambda: site.names() == ["a.csv"])
        intake.settle()
        await until(lambda: site.names() == [])
    assert site.names("done") == ["a.csv", "b.csv"]
    assert len(intake.parts) == 4


async def test_files_are_deleted_where_that_is_wanted(site: Site) -> None:
    site.drop("a.csv", wide())
    intake = site.intake()
    async with site.source(intake, after="delete") as source:
        await until(lambda: source.counts.more["files_done"] == 1)
    assert [path.name for path in site.folder.rglob("*") if path.is_file()] == []


async def test_the_oldest_is_first(site: Site) -> None:
    for n in (3, 1, 2):
        path = site.drop(f"{9 - n}.csv", wide(n, rows=1))
        os.utime(path, (1_700_000_000 + n, 1_700_000_000 + n))
    intake = site.intake()
    async with site.source(intake):
        await until(lambda: len(site.names("done")) == 3)
    assert [row[1] for row in intake.rows if row[0] == "flow"] == [second(1), second(2), second(3)]


async def test_a_file_that_is_still_written_is_left_alone(site: Site) -> None:
    intake = site.intake()
    growing = site.folder / "growing.csv"
    lines = wide(rows=20).splitlines(keepends=True)
    growing.write_text(lines[0])
    async with site.source(intake, settle_s=3.0):
        for line in lines[1:]:
            with growing.open("a") as file:
                file.write(line)
            # a writer that takes its time
            await asyncio.sleep(0.03)
            assert intake.parts == []
        await until(lambda: site.names("done") == ["growing.csv"])
    assert len([row for row in intake.rows if row[0] == "flow"]) == 20


async def test_names_of_unfinished_and_hidden_files_are_not_taken(site: Site) -> None:
    others = [".hidden.csv", "a.csv.part", "b.TMP", "c.csv~", "d.log"]
    for name in others:
        site.drop(name, wide())
    (site.folder / "e.csv").mkdir()
    os.mkfifo(site.folder / "f.csv")
    (site.outside / "g.csv").write_text(wide())
    (site.folder / "g.csv").symlink_to(site.outside / "g.csv")
    site.drop("z.csv", wide())
    intake = site.intake()
    async with site.source(intake, match=["*.csv", "*.tmp", "*.part", "*~"]):
        await until(lambda: site.names("done") == ["z.csv"])
        (site.folder / "a.csv.part").rename(site.folder / "a.csv")
        await until(lambda: len(site.names("done")) == 2)
    assert site.names() == sorted({*others, "g.csv"} - {"a.csv.part"})


async def test_the_same_content_is_set_aside_and_not_sent(site: Site) -> None:
    site.drop("a.csv", wide())
    intake = site.intake()
    async with site.source(intake) as source:
        await until(lambda: site.names("done") == ["a.csv"])
        sent = len(intake.parts)
        site.drop("a.csv", wide())
        await until(lambda: source.counts.more["files_duplicate"] == 1)
    # over a restart too, and by another name
    site.drop("b.csv", wide())
    async with site.source(intake) as source:
        await until(lambda: source.counts.more["files_duplicate"] == 1)
        site.drop("c.csv", wide(value=7))
        await until(lambda: source.counts.more["files_done"] == 1)
    assert len(intake.parts) == sent + 2
    assert [name.partition("~")[0] for name in site.names("done")] == ["a.csv", "a", "b", "c.csv"]


async def test_the_same_content_twice_at_once_is_sent_once(site: Site) -> None:
    site.drop("a.csv", wide())
    site.drop("b.csv", wide())
    intake = site.intake(holds=True)
    async with site.source(intake) as source:
        await until(lambda: len(intake.waiting) == 2)
        site.drop("c.csv", wide(30))
        await until(lambda: len(intake.waiting) == 4)
        assert site.names() == ["a.csv", "b.csv", "c.csv"]
        intake.settle()
        await until(lambda: site.names() == [])
    assert (source.counts.more["files_done"], source.counts.more["files_duplicate"]) == (2, 1)


async def test_a_new_file_by_the_name_of_one_that_is_under_way_is_taken_too(site: Site) -> None:
    site.drop("a.csv", wide())
    intake = site.intake(holds=True)
    async with site.source(intake) as source:
        await until(lambda: len(intake.waiting) == 2)
        site.drop("a.csv", wide(value=50))
        intake.settle()
        await until(lambda: len(intake.waiting) == 2)
        intake.settle()
        await until(lambda: source.counts.more["files_done"] == 2)
    assert {row[2] for row in intake.rows if row[0] == "flow"} == {1.0, 2.0, 3.0, 50.0, 51.0, 52.0}
    assert site.names("done") == ["a.csv"]


async def test_files_at_fault_are_set_aside_whole_with_what_is_wrong(site: Site) -> None:
    site.drop("half.csv", wide(rows=2) + "2026-13-01T00:00:00Z,1,true\n")
    site.drop("empty.csv", "")
    site.drop("cut.parquet", b"PAR1 and no more")
    site.drop("noise.arrow", b"ARROW1\0\0" + bytes(range(256)) * 20)
    site.drop("good.csv", wide())
    intake = site.intake()
    async with site.source(intake) as source:
        await until(lambda: source.counts.refused == 4 and site.names("done") == ["good.csv"])
        before = site.names("failed")
        site.drop("later.csv", wide(20))
        await until(lambda: len(site.names("done")) == 2)
    faulty = ["cut.parquet", "empty.csv", "half.csv", "noise.arrow"]
    assert before == site.names("failed") == sorted(faulty + [f"{name}.error.txt" for name in faulty])
    assert "half.csv, line 4: " in (site.folder / "failed" / "half.csv.error.txt").read_text()
    assert "2026-13-01" in (site.folder / "failed" / "half.csv.error.txt").read_text()
    assert len(intake.parts) == 4
    assert source.counts.more["files_failed"] == 4


async def test_a_file_that_may_not_be_read_is_set_aside(site: Site) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    site.drop("secret.csv", wide()).chmod(0)
    async with site.source(site.intake()):
        await until(lambda: site.names("failed") == ["secret.csv", "secret.csv.error.txt"])
    assert "Permission denied" in (site.folder / "failed" / "secret.csv.error.txt").read_text()


@pytest.mark.parametrize(
    "name",
    ["two words.csv", "línea ünd 线.csv", "new\nline.csv", "-rf.csv", "a'b\"c$`.csv", "%s{}[*]?.csv", "x" * 251 + ".csv", "noextension"],
)
@pytest.mark.parametrize("content", [wide(), "no,times\n1,2\n"], ids=["good", "faulty"])
async def test_any_name_will_do(site: Site, name: str, content: str) -> None:
    site.drop(name, content)
    async with site.source(site.intake()):
        await until(lambda: site.names() == [] and bool(site.names("done") or len(site.names("failed")) == 2))
        # and again, where the name is taken
        site.drop(name, content)
        await until(lambda: site.names() == [] and (len(site.names("done")) == 2 or len(site.names("failed")) == 4))


async def test_a_name_that_is_no_text_is_no_obstacle(site: Site) -> None:
    name = os.fsdecode(b"caf\xe9.csv")
    site.drop(name, wide())
    site.drop("cafe.csv", wide())
    async with site.source(site.intake()):
        await until(lambda: site.names("failed") == [name, name + ".error.txt"] and site.names("done") == ["cafe.csv"])
    assert "rename it" in (site.folder / "failed" / (name + ".error.txt")).read_text()


async def test_a_file_that_the_storage_fails_is_tried_again_and_keeps_no_other_waiting(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []

    def on_a_bad_disk(path: Path, *args: Any) -> Plan:
        reads.append(path.name)
        if reads.count(path.name) < {"lost.csv": 100, "weak.csv": 3}.get(path.name, 0):
            try:
                raise OSError(errno.EIO, "Input/output error")
            except OSError as error:
                raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
        return examine(path, *args)

    monkeypatch.setattr("historian.ingest.sources.folder.examine", on_a_bad_disk)
    site.drop("lost.csv", wide(1))
    site.drop("weak.csv", wide(2))
    site.drop("zest.csv", wide(3))
    async with site.source(site.intake()):
        await until(lambda: site.names("done") == ["zest.csv"])
        await until(lambda: site.names("done") == ["weak.csv", "zest.csv"])
        await until(lambda: site.names("failed") == ["lost.csv", "lost.csv.error.txt"])
    assert [reads.count(name) for name in ("lost.csv", "weak.csv", "zest.csv")] == [6, 3, 1]


async def test_a_killed_process_goes_on_with_the_rest(site: Site) -> None:
    rows = 4 * CHUNK_SAMPLES + 130_000
    times = pa.array(second(0) + np.arange(rows) * 1000, pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"tag": ["t"] * rows, "time": times, "value": np.arange(rows, dtype=float)}), site.outside / "p")
    (site.outside / "p").rename(site.folder / "p.parquet")
    taker = Path(__file__).with_name("folder_taker.py")
    command = [sys.executable, "-P", os.fspath(taker), os.fspath(site.folder), os.fspath(site.state_dir), "2"]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_S):
            assert await process.stdout.readline() == b"there\n"
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    assert site.names() == ["p.parquet"]
    intake = site.intake()
    async with site.source(intake):
        await until(lambda: site.names("done") == ["p.parquet"])
    assert [len(part) for part in intake.parts] == [CHUNK_SAMPLES, CHUNK_SAMPLES, 130_000]
    assert (np.concatenate([part.value for part in intake.parts]) == np.arange(2 * CHUNK_SAMPLES, rows)).all()
    assert list((site.state_dir / "progress").iterdir()) == []


async def test_a_file_that_was_done_but_not_moved_when_the_process_was_killed_is_moved(site: Site) -> None:
    path = site.drop("a.csv", wide())
    intake = site.intake()
    async with site.source(intake):
        await until(lambda: site.names("done") == ["a.csv"])
    (site.folder / "done" / "a.csv").rename(path)
    sent = len(intake.parts)
    async with site.source(intake) as source:
        await until(lambda: site.names("done") == ["a.csv"])
    assert len(intake.parts) == sent
    assert (source.counts.more["files_done"], source.counts.more["files_duplicate"]) == (1, 0)


async def test_a_folder_that_is_away_is_told_and_tried_again(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "historian.ingest.sources.folder")
    intake = site.intake()
    async with site.source(intake) as source:
        await until(lambda: source.counts.connected)
        away = site.folder.rename(site.folder.with_name("away"))
        await until(lambda: not source.counts.connected)
        assert "No such file or directory" in source.counts.trouble
        assert str(site.folder) in source.counts.trouble
        away.rename(site.folder)
        site.drop("a.csv", wide())
        await until(lambda: site.names("done") == ["a.csv"])
        await until(lambda: source.counts.connected)
        assert source.counts.trouble == ""
    assert (source.counts.connects, source.counts.disconnects) == (2, 1)
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
    assert [record.getMessage() for record in caplog.records if record.levelname == "INFO"] == [f"folder {site.folder} is back"]


async def test_a_file_is_moved_when_the_folder_is_back(site: Site) -> None:
    site.drop("a.csv", wide())
    intake = site.intake(holds=True)
    async with site.source(intake) as source:
        await until(lambda: len(intake.waiting) == 2)
        away = site.folder.rename(site.folder.with_name("away"))
        intake.settle()
        await until(lambda: not source.counts.connected)
        away.rename(site.folder)
        await until(lambda: site.names("done") == ["a.csv"])
    assert len(intake.parts) == 2


async def test_nothing_is_taken_from_a_folder_in_which_nothing_can_be_moved(site: Site) -> None:
    site.drop("a.csv", wide())
    # where a directory should be
    (site.folder / "done").write_text("")
    intake = site.intake()
    async with site.source(intake) as source:
        await until(lambda: source.counts.trouble != "")
        assert "done" in source.counts.trouble
        assert intake.parts == []
        (site.folder / "done").unlink()
        await until(lambda: site.names("done") == ["a.csv"])


@pytest.mark.parametrize(("content", "where"), [(wide(), "done"), ("no,times\n", "failed")], ids=["done", "failed"])
async def test_a_file_that_cannot_be_moved_is_told_and_keeps_no_other_waiting(
    site: Site, monkeypatch: pytest.MonkeyPatch, content: str, where: str
) -> None:
    rename = Path.rename
    freed: list[bool] = []

    def of_somebody_else(path: Path, target: Path) -> Path:
        if path.name == "a.csv" and not freed:
            raise PermissionError(errno.EPERM, "Operation not permitted", str(path))
        return rename(path, target)

    site.drop("a.csv", content)
    monkeypatch.setattr(Path, "rename", of_somebody_else)
    intake = site.intake()
    async with site.source(intake) as source:
        await until(lambda: source.counts.trouble != "")
        assert "a.csv: Operation not permitted" in source.counts.trouble
        site.drop("b.csv", wide(10))
        await until(lambda: "b.csv" in site.names("done"))
        assert site.names() == ["a.csv"]
        freed.append(True)
        await until(lambda: "a.csv" in site.names(where) and source.counts.trouble == "")
    assert len(intake.parts) == (4 if where == "done" else 2)


async def test_many_files_are_taken_and_few_watched_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("historian.ingest.sources.folder.WATCHED", 20)
    monkeypatch.setattr("historian.ingest.sources.folder.UNSETTLED", 10)
    for n in range(100):
        site.drop(f"{n}.csv", wide(value=n * 100))
    intake = site.intake(holds=True)
    async with site.source(intake, settle_s=0.05) as source:
        while len(site.names("done")) < 100:
            await until(lambda: bool(intake.waiting) or len(site.names("done")) == 100)
            assert source.counts.more["files_unsettled"] <= 10
            intake.settle()
    assert len(intake.parts) == 200


def test_the_oldest_of_very_many_are_found_in_bounded_memory(tmp_path: Path) -> None:
    for n in range(2_000):
        path = tmp_path / f"{n}.csv"
        path.touch()
        os.utime(path, (2_000 - n, 2_000 - n))
    found = Folder(tmp_path, ["*"]).oldest(3, {"1999.csv"})
    assert [name for name, _ in found] == ["1998.csv", "1997.csv", "1996.csv"]


def test_the_done_list_is_bounded_and_survives_a_line_that_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_state, "MAX_DONE", 10)
    path = tmp_path / "s" / "done.jsonl"
    done = DoneList(path)
    for n in range(100):
        done.add([DoneFile(f"{n:064x}", f"{n}\udce9\n.csv", FileState(n, n, n))])
        assert path.stat().st_size < 22 * 150
    with path.open("ab") as file:
        file.write(b'["0000')
    again = DoneList(path)
    assert len(again) == 10
    assert again.get(f"{89:064x}") is None
    assert again.get(f"{99:064x}") == DoneFile(f"{99:064x}", "99\udce9\n.csv", FileState(99, 99, 99))


def test_progress_is_bounded_and_leaves_out_what_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Progress(tmp_path)
    for n in range(5):
        progress.add(f"{n}", 7)
        os.utime(tmp_path / f"{n}", (n, n))
    with (tmp_path / "4").open("ab") as file:
        file.write(b"12")
    assert progress.read("4") == {7}
    monkeypatch.setattr(folder_state, "MAX_PROGRESS", 2)
    Progress(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "path"),
        ({"path": "x", "tz": "Mars/Olympus"}, "Mars/Olympus"),
        ({"path": "x", "prefix": "a/{user}"}, "{user}"),
        ({"path": "x", "delimiter": "ab"}, "one character"),
        ({"path": "x", "after": "burn"}, "move"),
        ({"path": "x", "poll": 3}, "poll"),
    ],
)
def test_a_faulty_configuration_is_told(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match="(?s)" + said.replace("{", r"\{")):
        FolderConfig(**given)
