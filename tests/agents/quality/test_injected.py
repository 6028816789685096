"""What the simulated market is told to get wrong is found: how much of it, and how much else is taken for it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest

from tapeline.agents.quality import QualityReport, Rules, RuleState, flagged
from tapeline.agents.quality.command import analyse
from tapeline.agents.quality.files import RecordingSource
from tapeline.connectors.venues import Message, Recording
from tapeline.connectors.venues.sim_market import MarketOptions, open_market
from tapeline.schemas import Flag, Kind, RejectReason, Ticks

pytestmark = pytest.mark.slow

BAD = MarketOptions(
    *(23,), seconds=60, rate=1000, instruments=3, gaps=0.003, malformed=0.003, outliers=0.003, session_seconds=25
)
NAMES = [f"sim:SIM{number:03d}" for number in range(1, BAD.instruments + 1)]
Said = dict[str, Any] | None


def messages_of(options: MarketOptions) -> list[Message]:
    return [item for item in open_market(options).items if isinstance(item, Message)]


def recording(messages: Sequence[Message]) -> Recording:
    return Recording("sim/test", "a test", iter(messages), 0, "ns", lambda: 0)


def said(messages: Sequence[Message]) -> Iterator[Said]:
    """What each message says, None of one that was cut short."""
    for message in messages:
        try:
            yield orjson.loads(message.data)
        except orjson.JSONDecodeError:
            yield None


def ticks_of(messages: Sequence[Message], name: str) -> Iterator[Ticks]:
    return RecordingSource([recording(messages)], name).chunks()


def report_of(messages: Sequence[Message], name: str) -> QualityReport:
    return analyse(RecordingSource([recording(messages)], name), None, Rules())


@pytest.fixture(scope="module")
def bad() -> list[Message]:
    return messages_of(BAD)


def test_outliers_are_found_and_nothing_else_is_taken_for_one(bad: list[Message]) -> None:
    good = messages_of(replace(BAD, outliers=0.0))
    injected = {
        (f"sim:{says['symbol']}", says["type"], says["id"])
        for says, one, other in zip(said(bad), bad, good, strict=True)
        if says is not None and one.data != other.data
    }
    found = set()
    for name in NAMES:
        state = RuleState(Rules())
        for chunk in ticks_of(bad, name):
            own = flagged(chunk, state=state)
            for tick in own[(own["flags"] & Flag.OUTLIER) != 0]:
                found.add((name, Kind(tick["kind"]).name.lower(), int(tick["sequence"])))
    assert len(injected) > 100
    recall = len(found & injected) / len(injected)
    precision = len(found & injected) / len(found)
    # Missed can be only one of the first 11 prices of a field, or the third bad one of five.
    assert recall >= 0.99, recall
    assert precision == 1.0, found - injected
    assert sum(report_of(bad, name).outliers.count for name in NAMES) == len(found)


def test_every_missing_message_is_in_a_gap_and_no_other(bad: list[Message]) -> None:
    missing: dict[tuple[str, str], int] = {}
    last: dict[tuple[str, str], int] = {}
    for says in said(bad):
        if says is not None and "id" in says:
            key = says["symbol"], says["type"]
            missing[key] = missing.get(key, 0) + says["id"] - last.get(key, says["id"] - 1) - 1
            last[key] = says["id"]
    for name in NAMES:
        gaps = report_of(bad, name).gaps
        for kind in ("trade", "quote"):
            found = [one.missing for one in gaps.by_reason if (one.reason, one.kind) == ("sequence", kind)]
            assert sum(found) == missing[name.removeprefix("sim:"), kind] > 0


def test_every_message_that_was_cut_short_is_counted(bad: list[Message]) -> None:
    cut = sum(says is None for says in said(bad))
    report = report_of(bad, NAMES[0])
    assert report.rejected == {RejectReason.MALFORMED.value: cut}
    assert cut > 100
    assert report.verdicts[0].finding == "look"


def test_messages_that_come_twice_are_counted_twice(bad: list[Message]) -> None:
    """As after a reconnect that asks for more than is missing: blocks of messages again, some way later."""
    once = messages_of(replace(BAD, seconds=20, gaps=0.0, malformed=0.0))
    twice = list(once)
    for at in range(15_000, 1000, -3000):
        twice[at:at] = [Message(once[at].recv_ns, one.data) for one in once[at - 300 : at - 100]]
    again = [says for at in range(15_000, 1000, -3000) for says in said(once[at - 300 : at - 100])]
    for name in NAMES:
        report = report_of(twice, name)
        kinds = [says["type"] for says in again if says is not None and says["symbol"] == name.removeprefix("sim:")]
        assert report.duplicates.by_kind == {kind: kinds.count(kind) for kind in ("trade", "quote")}
        assert report.gaps.count == 0
        assert sum(one.late for one in report.order.by_kind) == report.duplicates.count > 0


def test_a_market_without_faults_has_no_findings() -> None:
    clean = messages_of(replace(BAD, gaps=0.0, malformed=0.0, outliers=0.0))
    for name in NAMES:
        report = report_of(clean, name)
        assert [one.topic for one in report.verdicts if one.finding == "look"] == []
        assert (report.sessions.count, report.sessions.ticks_while_closed) == (5, 0)
