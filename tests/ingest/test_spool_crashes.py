"""The spool after crashes: cut off at any byte, changed at any byte, killed at any time. What was safe and not done comes back, in order, once; nothing torn does."""

from __future__ import annotations

import logging
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_spool import batch, same, seqs

from historian.ingest.spool import files
from historian.ingest.spool.segment import HEADER_SIZE, Entry, file_header, list_segments, scan
from historian.ingest.spool.spool import Spool
from historian.schema.errors import SchemaError


def entries(path: Path) -> list[Entry]:
    return [thing for thing in scan(path.read_bytes()) if isinstance(thing, Entry)]


class Model:
    """A spool, and what must be in it. A crash is a copy of the directory as it stands, without closing: the process is gone, its files are not."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lives = 0
        self.next = 0
        self.expected: list[int] = []
        #: done, and perhaps not written down as such
        self.maybe: set[int] = set()
        self.open(root / "0")

    def open(self, directory: Path) -> None:
        self.directory = directory
        self.spool = Spool.open(directory, producer="plant", segment_bytes=2500)

    def append(self, rows: int) -> None:
        seq = self.spool.reserve_seqs(1)
        assert seq >= self.next, "a number was given twice"
        self.next = seq + 1
        self.spool.append(seq, batch(seq, rows))
        self.expected.append(seq)

    def done(self, which: int) -> None:
        if self.expected:
            seq = self.expected.pop(which % len(self.expected))
            self.spool.done(seq)
            self.maybe.add(seq)

    def crash(self, cut: float | None) -> None:
        """`cut`: the last segment is cut there too, as a fraction of its size: what stood behind was not safe."""
        self.lives += 1
        copy = self.root / str(self.lives)
        shutil.copytree(self.directory, copy)
        self.spool.close()
        segments = list_segments(copy)
        if cut is not None and segments:
            last = segments[-1][1]
            size = int(last.stat().st_size * cut)
            lost = {entry.seq for entry in entries(last) if entry.offset + entry.size > size}
            with last.open("r+b") as file:
                file.truncate(size)
            self.expected = [seq for seq in self.expected if seq not in lost]
        self.open(copy)

    def check(self) -> None:
        found = self.spool.read(limit=1_000_000)
        order = [seq for seq, _ in found]
        assert len(order) == len(set(order))
        assert [seq for seq in order if seq not in self.maybe] == self.expected
        for seq, samples in found:
            assert same(samples, batch(seq, len(samples)))
        assert self.spool.batches == len(order)
        assert self.spool.samples == sum(len(samples) for _, samples in found)
        assert all(self.spool.behind(samples).all() for _, samples in found)
        assert self.spool.damaged == 0


steps = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 40)),
    st.tuples(st.just("append"), st.integers(1, 40)),
    st.tuples(st.just("done"), st.integers(0, 20)),
    st.tuples(st.just("crash"), st.none() | st.floats(0, 1)),
    st.tuples(st.just("reopen"), st.none()),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=25))
def test_what_was_safe_and_not_done_comes_back_in_order_and_once(todo: list[tuple[str, int | float | None]]) -> None:
    with tempfile.TemporaryDirectory() as root:
        model = Model(Path(root))
        try:
            for step, argument in todo:
                if step == "append":
                    assert isinstance(argument, int)
                    model.append(argument)
                elif step == "done":
                    assert isinstance(argument, int)
                    model.done(argument)
                elif step == "crash":
                    model.crash(argument)
                else:
                    model.spool.close()
                    model.open(model.directory)
                model.check()
        finally:
            model.spool.close()


def test_a_torn_tail_is_cut_at_the_last_whole_batch_wherever_it_was_torn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Spool.open(tmp_path, producer="plant") as spool:
        for seq in range(3):
            spool.append(seq, batch(seq))
    ((_, path),) = list_segments(tmp_path)
    whole = path.read_bytes()
    ends = [entry.offset + entry.size for entry in entries(path)]
    for size in [*range(0, ends[0] + 60, 7), ends[1] - 1, ends[1], ends[1] + 1, ends[2] - 1, ends[2]]:
        path.write_bytes(whole[:size])
        caplog.clear()
        with Spool.open(tmp_path) as spool:
            kept = sum(end <= size for end in ends)
            assert seqs(spool) == list(range(kept))
            torn = size - ([HEADER_SIZE if size >= HEADER_SIZE else 0, *ends][kept] if kept or size >= HEADER_SIZE else 0)
            assert spool.cut_bytes == torn
            assert spool.damaged == 0
            assert [r.levelno for r in caplog.records] == [logging.WARNING] * (torn > 0)
        assert path.exists() == (kept > 0)
        if kept:
            assert path.stat().st_size == ends[kept - 1]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_bit_rot_costs_only_the_batches_it_hits_and_the_bytes_are_kept(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as root:
        directory = Path(root)
        with Spool.open(directory, producer="plant", segment_bytes=4000) as spool:
            for seq in range(8):
                spool.append(seq, batch(seq))
        paths = [path for _, path in list_segments(directory)]
        assert len(paths) > 1
        path = data.draw(st.sampled_from(paths))
        before = path.read_bytes()
        known = entries(path)
        begin = data.draw(st.integers(0, len(before) - 1))
        rot = data.draw(st.binary(min_size=1, max_size=600))
        after = (before[:begin] + rot + before[begin + len(rot) :])[: len(before)]
        path.write_bytes(after)
        hit = {
            entry.seq
            for entry in known
            if before[entry.offset : entry.offset + entry.size] != after[entry.offset : entry.offset + entry.size]
        }
        with Spool.open(directory) as spool:
            found = spool.read(limit=99)
            assert [seq for seq, _ in found] == [seq for seq in range(8) if seq not in hit]
            assert all(same(samples, batch(seq)) for seq, samples in found)
            kept = b"".join(file.read_bytes() for file in files.damaged_files(directory))
            if hit and not (path == paths[-1] and spool.cut_bytes):
                assert spool.damaged >= 1
            for entry in known:
                # cut off at the end of the last segment without its header, it is a torn tail as any other
                if entry.seq in hit and not (path == paths[-1] and spool.cut_bytes):
                    assert after[entry.offset : entry.offset + entry.size] in kept
            damaged = spool.damaged
        # seen once more, told and counted once
        with Spool.open(directory) as spool:
            assert spool.damaged == damaged
            assert spool.cut_bytes == 0


def test_damage_that_comes_while_the_spool_is_open_is_stepped_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Spool.open(tmp_path, producer="plant") as spool:
        for seq in range(4):
            spool.append(seq, batch(seq))
        ((_, path),) = list_segments(tmp_path)
        entry = entries(path)[1]
        with path.open("r+b") as file:
            file.seek(entry.offset + entry.size - 20)
            file.write(b"\xff" * 10)
        assert seqs(spool) == [0, 2, 3]
        assert (spool.damaged, spool.batches) == (1, 3)
        (kept,) = files.damaged_files(tmp_path)
        assert kept.stat().st_size == entry.size
        assert "batch 1 of 5 samples" in caplog.text
        for seq in (0, 2, 3):
            spool.done(seq)
        assert spool.state == "empty"
        assert kept.exists()


def test_damage_that_cannot_be_kept_aside_keeps_its_whole_segment(tmp_path: Path) -> None:
    with Spool.open(tmp_path, producer="plant") as spool:
        for seq in range(3):
            spool.append(seq, batch(seq))
    ((_, path),) = list_segments(tmp_path)
    damaged = bytearray(path.read_bytes())
    damaged[entries(path)[1].offset + 100] ^= 1
    path.write_bytes(damaged)
    (tmp_path / files.DAMAGED).write_text("where the directory should be")
    with Spool.open(tmp_path) as spool:
        assert seqs(spool) == [0, 2]
        (tmp_path / files.DAMAGED).unlink()
        spool.done(0)
        spool.done(2)
    (kept,) = files.damaged_files(tmp_path)
    assert kept.read_bytes() == damaged


def test_damaged_progress_only_brings_back_what_was_done(tmp_path: Path) -> None:
    with Spool.open(tmp_path, producer="plant") as spool:
        for seq in range(3):
            spool.append(seq, batch(seq))
        spool.done(0)
    for content in (b"", b"[1]", b'{"x":{"before":"y"}}', b"\0" * 50):
        (tmp_path / files.PROGRESS).write_bytes(content)
        with Spool.open(tmp_path) as spool:
            assert seqs(spool) == [0, 1, 2]


def test_a_spool_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with Spool.open(tmp_path, producer="plant") as spool:
        spool.append(0, batch(0))
    ((_, path),) = list_segments(tmp_path)
    head = bytearray(file_header(b"x" * 16)[:-4])
    struct.pack_into("<H", head, 8, 2)
    newer = bytes(head) + struct.pack("<I", zlib.crc32(head)) + path.read_bytes()[HEADER_SIZE:]
    path.write_bytes(newer)
    with pytest.raises(SchemaError, match="newer historian"):
        Spool.open(tmp_path)
    assert path.read_bytes() == newer


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_spool import batch
from historian.ingest.spool.spool import Spool
spool = Spool.open(Path(sys.argv[1]), producer="plant", segment_bytes=20_000)
while True:
    seq = spool.reserve_seqs(1)
    print("reserved", seq, flush=True)
    spool.append(seq, batch(seq, 1 + seq % 50))
    print("appended", seq, flush=True)
"""


def test_a_process_killed_while_it_appends_has_lost_nothing_that_it_said_is_safe(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    reserved: list[int] = []
    appended: list[int] = []
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", CHILD, str(tmp_path), str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert process.stdout is not None
        with process, process.stdout:
            lines = [process.stdout.readline() for _ in range(int(rng.integers(20, 150)))]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        for line in lines:
            what, number = line.split()
            (reserved if what == "reserved" else appended).append(int(number))
    assert len(appended) > 50
    assert len(reserved) == len(set(reserved))
    with Spool.open(tmp_path) as spool:
        found = spool.read(limit=1_000_000)
        there = [seq for seq, _ in found]
        assert all(same(samples, batch(seq, 1 + seq % 50)) for seq, samples in found)
        # one may have been killed before it could say that the last batch is safe
        assert there == sorted(set(there))
        assert set(appended) <= set(there) <= set(reserved)
        assert len(there) - len(appended) <= 6
        assert spool.damaged == 0
