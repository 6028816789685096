"""`tapeline worker ROLE...`: run roles in this process, each an ordinary Faust app. `tapeline up` starts it too."""

import importlib

import click

from tapeline.schemas import UnavailableError
from tapeline.streams.options import pass_settings
from tapeline.streams.settings import Settings, check_bars, check_logics
from tapeline.streams.topic_admin import State, TopicAdmin

MODULES = {
    "normalize": "tapeline.agents.normalize",
    "logic": "tapeline.agents.logic_worker",
    "bars": "tapeline.agents.bars",
    "persist": "tapeline.agents.persist",
    "persist-ticks": "tapeline.agents.persist_ticks",
    "persist-bars": "tapeline.agents.persist_bars",
}


@click.command()
@click.argument("roles", nargs=-1, required=True, type=click.Choice(list(MODULES)), metavar="ROLE...")
@click.option("--instance", help="A name for this process that stays the same over restarts (static membership).")
@click.option("--web-port", type=click.IntRange(1, 65535), help="Show Faust's own pages there (next role: next port).")
@click.option("--loglevel", default="INFO", show_default=True, type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]))
@pass_settings
def worker(
    settings: Settings, roles: tuple[str, ...], instance: str | None, web_port: int | None, loglevel: str
) -> None:
    """Run roles (normalize, logic, bars, persist, persist-ticks, persist-bars) until Ctrl-C.

    Several workers of one role share its partitions. Each shows its numbers to `tapeline status` and, at
    /metrics, to Prometheus.

    \b
    Examples:
      tapeline worker normalize logic persist     everything in one process
      tapeline worker logic --instance logic-1    one of several, restarted at once under its name
    """
    # Here, so that `tapeline worker --help` does not wait for numba and Faust.
    from tapeline.streams import telemetry, transport

    if "logic" in roles:
        check_logics(settings)
    if "bars" in roles:
        check_bars(settings)
    missing = [report.topic.name for report in TopicAdmin(settings).inspect() if report.state is State.MISSING]
    if missing:
        raise UnavailableError(f"topics are missing: {', '.join(missing)}; `tapeline topics create` makes them")
    apps = [
        importlib.import_module(MODULES[role]).app(
            settings, f"{role}.{instance}" if instance else None, web_port + number if web_port else None
        )
        for number, role in enumerate(dict.fromkeys(roles))
    ]
    with telemetry.serving(settings, [app.role.stats for app in apps], instance):
        transport.run(apps, loglevel)
