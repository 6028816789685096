"""`tapeline up`: the platform on this machine, servers and roles, until Ctrl-C; `tapeline demo` runs it too.

Roles are child processes and named by strings here: streams/ does not import agents/.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from tapeline.streams.groups import inputs
from tapeline.streams.home import Addresses, Home
from tapeline.streams.options import config_option
from tapeline.streams.servers import KAFKA_VERSION, Process, Progress, Servers
from tapeline.streams.settings import Settings, check_bars, check_logics, check_venues, load_settings
from tapeline.streams.supervisor import ChildState, Phase, Supervisor
from tapeline.streams.topics import ensure_topics

ROLES = ("normalize", "logic", "persist")
"""Those that always run."""


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform that runs: its home, the servers it started, and who keeps all of it running."""

    home: Home
    servers: Servers
    supervisor: Supervisor


@asynccontextmanager
async def run_platform(
    settings: Settings,
    *,
    roles: Sequence[str] | None = None,
    on_progress: Progress = lambda _: None,
    on_trouble: Progress = lambda _: None,
) -> AsyncIterator[Platform]:
    """Run servers and roles while the context lasts; with an empty list of roles, the servers with the topics alone.

    A server that the settings name is used and not started. 1. servers, 2. topics, 3. roles; the end goes
    backwards. `on_trouble` is told when a process ended and starts again. Enter it from the main thread.
    Raises HomeError (home in use), UnavailableError (something is not there) or ProcessError (a server failed).
    """
    home = Home.at(settings.home)
    if roles is None:
        roles = tuple(inputs(settings))
    if roles:
        check_logics(settings)
        check_bars(settings)
        check_venues(settings)
    async with Servers.start(
        home,
        kafka=settings.kafka.bootstrap_servers is None,
        database=settings.database.dsn is None,
        on_progress=on_progress,
    ) as servers:
        addresses = servers.addresses()

        def changed(state: ChildState) -> None:
            write_status(home, addresses, supervisor)
            if state.phase is Phase.WAITING:
                on_trouble(state.message)
            elif state.phase is Phase.RUNNING and state.restarts:
                on_trouble(f"{state.name} runs again (process {state.pid})")

        async with Supervisor(changed) as supervisor:
            supervisor.watch(*servers.running)
            on_progress("creating topics")
            for report in await asyncio.to_thread(ensure_topics, settings):
                for difference in report.differences:
                    on_trouble(f"topic {report.topic.name}: {difference}")
            if roles:
                on_progress("starting roles")
                await supervisor.start(*(_role(role, settings, home) for role in roles))
                await supervisor.start(*(_venue(name, settings, home) for name in settings.venues))
            yield Platform(home, servers, supervisor)


def write_status(home: Home, addresses: Addresses, supervisor: Supervisor) -> None:
    """Let other commands see which processes run: addresses.json (where) and status.json (how)."""
    states = supervisor.states
    home.publish(replace(addresses, pids={one.name: one.pid for one in states if one.pid is not None}))
    home.write_json(home.status_file, {"processes": [asdict(one) for one in states]})


def _role(role: str, settings: Settings, home: Home) -> Process:
    return _command(role, ("worker", role, "--instance", f"{role}-0"), settings, home)


def _venue(name: str, settings: Settings, home: Home) -> Process:
    return _command(f"ingest-{name}", ("ingest", name, "--plain"), settings, home)


def _command(name: str, arguments: Sequence[str], settings: Settings, home: Home) -> Process:
    env = os.environ | {"TAPELINE_HOME": str(home.path)}
    if settings.source is not None:
        env["TAPELINE_CONFIG"] = str(settings.source)
    command = [sys.executable, "-m", "tapeline.streams.cli", *arguments]
    return Process(name, command, log=home.logs / f"{name}.log", pid_file=home.run / f"{name}.pid", env=env)


def run_until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until it returns, or cancel it at SIGINT, SIGTERM or SIGHUP and wait until it has cleaned up.

    A second signal cuts the cleaning short; the kernel then ends what is left, because we end.
    """

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(work)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, task.cancel)
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    asyncio.run(main())


@click.command()
@click.option("--servers-only", is_flag=True, help="Run Kafka and PostgreSQL, no roles.")
@config_option
def up(config: Path | None, servers_only: bool) -> None:
    """Run the platform on this machine until Ctrl-C.

    Starts an Apache Kafka and a PostgreSQL of its own, except those that the settings name, creates the topics,
    runs the roles normalize, logic and persist (and bars, persist-ticks and persist-bars, where [bars], [database]
    store_ticks and store_bars are set), and reads the live venues of [venues]. Data and logs are kept in TAPELINE_HOME
    (~/.tapeline); every other command finds a running `up` there. A process that dies is started again.

    \b
    Examples:
      tapeline up                               servers and roles
      tapeline up --servers-only                to run roles by hand: tapeline worker logic
      TAPELINE_HOME=/data/tapeline tapeline up  another home
    """
    settings = load_settings(config)
    run_until_signal(_up(settings, () if servers_only else tuple(inputs(settings))))


async def _up(settings: Settings, roles: Sequence[str]) -> None:
    console = Console(highlight=False, soft_wrap=True, markup=False)
    status = console.status("starting", spinner="dots")
    trouble = lambda text: console.print(f"! {text}", style="yellow")  # noqa: E731
    try:
        status.start()
        async with run_platform(settings, roles=roles, on_progress=status.update, on_trouble=trouble) as platform:
            status.stop()
            _print_where(console, settings, platform, roles)
            try:
                await asyncio.Event().wait()
            finally:
                console.print("Stopping (Ctrl-C again hurries it)")
        # Reached by no one: the wait ends by cancellation only.
    except asyncio.CancelledError:
        console.print(f"Stopped. The data is kept in {settings.home}")
        raise
    finally:
        status.stop()


def _venues(settings: Settings, roles: Sequence[str]) -> str:
    if not settings.venues:
        return "none: name them in [venues]"
    return ", ".join(settings.venues) if roles else "none: start them with `tapeline ingest NAME`"


def _print_where(console: Console, settings: Settings, platform: Platform, roles: Sequence[str]) -> None:
    servers = platform.servers
    kafka = f"Apache Kafka {KAFKA_VERSION}" if servers.kafka else "not ours: [kafka] bootstrap_servers"
    database = "PostgreSQL 18" if servers.postgres else "not ours: [database] dsn"
    rows = [
        ("Kafka", f"{servers.bootstrap_servers or settings.kafka.bootstrap_servers}  ({kafka})"),
        ("Database", f"{servers.dsn or settings.database.dsn}  ({database})"),
        ("Roles", ", ".join(roles) or "none: start them with `tapeline worker`"),
        ("Venues", _venues(settings, roles)),
        ("Data", str(platform.home.path)),
        ("Logs", str(platform.home.logs)),
    ]
    lines = [f"  {name:<9} {value}" for name, value in rows]
    console.print("\n".join(["Tapeline runs. Ctrl-C stops it.", *lines]))
