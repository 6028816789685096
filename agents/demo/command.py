"""`tapeline demo`: servers, topics, roles and a market, with a live view until Ctrl-C.

1. The platform: ours, or that of a running `tapeline up`. 2. Wait for the roles. 3. Watch. 4. The market.
The end goes backwards: market, roles, servers; what was made is kept.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress

import click
from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient
from psycopg.conninfo import conninfo_to_dict
from rich.console import Console
from rich.live import Live

from tapeline.agents.demo import view
from tapeline.agents.demo.market import LiveMarket, Market, SimulatedMarket
from tapeline.agents.demo.meter import Reading
from tapeline.agents.demo.watch import Watch
from tapeline.connectors.venues.live.dialects import DIALECTS
from tapeline.schemas import TapelineError, UnavailableError
from tapeline.streams.home import Addresses, Home
from tapeline.streams.options import pass_settings
from tapeline.streams.servers import Process
from tapeline.streams.settings import FramesSettings, Settings, database_dsn, kafka_bootstrap
from tapeline.streams.supervisor import ChildState, Phase, Supervisor
from tapeline.streams.up import ROLES, run_platform, run_until_signal

Say = Callable[[str], None]

ROLES_SECONDS_MAX = 120.0
"""How long roles may take to start; compiling the logics is most of it."""
SETTLE_SECONDS_MAX = 15.0
"""How long the first signal may take beyond the time that the demo was to run."""
STILL_SECONDS = 2.0
"""Nothing moved for so long: all of it came through."""
DRAWS_A_SECOND = 4
NOTE_SECONDS = 20.0
"""How long the screen shows that a process ended or runs again."""
SEED, RATE, INSTRUMENTS = 7, 2000.0, 8
"""Of the simulated market."""


class NoSignalsError(TapelineError):
    """The demo ran and no signal came through."""


@click.command()
@click.option("--seconds", type=click.FloatRange(min=1), metavar="N", help="Stop after so long  [default: Ctrl-C].")
@click.option("--plain", is_flag=True, help="A line a second instead of the live view, as when there is no terminal.")
@click.option("--venue", type=click.Choice(list(DIALECTS)), metavar="NAME", help="A live market: binance, kraken, ...")
@click.option("--symbols", metavar="LIST", help="Of --venue, with commas [default: [venues], or much traded ones].")
@click.option("--seed", type=int, help="Decides all that is random in the simulated market  [default: 7].")
@click.option("--rate", type=float, metavar="N", help="Messages a second of the simulated market  [default: 2000].")
@click.option("--instruments", type=int, metavar="N", help="How many the simulated market has  [default: 8].")
@pass_settings
def demo(
    settings: Settings,
    seconds: float | None,
    plain: bool,
    venue: str | None,
    symbols: str | None,
    seed: int | None,
    rate: float | None,
    instruments: int | None,
) -> None:
    """Watch a market become signals, live: a simulated one, or with --venue a real one.

    Runs Kafka, PostgreSQL and the roles as `tapeline up` does, or uses an `up` that runs already, and feeds them the
    market. What it makes is kept in TAPELINE_HOME (~/.tapeline). With --seconds it exits 1 if no signal of this run
    reached the database. --venue needs internet, and says at once when there is none.

    \b
    Examples:
      tapeline demo                            until Ctrl-C
      tapeline demo --seconds 20 --plain       without a terminal: in a script, in CI
      tapeline demo --rate 20000 --instruments 50
      tapeline demo --venue binance
      tapeline demo --venue kraken --symbols BTC/USD,ETH/USD
    """
    market: Market
    if venue is None:
        if symbols is not None:
            raise click.UsageError("--symbols are of a live market: name it with --venue")
        market = SimulatedMarket(
            SEED if seed is None else seed,
            RATE if rate is None else rate,
            INSTRUMENTS if instruments is None else instruments,
        )
    else:
        for name, value in (("--seed", seed), ("--rate", rate), ("--instruments", instruments)):
            if value is not None:
                raise click.UsageError(f"{name} is of the simulated market: it does not go with --venue")
        market = LiveMarket.of(settings, venue, symbols)
    # A demo shows its own market alone.
    settings = settings.model_copy(update={"venues": {}})
    run = _Demo(settings, market, seconds, plain or not sys.stdout.isatty())
    run_until_signal(run.run())


class _Demo:
    """One run."""

    def __init__(self, settings: Settings, market: Market, seconds: float | None, plain: bool) -> None:
        self._settings = settings
        self._market = market
        self._seconds = seconds
        self._plain = plain
        self._home = Home.at(settings.home)
        self._console = Console(highlight=False, soft_wrap=True, markup=False)
        self._note, self._noted = "", 0.0
        self._on_screen = False

    async def run(self) -> None:
        """Do all of it; raises NoSignalsError, or what the platform raises."""
        await self._market.check()
        joined = self._home.addresses()
        try:
            await self._run(joined)
        except asyncio.CancelledError:
            self._print_what_is_kept(joined)
            raise
        self._print_what_is_kept(joined)

    async def _run(self, joined: Addresses | None) -> None:
        async with AsyncExitStack() as stack:
            with self._progress() as say:
                supervisor = await stack.enter_async_context(self._platform(joined, say))
                say("waiting for the roles (the first start compiles the logics)")
                await _roles_run(self._settings, self._home)
                say("starting the market")
                since_ns = time.time_ns()
                watch = Watch(self._settings, since_ns, self._market.instruments)
                watch.start()
                stack.callback(watch.stop)
                market = self._market_process(joined)
                await supervisor.start(market)
            try:
                await self._show(watch, joined)
            finally:
                self._print("Stopping the market" if joined else "Stopping: market, roles, servers (again hurries it)")
                await supervisor.stop(market.name)
            await self._settle(watch)

    @contextmanager
    def _progress(self) -> Iterator[Say]:
        """Show the steps of the start: lines, or one line that changes."""
        if self._plain:
            yield self._print
        else:
            with self._console.status("starting", spinner="dots") as status:
                yield status.update

    @asynccontextmanager
    async def _platform(self, joined: Addresses | None, say: Say) -> AsyncIterator[Supervisor]:
        """Give what supervises the market: that of our own platform, or beside a running `up` one for it alone."""
        if joined is not None:
            say(f"joining the `tapeline up` that runs as process {joined.pid}")
            async with Supervisor(self._changed) as supervisor:
                yield supervisor
            return
        async with run_platform(self._settings, on_progress=say, on_trouble=self._trouble) as platform:
            yield platform.supervisor

    def _market_process(self, joined: Addresses | None) -> Process:
        # Two demos beside one `up` are two markets.
        name = "market" if joined is None else f"market-{os.getpid()}"
        env = os.environ | {"TAPELINE_HOME": str(self._home.path)}
        if self._settings.frames == FramesSettings():
            env |= self._market.env
        if self._settings.source is not None:
            env["TAPELINE_CONFIG"] = str(self._settings.source)
        pid_file = self._home.run / f"{name}.pid"
        return Process(name, self._market.command(), log=self._home.logs / f"{name}.log", pid_file=pid_file, env=env)

    async def _show(self, watch: Watch, joined: Addresses | None) -> None:
        """Show readings until the time is up."""
        facts = view.Facts(str(self._market), self._places(joined))
        started = time.monotonic()

        def seconds() -> float:
            return time.monotonic() - started

        def time_is_up() -> bool:
            return self._seconds is not None and seconds() >= self._seconds

        if self._plain:
            for name, value in facts.places:
                self._print(f"  {name:<8} {value}")
            while not time_is_up():
                await asyncio.sleep(1)
                self._print(view.line(watch.reading, seconds()))
            return
        screen = Console(highlight=False)
        self._on_screen = True
        try:
            with Live(console=screen, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
                while not time_is_up():
                    size = screen.size
                    note = self._note if time.monotonic() - self._noted < NOTE_SECONDS else ""
                    drawn = view.screen(watch.reading, facts, seconds(), size.width, size.height, note)
                    live.update(drawn, refresh=True)
                    await asyncio.sleep(1 / DRAWS_A_SECOND)
        finally:
            self._on_screen = False

    async def _settle(self, watch: Watch) -> None:
        """Let what is under way come through; raises NoSignalsError if nothing does."""
        until = time.monotonic() + SETTLE_SECONDS_MAX
        moved, before = time.monotonic(), _totals(watch.reading)
        while time.monotonic() < until:
            await asyncio.sleep(0.1)
            reading = watch.reading
            if (now := _totals(reading)) != before:
                moved, before = time.monotonic(), now
            elif reading.stored.total >= max(1, reading.signals.total) and time.monotonic() - moved > STILL_SECONDS:
                break
        if not reading.stored.total:
            raise NoSignalsError(
                f"no signal reached the database: {reading.messages.total:,} messages, {reading.ticks.total:,} ticks "
                f"and {reading.signals.total:,} signals passed. {reading.trouble or 'The roles say why'}: see "
                f"{self._home.logs}, and `tapeline doctor`"
            )
        self._print(
            f"{reading.messages.total:,} messages became {reading.ticks.total:,} ticks (of them {reading.gaps:,} gaps; "
            f"{reading.rejected:,} bad messages put aside) and {reading.stored.total:,} signals in the database."
        )

    def _places(self, joined: Addresses | None) -> tuple[tuple[str, str], ...]:
        servers = f"Kafka {kafka_bootstrap(self._settings)}, PostgreSQL {_short(database_dsn(self._settings))}"
        return (
            ("Servers", servers if joined is None else f"{servers} (of `tapeline up`, process {joined.pid})"),
            ("Data", f"{self._home.path} (kept)"),
            ("Look", "tapeline signals, in another terminal"),
        )

    def _print_what_is_kept(self, joined: Addresses | None) -> None:
        rows = [
            ("tapeline signals", "the newest signals"),
            ("tapeline signals --format json", "all of them, for programs"),
            ("tapeline topics list", "what is in Kafka"),
        ]
        if joined is None:
            rows.insert(0, ("tapeline up", "start servers and roles again, in another terminal; then"))
        self._print(f"Everything is kept in {self._home.path}: database, topics, logs. To look at it:")
        for command, text in rows:
            self._print(f"  {command:<31} {text}")

    def _changed(self, state: ChildState) -> None:
        if state.phase is Phase.WAITING:
            self._trouble(state.message)

    def _trouble(self, text: str) -> None:
        self._note, self._noted = text, time.monotonic()
        if not self._on_screen:
            self._print(f"! {text}")

    def _print(self, text: str) -> None:
        self._console.print(text)


def _short(dsn: str) -> str:
    """Return host and database of a connection string: no user, no secret."""
    parts = conninfo_to_dict(dsn)
    host = str(parts.get("host") or "localhost")
    return "on its socket" if host.startswith("/") else f"{host}/{parts.get('dbname', '')}"


def _totals(reading: Reading) -> tuple[int, ...]:
    return reading.messages.total, reading.ticks.total, reading.signals.total, reading.stored.total


async def _roles_run(settings: Settings, home: Home) -> None:
    """Return once every role has its partitions, whoever runs it; raises UnavailableError if one does not come."""
    admin = AdminClient({**settings.kafka.librdkafka(kafka_bootstrap(settings)), "log_level": 2})
    groups = {f"tapeline.{role}": role for role in ROLES}
    until = time.monotonic() + ROLES_SECONDS_MAX
    while True:
        for group, future in admin.describe_consumer_groups(list(groups), request_timeout=10).items():
            # A broker that has just started does not know its groups yet, and says so.
            with suppress(KafkaException):
                if (await asyncio.wrap_future(future)).state == ConsumerGroupState.STABLE:
                    del groups[group]
        if not groups:
            return
        if time.monotonic() > until:
            missing = " ".join(groups.values())
            raise UnavailableError(
                f"nobody runs {missing} (waited {ROLES_SECONDS_MAX:.0f} s): read the logs in {home.logs}; beside "
                f"`tapeline up --servers-only`, run `tapeline worker {missing}`"
            )
        await asyncio.sleep(0.1)
