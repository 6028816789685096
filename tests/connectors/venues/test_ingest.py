"""`tapeline ingest`: its words, and what it says when it is used in a wrong way. Real runs are in tests/system."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tapeline.connectors.venues import Recording, RecordingError
from tapeline.connectors.venues.command import Speed
from tapeline.connectors.venues.ingest import Moment, ingest, words
from tapeline.connectors.venues.progress import clock, progress, state
from tapeline.connectors.venues.pump import Summary
from tapeline.schemas import TapelineError

SUMMARY = Summary(
    "sim/x",
    partition=2,
    messages=5000,
    message_bytes=2_500_000,
    frames=5,
    time_records=3,
    feed_ns=1_735_828_200 * 10**9,
)


def recording(done: int, total: int) -> Recording:
    return Recording("sim/x", "x", iter(()), total, "bytes", lambda: done)


@pytest.mark.parametrize(("text", "speed"), [("max", None), ("1x", 1.0), ("10x", 10.0), ("0.5x", 0.5)])
def test_a_speed_is_max_or_a_number_and_x(text: str, speed: float | None) -> None:
    assert Speed().convert(text, None, None) == speed


@pytest.mark.parametrize("text", ["1", "x", "0x", "-1x", "1e3x", "nanx", "fast", "1000000x"])
def test_other_speeds_are_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write max, 1x"):
        Speed().convert(text, None, None)


def test_a_moment_has_a_zone() -> None:
    assert Moment().convert("2025-01-02T14:30:00Z", None, None) == 1_735_828_200 * 10**9
    assert Moment().convert("2025-01-02T15:30:00.5+01:00", None, None) == 1_735_828_200 * 10**9 + 500_000_000
    for text in ("2025-01-02T14:30:00", "yesterday"):
        with pytest.raises(click.BadParameter, match="with its zone"):
            Moment().convert(text, None, None)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nowhere"], "no venue 'nowhere': there are binance, "),
        (["binance", "--speed", "1x"], "are for a FILE"),
        (["binance", "x", "--symbols", "BTCUSDT"], "for the live market"),
        (["sim", "--speed", "quick"], "write max, 1x"),
        (["binance", "x", "--market", "options"], "'spot', 'usdm'"),
        (["sim", "--start", "soon"], "with its zone"),
    ],
)
def test_wrong_usage_says_what_is_right(args: list[str], says: str) -> None:
    result = CliRunner().invoke(ingest, args)
    assert result.exit_code == 2
    assert says in result.output


@pytest.mark.parametrize("args", [["binance", "missing.gz"], ["lean", "ticks.zip"], ["sim", "--rate", "0"]])
def test_what_cannot_be_read_fails_before_kafka_is_asked(args: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(ingest, args, env={"TAPELINE_HOME": str(tmp_path)})
    assert isinstance(result.exception, RecordingError)


def test_without_kafka_it_says_how_to_start_one(tmp_path: Path) -> None:
    result = CliRunner().invoke(ingest, ["sim", "--seconds", "1"], env={"TAPELINE_HOME": str(tmp_path)})
    assert isinstance(result.exception, TapelineError)
    assert "tapeline up" in str(result.exception)


def test_the_help_has_examples_and_every_option_says_its_default() -> None:
    for venue in ([], ["binance"], ["lean"], ["sim"]):
        output = CliRunner().invoke(ingest, [*venue, "--help"]).output
        assert "Examples:" in output
        assert "tapeline ingest" in output
    assert "[default: 2025-01-02T14:30:00Z]" in " ".join(output.split())


def test_progress_says_share_rate_and_time_left() -> None:
    assert state(recording(25, 100), SUMMARY, 10) == (
        "25%, 30 s left, 5,000 messages, 500/s, 2.5 MB, feed 2025-01-02 14:30:00"
    )
    assert state(recording(0, 0), Summary("sim/x"), 0) == "0 messages, 0/s, 0.0 MB, feed -"
    assert "3 rejected" in state(recording(100, 100), Summary("sim/x", rejected=3), 1)
    assert clock(2**62) == "2116-02-20 23:53:38"


def test_plain_progress_goes_to_standard_error_and_quiet_nowhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tapeline.connectors.venues.progress.PLAIN_SECONDS", 0.0)
    with progress(recording(25, 100), plain=True) as show:
        show(SUMMARY)
    with progress(recording(25, 100), quiet=True) as show:
        show(SUMMARY)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("sim/x: 25%")
    assert captured.err.count("\n") == 1


def test_the_summary_says_where_it_went_and_how_far() -> None:
    complete = Summary("sim/x", 2, 5000, 0, 5, 3, complete=True)
    assert words(complete, 10, 17, 1.25) == (
        "sim/x: all of it, 5,000 messages in 5 frames and 3 time records, raw[2] offsets 10 to 17, confirmed, in 1.2 s"
    )
    assert "stopped at 2025-01-02 14:30:00" in words(SUMMARY, 10, 17, 1)
    assert "(with records of others between them)" in words(SUMMARY, 10, 18, 1)
    damaged = Summary("sim/x", rejected=1, damage=RecordingError("x"))
    assert "up to the damage, 0 messages" in words(damaged, 0, -1, 1)
    assert "1 rejected, nothing in raw" in words(damaged, 0, -1, 1)
