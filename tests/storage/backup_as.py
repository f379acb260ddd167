"""Backs embedded databases up and brings them back, in directories that are named for who we are to be, one after the other: `backup_as.py DIRECTORY…`.

Says "the same" for each from which every bit came back.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import sys
from pathlib import Path

import plant

from historian.embedded import EmbeddedDatabase, wheel
from historian.schema import migrate
from historian.storage import restore
from historian.storage.backup import read_backup, take_backup


def ignored(_: object) -> None: ...


def become(name: str) -> None:
    if os.geteuid() == 0 and name != "root":
        user = pwd.getpwnam(name)
        wheel.make_readable(user)
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)


def back_and_forth(place: Path) -> None:
    embedded = EmbeddedDatabase(place / "data")
    embedded.start()
    try:
        asyncio.run(plant.write(embedded.dsn, range(2)))
        take_backup(embedded.dsn, place / "data", place / "backup", ignored, ignored)
        before = plant.stored(embedded.dsn)
    finally:
        embedded.stop()
    restored = restore.restore_backup(read_backup(place / "backup"), place / "new", ignored, ignored)
    restored.start()
    try:
        print("the same" if plant.stored(restored.dsn) == before else "another")
    finally:
        restored.stop()


if __name__ == "__main__":
    # the user who we become may have no right to read the library: what the first round has imported serves the second, and the migrations are read now
    known = migrate.migrations("plain")
    migrate.migrations = restore.migrations = lambda engine: known  # type: ignore[attr-defined]
    for directory in sys.argv[1:]:
        become(Path(directory).name)
        back_and_forth(Path(directory))
