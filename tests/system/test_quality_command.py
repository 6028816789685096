"""`tapeline quality` on a real broker: a day in the topic has the report of its recording, and nothing is doubled."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer

from tapeline.agents.quality import QualityReport
from tapeline.agents.quality.command import analyse
from tapeline.agents.quality.files import RecordingSource
from tapeline.agents.quality.rules import DEFAULT
from tapeline.agents.quality.sources import NotFoundError
from tapeline.agents.tick_frames import cut
from tapeline.connectors.venues import Message, Recording, Sequences, parse_frame
from tapeline.connectors.venues.framer import Framer
from tapeline.connectors.venues.sim_market import MarketOptions, open_market
from tapeline.schemas import Instrument, TapelineError, TickFrame
from tapeline.schemas.topics import INSTRUMENTS, TICKS
from tapeline.streams import cli
from tapeline.streams.registry import first_free_id
from tapeline.streams.servers import Servers
from tapeline.streams.settings import load_settings
from tapeline.streams.topics import ensure_topics

pytestmark = pytest.mark.slow

LIVE = MarketOptions(seed=9, seconds=20, instruments=2, gaps=0.002, malformed=0.002, outliers=0.002)
"""A market of 2025-01-02; its records are made as they would have been then."""
REPLAYED = MarketOptions(seed=8, seconds=10, instruments=1)
"""One that is sent into Kafka now."""


def frames_of(market: Recording, raw_partition: int, prefix: str) -> Iterator[tuple[list[Instrument], list[TickFrame]]]:
    """What normalize makes of a market, raw record by raw record, under names that no other test uses."""
    framer = Framer(market.source, 200)
    state: Sequences = {}
    raw = [frame for item in market.items if isinstance(item, Message) for frame in framer.add(item)]
    for offset, frame in enumerate([*raw, *framer.end()]):
        parsed = parse_frame(frame, state)
        names = [f"{prefix}:{name.partition(':')[2]}" for name in parsed.names]
        instruments = [Instrument(id=first_free_id(name, {}), name=name, partition=0) for name in names]
        yield instruments, cut(raw_partition, offset, frame.time_ns, parsed.ticks, instruments)


@pytest.fixture(scope="module")
def broker(servers: Servers) -> dict[str, str]:
    """The environment of commands that use a broker whose topics hold both markets."""
    env = {"TAPELINE_KAFKA__BOOTSTRAP_SERVERS": servers.bootstrap_servers or ""}
    ensure_topics(load_settings(env=env))
    producer = Producer({"bootstrap.servers": servers.bootstrap_servers, "enable.idempotence": True})

    def send(frames: Iterable[TickFrame], *, then: bool) -> None:
        for frame in frames:
            made_ms = frame.time_ns // 1_000_000 if then else 0  # 0: now
            producer.produce(TICKS.name, frame.encode(), partition=0, timestamp=made_ms)

    known: dict[str, Instrument] = {}
    zombie: list[TickFrame] = []
    for number, (instruments, frames) in enumerate(frames_of(open_market(LIVE), 1, "quality-live")):
        known |= {one.name: one for one in instruments}
        send(frames, then=True)
        zombie = (zombie + frames)[-5:]
        if number % 20 == 7:  # a worker that was thought dead sends what is there already
            send(zombie, then=True)
    producer.produce(TICKS.name, b"no frame" * 10, partition=0, timestamp=zombie[-1].time_ns // 1_000_000)
    for instruments, frames in frames_of(open_market(REPLAYED), 2, "quality-replayed"):
        known |= {one.name: one for one in instruments}
        send(frames, then=False)
    for one in known.values():
        producer.produce(INSTRUMENTS.name, one.encode(), key=one.name, partition=0)
    assert producer.flush(60) == 0
    return env


def invoke(env: dict[str, str], *args: str) -> Result:
    return CliRunner().invoke(cli.tapeline, ["quality", *args], env=env)


def report_of(env: dict[str, str], *args: str) -> QualityReport:
    result = invoke(env, *args, "--format", "json")
    assert result.exit_code == 0, result.output + repr(result.exception)
    return QualityReport.decode(result.stdout)


def of_recording(options: MarketOptions, name: str) -> QualityReport:
    return analyse(RecordingSource([open_market(options)], name), None, DEFAULT)


def same(report: QualityReport, other: QualityReport) -> bool:
    """Whether two reports differ only in where the ticks came from."""
    beside: dict[str, Any] = {"instrument": "", "source": "", "rejected": None, "verdicts": []}
    left_out = report.left_out.model_copy(update={"repeated_frames": 0, "unread_records": 0})
    return report.model_copy(update=beside | {"left_out": left_out}) == other.model_copy(update=beside)


@pytest.mark.parametrize("number", [1, 2])
def test_a_day_in_the_topic_is_that_of_its_recording(broker: dict[str, str], number: int) -> None:
    report = report_of(broker, f"quality-live:SIM00{number}", "--day", "2025-01-02")
    recorded = of_recording(LIVE, f"sim:SIM00{number}")
    assert same(report, recorded)
    assert report.gaps.count > 0
    assert report.outliers.count > 0
    assert report.left_out.repeated_frames > 0
    assert report.left_out.unread_records == 1
    assert report.duplicates.count == 0
    assert report.rejected is None


def test_without_a_day_it_is_the_newest(broker: dict[str, str]) -> None:
    report = report_of(broker, "quality-live:SIM001")
    assert report.day == "2025-01-02"
    assert report.ticks == of_recording(LIVE, "sim:SIM001").ticks


def test_a_recording_that_was_sent_later_is_found(broker: dict[str, str]) -> None:
    for day in ([], ["--day", "2025-01-02"]):
        report = report_of(broker, "quality-replayed:SIM001", *day)
        assert same(report, of_recording(REPLAYED, "sim:SIM001"))


def test_the_page_and_the_table_come_from_the_topic_too(broker: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    assert invoke(broker, "quality-live:SIM001", "--format", "html", "--output", str(path)).exit_code == 0
    assert path.read_text().startswith("<!DOCTYPE html>")
    table = invoke(broker, "quality-live:SIM001")
    assert "ticks from ticks[0], offsets " in table.stdout
    assert " ticks in " in table.stderr


def test_what_is_not_there_is_said(broker: dict[str, str]) -> None:
    unknown = invoke(broker, "quality-live:SIM01").exception
    assert isinstance(unknown, NotFoundError)
    assert "topic instruments has no instrument 'quality-live:SIM01'; did you mean quality-live:SIM001 or" in str(
        unknown
    )
    other = invoke(broker, "quality-live:SIM001", "--day", "2025-01-03").exception
    assert isinstance(other, TapelineError)
    assert str(other).endswith("received on 2025-01-03 (UTC); it has of 2025-01-02: --day 2025-01-02")
