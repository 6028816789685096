"""`python -m tests.soak`: a steady live venue through `tapeline up`, watched for an hour; `make soak` calls it."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import psutil
from confluent_kafka import KafkaException
from rich.console import Console
from rich.table import Table

from tapeline.schemas import TOPICS
from tests.bench.market import PAIRS
from tests.soak.verdict import INGEST, JUDGED, ROLES, Sample, Verdict, judge, minutes
from tests.soak.witness import Witness, faults
from tests.system.broker import INPUTS
from tests.system.conftest import temporary_home
from tests.system.platform import Platform, running_platform, wait_until
from tests.venue.steady import FIRST_ID

FILE = Path(".soak/latest.json")
EVERY_SECONDS = 2.0
FEW = 5
SYMBOLS = [pair.symbol for pair in PAIRS]
CONFIG = """
[venues.binance]
symbols = {symbols}
streams = ["trade"]
url = "ws://127.0.0.1:{port}"
rest = "http://127.0.0.1:{port}"
"""


@click.command()
@click.option("--minutes", "length", default=60.0, show_default=True, type=click.FloatRange(0.5))
@click.option("--rate", default=20_000, show_default=True, help="Ticks a second, each a message of its own.")
def main(length: float, rate: int) -> None:
    """Read a live venue at a steady rate: memory does not grow, nothing falls behind, every tick comes exactly once.

    Exit status 0: it passed. 1: it failed, and says why. The table is written to .soak/latest.json too.

    \b
    Examples:
      python -m tests.soak
      python -m tests.soak --minutes 2
      python -m tests.soak --minutes 600 --rate 10000
    """
    verdict, rows = soak(length * 60, rate, click.echo)
    FILE.parent.mkdir(exist_ok=True)
    found = {"rate": rate, "passed": not verdict.faults, **asdict(verdict), "minutes": rows}
    FILE.write_text(json.dumps(found, indent=2))
    _show(verdict, rows)
    for fault in verdict.faults:
        click.echo(f"FAIL: {fault}")
    click.echo("FAIL" if verdict.faults else "PASS")
    sys.exit(bool(verdict.faults))


def soak(seconds: float, rate: int, tell: Callable[[str], None]) -> tuple[Verdict, list[dict[str, Any]]]:
    """Run the platform beside the venue for so long; return the verdict and a row a minute. tell: what goes on."""
    samples: list[Sample] = []
    with temporary_home() as home, _steady_venue(rate) as venue:
        config = home.path.with_name("soak.toml")
        config.write_text(CONFIG.format(symbols=json.dumps(SYMBOLS), port=venue.port))
        with running_platform(home, {"TAPELINE_CONFIG": str(config)}) as platform:
            wait_until(lambda: platform.pid_of(INGEST), "the feed to begin")
            partitions = TOPICS["ticks"].partitions
            with Witness(platform.bootstrap, partitions, FIRST_ID) as witness:
                for sample in _samples(platform, seconds):
                    samples.append(sample)
                    if len(samples) % 15 == 0:
                        lag = ", ".join(f"{role} {records}" for role, records in sample.lag_records.items())
                        seen = f"{witness.account.trades:,} ticks, {sample.signals:,} signals"
                        tell(f"{sample.seconds:.0f} s: {seen}; records behind: {lag}")
                sent = venue.stop()
                with suppress(AssertionError):  # what is missing is said below
                    wait_until(lambda: witness.account.trades >= sent, "the last tick", 60)
                lost = faults(witness.account, sent, len(SYMBOLS))
            verdict = judge(samples, rate)
            verdict.faults.extend(lost)
            verdict.faults.extend(f"rejected: {one.detail}" for one in platform.rejected()[:FEW])
            tell(
                f"{sent:,} ticks sent, {witness.account.trades:,} in `ticks`, {witness.duplicates:,} frames came again"
            )
    return verdict, list(minutes(samples))


class Steady:
    """The venue, a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.port: int = self._said()["port"]

    def _said(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def stop(self) -> int:
        """Let it fall silent; return how many ticks it has sent."""
        self._process.terminate()
        return int(self._said()["sent"])


@contextmanager
def _steady_venue(rate: int) -> Iterator[Steady]:
    command = [sys.executable, "-m", "tests.venue.steady", "--rate", str(rate), "--symbols", str(len(SYMBOLS))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Steady(process)
        finally:
            process.terminate()


def _samples(platform: Platform, seconds: float) -> Iterator[Sample]:
    """Look every two seconds; a look that cannot be taken, because something is being started again, is left out."""
    started = time.monotonic()
    while (now := time.monotonic() - started) < seconds:
        with suppress(psutil.Error, KafkaException, OSError):
            yield _sample(platform, now)
        time.sleep(max(0.0, started + now + EVERY_SECONDS - time.monotonic()))


def _sample(platform: Platform, seconds: float) -> Sample:
    (up,) = platform.started
    addresses = platform.home.addresses()
    pids = dict(addresses.pids) if addresses is not None else {}
    trees = {name: _rss(pid) for name, pid in pids.items()}
    trees["up"] = psutil.Process(up.pid).memory_info().rss
    ends = {role: platform.ends(topic) for role, topic in INPUTS.items()}
    committed = {role: platform.committed(role, topic) for role, topic in INPUTS.items()}
    return Sample(
        seconds=seconds,
        rss_bytes=trees,
        pids={name: pids.get(name, 0) for name in (*ROLES, INGEST)},
        lag_records={role: sum(ends[role].values()) - sum(committed[role].values()) for role in ROLES},
        input_records={role: sum(ends[role].values()) for role in ROLES},
        messages=_messages(platform),
        signals=sum(ends["persist"].values()),
    )


def _rss(pid: int) -> int:
    leader = psutil.Process(pid)
    return sum(one.memory_info().rss for one in (leader, *leader.children(recursive=True)))


def _messages(platform: Platform) -> int:
    """How many messages the normaliser has taken, as it says itself."""
    for worker in platform.workers():
        for role in worker.roles:
            if role.name == "normalize":
                return sum(partition.items for partition in role.partitions.values())
    return 0


def _show(verdict: Verdict, rows: list[dict[str, Any]]) -> None:
    names = list(verdict.growth)
    table = Table("minute", *names, *ROLES, "messages", "signals", box=None)
    table.title, table.title_justify = "Memory (MB) by process, lag (s) by role, messages and signals a second", "left"
    for row in rows:
        table.add_row(
            str(row["minute"]),
            *(f"{row['rss_mb'].get(name, 0):.1f}" for name in names),
            *(f"{row['lag_seconds'].get(role, 0):.1f}" for role in ROLES),
            f"{row['messages_per_second']:,}",
            f"{row['signals_per_second']:,}",
        )
    growth = [f"{verdict.growth[name]:+.2%}" if name in JUDGED else "" for name in names]
    lag = [f"{verdict.lag_seconds_max[role]:.1f}" for role in ROLES]
    speed = [f"{verdict.messages_per_second:,.0f}", f"{verdict.signals_per_second:,.1f}"]
    table.add_row("warm", *growth, *lag, *speed)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
