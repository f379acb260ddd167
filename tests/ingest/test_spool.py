"""The spool: what is appended is there after any crash, in order, once; limits refuse and never drop; one process at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pyarrow as pa
import pytest

from historian.ingest.path_samples import PathSamples
from historian.ingest.spool import files
from historian.ingest.spool.full import SpoolFull
from historian.ingest.spool.refused import list_refused
from historian.ingest.spool.segment import HEADER_SIZE, list_segments
from historian.ingest.spool.spool import Spool
from historian.schema.errors import BadInput, Conflict, NotFound

START = 1_767_225_600_000_000


def batch(seq: int, rows: int = 5, *, text: bool = False) -> PathSamples:
    """Samples that tell which batch they are."""
    tag = np.arange(rows, dtype=np.int32) % 3
    ts = START + seq * 1_000_000 + np.arange(rows, dtype=np.int64)
    values = np.random.default_rng(seq).normal(size=rows)
    values[::4] = np.nan
    return PathSamples(
        ["a/x", "a/ü", "b"], tag, ts, values, np.full(rows, seq % 256, np.int16), pa.array([f"t{n}" for n in range(rows)]) if text else None
    )


def same(one: PathSamples, other: PathSamples) -> bool:
    """Row for row, and bit for bit."""
    names = [[samples.paths[n] for n in samples.tag.tolist()] for samples in (one, other)]
    columns = all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in ("ts", "value", "quality"))
    texts = [None if samples.text is None else samples.text.to_pylist() for samples in (one, other)]
    return names[0] == names[1] and columns and texts[0] == texts[1]


def seqs(spool: Spool) -> list[int]:
    return [seq for seq, _ in spool.read(limit=1_000_000)]


def fill(spool: Spool, start: int = 0, rows: int = 5) -> list[int]:
    """Append until it refuses. Returns what it took."""
    taken: list[int] = []
    with suppress(SpoolFull):
        while True:
            spool.append(start, batch(start, rows))
            taken.append(start)
            start += 1
    return taken


def test_batches_come_back_in_the_order_of_their_appends_over_reopening(tmp_path: Path) -> None:
    order = [3, 1, 2, 10, 5]
    with Spool.open(tmp_path, producer="plant") as spool:
        assert (spool.state, spool.batches, spool.samples, spool.oldest_us, spool.last_seq, spool.peek()) == (
            "empty",
            0,
            0,
            None,
            None,
            None,
        )
        for seq in order:
            spool.append(seq, batch(seq, rows=seq, text=seq == 2))
        instance = spool.instance
    with Spool.open(tmp_path, producer="plant") as spool:
        assert (spool.state, spool.batches, spool.samples, spool.last_seq, spool.instance) == ("holding", 5, 21, 10, instance)
        assert spool.oldest_us is not None
        assert abs(spool.oldest_us / 1e6 - time.time()) < 60
        found = spool.read(limit=10)
        assert [seq for seq, _ in found] == order
        assert all(same(samples, batch(seq, rows=seq, text=seq == 2)) for seq, samples in found)
        peeked = spool.peek()
        assert peeked is not None
        assert peeked[0] == 3


def test_several_batches_are_in_flight_and_done_in_any_order(tmp_path: Path) -> None:
    with Spool.open(tmp_path, producer="plant") as spool:
        for seq in range(6):
            spool.append(seq, batch(seq))
        first = [seq for seq, _ in spool.read(limit=3)]
        assert first == [0, 1, 2]
        spool.done(1)
        spool.done(2)
        spool.done(2)
        # 2 is done, and still what was read last
        assert [seq for seq, _ in spool.read(after=2, limit=2)] == [3, 4]
        assert seqs(spool) == [0, 3, 4, 5]
        spool.done(4)
    with Spool.open(tmp_path) as spool:
        assert seqs(spool) == [0, 3, 5]
        assert (spool.batches, spool.samples) == (3, 15)
        for seq in (0, 3, 5):
            spool.done(seq)
        assert (spool.state, spool.bytes, list_segments(tmp_path)) == ("empty", 0, [])


def test_a_reader_goes_on_where_the_segment_that_it_read_last_is_gone(tmp_path: Path) -> None:
    with Spool.open(tmp_path, producer="plant", segment_bytes=1) as spool:
        for seq in range(4):
            spool.append(seq, batch(seq))
        assert len(list_segments(tmp_path)) == 4
        assert [seq for seq, _ in spool.read(limit=2)] == [0, 1]
        spool.done(1)
        assert len(list_segments(tmp_path)) == 3
        # 0 is still in flight, and must not be given again
        assert [seq for seq, _ in spool.read(after=1, limit=9)] == [2, 3]


def test_a_segment_is_deleted_when_all_of_it_is_done(tmp_path: Path) -> None:
    with Spool.open(tmp_path, producer="plant", segment_bytes=4000) as spool:
        for seq in range(12):
            spool.append(seq, batch(seq))
        before = [path for _, path in list_segments(tmp_path)]
        assert len(before) > 2
        held = spool.bytes
        assert held == sum(path.stat().st_size for path in before)
        while before[0].exists():
            spool.done(spool.read()[0][0])
        assert spool.bytes < held
        assert seqs(spool) == list(range(12 - spool.batches, 12))
        # a new file never takes the place of one that progress speaks of
        spool.append(12, batch(12))
    with Spool.open(tmp_path) as spool:
        assert seqs(spool) == list(range(13 - spool.batches, 13))


def test_a_number_is_in_the_spool_once(tmp_path: Path) -> None:
    with Spool.open(tmp_path, producer="plant") as spool:
        spool.append(7, batch(7))
        spool.append(5, batch(5))
        with pytest.raises(Conflict, match="batch 7 already"):
            spool.append(7, batch(7))
        with pytest.raises(BadInput):
            spool.append(-1, batch(1))
        assert seqs(spool) == [7, 5]


def test_the_newest_times_tell_which_live_rows_queue_behind_the_backlog(tmp_path: Path) -> None:
    live = PathSamples(
        ["b", "a/x", "new"],
        np.array([0, 1, 2, 1], np.int32),
        np.array([START + 5_000_002, START + 5_000_003, START, START + 5_000_004], np.int64),
        np.ones(4),
        np.full(4, 192, np.int16),
    )
    with Spool.open(tmp_path, producer="plant") as spool:
        assert not spool.behind(live).any()
        for seq in (5, 1):
            spool.append(seq, batch(seq))
        assert (spool.newest("a/x"), spool.newest("b"), spool.newest("new")) == (START + 5_000_003, START + 5_000_002, None)
        assert spool.behind(live).tolist() == [True, True, False, False]
    with Spool.open(tmp_path) as spool:
        assert spool.behind(live).tolist() == [True, True, False, False]
        spool.done(1)
        spool.done(5)
        assert not spool.behind(live).any()


def test_reserved_numbers_are_never_given_twice(tmp_path: Path) -> None:
    with Spool.open(tmp_path, producer="plant") as spool:
        assert not spool.seqs_known
        assert spool.reserve_seqs(10) == 0
        assert spool.reserve_seqs(5, at_least=100) == 100
    with Spool.open(tmp_path) as spool:
        assert spool.seqs_known
        assert spool.reserve_seqs(1) == 105
        spool.append(400, batch(400))
    (tmp_path / files.SEQS).write_bytes(b"\0\0\0")
    with Spool.open(tmp_path) as spool:
        assert not spool.seqs_known
        assert spool.reserve_seqs(1) == 401


def test_a_spool_belongs_to_one_producer(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="is no spool"):
        Spool.open(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with Spool.open(tmp_path / "deep" / "er", producer="plant/one") as spool:
        assert spool.producer == "plant/one"
    with pytest.raises(Conflict, match=r"'plant/one'.*'plant/two'"):
        Spool.open(tmp_path / "deep" / "er", producer="plant/two")
    (tmp_path / "deep" / "er" / files.OWNER).write_bytes(b"")
    with pytest.raises(Conflict, match="damaged"):
        Spool.open(tmp_path / "deep" / "er", producer="plant/one")
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be used"):
        Spool.open(tmp_path / "file", producer="plant")


def test_a_second_process_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with Spool.open(tmp_path, producer="plant") as spool:
        spool.append(0, batch(0))
        code = f"from pathlib import Path; from historian.ingest.spool.spool import Spool; Spool.open(Path({str(tmp_path)!r}), producer='plant')"
        other = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False, timeout=60)
        assert other.returncode == 1
        assert f"Conflict: the spool {tmp_path} is in use by process {os.getpid()}" in other.stderr
        # also within a process
        with pytest.raises(Conflict, match=str(os.getpid())):
            Spool.open(tmp_path, producer="plant")
        assert files.is_held(tmp_path)
    assert not files.is_held(tmp_path)
    with pytest.raises(Conflict, match="closed"):
        spool.append(1, batch(1))
    Spool.open(tmp_path).close()


def test_at_the_size_limit_new_batches_are_refused_and_none_is_dropped(tmp_path: Path) -> None:
    with Spool.open(tmp_path, producer="plant", max_bytes=20_000, segment_bytes=4000) as spool:
        taken = fill(spool)
        with pytest.raises(SpoolFull, match="of at most 20000 bytes"):
            spool.append(len(taken), batch(len(taken)))
        assert sum(path.stat().st_size for _, path in list_segments(tmp_path)) <= 20_000
        assert spool.state == "full"
        assert "of at most 20000 bytes" in spool.trouble
        assert seqs(spool) == taken
        for seq in taken[:5]:
            spool.done(seq)
        assert (spool.state, spool.trouble) == ("holding", "")
        spool.append(2000, batch(2000))
        assert seqs(spool) == [*taken[5:], 2000]
    with Spool.open(tmp_path, max_bytes=1000) as spool:
        assert spool.state == "full"
        assert seqs(spool) == [*taken[5:], 2000]


def test_while_the_oldest_batch_is_too_old_new_ones_are_refused(tmp_path: Path) -> None:
    with Spool.open(tmp_path, producer="plant") as spool:
        spool.append(0, batch(0))
    with Spool.open(tmp_path, max_age_s=3600) as spool:
        spool.append(1, batch(1))
    with Spool.open(tmp_path, max_age_s=0) as spool:
        assert spool.state == "full"
        assert "oldest batch has waited" in spool.trouble
        with pytest.raises(SpoolFull, match="oldest batch has waited"):
            spool.append(2, batch(2))
        assert seqs(spool) == [0, 1]
        spool.done(0)
        spool.done(1)
        spool.append(2, batch(2))


def test_one_thread_appends_while_another_delivers(tmp_path: Path) -> None:
    count, delivered = 300, []
    appended: SimpleQueue[int] = SimpleQueue()
    with Spool.open(tmp_path, producer="plant", segment_bytes=3000) as spool, ThreadPoolExecutor() as threads:

        def append() -> None:
            for seq in range(count):
                spool.append(seq, batch(seq))
                appended.put(seq)

        appending = threads.submit(append)
        for _ in range(count):
            appended.get(timeout=60)
            for seq, samples in spool.read(limit=3):
                assert same(samples, batch(seq))
                delivered.append(seq)
                # often all that the segment has that is being written
                spool.done(seq)
        appending.result()
        assert delivered == list(range(count))
        assert (spool.state, spool.bytes, list_segments(tmp_path)) == ("empty", 0, [])


def test_thousands_of_batches_leave_only_a_small_index_in_memory(tmp_path: Path) -> None:
    with Spool.open(tmp_path, producer="plant") as spool:
        spool.append(0, batch(0))
        tracemalloc.start()
        for seq in range(1, 2001):
            spool.append(seq, batch(seq, rows=100))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert held < 300_000
        assert spool.batches == 2001


def test_what_upstream_refuses_is_kept_and_can_queue_again_behind_the_others(tmp_path: Path) -> None:
    with Spool.open(tmp_path, producer="plant") as spool:
        for seq in range(4):
            spool.append(seq, batch(seq))
        spool.refuse(1, "no such tag: 'b'")
        assert seqs(spool) == [0, 2, 3]
        (refused,) = list_refused(tmp_path)
        assert (refused.entry.seq, refused.entry.rows, refused.reason) == (1, 5, "no such tag: 'b'")
    with Spool.open(tmp_path) as spool:
        assert seqs(spool) == [0, 2, 3]
        assert spool.take_refused([7]) == 0
        assert spool.take_refused([1]) == 1
        assert list(list_refused(tmp_path)) == []
        assert seqs(spool) == [0, 2, 3, 1]
    # the first one of that number is done, the second is not
    with Spool.open(tmp_path) as spool:
        found = spool.read(limit=9)
        assert [seq for seq, _ in found] == [0, 2, 3, 1]
        assert same(found[-1][1], batch(1))
        spool.done(1)
        assert seqs(spool) == [0, 2, 3]


def test_a_batch_that_a_broken_disk_kept_twice_is_given_once(tmp_path: Path) -> None:
    with Spool.open(tmp_path, producer="plant") as spool:
        for seq in range(3):
            spool.append(seq, batch(seq))
    ((_, path),) = list_segments(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[HEADER_SIZE:])
    with Spool.open(tmp_path) as spool:
        assert seqs(spool) == [0, 1, 2]
        for seq in range(3):
            spool.done(seq)
        assert (spool.state, list_segments(tmp_path)) == ("empty", [])
