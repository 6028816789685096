"""`tapeline bars` on files: a recording, LEAN's, a capture with several instruments, and what cannot be."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tapeline.agents.bars_command import bars, newest
from tapeline.connectors.venues import Message
from tapeline.connectors.venues.capture_writer import CaptureWriter
from tapeline.schemas import Bars, TapelineError, empty_bars

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "docs" / "examples" / "btcusdt.txt"


def run(*args: object) -> Result:
    return CliRunner().invoke(bars, [str(one) for one in args])


def trade(symbol: str, second: float, price: float) -> Message:
    """As the simulated market says it, and when it comes."""
    ns = round(second * 1e9)
    text = '{"type":"trade","symbol":"%s","id":%d,"time_ns":%d,"price":"%s","size":"2","side":"buy"}'
    return Message(ns, (text % (symbol, second, ns, price)).encode())


def test_a_capture_of_several_connections_is_one_market(tmp_path: Path) -> None:
    file = tmp_path / "sim.zst"
    with CaptureWriter(file, "sim", 1) as writer:
        for number in range(200):
            writer.write(f"sim/{number % 2}", trade("AB"[number % 2], 1000 + number, number + 1))
        writer.write("sim/0", Message(1_500 * 10**9, b"what is this?"))
    done = run(file, "--interval", "1m", "--format", "json", "--quiet", "--instrument", "sim:B")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["number"], one["trades"], one["open"], one["close"]) for one in found] == [
        (16, 10, 2, 20),
        *((17 + at, 30, 22 + 60 * at, 80 + 60 * at) for at in range(3)),
    ]
    assert "messages that could not be read: 1 malformed" in done.stderr
    file.write_bytes(file.read_bytes()[:-20])
    assert "damaged after line" in run(file, "--quiet").stderr


def test_a_recording_as_json_csv_and_table() -> None:
    found = [json.loads(line) for line in run(EXAMPLE, "--format", "json", "--quiet").stdout.splitlines()]
    assert sum(one["trades"] for one in found) == 1500
    assert {one["instrument"] for one in found} == {"binance:BTCUSDT"}
    assert [one["partial"] for one in found] == [True, *[False] * (len(found) - 2), True]
    assert all(one["low"] <= min(one["open"], one["close"]) for one in found)
    rows = list(csv.DictReader(io.StringIO(run(EXAMPLE, "--format", "csv", "--quiet").stdout)))
    assert [float(one["volume"]) for one in rows] == [one["volume"] for one in found]
    assert {one["late"] for one in rows} == {"false"}
    table = run(EXAMPLE, "--limit", 2, "--quiet").stdout.splitlines()
    assert len(table) == 3
    assert table[0].split()[:4] == ["start", "(UTC)", "instrument", "interval"]
    assert table[-1].endswith("partial")


def test_the_docs_show_what_is_printed() -> None:
    """The commands of docs/bars.md that need no server; the table is the first one's."""
    page = (ROOT / "docs" / "bars.md").read_text()
    [block] = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    printed = []
    for line in block.splitlines():
        program, command, file, *options = line.split()
        assert (program, command) == ("tapeline", "bars")
        done = run(ROOT / file, *options, "--quiet")
        assert done.exit_code == 0
        printed.append(done.stdout)
    assert f"```\n{printed[0]}```" in page


def test_several_intervals_and_a_file_to_write_to(tmp_path: Path) -> None:
    output = tmp_path / "bars.json"
    done = run(EXAMPLE, "--interval", "5m", "--interval", "500t", "--format", "json", "--output", output)
    assert done.exit_code == 0
    assert "1,500 ticks in" in done.stderr
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert {one["interval"] for one in found} == {"5m", "500t"}
    assert [one["trades"] for one in found if one["interval"] == "500t"] == [500, 500, 500]


def test_a_lean_file_by_sessions(tmp_path: Path) -> None:
    file = tmp_path / "equity_usa_tick_spy_20131129_trade.csv"
    moments = [(9, 29), (9, 30), (10, 29), (12, 59), (13, 0)]  # New York, on a half day
    file.write_text("".join(f"{(hour * 60 + minute) * 60_000},1800000,100,P,0,0\n" for hour, minute in moments))
    done = run(file, "--interval", "1h", "--calendar", "XNYS", "--format", "json", "--quiet")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["start_ns"] // 10**9 % 86400 // 60, one["end_ns"] // 10**9 % 86400 // 60) for one in found] == [
        (14 * 60 + 30, 15 * 60 + 30),
        (17 * 60 + 30, 18 * 60),
    ]
    assert [one["trades"] for one in found] == [2, 1]
    assert "1h: trades left out: 2 outside" in done.stderr


def test_a_stream_that_goes_on_after_another_has_all_its_bars() -> None:
    """The configuration was changed, and changed back."""

    def made(stream: int, number: int, revision: int = 0) -> tuple[int, Bars]:
        bars = empty_bars(1)
        bars["number"], bars["revision"], bars["volume"] = number, revision, stream
        return stream, bars

    first = [made(1, 5), made(1, 6), made(1, 6, 2), made(2, 5), made(2, 6)]
    assert newest(first, lambda bars: bars)[["number", "volume"]].tolist() == [(5, 2), (6, 2)]
    back = newest([*first, made(1, 7), made(1, 6, 1)], lambda bars: bars)
    assert back[["number", "revision", "volume"]].tolist() == [(5, 0, 1), (6, 2, 1), (7, 0, 1)]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([EXAMPLE, "--interval", "7x"], "'7x' is no interval; write one such as"),
        ([EXAMPLE, "--follow"], "--follow is of the topic"),
        (["--calendar", "XNYS"], "--calendar is for files"),
    ],
)
def test_wrong_usage_is_said(args: list[object], says: str) -> None:
    done = run(*args)
    assert done.exit_code == 2
    assert says in done.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nothing.gz"], "cannot read nothing.gz: there is no such file"),
        ([Path(__file__)], "as a capture: "),
        ([EXAMPLE, "--calendar", "NYSE2"], "is no exchange calendar"),
        ([EXAMPLE, "--instrument", "kraken:*", "--quiet"], "it has ticks of binance:BTCUSDT"),
        ([EXAMPLE, "--output", "/nowhere/x", "--quiet"], "cannot write /nowhere/x"),
    ],
)
def test_what_cannot_be_is_said(args: list[object], says: str) -> None:
    error = run(*args).exception
    assert isinstance(error, TapelineError)
    assert says in str(error)
