"""historian.ingest.decode: what arrives as Arrow, JSON or CSV becomes samples, after all of it has been checked by the same rules.

`decode` is the door. A module a format makes columns (`columns.py`); `checks.py` holds the rules, and makes samples of columns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from email.message import Message

from historian.ingest.decode import arrow, csv, json
from historian.ingest.decode.checks import samples_of
from historian.ingest.decode.columns import Columns
from historian.ingest.decode.limits import DecodeLimits
from historian.schema.catalogue import Catalogue
from historian.schema.errors import BadInput, UnsupportedMediaType
from historian.schema.samples import Samples

__all__ = ["CONTENT_TYPES", "DecodeLimits", "decode"]

Parse = Callable[[bytes | memoryview, DecodeLimits], Columns]

_PARSERS: dict[str, Parse] = {
    "application/vnd.apache.arrow.stream": arrow.parse,
    "application/json": json.parse,
    "text/csv": csv.parse,
}
CONTENT_TYPES = tuple(_PARSERS)

#: bodies that are larger, or become larger, are parsed in a thread, so that others are served meanwhile
_LARGE = 256 << 10


async def decode(
    body: bytes | memoryview, content_type: str, catalogue: Catalogue, limits: DecodeLimits, turns: asyncio.Semaphore | None = None
) -> Samples:
    """The samples of a body, in its order. Tags that it names and that do not exist are made, unless the limits say no, and only if all of the body is good.
    Large bodies wait for one of `turns`: they become many times their size.

    Raises UnsupportedMediaType; BadInput for a body that is malformed as a whole, TooLarge for one with too many samples, and BadSamples, which names each
    faulty row; Unavailable. Rows count from 0. Nothing has been made or stored then.
    """
    parse = _PARSERS.get(_media_type(content_type))
    if parse is None:
        given = f"content type {content_type[:80]!r}" if content_type else "a body without a content type"
        raise UnsupportedMediaType(f"{given}; this server takes {', '.join(CONTENT_TYPES)}")
    if not len(body):
        raise BadInput("the body is empty")
    large = len(body) > _LARGE or (parse is arrow.parse and arrow.unpacked_size(body, limits) > _LARGE)
    if not large:
        return await samples_of(parse(body, limits), catalogue, limits)
    async with turns if turns is not None else nullcontext():
        return await samples_of(await asyncio.to_thread(parse, body, limits), catalogue, limits)


def _media_type(content_type: str) -> str:
    message = Message()
    message["content-type"] = content_type
    charset = message.get_param("charset")
    if isinstance(charset, str) and charset.lower() not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType(f"charset {charset[:40]!r}; this server takes UTF-8")
    return message.get_content_type() if content_type else ""
