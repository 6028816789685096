"""`python -m tests.chaos`: many seeded runs of the roles, then of live venues; `make chaos` calls it."""

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
from tests.chaos.venues import INTERRUPTED, disturb_venues

FOLDER = Path(".chaos")
RUNS = {"roles": 300, "venues": 500}
KINDS = "\n".join(f"  {kind:<12} {what}" for kind, what in MEANING.items())
HELP = f"""Disturb whole runs at seeded moments, and prove that the signals stay the same, once each.

Then live clients of venues, against a venue that fails in every way: what it said is in the log, or a gap says why not.

Exit status 0: no differences. 1: there were some; the logs of those runs are kept in {FOLDER}/seed-N. 130: Ctrl-C.

\b
Kinds of disturbances of roles and servers:
{KINDS}

\b
Examples:
  python -m tests.chaos
  python -m tests.chaos --only venues --runs 120 --seed 1000
  python -m tests.chaos --only roles --minutes 10 --seed 1000
  python -m tests.chaos --only roles --runs 5 --seed 7 --kinds kill,twin
  python -m tests.chaos --only roles --runs 1 --seed 42 --keep  the run of seed 42 again, with all its logs
"""


@click.command(help=HELP, context_settings={"max_content_width": 120})
@click.option("--only", type=click.Choice(list(RUNS)), help="What is disturbed [default: first roles, then venues].")
@click.option("--runs", type=click.IntRange(1), help="How many at most [default: 300 of roles, 500 of venues].")
@click.option("--seed", default=1, show_default=True, help="Of the first run; the next ones count on.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Begin no run after so long.")
@click.option("--kinds", help="Of roles: only these, with commas between them; a seed gives another scenario then.")
@click.option("--short", is_flag=True, help="Of roles: broker and database are never away for long, for seconds only.")
@click.option("--keep", is_flag=True, help="Of roles: keep the logs of every run, not only of those that differ.")
def main(
    only: str | None,
    runs: int | None,
    seed: int,
    minutes: float | None,
    kinds: str | None,
    short: bool,
    keep: bool,
) -> None:
    """Run the command line."""
    wanted = [only] if only else list(RUNS)
    allowed = [_kind(name.strip()) for name in kinds.split(",")] if kinds else list(Kind)
    statuses = []
    for what in wanted:
        seeds = range(seed, seed + (runs or RUNS[what]))
        if what == "venues":
            statuses.append(disturb_venues(seeds, minutes))
        else:
            statuses.append(disturb_roles(seeds, minutes, allowed, short=short, keep=keep))
        if statuses[-1] == INTERRUPTED:
            break
    sys.exit(max(statuses))


def disturb_roles(seeds: range, minutes: float | None, allowed: list[Kind], *, short: bool, keep: bool) -> int:
    """Run the seeds, a line each and a table at the end; return the exit status."""
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + minutes * 60 if minutes else float("inf")
    left = takewhile(lambda _: time.monotonic() < deadline, seeds)

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
        return 1
    finally:
        report.show(outcomes)
        report.write(FOLDER / "latest.json", outcomes)
    if any(one.differences for one in outcomes):
        return 1
    if not complete:
        click.echo(f"stopped after {len(outcomes)} runs")
        return INTERRUPTED
    return 0


def _kind(name: str) -> Kind:
    try:
        return Kind(name)
    except ValueError:
        raise click.BadParameter(f"{name!r} is none of {', '.join(Kind)}", param_hint="--kinds") from None


if __name__ == "__main__":
    main()
