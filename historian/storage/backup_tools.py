"""PostgreSQL's own programs for backups, run to their end, with how far they are."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from historian.embedded import wheel
from historian.schema.errors import HistorianError, Unavailable

Fraction = Callable[[float], None]

_PROGRESS = re.compile(r"(\d+)/(\d+) kB \(")
_STOP_S = 10.0


class DamagedBackup(HistorianError):
    """A backup is not what was backed up. `files` are those at fault, as far as one can name them."""

    def __init__(self, detail: str, files: tuple[str, ...] = ()) -> None:
        self.files = files
        super().__init__(detail)


def take(dsn: str, into: Path, label: str, fraction: Fraction) -> None:
    """Copy a running server's data directory, and the WAL that makes it whole, into a new directory; on disk when it returns. Raises Unavailable."""
    said = _run(
        "pg_basebackup",
        [
            f"--dbname={dsn}",
            f"--pgdata={into}",
            "--format=plain",
            "--wal-method=stream",
            # now, and not over the next minutes
            "--checkpoint=fast",
            "--manifest-checksums=SHA256",
            f"--label={label}",
            "--no-password",
            "--progress",
        ],
        fraction,
    )
    if said is not None:
        reason = next((line for line in reversed(said) if "error:" in line or "FATAL" in line), said[-1] if said else "it gave no reason")
        raise Unavailable(f"the backup failed, and nothing of it is kept: {_message(reason)}")


def verify(pgdata: Path, fraction: Fraction) -> None:
    """Check each file against the manifest, and that the WAL can be read. Raises DamagedBackup, which names the files."""
    said = _run("pg_verifybackup", ["--progress", str(pgdata)], fraction)
    if said is None:
        return
    faults = [_message(line) for line in said if "error:" in line]
    files = tuple(match[1] for fault in faults if (match := re.search(r'"([^"]+)"', fault)))
    more = f" (and {len(faults) - 3} more faults)" if len(faults) > 3 else ""
    raise DamagedBackup(f"the backup in {pgdata.parent} is damaged: {'; '.join(faults[:3]) or 'it cannot be read'}{more}", files)


def _run(name: str, arguments: list[str], fraction: Fraction) -> list[str] | None:
    """What it said, if it failed; None if it did not."""
    program = wheel.program(name)
    if not Path(program).exists():
        raise Unavailable(f"this build of PostgreSQL comes without {name}; install historian on a platform whose wheel has it")
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_", "LANG"))} | {"LC_ALL": "C"}
    said: list[str] = []
    # a session of its own: Ctrl-C is for us, and we end it in order. Universal newlines: its progress comes with carriage returns
    process = subprocess.Popen(  # noqa: S603
        [program, *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            match = _PROGRESS.search(line)
            if match is not None:
                fraction(min(1.0, int(match[1]) / max(1, int(match[2]))))
            elif line.strip():
                said.append(line.strip())
        return said if process.wait() else None
    finally:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _message(line: str) -> str:
    return re.sub(r"^\w+: error: ", "", line)
