"""Which row of the benchmark a measurement counts for."""

from tests.bench.measure import Sample
from tests.bench.report import throughput_rows


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
