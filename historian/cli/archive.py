"""`historian archive`: raw samples out of the database into Parquet files, and back."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

import typer

from historian.cli.db_place import database, directory_of, is_made
from historian.cli.interruptible import run_interruptible
from historian.cli.options import DataDir, Dsn

if TYPE_CHECKING:
    from historian.schema.connection import Pool

Result = TypeVar("Result")

#: exit code of `verify` when a file is missing or damaged
DAMAGED = 3

Place = Annotated[
    str | None,
    typer.Option(
        "--archive",
        envvar="HISTORIAN_ARCHIVE_DIR",
        show_envvar=True,
        metavar="DIR|URI",
        help="A directory, or a URI as s3://bucket/plant. Default: where the archive of this database is.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="As one JSON object.")]

app = typer.Typer(
    help="Move expired raw samples into Parquet files, and bring them back; queries read both as one.",
    no_args_is_help=True,
    epilog=(
        "What is archived, and when, says: historian retention.   ·   "
        "Exit codes: 0 done, 1 failed, 2 wrong usage; of verify: 3 if a file is missing or damaged"
    ),
)

RUN_EPILOG = """[bold]Examples[/bold]

historian archive run --archive /srv/archive     the first time; where it is, is then known

historian archive run --dsn postgresql://historian@db.example/plant --archive s3://bucket/plant

17 3 * * *  historian archive run --data-dir /srv/historian     in a crontab

Killed at any instant, it leaves nothing lost and nothing twice; the next run goes on. A server that has HISTORIAN_ARCHIVE_DIR does this by itself, every hour.
"""
RESTORE_EPILOG = """[bold]Examples[/bold]

historian archive restore --from 2025-01-01 --to 2025-02-01

historian archive restore --match 'site/line1/#' --from 2025-01-01 --keep 90

Whole days come back. Interrupted, and run again, it brings what is missing. --keep says for how many days they are not archived again.
"""


@app.command("run", epilog=RUN_EPILOG)
def run(archive: Place = None, dsn: Dsn = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Archive, and remove from the database, the raw samples that have expired; remove what else has."""
    from historian.storage.archive import Archiver, Pack

    with Bars() as bars:

        async def work(pool: Pool) -> dict[str, Any]:
            def on_part(pack: Pack, rows: int) -> None:
                bars.show(f"{_day(pack.lo)} {pack.group}", rows, pack.rows)

            report = await Archiver(pool, archive, on_part=on_part).run()
            return {name: getattr(report, name) for name in report.__slots__}

        done = _on(dsn, data_dir, work)
    if json:
        _dump(done)
        return
    typer.echo(
        f"{done['rows']:,} samples archived in {done['files']:,} files, {_size(done['bytes'])}; {done['deleted']:,} deleted; {done['buckets']:,} buckets deleted;"
        f" {done['dropped']:,} chunks or partitions dropped"
    )
    if done["late"]:
        typer.echo(f"{done['late']:,} stretches of late samples were taken into rollups")
    if done["cleaned"]:
        typer.echo(f"{done['cleaned']:,} files that an earlier run had left behind were deleted")
    if done["waits"]:
        typer.echo("the rollups of what has expired last are not made yet: the next run goes on with it", err=True)
    if done["unarchived"]:
        typer.echo(f"nowhere to archive {', '.join(done['unarchived'])}: give --archive", err=True)


@app.command("list", epilog="Examples: historian archive list   ·   historian archive list --json | jq .rows")
def show(dsn: Dsn = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Show the files of the archive."""
    from historian.storage.archive_restore import parts, place

    async def work(pool: Pool) -> tuple[str | None, list[Any]]:
        return await place(pool), await parts(pool)

    where, found = _on(dsn, data_dir, work)
    rows, size = sum(part.rows for part in found), sum(part.bytes for part in found)
    if json:
        files = [{name: getattr(part, name) for name in part.__slots__} | {"from": _day(part.lo), "to": _day(part.hi)} for part in found]
        _dump({"archive": where, "rows": rows, "bytes": size, "files": files})
        return
    if not found:
        typer.echo("nothing is archived" + (f" in {where}" if where else "; historian retention says what is to be"))
        return
    typer.echo(f"{where}: {rows:,} samples in {len(found):,} files, {_size(size)}, {size / max(rows, 1):.2f} bytes a sample")
    typer.echo(f"{'from':<12}{'to':<12}{'group':<16}{'tags':>8}{'samples':>16}{'size':>12}  file")
    for part in found:
        note = f" ({part.restored} tags restored)" if part.restored else ""
        typer.echo(
            f"{_day(part.lo):<12}{_day(part.hi):<12}{part.group:<16}{part.tags:>8,}{part.rows:>16,}{_size(part.bytes):>12}  {part.file}{note}"
        )


@app.command("verify", epilog="Examples: historian archive verify   ·   historian archive verify --archive /mnt/copy-of-the-archive")
def verify(archive: Place = None, dsn: Dsn = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Read every file of the archive and compare it with what was written: size, SHA-256, rows, content."""
    from historian.query.archive import store_at
    from historian.schema.errors import BadInput
    from historian.storage.archive_restore import parts, place
    from historian.storage.archive_restore import verify as check

    with Bars() as bars:

        async def work(pool: Pool) -> tuple[int, dict[str, str]]:
            where = archive or await place(pool)
            found = await parts(pool)
            if where is None:
                raise BadInput("this database has no archive; historian archive run --archive DIR makes one")
            store, faults, done = store_at(where), {}, 0
            total = sum(part.bytes for part in found)
            for part in found:
                fault = await asyncio.to_thread(check, store, part)
                done += part.bytes
                bars.show("verifying", done, total)
                if fault is not None:
                    faults[part.file] = fault
            return len(found), faults

        count, faults = _on(dsn, data_dir, work)
    if json:
        _dump({"files": count, "faults": faults})
    else:
        for file, fault in faults.items():
            typer.echo(fault if file in fault else f"archive file {file} {fault}")
        typer.echo(f"{count - len(faults):,} of {count:,} files are as they were written")
    if faults:
        raise typer.Exit(DAMAGED)


@app.command("restore", epilog=RESTORE_EPILOG)
def restore(
    from_: Annotated[str | None, typer.Option("--from", metavar="TIME", help="From that day on.", show_default="the first")] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Until that time, exclusive.", show_default="the last")] = None,
    match: Annotated[
        list[str] | None, typer.Option("--match", metavar="PATTERN", help="Of these tags alone: paths and wildcards. Repeatable.")
    ] = None,
    keep: Annotated[int, typer.Option("--keep", min=0, max=100_000, metavar="DAYS", help="Not archived again for so many days.")] = 30,
    archive: Place = None,
    dsn: Dsn = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Bring samples back from the archive into the database."""
    from historian.query.times import parse_time
    from historian.schema.catalogue import Catalogue
    from historian.storage.archive_restore import restore as bring_back

    now = time.time_ns() // 1000
    start = parse_time(from_, now) if from_ is not None else -(2**53)
    end = parse_time(to, now) if to is not None else 2**53
    with Bars() as bars:

        async def work(pool: Pool) -> dict[str, Any]:
            tag_ids = None
            if match:
                tag_ids = [tag.tag_id for tag in await Catalogue(pool).resolve(match)]
            found = await bring_back(
                pool,
                uri=archive,
                start=start,
                end=end,
                tag_ids=tag_ids,
                keep_days=keep,
                on_rows=lambda file, done, total: bars.show(file.rpartition("/")[2][:17], done, total),
            )
            return {name: getattr(found, name) for name in found.__slots__}

        done = _on(dsn, data_dir, work)
    if json:
        _dump(done)
        return
    stood = f"; {done['stood']:,} had been corrected since, and stay" if done["stood"] else ""
    typer.echo(f"{done['rows']:,} samples restored{stood}; {done['files']:,} files are no longer part of the archive")
    typer.echo(f"they are not archived again for {keep} days")


class Bars:
    """A bar on a terminal, on stderr; nothing elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task: Any = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._progress.stop()

    def show(self, what: str, done: int, total: int) -> None:
        if self._task is None:
            self._task = self._progress.add_task(what, total=total)
        self._progress.update(self._task, description=what, completed=done, total=max(done, total))


@asynccontextmanager
async def _pool(dsn: str) -> AsyncIterator[Pool]:
    from historian.schema.connection import open_pool

    pool = await open_pool(dsn, size=4, name="historian archive")
    try:
        yield pool
    finally:
        pool.terminate()


def _on(dsn: str | None, data_dir: Path | None, work: Callable[[Pool], Awaitable[Result]]) -> Result:
    """Do it on the database, whose schema is to be current."""
    from historian.schema.errors import SchemaError
    from historian.schema.migrate import require_current

    async def connected(dsn: str) -> Result:
        async with _pool(dsn) as pool:
            return await work(pool)

    if dsn is None and not is_made(directory_of(data_dir)):
        raise SchemaError(f"there is no database in {directory_of(data_dir)}; run: historian db init")
    with database(dsn, data_dir) as where:
        require_current(where.dsn)
        return run_interruptible(connected(where.dsn))


def _dump(document: Any) -> None:
    import orjson

    typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())


def _day(us: int) -> str:
    from datetime import UTC, datetime, timedelta

    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us):%Y-%m-%d}"


def _size(size_bytes: int) -> str:
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:,.1f} {unit}"
    return f"{size_bytes / 1e3:,.1f} kB"
