"""The endpoint of a worker, asked over HTTP; and OTLP, received by a small collector."""

import gzip
import json
import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tapeline.schemas import Lane, UnavailableError
from tapeline.streams.home import Home
from tapeline.streams.metrics import METRICS, Kind
from tapeline.streams.otlp import DurationsReader, provider
from tapeline.streams.settings import Settings, load_settings
from tapeline.streams.stats import BOUNDS_SECONDS, RoleStats
from tapeline.streams.telemetry import prometheus_page, serving
from tapeline.streams.workers import WorkerFiles, WorkerStats
from tests.streams.numbers import SECOND_NS, a_busy_worker

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def settings(home: Path, **telemetry: str) -> Settings:
    env = {f"TAPELINE_TELEMETRY__{name.upper()}": value for name, value in telemetry.items()}
    return load_settings(env={"TAPELINE_HOME": str(home)} | env)


def get(address: str, page: str) -> bytes:
    with urllib.request.urlopen(f"http://{address}{page}", timeout=10) as answer:
        return bytes(answer.read())


def parsed(page: str) -> tuple[dict[str, str], Samples]:
    """Kinds by family, and every sample."""
    families = list(text_string_to_metric_families(page))
    samples = {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}
    return {family.name: family.type for family in families}, samples


class OfficialReader(DurationsReader, PrometheusMetricReader):
    """OpenTelemetry's own way to a Prometheus page."""

    def __init__(self, worker: WorkerStats, registry: CollectorRegistry) -> None:
        self.worker, self.started_ns = worker, time.time_ns()
        super().__init__(registry=registry, scope_info_enabled=False, disable_target_info=True)


def test_the_page_is_what_opentelemetrys_own_exporter_writes() -> None:
    worker = a_busy_worker(time.time_ns() - 1_000_000 * SECOND_NS)
    registry = CollectorRegistry()
    official = provider(worker, OfficialReader(worker, registry))
    kinds, expected = parsed(generate_latest(registry).decode())
    official.shutdown()
    our_kinds, ours = parsed(prometheus_page(worker, time.time_ns()))
    assert our_kinds == {**kinds, "target_info": "gauge"}
    ours = {key: value for key, value in ours.items() if key[0] != "target_info"}
    assert ours.keys() == expected.keys()
    for key, value in ours.items():
        if not key[0].startswith("process_"):  # they go on between the two
            assert value == pytest.approx(expected[key], rel=1e-4), key


def test_a_histogram_is_cumulative() -> None:
    _, samples = parsed(prometheus_page(a_busy_worker(), 2 * SECOND_NS))
    name, role = "tapeline_role_processing_duration_seconds", ("role", "logic")
    below = {
        bound: samples[f"{name}_bucket", frozenset({role, ("le", bound)})]
        for bound in (*map(str, BOUNDS_SECONDS), "+Inf")
    }
    assert list(below.values()) == sorted(below.values())
    assert (below["0.0001"], below["0.3"], below["1.0"], below["30.0"], below["+Inf"]) == (2, 2, 3, 3, 4)
    assert samples[f"{name}_count", frozenset({role})] == 4
    assert samples[f"{name}_sum", frozenset({role})] == pytest.approx(100.50015)


def test_names_with_quotes_do_not_break_the_page() -> None:
    worker = a_busy_worker()
    worker.worker = 'a "b" \\ c\nd'
    _, samples = parsed(prometheus_page(worker, 1))
    [labels] = [dict(labels) for name, labels in samples if name == "target_info"]
    assert labels["service_instance_id"] == worker.worker


@pytest.mark.slow
def test_a_worker_is_scraped_and_found(tmp_path: Path) -> None:
    role = RoleStats("logic", "ticks")
    role.hold([3])

    def refresh() -> None:
        role.partitions[3].end_offset = 12

    role.refresh = refresh
    role.partitions[3].took(10, 1000, 64040)
    files = WorkerFiles(Home(tmp_path))
    with serving(settings(tmp_path), [role], "logic-0") as address:
        kinds, samples = parsed(get(address, "/metrics").decode())
        where = frozenset({("role", "logic"), ("topic", "ticks"), ("partition", "3")})
        assert samples["tapeline_partition_lag", where] == 2
        assert samples["tapeline_partition_items_total", where] == 1000
        assert kinds.keys() >= {name.prometheus_name.removesuffix("_total") for name in METRICS} - {
            "tapeline_partition_snapshot_age_seconds",  # not known yet
            "tapeline_lane_duplicates",
        }
        role.partitions[3].took(12, 500, 32040)
        heard = WorkerStats.decode(get(address, "/status"))
        assert (heard.worker, heard.pid) == ("logic-0", os.getpid())
        assert abs(time.time_ns() - heard.time_ns) < 60 * SECOND_NS
        assert heard.roles[0].partitions == role.partitions
        [published] = files.live()
        assert published.address == address
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(address, "/other")
    assert files.live() == []
    with pytest.raises(OSError, match="refused"):
        get(address, "/metrics")


@pytest.mark.slow
def test_workers_of_one_home_do_not_collide(tmp_path: Path) -> None:
    with (
        serving(settings(tmp_path), [RoleStats("logic", "ticks")], "logic-0") as one,
        serving(settings(tmp_path), [RoleStats("logic", "ticks")], "logic-1") as other,
    ):
        assert one != other
        assert [WorkerStats.decode(get(address, "/status")).worker for address in (one, other)] == [
            "logic-0",
            "logic-1",
        ]


@pytest.mark.slow
def test_a_taken_port_is_a_clear_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with (
            pytest.raises(UnavailableError, match=rf"127\.0\.0\.1 port {port}: .*in use.*prometheus_port to 0"),
            serving(settings(tmp_path, prometheus_port=port), []),
        ):
            pass
    with serving(settings(tmp_path, prometheus_port=port), []) as address:
        assert address == f"127.0.0.1:{port}"


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_an_address_that_is_not_here_is_a_clear_error(tmp_path: Path, host: str) -> None:
    with (
        pytest.raises(UnavailableError, match=rf"cannot listen on {host}.*prometheus_host"),
        serving(settings(tmp_path, prometheus_host=host), []),
    ):
        pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "reached"), [("0.0.0.0", "127.0.0.1:"), ("::1", "[::1]:"), ("localhost", "localhost:")]
)
def test_hosts(tmp_path: Path, host: str, reached: str) -> None:
    with serving(settings(tmp_path, prometheus_host=host), [RoleStats("logic", "ticks")]) as address:
        assert address.startswith(reached)
        assert WorkerStats.decode(get(address, "/status")).roles[0].name == "logic"


@pytest.mark.slow
def test_numbers_may_change_while_they_are_read(tmp_path: Path) -> None:
    """Partitions and lanes come in one thread while another makes pages: no page fails, each can be parsed."""
    role = RoleStats("logic", "ticks")
    stop = threading.Event()

    def work() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            role.partitions.pop(number % 50, None)
            role.hold(range(60))
            one = role.partitions[55]
            one.took(number, 1, 64)
            one.duplicates.pop(Lane(number % 500, 1).pack(), None)
            one.skipped(Lane((number + 250) % 500, 1).pack())

    thread = threading.Thread(target=work)
    before = sys.getswitchinterval()
    with serving(settings(tmp_path), [role]) as address:
        thread.start()
        sys.setswitchinterval(0.00001)
        try:
            for _ in range(20):
                parsed(get(address, "/metrics").decode())
                WorkerStats.decode(get(address, "/status"))
        finally:
            sys.setswitchinterval(before)
            stop.set()
            thread.join()


@contextmanager
def collector() -> Iterator[tuple[str, "Queue[ExportMetricsServiceRequest]"]]:
    """An OTLP collector; yields its address and what it receives."""
    received: Queue[ExportMetricsServiceRequest] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/metrics"
            received.put(ExportMetricsServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", received
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
def test_otlp_is_pushed_when_opentelemetrys_variable_says_where_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = a_busy_worker()
    with collector() as (url, received):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
        with serving(settings(tmp_path), worker.roles, "logic-0"):
            request = received.get(timeout=30)
    [resource] = request.resource_metrics
    about = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert (about["service.name"], about["service.instance.id"]) == ("tapeline", "logic-0")
    metrics = {one.name: one for one in resource.scope_metrics[0].metrics}
    assert metrics.keys() == {metric.name for metric in METRICS}
    for metric in METRICS:
        sent = metrics[metric.name]
        assert (sent.unit, sent.description) == (metric.unit, metric.meaning)
        kind = {Kind.COUNTER: "sum", Kind.GAUGE: "gauge", Kind.HISTOGRAM: "histogram"}[metric.kind]
        assert sent.WhichOneof("data") == kind
    [point] = [
        one
        for one in metrics["tapeline.role.processing.duration"].histogram.data_points
        if one.attributes[0].value.string_value == "logic"
    ]
    assert list(point.bucket_counts) == worker.roles[0].processing.counts
    assert (point.count, point.max) == (4, 100.0)


@pytest.mark.slow
def test_a_collector_that_is_away_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
        with serving(settings(tmp_path), a_busy_worker().roles) as address:
            connection, _ = silent.accept()
            assert get(address, "/metrics")
            stopping = time.monotonic()
        assert time.monotonic() - stopping < 8
        connection.close()


def test_the_status_is_json_for_everybody(tmp_path: Path) -> None:
    said = json.loads(a_busy_worker().encode())
    assert said["roles"][0]["watchdog"] == "suspect"
    assert said["roles"][0]["partitions"]["0"]["duplicates"] == {str(Lane(2, 0).pack()): 5, str(Lane(3, 0).pack()): 1}
    assert "refresh" not in said["roles"][0]
