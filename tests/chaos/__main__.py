"""`python -m tests.chaos`: many seeded runs, a line each, a table at the end; `make chaos` calls it."""

import sys
import time
from itertools import takewhile
from pathlib import Path

import click

from tapeline.streams.up import run_until_signal
from tests.chaos import report
from tests.chaos.inputs import NAMES
from tests.chaos.run import Outcome
from tests.chaos.scenario import MEANING, Kind, draw
from tests.chaos.session import UndisturbedError, session
from tests.chaos.venues import disturb_venues

FOLDER = Path(".chaos")
KINDS = "\n".join(f"  {kind:<12} {what}" for kind, what in MEANING.items())
HELP = f"""Disturb whole runs at seeded moments, and prove that the signals stay the same, once each.

Exit status 0: no differences. 1: there were some; the logs of those runs are kept in {FOLDER}/seed-N. 130: Ctrl-C.

\b
Kinds of disturbances:
{KINDS}

\b
Examples:
  python -m tests.chaos --runs 300 --seed 1
  python -m tests.chaos --minutes 10 --seed 1000
  python -m tests.chaos --runs 5 --seed 7 --kinds kill,twin
  python -m tests.chaos --runs 1 --seed 42 --keep       the run of seed 42 again, with all its logs
  python -m tests.chaos --venues --runs 500             live clients against a venue that fails in every way
"""


@click.command(help=HELP, context_settings={"max_content_width": 120})
@click.option("--runs", default=300, show_default=True, type=click.IntRange(1), help="How many at most.")
@click.option("--seed", default=1, show_default=True, help="Of the first run; the next ones count on.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Begin no run after so long.")
@click.option("--kinds", help="Only these, with commas between them; a seed gives another scenario then.")
@click.option("--short", is_flag=True, help="No long absences: broker and database are away for seconds only.")
@click.option("--venues", is_flag=True, help="Disturb live clients of venues instead of roles and servers.")
@click.option("--keep", is_flag=True, help="Keep the logs of every run, not only of those that differ.")
def main(runs: int, seed: int, minutes: float | None, kinds: str | None, short: bool, venues: bool, keep: bool) -> None:
    """Run the command line."""
    if venues:
        sys.exit(disturb_venues(range(seed, seed + runs), minutes))
    allowed = [_kind(name.strip()) for name in kinds.split(",")] if kinds else list(Kind)
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + minutes * 60 if minutes else float("inf")
    left = takewhile(lambda _: time.monotonic() < deadline, range(seed, seed + runs))

    def tell(outcome: Outcome) -> None:
        click.echo(report.line(outcome))
        for ending in outcome.endings:
            click.echo(f"  ~ {ending}")
        for difference in outcome.differences:
            click.echo(f"  ! {difference}", err=True)
        if outcome.scenario.disturbances:
            outcomes.append(outcome)

    complete = False

    async def work() -> None:
        nonlocal complete
        await session((draw(one, NAMES, allowed, short=short) for one in left), FOLDER, tell, always=keep)
        complete = True

    try:
        run_until_signal(work())
    except UndisturbedError:
        sys.exit(1)
    finally:
        report.show(outcomes)
        report.write(FOLDER / "latest.json", outcomes)
    if any(one.differences for one in outcomes):
        sys.exit(1)
    if not complete:
        click.echo(f"stopped after {len(outcomes)} runs")
        sys.exit(130)


def _kind(name: str) -> Kind:
    try:
        return Kind(name)
    except ValueError:
        raise click.BadParameter(f"{name!r} is none of {', '.join(Kind)}", param_hint="--kinds") from None


if __name__ == "__main__":
    main()
