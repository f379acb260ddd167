"""PostgreSQL's settings for the embedded database, each with its reason."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import psutil

_MB = 1 << 20


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
