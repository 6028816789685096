"""Many runs over one pair of servers. `__main__` and the test of CI call it."""

from collections.abc import Callable, Iterable
from pathlib import Path

from tests.chaos.inputs import prepare
from tests.chaos.run import Outcome, Undisturbed, run
from tests.chaos.scenario import Scenario, undisturbed
from tests.chaos.stage import Stage
from tests.system.conftest import temporary_home


class UndisturbedError(Exception):
    """Without any disturbance the outcome is not what the pure functions say."""


async def session(
    scenarios: Iterable[Scenario], kept: Path, on_outcome: Callable[[Outcome], None], *, always: bool = False
) -> None:
    """Run the scenarios one after the other, and each input undisturbed before its first.

    kept: folder for the logs of runs that differ (always: of all runs). `on_outcome` is told every outcome; seed 0 is
    an undisturbed one, and UndisturbedError is raised if that differs.
    """
    with temporary_home() as home:
        folder = home.path.parent
        inputs = prepare(folder)
        known: dict[str, Undisturbed] = {}
        async with Stage.open(folder) as stage:
            for scenario in scenarios:
                name = scenario.input
                if name not in known:
                    calm = undisturbed(name)
                    outcome, known[name] = await run(stage, calm, inputs[name], None, kept / f"calm-{name}")
                    on_outcome(outcome)
                    if outcome.differences:
                        raise UndisturbedError("\n".join(outcome.differences))
                folder = kept / f"seed-{scenario.seed}"
                outcome, _ = await run(stage, scenario, inputs[name], known[name], folder, always=always)
                on_outcome(outcome)
