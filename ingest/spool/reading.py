"""Records read back from segments, one file open at a time."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

from historian.ingest.path_samples import PathSamples
from historian.ingest.spool.disk import reason_of
from historian.ingest.spool.index import Segment
from historian.ingest.spool.opening import keep
from historian.ingest.spool.segment import Unreadable, decode
from historian.schema.errors import Unavailable

log = logging.getLogger(__name__)


class Reader:
    """Belongs to one spool, which lets one thread in at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: tuple[int, int] | None = None

    def record(self, segment: Segment, position: int) -> bytes:
        """A batch as it stands in the file, whole or not. Raises OSError."""
        if self._open is None or self._open[0] != segment.ordinal:
            self.close()
            self._open = (segment.ordinal, os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC))
        offset, size = segment.place(position)
        return os.pread(self._open[1], size, offset)

    def samples(self, segment: Segment, position: int) -> PathSamples | None:
        """Of a batch; None if they are lost, which has been told, and its bytes kept aside. Raises Unavailable if the segment cannot be opened now."""
        offset, _ = segment.place(position)
        what = f"batch {segment.seq(position)} of {segment.rows(position)} samples"
        try:
            record = self.record(segment, position)
            return decode(record)[1]
        except Unreadable as error:
            keep(self._directory, segment, record, offset, f"{what}: {error}")
        except FileNotFoundError:
            log.error("%s, with %s, is gone: someone else has removed it", segment.path, what)
        except OSError as error:
            if error.errno != errno.EIO:
                raise Unavailable(f"{segment.path} cannot be read: {reason_of(error)}") from error
            log.error("%s cannot be read at byte %d (%s): the disk fails", segment.path, offset, what)
            segment.spoiled = True
        return None

    def close(self, ordinal: int | None = None) -> None:
        """Let go of the file, or only if it is this one."""
        if self._open is not None and ordinal in (None, self._open[0]):
            os.close(self._open[1])
            self._open = None
