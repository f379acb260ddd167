"""The metrics of all workers as one text: each figure with the label `worker`, so that a scrape says the same whichever worker answers it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

#: of one metric: name, text, kind, and its samples as [name, labels, value]
Family = list[Any]


def families(registry: CollectorRegistry) -> list[Family]:
    """What a registry holds now, to be sent as JSON."""
    return [
        [metric.name, metric.documentation, metric.type, [[sample.name, dict(sample.labels), sample.value] for sample in metric.samples]]
        for metric in registry.collect()
    ]


class _Joined(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def join(workers: Mapping[str, Iterable[Family]], own: Iterable[Metric]) -> bytes:
    """In Prometheus' text format: the figures of the workers, and the supervisor's own."""
    found: dict[str, Metric] = {}
    for worker, each in workers.items():
        for name, text, kind, samples in each:
            metric = found.setdefault(name, Metric(name, text, kind))
            for sample, labels, value in samples:
                metric.add_sample(sample, {**labels, "worker": worker}, value)
    registry = CollectorRegistry()
    registry.register(_Joined([*found.values(), *own]))
    return generate_latest(registry)
