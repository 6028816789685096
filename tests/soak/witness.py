"""Sees every tick once: reads `ticks` as any reader does, and compares with what the steady venue numbered."""

import threading
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from tapeline.schemas import GapReason, Kind, TickFrame, Ticks
from tapeline.streams.frame_reader import FrameReader

FAULTS_MAX = 20
"""Named one by one; more say nothing more."""


@dataclass
class Account:
    """What was seen. next_id: of each instrument; faults: what was lost, doubled or marked as missing, in words."""

    first_id: int
    trades: int = 0
    next_id: dict[int, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    _gaps: dict[int, str] = field(default_factory=dict)

    def take(self, ticks: Ticks) -> None:
        """Take the ticks of a frame: (n,) TICK in order of arrival."""
        start = 0
        for place in np.flatnonzero(ticks["kind"] == Kind.GAP).tolist():
            self._trades(ticks[start:place])
            self._gap(ticks[place])
            start = place
        self._trades(ticks[start:])

    def _gap(self, gap: Any) -> None:
        """Note a gap: a fault if trades stand on both sides of it."""
        instrument = int(gap["instrument_id"])
        if instrument in self.next_id:
            self._gaps[instrument] = f"a gap, {GapReason(int(gap['price'])).name}"

    def _trades(self, ticks: Ticks) -> None:
        trades = ticks[ticks["kind"] == Kind.TRADE]
        self.trades += len(trades)
        for instrument in np.unique(trades["instrument_id"]).tolist():
            numbers = trades["sequence"][trades["instrument_id"] == instrument]
            expected = self.next_id.get(instrument, self.first_id) + np.arange(len(numbers))
            wrong = np.flatnonzero(numbers != expected)
            if len(wrong):
                at = int(wrong[0])
                self._fault(f"instrument {instrument}: trade {numbers[at]} came, {expected[at]} was to come")
            if gap := self._gaps.pop(instrument, None):
                self._fault(f"instrument {instrument}: {gap} before trade {numbers[0]}")
            self.next_id[instrument] = int(numbers[-1]) + 1

    def _fault(self, text: str) -> None:
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(text)


def faults(account: Account, sent: int, symbols: int) -> list[str]:
    """Return what is wrong when the venue has sent so many trades, of so many symbols in turn."""
    found = list(account.faults)
    if account.trades != sent:
        found.append(f"{sent:,} ticks were sent, {account.trades:,} are in `ticks`")
    expected = sorted(account.first_id + sent // symbols + (at < sent % symbols) for at in range(symbols))
    if sorted(account.next_id.values()) != expected:
        found.append(f"trades end before {sorted(account.next_id.values())}, not before {expected}")
    return found


class Witness:
    """A thread that reads `ticks` from the first record on. partitions: how many the topic has."""

    def __init__(self, bootstrap: str, partitions: int, first_id: int) -> None:
        self.account = Account(first_id)
        self.duplicates = 0
        """Frames that came again, which no reader takes twice."""
        self._readers = {number: FrameReader() for number in range(partitions)}
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "soak",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.queue.backoff.ms": 10,
                "queued.max.messages.kbytes": 16_384,
            }
        )
        self._consumer.assign([TopicPartition("ticks", number, 0) for number in range(partitions)])
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Witness":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(30)
        self._consumer.close()

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                for message in self._consumer.consume(500, 0.2):
                    if (error := message.error()) is not None:
                        self.account.faults.append(f"the witness cannot read: {error}")
                        return
                    self._take(message)
        except Exception as error:  # or a witness that is gone looks like one who saw nothing
            self.account.faults.append(f"the witness has ended: {error!r}")

    def _take(self, message: Any) -> None:
        frame = TickFrame.decode(cast(bytes, message.value()))
        if self._readers[message.partition()].take(frame):
            self.account.take(frame.ticks)
        self.duplicates = sum(reader.duplicates for reader in self._readers.values())
