"""Who PostgreSQL runs as when we are root, and how that user reaches what is theirs. PostgreSQL refuses to run as root."""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

from historian.schema.errors import Unavailable

log = logging.getLogger(__name__)

#: made if need be
NAME = "historian"


def owner_or_service_user(path: Path) -> pwd.struct_passwd | None:
    """The owner of `path`, or the system user for services if it does not exist yet or is root's; None if we are not root. Raises Unavailable."""
    if os.geteuid() != 0:
        return None
    if path.exists() and (uid := path.stat().st_uid) != 0:
        try:
            return pwd.getpwuid(uid)
        except KeyError:
            raise Unavailable(f"{path} belongs to user {uid}, who does not exist on this machine; chown it to one who does") from None
    return service_user()


def service_user() -> pwd.struct_passwd:
    for attempt in (True, False):
        with suppress(KeyError):
            return pwd.getpwnam(NAME)
        useradd = shutil.which("useradd")
        if attempt and useradd:
            # fails if another process has just made it, and where /etc cannot be written
            command = [
                useradd,
                "--system",
                "--user-group",
                "--no-create-home",
                "--home-dir",
                "/nonexistent",
                "--shell",
                "/usr/sbin/nologin",
                NAME,
            ]
            subprocess.run(command, capture_output=True)  # noqa: S603
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise Unavailable(f"PostgreSQL cannot run as root: make a system user {NAME!r}, or run as another user") from None
    log.warning("no system user %r can be made: PostgreSQL runs as nobody", NAME)
    return nobody


def _may_enter(directory: os.stat_result, user: pwd.struct_passwd) -> bool:
    if directory.st_uid == user.pw_uid:
        return bool(directory.st_mode & stat.S_IXUSR)
    if directory.st_gid == user.pw_gid:
        return bool(directory.st_mode & stat.S_IXGRP)
    return bool(directory.st_mode & stat.S_IXOTH)


def let_through(path: Path, user: pwd.struct_passwd) -> None:
    """Let the user reach what is theirs: o+x, and no more, on the parents that stand in the way."""
    for parent in path.resolve().parents:
        found = parent.stat()
        if not _may_enter(found, user):
            log.warning("PostgreSQL runs as %s: letting it pass through %s (chmod o+x)", user.pw_name, parent)
            parent.chmod(stat.S_IMODE(found.st_mode) | (stat.S_IXGRP if found.st_gid == user.pw_gid else stat.S_IXOTH))


def give(path: Path, user: pwd.struct_passwd | None) -> None:
    """Make it that user's, and a directory reachable for them."""
    if user is not None:
        os.chown(path, user.pw_uid, user.pw_gid)
        if path.is_dir():
            let_through(path, user)
