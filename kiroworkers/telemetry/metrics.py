"""
Collect metrics from their sources, and write them in the formats that Prometheus reads.

Nothing is computed until somebody asks: sources keep plain numbers, or look at the state of
the server when they are collected.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeAlias

from attrs import define, field
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from twisted.logger import Logger

from kiroworkers.telemetry.metric_families import DURATIONS, FAMILIES, Family

_INFINITE = "+Inf"

#: The media type of OpenMetrics.
_OPEN_METRICS = "application/openmetrics-text"
_BOUNDS = (*map(str, DURATIONS), _INFINITE)


@define
class Histogram:
    """
    Count durations by buckets.

    Attributes:
        counts: The number of durations in each bucket, without those in smaller ones; the last
            bucket has no bound.
        sum: The sum of the durations.
    """

    counts: list[int] = field(factory=lambda: [0] * (len(DURATIONS) + 1))
    sum: float = 0.0

    def observe(self, seconds: float) -> None:
        """
        Count a duration.
        """
        self.counts[bisect_left(DURATIONS, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """
        Return the bound of each bucket, and the number of durations up to it.
        """
        total, buckets = 0.0, []
        for bound, count in zip(_BOUNDS, self.counts, strict=True):
            total += count
            buckets.append((bound, total))
        return buckets


class Samples:
    """
    Hold the values of metrics at one moment.
    """

    def __init__(self) -> None:
        self._metrics: dict[Family, Metric] = {}

    def add(self, family: Family, value: float, *labels: str) -> None:
        """
        Add a value of `family`, which is not a histogram.
        """
        metric = self._metric(family)
        match metric:
            case InfoMetricFamily():
                metric.add_metric((), dict(zip(family.labels, labels, strict=True)))
            case CounterMetricFamily() | GaugeMetricFamily():
                metric.add_metric(labels, value)
            case _:
                raise TypeError(f"{family.name} is a {family.kind}")

    def add_histogram(self, family: Family, histogram: Histogram, *labels: str) -> None:
        """
        Add `histogram` as one of `family`.
        """
        metric = self._metric(family)
        assert isinstance(metric, HistogramMetricFamily), family.name
        metric.add_metric(labels, histogram.buckets(), histogram.sum)

    def metrics(self) -> Iterator[Metric]:
        """
        Yield all metrics in the order of the table, also those without values.
        """
        for family in FAMILIES:
            yield self._metric(family)

    def _metric(self, family: Family) -> Metric:
        metric = self._metrics.get(family)
        if metric is None:
            metric = self._metrics[family] = _new_metric(family)
        return metric


def _new_metric(family: Family) -> Metric:
    name, text, unit = family.base_name, family.help, family.unit
    match family.kind:
        case "counter":
            return CounterMetricFamily(name, text, labels=family.labels, unit=unit)
        case "gauge":
            return GaugeMetricFamily(name, text, labels=family.labels, unit=unit)
        case "histogram":
            return HistogramMetricFamily(name, text, labels=family.labels, unit=unit)
        case "info":
            return InfoMetricFamily(name, text)


#: Returns metrics as text, and its content type, given the Accept header of the request, which
#: chooses OpenMetrics or the text format of Prometheus.
Render: TypeAlias = Callable[[str], tuple[bytes, str]]

#: Adds the values that it knows.
Source: TypeAlias = Callable[[Samples], None]


class Metrics:
    """
    Collect the values of all sources when somebody asks.

    Attributes:
        sources: The sources.

    Args:
        sources: The first sources.
        process: Whether to add the metrics of this process, such as its memory.
    """

    _log = Logger()

    def __init__(self, sources: Iterable[Source] = (), *, process: bool = True) -> None:
        self.sources: list[Source] = [*sources]
        self._process = process

    def collect(self) -> Render:
        """
        Collect the values, and return a function that writes them, which may run in a thread.

        A source that fails is logged, and its values are missing.
        """
        samples = Samples()
        for source in self.sources:
            try:
                source(samples)
            except Exception:
                self._log.failure("internal error while collecting metrics")
        return partial(_render, samples, self._process)


class _Collector(Collector):
    """
    Hold collected values for a registry.
    """

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        """
        Yield all metrics.
        """
        return self._samples.metrics()


def _render(samples: Samples, process: bool, accept: str) -> tuple[bytes, str]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(samples))
    if process:
        ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(_OPEN_METRICS if _accepts_open_metrics(accept) else "")
    return encode(registry), content_type


def _accepts_open_metrics(accept: str) -> bool:
    """
    Return whether a client with this Accept header wants OpenMetrics.

    The header itself is not passed on: `choose_encoder` fails with many, and quotes others.
    """
    for media_range in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in media_range.split(";"))
        versions = {each for each in parameters if each.startswith("version=")}
        if media_type == _OPEN_METRICS and versions <= {"version=1.0.0"}:
            return True
    return False
