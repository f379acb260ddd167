"""Backups of the embedded database: taken while it runs, whole or not at all, and checked.

A backup is a directory of its own:

    historian-backup.json   when it was taken, of what, by which versions; without it, it is none
    pgdata/                 PostgreSQL's data directory as pg_basebackup copied it, with the WAL that makes it consistent and a manifest of SHA-256 sums

It is made under another name, beside its place, and gets its own when everything is checked and on disk. What an interrupted backup leaves is removed by the
next one there. Every sample that was acknowledged before the backup began is in it, and none by halves.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson
import psycopg

from historian import __version__
from historian.embedded import wheel
from historian.schema.errors import BadInput, Conflict, SchemaError, Unavailable
from historian.schema.migrate import status
from historian.storage import backup_tools

OnPhase = Callable[[str], None]

DESCRIPTION = "historian-backup.json"
_FORMAT = 1
_UNFINISHED = ".unfinished-"
_MB = 1 << 20
#: WAL that is written meanwhile, and room to breathe
_ROOM = 200 * _MB


@dataclass(frozen=True, slots=True)
class Backup:
    """What the file beside a backup says of it. Times are RFC 3339, UTC."""

    path: Path
    started_at: str
    ended_at: str
    historian: str
    postgres: str
    schema_version: int
    size_bytes: int
    tags: int
    source: str

    @property
    def pgdata(self) -> Path:
        return self.path / "pgdata"


def take_backup(dsn: str, source: Path, to: Path, on_phase: OnPhase, fraction: backup_tools.Fraction) -> Backup:
    """Back up the embedded database that runs at `dsn`. `to` is the new backup, or a directory in which it gets the name of its time.

    Raises Conflict for a place where something is, SchemaError for a database without a schema, Unavailable where there is no room; DamagedBackup if what was
    written reads otherwise.
    """
    place = place_for(to, source)
    schema = status(dsn)
    if schema.version is None:
        raise SchemaError(f"there is no schema in {source} to back up")
    tags, size = _contents(dsn)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(place.parent).free
        if free < size + _ROOM:
            raise Unavailable(
                f"no space left for a backup in {place.parent}: {free // _MB} MB are free, about {(size + _ROOM) // _MB} MB are needed"
            )
        with _unfinished(place) as made:
            started = _now()
            on_phase("Copying")
            backup_tools.take(dsn, made / "pgdata", f"historian {place.name}", fraction)
            on_phase("Checking")
            backup_tools.verify(made / "pgdata", fraction)
            files = [path for path in made.rglob("*") if path.is_file()]
            backup = Backup(
                place,
                started,
                _now(),
                __version__,
                wheel.version(),
                schema.version,
                sum(f.stat().st_size for f in files),
                tags,
                str(source),
            )
            _write(made / DESCRIPTION, backup)
            if place.exists():
                raise Conflict(f"{place} has come to be meanwhile; the backup was not put over it")
            made.rename(place)
            _sync(place.parent)
            return backup
    except OSError as error:
        raise Unavailable(f"a backup cannot be written to {place}: {error.strerror}") from error


def read_backup(path: Path) -> Backup:
    """The backup in this directory. Raises BadInput, saying what is there instead."""
    try:
        document = orjson.loads((path / DESCRIPTION).read_bytes())
        if document.pop("format") != _FORMAT:
            raise BadInput(f"the backup in {path} was made by a newer historian; install that one to restore it")
        return Backup(path=path, **document)
    except (KeyError, TypeError, AttributeError, orjson.JSONDecodeError):
        raise BadInput(f"{path / DESCRIPTION} cannot be read: it is damaged, or not of a backup") from None
    except PermissionError:
        raise Unavailable(f"no right to read {path}: run as the user who made the backup") from None
    except OSError:
        raise BadInput(_what_else(path)) from None


def list_backups(directory: Path) -> list[Backup]:
    """The backups in a directory, oldest first. Raises BadInput where there is none such."""
    if not directory.is_dir():
        raise BadInput(f"{directory} is no directory")
    found = []
    for path in sorted(directory.iterdir()):
        if (path / DESCRIPTION).exists() and _UNFINISHED not in path.name:
            with suppress(BadInput):
                found.append(read_backup(path))
    return sorted(found, key=lambda backup: backup.started_at)


def _what_else(path: Path) -> str:
    if not path.exists():
        return f"there is no {path}"
    if path.is_file():
        return f"{path} is a file; a backup is a directory, as historian db backup makes it"
    inside = list_backups(path)
    if inside:
        return f"{path} has {len(inside)} backup{'s' * (len(inside) > 1)} in it; name one of them, the newest is {inside[-1].path}"
    if _UNFINISHED in path.name:
        return f"{path} is what an interrupted backup left; it cannot be restored"
    if (path / "PG_VERSION").exists() or (path / "pgdata").exists():
        return f"{path} is a data directory, not a backup"
    return f"{path} is no backup: it has no {DESCRIPTION}"


def place_for(to: Path, source: Path) -> Path:
    """Where a backup of the database in `source` will be: `to`, or in it by the name of its time. Raises Conflict."""
    if (to / DESCRIPTION).exists():
        raise Conflict(f"{to} is a backup already, and is not written over; give another name, or the directory that it is in")
    if to.is_file():
        raise Conflict(f"{to} is a file; give a new directory, or one that has backups in it")
    if (source / "pgdata").resolve() in (to.resolve(), *to.resolve().parents) or to.resolve() == source.resolve():
        raise Conflict(f"{to} is in the database itself; give a place elsewhere, best on another disk")
    if not to.is_dir():
        return to
    name = f"historian-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    place = to / name
    number = 1
    while place.exists():
        number += 1
        place = to / f"{name}-{number}"
    return place


@contextmanager
def _unfinished(place: Path) -> Iterator[Path]:
    """A directory beside the backup's place, which is gone after the context unless it was renamed."""
    for left in place.parent.glob(f".*{_UNFINISHED}*"):
        if left.is_dir() and (held := _lock(left)) is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(held)
    made = Path(tempfile.mkdtemp(prefix=f".{place.name}{_UNFINISHED}", dir=place.parent))
    # others see by it that this one is still at work, whatever way it ends
    held = _lock(made)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        if held is not None:
            os.close(held)


def _lock(directory: Path) -> int | None:
    """None if another process has it."""
    held = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        return None
    return held


def _contents(dsn: str) -> tuple[int, int]:
    """Tags, and bytes of all databases of the server."""
    try:
        with psycopg.connect(dsn, connect_timeout=15, application_name="historian db backup") as conn:
            row = conn.execute(
                "SELECT (SELECT count(*) FROM historian.tag), (SELECT sum(pg_database_size(oid)) FROM pg_database)::int8"
            ).fetchone()
    except psycopg.Error as error:
        raise Unavailable(f"the database does not answer: {str(error).strip().splitlines()[0]}") from error
    assert row is not None
    return int(row[0]), int(row[1])


def _write(path: Path, backup: Backup) -> None:
    document = {"format": _FORMAT, **{name: value for name, value in asdict(backup).items() if name != "path"}}
    with path.open("wb") as file:
        file.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        file.flush()
        os.fsync(file.fileno())
    _sync(path.parent)


def _sync(directory: Path) -> None:
    held = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(held)
    finally:
        os.close(held)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
