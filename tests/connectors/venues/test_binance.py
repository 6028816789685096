"""Binance's parser, message by message: tables of what each kind says, and properties over damaged messages."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tapeline.connectors.venues import MESSAGE_BYTES_MAX, VENUES, Parsed, Sequences, parse_frame
from tapeline.schemas import Flag, GapReason, Kind, RawFrame, RejectReason

MS = 1_000_000
RECV_NS = 1_723_161_600_000_000_000
FIELDS = ("kind", "ts_event_ns", "sequence", "side", "flags", "price", "size", "price2", "size2")

TRADE = {"e": "trade", "E": 1005, "s": "BTCUSDT", "t": 7, "p": "61800.30", "q": "0.006", "T": 1004, "m": False}
AGGREGATE = {
    "e": "aggTrade",
    "E": 1005,
    "s": "BTCUSDT",
    "a": 3,
    "p": "5.5",
    "q": "2",
    "f": 1,
    "l": 2,
    "T": 1,
    "m": True,
}
SPOT_QUOTE = {"u": 40, "s": "BTCUSDT", "b": "10.1", "B": "1.5", "a": "10.2", "A": "2.5"}
USDM_QUOTE = SPOT_QUOTE | {"e": "bookTicker", "T": 2000, "E": 2001}
SPOT_DEPTH = {"e": "depthUpdate", "E": 3000, "s": "BTCUSDT", "U": 11, "u": 15, "b": [["9.0", "1"]], "a": [["9.5", "0"]]}
USDM_DEPTH = SPOT_DEPTH | {"T": 2999, "pu": 9}
SNAPSHOT = {"lastUpdateId": 90, "bids": [["9.0", "1"], ["8.0", "2"]], "asks": [["9.5", "3"]]}
KINDS: dict[str, list[dict[str, Any]]] = {
    "binance": [TRADE, AGGREGATE, SPOT_QUOTE, SPOT_DEPTH, SNAPSHOT],
    "binance-usdm": [TRADE, AGGREGATE, USDM_QUOTE, USDM_DEPTH, SNAPSHOT | {"T": 8, "E": 9}],
    "binance-coinm": [
        *(TRADE, AGGREGATE, USDM_QUOTE | {"ps": "BTCUSD"}, USDM_DEPTH | {"ps": "BTCUSD"}),
        SNAPSHOT | {"T": 8, "E": 9, "symbol": "BTCUSDT", "pair": "BTCUSD"},
    ],
}


def parse(*messages: dict[str, Any] | bytes, venue: str = "binance", state: Sequences | None = None) -> Parsed:
    """Parse messages of one frame; the n-th was received n ns after RECV_NS."""
    data = [message if isinstance(message, bytes) else json.dumps(message).encode() for message in messages]
    times = [RECV_NS + number for number in range(len(data))]
    return parse_frame(RawFrame.build(f"{venue}/x", 0, times, data), {} if state is None else state)


def rows(parsed: Parsed) -> list[tuple[Any, ...]]:
    return [tuple(tick[field].item() for field in FIELDS) for tick in parsed.ticks]


@pytest.mark.parametrize("venue", KINDS)
def test_trades_have_the_side_of_the_aggressor(venue: str) -> None:
    parsed = parse(TRADE, AGGREGATE, venue=venue)
    assert rows(parsed) == [
        (Kind.TRADE, 1004 * MS, 7, 1, 0, 61800.30, 0.006, 0, 0),
        (Kind.TRADE, 1 * MS, 3, -1, 0, 5.5, 2, 0, 0),
    ]
    assert parsed.names == (f"{venue}:BTCUSDT",)
    assert parsed.ticks["ts_recv_ns"].tolist() == [RECV_NS, RECV_NS + 1]


def test_spot_quotes_have_no_time_of_their_own() -> None:
    assert rows(parse(SPOT_QUOTE)) == [(Kind.QUOTE, RECV_NS, 40, 0, 0, 10.1, 1.5, 10.2, 2.5)]
    assert rows(parse(USDM_QUOTE, venue="binance-usdm"))[0][1] == 2000 * MS


def test_an_update_is_a_tick_a_level_and_the_last_is_flagged() -> None:
    assert rows(parse(SPOT_DEPTH)) == [
        (Kind.BOOK, 3000 * MS, 15, 1, 0, 9, 1, 0, 0),
        (Kind.BOOK, 3000 * MS, 15, -1, Flag.LAST, 9.5, 0, 0, 0),
    ]


@pytest.mark.parametrize("venue", KINDS)
def test_a_snapshot_belongs_to_the_only_symbol_so_far(venue: str) -> None:
    snapshot = KINDS[venue][-1]
    time_ns = 8 * MS if "T" in snapshot else RECV_NS + 1
    assert rows(parse(TRADE, snapshot, venue=venue))[1:] == [
        (Kind.BOOK, time_ns, 90, 1, Flag.SNAPSHOT, 9, 1, 0, 0),
        (Kind.BOOK, time_ns, 90, 1, Flag.SNAPSHOT, 8, 2, 0, 0),
        (Kind.BOOK, time_ns, 90, -1, Flag.SNAPSHOT | Flag.LAST, 9.5, 3, 0, 0),
    ]


def test_a_snapshot_without_one_symbol_is_rejected() -> None:
    (reject,) = parse(SNAPSHOT, TRADE).rejects
    assert (reject.index, reject.reason) == (0, RejectReason.UNKNOWN)
    assert "no symbol before it" in reject.detail
    (reject,) = parse(TRADE, TRADE | {"s": "ETHUSDT"}, SNAPSHOT).rejects
    assert (reject.index, reject.reason) == (2, RejectReason.UNKNOWN)
    assert "several symbols (BTCUSDT, ETHUSDT, ...)" in reject.detail
    state: Sequences = {}
    parse(TRADE, state=state)
    parse(TRADE | {"s": "ETHUSDT"}, state=state)
    assert len(parse(SNAPSHOT, state=state).rejects) == 1


@pytest.mark.parametrize("venue", KINDS)
def test_a_snapshot_by_rest_is_of_the_symbol_that_was_asked_for(venue: str) -> None:
    body = KINDS[venue][-1]
    frame = RawFrame.build(f"{venue}/x", 9, [RECV_NS + 1], [json.dumps(body).encode()])
    snapshot = VENUES[venue].snapshot
    assert snapshot is not None
    state: Sequences = {}
    parsed = snapshot(frame, "ETHUSDT", state)
    assert parsed.names == (f"{venue}:ETHUSDT",)
    assert rows(parsed) == rows(parse(TRADE, body, venue=venue))[1:]
    assert state == {}
    answers: list[Any] = [{"code": -1121, "msg": "Invalid symbol."}, [], 7, body | {"bids": None}]
    for answer in answers:
        data = json.dumps(answer).encode()
        assert len(snapshot(RawFrame.build(f"{venue}/x", 9, [RECV_NS], [data]), "ETHUSDT", {}).rejects) == 1


def test_coinm_names_the_symbol_of_a_snapshot() -> None:
    parsed = parse(KINDS["binance-coinm"][-1], venue="binance-coinm")
    assert parsed.names == ("binance-coinm:BTCUSDT",)
    assert parse(SNAPSHOT | {"symbol": 7}, venue="binance-coinm").rejects[0].reason is RejectReason.MALFORMED


def test_an_empty_snapshot_is_a_tick_without_side() -> None:
    (row,) = rows(parse(TRADE, SNAPSHOT | {"bids": [], "asks": []}))[1:]
    assert row == (Kind.BOOK, RECV_NS + 1, 90, 0, Flag.SNAPSHOT | Flag.LAST, 0, 0, 0, 0)


def test_a_partial_depth_stream_names_its_symbol() -> None:
    parsed = parse(TRADE, {"stream": "ethusdt@depth5@100ms", "data": SNAPSHOT})
    assert parsed.names == ("binance:BTCUSDT", "binance:ETHUSDT")
    assert parsed.ticks["instrument_id"].tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("venue", KINDS)
def test_the_envelope_changes_nothing(venue: str) -> None:
    bare = parse(*KINDS[venue], venue=venue)
    wrapped = parse(*({"stream": "btcusdt@x", "data": message} for message in KINDS[venue]), venue=venue)
    assert bare.ticks.tobytes() == wrapped.ticks.tobytes()
    assert not bare.rejects
    assert not wrapped.rejects


def test_an_update_without_levels_is_counted() -> None:
    state: Sequences = {}
    empty = SPOT_DEPTH | {"b": [], "a": []}
    parsed = parse(empty, state=state)
    assert (len(parsed.ticks), parsed.rejects, state["depthUpdate/BTCUSDT"]) == (0, (), 15)
    assert Kind.GAP not in parse(SPOT_DEPTH | {"U": 16, "u": 17}, state=state).ticks["kind"]


@pytest.mark.parametrize(
    ("venue", "before", "after", "first", "size", "kind"),
    [
        ("binance", TRADE, TRADE | {"t": 12}, 8, 4, Kind.TRADE),
        ("binance", AGGREGATE, AGGREGATE | {"a": 5}, 4, 1, Kind.TRADE),
        ("binance", SPOT_DEPTH, SPOT_DEPTH | {"U": 20, "u": 30}, 16, 4, Kind.BOOK),
        ("binance-usdm", USDM_DEPTH, USDM_DEPTH | {"pu": 20, "U": 21, "u": 22}, 16, 0, Kind.BOOK),
        ("binance-usdm", TRADE, TRADE | {"t": 9}, 8, 1, Kind.TRADE),
    ],
)
def test_a_break_is_a_gap_tick_before_the_tick_that_shows_it(
    venue: str, before: dict[str, Any], after: dict[str, Any], first: int, size: int, kind: Kind
) -> None:
    together = parse(before, after, venue=venue)
    ticks = together.ticks
    (position,) = np.flatnonzero(ticks["kind"] == Kind.GAP)
    gap, shows = ticks[position], ticks[position + 1]
    assert (gap["sequence"], gap["size"], gap["price"], gap["price2"]) == (first, size, GapReason.SEQUENCE, kind)
    assert (gap["ts_event_ns"], gap["ts_recv_ns"]) == (shows["ts_event_ns"], shows["ts_recv_ns"])
    assert shows["ts_recv_ns"] == RECV_NS + 1
    assert gap["instrument_id"] == shows["instrument_id"]


def test_numbers_that_do_not_grow_are_late_and_make_no_gap() -> None:
    numbers = [7, 8, 8, 5, 9, 10]
    parsed = parse(*(TRADE | {"t": number} for number in numbers))
    assert parsed.ticks["sequence"].tolist() == numbers
    assert (parsed.ticks["flags"] & Flag.LATE != 0).tolist() == [False, False, True, True, False, False]


def test_every_tick_of_a_late_update_is_late() -> None:
    later, earlier = SPOT_DEPTH | {"U": 16, "u": 20}, SPOT_DEPTH | {"U": 11, "u": 15}
    parsed = parse(later, earlier, later | {"U": 21, "u": 22})
    assert (parsed.ticks["flags"] & Flag.LATE != 0).tolist() == [False, False, True, True, False, False]


def test_instruments_are_followed_apart() -> None:
    other = TRADE | {"s": "ETHUSDT", "t": 1000}
    parsed = parse(TRADE, other, TRADE | {"t": 8}, other | {"t": 1001}, other | {"t": 1003})
    assert parsed.ticks["kind"].tolist() == [Kind.TRADE] * 4 + [Kind.GAP, Kind.TRADE]
    assert parsed.ticks["instrument_id"].tolist() == [0, 1, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("bid", "ask", "flag"),
    [
        ("10.3", "10.2", Flag.CROSSED),
        ("10.20", "10.2", Flag.LOCKED),
        ("0.00", "10.2", Flag.ONE_SIDED),
        ("10.2", "0", Flag.ONE_SIDED),
        ("10.1", "10.2", 0),
        ("61685.99000000", "61686.00000000", 0),
        ("1234567890.12345", "1234567890.123456", Flag.INEXACT),
    ],
)
def test_odd_quotes_are_flagged(bid: str, ask: str, flag: int) -> None:
    (tick,) = parse(SPOT_QUOTE | {"b": bid, "a": ask}).ticks
    assert tick["flags"] == flag
    assert (tick["price"], tick["price2"]) == (float(bid), float(ask))


BAD_NUMBERS: list[Any] = [
    *("NaN", "nan", "Infinity", "-1", "+1", "1e5", "1_000", " 1", "1 ", "", ".", "1.2.3", "1,5", "0x1", "٣", "9" * 400),
    *(1.5, 1, True, None, [], ["1"], {}),
]
BAD_INTEGERS: list[Any] = ["7", 7.0, 7.5, True, None, [], -1, 2**63 - 1, 2**63, 2**64, 10**30]
BAD_TIMES: list[Any] = ["1", 1.5, True, None, -1, 10**13, 1_723_161_600_000_000]


@pytest.mark.parametrize(
    ("message", "field", "values"),
    [
        (TRADE, "p", [*BAD_NUMBERS, "0", "0.00"]),
        (TRADE, "q", [*BAD_NUMBERS, "0"]),
        (TRADE, "t", BAD_INTEGERS),
        (TRADE, "T", BAD_TIMES),
        (TRADE, "m", ["true", 1, 0, None, []]),
        (TRADE, "s", [1, None, [], {}, True, "", "A B", "A\n", "x" * 65]),
        (SPOT_QUOTE, "A", BAD_NUMBERS),
        (SPOT_QUOTE, "u", BAD_INTEGERS),
        (SPOT_DEPTH, "u", [*BAD_INTEGERS, 3]),
        (SPOT_DEPTH, "U", [*BAD_INTEGERS, 16]),
        (
            SPOT_DEPTH,
            "b",
            [None, "1", {}, [1], ["ab"], [["1"]], [["1", "2", "3"]], [["0", "1"]], [["1", "-1"]], [[1, 2]]],
        ),
        (SPOT_DEPTH, "a", [[["1", number]] for number in BAD_NUMBERS]),
        (USDM_DEPTH, "pu", [*BAD_INTEGERS, 15, 16]),
        (SNAPSHOT, "lastUpdateId", BAD_INTEGERS),
        (SNAPSHOT, "T", [*BAD_TIMES[:3], -1, 10**13]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_field_is_one_reject_that_names_it(message: dict[str, Any], field: str, values: list[Any]) -> None:
    venue = "binance-usdm" if field == "pu" else "binance"
    good = TRADE | {"t": 6}
    for value in values:
        state: Sequences = {}
        parsed = parse(good, message | {field: value}, venue=venue, state=state)
        (reject,) = parsed.rejects
        assert (reject.index, reject.reason) == (1, RejectReason.MALFORMED), value
        assert len(parsed.ticks) == 1
        assert state == {"trade/BTCUSDT": 6, "symbols": "BTCUSDT"}, "a rejected message leaves no trace"


@pytest.mark.parametrize("venue", KINDS)
def test_a_missing_field_is_a_reject_that_names_it(venue: str) -> None:
    picked = {"trade": "stpqTm", "aggTrade": "sapqTm", "bookTicker": "subBaAT", "depthUpdate": "sUub"}
    for message in KINDS[venue][:-1]:
        for field in picked[message.get("e", "bookTicker")]:
            if field not in message or (field in "su" and "e" not in message):
                continue  # a spot quote without these two is of no kind at all
            (reject,) = parse({key: value for key, value in message.items() if key != field}, venue=venue).rejects
            assert reject.reason is RejectReason.MALFORMED
            assert f"without field '{field}'" in reject.detail


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"result":null,"id":1}', RejectReason.UNKNOWN),
        (b'{"stream":"btcusdt@kline_1m","data":{"e":"kline","E":1,"s":"BTCUSDT","k":{}}}', RejectReason.UNKNOWN),
        (b'{"stream":"!miniTicker@arr","data":[{"e":"24hrMiniTicker"}]}', RejectReason.UNKNOWN),
        (b'{"code":-1121,"msg":"Invalid symbol."}', RejectReason.UNKNOWN),
        (b'{"e":["trade"]}', RejectReason.UNKNOWN),
        (b"[]", RejectReason.UNKNOWN),
        (b"7", RejectReason.UNKNOWN),
        (b'"stream data"', RejectReason.UNKNOWN),
        (b"null", RejectReason.UNKNOWN),
        (b"", RejectReason.MALFORMED),
        (b"{", RejectReason.MALFORMED),
        (b'{"e":"trade","p":NaN}', RejectReason.MALFORMED),
        (b'{"e":"tr\xff"}', RejectReason.MALFORMED),
        (b"[" * 100_000 + b"]" * 100_000, RejectReason.MALFORMED),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, RejectReason.MALFORMED),
        (b'{"e":' + b"[" * 1020 + b"]" * 1020 + b"}", RejectReason.UNKNOWN),
        (
            b'{"stream":' + b"[" * 1000 + b"]" * 1000 + b',"data":{"lastUpdateId":1,"bids":[],"asks":[]}}',
            RejectReason.MALFORMED,
        ),
        (b'{"e":"trade","s":"BTCUSDT","t":1,"p":"1' + b"0" * 15 + b'","q":"1","T":1,"m":true}', RejectReason.MALFORMED),
        (b'{"e":"trade"' + b" " * MESSAGE_BYTES_MAX + b"}", RejectReason.OVERSIZED),
    ],
    ids=range(19),
)
def test_what_is_no_market_data_is_rejected_and_the_rest_goes_on(data: bytes, reason: RejectReason) -> None:
    parsed = parse(TRADE, data, TRADE | {"t": 8})
    (reject,) = parsed.rejects
    assert (reject.index, reject.reason) == (1, reason)
    assert reject.detail
    assert parsed.ticks["sequence"].tolist() == [7, 8]


def test_an_unknown_venue_rejects_each_message() -> None:
    parsed = parse(TRADE, TRADE, venue="nowhere")
    assert [(one.index, one.reason) for one in parsed.rejects] == [(0, RejectReason.UNKNOWN), (1, RejectReason.UNKNOWN)]
    assert "no venue 'nowhere'" in parsed.rejects[0].detail
    assert len(parsed.ticks) == 0


def numbered(venue: str, count: int) -> list[bytes]:
    """Messages of all kinds and two instruments whose numbers go on, with a break now and then."""
    made = []
    for number in range(count):
        message = KINDS[venue][number % len(KINDS[venue])]
        step = number + number // 13
        changes = {"t": step, "a": step} if message.get("e") in ("trade", "aggTrade") else {"u": 10 * step + 9}
        changes |= {"U": 10 * step, "pu": 10 * step - 1}
        symbol = {"s": "ETHUSDT" if number % 3 == 0 else "BTCUSDT"}
        made.append(json.dumps({key: (changes | symbol).get(key, value) for key, value in message.items()}).encode())
    return made


def assert_each_is_answered_once(messages: list[bytes], parsed: Parsed) -> None:
    """Each message gives ticks, or exactly one reject, or is an update without levels."""
    ticks = parsed.ticks[parsed.ticks["kind"] != Kind.GAP]
    with_ticks = {int(recv_ns) - RECV_NS for recv_ns in ticks["ts_recv_ns"]}
    rejected = [reject.index for reject in parsed.rejects]
    assert len(set(rejected)) == len(rejected)
    assert not with_ticks & set(rejected)
    for index in set(range(len(messages))) - with_ticks - set(rejected):
        event = json.loads(messages[index])
        event = event.get("data", event)
        assert not event.get("b", event.get("bids")), messages[index]
        assert not event.get("a", event.get("asks")), messages[index]
    assert np.isfinite(ticks["price"]).all()
    assert (ticks["price"] >= 0).all()


@st.composite
def damaged(draw: st.DrawFn, venue: str) -> bytes:
    """A message with a piece cut out, put in, changed, or a value replaced."""
    message = bytearray(draw(st.sampled_from(numbered(venue, 10))))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(message)))
        match draw(st.integers(0, 4)):
            case 0:
                del message[start:]
            case 1:
                del message[start : start + draw(st.integers(1, 8))]
            case 2:
                message[start:start] = draw(st.binary(min_size=1, max_size=4))
            case 3:
                message[start : start + 1] = draw(st.sampled_from([b"0", b'"', b"[", b"}", b",", b"-", b"e", b"null"]))
            case _:
                event = KINDS[venue][draw(st.integers(0, len(KINDS[venue]) - 1))]
                key = draw(st.sampled_from(sorted(event)))
                value = draw(JSON_VALUES)
                message = bytearray(json.dumps(event | {key: value}).encode())
    return bytes(message)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)


@pytest.mark.slow
@pytest.mark.parametrize("venue", KINDS)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_damage_makes_it_raise_or_lose_a_message(venue: str, data: st.DataObject) -> None:
    messages = [numbered(venue, 2)[0], *data.draw(st.lists(damaged(venue) | st.binary(max_size=40), max_size=12))]
    parsed = parse(*messages, venue=venue)
    assert_each_is_answered_once(messages, parsed)


@pytest.mark.slow
@pytest.mark.parametrize("venue", KINDS)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_how_messages_are_cut_into_frames_changes_nothing(venue: str, data: st.DataObject) -> None:
    messages = numbered(venue, 40)
    for position in data.draw(st.lists(st.integers(0, 39), max_size=5)):
        messages[position] = data.draw(damaged(venue))
    cuts = sorted(data.draw(st.sets(st.integers(1, 39), max_size=6)))
    times = [RECV_NS + number for number in range(40)]
    whole_state: Sequences = {}
    whole = parse_frame(RawFrame.build(f"{venue}/x", 0, times, messages), whole_state)
    state: Sequences = {}
    ticks, names, rejects = [], [], []
    for start, end in zip([0, *cuts], [*cuts, 40], strict=True):
        frame = RawFrame.build(f"{venue}/x", start, times[start:end], messages[start:end])
        state = json.loads(json.dumps(state))  # as a snapshot would carry it
        again = dict(state)
        part = parse_frame(frame, state)
        assert parse_frame(frame, again).ticks.tobytes() == part.ticks.tobytes(), "the same again"
        assert again == state
        rejects += [(start + one.index, one.reason, one.detail) for one in part.rejects]
        names += [part.names[number] for number in part.ticks["instrument_id"]]
        ticks.append(part.ticks)
    joined = np.concatenate(ticks)
    assert names == [whole.names[number] for number in whole.ticks["instrument_id"]]
    assert tuple(dict.fromkeys(names)) == whole.names, "names are in order of arrival"
    joined["instrument_id"] = whole.ticks["instrument_id"]
    assert joined.tobytes() == whole.ticks.tobytes()
    assert rejects == [(one.index, one.reason, one.detail) for one in whole.rejects]
    assert state == whole_state
