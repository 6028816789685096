"""Scanned or parsed, a message gives the same: over every shape, damaged in every way, and over real recordings."""

import ctypes
import mmap
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import count, pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numba.core import event as numba_event

from tapeline.agents import tick_frames
from tapeline.connectors.venues import (
    MESSAGE_BYTES_MAX,
    Message,
    Parsed,
    Sequences,
    binance,
    bitstamp,
    bitstamp_shapes,
    bybit,
    bybit_shapes,
    coinbase,
    coinbase_exchange,
    coinbase_shapes,
    columns,
    kraken,
    kraken_shapes,
    lean,
    lexing,
    okx,
    okx_shapes,
    parse_frame,
    scan,
    sim,
)
from tapeline.connectors.venues.assembly import Assembly
from tapeline.connectors.venues.binance_shapes import SCANNERS, SNAPSHOT_SCANNER, STREAMS
from tapeline.connectors.venues.shapes import Scanner, Stream
from tapeline.schemas import Flag, GapReason, Instrument, Kind, RawFrame, RejectReason
from tests.connectors.venues.conftest import Read

RECV_NS = 1_723_161_600_000_000_000
TRADES = "lean/equity-usa/spy/20131007/trade"
QUOTES = "lean/equity-usa/spy/20131103/quote"  # clocks changed that day
FOREX = "lean/forex-fxcm/eurusd/20140508/quote"

PARSERS: dict[str, Callable[..., Parsed]] = {
    "binance": partial(binance.parse, "binance"),
    "binance-usdm": partial(binance.parse, "binance-usdm"),
    "binance-coinm": partial(binance.parse, "binance-coinm"),
    "bitstamp": bitstamp.parse,
    "bybit": partial(bybit.parse, "bybit"),
    "coinbase": coinbase.parse,
    "coinbase-exchange": coinbase_exchange.parse,
    "kraken": kraken.parse,
    "okx": okx.parse,
    "sim": sim.parse,
    "lean": lean.parse,
}
SOURCES: dict[str, tuple[Scanner, Sequence[Stream]]] = {
    "binance/x": (SCANNERS["binance"], STREAMS["binance"]),
    "binance-usdm/x": (SCANNERS["binance-usdm"], STREAMS["binance-usdm"]),
    "binance-coinm/x": (SCANNERS["binance-coinm"], STREAMS["binance-coinm"]),
    "bitstamp/x": (bitstamp_shapes.SCANNER, bitstamp_shapes.STREAMS),
    "bybit/x": (bybit_shapes.SCANNER, bybit_shapes.STREAMS),
    "coinbase/x": (coinbase_shapes.SCANNER, coinbase_shapes.STREAMS),
    "coinbase-exchange/x": (coinbase_shapes.EXCHANGE_SCANNER, coinbase_shapes.EXCHANGE_STREAMS),
    "kraken/x": (kraken_shapes.SCANNER, kraken_shapes.STREAMS),
    "okx/x": (okx_shapes.SCANNER, okx_shapes.STREAMS),
    "sim/x": (sim.SCANNER, sim.STREAMS),
    TRADES: (lean.SCANNERS["equity", "trade"], ()),
    QUOTES: (lean.SCANNERS["equity", "quote"], ()),
    FOREX: (lean.SCANNERS["forex", "quote"], ()),
}

DECIMALS = ["61685.99000000", "0.00017000", "10.1", "10.2", "10.20", "7", "100", "0.5", "123456789012.345"]
ODD_DECIMALS = [
    *(
        "0",
        "0.000",
        "00.10",
        ".5",
        "5.",
        ".",
        "",
        "1.2.3",
        "-1",
        "+1",
        "1e5",
        "1E5",
        "NaN",
        "1_0",
        " 1",
        "1 ",
        "\u0661",
    ),
    *("999999999999999", "1000000000000000", "999999999999999.9", "9007199254740991", "900719925474099.1"),
    *("9007199254740.993", "9007199254740.992", "123456789012345.6", "1234567890.1234567", "1234567890.123456700000"),
    *("0.0000000000000000001", "0.00000000000000000001", "0000000000000000000.5", "00000000000000000000.5"),
    *("18446744073709551616", "9" * 40, "1." + "0" * 18, "1." + "0" * 19, "0." + "3" * 18, "1\\u0030", "1\x00"),
]
ODD_NUMBERS = [
    *("0", "00", "007", "-0", "-1", "1.0", "1e3", "", "null", '"1"', "true", "9223372036854775806", "[1]"),
    *("9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616", "9" * 30),
    *("9223372036854", "9223372036855", "86399999", "86400000", "999999999999999", "1000000000000000", "1_0", " 1"),
]
ODD_SYMBOLS = [
    "",
    "A B",
    "A\\u0041",
    "\u00dc",
    "\x7f",
    "\t",
    "A'",
    "x" * 64,
    "x" * 65,
    "A\\",
    "A/B",
    "\u2028",
    "~!#[]{}",
]
ODD_TEXTS = [
    "",
    "a b",
    "\u00fc",
    '\\"',
    "\\n",
    "\x7f",
    "\x1f",
    "\x00",
    "'",
    "x" * 200,
    "a\\",
    "\ud7ff",
    "{",
    '","data":{',
]
ODD_CELLS = ["", "\u00fc", '"', "\\", "\x00", "\x7f", "\r", " ", "1.5", "\x80"]
LEVELS = ["[]", '[["9.50","1"]]', '[["9","0.000"],["8.5","2"],["7.25","3.125"]]']
ODD_LEVELS = [
    *("[", "]", "null", "{}", "[[]]", '[["1"]]', '[["1","2","3"]]', '[["1","2"],]', '[["1","2"]', '[["1","2"]]]'),
    *('[["0","1"]]', '[["1","-1"]]', "[[1,2]]", '[["1.5","1234567890.123456"]]', '[["1", "2"]]', '[["1","2"],["1"]]'),
    *('[["1","2"][', '[["1","2"', '[["1","', '[["1"', '[["', "[[", '["1","2"]', "[" * 100),
]
FIELDS: dict[str, tuple[Iterable[str], Iterable[str]]] = {
    **dict.fromkeys(
        ("price", "size", "bid", "bid size", "ask", "ask size", "fx bid", "fx ask"), (DECIMALS, ODD_DECIMALS)
    ),
    **dict.fromkeys(("int", "ms", "ns"), (["1723161600000", "0", "7", "43200000"], ODD_NUMBERS)),
    **dict.fromkeys(("id", "first id - 1", "id before"), ([str(number) for number in range(12)], ODD_NUMBERS)),
    "symbol": (["BTCUSDT", "ETHUSDT", "BTC-USD.PERP", "A"], ODD_SYMBOLS),
    "text": (["btcusdt@trade", "MARKET", "btcusdt@depth@100ms"], ODD_TEXTS),
    "cell": (["P", "20002000", ""], ODD_CELLS),
    **dict.fromkeys(("maker", "bool"), (["true", "false"], ["True", "1", "null", "", '"true"', "tru"])),
    "side": (["buy", "sell"], ["hold", "", "Buy"]),
    "status": (["open", "close"], ["halt", ""]),
    "suspicious": (["0", "1"], ["2", "", "00", "x"]),
    **dict.fromkeys(("bids", "asks"), (LEVELS, ODD_LEVELS)),
}
"""What may stand in a field of a template: as it comes, and odd."""
WHOLE = ["1674100", "100", "0", "007", "5"]
ODD_WHOLE = [*ODD_NUMBERS, "1.5"]


ISO_TIMES = ["2026-08-09T21:05:48.228568804Z", "2024-02-29T00:00:00Z", "1999-12-31T23:59:59.5Z"]
ODD_ISO_TIMES = [
    *("1970-01-01T00:00:00.000000001Z", "2259-12-31T23:59:59.999999999Z", "2000-02-29T12:00:00Z"),
    *(f"{date}T00:00:00Z" for date in ("2026-03-01", "2025-02-29", "2100-02-29", "2026-04-31", "2260-01-01")),
    *(
        f"{date}T00:00:00Z"
        for date in ("2026-00-09", "2026-13-09", "2026-08-00", "2026-08-32", "2026-8-09", "1969-12-31")
    ),
    *(
        f"2026-08-09T{time}Z"
        for time in ("24:00:00", "21:60:48", "21:05:60", "21:05:48.", "21:05:48.1234567891", "2１:05:48")
    ),
    *("2026-08-09T21:05:48", "2026-08-09 21:05:48Z", "2026-08-09t21:05:48z", "2026-08-09T21:05:48+00:00"),
    *("", "now", "Z", "2026-08-09T21:05:48.5", "2026-08-09T21:05:48.5ZZ", "20260809T210548Z"),
]
SECOND_TIMES = ["1618678142.557535", "1618678142", "1.000000001"]
ODD_SECOND_TIMES = [
    *("0", "0.0", "007.5", "9223372035.999999999", "9223372036.854775807", "9999999999", "10000000000", "1.1234567890"),
    *("1.", ".5", "", "-1", "1e9", "1.5.5", "1_0", " 1", "x", "9" * 30, "1." + "0" * 30),
]
JSON_NUMBERS = ["0.5666", "1361.44813783", "7", "740.0", "0", "123456789012345"]
ODD_JSON_NUMBERS = [
    *("-1", "-0", "-0.0", "1e3", "1E-7", "1.5e2", "007", "00", ".5", "5.", "", "null", '"1"', "true", "NaN", "+1"),
    *(
        "1234567890123456",
        "0.1000000000000000",
        "0.10000000000000001",
        "12345678.12345678",
        "999999999999999.9",
        "1e15",
    ),
    *("999999999999999", "1000000000000000", "0." + "0" * 20 + "1", "9" * 30, "1." + "0" * 25, "[1]", "{}", " 1", "1 "),
]
BITS = (["0", "1"], ["2", "-1", "00", "", "true", '"0"', "0.0"])
Values = tuple[Iterable[str], Iterable[str]]


def lists(templates: Sequence[str], fields: Mapping[str, Values]) -> Values:
    """Lists of items: empty, of one, of two, and of one that has something odd."""
    usual = [filled(template, lambda _, name: next(iter(fields[name][0]))) for template in templates]
    other = [filled(template, lambda _, name: list(fields[name][0])[-1]) for template in templates]
    odd = [f"[{one}" for one in usual] + [f"[{one},]" for one in usual] + [f"[{one},{one}" for one in usual]
    odd += [f"[{one}][" for one in usual] + [f"[{one},[]]" for one in usual] + [f"[{one} ,{one}]" for one in usual]
    for template in templates:
        for place, name in enumerate(re.findall(r"<([^<>]+)>", template)):
            for value in (*fields[name][0], *fields[name][1]):
                here = filled(template, lambda at, of, v=value, p=place: v if at == p else next(iter(fields[of][0])))  # type: ignore[misc]
                odd += [f"[{here}]", f"[{usual[0]},{here}]"]
    return [
        *(f"[{one}]" for one in usual),
        *(f"[{one},{two}]" for one, two in zip(usual, other, strict=True)),
        "[]",
    ], odd


def filled(template: str, choose: Callable[[int, str], str]) -> str:
    """Put something into every field of a template: choose(number of the field, its name)."""
    number = count()
    return re.sub(r"<([^<>]+)>", lambda match: choose(next(number), match[1]), template)


NO_ZERO: Values = ([one for one in DECIMALS if float(one)], ["0", *ODD_DECIMALS])
PARTS: dict[str, Values] = {
    "price": NO_ZERO,
    "size": (DECIMALS, ODD_DECIMALS),
    "traded": NO_ZERO,
    "seconds": (SECOND_TIMES, ODD_SECOND_TIMES),
    "iso": (ISO_TIMES, ODD_ISO_TIMES),
    "r": (["", ',"r"'], [',"x"', ',"r","r"', ",1", ","]),
    "b": (["b", "s"], ["x", "", "buy"]),
    "buy": (["buy", "sell"], ["Buy", "", "x"]),
    "Buy": (["Buy", "Sell"], ["buy", "", "x"]),
    "bid": (["bid", "offer"], ["ask", "", "Bid"]),
    "text": (["x", ""], ["\u00fc", '\\"', "a\\"]),
    "json price": (["0.5666", "7"], ["0", *ODD_JSON_NUMBERS]),
    "json size": (JSON_NUMBERS, ODD_JSON_NUMBERS),
    "id": (["7", "8", "3"], ODD_NUMBERS),
    "digits": (["7", "8", "3", "007"], ["0", "", "-1", "x", "9223372036854775806", "9223372036854775807", "9" * 30]),
    "ms": (["1723161600000"], ODD_NUMBERS),
    "digits ms": (["1723161600000", "01723161600000"], ["0", "", "x", "9223372036854", "9223372036855", "9" * 30]),
    "symbol": (["BTCUSDT"], [*ODD_SYMBOLS, "ETHUSDT"]),
    "bool": (["true", "false"], ["1", "null"]),
}
PAIRS = lists(['["<price>","<size>"]'], PARTS)
NUMBERS_V2: dict[str, Values] = {
    f"{name} v2": (JSON_NUMBERS, ODD_JSON_NUMBERS) for name in ("bid", "bid size", "ask", "ask size")
}
TEXTS_OF_TICKERS: dict[str, Values] = {
    **dict.fromkeys(
        ("bid1Price", "bid1Size", "ask1Price", "ask1Size", "markPrice", "indexPrice"),
        ([*DECIMALS, "0", ""], ODD_DECIMALS),
    ),
    "fundingRate": (["0.0001", "-0.0001", "-0", ""], ["-", "--1", "-.5", "-5.", *ODD_DECIMALS]),
    "nextFundingTime": (["1786320000000", "0", ""], ["9" * 13, "9" * 14, "-1", "1.5", "1.", "x", "\u0661"]),
}


def tickers() -> Values:
    """The objects of tickers: all of it, in parts and in other orders; and with something odd."""

    def made(fields: Mapping[str, str], symbol: str = "BTCUSDT") -> str:
        return "{" + ",".join(f'"{name}":"{text}"' for name, text in {"symbol": symbol, **fields}.items()) + "}"

    first = {name: next(iter(usual)) for name, (usual, _) in TEXTS_OF_TICKERS.items()}
    whole = first | {"tickDirection": "ZeroPlusTick", "preOpenPrice": ""}
    parts = [
        {name: list(TEXTS_OF_TICKERS[name][0])[-2] for name in names}
        for names in (["bid1Size"], ["ask1Price", "ask1Size"], ["indexPrice"], ["fundingRate", "bid1Price"])
    ]
    usual = [made(whole), *map(made, parts), made(dict(reversed(whole.items()))), made(parts[0], "ETHUSDT")]
    odd = [made({}), made({"lastPrice": "1"}), "{}", "[]", "null", "{", '{"symbol"', made(whole)[:-1], made(whole)[:-2]]
    odd += [made(whole).replace(",", ", ", 1), made(whole).replace(":", ": ", 1), made(whole).replace("{", '{"a":1,')]
    odd += [made(whole).replace('"symbol":"BTCUSDT",', ""), made({"symbol2": "A"}), made({"bid1Foo": "1", "a": "b"})]
    odd += [made(first, symbol) for symbol in ODD_SYMBOLS]
    odd += [made(whole).replace("{", '{"symbol":"ETHUSDT",'), made(parts[0]).replace("bid1Size", "\\u0062id1Size")]
    for name, (_, texts) in TEXTS_OF_TICKERS.items():
        odd += [made({name: text}) for text in (*TEXTS_OF_TICKERS[name][0], *texts)]
        odd += [made(whole).replace(f'"{name}":"{first[name]}"', f'"{name}":{value}') for value in ODD_NUMBERS]
        odd += [made(whole)[:-1] + f',"{name}":"{text}"' + "}" for text in ("7", "", "x")]
    return usual, odd


OWN_FIELDS: dict[str, dict[str, Values]] = {
    "bitstamp/x": {
        **dict.fromkeys(("bids", "asks"), PAIRS),
        **dict.fromkeys(("us", "stamp"), PARTS["digits"]),
        "side": BITS,
        "number": (JSON_NUMBERS, ODD_JSON_NUMBERS),
    },
    "bybit/x": {
        "ticker": tickers(),
        **dict.fromkeys(("bids", "asks"), PAIRS),
        "trades": lists(
            [
                '{"T":<ms>,"s":"<symbol>","S":"<Buy>","v":"<traded>","p":"<price>","L":"<text>","i":"<text>","BT":<bool>,'
                '"RPI":<bool>,"seq":<id>}',
                '{"i":"<text>","T":<ms>,"p":"<price>","v":"<traded>","S":"<Buy>","seq":<id>,"s":"<symbol>","BT":<bool>,'
                '"RPI":<bool>}',
            ],
            PARTS,
        ),
    },
    "coinbase/x": {
        "updates": lists(
            ['{"side":"<bid>","event_time":"<iso>","price_level":"<price>","new_quantity":"<size>"}'], PARTS
        ),
        "time": PARTS["iso"],
    },
    "coinbase-exchange/x": {
        "changes": lists(['["<buy>","<price>","<size>"]'], PARTS),
        **dict.fromkeys(("bids", "asks"), PAIRS),
        "time": PARTS["iso"],
        "maker": PARTS["buy"],
        "traded": NO_ZERO,
    },
    "kraken/x": {
        **dict.fromkeys(("bids", "asks"), lists(['["<price>","<size>","<seconds>"<r>]'], PARTS)),
        "trades": lists(['["<price>","<traded>","<seconds>","<b>","<text>","<text>"]'], PARTS),
        **dict.fromkeys(("bids v2", "asks v2"), lists(['{"price":<json price>,"qty":<json size>}'], PARTS)),
        "trades v2": lists(
            [
                '{"symbol":"<symbol>","side":"<buy>","price":<json price>,"qty":<json price>,"ord_type":"<text>",'
                '"trade_id":<id>,"timestamp":"<iso>"}'
            ],
            PARTS,
        ),
        **NUMBERS_V2,
        "depth": (["10", "1000", "0010"], ["0", "", "x", "100000", "100001", "-1", "9" * 30]),
        "seconds": PARTS["seconds"],
        "iso": PARTS["iso"],
        **dict.fromkeys(("number", "signed"), (JSON_NUMBERS, ODD_JSON_NUMBERS)),
    },
    "okx/x": {
        **dict.fromkeys(("bids", "asks"), lists(['["<price>","<size>","<text>","<text>"]'], PARTS)),
        "trades": lists(
            [
                f'{{"instId":"<symbol>","tradeId":"<digits>","px":"<price>","sz":"<traded>","side":"<buy>",{tail}}}'
                for tail in ('"ts":"<digits ms>"', '"ts":"<digits ms>","count":"<text>","source":"<text>","seqId":<id>')
            ],
            PARTS,
        ),
        "ms": PARTS["digits ms"],
        "number": (["0", "-914047754", "1"], ODD_JSON_NUMBERS),
    },
}


def fields_of(source: str) -> dict[str, Values]:
    whole = dict.fromkeys(("price", "size", "bid", "ask", "ask size"), (WHOLE, ODD_WHOLE))
    return FIELDS | whole if source in (TRADES, QUOTES) else FIELDS | OWN_FIELDS.get(source, {})


def as_usual(source: str, template: str, odd: Mapping[int, str] = MappingProxyType({}), way: int = 0) -> str:
    """Fill a template with what makes ticks, but for what is odd: number of a field -> its text."""
    numbers = {"first id - 1": "3", "id before": "2", "id": "7", "ms": "43200000"}

    def choose(number: int, name: str) -> str:
        usual = [value for value in fields_of(source)[name][0] if value not in ("0", "[]")] or ["0"]
        return odd.get(number, numbers.get(name, usual[way % len(usual)]))

    return filled(template, choose)


@st.composite
def messages_of(draw: st.DrawFn, source: str) -> bytes:
    """A message of any shape, whole or damaged."""
    template = draw(st.sampled_from([template for template, _ in SOURCES[source][0].shapes]))
    names = re.findall(r"<([^<>]+)>", template)
    damage = draw(st.sampled_from(["none", "none", "field", "field", "decimal", "bytes", "another"]))
    odd = draw(st.integers(0, len(names) - 1)) if names and damage in ("field", "decimal") else -1

    def choose(number: int, name: str) -> str:
        if number != odd:
            return draw(st.sampled_from(list(fields_of(source)[name][0])))
        if damage == "decimal":
            return draw(st.from_regex(r"[0-9]{0,25}\.?[0-9]{0,25}", fullmatch=True))
        return draw(st.sampled_from(list(fields_of(source)[name][1])))

    text = filled(template, choose)
    message = bytearray(text.encode("utf-8", "surrogatepass"))
    if damage == "another":
        return draw(
            st.sampled_from([text.replace(":", ": "), text + " ", text + text, "{" + text[1:].replace("}", ',"e":1}')])
        ).encode()
    for _ in range(draw(st.integers(1, 3)) if damage == "bytes" else 0):
        at = draw(st.integers(0, len(message)))
        match draw(st.integers(0, 4)):
            case 0:
                del message[at:]
            case 1:
                del message[at : at + draw(st.integers(1, 8))]
            case 2:
                message[at:at] = draw(st.binary(min_size=1, max_size=9))
            case 3:
                message[at : at + 1] = draw(st.sampled_from([b"0", b"9", b'"', b"[", b"}", b",", b".", b"\\", b"\x7f"]))
            case _ if at < len(message):
                message[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(message)


def assert_same(source: str, frames: Iterable[RawFrame]) -> None:
    """Parse frames of one connection with and without scanning; the results are equal to the bit."""
    parse = PARSERS[source.partition("/")[0]]
    scanned_state: Sequences = {}
    parsed_state: Sequences = {}
    for frame in frames:
        scanned, parsed = parse(frame, scanned_state), parse(frame, parsed_state, scanned=False)
        assert scanned.ticks.tobytes() == parsed.ticks.tobytes()
        assert scanned.names == parsed.names
        assert scanned.rejects == parsed.rejects
        assert list(scanned_state.items()) == list(parsed_state.items())


def frames_of(source: str, messages: Sequence[bytes], cuts: Iterable[int] = ()) -> list[RawFrame]:
    """Cut messages, of which the n-th was received n ns after RECV_NS, into decoded frames."""
    edges = sorted({0, *cuts, len(messages)})
    return [
        RawFrame.decode(
            RawFrame.build(source, start, range(RECV_NS + start, RECV_NS + end), messages[start:end]).encode()
        )
        for start, end in pairwise(edges)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_scanned_and_parsed_are_the_same(source: str, data: st.DataObject) -> None:
    messages = data.draw(st.lists(messages_of(source), min_size=1, max_size=25))
    cuts = data.draw(st.sets(st.integers(1, len(messages)), max_size=4))
    assert_same(source, frames_of(source, messages, cuts))


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_every_odd_field_and_every_cut_is_the_same(source: str) -> None:
    """One thing is odd at a time: each odd value in each field of each shape, and each shape cut in two anywhere."""
    for template, _ in SOURCES[source][0].shapes:
        whole = as_usual(source, template).encode()
        messages = [piece for at in range(len(whole) + 1) for piece in (whole[:at], whole[at:])]
        for odd, name in enumerate(re.findall(r"<([^<>]+)>", template)):
            for value in (*fields_of(source)[name][0], *fields_of(source)[name][1]):
                messages.append(as_usual(source, template, {odd: value}).encode("utf-8", "surrogatepass"))
        assert_same(source, frames_of(source, messages))
        assert_same(source, frames_of(source, messages, range(0, len(messages), 3)))


@pytest.mark.slow
def test_pictures_by_rest_are_the_same() -> None:
    for template, _ in SNAPSHOT_SCANNER.shapes:
        for odd, name in enumerate(re.findall(r"<([^<>]+)>", template)):
            for value in (*FIELDS[name][0], *FIELDS[name][1]):
                data = as_usual("binance/x", template, {odd: value}).encode("utf-8", "surrogatepass")
                frame = RawFrame.build("binance/x", 0, [RECV_NS], [data])
                scanned, parsed = (
                    binance.snapshot("binance", frame, "BTCUSDT", {}, scanned=scanned) for scanned in (True, False)
                )
                assert scanned.ticks.tobytes() == parsed.ticks.tobytes()
                assert (scanned.names, scanned.rejects) == (parsed.names, parsed.rejects)


def test_depths_that_change_in_a_frame_are_those_of_the_moment() -> None:
    """Kraken says how deep a v2 book is when it is subscribed to, and books that were scanned must know."""
    level = '{"price":9,"qty":1}'

    def book(symbol: str) -> bytes:
        text = f'{{"symbol":"{symbol}","bids":[{level}],"asks":[],"checksum":1,"timestamp":"{ISO_TIMES[0]}"}}'
        return f'{{"channel":"book","type":"update","data":[{text}]}}'.encode()

    def answer(symbol: str, depth: int) -> bytes:
        text = '{"method":"subscribe","success":true,"result":{"channel":"book","depth":%d,"symbol":"%s"}}'
        return (text % (depth, symbol)).encode()

    messages = [
        book("A"),
        answer("A", 10),
        book("A"),
        book("B"),
        answer("B", 25),
        book("B"),
        answer("A", 100),
        book("A"),
    ]
    (frame,) = frames_of("kraken/x", messages)
    assert parse_frame(frame, {}).ticks["size2"].tolist() == [0, 10, 0, 25, 100]
    for cut in range(9):
        assert_same("kraken/x", frames_of("kraken/x", messages, [cut]))


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_what_is_of_a_known_shape_is_scanned(source: str) -> None:
    """The library parser sees none of it, in any of the ways to fill a shape as usual (books: with levels)."""
    scanner, streams = SOURCES[source]
    for template, end in scanner.shapes:
        for way in range(4):
            text = as_usual(source, template, way=way)
            (frame,) = frames_of(source, [text.encode()] * 3)
            assembly = Assembly("x", frame, {}, streams, scanner)
            assert not len(assembly.left), text
            assert len(assembly.scanned[0]) >= (3 if end.rows != "NONE" else 0)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(
    st.from_regex(r"[0-9]{0,20}\.?[0-9]{0,20}", fullmatch=True) | st.decimals(0, 10**15, places=8).map("{:f}".format)
)
@example("9007199254740993")
@example("900719925474099.3")
@example("123456789012345.6")
@example("0.1")
def test_a_scanned_decimal_is_what_float_says(text: str) -> None:
    message = f'{{"u":1,"s":"A","b":"{text}","B":"0","a":"1","A":"1"}}'.encode()
    (frame,) = frames_of("binance/x", [message])
    ticks, _ = Assembly("binance", frame, {}, STREAMS["binance"], SCANNERS["binance"]).scanned
    if len(ticks):
        assert ticks["price"].tobytes() == np.float64(float(text)).tobytes()
        assert bool(ticks["flags"][0] & Flag.INEXACT) == columns.inexact([text])[0]
    digits = text.replace(".", "")
    if digits and len(digits) <= lexing.DIGITS_MAX and float(text) < columns.NUMBER_MAX:
        assert len(ticks) == (int(digits.rstrip("0") or 0) < lexing.EXACT_MAX), "no more is left than must be"


@st.composite
def numbered(draw: st.DrawFn) -> list[tuple[str, str, int]]:
    """Stream, symbol and number of messages: mostly going on, with jumps ahead and back."""
    following: dict[tuple[str, str], int] = {}
    made = []
    for _ in range(draw(st.integers(1, 40))):
        stream, symbol = draw(st.sampled_from(["trade", "quote"])), draw(st.sampled_from("ABC"))
        number = max(0, following.get((stream, symbol), 5) + draw(st.sampled_from([1, 1, 1, 0, -2, 3, 9])))
        following[stream, symbol] = number
        made.append((stream, symbol, number))
    return made


@pytest.mark.slow
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(numbered(), st.sets(st.integers(1, 39), max_size=5))
def test_numbers_are_followed_as_a_dict_would(numbers: list[tuple[str, str, int]], cuts: set[int]) -> None:
    tails = {
        "trade": '"price":"1","size":"1","side":"buy"}',
        "quote": '"bid":"1","bid_size":"1","ask":"2","ask_size":"1"}',
    }
    messages = [
        f'{{"type":"{stream}","symbol":"{symbol}","id":{number},"time_ns":{position},{tails[stream]}'.encode()
        for position, (stream, symbol, number) in enumerate(numbers)
    ]
    highest: dict[str, int] = {}
    expected: list[tuple[Any, ...]] = []
    for position, (stream, symbol, number) in enumerate(numbers):
        kind = Kind.TRADE if stream == "trade" else Kind.QUOTE
        last = highest.get(f"{stream}/{symbol}", number - 1)
        if number > last + 1:
            expected.append((symbol, Kind.GAP, position, last + 1, 0, number - 1 - last, GapReason.SEQUENCE, kind))
        late = Flag.LATE if number <= last else 0
        expected.append((symbol, kind, position, number, late, 1, 1, 0 if kind == Kind.TRADE else 2))
        highest[f"{stream}/{symbol}"] = max(number, last)
    state: Sequences = {}
    found = []
    for frame in frames_of("sim/x", messages, (cut for cut in cuts if cut < len(messages))):
        parsed = parse_frame(frame, state)
        fields = ("kind", "ts_event_ns", "sequence", "flags", "size", "price", "price2")
        for tick in parsed.ticks:
            symbol = parsed.names[tick["instrument_id"]].removeprefix("sim:")
            found.append((symbol, *(tick[field].item() for field in fields)))
        assert (parsed.ticks["ts_recv_ns"] == RECV_NS + parsed.ticks["ts_event_ns"]).all()
    assert found == expected
    assert list(state.items()) == list(highest.items())


def trade(symbol: str, number: int = 7) -> bytes:
    return f'{{"e":"trade","E":1,"s":"{symbol}","t":{number},"p":"1.5","q":"2","T":1004,"m":true,"M":true}}'.encode()


def test_many_symbols_are_told_apart_and_named_in_order() -> None:
    names = [f"{number}USDT" for number in np.random.default_rng(1).permutation(3000)]
    messages = [trade(name) for name in names] + [trade(name, 8) for name in names]
    (frame,) = frames_of("binance/x", messages)
    parsed = parse_frame(frame, {})
    assert parsed.names == tuple(f"binance:{name}" for name in names)
    assert parsed.ticks["instrument_id"].tolist() == [*range(3000), *range(3000)]
    assert_same("binance/x", [frame])


def test_symbols_made_to_collide_are_still_right() -> None:
    """More symbols for one place of the table than are looked for there."""
    symbols, wanted = 200, 3
    places = 2 << symbols.bit_length()

    def place(symbol: str) -> int:
        hashed = int(lexing.HASH_START) ^ int.from_bytes(symbol.encode(), "little")
        for _ in range(2):
            hashed = hashed * int(lexing.HASH_FACTOR) % 2**64
            hashed ^= hashed >> 32
        return hashed % places

    colliding = (name for name in (f"{number:08d}" for number in range(10**8)) if place(name) == wanted)
    messages = [trade(next(colliding)) for _ in range(symbols)]
    (frame,) = frames_of("binance/x", messages)
    assert (
        len(Assembly("binance", frame, {}, STREAMS["binance"], SCANNERS["binance"]).left) == symbols - scan.PROBES_MAX
    )
    assert_same("binance/x", [frame])


@pytest.mark.parametrize("source", SOURCES)
def test_ends_that_make_no_sense_are_harmless(source: str) -> None:
    """A frame that never went through `build` or `decode`: its ends go back, and beyond its body."""
    template, _ = SOURCES[source][0].shapes[0]
    message = as_usual(source, template).encode()
    size = len(message)
    for ends in ([size, size - 9, 2 * size], [2 * size, size, 3 * size], [2**32 - 1, size, 0], [0, 0, 3 * size + 1]):
        frame = RawFrame(source, 0, 1, np.arange(3), np.array(ends, np.uint32), message * 3)
        assert_same(source, [frame])
    for body in (b"", b"{", message[:7]):
        assert_same(source, [RawFrame(source, 0, 1, np.arange(1), np.array([len(body)], np.uint32), body)])


class Fenced:
    """Memory between two pages that may not be read: to read beyond it ends the process."""

    def __init__(self) -> None:
        page = mmap.PAGESIZE
        self.memory = mmap.mmap(-1, 3 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        for closed in (start, start + 2 * page):
            assert ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(closed), page, 0) == 0
        self.page = memoryview(self.memory)[page : 2 * page]

    def places(self, body: bytes) -> Iterable[memoryview]:
        """Give the body at the end of the memory, then at its beginning."""
        for start in (len(self.page) - len(body), 0):
            self.page[start : start + len(body)] = body
            yield self.page[start : start + len(body)]


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_nothing_is_read_beyond_the_frame(source: str) -> None:
    """Every shape cut anywhere, as the last and as the first of two messages."""
    fenced = Fenced()
    for template, _ in SOURCES[source][0].shapes:
        whole = as_usual(source, template).encode()
        for at in range(len(whole) + 1):
            for messages in ([whole, whole[:at]], [whole[at:], whole]):
                ends = np.cumsum([len(message) for message in messages]).astype(np.uint32)
                for body in fenced.places(b"".join(messages)):
                    parse_frame(RawFrame(source, 0, 1, np.arange(2), ends, body), {})


@pytest.mark.parametrize("data", [b"[" * 2**20, b'{"stream":"' + b"a" * 2**20, b'{"u":' + b"9" * 2**20], ids=range(3))
def test_long_nonsense_is_the_same(data: bytes) -> None:
    for body in (data, data + b"x"):
        assert_same("binance/x", frames_of("binance/x", [trade("A"), body, trade("A", 8)]))


def test_a_book_of_many_levels_is_scanned() -> None:
    levels = ",".join(f'["{number}","1"]' for number in range(1, 1000))
    text = f'{{"e":"depthUpdate","E":3,"s":"A","U":1,"u":2,"b":[{levels}],"a":[{levels}]}}'
    (frame,) = frames_of("binance/x", [text.encode()] * 5)
    assembly = Assembly("binance", frame, {}, STREAMS["binance"], SCANNERS["binance"])
    assert (len(assembly.scanned[0]), len(assembly.left)) == (5 * 2 * 999, 0)
    assert_same("binance/x", [frame])


def test_a_book_too_long_to_parse_is_not_scanned_either() -> None:
    text, level = '{"e":"depthUpdate","E":3,"s":"A","U":1,"u":2,"b":[],"a":[LEVELS]}', '["1","1"],'
    most = (MESSAGE_BYTES_MAX - len(text)) // len(level)
    fits, over = (text.replace("LEVELS", (level * times)[:-1]).encode() for times in (most, most + 2))
    assert len(fits) <= MESSAGE_BYTES_MAX < len(over)
    for levels, left in ((fits, []), (over, [1])):
        (frame,) = frames_of("binance/x", [trade("A"), levels, trade("A", 8)])
        assert Assembly("binance", frame, {}, STREAMS["binance"], SCANNERS["binance"]).left.tolist() == left
        assert [(one.index, one.reason) for one in parse_frame(frame, {}).rejects] == [
            (index, RejectReason.OVERSIZED) for index in left
        ]


@pytest.mark.slow
def test_after_warm_up_nothing_is_compiled() -> None:
    """Whatever memory a frame lies in: a record, one at an odd address, writable bytes, arrays of our own."""
    tick_frames.warm_up()
    messages = [trade("A"), trade("B"), b"odd"]
    built = RawFrame.build("binance/x", 0, [1, 2, 3], messages)
    record = built.encode()
    with numba_event.install_recorder("numba:compile") as compiles:
        for buffer in (record, memoryview(b"1" + record)[1:], bytearray(record), None):
            frame = built if buffer is None else RawFrame.decode(buffer)
            parsed = parse_frame(frame, {"trade/A": 3})
            assert (len(parsed.ticks), len(parsed.rejects)) == (3, 1)
            instruments = [
                Instrument(id=9 - number, name=name, partition=number) for number, name in enumerate(parsed.names)
            ]
            frames = tick_frames.cut(0, 1, 2, parsed.ticks, instruments)
            assert [frame.ticks["instrument_id"].tolist() for frame in frames] == [[9, 9], [8]]
    assert not compiles.buffer


def test_compiled_constants_are_those_of_the_schemas() -> None:
    flags = {name: getattr(scan, name) >> 48 for name in ("LATE", "CROSSED", "ONE_SIDED", "INEXACT", "LOCKED")}
    assert flags == {name: Flag[name] for name in flags}
    assert lexing.INEXACT_MIN == 10**columns.DIGITS_MAX


@pytest.mark.slow
@pytest.mark.parametrize("recording", ["usdm", "spot", "spy", "eurusd"])
@pytest.mark.parametrize(("per_frame", "messages_max"), [(1, 2_000), (7, 14_000), (1000, 10**9)])
def test_recordings_are_the_same(
    recording: str, per_frame: int, messages_max: int, request: pytest.FixtureRequest
) -> None:
    read: Read = request.getfixturevalue(recording)
    messages: Sequence[Message] = read.messages[:messages_max]
    source = read.recording.source
    frames = (
        RawFrame.build(
            source,
            start,
            [message.recv_ns for message in messages[start : start + per_frame]],
            [message.data for message in messages[start : start + per_frame]],
        )
        for start in range(0, len(messages), per_frame)
    )
    assert_same(source, frames)
