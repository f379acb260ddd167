"""Batches that upstream will never take as they are: kept beside the spool until someone has seen to their cause.

refused/00000000000000000017.spool   a segment with that one batch
refused/00000000000000000017.txt     why it was refused
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from historian.ingest.spool.files import sync_directory, write_whole
from historian.ingest.spool.segment import HEADER_SIZE, SUFFIX, Entry, file_header, read_file, scan

REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class RefusedBatch:
    path: Path
    entry: Entry
    reason: str

    def record(self) -> bytes:
        """As it stood in the spool. Raises OSError."""
        return read_file(self.path)[self.entry.offset : self.entry.offset + self.entry.size]


def keep_refused(directory: Path, seq: int, record: bytes, reason: str) -> None:
    """On disk when this returns. Raises OSError."""
    kept = directory / REFUSED
    if not kept.exists():
        kept.mkdir()
        sync_directory(directory)
    write_whole(kept / f"{seq:020d}.txt", f"{reason}\n".encode("utf-8", "replace"), durable=True)
    # the batch last: it counts only with its reason
    write_whole(kept / f"{seq:020d}{SUFFIX}", file_header(uuid.uuid4().bytes) + record, durable=True)


def list_refused(directory: Path) -> Iterator[RefusedBatch]:
    """Those that are whole, by seq. Raises OSError, SchemaError."""
    for path in sorted((directory / REFUSED).glob(f"*{SUFFIX}")):
        if path.name.startswith("."):
            continue
        for thing in scan(read_file(path)):
            if isinstance(thing, Entry) and thing.offset == HEADER_SIZE:
                reason = ""
                with suppress(OSError):
                    reason = path.with_suffix(".txt").read_text(encoding="utf-8", errors="replace").strip()
                yield RefusedBatch(path, thing, reason)


def forget_refused(batch: RefusedBatch) -> None:
    """It is in the queue again. Raises OSError."""
    batch.path.unlink(missing_ok=True)
    batch.path.with_suffix(".txt").unlink(missing_ok=True)
