"""The server that one writes in an afternoon, for benchmarks/live.py: takes Arrow bodies, and sends JSON text to each viewer, of his own tags. It keeps nothing."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from multiprocessing.connection import Connection

import pyarrow as pa
import uvloop
from aiohttp import web

from historian.schema.samples import Samples


class Broadcaster:
    """Who wants what, and `json.dumps` for each."""

    def __init__(self, names: dict[int, str]) -> None:
        self._names = names
        self._ids = {path: tag_id for tag_id, path in names.items()}
        self._viewers: dict[web.WebSocketResponse, set[int]] = {}

    async def stream(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        wanted = await ws.receive_json()
        self._viewers[ws] = {self._ids[path] for path in wanted["tags"]}
        await ws.send_json({"type": "live"})
        async for _ in ws:
            pass
        del self._viewers[ws]
        return ws

    async def write(self, request: web.Request) -> web.Response:
        samples = Samples.from_record_batch(pa.ipc.open_stream(await request.read()).read_next_batch())
        answered = web.Response(body=b"{}", content_type="application/json")
        # after the answer, as ours publishes
        asyncio.get_running_loop().create_task(self._publish(samples))
        return answered

    async def _publish(self, samples: Samples) -> None:
        if not self._viewers:
            return
        columns = (samples.tag_id.tolist(), samples.ts.tolist(), samples.value.tolist(), samples.quality.tolist())
        rows = [
            (tag, {"tag": self._names[tag], "ts": datetime.fromtimestamp(us / 1e6, UTC).isoformat(), "value": value, "quality": quality})
            for tag, us, value, quality in zip(*columns, strict=True)
        ]
        sends = [
            ws.send_str(json.dumps({"samples": [row for tag, row in rows if tag in wanted]})) for ws, wanted in list(self._viewers.items())
        ]
        # a viewer that has gone
        await asyncio.gather(*sends, return_exceptions=True)


async def _serve(names: dict[int, str], pipe: Connection) -> None:
    broadcaster = Broadcaster(names)
    app = web.Application()
    app.router.add_get("/v1/stream", broadcaster.stream)
    app.router.add_post("/v1/write", broadcaster.write)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    pipe.send(f"http://127.0.0.1:{runner.addresses[0][1]}")
    await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    await runner.cleanup()


def run(names: dict[int, str], pipe: Connection) -> None:
    """A process: tells its address, and serves until it is told anything."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(names, pipe))
