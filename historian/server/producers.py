"""GET /v1/producers/{name}: which batches of a producer are on disk, for one that was cut off and goes on."""

from __future__ import annotations

import orjson
from aiohttp import web

from historian.schema.connection import translated
from historian.schema.errors import NotFound
from historian.schema.ledger import check_producer
from historian.server.services import SERVICES

# runs of seqs without a hole: seq less its rank is the same within one
_RANGES = """
SELECT min(seq) AS first, max(seq) AS last, sum(samples) AS samples, count(*) AS batches
FROM (SELECT seq, samples, seq - row_number() OVER (ORDER BY seq) AS run FROM historian.ledger WHERE producer = $1) AS numbered
GROUP BY run ORDER BY first
"""


async def producer(request: web.Request) -> web.Response:
    """The producer's batches as inclusive ranges of seqs."""
    name = check_producer(request.match_info["name"])
    with translated():
        async with request.app[SERVICES].reading() as conn:
            rows = await conn.fetch(_RANGES, name)
    if not rows:
        raise NotFound(f"producer {name!r} has committed nothing")
    answer = {
        "producer": name,
        "samples": int(sum(row["samples"] for row in rows)),
        "batches": sum(row["batches"] for row in rows),
        "ranges": [[row["first"], row["last"]] for row in rows],
    }
    return web.Response(body=orjson.dumps(answer), content_type="application/json")
