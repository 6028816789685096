"""How Binance writes the messages that `scan` reads; `binance` says what they mean and parses all others.

From the WebSocket documents of spot and of both futures (2024-08) and from recordings, which differ in the order of
fields. Each comes bare or in a combined-stream envelope.
"""

from tapeline.connectors.venues.columns import MS_MAX
from tapeline.connectors.venues.shapes import (
    BOOLEAN,
    SYMBOL,
    TEXT,
    Field,
    Scanner,
    Stream,
    bits,
    decimal,
    ends,
    integer,
    levels,
    sets,
)
from tapeline.schemas import Kind

STREAMS = {
    venue: (
        Stream("trade", Kind.TRADE),
        Stream("aggTrade", Kind.TRADE),
        Stream("bookTicker", Kind.QUOTE),
        Stream("depthUpdate", Kind.BOOK, counted=venue == "binance"),  # a futures update's ids jump
    )
    for venue in ("binance", "binance-usdm", "binance-coinm")
}
_TRADE, _AGGREGATE = (ends(Kind.TRADE, stream, "CONSECUTIVE") for stream in (0, 1))
_QUOTE, _DEPTH = ends(Kind.QUOTE, 2, "LINKED"), ends(Kind.BOOK, 3, "LINKED")

_FIELDS: dict[str, Field] = {
    "int": integer("NOWHERE"),
    "bool": BOOLEAN,
    "text": TEXT,
    "symbol": SYMBOL,
    "ms": integer("TIME", most=MS_MAX, unit=1_000_000),
    "id": integer("SEQUENCE"),
    "price": decimal("PRICE", positive=True),
    "size": decimal("SIZE", positive=True),
    "maker": [[b"true", sets(bits(side=-1))], [b"false", sets(bits(side=1))]],
    "bid": decimal("PRICE"),
    "bid size": decimal("SIZE"),
    "ask": decimal("PRICE2"),
    "ask size": decimal("SIZE2"),
    "first id - 1": integer("BEFORE", plus=-1),
    "bids": levels(1),
    "asks": levels(-1),
}
_USDM_FIELDS = _FIELDS | {"first id - 1": integer("FLOOR", plus=-1), "id before": integer("BEFORE")}

_SHAPES = {
    "binance": [
        (
            '{"e":"trade","E":<int>,"s":"<symbol>","t":<id>,"p":"<price>","q":"<size>","T":<ms>,"m":<maker>,"M":<bool>}',
            _TRADE,
        ),
        (
            '{"e":"aggTrade","E":<int>,"s":"<symbol>","a":<id>,"p":"<price>","q":"<size>","f":<int>,"l":<int>,'
            '"T":<ms>,"m":<maker>,"M":<bool>}',
            _AGGREGATE,
        ),
        ('{"u":<id>,"s":"<symbol>","b":"<bid>","B":"<bid size>","a":"<ask>","A":"<ask size>"}', _QUOTE),
        ('{"e":"depthUpdate","E":<ms>,"s":"<symbol>","U":<first id - 1>,"u":<id>,"b":<bids>,"a":<asks>}', _DEPTH),
    ],
    "binance-usdm": [
        (
            '{"e":"trade","E":<int>,"T":<ms>,"s":"<symbol>","t":<id>,"p":"<price>","q":"<size>","X":"<text>",'
            '"m":<maker>}',
            _TRADE,
        ),
        (
            '{"e":"aggTrade","E":<int>,"a":<id>,"s":"<symbol>","p":"<price>","q":"<size>","f":<int>,"l":<int>,'
            '"T":<ms>,"m":<maker>}',
            _AGGREGATE,
        ),
        (
            '{"e":"aggTrade","E":<int>,"s":"<symbol>","a":<id>,"p":"<price>","q":"<size>","f":<int>,"l":<int>,'
            '"T":<ms>,"m":<maker>}',
            _AGGREGATE,
        ),
        (
            '{"e":"bookTicker","u":<id>,"s":"<symbol>","b":"<bid>","B":"<bid size>","a":"<ask>","A":"<ask size>",'
            '"T":<ms>,"E":<int>}',
            _QUOTE,
        ),
        (
            '{"e":"bookTicker","u":<id>,"E":<int>,"T":<ms>,"s":"<symbol>","b":"<bid>","B":"<bid size>","a":"<ask>",'
            '"A":"<ask size>"}',
            _QUOTE,
        ),
        (
            '{"e":"depthUpdate","E":<int>,"T":<ms>,"s":"<symbol>","U":<first id - 1>,"u":<id>,"pu":<id before>,'
            '"b":<bids>,"a":<asks>}',
            _DEPTH,
        ),
    ],
}

_SHAPES["binance-coinm"] = [
    (shape if end is _AGGREGATE else shape.replace('"s":"<symbol>",', '"s":"<symbol>","ps":"<text>",'), end)
    for shape, end in _SHAPES["binance-usdm"]
]
_VENUE_FIELDS = {"binance": _FIELDS, "binance-usdm": _USDM_FIELDS, "binance-coinm": _USDM_FIELDS}

SCANNERS = {
    venue: Scanner(
        [(text, end) for shape, end in shapes for text in (shape, '{"stream":"<text>","data":' + shape + "}")],
        _VENUE_FIELDS[venue],
    )
    for venue, shapes in _SHAPES.items()
}
