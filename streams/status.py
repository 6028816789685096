"""`tapeline status`: how far each role is on each partition, how fast, and what needs attention.

Numbers come from the workers themselves; for partitions that none in reach has, from the brokers.
"""

import json
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from http.client import HTTPException
from typing import Any

import click
from rich.live import Live

from tapeline.schemas.errors import TapelineError, UnavailableError
from tapeline.streams.feeds import live_feeds
from tapeline.streams.groups import Groups
from tapeline.streams.home import Home
from tapeline.streams.options import pass_settings
from tapeline.streams.settings import Settings
from tapeline.streams.status_report import STALLED_NS, Heard, ProcessRow, Report, Reporter
from tapeline.streams.status_view import console, view
from tapeline.streams.workers import WorkerFiles, WorkerStats

EXIT_UNHEALTHY = 3
ANSWER_SECONDS_MAX = 2.0
BETWEEN_SECONDS = 1.0
"""Rates are measured over so long."""

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""A worker is not asked through somebody's web proxy."""


class Source:
    """Where numbers come from: the workers of this home, those that were named, the brokers."""

    def __init__(self, settings: Settings, addresses: Sequence[str]) -> None:
        self._home = Home.at(settings.home)
        self._settings = settings
        self._addresses = addresses
        self._groups: Groups | None = None
        self._pool = ThreadPoolExecutor(16, thread_name_prefix="status")

    def hear(self) -> Heard:
        """Ask everybody at once; raises UnavailableError if nothing is there to be asked."""
        brokers = self._pool.submit(self._ask_brokers)
        published = WorkerFiles(self._home).live()
        addresses = list(dict.fromkeys([*(one.address for one in published), *self._addresses]))
        workers, silent = {}, {}
        for address, answer in zip(addresses, self._pool.map(_answer_of, addresses), strict=True):
            if isinstance(answer, WorkerStats):
                workers[address] = answer
            else:
                silent[address] = answer
        problems, groups = [], None
        try:
            groups = brokers.result()
        except UnavailableError as error:
            if not workers and not silent:
                raise UnavailableError(f"Nothing runs here, or nothing that can be asked. {error}") from error
            problems.append(str(error))
        pids = frozenset(one.pid for one in published)
        feeds = live_feeds(self._home)
        return Heard(workers, silent, groups, self._processes(), problems, pids, feeds, time.time_ns())

    def close(self) -> None:
        """Let go of the connections."""
        self._pool.shutdown()
        if self._groups is not None:
            self._groups.close()

    def _ask_brokers(self) -> Any:
        if self._groups is None:
            self._groups = Groups(self._settings)
        return self._groups.read()

    def _processes(self) -> list[ProcessRow]:
        found = self._home.read_json(self._home.status_file) if self._home.held() else None
        return [
            ProcessRow(one["name"], one["phase"], one["pid"], one["restarts"], one["message"])
            for one in (found or {}).get("processes", ())
        ]


def _answer_of(address: str) -> WorkerStats | str:
    """Return what the worker says, or why it says nothing."""
    try:
        with _DIRECT.open(f"http://{address}/status", timeout=ANSWER_SECONDS_MAX) as answer:
            return WorkerStats.decode(answer.read())
    except TapelineError as error:
        return str(error)
    except (OSError, HTTPException, ValueError) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__


def reports(source: Source, *, between_seconds: float = BETWEEN_SECONDS) -> Iterator[Report]:
    """Yield reports for ever, `between_seconds` apart; the first has no rates."""
    reporter = Reporter()
    while True:
        yield reporter.report(source.hear())
        time.sleep(between_seconds)


def one_report(source: Source) -> Report:
    """Return one report with rates; if records seem to stand still it looks on until that is certain or they move."""
    reporter = Reporter()
    reporter.report(source.hear())
    deadline = time.monotonic() + STALLED_NS / 1e9 + BETWEEN_SECONDS
    while True:
        time.sleep(BETWEEN_SECONDS)
        report = reporter.report(source.hear())
        if not reporter.waits or time.monotonic() > deadline:
            return report


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a report, with every number.")
@click.option("--watch", is_flag=True, help="A new report each second, until Ctrl-C.")
@click.option("--worker", "addresses", multiple=True, metavar="HOST:PORT", help="Ask this worker too; may be repeated.")
@pass_settings
def status(settings: Settings, as_json: bool, watch: bool, addresses: tuple[str, ...]) -> int:
    """Show lag, speed, snapshots, duplicates and restarts of each role and partition.

    Finds the workers of this machine (of this TAPELINE_HOME) and its live connections to venues, also those started by
    hand. Partitions of workers elsewhere are shown as far as the brokers know; --worker asks such a worker itself.

    \b
    Exit status: 0 all is well, 1 an error (nothing runs, say), 3 something needs attention: a partition without
    worker or with records that do not move, a process that waits for its restart, a worker that does not answer,
    a watchdog that is not content, a venue that is not connected or refuses a symbol.

    \b
    Examples:
      tapeline status
      tapeline status --watch
      tapeline status --json | jq '.partitions[] | select(.lag > 100)'
      tapeline status --worker node-2:9464 --worker node-3:9464
    """
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise click.BadParameter(f"{address!r} is not HOST:PORT", param_hint="--worker")
    with closing(Source(settings, addresses)) as source:
        if not watch:
            report = one_report(source)
            _print(report, as_json)
            return 0 if report.healthy else EXIT_UNHEALTHY
        if as_json or not sys.stdout.isatty():
            for report in reports(source):
                _print(report, as_json)
        with Live(console=console(), screen=False, auto_refresh=False) as live:
            for report in reports(source):
                live.update(view(report), refresh=True)
    return 0


def _print(report: Report, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({**asdict(report), "healthy": report.healthy}))
    else:
        console().print(view(report))
    sys.stdout.flush()
