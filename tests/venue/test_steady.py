"""The steady venue's market: numbered, gapless, and as Binance writes it."""

import orjson

from tapeline.connectors.venues import parse_frame
from tapeline.schemas import Kind, RawFrame
from tests.bench.market import PAIRS
from tests.venue.steady import FIRST_ID, Tape

HEAD_BYTES = 4


def texts(frames: bytes) -> list[bytes]:
    """Take WebSocket frames apart."""
    found = []
    while frames:
        assert frames.startswith(b"\x81\x7e")
        end = HEAD_BYTES + int.from_bytes(frames[2:HEAD_BYTES], "big")
        found.append(frames[HEAD_BYTES:end])
        frames = frames[end:]
    return found


def test_messages_are_numbered_however_they_are_cut() -> None:
    tape = Tape()
    pieces = [texts(tape.frames(start, stop, 1_700_000_000_123)) for start, stop in ((0, 5), (5, 40), (40, 41))]
    found = [orjson.loads(text)["data"] for piece in pieces for text in piece]
    assert found == [orjson.loads(text)["data"] for text in texts(tape.frames(0, 41, 1_700_000_000_123))]
    symbols = [pair.symbol for pair in PAIRS]
    assert [(one["s"], one["t"], one["T"]) for one in found] == [
        (symbols[number % 12], FIRST_ID + number // 12, 1_700_000_000_123) for number in range(41)
    ]


def test_a_client_gets_the_symbols_that_it_wants() -> None:
    tape = Tape(PAIRS[:3])
    piece = tape.frames(7, 20, 1_700_000_000_123)
    kept = [orjson.loads(text)["data"] for text in texts(tape.cut(piece, 7, 20, frozenset({"ETHUSDT"})))]
    assert [(one["s"], one["t"] - FIRST_ID) for one in kept] == [("ETHUSDT", n) for n in (2, 3, 4, 5, 6)]


def test_they_are_trades_without_a_gap_long_after_the_prices_began_again() -> None:
    tape = Tape()
    start = 12 * 5_000
    messages = texts(tape.frames(start, start + 1200, 1_700_000_000_123))
    frame = RawFrame.build("binance/0", 0, [1] * len(messages), messages)
    parsed = parse_frame(frame, {})
    assert not parsed.rejects
    assert set(parsed.ticks["kind"]) == {Kind.TRADE}
    assert parsed.ticks["sequence"].tolist() == [FIRST_ID + 5_000 + number // 12 for number in range(1200)]
