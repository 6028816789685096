"""Which row of the benchmark a measurement counts for."""

from tests.bench.captures import FOLDER
from tests.bench.measure import Sample
from tests.bench.report import CAPTURES, GOALS, throughput_rows


def test_every_measurement_has_a_row_of_its_own() -> None:
    """Processes and messages a frame are both small numbers."""
    rates = {
        "raw_to_signals with 1": 1e6,
        "raw_to_signals with 2": 2e6,
        "raw_to_signals 1": 6e3,
        "raw_to_signals mixed": 9e5,
        "normalize 10": 6e4,
        "normalize 1000": 3e6,
    }
    samples = {(what, "ours"): [Sample(rate, 1.0, {}, {})] for what, rate in rates.items()}
    assert {row.name: row.value for row in throughput_rows(samples)} == {
        "raw_to_signals": 2e6,
        "raw_to_signals_with_1": 1e6,
        "raw_to_signals_with_2": 2e6,
        "raw_to_signals_frames_of_1": 6e3,
        "raw_to_signals_mixed": 9e5,
        "normalize_frames_of_10": 6e4,
        "normalize": 3e6,
    }


def test_every_capture_has_a_goal() -> None:
    names = {goal.name for goal in GOALS}
    assert all({f"capture_{name}", f"capture_{name}_frames_of_100"} <= names for name in CAPTURES)
    if FOLDER.is_dir():
        assert sorted(CAPTURES) == sorted(path.name.partition(".")[0].lower() for path in FOLDER.glob("*.zst"))
