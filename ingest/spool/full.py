"""What a spool says when it takes no more."""

from __future__ import annotations

from historian.schema.errors import Busy


class SpoolFull(Busy):
    """A limit is reached, or the disk is full or broken, as the message says. Nothing of the batch was kept; it will be taken once there is room."""
