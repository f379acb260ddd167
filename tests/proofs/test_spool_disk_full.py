"""The disk of a worker's spool is full: it says so, corrupts nothing, leaves with the broker what it cannot keep, and goes on by itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Serve, run

from proofs.databases import Database, assert_exactly_once
from proofs.harness import behind, producer, until, worker
from proofs.mqtt_worker import config, mosquitto, readiness
from proofs.production import Production

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 1.5 MB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1536k", "none", directory], capture_output=True, check=False)
        if os.geteuid() == 0
        else None
    )
    if mounted is None or mounted.returncode:
        pytest.skip("only root may mount a filesystem")
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


def test_a_worker_whose_spool_has_no_disk_left_says_so_and_loses_nothing_though_it_is_killed(
    plant_database: Database, serve: Serve, small_disk: Path, tmp_path: Path
) -> None:
    samples = 500_000
    server = serve(dsn=plant_database.dsn)
    with (
        mosquitto(tmp_path / "broker") as broker,
        behind(server) as (network, url),
        worker("mqtt", config(f'url = "{url}"', broker.port), tmp_path / "worker", spool=small_disk / "spool") as taking,
    ):
        until(lambda: readiness(taking)[0] == 200, 30, lambda: taking.log)
        network.refuse()
        with producer("mqtt_producer", tmp_path / "producer.log", broker.port, "mqtt", samples) as publishing:
            assert publishing.wait(120) == 0, publishing.log

        def full() -> bool:
            status, document = readiness(taking)
            return status == 503 and document["state"] == "full" and "disk is full" in str(document)

        until(full, 60, lambda: (readiness(taking), taking.log))
        assert os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize < 100_000, "there is room for another batch"
        taking.kill()
        verified = run("spool", "verify", small_disk / "spool")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        taking.start()
        until(full, 60, lambda: (readiness(taking), taking.log))
        assert plant_database.count() == 0
        network.accept()
        until(lambda: plant_database.count() >= samples, 120, lambda: taking.log)
        until(lambda: readiness(taking)[0] == 200, 30, lambda: readiness(taking))
        assert readiness(taking)[1]["state"] == "running"
        assert taking.stop() == 0
    assert_exactly_once(plant_database, Production("mqtt", samples))
