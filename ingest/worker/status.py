"""What a worker tells of itself over HTTP, on loopback: /healthz (it runs), /readyz (it takes samples, and where they go), /metrics (Prometheus)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from historian.schema.errors import Conflict

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: states in which samples are taken and safe
READY = frozenset({"running", "replaying", "spooling"})

Figures = Callable[[], Mapping[str, tuple[str, float]]]


class _Collector(Collector):
    def __init__(self, counters: Figures, gauges: Figures, reasons: Callable[[], Mapping[str, int]]) -> None:
        self._counters, self._gauges, self._reasons = counters, gauges, reasons

    def collect(self) -> Iterator[Metric]:
        for name, (text, value) in self._counters().items():
            yield CounterMetricFamily(f"historian_worker_{name}", text, value=value)
        for name, (text, value) in self._gauges().items():
            yield GaugeMetricFamily(f"historian_worker_{name}", text, value=value)
        refused = CounterMetricFamily("historian_worker_dead_letters", "Samples and messages in the dead-letter file", labels=["reason"])
        for reason, count in self._reasons().items():
            refused.add_metric([reason], count)
        yield refused


class StatusServer:
    """`url` once it has started. `describe` gives what /readyz shows, with `state`."""

    def __init__(
        self,
        port: int,
        describe: Callable[[], dict[str, Any]],
        counters: Figures,
        gauges: Figures,
        reasons: Callable[[], Mapping[str, int]],
    ) -> None:
        self._port = port
        self._describe = describe
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(counters, gauges, reasons))
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Raises Conflict if the port is taken."""
        app = web.Application()
        app.router.add_routes([web.get("/healthz", self._healthz), web.get("/readyz", self._readyz), web.get("/metrics", self._metrics)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        try:
            await site.start()
        except OSError as error:
            raise Conflict(f"status_port {self._port}: {error.strerror or error}; take another") from None
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        found = self._describe()
        ready = found["state"] in READY and found["source"]["connected"]
        return web.Response(body=orjson.dumps(found), status=200 if ready else 503, content_type="application/json")

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": _CONTENT_TYPE})
