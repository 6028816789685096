"""`make bench`: run every contender over the same messages and the same broker, print a table, keep it as JSON."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from tapeline.schemas import TapelineError
from tapeline.streams.home import Home
from tapeline.streams.servers import Servers
from tests.bench import bars, book, captures, report
from tests.bench.handover import handover_ms
from tests.bench.lab import ROOT, BenchError, Lab
from tests.bench.latency import Ages, Latency, idle_percent
from tests.bench.live import Live
from tests.bench.market import Market
from tests.bench.peers.contract import Peer, PythonPeer, UnavailablePeerError
from tests.bench.peers.environment import Environment
from tests.bench.peers.kafka_streams import KafkaStreams
from tests.bench.peers.quix import Quix
from tests.bench.pipelines import Floor, Ours, Pipeline
from tests.bench.plan import CONTENDERS, CRYPTOFEED, OURS, OVER_THE_MARKET, PARTS, POLARS, SORTEDCONTAINERS, Plan
from tests.bench.quality import quality_rows
from tests.bench.store import store_rows
from tests.bench.throughput import LINGER_MS, Results, Throughput

LATEST, PARTIAL = ROOT / ".bench" / "latest.json", ROOT / ".bench" / "partial.json"
LINGERS_MS = (5, 0)
"""Of the feed of peers where latency counts."""
FILE_COLUMNS = 120
"""Where the output goes to no terminal."""
NEVER_FED_FAST = "quix"
"""Not among the peers of latency."""


def peers() -> list[Peer]:
    """Return every peer."""
    return [
        KafkaStreams(),
        PythonPeer("confluent", "tests.bench.peers.confluent_loop", assigned=True),
        Quix(),
        PythonPeer("faust", "tests.bench.peers.plain_faust", assigned=False),
    ]


class Bench:
    """One run: what was measured so far, and what went wrong."""

    def __init__(self, console: Console, plan: Plan) -> None:
        self._console = console
        self._plan = plan
        self._rates = Results()
        self._others: list[report.Row] = []
        self.faults: list[str] = []

    @property
    def rows(self) -> list[report.Row]:
        """Everything that was measured."""
        samples = self._rates.samples
        return [*report.throughput_rows(samples), *report.memory_rows(samples), *self._others]

    async def serve(self, folder: Path) -> None:
        """Run, beside a broker if need be; what fails ends it with what is there. SIGTERM ends it as Ctrl-C does."""
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            await self._without_broker(folder)
            if not self._plan.needs_broker:
                return
            async with Servers.start(
                Home.at(folder / "home"), database=False, on_progress=self._console.print
            ) as servers:
                assert servers.bootstrap_servers is not None
                await self.run(Lab(servers.bootstrap_servers, folder, self._console))
        except (BenchError, TapelineError) as error:
            self._fault(str(error))

    async def _without_broker(self, folder: Path) -> None:
        """Measure the parts that only need us; a broker beside them would take a share of the machine."""
        plan, console = self._plan, self._console
        if "captures" in plan.parts and plan.wants(OURS):
            await self._beside(CRYPTOFEED, captures.ENVIRONMENT, captures.capture_rows)
        if "book" in plan.parts and plan.wants(OURS):
            await self._beside(SORTEDCONTAINERS, book.ENVIRONMENT, book.book_rows)
        if "quality" in plan.parts and plan.wants(OURS):
            self._others += quality_rows(plan, console)
        if "bars" in plan.parts and plan.wants(OURS):
            await self._beside(POLARS, bars.ENVIRONMENT, bars.bar_rows)
        if "store" in plan.parts and plan.wants(OURS):
            self._others += await store_rows(folder, plan, console)

    async def _beside(
        self,
        peer: str,
        environment: Environment,
        rows: Callable[[Plan, Console, Path | None], Awaitable[list[report.Row]]],
    ) -> None:
        """Measure a part beside a peer with an environment of its own, or without it."""
        python = None
        if self._plan.wants(peer):
            try:
                python = await environment.prepare(self._console)
            except UnavailablePeerError as error:
                self._fault(f"without {peer}: {error}")
        try:
            self._others += await rows(self._plan, self._console, python)
        except UnavailablePeerError as error:
            self._fault(str(error))

    async def run(self, lab: Lab) -> None:
        """Measure the parts that need a broker."""
        plan, ours = self._plan, Ours(lab)
        if not plan.parts.isdisjoint(OVER_THE_MARKET):
            await self._over_the_market(lab, ours)
        if "live" in plan.parts and plan.wants(OURS):
            await self._live(Live(lab, plan, ours))
        if "idle" in plan.parts and plan.wants(OURS):
            percent = await idle_percent(lab, plan, ours)
            self._others.append(report.compare("idle_cpu_percent", "% of a core", max(percent.values())))
            self._others += [
                report.compare(f"idle_cpu_{name}_percent", "% of a core", value) for name, value in percent.items()
            ]

    async def _over_the_market(self, lab: Lab, ours: Ours) -> None:
        """1. get the peers, 2. make the messages, 3. measure each part."""
        plan = self._plan
        found = await self._prepared(lab)
        with lab.progress(f"making the market: {plan.rows:,} trades of each symbol"):
            market = Market(plan.rows)

        def pipelines(linger_ms: int) -> list[Pipeline]:
            return [pipeline for pipeline in (ours, Floor(linger_ms)) if plan.wants(pipeline.name)]

        throughput = Throughput(lab, plan, market, ours, pipelines(LINGER_MS), self._rates)
        if "throughput" in plan.parts:
            await throughput.beside(found)
        if "frames" in plan.parts and pipelines(LINGER_MS):
            await throughput.frames()
        if "latency" in plan.parts:
            await self._latency(Latency(lab, plan, market, ours), pipelines(0), found)
        if "handover" in plan.parts and plan.wants(OURS):
            await self._handover(lab, market, ours)

    async def _prepared(self, lab: Lab) -> list[Peer]:
        found = []
        for peer in peers():
            if self._plan.wants(peer.name):
                try:
                    await peer.prepare(lab)
                    found.append(peer)
                except UnavailablePeerError as error:
                    self._fault(f"without {peer.name}: {error}")
        return found

    def _fault(self, text: str) -> None:
        self.faults.append(text)
        self._console.print(f"bench: {text}", style="bold red", markup=False, highlight=False, soft_wrap=True)

    async def _latency(self, latency: Latency, pipelines: Sequence[Pipeline], found: Sequence[Peer]) -> None:
        # A broker that is still compiling itself takes half the machine, and whoever comes first would pay for it.
        for pipeline in pipelines[:1]:
            await latency.pipeline(pipeline, max(self._plan.latency_seconds))
        for rate in self._plan.latency_seconds:
            self._console.print(f"latency at {rate:,} messages/s", style="bold")
            of_pipelines: dict[str, Ages | None] = {}
            for pipeline in pipelines:
                of_pipelines[pipeline.name] = await latency.pipeline(pipeline, rate)
                self._say(pipeline.name, of_pipelines[pipeline.name])
                if pipeline.name == OURS and of_pipelines[OURS] is None:
                    self._fault(f"we do not keep up with {rate:,} messages/s")
            ours = of_pipelines.pop(OURS, None)
            label = f"{rate // 1_000}k"
            for linger_ms in LINGERS_MS:
                beside = of_pipelines if linger_ms else {}
                for peer in found:
                    if peer.name != NEVER_FED_FAST:
                        beside[peer.name] = await latency.peer(peer, rate, linger_ms)
                        self._say(f"{peer.name}, fed with {linger_ms} ms linger", beside[peer.name])
                if beside or linger_ms:
                    self._others += report.latency_rows(label if linger_ms else f"{label}_no_linger", ours, beside)

    async def _live(self, live: Live) -> None:
        for rate, seconds in self._plan.live_seconds.items():
            self._console.print(f"live at {rate:,} messages/s", style="bold")
            found = None
            for _ in range(2):  # the first for a broker that still compiles itself
                found = await live.ages(rate, seconds)
            if found is None:
                self._fault(f"we do not keep up with a venue of {rate:,} messages/s")
            sent, received = found or (None, None)
            self._say("written to the socket, to read from ticks", sent)
            self._say("received, to read from ticks", received)
            self._others += report.live_rows(f"{rate // 1_000}k", {"": sent, "_received": received})

    async def _handover(self, lab: Lab, market: Market, ours: Ours) -> None:
        silences = await handover_ms(lab, self._plan, market, ours)
        for change, found in silences.items():
            self._console.print(f"handover, {change}: a partition was silent for {found} ms", highlight=False)
            self._others.append(report.compare(f"handover_{change}_ms", "ms", max(found), samples=len(found)))

    def _say(self, who: str, ages: Ages | None) -> None:
        if ages is None:
            said = "does not keep up"
        else:
            said = "  ".join(f"{name} {np.percentile(ages, at):.1f}" for name, at in report.QUANTILES.items()) + " ms"
        self._console.print(f"  {who:<40} {said}", highlight=False, soft_wrap=True)


def _names(_: click.Context, option: click.Parameter, text: str | None) -> frozenset[str]:
    """Read names with commas between them; none = all."""
    known = CONTENDERS if option.name == "only" else PARTS
    names = frozenset((text or ",".join(known)).split(","))
    if unknown := names - set(known):
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: there are {', '.join(known)}")
    return names


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", callback=_names, metavar="NAMES", help=f"Contenders: {', '.join(CONTENDERS)} [default: all].")
@click.option("--parts", callback=_names, metavar="NAMES", help=f"Parts: {', '.join(PARTS)} [default: all].")
@click.option("--scale", type=click.FloatRange(0.001, 100), default=1.0, help="Times the messages [default: 1].")
@click.option("--quick", is_flag=True, help="A tenth of the messages, each contender once: a look, not figures.")
@click.option("--samples", type=click.IntRange(1), default=3, help="Of contenders that are fast [default: 3].")
@click.option("--out", type=click.Path(path_type=Path), help="Where the JSON goes [default: see below].")
def bench(
    only: frozenset[str], parts: frozenset[str], scale: float, quick: bool, samples: int, out: Path | None
) -> None:
    """Measure Tapeline beside its peers: the same messages, the same broker, one machine, one run.

    A whole run goes to .bench/latest.json, any other to .bench/partial.json. docs/benchmarks.md says how to read it.

    \b
    Examples:
      make bench
      make bench ARGS="--only ours,floor --quick"
      make bench ARGS="--only ours,kafka-streams --parts throughput,latency"
      python -m tests.bench --parts idle

    \b
    Exit status: 0 measured, 1 a contender failed or could not be had, 130 Ctrl-C.
    """
    if quick:
        scale, samples = min(scale, 0.1), 1
    plan = Plan.make(only, parts, scale=scale, samples=samples)
    console = Console(width=None if sys.stdout.isatty() else FILE_COLUMNS)
    run = Bench(console, plan)
    folder = Path(tempfile.mkdtemp(prefix="tapeline-bench-"))
    folder.chmod(0o711)  # as root, PostgreSQL runs under another account
    try:
        asyncio.run(run.serve(folder))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("stopped: nothing was written")
        sys.exit(130)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    whole = only == set(CONTENDERS) and parts == set(PARTS) and scale >= 1 and not run.faults
    path = out or (LATEST if whole else PARTIAL)
    report.write(run.rows, path)
    report.show(run.rows, console)
    console.print(f"written to {os.path.relpath(path)}")
    for fault in run.faults:
        console.print(f"bench: {fault}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(1 if run.faults else 0)


if __name__ == "__main__":
    bench()
