"""Allocators for processes that run for years: what a burst of large batches took is given back.

Measured (benchmarks/ingest.py --only memory, 20 M samples over HTTP): what a server grows by after its first million samples is a seventh of what it is without this.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

import pyarrow as pa

_M_ARENA_MAX = -8
_M_MMAP_THRESHOLD = -3
#: larger blocks are the system's own, and go back to it at once; columns of large batches are
_LARGE_BLOCK = 256 << 10


def use_frugal_allocators() -> None:
    """To be called once, before any thread is started. Of glibc's heaps there are two then instead of one a thread; elsewhere only Arrow's own pool changes."""
    # mimalloc, Arrow's default, keeps what threads let go
    pa.set_memory_pool(pa.system_memory_pool())
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # musl has no such thing
            libc = ctypes.CDLL(None)
            libc.mallopt(_M_ARENA_MAX, 2)
            libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
