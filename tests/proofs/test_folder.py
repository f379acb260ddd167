"""Files dropped into a folder, through all troubles: each is taken once, and moved away once."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import Serve

from proofs.databases import Database, assert_exactly_once
from proofs.folder_producer import files, name
from proofs.harness import FINE, SAMPLES, SECONDS, Trouble, behind, producer, until, worker
from proofs.production import Production

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CONFIG = f"""
[worker]
{FINE}
producer = "recorder"
url = "{{url}}"

[folder]
path = "{{path}}"
settle_s = 0.1
poll_s = 0.05
"""


def test_each_sample_in_a_dropped_file_is_there_once_whatever_is_killed_restarted_and_cut(
    plant_database: Database, serve: Serve, tmp_path: Path
) -> None:
    server = serve(dsn=plant_database.proxied_dsn)
    folder = tmp_path / "dropped"
    folder.mkdir()
    production = Production("folder", SAMPLES)
    with (
        behind(server) as (network, url),
        worker("folder", CONFIG.format(url=url, path=folder), tmp_path / "worker") as taking,
        producer("folder_producer", tmp_path / "producer.log", folder, "folder", SAMPLES, SECONDS) as dropping,
    ):
        trouble = Trouble(plant_database, SAMPLES)
        trouble.with_database_restarts()
        trouble.with_network_cuts(network, plant_database.network)
        trouble.with_server_kills(server)
        trouble.happens("worker killed", lambda _: taking.kill_and_start())

        def check() -> None:
            assert dropping.code in (None, 0), dropping.log
            assert taking.code is None, taking.log
            assert server.alive

        trouble.run(check, deadline_s=600)
        assert dropping.wait() == 0
        assert taking.stop() == 0
        # a worker that is started once more has nothing left to do but to move what was settled last
        taking.start()
        until(lambda: not list(folder.glob("part-*")), 60)
    print(trouble.story())
    assert_exactly_once(plant_database, production)
    assert sorted(path.name for path in (folder / "done").iterdir()) == [name(n) for n in sorted(range(files(production)), key=name)]
    assert not (folder / "failed").exists() or not list((folder / "failed").iterdir())
