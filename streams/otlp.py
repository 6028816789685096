"""The table of metrics as OpenTelemetry instruments, pushed by OTLP over HTTP. Called by `telemetry.py` when asked for.

OpenTelemetry's own variables say where to and how often: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_METRIC_EXPORT_INTERVAL.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Any

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.export import Metric as SdkMetric
from opentelemetry.sdk.resources import Resource

from tapeline.streams.metrics import METRICS, Kind, Metric
from tapeline.streams.stats import BOUNDS_SECONDS, Durations, RoleStats
from tapeline.streams.workers import WorkerStats

STOP_MS_MAX = 2000
"""A collector that is away must not hold up a worker that stops."""


def provider(worker: WorkerStats, reader: MetricReader) -> MeterProvider:
    """Return a meter provider with every metric but the histograms, which `DurationsReader` adds."""
    resource = Resource.create(
        {
            "service.name": "tapeline",
            "service.instance.id": worker.worker,
            "service.version": version("tapeline"),
        }
    )
    made = MeterProvider([reader], resource, shutdown_on_exit=False)
    meter = made.get_meter("tapeline")
    first = [partial(_refresh, worker)]  # they are asked in the order in which they are made
    for metric in METRICS:
        if metric.kind is not Kind.HISTOGRAM:
            create = meter.create_observable_counter if metric.kind is Kind.COUNTER else meter.create_observable_gauge
            create(metric.name, [*first, partial(_observe, metric, worker.roles)], metric.unit, metric.meaning)
            first = []
    return made


def _refresh(worker: WorkerStats, _: CallbackOptions) -> Iterable[Observation]:
    worker.refresh()
    return ()


def _observe(metric: Metric, roles: Sequence[RoleStats], _: CallbackOptions) -> Iterable[Observation]:
    for attributes, value in metric.points(roles, time.time_ns()):
        assert not isinstance(value, Durations)  # noqa: S101 - what the table says
        yield Observation(value, dict(zip(metric.attributes, attributes, strict=True)))


class DurationsReader(MetricReader):
    """Mixed into a reader: adds our histograms, for which OpenTelemetry has no observable instrument."""

    worker: WorkerStats
    started_ns: int

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        resource, *_ = metrics_data.resource_metrics
        scope, *_ = resource.scope_metrics
        more = [self._histogram(metric) for metric in METRICS if metric.kind is Kind.HISTOGRAM]
        scopes = [replace(scope, metrics=[*scope.metrics, *more])]
        data = replace(metrics_data, resource_metrics=[replace(resource, scope_metrics=scopes)])
        super()._receive_metrics(data, timeout_millis, **kwargs)  # type: ignore[safe-super]  # the reader beside us

    def _histogram(self, metric: Metric) -> SdkMetric:
        now_ns = time.time_ns()
        points = []
        for attributes, value in metric.points(self.worker.roles, now_ns):
            assert isinstance(value, Durations)  # noqa: S101 - what the table says
            counts = list(value.counts)
            point = HistogramDataPoint(
                dict(zip(metric.attributes, attributes, strict=True)),
                self.started_ns,
                now_ns,
                count=sum(counts),
                sum=value.total,
                bucket_counts=counts,
                explicit_bounds=BOUNDS_SECONDS,
                min=0.0,
                max=value.longest,
            )
            points.append(point)
        data = Histogram(points, AggregationTemporality.CUMULATIVE)
        return SdkMetric(metric.name, metric.meaning, metric.unit, data)


class _PushReader(DurationsReader, PeriodicExportingMetricReader):
    def __init__(self, worker: WorkerStats) -> None:
        self.worker, self.started_ns = worker, time.time_ns()
        super().__init__(OTLPMetricExporter())


@contextmanager
def pushing(worker: WorkerStats) -> Iterator[None]:
    """Push while the context lasts, and once more at its end."""
    made = provider(worker, _PushReader(worker))
    try:
        yield
    finally:
        made.shutdown(STOP_MS_MAX)
