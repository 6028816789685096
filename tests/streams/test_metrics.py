"""The table of metrics: names and units as OpenTelemetry wants them, values where they belong, the page in step."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from tapeline.streams.metrics import METRICS, Kind, Metric, with_table
from tapeline.streams.stats import Durations
from tests.streams.numbers import SECOND_NS, a_busy_worker

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
NOW_NS = 1_700_000_000 * SECOND_NS


def points(name: str) -> dict[tuple[str, ...], object]:
    [metric] = [one for one in METRICS if one.name == name]
    return dict(metric.points(a_busy_worker(NOW_NS - 3 * SECOND_NS).roles, NOW_NS))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_units_and_attributes_follow_the_conventions(metric: Metric) -> None:
    # https://opentelemetry.io/docs/specs/semconv/general/naming/ and .../general/metrics/
    assert re.fullmatch(r"(tapeline|process)(\.[a-z]+)+", metric.name)
    assert metric.unit in ("", "s", "By") or re.fullmatch(r"\{[a-z]+\}", metric.unit)
    assert metric.meaning.endswith(".")
    assert metric.normal.endswith(".")
    for attributes, value in metric.points(a_busy_worker().roles, NOW_NS):
        assert len(attributes) == len(metric.attributes)
        assert isinstance(value, Durations) == (metric.kind is Kind.HISTOGRAM)


def test_each_name_is_there_once_and_is_no_namespace_of_another() -> None:
    names = sorted(metric.name for metric in METRICS)
    assert len({metric.prometheus_name for metric in METRICS}) == len(names)
    for one, other in pairwise(names):
        assert one != other
        assert not other.startswith(one + ".")


def test_the_page_names_what_the_code_has() -> None:
    page = PAGE.read_text()
    assert page == with_table(page), "write it anew: python -m tapeline.streams.metrics docs/metrics.md"
    for metric in METRICS:
        assert f"| `{metric.name}` | `{metric.prometheus_name}` |" in page


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="table: begin"):
        with_table("# nothing")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "tapeline.partition.lag",
            {("logic", "ticks", "0"): 0, ("logic", "ticks", "1"): 7, ("persist", "signals", "0"): 3},
        ),
        (
            "tapeline.partition.snapshot.age",
            dict.fromkeys([("logic", "ticks", "0"), ("logic", "ticks", "1"), ("persist", "signals", "0")], 3.0),
        ),
        ("tapeline.lane.duplicates", {("logic", "ticks", "0", "2-0"): 5, ("logic", "ticks", "0", "3-0"): 1}),
        ("tapeline.role.partitions", {("logic",): 2, ("persist",): 1}),
        ("tapeline.role.paused", {("logic",): 1, ("persist",): 0}),
        ("tapeline.role.handover.longest", {("logic",): 100.0, ("persist",): 0.0}),
        ("tapeline.producer.unconfirmed.records", {("logic",): 10, ("persist",): 0}),
        ("tapeline.producer.unconfirmed.size", {("logic",): 1000, ("persist",): 0}),
        ("tapeline.producer.unconfirmed.age", {("logic",): 3.0, ("persist",): 0.0}),
        (
            "tapeline.watchdog.state",
            {
                ("logic", "ok"): 0,
                ("logic", "suspect"): 1,
                ("logic", "ending"): 0,
                ("persist", "ok"): 1,
                ("persist", "suspect"): 0,
                ("persist", "ending"): 0,
            },
        ),
    ],
)
def test_values(name: str, expected: dict[tuple[str, ...], object]) -> None:
    assert points(name) == expected


def test_a_partition_that_went_keeps_its_counters_and_loses_its_gauges() -> None:
    worker = a_busy_worker()
    worker.roles[0].hold([0])
    for metric in METRICS:
        if metric.name.startswith("tapeline.partition."):
            has = ("logic", "ticks", "1") in dict(metric.points(worker.roles, NOW_NS))
            assert has == (metric.kind is Kind.COUNTER), metric.name


def test_what_is_not_known_is_not_shown() -> None:
    worker = a_busy_worker()
    one = worker.roles[0].partitions[0]
    one.end_offset, one.snapshot_time_ns = -1, 0
    for name in ("lag", "snapshot.age"):
        [metric] = [metric for metric in METRICS if metric.name == f"tapeline.partition.{name}"]
        assert ("logic", "ticks", "0") not in dict(metric.points(worker.roles, NOW_NS))
