from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from tapeline.agents.demo.meter import Flow, Price, Reading
from tapeline.agents.demo.view import Facts, duration, line, screen, sparkline
from tests.connectors.stores.examples import make_signals

READING = Reading(
    messages=Flow(1_234_567, 2013.4),
    ticks=Flow(2_000_000, 1_999.6),
    signals=Flow(1500, 9.84),
    stored=Flow(1499, 0.0),
    rejected=3,
    gaps=12,
    lags_ms={"normalize": 4.2, "logic": 61_000.0, "persist": None},
    ticks_history=tuple(float(one) for one in range(200)),
    prices=tuple(Price(f"sim:SIM{n:03}", 100.0, 100.0 + n, tuple(range(n))) for n in range(40)),
    latest=tuple(reversed(make_signals(60))),
)
FACTS = Facts("simulated market, 8 instruments", (("Servers", "Kafka 127.0.0.1:9092"), ("Data", "/home/" + "x" * 300)))


def drawn(reading: Reading, width: int, height: int, note: str = "") -> list[str]:
    console = Console(file=StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(screen(reading, FACTS, 3725.0, width, height, note), end="")
    return capture.get().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 18), (109, 30), (110, 30), (240, 70)])
@pytest.mark.parametrize("reading", [READING, Reading()], ids=["busy", "nothing yet"])
def test_it_fits_the_terminal(width: int, height: int, reading: Reading) -> None:
    lines = drawn(reading, width, height, "something ended")
    assert len(lines) == height
    assert {len(one) for one in lines} == {width}


def test_80_columns_show_what_matters() -> None:
    text = "\n".join(drawn(READING, 80, 24))
    for shown in (
        "Tapeline demo",
        "1:02:05",
        "2,013 messages/s",
        "2,000 ticks/s",
        "9.8 signals/s",
        "1,234,567",
        "4 ms",
        "61 s",
        "12 gaps seen, 3 bad messages",
        "1,499 signals in the database",
        "00:00:59.000",
        "▼ sell",
        "Ctrl-C stops it",
        "Data",
    ):
        assert shown in text
    assert "the market" not in text


def test_wide_terminals_show_prices_too() -> None:
    text = "\n".join(drawn(READING, 140, 40))
    assert "the market" in text
    assert "sim:SIM007" in text
    assert "+7.00%" in text


def test_trouble_shows() -> None:
    assert "! kafka ended" in "\n".join(drawn(READING, 80, 24, "kafka ended"))
    assert "! the database" in "\n".join(drawn(replace(READING, trouble="the database is away"), 80, 24, "kafka ended"))


def test_a_plain_line() -> None:
    assert line(READING, 12.3) == (
        "  12 s  2,013 messages/s  2,000 ticks/s  1,499 signals in the database  "
        "lag: normalize 4 ms, logic 61 s, persist -"
    )


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "-"),
        (0.2, "0 ms"),
        (999.4, "999 ms"),
        (999.6, "1.0 s"),
        (9949, "9.9 s"),
        (9951, "10 s"),
        (600_000, "10 min"),
    ],
)
def test_durations(ms: float | None, text: str) -> None:
    assert duration(ms) == text


@pytest.mark.parametrize(
    ("values", "from_zero", "bars"),
    [
        ([], True, ""),
        ([0, 0], True, "▁▁"),
        ([5, 5], True, "██"),
        ([5, 5], False, "▄▄"),
        ([0, 1, 2, 3, 4, 5, 6, 7], True, "▁▂▃▄▅▆▇█"),
        ([100, 107], False, "▁█"),
        ([9, 9, 9, 1, 2], False, "▁█"),
    ],
)
def test_sparklines(values: list[float], from_zero: bool, bars: str) -> None:
    assert sparkline(values, 2 if len(values) == 5 else 8, from_zero=from_zero) == bars
