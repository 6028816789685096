"""`tapeline quality --file`: what it prints, writes and says; tests/system has it on a real broker."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tapeline.agents.quality import QualityReport
from tapeline.agents.quality.schema import schema_text
from tapeline.schemas import TapelineError
from tapeline.streams import cli

pytestmark = pytest.mark.slow

DOCS = Path(__file__).resolve().parents[3] / "docs"
TRADE = '{"e":"trade","E":%d,"s":"BTCUSDT","t":%d,"p":"%s","q":"1","T":%d,"m":true,"M":true}'
START_MS = 1_750_000_000_000


@pytest.fixture
def trades(tmp_path: Path) -> Path:
    """A recording of 2,000 trades with a gap of three, one spike and one message cut short."""
    lines = []
    for number in range(2000):
        if number in (700, 701):
            continue
        price = "150.5" if number == 1200 else f"100.{number % 10}"
        at_ms = START_MS + number * 10
        text = TRADE % (at_ms, number, price, at_ms)
        lines.append(f"{(at_ms + 3) * 10**6} {text[:20] if number == 702 else text}")
    path = tmp_path / "btcusdt.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def invoke(*args: Any) -> Result:
    return CliRunner().invoke(cli.tapeline, ["quality", *map(str, args)])


def printed(*args: Any) -> str:
    result = invoke(*args, "--quiet")
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stdout


def test_json_is_the_report(trades: Path) -> None:
    report = QualityReport.decode(printed("--file", trades, "--format", "json"))
    assert (report.instrument, report.day, report.ticks) == ("binance:BTCUSDT", "2025-06-15", 1998)
    assert [(one.reason, one.kind, one.missing, one.first_missing) for one in report.gaps.listed] == [
        ("sequence", "trade", 3, 700)
    ]
    assert [one.price for one in report.outliers.listed] == [150.5]
    assert report.rejected == {"malformed": 1}
    assert [one.min_ns for one in report.latency] == [3_000_000]
    assert report.damage is None


def test_the_table_says_the_same(trades: Path) -> None:
    text = printed("--file", trades)
    for part in (
        "binance:BTCUSDT on 2025-06-15 (UTC, by receive time)",
        "1,998 ticks from btcusdt.txt",
        "1 gap (1 sequence), 3 messages missing as far as they know; 1 message",
        "1 outlier (0.05%)",
        "150.5",
    ):
        assert part in text, text


@pytest.mark.parametrize("form", ["table", "json", "html"])
def test_output_is_what_would_be_printed(trades: Path, tmp_path: Path, form: str) -> None:
    path = tmp_path / "out"
    assert printed("--file", trades, "--format", form, "--output", path) == ""
    assert path.read_text() == printed("--file", trades, "--format", form)
    away = invoke("--file", trades, "--format", form, "--output", tmp_path / "no" / "folder", "--quiet")
    assert "no/folder: No such file or directory" in str(away.exception)


def test_how_far_it_is_goes_to_standard_error(trades: Path) -> None:
    result = invoke("--file", trades, "--format", "json")
    QualityReport.decode(result.stdout)
    assert "1,998 ticks in " in result.stderr


def test_rules_are_options(trades: Path) -> None:
    text = printed(*("--file", trades, "--format", "json", "--outlier-share", 0.9, "--outlier-spreads", 1000))
    report = QualityReport.decode(text)
    assert (report.outliers.count, report.rules.outlier_share) == (0, 0.9)
    wrong = invoke("--file", trades, "--outlier-window", 50)
    assert "an odd number from 11 to 1001 is needed" in str(wrong.exception)


def test_what_cannot_be_done_is_said(trades: Path) -> None:
    assert "did you mean binance:BTCUSDT?" in str(invoke("binance:BTCUSD", "--file", trades).exception)
    other = invoke("--file", trades, "--day", "2025-06-16").exception
    assert isinstance(other, TapelineError)
    assert "was received on 2025-06-16 (UTC); it has of 2025-06-15: --day 2025-06-15" in str(other)
    assert "which INSTRUMENT?" in invoke().output
    assert "is no day: write it as 2024-08-08" in invoke("x:Y", "--day", "15.6.2025").output


def test_a_damaged_file_is_reported_up_to_the_damage(trades: Path, tmp_path: Path) -> None:
    packed = gzip.compress(trades.read_bytes())
    path = tmp_path / "btcusdt.txt.gz"
    path.write_bytes(packed[: len(packed) // 2])
    report = QualityReport.decode(printed("--file", path, "--format", "json"))
    assert 500 < report.ticks < 1500
    assert "damaged after line" in (report.damage or "")
    assert report.verdicts[0].finding == "look"


def test_the_committed_schema_is_up_to_date() -> None:
    assert (DOCS / "quality.schema.json").read_text() == schema_text(), "run `make docs-schemas`"


def test_a_report_has_every_field_of_its_schema_and_no_other() -> None:
    schema = json.loads(schema_text())
    for one in (schema, *schema["$defs"].values()):
        assert one["additionalProperties"] is False
        assert set(one["required"]) == set(one["properties"])
