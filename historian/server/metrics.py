"""What /metrics shows: counters of this server in Prometheus' text format, read from the parts that count when it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(Collector):
    """One server's metrics. `count` and `gauge` name functions that tell the present figure."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._figures: list[tuple[type[CounterMetricFamily] | type[GaugeMetricFamily], str, str, Callable[[], float]]] = []
        self.requests = Histogram(
            "historian_http_request_seconds",
            "Time from request to the end of the answer, without streams",
            ["method", "route", "status"],
            registry=self.registry,
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30),
        )

    def counter(self, name: str, text: str, figure: Callable[[], float]) -> None:
        self._figures.append((CounterMetricFamily, name, text, figure))

    def gauge(self, name: str, text: str, figure: Callable[[], float]) -> None:
        self._figures.append((GaugeMetricFamily, name, text, figure))

    def collect(self) -> Iterator[Metric]:
        for family, name, text, figure in self._figures:
            yield family(name, text, value=figure())

    def text(self) -> bytes:
        return generate_latest(self.registry)
