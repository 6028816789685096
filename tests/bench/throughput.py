"""Messages and ticks a second: raw to signals beside the peers, and each hop by frame size."""

from collections import defaultdict
from dataclasses import dataclass, field

from tests.bench.fill import fill_raw, fill_trades
from tests.bench.lab import Lab
from tests.bench.market import PAIRS, Market
from tests.bench.measure import Expected, Sample, one_hop, two_hops
from tests.bench.peers.contract import Job, Peer
from tests.bench.pipelines import BOTH, LOGIC, NORMALIZE, Floor, Ours, Pipeline
from tests.bench.plan import LARGEST_FRAME, Plan

LINGER_MS = 20
"""Of the producers of peers and the floor where throughput counts."""
WARM_UPS_MAX = 6
FASTER = 1.05
"""A run that is not so much faster than the best before it shows a broker that is warm."""
CHEAP = ("ours", "floor", "kafka-streams", "confluent")
"""Contenders that are measured several times."""
MIXED = "mixed"

Key = tuple[str, str]
"""(what, contender), e.g. ("raw_to_signals with 2", "ours")."""


@dataclass(slots=True)
class Results:
    """Samples of everything that was measured."""

    samples: dict[Key, list[Sample]] = field(default_factory=lambda: defaultdict(list))

    def add(self, lab: Lab, what: str, contender: str, sample: Sample) -> None:
        """Keep a sample and show it."""
        self.samples[what, contender].append(sample)
        lab.console.print(f"  {contender:<14} {what:<28} {sample}", highlight=False, soft_wrap=True)


class Throughput:
    """Measures pipelines and peers over the same market."""

    def __init__(
        self, lab: Lab, plan: Plan, market: Market, ours: Ours, pipelines: list[Pipeline], results: Results
    ) -> None:
        self._lab = lab
        self._plan = plan
        self._market = market
        self._ours = ours  # `raw` is its topic, also where only the floor reads it
        self._pipelines = pipelines
        self._raw_frame: tuple[int, bool] | None = None
        self._runs = 0
        self.results = results

    async def beside(self, peers: list[Peer]) -> None:
        """Measure raw to signals of all, one round after another, so that a slow minute of the machine hits all."""
        plan, lab = self._plan, self._lab
        lab.console.print("raw to signals", style="bold")
        await self._fill_raw(LARGEST_FRAME)
        await self._warm_broker()
        for peer in peers:
            if not peer.waits_for_records:
                await self._fill_trades(peer)
        for number in range(plan.samples):
            for pipeline in self._pipelines:
                await self.both_hops(pipeline, LARGEST_FRAME, "raw_to_signals with 2")
                if pipeline is self._ours:
                    await self.both_hops(pipeline, LARGEST_FRAME, "raw_to_signals with 1", together=True)
            for peer in peers:
                if number == 0 or peer.name in CHEAP:
                    for processes in (1, 2):
                        await self._peer(peer, processes)
        await lab.delete({self._trades(peer) for peer in peers})

    async def _warm_broker(self) -> None:
        """Let the floor run until it gets no faster: a fresh broker compiles itself for a minute, on our cores."""
        floor, best = Floor(LINGER_MS), 0.0
        for _ in range(WARM_UPS_MAX):
            sample = await self._both_hops(floor, LARGEST_FRAME, "warming the broker")
            if sample.rate < best * FASTER:
                return
            best = max(best, sample.rate)

    async def frames(self) -> None:
        """Measure each hop, and both, by frame size; and both over frames that hold instruments of all partitions."""
        for frame in sorted(self._plan.frame_rows, reverse=True):
            self._lab.console.print(f"frames of {frame:,} messages", style="bold")
            await self._fill_raw(frame)
            for pipeline in self._pipelines:
                await self._each_hop(pipeline, frame)
                if ("raw_to_signals with 2", pipeline.name) not in self.results.samples or frame != LARGEST_FRAME:
                    await self.both_hops(pipeline, frame, f"raw_to_signals {frame}")
        self._lab.console.print(f"frames of {LARGEST_FRAME:,} messages, instruments of all partitions", style="bold")
        await self._fill_raw(LARGEST_FRAME, mixed=True)
        for pipeline in self._pipelines:
            await self.both_hops(pipeline, LARGEST_FRAME, f"raw_to_signals {MIXED}")

    async def both_hops(self, pipeline: Pipeline, frame: int, what: str, *, together: bool = False) -> None:
        """Measure raw to signals of a pipeline."""
        self.results.add(
            self._lab, what, pipeline.name, await self._both_hops(pipeline, frame, what, together=together)
        )

    async def _both_hops(self, pipeline: Pipeline, frame: int, what: str, *, together: bool = False) -> Sample:
        await pipeline.reset(self._lab)
        running = pipeline.running(self._lab, BOTH, self._plan.fast, self._plan.slow, together=together)
        expected = self._signals(pipeline.signals, self._plan.frame_rows[frame])
        sample = await two_hops(self._lab, f"{pipeline.name}: {what}", running, pipeline.ticks, expected)
        pipeline.check(self._lab)
        return sample

    async def _each_hop(self, pipeline: Pipeline, frame: int) -> None:
        """Measure normalize alone, then logic alone over the ticks that it made."""
        lab, plan = self._lab, self._plan
        await pipeline.reset(lab)
        messages = plan.frame_rows[frame] * len(PAIRS)
        ticks = Expected(pipeline.ticks, messages // frame, messages, frames=True)
        running = pipeline.running(lab, [NORMALIZE], plan.fast, plan.slow)
        self.results.add(lab, f"normalize {frame}", pipeline.name, await one_hop(lab, "normalize", running, ticks))
        running = pipeline.running(lab, [LOGIC], plan.fast, plan.slow)
        signals = self._signals(pipeline.signals, plan.frame_rows[frame])
        sample = await one_hop(lab, "ticks to signals", running, signals)
        self.results.add(lab, f"ticks_to_signals {frame}", pipeline.name, sample)
        pipeline.check(lab)

    async def _peer(self, peer: Peer, processes: int) -> None:
        lab, rows = self._lab, self._plan.peer_rows[peer.name]
        self._runs += 1
        output = f"signals-{peer.name}-{self._runs}"  # the name of its group too, which must not have read before
        job = Job(self._trades(peer), output, processes, self._plan.fast, self._plan.slow, LINGER_MS)
        await lab.create([job.output])
        if peer.waits_for_records:
            await lab.delete([job.input])
            await lab.create([job.input])
        sample = await one_hop(
            lab,
            f"{peer.name} with {processes}",
            peer.running(lab, job),
            self._signals(job.output, rows),
            fill=(lambda: fill_trades(lab, job.input, self._market, rows, _untold)) if peer.waits_for_records else None,
        )
        await lab.delete([job.output])
        self.results.add(lab, f"raw_to_signals with {processes}", peer.name, sample)

    def _signals(self, topic: str, rows: int) -> Expected:
        plan = self._plan
        return Expected(topic, self._market.signal_count(rows, plan.fast, plan.slow), rows * len(PAIRS))

    def _trades(self, peer: Peer) -> str:
        """The topic of a peer's trades; peers that read as many read the same."""
        kind = peer.name if peer.waits_for_records else "shared"
        return f"trades-{kind}-{self._plan.peer_rows[peer.name]}"

    async def _fill_trades(self, peer: Peer) -> None:
        topic, rows = self._trades(peer), self._plan.peer_rows[peer.name]
        if self._lab.has(topic):
            return
        await self._lab.create([topic])
        with self._lab.progress(f"filling {topic}: {rows * len(PAIRS):,} records") as told:
            await fill_trades(self._lab, topic, self._market, rows, told)

    async def _fill_raw(self, frame: int, *, mixed: bool = False) -> None:
        if self._raw_frame == (frame, mixed) or not self._pipelines:
            return
        await self._ours.reset(self._lab, raw=True)
        rows = self._plan.frame_rows[frame]
        with self._lab.progress(f"filling raw: {rows * len(PAIRS):,} messages in frames of {frame:,}") as told:
            await fill_raw(self._lab, self._market, rows, frame, told, mixed=mixed)
        self._raw_frame = (frame, mixed)


def _untold(_: float) -> None:
    """Filling is over before anybody could look."""
