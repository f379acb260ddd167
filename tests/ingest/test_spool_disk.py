"""The spool on disks that are full or fail: batches are refused in words, nothing is corrupted, and it goes on by itself once there is room."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from test_spool import batch, fill, same, seqs

from historian.ingest.spool.full import SpoolFull
from historian.ingest.spool.spool import Spool


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 1 MB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", directory], capture_output=True, check=False)
        if os.geteuid() == 0
        else None
    )
    if mounted is None or mounted.returncode:
        pytest.skip("only root may mount a filesystem")
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


def test_a_full_disk_refuses_new_batches_and_corrupts_none(small_disk: Path) -> None:
    directory = small_disk / "spool"
    with Spool.open(directory, producer="plant", segment_bytes=200_000) as spool:
        assert spool.reserve_seqs(10_000) == 0
        taken = fill(spool, rows=3000)
        assert len(taken) > 10
        assert spool.state == "full"
        assert "the disk is full" in spool.trouble
        with pytest.raises(SpoolFull, match="the disk is full"):
            spool.append(len(taken), batch(len(taken), rows=3000))
        # it tries each time, and smaller ones fill what is left
        taken += fill(spool, start=len(taken), rows=1)
        found = spool.read(limit=1_000_000)
        assert [seq for seq, _ in found] == taken
        with pytest.raises(SpoolFull, match="the disk is full"):
            spool.reserve_seqs(5)
    # a worker that starts on a full disk has what it spooled
    with Spool.open(directory, producer="plant") as spool:
        assert spool.cut_bytes == 0
        assert spool.damaged == 0
        found = spool.read(limit=1_000_000)
        assert [seq for seq, _ in found] == taken
        assert all(same(samples, batch(seq, len(samples))) for seq, samples in found)
        with pytest.raises(SpoolFull, match="the disk is full"):
            spool.append(20_000, batch(20_000, rows=3000))
        assert spool.state == "full"
        # what is done makes room, also where the disk is full to the last byte
        for seq in taken[:-1]:
            spool.done(seq)
        assert spool.state == "holding"
        spool.append(20_000, batch(20_000, rows=3000))
        assert seqs(spool) == [taken[-1], 20_000]
        assert spool.reserve_seqs(5) == 20_001


def test_room_that_others_make_is_noticed_without_an_append(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    with Spool.open(small_disk / "spool", producer="plant") as spool:
        spool.append(0, batch(0, rows=1000))
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        assert os.statvfs(small_disk).f_bavail == 0
        held = [0, *fill(spool, start=1)]
        assert spool.state == "full"
        assert seqs(spool) == held
        ballast.unlink()
        assert spool.state == "holding"
        spool.append(1000, batch(1000))
        assert seqs(spool) == [*held, 1000]


LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_spool import batch, fill
from historian.ingest.spool.full import SpoolFull
from historian.ingest.spool.spool import Spool
spool = Spool.open(Path(sys.argv[1]), producer="plant")
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
taken = fill(spool)
try:
    # more than any file may hold
    spool.append(5000, batch(5000, rows=3000))
except SpoolFull as error:
    print(spool.state, "|", error, "|", spool.trouble)
else:
    raise SystemExit("it was taken")
spool.append(len(taken), batch(len(taken)))
print(spool.state, len(taken) + 1)
"""


def test_a_write_that_fails_in_the_middle_leaves_nothing_behind(tmp_path: Path) -> None:
    code = [sys.executable, "-P", "-c", LIMITED, str(tmp_path), str(Path(__file__).parent)]
    process = subprocess.run(code, capture_output=True, text=True, check=False, timeout=60)
    assert process.returncode == 0, process.stderr
    told, after = process.stdout.splitlines()
    assert told.startswith("full | ")
    assert told.count("the file size limit of this process is reached") == 2
    state, count = after.split()
    assert state == "holding"
    with Spool.open(tmp_path) as spool:
        assert (spool.cut_bytes, spool.damaged) == (0, 0)
        found = spool.read(limit=1_000_000)
        assert [seq for seq, _ in found] == list(range(int(count)))
        assert all(same(samples, batch(seq)) for seq, samples in found)
