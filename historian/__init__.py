"""historian: an industrial historian with live trending streams."""

from __future__ import annotations

__version__ = "0.1.0"
