"""Live venues through a real broker: leases, takeovers, and `ticks`, against a venue whose truth is known."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tapeline.schemas import Instrument, Kind, TickFrame
from tapeline.streams.frame_reader import FrameReader
from tapeline.streams.state import LogReader, PartitionTail
from tests.system.conftest import temporary_home
from tests.system.platform import TAPELINE, Platform, running_platform, wait_until
from tests.venue.check import Report, check_ticks
from tests.venue.thread import Stage, venue_thread

pytestmark = pytest.mark.slow

CONFIG = """
[venues.binance]
symbols = ["BTCUSDT", "ETHUSDT"]
streams = ["trade", "depth"]
url = "{url}"
rest = "{rest}"
"""


class Ticks:
    """What lies in topic `ticks`, read as it comes."""

    def __init__(self, bootstrap: str) -> None:
        self._reader = LogReader({"bootstrap.servers": bootstrap})
        self._tails = [PartitionTail(self._reader, "ticks", number) for number in range(4)]
        self._instruments = PartitionTail(self._reader, "instruments", 0)
        self._lanes = FrameReader()
        self._trades = 0
        self.names: dict[int, str] = {}
        self.instruments: dict[str, Instrument] = {}
        self.frames: dict[int, list[TickFrame]] = {number: [] for number in range(4)}

    def read(self) -> None:
        """Read what came since the last call."""
        for _, _, value in self._instruments.read():
            if value is not None:
                one = Instrument.decode(value)
                self.names.setdefault(one.id, one.name)
                self.instruments[one.name] = one
        for number, tail in enumerate(self._tails):
            for _, _, value in tail.read():
                frame = TickFrame.decode(value or b"")
                if self._lanes.take(frame):
                    self.frames[number].append(frame)
                    self._trades += int((frame.ticks["kind"] == Kind.TRADE).sum())

    def trades(self) -> int:
        """How many trades there are."""
        self.read()
        return self._trades

    def report(self, stage: Stage) -> Report:
        """Compare everything with the market."""
        self.read()
        report = Report()
        for frames in self.frames.values():
            parts = [(one.ticks, self.names) for one in frames]
            stage.ask(partial(check_ticks, stage.venue.market, "binance", parts, report))
        return report


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with venue_thread("binance", ["BTCUSDT", "ETHUSDT"], rate=500) as stage:
        yield stage


@pytest.fixture(scope="module")
def platform(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """`tapeline up` with the venue in its configuration."""
    config = tmp_path_factory.mktemp("config") / "tapeline.toml"
    config.write_text(CONFIG.format(url=stage.venue.url, rest=stage.venue.rest))
    with temporary_home() as home, running_platform(home, {"TAPELINE_CONFIG": str(config)}) as platform:
        yield platform


def test_a_configured_venue_flows_and_a_standby_takes_over(platform: Platform, stage: Stage, tmp_path: Path) -> None:
    bootstrap = platform._published_bootstrap()
    ticks = Ticks(bootstrap)
    # 1. `tapeline up` reads the venue
    wait_until(lambda: ticks.trades() > 100, "trades in ticks")
    # 2. another process waits for its lease
    log = tmp_path / "standby.log"
    with log.open("wb") as file:
        standby = subprocess.Popen([*TAPELINE, "ingest", "binance", "--plain"], env=platform.env, stderr=file)
    try:
        wait_until(lambda: b"standby" in log.read_bytes(), "the standby to say that it waits")
        report = json.loads(
            subprocess.run([*TAPELINE, "status", "--json"], env=platform.env, capture_output=True, timeout=60).stdout
        )
        feeds = [one for one in report["feeds"] if one["source"] == "binance/0"]
        assert sorted(one["state"] for one in feeds) == ["connected", "standby"]
        assert all(one["unlisted"] == [] and one["refusal"] == "" for one in feeds)
        assert sum(one["messages"] for one in feeds) > 100
        # 3. the holder is frozen: the standby takes over within 10 s
        holder = wait_until(lambda: platform.pid_of("ingest-binance"), "the holder's pid")
        before = stage.ask(lambda: stage.venue.opened)
        os.kill(holder, signal.SIGSTOP)
        frozen = time.monotonic()
        wait_until(lambda: stage.ask(lambda: stage.venue.opened) > before, "the standby to connect")
        count = ticks.trades()
        wait_until(lambda: ticks.trades() > count + 50, "trades from the standby")
        assert time.monotonic() - frozen < 10
        # 4. it wakes up and does not know: what it sends now is passed over, then it learns
        os.kill(holder, signal.SIGCONT)
        count = ticks.trades()
        wait_until(lambda: ticks.trades() > count + 300, "more trades")
        # 5. the standby is stopped: the other one has it again, at once
        standby.send_signal(signal.SIGTERM)
        assert standby.wait(20) == 130
        count = ticks.trades()
        wait_until(lambda: ticks.trades() > count + 300, "trades from the first one again")
    finally:
        standby.kill()
        standby.wait()
    stage.rate = 0
    report = ticks.report(stage)
    assert not [fault for fault in report.faults if "in the end" not in fault]
    assert report.trades > 1000
    assert report.books > 1000
    assert {"TAKEOVER", "DISCONNECT"} <= report.gaps.keys()
    described = ticks.instruments["binance:BTCUSDT"]
    assert (described.base, described.quote, str(described.tick), described.status) == (
        "BTC",
        "USDT",
        "0.01000000",
        "trading",
    )
