"""What a decoder lets in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """`max_samples` of a body, `max_text` bytes of a text sample, `max_decoded` bytes that a compressed Arrow body may unpack to.

    `max_new_tags` that one body may make. `create_tags`: whether tags that the catalogue does not have are made. `max_past_s`, `max_future_s`: how far a time may
    lie from this machine's clock; None: any.
    """

    max_samples: int = 2_000_000
    max_text: int = 64 << 10
    max_decoded: int = 256 << 20
    max_new_tags: int = 10_000
    create_tags: bool = True
    max_past_s: float | None = None
    max_future_s: float | None = None
