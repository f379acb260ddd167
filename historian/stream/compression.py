"""zstd as the stream protocol has it: a payload as one frame, alone or with an earlier payload of the subscription as its dictionary.

A live frame of few samples is half metadata, and its columns are much like those of the frame before. Measured on frames of 40 samples (docs/live.md): 29.2 bytes a
sample as they are, 9.7 to 11.9 in zstd alone, 5.3 to 7.9 with an earlier payload for a dictionary, and 4.2 to 7.0 in one context for the whole stream, which could not be
shared by those who watch the same tags, since each came at another time.
"""

from __future__ import annotations

import threading

import zstandard

_LEVEL = 1
#: with a reference, where it takes half the time of level 1 for the same size: what is left is digits
_REFERRING_LEVEL = -1
#: below this, alone, zstd gains nothing worth its time
_WORTH_COMPRESSING = 512
#: of a payload that others refer to; readers keep it
MAX_REFERENCE = 64 << 10

_alone = threading.local()


def compress(payload: bytes) -> bytes | None:
    """One zstd frame that states its content size; None where that is not smaller."""
    if len(payload) < _WORTH_COMPRESSING:
        return None
    # one for each thread: it has half a megabyte, and is not for two threads at a time
    compressor: zstandard.ZstdCompressor | None = getattr(_alone, "compressor", None)
    if compressor is None:
        compressor = _alone.compressor = zstandard.ZstdCompressor(level=_LEVEL)
    smaller: bytes = compressor.compress(payload)
    return smaller if len(smaller) < len(payload) else None


class Reference:
    """A payload that later ones refer to: what they have in common with it they need not bring."""

    __slots__ = ("_dictionary", "_parameters")

    def __init__(self, payload: bytes) -> None:
        # sized for payloads like this one
        self._parameters = zstandard.ZstdCompressionParameters.from_level(
            _REFERRING_LEVEL,
            source_size=max(1024, len(payload)),
            dict_size=len(payload),
            write_content_size=True,
            write_checksum=False,
            write_dict_id=False,
        )
        self._dictionary = zstandard.ZstdCompressionDict(payload, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        self._dictionary.precompute_compress(compression_params=self._parameters)

    def compress(self, payload: bytes) -> bytes | None:
        """One zstd frame whose dictionary is this; None where that is not smaller."""
        # made each time: it takes 3 µs, and one that is kept has 73 kB, of which hundreds are neither small nor in the processor's cache
        compressor = zstandard.ZstdCompressor(dict_data=self._dictionary, compression_params=self._parameters)
        smaller: bytes = compressor.compress(payload)
        return smaller if len(smaller) < len(payload) else None
