"""Fixtures of the proofs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from proofs.databases import Database, given_database, own_database


@pytest.fixture
def plant_database(request: pytest.FixtureRequest, short_tmp: Path) -> Iterator[Database]:
    """A database of this test's own, behind a network that can be cut; with HISTORIAN_TEST_DSN on that server, which is not restarted."""
    given = [plugin.TEST_DSN for plugin in request.config.pluginmanager.get_plugins() if hasattr(plugin, "TEST_DSN")]
    if given[0]:
        with given_database(request.getfixturevalue("database")) as database:
            yield database
        return
    with own_database(short_tmp / request.node.name[:40]) as database:
        yield database
