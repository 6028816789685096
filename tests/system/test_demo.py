"""`tapeline demo` as a user runs it: without a terminal, on a terminal until Ctrl-C, beside a running `up`."""

import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tapeline.streams.home import Home
from tests.system.platform import TAPELINE, Platform, running_platform, wait_until
from tests.venue.thread import venue_thread

pytestmark = pytest.mark.slow


def leftovers(home: Home) -> list[str]:
    """Processes that still run in a home."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        environ = process.info["environ"] or {}
        if environ.get("TAPELINE_HOME") == str(home.path) or str(home.path) in " ".join(process.info["cmdline"] or ()):
            found.append(" ".join(process.info["cmdline"] or ()))
    return found


def test_without_a_terminal_it_counts_the_signals_of_its_own_run(home: Home) -> None:
    platform = Platform(home, {})
    printed = platform.cli("demo", "--seconds", "6", "--plain", "--seed", "11")
    done = re.search(
        r"([\d,]+) messages became ([\d,]+) ticks \(of them ([\d,]+) gaps; ([\d,]+) bad messages put aside\) and "
        r"([\d,]+) signals in the database\.",
        printed,
    )
    assert done is not None, printed
    messages, ticks, gaps, bad, signals = (int(number.replace(",", "")) for number in done.groups())
    assert min(messages, signals) > 0
    assert messages - bad + gaps == ticks, "every message is a tick or put aside"
    assert len(re.findall(r"^ +\d+ s  [\d,]+ messages/s ", printed, re.MULTILINE)) >= 3, printed
    assert f"Everything is kept in {home.path}" in printed
    assert leftovers(home) == []

    # What is kept are signals of the run before: they do not count.
    platform.env["TAPELINE_LOGICS__EMA_CROSS__INSTRUMENTS"] = "none:*"
    failed = subprocess.run(
        [*TAPELINE, "demo", "--seconds", "2", "--plain"], env=platform.env, capture_output=True, text=True, timeout=200
    )
    assert failed.returncode == 1, failed.stdout
    assert "tapeline: no signal reached the database: " in failed.stderr
    assert "tapeline doctor" in failed.stderr
    assert leftovers(home) == []


class Terminal:
    """A command on a terminal of 80 columns and 24 rows, and all it wrote there."""

    def __init__(self, env: dict[str, str], *args: str) -> None:
        self.text = ""
        self._here, there = pty.openpty()
        os.set_blocking(self._here, False)
        env = env | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
        self.process = subprocess.Popen(
            [*TAPELINE, *args], env=env, stdin=there, stdout=there, stderr=there, start_new_session=True
        )
        os.close(there)

    def read(self) -> str:
        """Everything so far, without the codes that move and colour."""
        try:
            while chunk := os.read(self._here, 65536):
                self.text += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", chunk.decode(errors="replace"))
        except OSError:  # nothing more now, or the other side is closed
            pass
        return self.text

    def wait_for(self, pattern: str) -> None:
        """Wait until something was written."""
        wait_until(lambda: re.search(pattern, self.read()), f"{pattern!r} on the screen: ...{self.text[-3000:]}")


def test_beside_a_running_up_on_a_terminal_until_ctrl_c_and_of_a_live_venue(home: Home, tmp_path: Path) -> None:
    with running_platform(home) as platform:
        terminal = Terminal(platform.env, "demo", "--instruments", "3")
        terminal.wait_for(r"[1-9][\d,]* signals in the database, the latest:")
        terminal.wait_for(r"ema_cross +sim:SIM00\d +[▲▼] (buy|sell)")
        terminal.wait_for(r"normalize +[\d,.]+ messages/s +[\d,.]+ ticks/s +[\d,]+ +[\d.]+ (ms|s)")
        terminal.process.send_signal(signal.SIGINT)
        wait_until(lambda: terminal.read() and terminal.process.poll() is not None, "the demo to end", 30)
        assert terminal.process.returncode == 0
        terminal.wait_for("Stopping the market")
        terminal.wait_for(f"Everything is kept in {home.path}")
        assert "Traceback" not in terminal.text
        assert platform.pid_of("logic") is not None, "it stopped what it did not start"
        assert not [one for one in leftovers(home) if "ingest" in one]
        assert platform.cli("signals", "--instrument", "sim:*", "--format", "json")

        with venue_thread("binance", ["BTCUSDT", "ETHUSDT"], rate=400) as stage:
            config = tmp_path / "tapeline.toml"
            config.write_text(
                f'[venues.binance]\nsymbols = ["BTCUSDT", "ETHUSDT"]\nurl = "{stage.venue.url}"\n'
                f'rest = "{stage.venue.rest}"\n'
            )
            live = {"TAPELINE_CONFIG": str(config)}
            printed = platform.cli("demo", "--venue", "binance", "--seconds", "4", "--plain", env=live)
        done = re.search(r"([\d,]+) messages became ([\d,]+) ticks .* and ([\d,]+) signals in the database", printed)
        assert done is not None, printed
        assert all(int(number.replace(",", "")) > 0 for number in done.groups())
        env = platform.env | live
        command = [*TAPELINE, "demo", "--venue", "binance"]
        failed = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert (failed.returncode, failed.stdout) == (1, "")
        assert "tapeline: binance cannot be reached from here" in failed.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [(("--rate", "0"), "sim: rate is 0.0; it must be from"), (("--instruments", "0"), "sim: instruments is 0")],
)
def test_a_market_that_cannot_be_is_refused_before_anything_starts(
    home: Home, args: tuple[str, ...], message: str
) -> None:
    env = Platform(home, {}).env
    failed = subprocess.run([*TAPELINE, "demo", *args], env=env, capture_output=True, text=True, timeout=60)
    assert failed.returncode == 1
    assert message in failed.stderr
    assert not home.path.exists()
