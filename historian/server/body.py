"""Request bodies: read whole, decompressed, within bounds."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import zstandard
from aiohttp import web

from historian.schema.errors import BadInput, TooLarge, UnsupportedMediaType
from historian.server.services import SERVICES

_PIECE = 1024
#: bytes/s
_SLOWEST = 100_000


@asynccontextmanager
async def read_body(request: web.Request, limit: int | None = None) -> AsyncIterator[bytes]:
    """The body, decompressed (Content-Encoding gzip, deflate, zstd), counted in the server's budget until the context ends.

    Raises TooLarge beyond `limit` bytes (the server's max_body by default), sent or unpacked; Busy; BadInput; UnsupportedMediaType.
    """
    services = request.app[SERVICES]
    limit = services.settings.max_body if limit is None else limit
    if request.content_length is not None and request.content_length > limit:
        raise TooLarge(f"a body of {request.content_length} bytes; at most {limit}: send it in parts, each with a seq of its own")
    loop = asyncio.get_running_loop()
    # who sends slowly holds a part of the budget that others wait for: so long at the longest
    deadline = loop.time() + services.settings.stalled_s + (request.content_length or limit) / _SLOWEST
    held = 0
    try:
        sent = bytearray()
        try:
            async with asyncio.timeout_at(deadline):
                async for chunk in request.content.iter_any():
                    services.bodies.take(len(chunk))
                    held += len(chunk)
                    if held > limit:
                        raise TooLarge(f"a body of more than {limit} bytes; send it in parts, each with a seq of its own")
                    sent += chunk
        except TimeoutError:
            raise BadInput(
                f"the body came at less than {_SLOWEST // 1000} kB/s; {len(sent)} bytes of it were here when the server gave up"
            ) from None
        if request.content_length is not None and len(sent) < request.content_length:
            raise BadInput(f"the body ended after {len(sent)} of {request.content_length} bytes")
        encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
        body = bytes(sent)
        del sent
        if encoding not in ("", "identity"):
            body = await asyncio.to_thread(unpacked, body, encoding, limit)
            services.bodies.take(len(body))
            held += len(body)
        yield body
    finally:
        services.bodies.give_back(held)


def unpacked(body: bytes, encoding: str, limit: int) -> bytes:
    """All of a compressed body, of one part or several. Raises TooLarge as soon as it is more than `limit` bytes; BadInput if it is damaged or cut off."""
    if encoding in ("gzip", "x-gzip", "deflate"):
        # 47: gzip or zlib, told by the header
        make: Callable[[], Any] = partial(zlib.decompressobj, 47)
    elif encoding == "zstd":
        make = zstandard.ZstdDecompressor().decompressobj
    else:
        raise UnsupportedMediaType(f"content encoding {encoding[:40]!r}; this server takes gzip, deflate, zstd, or none")
    out, inflater = bytearray(), make()
    try:
        # in small pieces: none can unpack to much
        for at in range(0, len(body), _PIECE):
            piece = body[at : at + _PIECE]
            while piece:
                if inflater.eof:
                    inflater = make()
                out += inflater.decompress(piece)
                if len(out) > limit:
                    raise TooLarge(f"a body of more than {limit} bytes when unpacked; send it in parts, each with a seq of its own")
                piece = inflater.unused_data if inflater.eof else b""
    except (zlib.error, zstandard.ZstdError) as error:
        raise BadInput(f"the body is not {encoding}: {error}") from None
    if not inflater.eof:
        raise BadInput(f"the {encoding} body is cut off")
    return bytes(out)
