"""Request bodies: read whole, decompressed, within bounds."""

from __future__ import annotations

import io
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import zstandard
from aiohttp import web

from historian.schema.errors import BadInput, TooLarge, UnsupportedMediaType
from historian.server.services import SERVICES

_PIECE = 1 << 20


@asynccontextmanager
async def read_body(request: web.Request, limit: int | None = None) -> AsyncIterator[bytes]:
    """The body, decompressed (Content-Encoding gzip, deflate, zstd), counted in the server's budget until the context ends.

    Raises TooLarge beyond `limit` bytes (the server's max_body by default), sent or unpacked; Busy; BadInput; UnsupportedMediaType.
    """
    services = request.app[SERVICES]
    limit = services.settings.max_body if limit is None else limit
    if request.content_length is not None and request.content_length > limit:
        raise TooLarge(f"a body of {request.content_length} bytes; at most {limit}: send it in parts, each with a seq of its own")
    held = 0
    try:
        sent = bytearray()
        async for chunk in request.content.iter_any():
            services.bodies.take(len(chunk))
            held += len(chunk)
            if held > limit:
                raise TooLarge(f"a body of more than {limit} bytes; send it in parts, each with a seq of its own")
            sent += chunk
        if request.content_length is not None and len(sent) < request.content_length:
            raise BadInput(f"the body ended after {len(sent)} of {request.content_length} bytes")
        encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
        body = bytes(sent)
        del sent
        if encoding not in ("", "identity"):
            body = _unpacked(body, encoding, limit)
            services.bodies.take(len(body))
            held += len(body)
        yield body
    finally:
        services.bodies.give_back(held)


def _unpacked(body: bytes, encoding: str, limit: int) -> bytes:
    try:
        if encoding in ("gzip", "x-gzip", "deflate"):
            # 47: gzip or zlib, told by the header
            inflater = zlib.decompressobj(47)
            unpacked = inflater.decompress(body, limit + 1)
            complete = inflater.eof
        elif encoding == "zstd":
            out = bytearray()
            with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body), read_across_frames=True) as reader:
                while len(out) <= limit and (piece := reader.read(_PIECE)):
                    out += piece
            unpacked = bytes(out)
            complete = True
        else:
            raise UnsupportedMediaType(f"content encoding {encoding[:40]!r}; this server takes gzip, deflate, zstd, or none")
    except (zlib.error, zstandard.ZstdError) as error:
        raise BadInput(f"the body is not {encoding}: {error}") from None
    if len(unpacked) > limit:
        raise TooLarge(f"a body of more than {limit} bytes when unpacked; send it in parts, each with a seq of its own")
    if not complete:
        raise BadInput(f"the {encoding} body is cut off")
    return unpacked
