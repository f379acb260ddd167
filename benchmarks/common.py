"""What the benchmarks share: a database, samples as a plant gives them, and figures as medians of interleaved rounds."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import numpy as np
import orjson
import psycopg

from historian.embedded import EmbeddedDatabase
from historian.schema.migrate import status, upgrade
from historian.schema.samples import Samples

START = 1_767_225_600_000_000  # 2026-01-01, µs
SECOND = 1_000_000


def arguments(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--dsn", default=os.environ.get("HISTORIAN_TEST_DSN"), help="a server on which databases may be created; default: an embedded one"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of each way, in turn; figures are medians")
    return parser


@contextmanager
def server(dsn: str | None) -> Iterator[str]:
    """A server: the one given, or an embedded PostgreSQL as `historian serve` tunes it, in a directory that is removed afterwards."""
    if dsn:
        yield dsn
        return
    with tempfile.TemporaryDirectory(prefix="historian-bench-") as directory:
        Path(directory).chmod(0o711)
        embedded = EmbeddedDatabase(Path(directory) / "data")
        embedded.start()
        try:
            yield embedded.dsn
        finally:
            embedded.stop()


@asynccontextmanager
async def database(dsn: str, name: str = f"historian_bench_{Path(sys.argv[0]).stem}", *, quiet: bool = False) -> AsyncIterator[str]:
    """A fresh database with our schema, whose background jobs rest; dropped afterwards. Prints what it runs on, unless `quiet`."""
    admin = await asyncpg.connect(dsn)
    try:
        await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await admin.execute(f"CREATE DATABASE {name}")
        made = urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))
        await asyncio.to_thread(upgrade, made)
        now = status(made)
        if now.engine == "timescale":
            # refreshes and conversions take a core at times of their own choosing; benchmarks/storage.py says what they cost
            with psycopg.connect(made, autocommit=True) as conn:
                conn.execute(
                    "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs WHERE proc_name LIKE 'policy_%' OR proc_schema = 'historian'"
                )
        engine = f"TimescaleDB {now.extension_version}" if now.engine == "timescale" else "plain"
        if not quiet:
            print(f"PostgreSQL {now.server_version}, {engine}; Python {platform.python_version()}, {os.cpu_count()} cores\n")
        yield made
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@asynccontextmanager
async def server_process(dsn: str, **environment: str) -> AsyncIterator[tuple[str, int]]:
    """`historian serve` in a process of its own: its address and process id. `environment`: HISTORIAN_… settings."""
    with tempfile.TemporaryDirectory() as directory:
        ready = Path(directory) / "ready.json"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "historian", "serve", "--dsn", dsn, "--port", "0", "--ready-file", str(ready)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=os.environ | environment,
        )
        try:
            while not ready.exists():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.05)
            yield orjson.loads(ready.read_bytes())["url"], process.pid
        finally:
            process.terminate()
            await process.wait()


def make_tags(dsn: str, count: int) -> np.ndarray:
    """`count` float tags; their ids, ascending."""
    with psycopg.connect(dsn) as conn:
        conn.execute(
            "INSERT INTO historian.tag (path, kind, step) SELECT 'bench/t' || n, 'float', false FROM generate_series(1, %s) AS n", (count,)
        )
        conn.execute("INSERT INTO historian.snapshot (tag_id) SELECT tag_id FROM historian.tag ON CONFLICT DO NOTHING")
        return np.array([row[0] for row in conn.execute("SELECT tag_id FROM historian.tag ORDER BY tag_id")], np.int32)


def plant(tags: np.ndarray, seconds: int, first: int = 0, *, seed: int = 0) -> Samples:
    """A sample a second of every tag, from second `first` on: random walks with two decimals, in the order in which they come (by time, then by tag)."""
    rng = np.random.default_rng(seed + first)
    walk = np.round(50 + np.cumsum(rng.normal(0, 0.05, (seconds, len(tags))), axis=0), 2)
    ts = START + (first + np.arange(seconds, dtype=np.int64)) * SECOND
    return Samples(np.tile(tags, seconds), np.repeat(ts, len(tags)), walk.ravel(), np.full(walk.size, 192, np.int16))


class Figures:
    """Rates (or other figures) of several ways, gathered over rounds; printed with their ratio to a reference."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._found: dict[str, list[float]] = {}

    def add(self, way: str, figure: float) -> None:
        self._found.setdefault(way, []).append(figure)

    def median(self, way: str) -> float:
        return statistics.median(self._found[way])

    def show(self, title: str, reference: str) -> None:
        print(f"{title}\n")
        width = max(map(len, self._found))
        base = self.median(reference)
        for way, figures in self._found.items():
            spread = f"{min(figures):,.0f} to {max(figures):,.0f}"
            print(
                f"  {way:<{width}}  {statistics.median(figures):>14,.0f} {self._unit}   {statistics.median(figures) / base:>7.2f} ×   ({spread})"
            )
        print()
