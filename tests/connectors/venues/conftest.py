"""What the tests of venues share: the folder of real recordings, and frames made from messages."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tapeline.connectors.venues import Message, Recording, Reject, parse_frame
from tapeline.connectors.venues.binance_recording import open_recording as open_binance
from tapeline.connectors.venues.framer import Framer
from tapeline.connectors.venues.lean_recording import open_recording as open_lean
from tapeline.schemas import Ticks

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
MESSAGES_MAX = 1000


@dataclass(frozen=True)
class Read:
    """A recording, read and parsed: all messages, all ticks, all rejects with the number of their message."""

    recording: Recording
    messages: Sequence[Message]
    ticks: Ticks
    names: tuple[str, ...]
    rejects: Sequence[Reject]


def read(recording: Recording, messages_max: int = MESSAGES_MAX) -> Read:
    """Read a recording to its end, as frames of `messages_max` messages."""
    messages = [item for item in recording.items if isinstance(item, Message)]
    return read_messages(recording, messages, messages_max)


def read_messages(recording: Recording, messages: Iterable[Message], messages_max: int = MESSAGES_MAX) -> Read:
    """Frame and parse messages; ids of instruments are indices into all names seen."""
    messages = list(messages)
    framer = Framer(recording.source, messages_max)
    frames = [frame for message in messages for frame in framer.add(message)] + framer.end()
    state: dict[str, int | str] = {}
    names: dict[str, int] = {}
    parts, rejects = [], []
    for frame in frames:
        parsed = parse_frame(frame, state)
        ids = np.array([names.setdefault(name, len(names)) for name in parsed.names], np.uint32)
        ticks = parsed.ticks.copy()
        ticks["instrument_id"] = ids[ticks["instrument_id"]] if len(ticks) else 0
        parts.append(ticks)
        rejects += [Reject(frame.first_message + one.index, one.reason, one.detail) for one in parsed.rejects]
    return Read(recording, messages, np.concatenate(parts), tuple(names), rejects)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real recordings beside the project."""
    if not DATA.is_dir():
        pytest.skip(f"no real recordings here: {DATA} is missing")
    return DATA


@pytest.fixture(scope="session")
def usdm(data: Path) -> Read:
    return read(open_binance(data / "ws_raw/hftbacktest/usdm_btcusdt_20240808.gz"))


@pytest.fixture(scope="session")
def spot(data: Path) -> Read:
    return read(open_binance(data / "ws_raw/hftbacktest/spot_btcusdt_20240809.gz"))


@pytest.fixture(scope="session")
def spy(data: Path) -> Read:
    return read(open_lean(data / "ticks_lean/equity_usa_tick_spy_20131007_trade.zip"))


@pytest.fixture(scope="session")
def eurusd(data: Path) -> Read:
    return read(open_lean(data / "ticks_lean/forex_fxcm_tick_eurusd_20140508_quote.zip"))
