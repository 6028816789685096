"""Captures: what is written is read again, byte for byte, also after a kill; cryptofeed's are read the same way."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tapeline.connectors.venues import Message, RecordingError, Unreadable
from tapeline.connectors.venues.capture import Item, open_capture
from tapeline.connectors.venues.capture_writer import FRAME_BYTES, FRAME_NS, CaptureWriter
from tapeline.connectors.venues.contract import FeedMessage
from tapeline.connectors.venues.zstandard import zstd
from tapeline.schemas import FeedAnswer, FeedConnect, FeedGap, GapReason, Kind, RejectReason

NS = 1_786_310_818_130_000_000
Items = list[tuple[str, Item]]


def read(path: Path) -> tuple[Items, str | None]:
    """All items, and the error that ended them."""
    items: Items = []
    try:
        items.extend(open_capture(path).items())
    except RecordingError as error:
        return items, str(error)
    return items, None


def write(path: Path, *items: tuple[str, Message | FeedMessage], venue: str = "kraken") -> Path:
    with CaptureWriter(path, venue, NS) as writer:
        for connection, item in items:
            writer.write(connection, item)
    return path


def lines(path: Path, *objects: Any, header: Any = None) -> Path:
    """Write a capture's lines by hand."""
    first = {"t": "header", "format": 2, "exchange": "KRAKEN"} if header is None else header
    text = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in (first, *objects))
    path.write_bytes(zstd.compress(f"{text}\n".encode()))
    return path


def http(ts: float, symbol: str) -> dict[str, Any]:
    url = f"https://api.binance.com/api/v3/depth?symbol={symbol}&limit=1000"
    return {"t": "http", "conn": "BINANCE.http.0", "ts": ts, "url": url, "data": f"book of {symbol}"}


symbols = st.sampled_from(["BTCUSDT", "XBT/USD"])
events = (
    st.builds(FeedConnect, url=st.text(max_size=20))
    | st.builds(
        FeedGap,
        reason=st.sampled_from(GapReason),
        symbols=st.lists(symbols, max_size=2).map(tuple),
        kind=st.none() | st.sampled_from(Kind),
        missing=st.integers(0, 9),
        detail=st.text(max_size=9),
    )
    | st.builds(FeedAnswer, url=st.text(max_size=20), symbol=symbols, data=st.text(max_size=20))
)
payloads = st.binary(max_size=40) | st.text(max_size=40).map(str.encode) | st.just(b'{"a":"\\u00fc\\n"}\n')


@st.composite
def recordings(draw: st.DrawFn) -> list[tuple[str, Message | FeedMessage]]:
    """What two connections bring, in order of time."""
    times = sorted(draw(st.lists(st.integers(NS, NS + 4 * FRAME_NS), min_size=1, max_size=20)))
    made: list[tuple[str, Message | FeedMessage]] = []
    for number, time_ns in enumerate(times):
        connection = "kraken/0" if number == 0 else draw(st.sampled_from(["kraken/0", "kraken/1"]))
        item = draw(st.builds(Message, st.just(time_ns), payloads) | st.builds(FeedMessage, st.just(time_ns), events))
        made.append((connection, item))
    return made


@pytest.mark.slow
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recordings())
def test_what_is_written_is_read_again(tmp_path: Path, items: list[tuple[str, Message | FeedMessage]]) -> None:
    path = tmp_path / "capture"
    path.unlink(missing_ok=True)
    assert read(write(path, *items)) == (items, None)


MESSAGES = [("kraken/0", Message(NS + number * FRAME_NS // 3, b"message %d" % number)) for number in range(20)]


@pytest.mark.slow
def test_what_a_killed_recorder_leaves_is_read_up_to_the_last_whole_frame(tmp_path: Path) -> None:
    header = write(tmp_path / "header").stat().st_size
    whole = write(tmp_path / "whole", *MESSAGES).read_bytes()
    cut = tmp_path / "cut"
    for end in range(header, len(whole)):
        cut.write_bytes(whole[:end])
        found, error = read(cut)
        assert found == MESSAGES[: len(found)]
        if error is not None:
            assert "damaged after line" in error
    assert len(found) in range(len(MESSAGES) - 3, len(MESSAGES) + 1)


def test_a_frame_closes_after_a_second_when_it_is_full_and_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    writer = CaptureWriter(path, "kraken", NS)
    assert read(path) == ([], None), "a header"
    for _, item in MESSAGES[:4]:  # the fourth is a second after the first
        writer.write("kraken/0", item)
    assert read(path) == (MESSAGES[:3], None)
    writer.flush()
    assert read(path) == (MESSAGES[:4], None)
    writer.write("kraken/0", Message(NS, b"a" * FRAME_BYTES))
    writer.write("kraken/0", Message(NS, b"b"))
    assert len(read(path)[0]) == 5
    writer.close()
    assert len(read(path)[0]) == 6
    assert writer.written_bytes == path.stat().st_size


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    write(tmp_path / "capture")
    with pytest.raises(RecordingError, match=r"cannot write .*capture: File exists"):
        CaptureWriter(tmp_path / "capture", "kraken", NS)
    with pytest.raises(RecordingError, match="cannot write"):
        CaptureWriter(tmp_path / "no" / "capture", "kraken", NS)


def test_what_says_nothing_of_the_market_is_kept_in_the_file_alone(tmp_path: Path) -> None:
    with CaptureWriter(tmp_path / "capture", "kraken", NS, program="test") as writer:
        writer.sent("kraken/0", NS, '{"event":"subscribe"}')
        writer.disconnected("kraken/0", NS + 1, "closed by the venue")
        writer.answered("kraken/0", NS + 2, "https://api.kraken.com/0/public/AssetPairs", b"\xff{}")
    capture = open_capture(tmp_path / "capture")
    assert list(capture.items()) == []
    assert capture.header == {
        "t": "header",
        "format": "tapeline-1",
        "venue": "kraken",
        "recorded_ns": NS,
        "program": "test",
    }
    assert list(capture.answers()) == [(NS + 2, "https://api.kraken.com/0/public/AssetPairs", b"\xff{}")]
    assert capture.read_bytes == capture.total_bytes == (tmp_path / "capture").stat().st_size


def test_two_captures_one_behind_the_other_are_one(tmp_path: Path) -> None:
    both = write(tmp_path / "a", *MESSAGES[:3]).read_bytes() + write(tmp_path / "b", *MESSAGES[3:]).read_bytes()
    (tmp_path / "both").write_bytes(both)
    assert read(tmp_path / "both") == (MESSAGES, None)


@pytest.mark.parametrize(
    ("ts", "ns"),
    [
        (1633998511.132921, 1_633_998_511_132_921_000),
        (1786310818.2235148, 1_786_310_818_223_514_800),
        (1786309548.0, 1_786_309_548_000_000_000),
        (1786309548, 1_786_309_548_000_000_000),
        (0.0000001, 100),
    ],
)
def test_cryptofeed_times_are_the_digits_that_it_wrote(tmp_path: Path, ts: float, ns: int) -> None:
    path = lines(tmp_path / "file", {"t": "recv", "conn": "KRAKEN.ws.1", "ts": ts, "data": "x"})
    assert read(path) == ([("kraken/ws.1", Message(ns, b"x"))], None)


@pytest.mark.parametrize(
    ("exchange", "address", "source"),
    [
        ("BYBIT", "wss://stream.bybit.com/v5/public/linear", "bybit-linear/ws.2"),
        ("BYBIT", "wss://stream.bybit.com/v5/public/inverse", "bybit-inverse/ws.2"),
        ("BYBIT", "wss://stream.bybit.com/v5/public/spot", "bybit/ws.2"),
        ("BINANCE", "wss://stream.binance.com:9443/stream?streams=a@trade", "binance/ws.2"),
        ("BINANCE_FUTURES", "wss://fstream.binance.com/stream", "binance-usdm/ws.2"),
        ("BINANCE_DELIVERY", "wss://dstream.binance.com/stream", "binance-coinm/ws.2"),
        ("COINBASE", "wss://advanced-trade-ws.coinbase.com", "coinbase/ws.2"),
        ("COINBASE", "wss://ws-feed.pro.coinbase.com", "coinbase-exchange/ws.2"),
        ("OKX", "wss://ws.okx.com:8443/ws/v5/public", "okx/ws.2"),
    ],
)
def test_the_address_tells_the_venue_of_a_connection(tmp_path: Path, exchange: str, address: str, source: str) -> None:
    conn = f"{exchange}.ws.2"
    path = lines(
        tmp_path / "file",
        {"t": "connect", "conn": conn, "ts": 1.5, "addr": address},
        {"t": "recv", "conn": conn, "ts": 2.5, "data": "x"},
        header={"t": "header", "format": 2, "exchange": exchange},
    )
    second = 1_000_000_000
    connect = FeedMessage(3 * second // 2, FeedConnect(url=address))
    assert read(path)[0] == [(source, connect), (source, Message(5 * second // 2, b"x"))]


def test_an_order_book_comes_on_the_connection_that_it_belongs_to_when_its_time_has_come(tmp_path: Path) -> None:
    def of(conn: str, kind: str, ts: float, **fields: str) -> dict[str, Any]:
        return {"t": kind, "conn": f"BINANCE.ws.{conn}", "ts": ts} | fields

    path = lines(
        tmp_path / "file",
        *(http(3, "ETHUSDT"), http(2, "BTCUSDT"), http(99, "SOLUSDT")),
        http(1, "") | {"url": "https://api.binance.com/api/v3/exchangeInfo"},
        of("1", "connect", 1, addr="wss://stream.binance.com:9443/stream?streams=btcusdt@depth"),
        *(of("1", "recv", ts, data=str(ts)) for ts in (1, 2, 4)),
        of("2", "connect", 1, addr="wss://stream.binance.com:9443/stream"),
        of("2", "send", 1, data='{"method":"SUBSCRIBE","params":["ethusdt@depth"]}'),
        *(of("2", "recv", ts, data=str(ts)) for ts in (1, 4)),
        header={"t": "header", "format": 2, "exchange": "BINANCE"},
    )  # fmt: skip
    order = []
    for source, item in read(path)[0]:
        match item:
            case Message():
                order.append((source, item.data.decode()))
            case FeedMessage(event=FeedAnswer() as answer):
                assert answer.data == f"book of {answer.symbol}"
                order.append((source, answer.symbol))
    assert order == [
        *(("binance/ws.1", what) for what in ("1", "BTCUSDT", "2", "4")),
        *(("binance/ws.2", what) for what in ("1", "ETHUSDT", "4")),
        ("binance/ws.1", "SOLUSDT"),
    ]
    assert [url.rpartition("/")[2] for _, url, _ in open_capture(path).answers()][3] == "exchangeInfo"


NO_CONN: list[Any] = [None, 1, [], "x" * 300]
NO_TS: list[Any] = [None, "1", -1, 1e300, True, [], 10**10]
NO_DATA: list[Any] = [None, 1, [], {}]


@pytest.mark.parametrize(
    "line",
    [
        *("{", "[]", "7", "", "null", '{"t":"recv"', '{"t":"recv","conn":"a","ts_ns":1,"data":"\\ud800"}'),
        *({"t": what, "conn": "a", "ts_ns": 1} for what in ("recv", "send", "connect", "http", "gap", "other", None)),
        *({"t": "recv", "conn": conn, "ts_ns": 1, "data": "x"} for conn in NO_CONN),
        *({"t": "recv", "conn": "a", "ts_ns": ns, "data": "x"} for ns in (None, "1", 1.0, -1, 2**63, True)),
        *({"t": "recv", "conn": "a", "ts": ts, "data": "x"} for ts in NO_TS),
        *({"t": "recv", "conn": "a", "ts_ns": 1, "data": data} for data in NO_DATA),
        *({"t": "recv", "conn": "a", "ts_ns": 1, "data_base64": data} for data in (None, "x", "=!", "\u00fc")),
        http(1, "A") | {"data_base64": "/w=="},
        http(1, "A") | {"data": 7},
        *(
            {"t": "gap", "conn": "a", "ts_ns": 1, "reason": "silence", "symbols": ["A"]} | wrong
            for wrong in ({"reason": "x"}, {"symbols": [1]}, {"symbols": None}, {"kind": "x"}, {"missing": -1})
        ),
    ],
)
def test_a_line_that_cannot_be_read_is_told_and_the_rest_goes_on(tmp_path: Path, line: Any) -> None:
    good = {"t": "recv", "conn": "KRAKEN.ws.1", "ts_ns": 5, "data": "x"}
    (_, before), (source, item), (_, after) = read(lines(tmp_path / "file", good, line, good))[0]
    assert before == after == Message(5, b"x")
    assert isinstance(item, Unreadable)
    assert (source, item.index, item.reason) == ("kraken/ws.1", 2, RejectReason.MALFORMED)
    assert item.detail.startswith("file, line 3: ")
    assert item.data == (line if isinstance(line, str) else json.dumps(line)).encode()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_bytes(b""), "no capture"),
        (lambda path: path.write_bytes(b"nonsense"), "no capture"),
        (lambda path: lines(path, header={"t": "recv"}), "no capture"),
        (lambda path: lines(path, header={"t": "header", "format": 2, "exchange": "GEMINI"}), "GEMINI"),
        (lambda path: lines(path, header={"t": "header", "format": 2, "exchange": ["OKX"]}), "OKX"),
        (lambda path: lines(path, header={"t": "header", "format": "tapeline-1"}), "not read here"),
        (lambda path: lines(path, header={"t": "header", "format": "tapeline-1", "venue": 7}), "not read here"),
        (lambda path: None, "cannot read"),
    ],
)
def test_what_is_no_capture_says_so(tmp_path: Path, make: Callable[[Path], Any], says: str) -> None:
    make(tmp_path / "file")
    with pytest.raises(RecordingError, match=says):
        open_capture(tmp_path / "file")


def test_a_damaged_capture_gives_everything_before_also_what_was_held(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "file",
        http(9, "BTCUSDT"),
        {"t": "connect", "conn": "BINANCE.ws.1", "ts": 1, "addr": "wss://x"},
        header={"t": "header", "format": 2, "exchange": "BINANCE"},
    )
    path.write_bytes(path.read_bytes() + zstd.compress(b"more")[:-3])
    items, error = read(path)
    assert [type(item.event) for _, item in items if isinstance(item, FeedMessage)] == [FeedConnect, FeedAnswer]
    assert "damaged after line" in str(error)
