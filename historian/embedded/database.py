"""The embedded database: a PostgreSQL server that this program makes, tunes, starts, watches over and stops, in a directory that the user owns.

Promise. What PostgreSQL acknowledged is there after `kill -9` of this process, of PostgreSQL, or of both. One process at a time has the directory; it
holds a lock on it, which the operating system releases whatever way the process ends. PostgreSQL outlives a process that is killed, so that nothing is
recovered in vain: the next owner takes it over. `stop()` stops PostgreSQL first and lets the directory go after that.

    data_dir/
        historian.lock      held by the owner, with its process id in it
        pgdata/             PostgreSQL's data directory; it appears whole, or not at all
        log/                PostgreSQL's log of the last seven days; what it said when it started
        run/                its Unix socket; it listens on nothing else

PostgreSQL refuses to run as root: for root it runs as the owner of the directory, or, if that is root too, as the system user `historian`, who is made if
need be.
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
from pathlib import Path
from typing import Any
from urllib.parse import quote

import platformdirs
import psutil
import psycopg
from psycopg import sql

from historian.embedded import wheel
from historian.embedded.postmaster import Postmaster, belongs
from historian.embedded.system_user import give, let_through, owner_or_service_user
from historian.embedded.tuning import memory_bytes, tuning
from historian.schema.errors import Conflict, HistorianError, SchemaError, Unavailable

log = logging.getLogger(__name__)

OnStep = Callable[[str], None]

#: the superuser and the database that the historian uses in its own server
USER = DATABASE = "historian"
#: part of the socket's name only: nothing listens on it
PORT = 5432

#: a cluster that is being made
_FRESH = "pgdata.initdb-"

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
        found = Postmaster.read(data_dir.expanduser().resolve() / "pgdata")
        return _dsn(found.socket_dir, DATABASE) if found is not None and found.ready and found.alive() else None


def _dsn(socket_dir: Path, database: str) -> str:
    # the port too, or PGPORT in the environment would win
    return f"postgresql://{USER}@/{database}?host={quote(str(socket_dir), safe='/')}&port={PORT}"


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

    def install(self, fill: Callable[[Path], None]) -> None:
        """Take for a cluster what `fill` puts into the empty directory that it is given: a backup. It appears whole, or not at all, and is not started.

        Raises Conflict if there is a cluster already or another process has the directory, Unavailable, and what `fill` raises.
        """
        with self._switch, _explained(self.data_dir):
            self._lock()
            try:
                if self.pgdata.exists():
                    raise Conflict(f"there is a database in {self.data_dir} already")
                user = self._user()
                fresh = Path(tempfile.mkdtemp(prefix=_FRESH, dir=self.data_dir))
                try:
                    fill(fresh)
                    if user is not None:
                        for path in fresh.rglob("*"):
                            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
                    give(fresh, user)
                    fresh.rename(self.pgdata)
                    _sync(self.data_dir)
                except BaseException:
                    shutil.rmtree(fresh, ignore_errors=True)
                    raise
            finally:
                self._unlock()

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
        for remains in self.data_dir.glob(f"{_FRESH}*"):
            shutil.rmtree(remains, ignore_errors=True)
        if self.pgdata.is_dir() and not any(self.pgdata.iterdir()):
            self.pgdata.rmdir()
        if not self.pgdata.exists():
            self._initdb(on_step)
        try:
            made_by = (self.pgdata / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            raise SchemaError(f"{self.pgdata} has files in it but no database; move them away, or give another --data-dir") from None
        ours = wheel.major()
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
        fresh = Path(tempfile.mkdtemp(prefix=_FRESH, dir=self.data_dir))
        try:
            user = self._user()
            give(fresh, user)
            if user is not None:
                wheel.make_readable(user)
            command = [
                wheel.program("initdb"),
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
            give(fresh / "historian.conf", user)
            fresh.rename(self.pgdata)
            _sync(self.data_dir)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise

    def _own_dir(self, name: str, user: pwd.struct_passwd | None) -> Path:
        """A directory in `data_dir` that is the server's alone."""
        path = self.data_dir / name
        path.mkdir(mode=0o700, exist_ok=True)
        give(path, user)
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
        give(elsewhere, user)
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
            found = Postmaster.read(self.pgdata)
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
            orphans = [process for process in psutil.process_iter() if belongs(process, self.pgdata)]
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
            let_through(self.pgdata, user)
            wheel.make_readable(user)
        logs = self._own_dir("log", user)
        socket_dir = self._make_socket_dir(user)
        self._write_tuning(user)
        options = {"unix_socket_directories": f'"{socket_dir}"', "port": str(PORT), **self._settings}
        command = [wheel.program("postgres"), "-D", str(self.pgdata)]
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
            found = Postmaster.read(self.pgdata)
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
        return row is not None and str(row[0]).split()[0] == wheel.version()

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
        text = tuning(memory_bytes(), wheel.configure_options())
        if not conf.exists() or conf.read_text() != text:
            fresh = conf.with_suffix(".conf.new")
            fresh.write_text(text)
            give(fresh, user)
            fresh.rename(conf)

    # root

    def _user(self) -> pwd.struct_passwd | None:
        # a new cluster in a user's directory is that user's
        return owner_or_service_user(self.pgdata if self.pgdata.exists() else self.data_dir)

    @staticmethod
    def _as(user: pwd.struct_passwd | None) -> dict[str, Any]:
        """For subprocess: as that user, with nothing of our environment that PostgreSQL would take for a setting."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
        env["LC_ALL"] = "C"
        # not where we are: that user may have no right to be there
        common: dict[str, Any] = {"env": env, "cwd": "/", "umask": 0o077}
        return common if user is None else common | {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _reason(said: str) -> str:
    """The line of PostgreSQL's output that says why, and its hint."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    at = [n for n, line in enumerate(lines) if re.search(r"\b(FATAL|PANIC|error):", line)]
    if not at:
        return lines[-1] if lines else "it gave no reason"
    # what is wrong with a configuration file comes first, and then that there is something wrong with it
    before = [
        line for line in lines[max(0, at[-1] - 3) : at[-1]] if re.search(r"LOG: +(invalid|unrecognized|syntax error|could not)", line)
    ]
    after = [line for line in lines[at[-1] + 1 : at[-1] + 3] if re.search(r"\b(DETAIL|HINT|detail|hint):", line)]
    return "; ".join([*before, lines[at[-1]], *after])


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
