"""`make bench`: run every contender over the same messages and the same broker, print a table, keep it as JSON."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from tapeline.schemas import TapelineError
from tapeline.streams.home import Home
from tapeline.streams.servers import Servers
from tests.bench import report
from tests.bench.lab import ROOT, BenchError, Lab
from tests.bench.latency import Ages, Latency, idle_percent
from tests.bench.market import Market
from tests.bench.peers.contract import Peer, PythonPeer, UnavailablePeerError
from tests.bench.peers.kafka_streams import KafkaStreams
from tests.bench.peers.quix import Quix
from tests.bench.pipelines import Floor, Ours, Pipeline
from tests.bench.plan import CONTENDERS, OURS, PARTS, Plan
from tests.bench.throughput import Throughput

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
    """One run: what was measured so far, and who could not be had."""

    def __init__(self, lab: Lab, plan: Plan) -> None:
        self._lab = lab
        self._plan = plan
        self.rows: list[report.Row] = []
        self.missing: list[str] = []

    async def run(self) -> None:
        """1. get the peers, 2. make the messages, 3. measure each part."""
        lab, plan = self._lab, self._plan
        found = await self._prepared()
        with lab.progress(f"making the market: {plan.rows:,} trades of each symbol"):
            market = Market(plan.rows)
        ours = Ours(lab)
        every: list[Pipeline] = [ours, Floor()]
        pipelines = [pipeline for pipeline in every if plan.wants(pipeline.name)]
        throughput = Throughput(lab, plan, market, ours, pipelines)
        if "throughput" in plan.parts:
            await throughput.beside(found)
        if "frames" in plan.parts and pipelines:
            await throughput.frames()
        self.rows += report.throughput_rows(throughput.results.samples)
        self.rows += report.memory_rows(throughput.results.samples)
        if "latency" in plan.parts:
            await self._latency(Latency(lab, plan, market, ours), pipelines, found)
        if "idle" in plan.parts and plan.wants(OURS):
            percent = await idle_percent(lab, plan, ours)
            self.rows.append(report.compare("idle_cpu_percent", "% of a core", max(percent.values())))
            self.rows += [
                report.compare(f"idle_cpu_{name}_percent", "% of a core", value) for name, value in percent.items()
            ]

    async def _prepared(self) -> list[Peer]:
        found = []
        for peer in peers():
            if self._plan.wants(peer.name):
                try:
                    await peer.prepare(self._lab)
                    found.append(peer)
                except UnavailablePeerError as error:
                    self.missing.append(f"{peer.name}: {error}")
                    self._lab.console.print(f"without {peer.name}: {error}", style="bold red", markup=False)
        return found

    async def _latency(self, latency: Latency, pipelines: Sequence[Pipeline], found: Sequence[Peer]) -> None:
        for rate in self._plan.latency_seconds:
            self._lab.console.print(f"latency at {rate:,} messages/s", style="bold")
            of_pipelines: dict[str, Ages | None] = {}
            for pipeline in pipelines:
                of_pipelines[pipeline.name] = await latency.pipeline(pipeline, rate)
                self._say(pipeline.name, of_pipelines[pipeline.name])
            ours = of_pipelines.pop(OURS, None)
            label = f"{rate // 1_000}k"
            for linger_ms in LINGERS_MS:
                beside = of_pipelines if linger_ms else {}
                for peer in found:
                    if peer.name != NEVER_FED_FAST:
                        beside[peer.name] = await latency.peer(peer, rate, linger_ms)
                        self._say(f"{peer.name}, fed with {linger_ms} ms linger", beside[peer.name])
                if beside or linger_ms:
                    self.rows += report.latency_rows(label if linger_ms else f"{label}_no_linger", ours, beside)

    def _say(self, who: str, ages: Ages | None) -> None:
        if ages is None:
            said = "does not keep up"
        else:
            said = "  ".join(f"{name} {np.percentile(ages, at):.1f}" for name, at in report.QUANTILES.items()) + " ms"
        self._lab.console.print(f"  {who:<40} {said}", highlight=False, soft_wrap=True)


async def _measure(plan: Plan, folder: Path, console: Console) -> Bench:
    """Run the bench beside a broker of its own. SIGTERM ends it as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with Servers.start(Home.at(folder / "home"), database=False, on_progress=console.print) as servers:
        assert servers.bootstrap_servers is not None
        bench = Bench(Lab(servers.bootstrap_servers, folder, console), plan)
        await bench.run()
        return bench


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
    whole = only == set(CONTENDERS) and parts == set(PARTS) and scale >= 1
    console = Console(width=None if sys.stdout.isatty() else FILE_COLUMNS)
    folder = Path(tempfile.mkdtemp(prefix="tapeline-bench-"))
    try:
        done = asyncio.run(_measure(plan, folder, console))
    except (BenchError, TapelineError) as error:
        console.print(f"bench: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("stopped: nothing was written")
        sys.exit(130)
    finally:
        with suppress(OSError):
            shutil.rmtree(folder)
    path = out or (LATEST if whole else PARTIAL)
    report.write(done.rows, path)
    report.show(done.rows, console)
    console.print(f"written to {os.path.relpath(path)}")
    for reason in done.missing:
        console.print(f"missing: {reason}", style="bold red", markup=False)
    sys.exit(1 if done.missing else 0)


if __name__ == "__main__":
    bench()
