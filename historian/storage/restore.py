"""A backup brought back into a new data directory. The backup is checked first and stays as it is; the database appears whole, or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from historian.embedded import EmbeddedDatabase, wheel
from historian.schema.errors import Conflict, SchemaError, Unavailable
from historian.schema.migrate import migrations
from historian.storage import backup_tools
from historian.storage.backup import Backup, OnPhase

_CHUNK = 8 << 20
#: what pg_verifybackup needs, and PostgreSQL does not
_LEFT_OUT = "backup_manifest"


def restore_backup(backup: Backup, data_dir: Path, on_phase: OnPhase, fraction: backup_tools.Fraction) -> EmbeddedDatabase:
    """Make an embedded database of a backup, in a directory that is empty or not there yet. Returns it, not started.

    Raises Conflict for a directory with anything in it, SchemaError for a backup that this program cannot run, DamagedBackup, Unavailable.
    """
    refuse_occupied(data_dir)
    major = backup.postgres.split(".")[0]
    if major != wheel.major():
        raise SchemaError(
            f"the backup is of PostgreSQL {major} and this program brings PostgreSQL {wheel.major()}: "
            f"restore it with historian {backup.historian}, which made it"
        )
    known = len(migrations("plain"))
    if backup.schema_version > known:
        raise SchemaError(f"the backup has schema version {backup.schema_version}, this program knows {known}: install a newer historian")
    on_phase("Checking")
    backup_tools.verify(backup.pgdata, fraction)
    on_phase("Copying")
    embedded = EmbeddedDatabase(data_dir)
    embedded.install(lambda place: _copy(backup.pgdata, place, fraction))
    return embedded


def refuse_occupied(data_dir: Path) -> None:
    """Raises Conflict if there is anything in the directory."""
    try:
        # a lock alone is what a command leaves that was refused
        found = sorted(path.name for path in data_dir.iterdir() if path.name != "historian.lock") if data_dir.exists() else []
    except NotADirectoryError:
        raise Conflict(f"{data_dir} is a file; give a new directory with --data-dir") from None
    except PermissionError:
        raise Unavailable(f"no right to look into {data_dir}; run as its owner, or give another --data-dir") from None
    if found:
        what = "a database" if "pgdata" in found else f"{found[0]!r}"
        raise Conflict(
            f"{data_dir} has {what} in it, and nothing is written over: give a new directory with --data-dir, or move that one away"
        )


def _copy(source: Path, place: Path, fraction: backup_tools.Fraction) -> None:
    """All files, on disk when it returns; only their owner may read them."""
    files = [path for path in source.rglob("*") if path.is_file() and path.name != _LEFT_OUT]
    total = sum(path.stat().st_size for path in files) or 1
    free = shutil.disk_usage(place).free
    if free < total:
        raise Unavailable(f"no space left in {place.parent}: {free >> 20} MB are free, {(total >> 20) + 1} MB are needed")
    directories = [place]
    for path in source.rglob("*"):
        if path.is_dir():
            directories.append(place / path.relative_to(source))
            directories[-1].mkdir(mode=0o700)
    done = 0
    for path in files:
        target = place / path.relative_to(source)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with path.open("rb") as reading, os.fdopen(descriptor, "wb") as writing:
            while chunk := reading.read(_CHUNK):
                writing.write(chunk)
                done += len(chunk)
                fraction(done / total)
            writing.flush()
            os.fsync(writing.fileno())
    for directory in directories:
        held = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(held)
        finally:
            os.close(held)
