"""Fixtures: a real PostgreSQL for all tests, a fresh database for each, and servers in this process or in their own.

HISTORIAN_TEST_DSN names a server to use (its role may create databases); without it an embedded PostgreSQL is started, and both engines are tested by
running the suite twice. See tests/README.md.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
# `python -m pytest` puts the repository on the path, where historian/ is only a part of the package: ingest, query and schema are mapped in by installing
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
TEST_DSN = os.environ.pop("HISTORIAN_TEST_DSN", None)
#: whether tests get their `database` as a role that can neither drop, alter, truncate nor create
RESTRICTED = os.environ.pop("HISTORIAN_TEST_RESTRICTED", "") not in ("", "0")
# processes by the hundred import the package, which takes half of the time where each of them compiles it anew
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# settings of the person who runs the tests
for _name in [name for name in os.environ if name.startswith("HISTORIAN_")]:
    del os.environ[_name]

try:
    import historian.schema  # noqa: F401
except ImportError as error:
    pytest.exit(f"historian is not installed ({error}); run: pip install -e '.[test]'", returncode=4)

import psycopg  # noqa: E402
from databases import as_server_role, drop_database, with_database  # noqa: E402
from processes import Serve, ServerProcess  # noqa: E402
from psycopg import sql  # noqa: E402

if TYPE_CHECKING:
    from historian.schema.catalogue import Catalogue
    from historian.schema.connection import Pool
    from historian.schema.engine import Engine
    from historian.server.run import Server

#: nobody pulls the plug on a test's database
FAST = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "512MB", "shared_buffers": "128MB"}

_numbers = itertools.count()


@pytest.fixture(scope="session")
def short_tmp() -> Iterator[Path]:
    """A directory for the session with a short name, that every user may pass through: PostgreSQL runs in it, for root as another user."""
    path = Path(tempfile.mkdtemp(prefix="historian-tests-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(short_tmp: Path) -> Iterator[str]:
    """DSN of a server on which this role may create databases."""
    if TEST_DSN:
        yield TEST_DSN
        return
    from historian.embedded import EmbeddedDatabase

    embedded = EmbeddedDatabase(short_tmp / "session", settings=FAST)
    embedded.start()
    yield embedded.dsn
    embedded.stop()


@pytest.fixture(scope="session")
def engine(postgres: str) -> Engine:
    """The engine that databases on this server get."""
    with psycopg.connect(postgres) as conn:
        found = conn.execute("SELECT FROM pg_available_extensions WHERE name = 'timescaledb'").fetchone()
    return "plain" if found is None else "timescale"


@pytest.fixture
def another_database(postgres: str) -> Iterator[Callable[..., str]]:
    """Makes a database, any number of them; returns its DSN. Without our schema, unless it is named as the `template`. They are dropped after the test."""
    names: list[str] = []

    def make(template: str = "template1") -> str:
        names.append(f"historian_test_{os.getpid()}_{next(_numbers)}")
        with psycopg.connect(postgres, autocommit=True) as conn:
            conn.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(names[-1]), sql.Identifier(template)))
        return with_database(postgres, names[-1])

    yield make
    for name in names:
        drop_database(postgres, name)


@pytest.fixture
def empty_database(another_database: Callable[..., str]) -> str:
    """DSN of a database of this test's own, without our schema."""
    return another_database()


@pytest.fixture(scope="session")
def template(postgres: str, engine: Engine) -> Iterator[str | None]:
    """The name of a database with our schema to copy from: 45 ms, where migrating takes 280. None on TimescaleDB, whose workers are connected to each
    database that has the extension, so that it cannot be copied."""
    if engine == "timescale":
        yield None
        return
    from historian.schema.migrate import upgrade

    name = f"historian_test_{os.getpid()}_template"
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        upgrade(with_database(postgres, name))
        yield name
    finally:
        drop_database(postgres, name)


@pytest.fixture
def database_as_owner(another_database: Callable[..., str], template: str | None) -> str:
    """DSN of `database` for the role that owns it, and so may drop, alter and truncate."""
    if template is not None:
        return another_database(template)
    from historian.schema.migrate import upgrade

    made = another_database()
    upgrade(made)
    return made


@pytest.fixture
def database(database_as_owner: str) -> str:
    """DSN of a database of this test's own, with our schema."""
    return as_server_role(database_as_owner) if RESTRICTED else database_as_owner


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """An asyncpg pool on `database`."""
    from historian.schema.connection import open_pool

    opened = await open_pool(database, size=8, name="historian tests")
    yield opened
    opened.terminate()


@pytest.fixture
async def catalogue(pool: Pool) -> Catalogue:
    """The catalogue of `database`."""
    from historian.schema.catalogue import Catalogue

    made = Catalogue(pool)
    await made.refresh()
    return made


@pytest.fixture
async def server(database: str) -> AsyncIterator[Server]:
    """A server in this process, on `database`: `server.url`, `server.services`. For other settings use `historian.server.run.serving` itself."""
    from historian.server.run import serving
    from historian.settings import Settings

    async with serving(database, Settings(port=0)) as running:
        yield running


@pytest.fixture
def serve(database: str, tmp_path: Path) -> Iterator[Serve]:
    """Factory of server processes: `serve()`, `serve("--host", "::1")`, `serve(data_dir=…)`. They are stopped after the test."""
    started: list[ServerProcess] = []

    def start(*options: str, dsn: str | None = None, data_dir: Path | None = None, env: dict[str, str] | None = None) -> ServerProcess:
        where = ["--data-dir", os.fspath(data_dir)] if data_dir is not None else ["--dsn", dsn or database]
        server = ServerProcess(["serve", *where, *options], tmp_path / f"server-{len(started)}", env=env)
        started.append(server)
        return server

    yield start
    for server in started:
        try:
            if server.alive:
                server.stop()
        finally:
            server.kill()
            # shown with the report of a test that failed
            print(f"--- log of server {server.url}\n{server.log}")


@pytest.fixture(scope="session")
def demo_server(short_tmp: Path) -> Iterator[ServerProcess]:
    """`historian demo`, one for the whole session: `demo_server.url`."""
    server = ServerProcess(["demo", "--no-browser", "--data-dir", short_tmp / "demo"], short_tmp / "demo-server")
    yield server
    try:
        server.stop()
    finally:
        server.kill()
        print(f"--- log of the demo\n{server.log}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[None]:
    """Show the log of the demo with a test that failed on it: the demo ends much later."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed and call.when == "call":
        demo = getattr(item, "funcargs", {}).get("demo_server")
        if demo is not None:
            report.sections.append(("log of the demo", demo.log[-20_000:]))
