"""A worker's numbers for others: `/metrics` for Prometheus, `/status` for `tapeline status`, OTLP if it is asked for.

`tapeline worker` calls `serving`. Everything is read when somebody asks; in between nothing runs.
OpenTelemetry's own Prometheus exporter takes 26 ms for 100 partitions, which the roles would wait for; so the page
is written here, and a test holds it to be what that exporter writes.
"""

import errno
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from typing import Any

from tapeline.schemas.errors import UnavailableError
from tapeline.streams.home import Home
from tapeline.streams.metrics import METRICS, Kind, Metric
from tapeline.streams.settings import Settings, TelemetrySettings
from tapeline.streams.stats import BOUNDS_SECONDS, Durations, RoleStats
from tapeline.streams.workers import WorkerFiles, WorkerStats

log = logging.getLogger(__name__)

OTLP_VARIABLES = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_CLIENT_SECONDS_MAX = 10
_STOP_SECONDS = 0.1
"""How long a worker that stops waits for the endpoint at most; it wakes up so often."""
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


@contextmanager
def serving(settings: Settings, roles: Sequence[RoleStats], instance: str | None = None) -> Iterator[str]:
    """Serve the numbers of these roles while the context lasts; yields host:port.

    instance: the worker's name (`--instance`). Raises UnavailableError if the port of the settings is taken.
    """
    worker = WorkerStats(instance or f"{socket.gethostname()}-{os.getpid()}", os.getpid(), list(roles))
    with ExitStack() as stack:
        endpoint = stack.enter_context(_endpoint(settings.telemetry, worker))
        stack.enter_context(WorkerFiles(Home.at(settings.home)).publish(worker.worker, endpoint))
        if any(os.environ.get(name) for name in OTLP_VARIABLES):
            from tapeline.streams import otlp  # here: it takes a quarter of a second, and few ask for it

            stack.enter_context(otlp.pushing(worker))
        yield endpoint


def prometheus_page(worker: WorkerStats, now_ns: int) -> str:
    """Return every metric in Prometheus' text format, version 0.0.4, named as OpenTelemetry's rules say."""
    parts = [_target(worker.worker)]
    for metric in METRICS:
        points = list(metric.points(worker.roles, now_ns))
        if not points:
            continue
        name, kind = metric.prometheus_name, metric.kind.value
        parts.append(f"# HELP {name} {metric.meaning}\n# TYPE {name} {kind}\n")
        if metric.kind is Kind.HISTOGRAM:
            for attributes, value in points:
                assert isinstance(value, Durations)  # noqa: S101 - what the table says
                parts.append(_histogram(metric, attributes, value))
        else:
            line = f"{name}{_labels(metric.attributes)} %s\n"
            parts += [line % (*attributes, value) for attributes, value in points]
    return "".join(parts)


def _labels(names: Sequence[str], more: str = "") -> str:
    """Return a pattern for the values; names of roles, topics and states need no escapes."""
    pairs = [f'{name.replace(".", "_")}="%s"' for name in names] + ([more] if more else [])
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _histogram(metric: Metric, attributes: Sequence[str], value: Durations) -> str:
    name = metric.prometheus_name
    lines, below = [], 0
    for bound, count in zip((*map(str, BOUNDS_SECONDS), "+Inf"), list(value.counts), strict=True):
        below += count
        lines.append(name + "_bucket" + _labels(metric.attributes, f'le="{bound}"') % attributes + f" {below}\n")
    labels = _labels(metric.attributes) % tuple(attributes)
    return "".join([*lines, f"{name}_sum{labels} {value.total}\n", f"{name}_count{labels} {below}\n"])


def _target(worker: str) -> str:
    escaped = worker.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    labels = f'service_name="tapeline",service_instance_id="{escaped}",service_version="{version("tapeline")}"'
    return f"# HELP target_info Target metadata\n# TYPE target_info gauge\ntarget_info{{{labels}}} 1\n"


class _Handler(BaseHTTPRequestHandler):
    """Answer one request, in a thread of its own."""

    timeout = _CLIENT_SECONDS_MAX
    server_version = "tapeline"
    sys_version = ""
    pages: dict[str, tuple[str, Callable[[], bytes]]]

    def do_GET(self) -> None:
        page = self.pages.get(self.path.partition("?")[0])
        if page is None:
            self._answer(404, _TEXT, f"There is {' and '.join(self.pages)}.\n".encode())
        else:
            kind, content = page
            self._answer(200, kind, content())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a client of the metrics endpoint went away", exc_info=True)


@contextmanager
def _endpoint(settings: TelemetrySettings, worker: WorkerStats) -> Iterator[str]:
    """Listen; yields where this machine reaches it."""

    def metrics() -> bytes:
        worker.refresh()
        return prometheus_page(worker, time.time_ns()).encode()

    def status() -> bytes:
        worker.refresh()
        return replace(worker, time_ns=time.time_ns()).encode()

    pages = {"/metrics": (_TEXT, metrics), "/status": ("application/json", status)}
    handler = type("Handler", (_Handler,), {"pages": pages})
    host, port = settings.prometheus_host, settings.prometheus_port
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        kind = type("Server", (_Server,), {"address_family": family})
        server: _Server = kind(address[:2], handler)
    except OSError as error:
        raise UnavailableError(_cannot_listen(host, port, error)) from error
    thread = threading.Thread(target=server.serve_forever, args=(_STOP_SECONDS,), name="telemetry", daemon=True)
    thread.start()
    try:
        reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
        yield f"[{reached}]:{server.server_port}" if ":" in reached else f"{reached}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    where = f"the metrics endpoint cannot listen on {host} port {port}: {error.strerror or error}"
    if error.errno == errno.EADDRINUSE:
        return f"{where}. Each worker needs a port of its own: set [telemetry] prometheus_port to 0 for any free one"
    return f"{where}. Set [telemetry] prometheus_host and prometheus_port to what this machine has"
