"""POST /v1/write: a body is a batch; the answer comes when it is on disk."""

from __future__ import annotations

import uuid
from urllib.parse import unquote

import orjson
from aiohttp import web

from historian.ingest.decode import decode
from historian.schema.errors import BadInput
from historian.schema.ledger import ANONYMOUS, Batch, check_producer, check_seq
from historian.server.body import read_body
from historian.server.services import SERVICES

PRODUCER = "Historian-Producer"
SEQ = "Historian-Seq"
REPLAYED = "Historian-Replayed"


def _identity(request: web.Request) -> tuple[str, int]:
    """The producer and seq of a request; made up where it has none."""
    name, number = request.headers.get(PRODUCER), request.headers.get(SEQ)
    if name is None and number is None:
        return f"{ANONYMOUS}{uuid.uuid4().hex}", 0
    if name is None or number is None:
        raise BadInput(f"a batch is known by {PRODUCER} and {SEQ}: give both, or neither")
    try:
        producer = unquote(name, errors="strict")
    except UnicodeDecodeError:
        raise BadInput(f"{PRODUCER} is percent-encoded UTF-8, unlike {name[:80]!r}") from None
    if producer.startswith(ANONYMOUS):
        raise BadInput(f"names that begin with {ANONYMOUS!r} are the server's own")
    number = number.strip()
    if not (number.isascii() and number.isdigit()):
        raise BadInput(f"{SEQ} is an integer from 0, not {number[:40]!r}")
    return check_producer(producer), check_seq(int(number[:20]))


async def write(request: web.Request) -> web.Response:
    """Decode, check, commit, and only then answer."""
    services = request.app[SERVICES]
    settings = services.settings
    producer, seq = _identity(request)
    content_type = request.headers.get("Content-Type", "")
    limits = settings.decode_limits()
    async with read_body(request) as body:
        samples = await decode(body, content_type, services.catalogue, limits, services.decoders)
        receipt = await services.batcher.submit(Batch(producer, seq, samples))
    answer = {"producer": receipt.producer, "seq": receipt.seq, "samples": receipt.samples, "xid": receipt.xid}
    headers = {REPLAYED: "true"} if receipt.replayed else None
    return web.Response(body=orjson.dumps(answer), content_type="application/json", headers=headers)
